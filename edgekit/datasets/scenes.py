"""Drawn scenes: circles, squares and triangles of any color before a blurred background, with boxes and masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.datasets.drawing import KINDS, Shape, place_shapes, smooth_noise
from edgekit.datasets.files import write_listing, write_picture
from edgekit.datasets.recipe import DatasetRecipe

__all__ = ["MASKS", "SCENES", "SIDE", "draw_scene"]

SIDE = 96
RADII = (9.0, 24.0)
SIZES = {"train": 1200, "calibration": 64, "test": 300}
_CONTRAST = 0.25
"""Least distance of a shape's color from what is behind it; a step from black to white is 1.7."""


def draw_scene(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Pixels, uint8 [SIDE, SIDE, 3]; the mask, uint8 [SIDE, SIDE], 0 where nothing is; the boxes with their labels."""
    picture = _background(generator)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    boxes = []
    for shape in place_shapes(generator, SIDE, 4, RADII):
        distance = shape.distance(SIDE)
        covered = np.clip(0.5 - distance, 0, 1)[..., None]
        picture = picture * (1 - covered) + _fill(generator, shape, picture[distance < 0].mean(axis=0)) * covered
        mask[distance < 0] = KINDS.index(shape.kind) + 1
        boxes.append({"label": shape.kind, "box": _box(distance < 0)})
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8), mask, boxes


def _background(generator: np.random.Generator) -> np.ndarray:
    color = generator.uniform(0.1, 0.9, 3)
    wide = smooth_noise(generator, SIDE, int(generator.integers(2, 5)), 3)
    fine = smooth_noise(generator, SIDE, int(generator.integers(8, 20)), 1)
    strengths = generator.uniform((0.1, 0.0), (0.6, 0.15))
    return np.clip(color + (wide - 0.5) * strengths[0] + (fine - 0.5) * strengths[1], 0, 1)


def _fill(generator: np.random.Generator, shape: Shape, behind: np.ndarray) -> np.ndarray:
    """A color unlike what is behind, a little brighter to one side, [SIDE, SIDE, 3]."""
    color = generator.random(3)
    while np.linalg.norm(color - behind) < _CONTRAST:
        color = generator.random(3)
    direction = generator.normal(size=2)
    grid = (np.arange(SIDE) + 0.5) / SIDE
    slope = direction[0] * (grid[None, :] - shape.x / SIDE) + direction[1] * (grid[:, None] - shape.y / SIDE)
    return color + 0.3 * slope[..., None]


def _box(inside: np.ndarray) -> list[float]:
    """Borders of the pixels that are true: x0, y0, x1, y1 as shares of the picture."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return [round(float(edge) / SIDE, 6) for edge in edges]


def _write(has_boxes: bool) -> Callable[[Path, int], None]:
    def write(folder: Path, seed: int) -> None:
        for number, (split, size) in enumerate(SIZES.items()):
            generator = np.random.default_rng((seed, number))
            records = []
            for index in range(size):
                pixels, mask, boxes = draw_scene(generator)
                names = {"file": f"{index:04}.png", "mask": f"masks/{index:04}.png"}
                write_picture(folder / split / names["file"], pixels)
                write_picture(folder / split / names["mask"], mask)
                records.append({**names, **({"boxes": boxes} if has_boxes else {})})
            write_listing(folder / split, records)

    return write


SCENES = DatasetRecipe(
    name="scenes",
    title="drawn scenes of 1 to 4 circles, squares and triangles, 96 x 96, with boxes and masks",
    task="object detection",
    license="Apache-2.0",
    source="drawn by edgekit",
    write=_write(has_boxes=True),
    labels=KINDS,
)

MASKS = replace(
    SCENES,
    name="scenes-masks",
    title="the same scenes with what every pixel belongs to",
    task="semantic segmentation",
    write=_write(has_boxes=False),
    labels=("background", *KINDS),
)
