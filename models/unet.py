"""U-Net: a class for every pixel, from a path that goes down and one that comes up again, joined at every level.

Ronneberger, Fischer and Brox 2015, arXiv:1505.04597. Weights are named as by the PyTorch implementation most widely
used, milesial/Pytorch-UNet, whose published checkpoints load; it pads so that the map is as large as the picture and
normalizes batches, while the paper does neither. Both are settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.family import Batch, Family, Paper, Size, Training
from edgekit.processing import ANY_INPUT, Processing

if TYPE_CHECKING:
    from edgekit.network import Network, Tensor

__all__ = ["FAMILY"]

_VOID = 255
"""In a mask: a pixel that counts for nothing."""

_TINY = 96
"""Height and width of the tiny size's pictures, and of the masks it is trained on."""


def build(
    name: str,
    *,
    classes: int,
    width: int,
    depth: int = 4,
    image_size: Sequence[int] = (256, 256),
    channels: int = 3,
    is_padded: bool = True,
    has_norm: bool = True,
) -> Network:
    """A U-Net: "image" [batch, channels, *image_size] -> "logits" [batch, classes, height, width].

    Args:
        name: Of the network.
        classes: Scores for each pixel.
        width: Channels at the full size; each level down has twice as many.
        depth: Levels down.
        image_size: Height and width of the picture, divisible by ``2 ** depth`` where padded.
        channels: Of the picture.
        is_padded: Whether the map is as large as the picture. The paper's is smaller: every 3 x 3 convolution takes
            two pixels off, and what is carried across is cropped.
        has_norm: Whether batches are normalized; convolutions have biases where not.
    """
    from edgekit.network import Network

    net = Network(name)
    x = net.input("image", ("batch", channels, *image_size), is_spatial=True)
    blocks = _Blocks(net, 1 if is_padded else 0, has_norm)
    x = blocks.double(x, "inc", width)
    levels = [x]
    for level in range(1, depth + 1):
        x = blocks.down(x, f"down{level}", width * 2**level)
        levels.append(x)
    for level in range(1, depth + 1):
        x = blocks.up(x, levels[depth - level], f"up{level}", width * 2 ** (depth - level))
    net.output(net.conv(x, "outc.conv", classes, 1, start="glorot"), "logits")
    return net


