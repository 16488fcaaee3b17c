"""What readers of annotated pictures share: their sizes, boxes as shares of them, and areas as masks."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.decoding import open_picture
from edgekit.errors import InputError, UnavailableError
from edgekit.metrics import class_name
from edgekit.samples import IMAGE_SUFFIXES

__all__ = ["BACKGROUNDS", "Segments", "picture_size", "pictures_in", "share_box"]

BACKGROUNDS = ("background", "__background__", "_background_", "bg")
"""What the class of pixels is called that belong to no thing."""

_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_SLACK_PX = 2.0


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of the picture in a file, upright as it is shown, by its header alone.

    Raises InputError when it cannot be read, UnavailableError without Pillow.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UnavailableError("reading image files needs Pillow", hint="pip install 'edgekit-ml[image]'") from None
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as opened:
            turned = opened.getexif().get(_ORIENTATION) in _TURNED
            return (opened.height, opened.width) if turned else (opened.width, opened.height)
    except Exception:  # decoders raise whatever a broken file makes them trip over  # noqa: BLE001
        upright = open_picture(path)  # which says what is wrong in our words
        return int(upright.width), int(upright.height)


def pictures_in(folder: Path) -> list[Path]:
    """Every picture in a folder and the folders in it, by name."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def share_box(corners: Sequence[float], size: tuple[int, int], where: str) -> list[float]:
    """Corners x0, y0, x1, y1 in pixels as shares of a picture of `size`, cut off at its edges.

    Raises InputError for a box that reaches far beyond them, or has its corners the wrong way round.
    """
    x0, y0, x1, y1 = corners
    if not np.isfinite(corners).all() or x1 < x0 or y1 < y0:
        raise InputError(f"{where}: {list(corners)} is not a box", hint="its corners are left, upper, right, lower")
    slack = max(_SLACK_PX, 0.02 * max(size))
    if min(x0, y0) < -slack or x1 > size[0] + slack or y1 > size[1] + slack:
        raise InputError(
            f"{where}: the box {list(corners)} reaches out of the picture of {size[0]} x {size[1]}",
            hint="are its numbers two corners, or a corner and a size; pixels, or shares?",
        )
    shares = [x0 / size[0], y0 / size[1], x1 / size[0], y1 / size[1]]
    return [min(max(value, 0.0), 1.0) for value in shares]


@dataclass(frozen=True)
class Segments:
    """Areas of a picture, each of a class, drawn when they are asked for.

    Attributes:
        size: Width and height of the picture.
        parts: Of each area its class, and polygons ``[[x, y, x, y, ...], ...]`` in pixels, or runs as COCO has them:
            ``{"counts": [...] or text, "size": [height, width]}``.
    """

    size: tuple[int, int]
    parts: tuple[tuple[str, Any], ...]

    def mask(self, labels: Sequence[str], void: int) -> np.ndarray:
        """[height, width] of class indices, later areas over earlier ones.

        Pixels of no area are of the label that is a name for the background, or `void` where there is none.

        Raises:
            InputError: A class is none of `labels`, or an area cannot be drawn.
            UnavailableError: pycocotools is not installed.
        """
        width, height = self.size
        background = next((labels.index(name) for name in BACKGROUNDS if name in labels), void)
        mask = np.full((height, width), background, np.int32)
        for label, area in self.parts:
            if not labels:
                raise InputError("the model has no names for the classes of its pixels", hint="give it labels")
            mask[_drawn(area, self.size)] = labels.index(class_name(label, labels))
        return mask


def _drawn(area: Any, size: tuple[int, int]) -> np.ndarray:
    """bool [height, width]: where the area is."""
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise UnavailableError("drawing areas needs pycocotools", hint="pip install 'edgekit-ml[evaluate]'") from None
    width, height = size
    try:
        runs = area
        if isinstance(area, list):
            runs = coco.merge(coco.frPyObjects(area, height, width))
        elif isinstance(area["counts"], list):
            runs = coco.frPyObjects(area, height, width)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools has not followed NumPy in all yet
            found = coco.decode(runs)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"an area cannot be drawn: {error}", hint="polygons, or runs as COCO has them") from error
    if found.shape != (height, width):
        raise InputError(f"an area of {found.shape[1]} x {found.shape[0]} in a picture of {width} x {height}")
    return np.asarray(found, bool)
