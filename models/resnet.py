"""ResNet: residual networks for image classification, named as torchvision names them (He et al. 2015)."""

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

_WIDTHS = (64, 128, 256, 512)
_EPSILON = 1e-5
_KERAS_EPSILON = 1.001e-5
_TABLE = "He et al. 2015 (arXiv:1512.03385), table 1; parameters as torchvision's metadata of its weights"


def build(
    name: str,
    *,
    blocks: Sequence[int],
    widths: Sequence[int] = _WIDTHS,
    bottleneck: bool = False,
    stride_in: Literal["first", "3x3"] = "3x3",
    stem: Literal["imagenet", "small"] = "imagenet",
    image_size: int = 224,
    channels: int = 3,
    classes: int = 1000,
) -> Network:
    """A residual network of as many stages as `blocks` has numbers.

    Args:
        name: Of the network.
        blocks: Residual blocks in each stage.
        widths: Filters of each stage's 3 x 3 convolutions; a bottleneck gives four times as many channels.
        bottleneck: Blocks of 1 x 1, 3 x 3 and 1 x 1 instead of two of 3 x 3.
        stride_in: Where a bottleneck has its stride: in the first convolution, as the paper, or in the 3 x 3.
        stem: 7 x 7 and pooling, which leave a quarter of the size; or 3 x 3, which leaves it (the paper's section 4.2).
        image_size: Height and width.
        channels: 3 for color, 1 for gray.
        classes: How many.
    """
    net = Network(name)
    x = net.input("image", ("batch", channels, image_size, image_size), is_spatial=True)
    if stem == "imagenet":
        x = net.relu(_conv(net, x, "conv1", "bn1", widths[0], 7, stride=2))
        x = net.max_pool(x, 3, stride=2, padding=1)
    else:
        x = net.relu(_conv(net, x, "conv1", "bn1", widths[0], 3))
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            strides = (stride, 1) if stride_in == "first" else (1, stride)
            x = _block(net, x, f"layer{stage}.{index}", width, strides if bottleneck else (stride,))
    net.output(net.dense(net.global_avg_pool(x), "fc", classes), "logits")
    return net


