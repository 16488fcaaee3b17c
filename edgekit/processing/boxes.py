"""The step from a detector's raw outputs to boxes: scores, threshold, suppression of what overlaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.results import logistic, without_batch
from edgekit.processing.steps import Apply, StepContext, integers, names_of, number, one_of

__all__ = ["UNITS", "detections", "in_picture", "overlaps"]

UNITS = ("share", "pixels")
"""Whether places in a picture are shares of its width and height, or its own pixels."""


def detections(
    *,
    boxes: Any = "boxes",
    scores: Any = "scores",
    form: str = "xyxy",
    scale: Any = 1.0,
    activation: str = "none",
    threshold: Any = 0.25,
    iou: Any = 0.5,
    count: Any = 100,
    candidates: Any = 1000,
    unit: str = "share",
) -> Apply:
    """Outputs [1, anchors, 4] and [1, anchors, classes] -> ``[{"label", "score", "box": [x0, y0, x1, y1]}, ...]``.

    Best first, relative to the picture, whatever was cut out of it or put around it before the model: 0..1 from its
    left and upper edge, cut off at its edges. Every class of an anchor above the threshold is a candidate; among those
    of one class the best is kept and what overlaps it is dropped, again and again (greedy non-maximum suppression).
    Points that the step before found stand beside the box as ``"points": [[x, y], ...]``.

    Args:
        boxes: Name of the output of boxes, or several of which the first that is there is taken. Where none is there
            and the model has two outputs, it is the one whose last size is 4 beside another that has the labels'.
        scores: The same of the scores.
        form: ``"xyxy"`` for two corners, ``"cxcywh"`` for center and size.
        scale: What coordinates are multiplied by to become relative: one number, or one for x and one for y.
        activation: ``"sigmoid"`` where the scores are logits.
        threshold: Scores up to this are dropped.
        iou: Of two boxes that overlap more than this, area in common over area together, one is dropped.
        count: Boxes at most.
        candidates: Boxes that take part in the suppression at most: the best ones.
        unit: ``"pixels"`` gives ``"box_px"`` and ``"points_px"`` instead, in the picture's own pixels.
    """
    names = names_of("boxes", boxes, "an output"), names_of("scores", scores, "an output")
    form = one_of("form", form, ("xyxy", "cxcywh"))
    factors = np.array([number("scale", item, above=0.0) for item in _pair(scale)], np.float32)
    is_logits = one_of("activation", activation, ("none", "sigmoid")) == "sigmoid"
    level, most_overlap = number("threshold", threshold), number("iou", iou, above=0.0, most=1.0)
    limit, pool = (integers(*pair, count=1, least=1)[0] for pair in (("count", count), ("candidates", candidates)))
    unit = one_of("unit", unit, UNITS)

    def apply(value: Any, context: StepContext) -> list[dict[str, Any]]:
        raw_boxes, raw_scores = _outputs(value, names, len(context.labels))
        labels = context.labels or tuple(f"class {index}" for index in range(raw_scores.shape[1]))
        if len(labels) != raw_scores.shape[1]:
            raise ArtifactError(f"{len(labels)} labels for {raw_scores.shape[1]} scores")
        likely = logistic(raw_scores) if is_logits else raw_scores
        anchors, classes = np.nonzero(likely > level)
        order = np.argsort(-likely[anchors, classes], kind="stable")[:pool]
        anchors, classes, values = (part[order] for part in (anchors, classes, likely[anchors, classes]))
        corners = _corners(raw_boxes[anchors], form, factors)
        kept = _suppress(np.clip(corners, 0.0, 1.0), classes, most_overlap)[:limit]
        points = _points(value, len(raw_boxes))
        places = _places(corners[kept], None if points is None else points[anchors[kept]], context, unit)
        return [
            {"label": labels[index], "score": score, **{key: array[row].tolist() for key, array in places.items()}}
            for row, (index, score) in enumerate(zip(classes[kept].tolist(), values[kept].tolist(), strict=True))
        ]

    return apply


def _places(corners: np.ndarray, points: np.ndarray | None, context: StepContext, unit: str) -> dict[str, np.ndarray]:
    """Boxes, and points beside them where there are some, by what they are called in the answer."""
    suffix = "" if unit == "share" else "_px"
    box = in_picture(corners.reshape(-1, 2, 2), context, unit, is_clipped=True)
    places = {f"box{suffix}": box.reshape(-1, 4)}
    if points is not None:
        places[f"points{suffix}"] = in_picture(points, context, unit)
    return places


def in_picture(points: np.ndarray, context: StepContext, unit: str, *, is_clipped: bool = False) -> np.ndarray:
    """Points [..., 2], shares of what the net saw, as shares or pixels of the picture it is part of.

    Raises InputError for pixels of a picture whose size is not known.
    """
    geometry = context.track.geometry
    moved = points if geometry is None else geometry.to_picture(points)
    moved = np.clip(moved, 0.0, 1.0) if is_clipped else moved
    if unit == "share":
        return moved
    if geometry is None:
        raise InputError(
            "pixels of which picture?", hint='begin the steps of its input with "decode_image", or take unit "share"'
        )
    return moved * np.array([geometry.width, geometry.height], moved.dtype)


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[n, m]: intersection over union of boxes [n, 4] and [m, 4], corners x0, y0, x1, y1; 0 for empty boxes."""
    upper = np.maximum(first[:, None, :2], second[None, :, :2])
    lower = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(lower - upper, 0.0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1) for boxes in (first, second)]
    together = areas[0][:, None] + areas[1][None, :] - common
    shares: np.ndarray = np.divide(common, together, out=np.zeros_like(common), where=together > 0)
    return shares


