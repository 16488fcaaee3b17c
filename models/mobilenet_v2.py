"""MobileNetV2: inverted residuals for image classification, named as torchvision names them (Sandler et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from edgekit.family import Family, Hub, Paper, Size, Training
from edgekit.models._classification import (
    DIGITS,
    IMAGENET,
    class_targets,
    cross_entropy,
    image_classes,
    moved_pictures,
)
from edgekit.network import Network, Tensor

__all__ = ["FAMILY"]

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and the first block's stride of each stage: the paper's table 2."""

_README = "github.com/tensorflow/models, research/slim/nets/mobilenet/README.md: the paper's own checkpoints"


def build(
    name: str,
    *,
    width: float = 1.0,
    stages: Sequence[tuple[int, int, int, int]] = _STAGES,
    stem: int = 32,
    stem_stride: int = 2,
    head: int = 1280,
    padding: Literal["symmetric", "same"] = "symmetric",
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    dropout: float = 0.2,
    image_size: int = 224,
    channels: int = 3,
    classes: int = 1000,
) -> Network:
    """An inverted residual network.

    Args:
        name: Of the network.
        width: What the channels are multiplied by; the head's only where it is above one.
        stages: Expansion, channels, blocks and the first block's stride of each stage.
        stem: Filters of the first convolution.
        stem_stride: Its stride.
        head: Filters of the last convolution.
        padding: ``"symmetric"``, as PyTorch's nets have it, or ``"same"``, as TensorFlow's.
        epsilon: Of the normalizations.
        momentum: Share of a new batch in their running statistics.
        dropout: Rate before the classifier, in training.
        image_size: Height and width.
        channels: 3 for color, 1 for gray.
        classes: How many.
    """
    net = _Builder(name, 1 if padding == "symmetric" else "same", epsilon, momentum)
    x = net.input("image", ("batch", channels, image_size, image_size), is_spatial=True)
    filters = _rounded(stem * width)
    x = net.conv(x, "features.0.0", filters, 3, stride=stem_stride, padding=net.padding, bias=False)
    x = net.unit(x, "features.0.1")
    index = 1
    for expansion, count, repeats, stride in stages:
        for position in range(repeats):
            settings = (expansion, _rounded(count * width), stride if position == 0 else 1)
            x = net.inverted_residual(x, f"features.{index}", *settings)
            index += 1
    x = net.conv(x, f"features.{index}.0", _rounded(head * max(1.0, width)), 1, bias=False)
    x = net.global_avg_pool(net.unit(x, f"features.{index}.1"))
    x = net.dropout(x, dropout) if dropout else x
    net.output(net.dense(x, "classifier.1", classes), "logits")
    return net


class _Builder(Network):
    """A network with the settings that all its normalizations and 3 x 3 convolutions have."""

    def __init__(self, name: str, padding: Literal[1, "same"], epsilon: float, momentum: float) -> None:
        super().__init__(name)
        self.padding: Literal[1, "same"] = padding
        self._norm = {"epsilon": epsilon, "momentum": momentum}

    def unit(self, x: Tensor, norm: str) -> Tensor:
        """What follows a convolution: normalization and ReLU6."""
        return self.activation(self.batch_norm(x, norm, **self._norm), "relu6")

    def inverted_residual(self, x: Tensor, name: str, expansion: int, filters: int, stride: int) -> Tensor:
        """Expand, filter each channel, project; what came in is added where it has the same shape."""
        y, part = x, 0
        if expansion != 1:
            y = self.conv(y, f"{name}.conv.0.0", x.channels * expansion, 1, bias=False)
            y, part = self.unit(y, f"{name}.conv.0.1"), 1
        y = self.depthwise(y, f"{name}.conv.{part}.0", 3, stride=stride, padding=self.padding)
        y = self.unit(y, f"{name}.conv.{part}.1")
        y = self.conv(y, f"{name}.conv.{part + 1}", filters, 1, bias=False)
        y = self.batch_norm(y, f"{name}.conv.{part + 2}", **self._norm)
        return self.sum(x, y) if stride == 1 and x.channels == filters else y


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not less than nine tenths of `channels`, and at least 8."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


# --- Keras's weights --------------------------------------------------------------------------------------------------


