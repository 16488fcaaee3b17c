"""Shapes at any place, size and angle, drawn with smooth borders in NumPy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgekit.processing.resampling import resize_image

__all__ = ["KINDS", "Shape", "place_shapes", "smooth_noise"]

KINDS = ("circle", "square", "triangle")
_CORNERS = {"square": 4, "triangle": 3}


@dataclass(frozen=True)
class Shape:
    """A circle, square or equilateral triangle.

    Attributes:
        kind: One of `KINDS`.
        x: Center, in pixels from the left border.
        y: Center, in pixels from the upper border.
        radius: Of the circle through its corners, in pixels.
        angle: By which it is turned, in radians.
    """

    kind: str
    x: float
    y: float
    radius: float
    angle: float

    def distance(self, side: int) -> np.ndarray:
        """Distance of each pixel's center to the border, float64 [side, side], negative inside.

        Beyond a corner it is the distance to the nearer edge's line, so smaller than the true one.
        """
        grid = np.arange(side) + 0.5
        x, y = grid[None, :] - self.x, grid[:, None] - self.y
        if self.kind == "circle":
            return np.hypot(x, y) - self.radius
        corners = _CORNERS[self.kind]
        to_edge = self.radius * math.cos(math.pi / corners)
        normals = self.angle + np.arange(corners) * 2 * math.pi / corners
        return np.max([x * math.cos(normal) + y * math.sin(normal) for normal in normals], axis=0) - to_edge


def place_shapes(
    generator: np.random.Generator, side: int, most: int, radii: tuple[float, float], gap: float = 0.0
) -> list[Shape]:
    """One to `most` shapes that lie wholly within `side` x `side` pixels and do not touch.

    The circles around them are at least `gap` pixels apart; their boxes may overlap a little, corner over corner.
    """
    shapes: list[Shape] = []
    count = int(generator.integers(1, most + 1))
    while len(shapes) < count:
        # Few large ones may leave no room for another; smaller ones are tried then.
        for attempt in range(50):
            radius = generator.uniform(radii[0], max(radii[0], radii[1] * (1 - attempt / 50)))
            x, y = generator.uniform(radius, side - radius, 2)
            if all(math.hypot(x - other.x, y - other.y) >= radius + other.radius + gap for other in shapes):
                kind = KINDS[int(generator.integers(len(KINDS)))]
                shapes.append(Shape(kind, x, y, radius, generator.uniform(0, 2 * math.pi)))
                break
        else:
            return shapes
    return shapes


def smooth_noise(generator: np.random.Generator, side: int, cells: int, channels: int) -> np.ndarray:
    """Noise in 0..1 that changes over `side` / `cells` pixels, float32 [side, side, channels]."""
    coarse = generator.random((cells, cells, channels)).astype(np.float32)
    return np.clip(resize_image(coarse, side, side, "bicubic"), 0, 1)