def _suppress(corners: np.ndarray, classes: np.ndarray, most_overlap: float) -> np.ndarray:
    """Indices of what is kept; boxes come best first."""
    beats = (overlaps(corners, corners) > most_overlap) & (classes[:, None] == classes[None, :])
    alive = np.ones(len(corners), bool)
    for index in range(len(corners)):
        if alive[index]:
            alive[index + 1 :] &= ~beats[index, index + 1 :]
    return np.flatnonzero(alive)


def _corners(boxes: np.ndarray, form: str, factors: np.ndarray) -> np.ndarray:
    first, second = boxes[:, :2] * factors, boxes[:, 2:] * factors
    if form == "cxcywh":
        first, second = first - second / 2, first + second / 2
    return np.concatenate([first, second], axis=1)


def _outputs(value: Any, names: tuple[tuple[str, ...], tuple[str, ...]], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [anchors, 4] and scores [anchors, classes] among the outputs by name."""
    if not isinstance(value, Mapping):
        raise InputError('the step "detections" comes first, while there still are outputs by name')
    found = [next((name for name in some if name in value), None) for some in names]
    if None in found and len(value) == 2:
        found = _by_shape(value, classes)
    if None in found:
        raise InputError(
            f"there are no outputs of boxes and scores among {list(value)}",
            hint='name them by the arguments "boxes" and "scores"',
        )
    boxes, scores = (without_batch(np.asarray(value[name], np.float32)) for name in found if name is not None)
    if boxes.ndim != 2 or scores.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != len(scores):
        shapes = f"{list(boxes.shape)} and scores {list(scores.shape)}"
        raise InputError(f"boxes {shapes} are not [anchors, 4] and [anchors, classes] of one picture")
    return boxes, scores


def _points(value: Mapping[str, Any], anchors: int) -> np.ndarray | None:
    """The points of each box [anchors, points, 2], if there are any."""
    if "points" not in value:
        return None
    points = without_batch(np.asarray(value["points"], np.float32))
    if points.ndim != 3 or len(points) != anchors or points.shape[2] != 2:
        raise InputError(f"points {list(points.shape)} are not x and y beside {anchors} boxes")
    return points


def _by_shape(value: Mapping[str, np.ndarray], classes: int) -> list[str | None]:
    """The names of boxes and scores where sizes alone tell, because twins of one net name their outputs otherwise."""
    fours = [name for name, array in value.items() if np.shape(array)[-1:] == (4,)]
    others = [name for name in value if name not in fours and np.shape(value[name])[-1:] == (classes,)]
    return [fours[0], others[0]] if len(fours) == len(others) == 1 else [None, None]


def _pair(scale: Any) -> list[Any]:
    items = scale if isinstance(scale, list) else [scale, scale]
    if len(items) != 2:
        raise ArtifactError(f"scale must be one number, or one for x and one for y, not {scale!r}")
    return items