def from_keras(layers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Our weights from those of ``keras.applications.MobileNetV2``: each layer's arrays in its own order."""
    last = len([layer for layer in layers if layer.endswith("_project")])
    own = _pair("features.0.0", "features.0.1", layers["Conv1"], layers["bn_Conv1"])
    for index in range(last):
        prefix = f"block_{index}_" if index else "expanded_conv_"
        place, part = f"features.{index + 1}.conv", int(f"{prefix}expand" in layers)
        if part:
            own |= _pair(f"{place}.0.0", f"{place}.0.1", layers[f"{prefix}expand"], layers[f"{prefix}expand_BN"])
        names = (f"{place}.{part}.0", f"{place}.{part}.1")
        own |= _pair(*names, layers[f"{prefix}depthwise"], layers[f"{prefix}depthwise_BN"], is_depthwise=True)
        names = (f"{place}.{part + 1}", f"{place}.{part + 2}")
        own |= _pair(*names, layers[f"{prefix}project"], layers[f"{prefix}project_BN"])
    own |= _pair(f"features.{last + 1}.0", f"features.{last + 1}.1", layers["Conv_1"], layers["Conv_1_bn"])
    kernel, bias = layers["predictions"]
    return {
        **own,
        "classifier.1.weight": np.ascontiguousarray(np.transpose(kernel)),
        "classifier.1.bias": np.asarray(bias),
    }


def _pair(
    conv: str, norm: str, kernels: Sequence[Any], gains: Sequence[Any], *, is_depthwise: bool = False
) -> dict[str, np.ndarray]:
    """A convolution and its normalization."""
    axes = (2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1)
    weight = np.ascontiguousarray(np.transpose(kernels[0], axes))
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{conv}.weight": weight} | {
        f"{norm}.{part}": np.asarray(array) for part, array in zip(parts, gains, strict=True)
    }


# --- The family -------------------------------------------------------------------------------------------------------

_TENSORFLOW = image_classes(224, mean=127.5, std=127.5, crop=0.875)


def _size(width: float, parameters: int, macs: int) -> Size:
    """A size as TensorFlow published it."""
    settings = {"width": width, "padding": "same", "epsilon": 1e-3, "momentum": 0.001}
    return Size(settings, _TENSORFLOW, Paper(_README, parameters, macs, 0.012))


FAMILY = Family(
    name="mobilenet-v2",
    title="MobileNetV2 image classifier",
    task="image classification",
    paper="M. Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381",
    frameworks=("torch", "keras", "onnx"),
    build=build,
    sizes={
        "tiny": Size(
            {
                "stages": ((1, 16, 1, 2), (4, 24, 1, 2), (4, 32, 2, 1), (4, 48, 1, 1)),
                "stem": 16,
                "stem_stride": 1,
                "head": 128,
                "dropout": 0.0,
                "image_size": 28,
                "channels": 1,
                "classes": len(DIGITS),
            }
        ),
        "1.0": Size(
            {},
            IMAGENET,
            Paper("Sandler et al. 2018 (arXiv:1801.04381), table 4, as MobileNetV2", 3_400_000, 300_000_000, 0.035),
        ),
        "1.0-tf": _size(1.0, 3_470_000, 300_000_000),
        "1.4": _size(1.4, 6_060_000, 582_000_000),
        "0.75": _size(0.75, 2_610_000, 209_000_000),
        "0.5": _size(0.5, 1_950_000, 97_000_000),
    },
    published="1.0",
    processing=image_classes(28, mode="L", mean=33.0, std=78.0, labels=DIGITS),
    data="mnist",
    metric="top1",
    score=0.982,
    tolerance=0.008,
    training=Training(
        loss=cross_entropy,
        targets=class_targets,
        epochs=20,
        batch_size=64,
        learning_rate=5e-3,
        augment=moved_pictures,
    ),
    hubs=(
        Hub("torchvision", "mobilenet_v2", "1.0", "BSD-3-Clause"),
        Hub("keras", "MobileNetV2", "1.0-tf", "Apache-2.0", from_keras),
    ),
    notes=(
        "Size 1.0 pads both sides alike, as torchvision does; the others pad as TensorFlow does, which published them.",
        "The paper says 6.9 M parameters and 585 M operations of size 1.4; its own checkpoint has 6.06 M and 582 M.",
        "Classes of ImageNet are called by their index.",
    ),
)
