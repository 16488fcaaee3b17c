"""The step from a map of how likely each pixel is part of text to the lines of text, as rectangles that may be turned.

M. Liao et al., Real-time Scene Text Detection with Differentiable Binarization, arXiv 1911.08947, section 3.5: the map
is cut at a threshold, each piece that hangs together gets the smallest rectangle around it, and as the net was trained
on lines that were shrunk, the rectangle grows again by its area times a ratio over its circumference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.processing.boxes import UNITS, in_picture
from edgekit.processing.results import as_scores
from edgekit.processing.steps import Apply, StepContext, integers, number, one_of, truth

__all__ = ["text_regions"]

_LEAST_SIDE = 3.0
"""Pixels of the map; a piece that is thinner, or less than two more after it grew, is no text."""


def text_regions(
    *,
    threshold: Any = 0.3,
    score: Any = 0.5,
    grow: Any = 1.6,
    dilate: Any = True,
    count: Any = 1000,
    unit: str = "share",
) -> Apply:
    """Scores [1, 1, height, width] or [1, height, width, 1] -> ``[{"score", "points": four corners, "box"}, ...]``.

    Lines come from top to bottom, and from left to right where they begin about as high. Corners go from the upper
    left one clockwise, ``[x, y]`` as shares of the picture; ``"box"`` is the upright rectangle around them. The score
    is the mean of the map within the rectangle before it grew.

    Args:
        threshold: A pixel is of text above this.
        score: What is below is left out.
        grow: Ratio of the growth.
        dilate: Whether pixels at the right, below and between of text are text too, which closes gaps of one.
        count: Regions at most.
        unit: ``"pixels"`` gives ``"points_px"`` and ``"box_px"`` instead, in the picture's own pixels.
    """
    level, least = number("threshold", threshold), number("score", score)
    ratio = number("grow", grow, above=0.0)
    is_dilated, unit = truth("dilate", dilate), one_of("unit", unit, UNITS)
    (most,) = integers("count", count, count=1, least=1)

    def apply(value: Any, context: StepContext) -> list[dict[str, Any]]:
        likely = as_scores(value, "text_regions")
        likely = likely.reshape([size for size in likely.shape if size != 1]) if likely.ndim > 2 else likely
        if likely.ndim != 2:
            raise InputError(f"text_regions wants the map of one picture, not {list(likely.shape)}")
        found = []
        for piece in _pieces(_dilated(likely > level) if is_dilated else likely > level)[:most]:
            corners, sides = _smallest_rectangle(piece)
            if min(sides) < _LEAST_SIDE or (mean := _mean_within(likely, corners)) < least:
                continue
            wider = _grown(corners, ratio * sides[0] * sides[1] / (2 * (sides[0] + sides[1])))
            if min(np.linalg.norm(wider[1] - wider[0]), np.linalg.norm(wider[2] - wider[1])) >= _LEAST_SIDE + 2:
                found.append((mean, _clockwise(wider) / np.array(likely.shape[::-1])))
        return _in_order([_entry(mean, corners, context, unit) for mean, corners in found], context, unit)

    return apply


def _entry(score: float, corners: np.ndarray, context: StepContext, unit: str) -> dict[str, Any]:
    places = in_picture(corners, context, unit, is_clipped=True)
    suffix = "" if unit == "share" else "_px"
    box = [*places.min(axis=0).tolist(), *places.max(axis=0).tolist()]
    return {"score": score, f"points{suffix}": places.tolist(), f"box{suffix}": box}


def _in_order(entries: list[dict[str, Any]], context: StepContext, unit: str) -> list[dict[str, Any]]:
    """As one reads: a line that begins less than half a line's height below another is beside it."""
    key = "box" if unit == "share" else "box_px"
    entries.sort(key=lambda entry: entry[key][1])
    rows: list[list[dict[str, Any]]] = []
    for entry in entries:
        top, height = entry[key][1], entry[key][3] - entry[key][1]
        if rows and top - rows[-1][0][key][1] < height / 2:
            rows[-1].append(entry)
        else:
            rows.append([entry])
    return [entry for row in rows for entry in sorted(row, key=lambda entry: entry[key][0])]


def _dilated(text: np.ndarray) -> np.ndarray:
    grown = text.copy()
    grown[1:] |= text[:-1]
    grown[:, 1:] |= text[:, :-1]
    grown[1:, 1:] |= text[:-1, :-1]
    return grown


