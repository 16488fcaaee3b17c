"""What the image classifiers share: how pictures come in, how answers go out, and what training compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.family import Batch
from edgekit.metrics import class_name
from edgekit.processing import Processing

__all__ = ["DIGITS", "IMAGENET", "best_classes", "class_targets", "cross_entropy", "image_classes", "moved_pictures"]

DIGITS = tuple("0123456789")

_MAX_SHIFT = 0.08
_MAX_TURN_DEGREES = 12.0
_MAX_ZOOM = 0.15
_MAX_SLANT = 0.2
_WARP = 0.025
_KNOTS = 5
"""How far `moved_pictures` goes: shifts and the warp's deviation are shares of the size."""


def image_classes(
    size: int,
    *,
    mode: str = "RGB",
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    crop: float | None = None,
    filter: str = "bilinear",
    labels: tuple[str, ...] = (),
) -> Processing:
    """From a picture to the best five of the classes.

    Args:
        size: Height and width the net wants.
        mode: ``"RGB"``, or ``"L"`` for gray.
        mean, std: Of the pixels in 0..255: one number, or one per channel.
        crop: Side of the square in the middle, as a share of the shorter side; None keeps everything.
        filter: How it is resized.
        labels: Names of the classes; without them a class is called by its index.
    """
    cut = () if crop is None else ({"op": "center_crop", "fraction": crop},)
    steps: tuple[dict[str, Any], ...] = (
        {"op": "decode_image", "mode": mode},
        *cut,
        {"op": "resize", "size": [size, size], "filter": filter},
        {"op": "normalize", "mean": mean, "std": std},
        {"op": "layout"},
    )
    return Processing({"image": steps}, best_classes(5), labels)


def best_classes(count: int) -> tuple[dict[str, Any], ...]:
    """Steps from the output ``logits`` to the `count` best classes."""
    return {"op": "select", "name": "logits"}, {"op": "softmax"}, {"op": "top_k", "k": count}


IMAGENET = image_classes(224, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), crop=0.875)
"""As torchvision's first weights want it: (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) of pixels in 0..1."""


def cross_entropy(outputs: Batch, targets: Batch) -> Any:
    """Of the output ``logits`` and the class indices ``label``."""
    from torch.nn import functional

    return functional.cross_entropy(outputs["logits"], targets["label"])


def class_targets(truth: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The index of a sample's class. Raises InputError for a sample without one of the classes."""
    if "label" not in truth:
        raise InputError("a sample has no label", hint="folders named after classes give labels")
    return {"label": np.array(labels.index(class_name(truth["label"], labels)), np.int64)}


def moved_pictures(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Every picture shifted, turned, zoomed, slanted and warped a little, each its own way.

    What comes in from outside is like the nearest edge. The warp is a smooth random field, as for written digits by
    Simard et al. 2003, Best Practices for Convolutional Neural Networks.
    """
    return {**feeds, "image": _sampled(feeds["image"], *_places(feeds["image"].shape, generator))}, targets


def recolored_pictures(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Moved as by `moved_pictures`; and the colors of each picture mixed, scaled and shifted, half of them turned dark.

    For pictures whose colors say nothing of what is on them.
    """
    pictures = moved_pictures(feeds, targets, generator)[0]["image"]
    count, channels = pictures.shape[:2]
    mixed = np.eye(channels) + generator.normal(0.0, 0.25, (count, channels, channels))
    signs = generator.choice([-1.0, 1.0], (count, 1, 1, 1))
    shifts = generator.normal(0.0, 0.2, (count, channels, 1, 1))
    changed = signs * np.einsum("nij,njhw->nihw", mixed, pictures) + shifts
    return {**feeds, "image": changed.astype(pictures.dtype)}, targets


def _places(shape: Sequence[int], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns [batch, height, width] that pixels are taken from, for pictures of `shape`."""
    count, _, height, width = shape
    turn = np.deg2rad(generator.uniform(-_MAX_TURN_DEGREES, _MAX_TURN_DEGREES, (count, 1, 1)))
    zooms = generator.uniform(1 - _MAX_ZOOM, 1 + _MAX_ZOOM, (2, count, 1, 1))
    slant = generator.uniform(-_MAX_SLANT, _MAX_SLANT, (count, 1, 1))
    shifts = generator.uniform(-_MAX_SHIFT, _MAX_SHIFT, (2, count, 1, 1))
    knots = generator.normal(0.0, _WARP, (2, count, _KNOTS, _KNOTS))
    warps = np.einsum("hk,dnkl,wl->dnhw", _hats(height), knots, _hats(width))
    y, x = np.mgrid[:height, :width].astype(np.float64)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    x = x + slant * y
    rows = zooms[0] * (np.cos(turn) * y - np.sin(turn) * x) + (height - 1) / 2 + (shifts[0] + warps[0]) * height
    columns = zooms[1] * (np.sin(turn) * y + np.cos(turn) * x) + (width - 1) / 2 + (shifts[1] + warps[1]) * width
    return np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)


def _hats(size: int) -> np.ndarray:
    """[size, knots]: how much each of evenly spaced knots counts at each place, for linear interpolation."""
    distance = np.abs(np.linspace(0, _KNOTS - 1, size)[:, None] - np.arange(_KNOTS))
    return np.asarray(np.maximum(0.0, 1.0 - distance))


def _sampled(pictures: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[batch, channels, height, width] at other places, bilinearly."""
    top, left = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    bottom, right = (
        np.minimum(first + 1, last - 1) for first, last in zip((top, left), pictures.shape[2:], strict=True)
    )
    down, along = (rows - top)[:, None], (columns - left)[:, None]
    sample, channel = np.arange(len(pictures))[:, None, None, None], np.arange(pictures.shape[1])[:, None, None]

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return np.asarray(pictures[sample, channel, row[:, None], column[:, None]])

    above = at(top, left) * (1 - along) + at(top, right) * along
    below = at(bottom, left) * (1 - along) + at(bottom, right) * along
    return np.asarray(above * (1 - down) + below * down, pictures.dtype)
