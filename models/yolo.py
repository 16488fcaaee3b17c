"""YOLOX: where things are in a picture and what they are, in one pass and without anchors.

Ge, Liu, Wang, Li and Sun 2021, arXiv:2107.08430: a CSPDarknet, a pyramid that goes down and up again (PAFPN), and at
each of its three strides a head with branches of its own for classes and for boxes. Weights are named as by the
authors' implementation, Megvii-BaseDetection/YOLOX, whose published checkpoints load. YOLOv8, which answers in the same
form, is a size of this family: `edgekit.models._yolo_v8`.

The graph gives boxes that are decoded already. What is left to the step `detections` is the suppression of what
overlaps: its result is of no fixed size, and it is cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.family import Family, Paper, Size, Training
from edgekit.models._yolo_loss import STRIDES, detection_loss, detection_targets, mirrored
from edgekit.models._yolo_v8 import build_v8
from edgekit.processing import ANY_INPUT, Processing

if TYPE_CHECKING:
    from edgekit.network import Network, Tensor

__all__ = ["FAMILY", "grid"]

_PRIOR = f"value:{-np.log(99.0)}"
"""Bias of a net that thinks one place in a hundred is taken (Lin et al. 2017, arXiv:1708.02002, section 4.1)."""

_START = "normal:0.01"
"""Weights of the last layers before training, of the same section: boxes begin a stride wide, scores at the prior."""

_COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)


def build(
    name: str,
    *,
    classes: int = 80,
    width: float = 1.0,
    depth: float = 1.0,
    is_depthwise: bool = False,
    activation: str = "silu",
    image_size: Sequence[int] = (640, 640),
    head: int = 256,
    widest: int = 2048,
    is_v8: bool = False,
) -> Network:
    """A YOLOX: "image" [batch, 3, *image_size] -> "boxes" [batch, places, 4] and "scores" [batch, places, classes].

    Boxes are corners x0, y0, x1, y1, relative to the picture. Scores are probabilities of "a thing is here, and of
    this class": two sigmoids multiplied. An int8 tensor of them is exact to 1/256 everywhere by their nature, while
    logits have a range that calibration must find and that a few sure places stretch.

    Args:
        name: Of the network.
        classes: Kinds of things.
        width: Of every layer, as a share of YOLOX-L's.
        depth: Of every stage, the same.
        is_depthwise: Whether convolutions of 3 x 3 are depthwise ones with 1 x 1 behind, as in YOLOX-Nano.
        activation: ``"silu"`` as in the paper, or another.
        image_size: Height and width, divisible by 32.
        head: Channels of the heads before `width`, 256 in the paper.
        widest: Channels at most, of any layer of the backbone and the pyramid; the paper's double with every level.
        is_v8: YOLOv8's layers in place of YOLOX's, for square pictures.
    """
    from edgekit.network import Network

    if is_v8:
        return build_v8(name, classes=classes, width=width, depth=depth, image_size=image_size, widest=widest)

    net = Network(name)
    image = net.input("image", ("batch", 3, *image_size), is_spatial=True)
    blocks = _Blocks(net, is_depthwise, activation)
    widths = [min(int(width * 64) * 2**level, widest) for level in range(5)]
    stages = _backbone(blocks, image, widths, max(round(depth * 3), 1))
    levels = _pyramid(blocks, stages, round(3 * depth))
    boxes, likely = [], []
    for index, level in enumerate(levels):
        box, thing, kind = _head(blocks, level, index, int(head * width), classes)
        boxes.append(net.to_steps(box))
        likely.append(net.product(*(net.activation(net.to_steps(x), "sigmoid") for x in (kind, thing))))
    net.output(_corners(net, net.concat(boxes, axis=1), image_size), "boxes")
    net.output(net.concat(likely, axis=1), "scores")
    return net


class _Blocks:
    """The blocks everything is made of, as methods that append them to a network."""

    def __init__(self, net: Network, is_depthwise: bool, activation: str) -> None:
        self.net = net
        self.is_depthwise = is_depthwise
        self.activation = activation

    def base(self, x: Tensor, name: str, filters: int, kernel: int, *, stride: int = 1, groups: int = 1) -> Tensor:
        """Convolution, batch normalization, activation."""
        x = self.net.conv(
            x, f"{name}.conv", filters, kernel, stride=stride, groups=groups, padding=kernel // 2, bias=False
        )
        return self.net.activation(self.net.batch_norm(x, f"{name}.bn", epsilon=1e-3, momentum=0.03), self.activation)

    def wide(self, x: Tensor, name: str, filters: int, *, stride: int = 1) -> Tensor:
        """The same with 3 x 3, in two steps where the net is depthwise."""
        if not self.is_depthwise:
            return self.base(x, name, filters, 3, stride=stride)
        x = self.base(x, f"{name}.dconv", x.channels, 3, stride=stride, groups=x.channels)
        return self.base(x, f"{name}.pconv", filters, 1)

    def partial(self, x: Tensor, name: str, filters: int, count: int, *, has_shortcut: bool) -> Tensor:
        """Half of the channels through `count` bottlenecks, the other half past them (CSP, arXiv:1911.11929)."""
        inner = int(filters * 0.5)
        past = self.base(x, f"{name}.conv2", inner, 1)
        x = self.base(x, f"{name}.conv1", inner, 1)
        for index in range(count):
            inside = self.base(x, f"{name}.m.{index}.conv1", inner, 1)
            inside = self.wide(inside, f"{name}.m.{index}.conv2", inner)
            x = self.net.sum(x, inside) if has_shortcut else inside
        return self.base(self.net.concat([x, past]), f"{name}.conv3", filters, 1)

    def pooled(self, x: Tensor, name: str, filters: int) -> Tensor:
        """What is far away beside what is near, by maxima of growing windows (SPP, arXiv:1406.4729)."""
        x = self.base(x, f"{name}.conv1", x.channels // 2, 1)
        windows = [self.net.max_pool(x, size, stride=1, padding=size // 2) for size in (5, 9, 13)]
        return self.base(self.net.concat([x, *windows]), f"{name}.conv2", filters, 1)


def _backbone(blocks: _Blocks, image: Tensor, widths: list[int], depth: int) -> list[Tensor]:
    """CSPDarknet: maps at strides 8, 16 and 32."""
    prefix = "backbone.backbone"
    x = blocks.base(blocks.net.space_to_depth(image), f"{prefix}.stem.conv", widths[0], 3)
    stages = []
    for level, count in ((2, depth), (3, depth * 3), (4, depth * 3), (5, depth)):
        filters, stage = widths[level - 1], f"{prefix}.dark{level}"
        x = blocks.wide(x, f"{stage}.0", filters, stride=2)
        if level == 5:
            x = blocks.pooled(x, f"{stage}.1", filters)
        x = blocks.partial(x, f"{stage}.{2 if level == 5 else 1}", filters, count, has_shortcut=level < 5)
        stages.append(x)
    return stages[1:]


def _pyramid(blocks: _Blocks, stages: list[Tensor], depth: int) -> list[Tensor]:
    """PAFPN: what the deep maps know brought to the fine ones, and back (FPN, arXiv:1612.03144; PAN, 1803.01534)."""
    net = blocks.net
    fine, middle, coarse = stages
    widths = [stage.channels for stage in stages]

    def joined(first: Tensor, second: Tensor, name: str, filters: int) -> Tensor:
        return blocks.partial(net.concat([first, second]), f"backbone.{name}", filters, depth, has_shortcut=False)

    deep = blocks.base(coarse, "backbone.lateral_conv0", widths[1], 1)
    middle = joined(net.upsample(deep), middle, "C3_p4", widths[1])
    halfway = blocks.base(middle, "backbone.reduce_conv1", widths[0], 1)
    fine = joined(net.upsample(halfway), fine, "C3_p3", widths[0])
    down = blocks.wide(fine, "backbone.bu_conv2", widths[0], stride=2)
    middle = joined(down, halfway, "C3_n3", widths[1])
    down = blocks.wide(middle, "backbone.bu_conv1", widths[1], stride=2)
    coarse = joined(down, deep, "C3_n4", widths[2])
    return [fine, middle, coarse]


def _head(blocks: _Blocks, x: Tensor, index: int, width: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Raw boxes [batch, 4, ...], logits of "a thing" [batch, 1, ...] and of classes [batch, classes, ...]."""
    net = blocks.net
    x = blocks.base(x, f"head.stems.{index}", width, 1)
    branches = {}
    for branch in ("cls", "reg"):
        inside = blocks.wide(x, f"head.{branch}_convs.{index}.0", width)
        branches[branch] = blocks.wide(inside, f"head.{branch}_convs.{index}.1", width)
    kind = net.conv(branches["cls"], f"head.cls_preds.{index}", classes, 1, start=_START, bias_start=_PRIOR)
    box = net.conv(branches["reg"], f"head.reg_preds.{index}", 4, 1, start=_START)
    thing = net.conv(branches["reg"], f"head.obj_preds.{index}", 1, 1, start=_START, bias_start=_PRIOR)
    return box, thing, kind


