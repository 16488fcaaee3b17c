"""Steps from a net that marks points, such as joints or corners of a face, to where they are in the picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.boxes import UNITS, in_picture
from edgekit.processing.results import as_scores, logistic, named_output, without_batch
from edgekit.processing.steps import Apply, StepContext, integers, name_of, names_of, one_of, truth

__all__ = ["heatmap_points", "landmarks"]


def landmarks(
    *,
    name: Any,
    size: Any,
    values: Any = 3,
    count: Any = None,
    visible: Any = None,
    visible_activation: str = "none",
    presence: Any = None,
    presence_activation: str = "none",
    unit: str = "share",
) -> Apply:
    """An output of places -> ``[{"label", "score", "point": [x, y]}, ...]``, the points in the order of the output.

    Args:
        name: Of the output of places, or several of which the first that is there is taken; its size is a multiple of
            `values`.
        size: Height and width of the input, in which the output gives x and y.
        values: Numbers for each point: x, y, and what follows.
        count: Points to keep, the first ones; by default all.
        visible: Which of the numbers of a point, from 0, is how sure the net is of it.
        visible_activation: ``"sigmoid"`` where that is a logit.
        presence: Name of the output of how sure the net is that there is anything at all, if there is one.
        presence_activation: ``"sigmoid"`` where that is a logit.
        unit: ``"pixels"`` gives ``"point_px"`` instead, in the picture's own pixels.
    """
    names = names_of("name", name, "an output")
    height, width = integers("size", size, count=2, least=1)
    (each,) = integers("values", values, count=1, least=2)
    most = None if count is None else integers("count", count, count=1, least=1)[0]
    seen = None if visible is None else integers("visible", visible, count=1, least=2)[0]
    if seen is not None and seen >= each:
        raise ArtifactError(f"visible must be below the {each} values of a point, not {seen}")
    there = None if presence is None else name_of("presence", presence, "an output")
    is_visible_logit = one_of("visible_activation", visible_activation, ("none", "sigmoid")) == "sigmoid"
    is_presence_logit = one_of("presence_activation", presence_activation, ("none", "sigmoid")) == "sigmoid"
    unit = one_of("unit", unit, UNITS)

    def apply(value: Any, context: StepContext) -> list[dict[str, Any]]:
        flat = _named(value, names).ravel()
        if flat.size % each:
            raise InputError(f"{flat.size} numbers are not points of {each}")
        rows = flat.reshape(-1, each)[:most]
        score = np.ones(len(rows), np.float32) if seen is None else rows[:, seen]
        score = logistic(score) if seen is not None and is_visible_logit else score
        if there is not None:
            sure = _named(value, (there,)).ravel()[:1]
            score = score * (logistic(sure) if is_presence_logit else sure)
        is_scored = seen is not None or there is not None
        points = rows[:, :2] / np.array([width, height], np.float32)
        return _entries(points, score if is_scored else None, context, unit)

    return apply


def heatmap_points(*, layout: str = "CHW", refine: Any = True, unit: str = "share") -> Apply:
    """A map for each point, [1, points, height, width] -> ``[{"label", "score", "point": [x, y]}, ...]``.

    A point is where its map is highest, in the middle of that cell; with `refine` a quarter of a cell towards the
    higher of its neighbors (B. Xiao et al., Simple Baselines for Human Pose Estimation, arXiv 1804.06208). The score
    is the map's value there.

    Args:
        layout: ``"CHW"``, or ``"HWC"`` for [1, height, width, points].
        refine: See above.
        unit: ``"pixels"`` gives ``"point_px"`` instead, in the picture's own pixels.
    """
    order, is_refined = one_of("layout", layout, ("CHW", "HWC")), truth("refine", refine)
    unit = one_of("unit", unit, UNITS)

    def apply(value: Any, context: StepContext) -> list[dict[str, Any]]:
        maps = as_scores(value, "heatmap_points")
        maps = without_batch(maps) if maps.ndim == 4 else maps
        if maps.ndim != 3:
            raise InputError(f"heatmap_points wants the maps of one picture, not {list(maps.shape)}")
        maps = maps if order == "CHW" else maps.transpose(2, 0, 1)
        count, rows, columns = maps.shape
        y, x = np.divmod(maps.reshape(count, -1).argmax(axis=1), columns)
        each = np.arange(count)
        shift = np.zeros((count, 2))
        if is_refined:
            inner = (x > 0) & (x < columns - 1) & (y > 0) & (y < rows - 1)
            k, j, i = each[inner], y[inner], x[inner]
            shift[inner, 0] = np.sign(maps[k, j, i + 1] - maps[k, j, i - 1]) / 4
            shift[inner, 1] = np.sign(maps[k, j + 1, i] - maps[k, j - 1, i]) / 4
        points = (np.stack([x, y], 1) + 0.5 + shift) / np.array([columns, rows])
        return _entries(points, maps[each, y, x], context, unit)

    return apply


def _named(value: Any, names: tuple[str, ...]) -> np.ndarray:
    return np.asarray(named_output(value, names, "landmarks"), np.float32)


def _entries(points: np.ndarray, scores: np.ndarray | None, context: StepContext, unit: str) -> list[dict[str, Any]]:
    labels = context.labels or tuple(f"point {index}" for index in range(len(points)))
    if len(labels) != len(points):
        raise ArtifactError(f"{len(labels)} labels for {len(points)} points")
    key = "point" if unit == "share" else "point_px"
    places = in_picture(points, context, unit).tolist()
    entries: list[dict[str, Any]] = [{"label": label, key: place} for label, place in zip(labels, places, strict=True)]
    if scores is None:
        return entries
    return [{"label": entry["label"], "score": score, key: entry[key]}
            for entry, score in zip(entries, scores.tolist(), strict=True)]  # fmt: skip
