"""Line drawings and the colored pictures they stand for: every kind of shape has its own filling, and all a shadow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.datasets.drawing import Shape, place_shapes
from edgekit.datasets.files import write_listing, write_picture
from edgekit.datasets.recipe import DatasetRecipe

__all__ = ["RECIPE", "SIDE", "draw_pair"]

SIDE = 64
RADII = (9.0, 18.0)
SIZES = {"train": 1000, "calibration": 64, "test": 200}

_LINE_WIDTH = 1.5
_PAPER = np.array([0.93, 0.90, 0.82])
_SHADOW_OFFSET = 3.0
_BAND = 4.0
"""Width of a square's frames and of a triangle's rim, in pixels."""


def draw_pair(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The line drawing and its colored picture, each uint8 [SIDE, SIDE, 3]. The first says all about the second."""
    lines = np.ones((SIDE, SIDE))
    picture = np.broadcast_to(_PAPER, (SIDE, SIDE, 3))
    shapes = place_shapes(generator, SIDE, 3, RADII, gap=2 * _SHADOW_OFFSET)
    for shape in shapes:
        cast = Shape(shape.kind, shape.x + _SHADOW_OFFSET, shape.y + _SHADOW_OFFSET, shape.radius, shape.angle)
        # Two pixels on each side of its border the shadow goes from full to none.
        shadow = np.clip(0.5 - cast.distance(SIDE) / 4, 0, 1)[..., None]
        picture = picture * (1 - 0.4 * shadow)
    for shape in shapes:
        distance = shape.distance(SIDE)
        covered = np.clip(0.5 - distance, 0, 1)[..., None]
        picture = picture * (1 - covered) + _filling(shape.kind, -distance) * covered
        lines = np.minimum(lines, np.clip(np.abs(distance) - _LINE_WIDTH / 2 + 0.5, 0, 1))
    return _pixels(np.repeat(lines[..., None], 3, axis=2)), _pixels(picture)


def _filling(kind: str, depth: np.ndarray) -> np.ndarray:
    """Color by `depth`, the distance to the border: it can be told from the lines around a pixel, wherever it is."""
    depth = depth[..., None]
    if kind == "circle":  # a ball: dark at the rim, bright in the middle
        return np.array([0.85, 0.20, 0.10]) * (0.5 + np.clip(depth / RADII[1], 0, 1))
    if kind == "square":  # frames within frames
        return np.where(depth % (2 * _BAND) < _BAND, [0.12, 0.25, 0.65], [0.55, 0.75, 0.95])
    return np.where(depth < _BAND, [0.10, 0.40, 0.15], [0.95, 0.85, 0.20])  # a dark rim


def _pixels(picture: np.ndarray) -> np.ndarray:
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _write(folder: Path, seed: int) -> None:
    for number, (split, size) in enumerate(SIZES.items()):
        generator = np.random.default_rng((seed, number))
        records = []
        for index in range(size):
            names = {"file": f"{index:04}.png", "target": f"targets/{index:04}.png"}
            for name, pixels in zip(names.values(), draw_pair(generator), strict=True):
                write_picture(folder / split / name, pixels)
            records.append(names)
        write_listing(folder / split, records)


RECIPE = DatasetRecipe(
    name="edges2shapes",
    title="line drawings of shapes and the colored pictures they stand for, 64 x 64",
    task="image to image",
    license="Apache-2.0",
    source="drawn by edgekit",
    write=_write,
)