def _pieces(text: np.ndarray) -> list[np.ndarray]:
    """Pixels that hang together, corners included: for each piece [n, 2] of x, y, the ends of its runs in each row."""
    edges = np.diff(np.pad(text.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    width = text.shape[1] + 2
    # A run touches those of the row above that end at its start or later and start at its end or earlier.
    first = np.searchsorted(rows * width + ends, (rows - 1) * width + starts, "left")
    last = np.searchsorted(rows * width + starts, (rows - 1) * width + ends, "right")
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    for run in np.flatnonzero(first < last).tolist():
        for above in range(int(first[run]), int(last[run])):
            parent[root(run)] = root(above)
    roots = np.array([root(run) for run in range(len(rows))], int)
    order = np.argsort(roots, kind="stable")
    bounds = np.flatnonzero(np.diff(roots[order])) + 1
    return [
        np.concatenate([np.stack([starts[part], rows[part]], 1), np.stack([ends[part] - 1, rows[part]], 1)])
        for part in (np.split(order, bounds) if len(order) else [])
    ]


def _hull(points: np.ndarray) -> np.ndarray:
    """The corners of the convex hull in order (A. Andrew's monotone chain, 1979); points on its sides are left out."""
    ordered = np.unique(points, axis=0).tolist()
    if len(ordered) < 3:
        return np.array(ordered, np.float64)

    def half(run: list[list[int]]) -> list[list[int]]:
        chain: list[list[int]] = []
        for x, y in run:
            while len(chain) > 1 and (
                (chain[-1][0] - chain[-2][0]) * (y - chain[-2][1]) <= (chain[-1][1] - chain[-2][1]) * (x - chain[-2][0])
            ):
                chain.pop()
            chain.append([x, y])
        return chain[:-1]

    return np.array([*half(ordered), *half(ordered[::-1])], np.float64)


def _smallest_rectangle(points: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Corners [4, 2] in order of the rectangle of least area around `points`, and its two sides.

    One side of it lies along one of the hull's (H. Freeman, R. Shapira, 1975).
    """
    hull = _hull(points)
    along = np.roll(hull, -1, axis=0) - hull
    lengths = np.linalg.norm(along, axis=1)
    axes = along[lengths > 0] / lengths[lengths > 0, None] if (lengths > 0).any() else np.array([[1.0, 0.0]])
    normals = np.stack([-axes[:, 1], axes[:, 0]], 1)
    spans = [hull @ directions.T for directions in (axes, normals)]
    low, high = (np.stack([end(span, axis=0) for span in spans], 1) for end in (np.min, np.max))
    best = int(np.argmin(np.prod(high - low, axis=1)))
    frame = np.stack([axes[best], normals[best]])
    (left, top), (right, bottom) = low[best], high[best]
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) @ frame
    return corners, (float(right - left), float(bottom - top))


def _mean_within(likely: np.ndarray, corners: np.ndarray) -> float:
    """The mean of the map over the pixels on and within the rectangle of these corners."""
    low = np.clip(np.floor(corners.min(axis=0)), 0, None).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int), np.array(likely.shape[::-1]) - 1)
    ys, xs = np.mgrid[low[1] : high[1] + 1, low[0] : high[0] + 1]
    whole = np.trunc(corners)  # corners of pixels, as pictures are filled
    inside = np.ones(xs.shape, bool)
    for start, (across, down) in zip(whole, np.roll(whole, -1, axis=0) - whole, strict=True):
        inside &= across * (ys - start[1]) - down * (xs - start[0]) >= -0.5 * np.hypot(across, down)
    values = likely[low[1] : high[1] + 1, low[0] : high[0] + 1][inside]
    return float(values.mean()) if values.size else 0.0


def _grown(corners: np.ndarray, distance: float) -> np.ndarray:
    """The rectangle with each side moved outwards by `distance`."""
    middle = corners.mean(axis=0)
    moved = corners.copy()
    for side in (corners[1] - corners[0], corners[3] - corners[0]):
        direction = side / np.linalg.norm(side)
        moved += np.sign((corners - middle) @ direction)[:, None] * direction * distance
    return moved


def _clockwise(corners: np.ndarray) -> np.ndarray:
    """From the upper left corner on: the higher of the two at the left, then the higher of the two at the right."""
    order = np.argsort(corners[:, 0], kind="stable")
    left, right = corners[order[:2]], corners[order[2:]]
    left, right = left[np.argsort(left[:, 1], kind="stable")], right[np.argsort(right[:, 1], kind="stable")]
    return np.stack([left[0], right[0], right[1], left[1]])
