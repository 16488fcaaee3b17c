"""The layers of YOLOv8: a CSP backbone of two-way blocks, a pyramid, and heads that say distances as distributions.

There is no paper; the architecture is that of the diagrams and configurations published with it (Jocher, Chaurasia and
Qiu 2023, Ultralytics YOLOv8), and weights are named as in its checkpoints. Distances from a place to the four sides of
a box are expectations over 16 bins (Li et al. 2020, Generalized Focal Loss, arXiv:2006.04388).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.models._yolo_loss import places

if TYPE_CHECKING:
    from edgekit.network import Network, Tensor

__all__ = ["build_v8"]

_BINS = 16


def build_v8(name: str, *, classes: int, width: float, depth: float, image_size: Sequence[int], widest: int) -> Network:
    """A YOLOv8: what `edgekit.models.yolo.build` says of inputs and outputs, of square pictures."""
    from edgekit.network import Network

    net = Network(name)
    blocks = _Blocks(net)
    image = net.input("image", ("batch", 3, *image_size), is_spatial=True)
    widths = [int(min(count, widest) * width) for count in (64, 128, 256, 512, 1024)]
    counts = [max(round(count * depth), 1) for count in (3, 6, 6, 3)]
    levels = _pyramid(blocks, _backbone(blocks, image, widths, counts), counts[0])
    boxes, scores = [], []
    for index, level in enumerate(levels):
        box, score = _head(blocks, level, index, levels[0].channels, classes)
        boxes.append(net.to_steps(box))
        scores.append(net.to_steps(score))
    net.output(_corners(net, net.concat(boxes, axis=1)), "boxes")
    net.output(net.activation(net.concat(scores, axis=1), "sigmoid"), "scores")
    return net


class _Blocks:
    """The blocks everything is made of, as methods that append them to a network."""

    def __init__(self, net: Network) -> None:
        self.net = net

    def base(self, x: Tensor, name: str, filters: int, kernel: int, *, stride: int = 1) -> Tensor:
        """Convolution, batch normalization, SiLU."""
        x = self.net.conv(x, f"{name}.conv", filters, kernel, stride=stride, padding=kernel // 2, bias=False)
        return self.net.activation(self.net.batch_norm(x, f"{name}.bn", epsilon=1e-3, momentum=0.03), "silu")

    def two_way(self, x: Tensor, name: str, filters: int, count: int, *, has_shortcut: bool) -> Tensor:
        """Half of the channels through `count` bottlenecks; what each of them gives is kept beside what goes past."""
        half = filters // 2
        x = self.base(x, f"{name}.cv1", 2 * half, 1)
        kept = [self.net.slice(x, 0, half), self.net.slice(x, half, 2 * half)]
        for index in range(count):
            inside = self.base(kept[-1], f"{name}.m.{index}.cv1", half, 3)
            inside = self.base(inside, f"{name}.m.{index}.cv2", half, 3)
            kept.append(self.net.sum(kept[-1], inside) if has_shortcut else inside)
        return self.base(self.net.concat(kept), f"{name}.cv2", filters, 1)

    def pooled(self, x: Tensor, name: str) -> Tensor:
        """What is far away beside what is near: three windows of 5, one behind the other."""
        kept = [self.base(x, f"{name}.cv1", x.channels // 2, 1)]
        for _ in range(3):
            kept.append(self.net.max_pool(kept[-1], 5, stride=1, padding=2))
        return self.base(self.net.concat(kept), f"{name}.cv2", x.channels, 1)


def _backbone(blocks: _Blocks, image: Tensor, widths: list[int], counts: list[int]) -> list[Tensor]:
    """Maps at strides 8, 16 and 32."""
    x = blocks.base(image, "model.0", widths[0], 3, stride=2)
    stages = []
    for stage, (filters, count) in enumerate(zip(widths[1:], counts, strict=True)):
        x = blocks.base(x, f"model.{1 + 2 * stage}", filters, 3, stride=2)
        x = blocks.two_way(x, f"model.{2 + 2 * stage}", filters, count, has_shortcut=True)
        stages.append(x)
    return [*stages[1:3], blocks.pooled(stages[3], "model.9")]


def _pyramid(blocks: _Blocks, stages: list[Tensor], count: int) -> list[Tensor]:
    """What the deep maps know brought to the fine ones, and back; layers are numbered as in the checkpoints."""
    net = blocks.net
    fine, middle, deep = stages

    def joined(first: Tensor, second: Tensor, number: int, filters: int) -> Tensor:
        return blocks.two_way(net.concat([first, second]), f"model.{number}", filters, count, has_shortcut=False)

    halfway = joined(net.upsample(deep), middle, 12, middle.channels)
    fine = joined(net.upsample(halfway), fine, 15, fine.channels)
    middle = joined(blocks.base(fine, "model.16", fine.channels, 3, stride=2), halfway, 18, halfway.channels)
    coarse = joined(blocks.base(middle, "model.19", middle.channels, 3, stride=2), deep, 21, deep.channels)
    return [fine, middle, coarse]


def _head(blocks: _Blocks, x: Tensor, index: int, finest: int, classes: int) -> tuple[Tensor, Tensor]:
    """Of each place the distributions of four distances [batch, 64, ...] and the logits of classes."""
    found = []
    branches = (("cv2", max(16, finest // 4, 4 * _BINS), 4 * _BINS), ("cv3", max(finest, min(classes, 100)), classes))
    for branch, filters, outputs in branches:
        inside = blocks.base(x, f"model.22.{branch}.{index}.0", filters, 3)
        inside = blocks.base(inside, f"model.22.{branch}.{index}.1", filters, 3)
        found.append(blocks.net.conv(inside, f"model.22.{branch}.{index}.2", outputs, 1, start="glorot"))
    return found[0], found[1]


def _corners(net: Network, raw: Tensor) -> Tensor:
    """Distributions [batch, places, 64] of the distances left, top, right and bottom, in strides -> corners."""
    centers, steps = places(raw.size(1))
    likely = net.softmax(net.reshape(raw, (raw.size(1), 4, _BINS)))
    distances = net.reshape(net.dense(likely, "model.22.dfl", 1, bias=False, start="count"), (raw.size(1), 4))
    upper = net.affine(net.slice(distances, 0, 2), np.float32(-1.0) * steps, centers)
    lower = net.affine(net.slice(distances, 2, 4), steps, centers)
    return net.concat([upper, lower])