class _Blocks:
    """The three blocks, as methods that append them to a network."""

    def __init__(self, net: Network, padding: int, has_norm: bool) -> None:
        self.net = net
        self.padding = padding
        self.has_norm = has_norm

    def double(self, x: Tensor, name: str, filters: int) -> Tensor:
        """Two convolutions of 3 x 3, each with its ReLU."""
        stride = 3 if self.has_norm else 2  # places of the two in a list of layers, after which weights are named
        for place in (0, stride):
            x = self.net.conv(
                x, f"{name}.double_conv.{place}", filters, 3, padding=self.padding, bias=not self.has_norm
            )
            if self.has_norm:
                x = self.net.batch_norm(x, f"{name}.double_conv.{place + 1}")
            x = self.net.relu(x)
        return x

    def down(self, x: Tensor, name: str, filters: int) -> Tensor:
        if x.size(2) % 2 or x.size(3) % 2:
            sides = f"{x.size(2)} x {x.size(3)}"
            raise UnsupportedError(
                f"{name} cannot halve a map of {sides}", hint="choose a size that stays even on the way down"
            )
        return self.double(self.net.max_pool(x, 2), f"{name}.maxpool_conv.1", filters)

    def up(self, x: Tensor, across: Tensor, name: str, filters: int) -> Tensor:
        """Twice as large by an up-convolution, beside what comes across, then two convolutions."""
        x = self.net.conv_transpose(x, f"{name}.up", filters, 2, stride=2)
        excess = [(across.size(axis) - x.size(axis)) // 2 for axis in (2, 3)]
        if any(excess):
            across = self.net.crop(across, [(count, count) for count in excess])
        return self.double(self.net.concat([across, x]), f"{name}.conv", filters)


def _targets(truth: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The mask of class indices, [height, width] int64, at the tiny size: the nearest pixel's."""
    from edgekit.decoding import open_picture

    mask = np.asarray(open_picture(Path(truth["mask"])))
    rows, columns = ((np.arange(_TINY) + 0.5) * side / _TINY for side in mask.shape[:2])
    return {"mask": mask[rows.astype(np.int64)[:, None], columns.astype(np.int64)].astype(np.int64)}


def _loss(outputs: Batch, targets: Batch) -> Any:
    """Cross-entropy of pixels, and what the classes' Dice coefficients lack of one (V-Net, arXiv:1606.04797).

    The second keeps a class that few pixels have from being given up. Masks are brought to the size of the logits
    where that is another.
    """
    import torch

    functional = torch.nn.functional
    logits, mask = outputs["logits"], targets["mask"]
    if logits.shape[2:] != mask.shape[1:]:
        mask = functional.interpolate(mask[:, None].float(), logits.shape[2:], mode="nearest-exact")[:, 0].long()
    counts = (mask != _VOID)[:, None]
    true = functional.one_hot(mask.where(counts[:, 0], 0), logits.shape[1]).movedim(-1, 1) * counts
    likely = logits.softmax(1) * counts
    sums = [values.sum((0, 2, 3)) for values in (likely * true, likely, true)]
    dice = (2 * sums[0] + 1) / (sums[1] + sums[2] + 1)
    return functional.cross_entropy(logits, mask, ignore_index=_VOID) + 1 - dice.mean()


def _augment(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Half of the samples as in a mirror."""
    image, mask = feeds["image"].copy(), targets["mask"].copy()
    turned = generator.random(len(image)) < 0.5
    image[turned], mask[turned] = image[turned][..., ::-1], mask[turned][..., ::-1]
    return {"image": image}, {"mask": mask}


def _processing(height: int, width: int, labels: Sequence[str], mode: str = "RGB") -> Processing:
    return Processing(
        inputs={
            ANY_INPUT: (
                {"op": "decode_image", "mode": mode},
                {"op": "resize", "size": [height, width]},
                {"op": "normalize", "scale": 1 / 255},
                {"op": "layout"},
            )
        },
        outputs=({"op": "class_map"},),
        labels=tuple(labels),
    )


FAMILY = Family(
    name="unet",
    title="U-Net: a class for every pixel",
    task="segmentation",
    paper="Ronneberger et al. 2015, arXiv:1505.04597",
    frameworks=("keras", "torch", "onnx"),
    build=build,
    sizes={
        "tiny": Size({"classes": 4, "width": 6, "depth": 3, "image_size": (_TINY, _TINY)}),
        "64": Size(
            {"classes": 2, "width": 64, "depth": 4, "image_size": (640, 960)},
            processing=_processing(640, 960, ("background", "car")),
            paper=Paper(
                source="milesial/Pytorch-UNet: UNet(n_channels=3, n_classes=2), as its Carvana checkpoints are",
                parameters=31_037_698,
                tolerance=0.0,
            ),
        ),
        "16": Size(
            {"classes": 2, "width": 16, "depth": 4, "image_size": (256, 256)},
            processing=_processing(256, 256, ("background", "foreground")),
        ),
        "572": Size(
            {
                **{"classes": 2, "width": 64, "depth": 4, "image_size": (572, 572)},
                **{"channels": 1, "is_padded": False, "has_norm": False},
            },
            processing=_processing(572, 572, ("background", "cell"), mode="L"),
        ),
    },
    published="64",
    processing=_processing(_TINY, _TINY, ("background", "circle", "square", "triangle")),
    data="scenes-masks",
    metric="miou",
    score=0.976,
    tolerance=0.02,
    training=Training(loss=_loss, targets=_targets, epochs=8, batch_size=8, learning_rate=5e-3, augment=_augment),
    notes=("Masks are learnt from at 96 x 96 and enlarged for other sizes.",),
)