def _conv(net: Network, x: Tensor, name: str, norm: str, filters: int, kernel: int, *, stride: int = 1) -> Tensor:
    """A convolution and its normalization."""
    x = net.conv(x, name, filters, kernel, stride=stride, padding=kernel // 2, bias=False)
    return net.batch_norm(x, norm, epsilon=_EPSILON)


def _block(net: Network, x: Tensor, name: str, width: int, strides: tuple[int, ...]) -> Tensor:
    """A residual block: two strides, those of the first and second convolution, make it a bottleneck."""
    kernels, filters = ((1, 3, 1), (width, width, 4 * width)) if len(strides) == 2 else ((3, 3), (width, width))
    y = x
    for index, (kernel, count) in enumerate(zip(kernels, filters, strict=True), start=1):
        stride = strides[index - 1] if index <= len(strides) else 1
        y = _conv(net, y, f"{name}.conv{index}", f"{name}.bn{index}", count, kernel, stride=stride)
        y = y if index == len(kernels) else net.relu(y)
    stride = max(strides)
    if stride > 1 or x.channels != y.channels:
        x = _conv(net, x, f"{name}.downsample.0", f"{name}.downsample.1", y.channels, 1, stride=stride)
    return net.relu(net.sum(y, x))


# --- Keras's weights --------------------------------------------------------------------------------------------------


def from_keras(layers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Our weights from those of ``keras.applications``' ResNet50, 101 or 152: each layer's arrays in its own order.

    Its convolutions have biases, which go into the running means, and its epsilon differs, which goes into the running
    variances: both exactly. Its nets see blue first, so the stem's input channels are turned: ours see red first.
    """
    own = _joined("conv1", "bn1", layers["conv1_conv"], layers["conv1_bn"])
    own["conv1.weight"] = np.ascontiguousarray(own["conv1.weight"][:, ::-1])
    for layer in (layer for layer in layers if layer.endswith("_conv") and "_block" in layer):
        stage, block, part = layer.removesuffix("_conv").removeprefix("conv").split("_")
        place = f"layer{int(stage) - 1}.{int(block.removeprefix('block')) - 1}"
        names = (f"{place}.downsample.0", f"{place}.downsample.1")
        names = names if part == "0" else (f"{place}.conv{part}", f"{place}.bn{part}")
        own |= _joined(*names, layers[layer], layers[layer.removesuffix("conv") + "bn"])
    kernel, bias = layers["predictions"]
    return {**own, "fc.weight": np.ascontiguousarray(np.transpose(kernel)), "fc.bias": np.asarray(bias)}


def _joined(conv: str, norm: str, kernel_and_bias: Sequence[Any], gains: Sequence[Any]) -> dict[str, np.ndarray]:
    kernel, bias = kernel_and_bias
    gamma, beta, mean, variance = gains
    return {
        f"{conv}.weight": np.ascontiguousarray(np.transpose(kernel, (3, 2, 0, 1))),
        f"{norm}.weight": np.asarray(gamma),
        f"{norm}.bias": np.asarray(beta),
        f"{norm}.running_mean": np.asarray(mean) - np.asarray(bias),
        f"{norm}.running_var": (np.asarray(variance, np.float64) + (_KERAS_EPSILON - _EPSILON)).astype(np.float32),
    }


# --- The family -------------------------------------------------------------------------------------------------------

_DEEP = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
_PARAMETERS = {"50": 25_557_032, "101": 44_549_160, "152": 60_192_808}
_MACS = {"50": 3_800_000_000, "101": 7_600_000_000, "152": 11_300_000_000}
_TORCHVISION_MACS = {"50": 4_089_000_000, "101": 7_801_000_000, "152": 11_514_000_000}

_CAFFE = image_classes(224, mean=(123.68, 116.779, 103.939), crop=0.875)
"""As the paper's own weights and Keras's want it: the mean color subtracted, nothing divided."""


def _deep_sizes() -> dict[str, Size]:
    sizes = {}
    for depth, blocks in _DEEP.items():
        settings = {"blocks": blocks, "bottleneck": True}
        paper = Paper(_TABLE, _PARAMETERS[depth], _MACS[depth], 0.02)
        sizes[depth] = Size({**settings, "stride_in": "first"}, _CAFFE, paper)
        source = f"torchvision's metadata of ResNet{depth}_Weights.IMAGENET1K_V1"
        newer = Paper(source, _PARAMETERS[depth], _TORCHVISION_MACS[depth], 0.001)
        sizes[f"{depth}-v1.5"] = Size({**settings, "stride_in": "3x3"}, IMAGENET, newer)
    return sizes


FAMILY = Family(
    name="resnet",
    title="ResNet image classifier",
    task="image classification",
    paper="K. He, X. Zhang, S. Ren, J. Sun, Deep Residual Learning for Image Recognition, arXiv:1512.03385",
    frameworks=("torch", "keras", "onnx"),
    build=build,
    sizes={
        "tiny": Size(
            {
                "blocks": (1, 2, 1),
                "widths": (12, 24, 48),
                "stem": "small",
                "image_size": 28,
                "channels": 1,
                "classes": len(DIGITS),
            }
        ),
        "18": Size({"blocks": (2, 2, 2, 2)}, IMAGENET, Paper(_TABLE, 11_689_512, 1_800_000_000, 0.02)),
        "34": Size({"blocks": (3, 4, 6, 3)}, IMAGENET, Paper(_TABLE, 21_797_672, 3_600_000_000, 0.02)),
        **_deep_sizes(),
    },
    published="50",
    processing=image_classes(28, mode="L", mean=33.0, std=78.0, labels=DIGITS),
    data="mnist",
    metric="top1",
    score=0.986,
    tolerance=0.008,
    training=Training(
        loss=cross_entropy,
        targets=class_targets,
        epochs=24,
        batch_size=64,
        learning_rate=5e-3,
        weight_decay=0.05,
        augment=moved_pictures,
    ),
    hubs=(
        Hub("torchvision", "resnet18", "18", "BSD-3-Clause"),
        Hub("torchvision", "resnet34", "34", "BSD-3-Clause"),
        Hub("torchvision", "resnet50", "50-v1.5", "BSD-3-Clause"),
        Hub("torchvision", "resnet101", "101-v1.5", "BSD-3-Clause"),
        Hub("torchvision", "resnet152", "152-v1.5", "BSD-3-Clause"),
        Hub("keras", "ResNet50", "50", "MIT", from_keras),
        Hub("keras", "ResNet101", "101", "MIT", from_keras),
        Hub("keras", "ResNet152", "152", "MIT", from_keras),
    ),
    notes=(
        "Sizes 50, 101 and 152 have their stride in a bottleneck's first convolution, as the paper and Keras have it; "
        "those called v1.5 have it in the 3 x 3, as torchvision has it.",
        "Classes of ImageNet are called by their index.",
    ),
)