def _corners(net: Network, raw: Tensor, size: Sequence[int]) -> Tensor:
    """Raw boxes [batch, places, 4] -> corners: centers are offsets from their places in strides, sizes logarithms."""
    corners, steps = grid(size)
    center = net.affine(net.slice(raw, 0, 2), steps, corners)
    half = net.affine(net.activation(net.slice(raw, 2, 4), "exp"), steps / 2)
    return net.concat([net.sum(center, net.affine(half, -1.0)), net.sum(center, half)])


def grid(size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Of every place the upper left corner x, y and how far the next is, both [places, 2] relative to the picture."""
    height, width = size
    corners, steps = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        step = np.array([stride / width, stride / height])
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1) * step)
        steps.append(np.broadcast_to(step, corners[-1].shape))
    return np.concatenate(corners).astype(np.float32), np.concatenate(steps).astype(np.float32)


def _processing(side: int, labels: Sequence[str], scale: float) -> Processing:
    """Pictures are stretched to the square; coordinates are relative, so that boxes stretch back."""
    return Processing(
        inputs={
            ANY_INPUT: (
                {"op": "decode_image", "mode": "RGB"},
                {"op": "resize", "size": [side, side]},
                {"op": "normalize", "scale": scale},
                {"op": "layout"},
            )
        },
        outputs=({"op": "detections", "threshold": 0.05, "iou": 0.5},),
        labels=tuple(labels),
    )


def _published(side: int, width: float, depth: float, paper: Paper, *, is_depthwise: bool = False) -> Size:
    settings = {"width": width, "depth": depth, "is_depthwise": is_depthwise, "image_size": (side, side)}
    return Size(settings, processing=_processing(side, _COCO, 1.0), paper=paper)


def _paper(parameters: float, gigaflops: float, tolerance: float) -> Paper:
    """The paper counts a multiply-accumulate as two operations, and normalizations beside products."""
    return Paper(
        source=f"arXiv:2107.08430 and the authors' docs/model_zoo.md: {parameters:g} M parameters; {gigaflops:g} GFLOPs"
        f" are {gigaflops / 2:g} G multiply-accumulates",
        parameters=round(parameters * 1e6),
        macs=round(gigaflops / 2 * 1e9),
        tolerance=tolerance,
    )


FAMILY = Family(
    name="yolo",
    title="YOLOX: anchor-free detector with a feature pyramid and separate heads",
    task="object detection",
    paper="Ge et al. 2021, arXiv:2107.08430",
    frameworks=("keras", "torch", "onnx"),
    build=build,
    sizes={
        "tiny": Size(
            {
                **{"classes": 3, "width": 0.125, "depth": 0.33, "head": 128, "widest": 16},
                **{"activation": "relu6", "image_size": (96, 96)},
            }
        ),
        "nano": _published(416, 0.25, 0.33, _paper(0.91, 1.08, 0.04), is_depthwise=True),
        "yolox-tiny": _published(416, 0.375, 0.33, _paper(5.06, 6.45, 0.02)),
        "s": _published(640, 0.5, 0.33, _paper(9.0, 26.8, 0.02)),
        "m": _published(640, 0.75, 0.67, _paper(25.3, 73.8, 0.02)),
        "l": _published(640, 1.0, 1.0, _paper(54.2, 155.6, 0.02)),
        "x": _published(640, 1.25, 1.33, _paper(99.1, 281.9, 0.02)),
        "v8-nano": Size(
            {"width": 0.25, "depth": 0.33, "widest": 1024, "is_v8": True, "image_size": (320, 320)},
            processing=_processing(320, _COCO, 1 / 255),
            paper=Paper(
                "ultralytics/ultralytics, README of v8: 3.2 M parameters; its 8.7 GFLOPs of 640 x 640 are 1.09 G"
                " multiply-accumulates of 320 x 320",
                parameters=3_157_200,
                macs=1_087_500_000,
                tolerance=0.01,
            ),
        ),
    },
    published="s",
    processing=_processing(96, ("circle", "square", "triangle"), 1 / 255),
    data="scenes",
    metric="map50",
    score=0.976,
    tolerance=0.03,
    training=Training(
        loss=detection_loss,
        targets=detection_targets,
        epochs=36,
        batch_size=16,
        learning_rate=6e-3,
        augment=mirrored,
    ),
    notes=(
        "Published checkpoints want blue first: swap the channels of the picture, or of the first weight. They were"
        " trained on pictures that keep their proportions beside a gray border; here pictures are stretched.",
        "Training wants square pictures, which the processing makes of any.",
    ),
)
