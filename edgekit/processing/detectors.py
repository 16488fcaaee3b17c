"""Steps from a detector's raw outputs to its boxes, before `detections` chooses among them.

Each gives ``{"boxes": [1, n, 4], "scores": [1, n, classes]}``, corners x0, y0, x1, y1 as shares of the input, and
``"points"`` [1, n, k, 2] where the detector marks points.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.results import as_scores, logistic, named_output, without_batch
from edgekit.processing.steps import Apply, StepContext, integers, names_of, number, one_of, truth

__all__ = ["decode_anchors", "decode_grid", "split_boxes"]

_Decoded = dict[str, np.ndarray]


def decode_anchors(
    *,
    boxes: Any = "boxes",
    scores: Any = "scores",
    grids: Any = None,
    anchors: Any = None,
    scales: Any = 1.0,
    order: str = "xywh",
    sizes: str = "linear",
    points: Any = 0,
    activation: str = "sigmoid",
) -> Apply:
    """Offsets from anchors [1, n, 4 + 2 points] and scores [1, n, classes] -> boxes and scores.

    A center is ``offset / scale * anchor's size + anchor's center``; a size is ``offset / scale * anchor's size``, or
    that size times the exponential of ``offset / scale`` (W. Liu et al., SSD, arXiv 1512.02325, section 2.2). Points
    are offsets like centers.

    Args:
        boxes: Name of the output of offsets, or several of which the first that is there is taken.
        scores: The same of the scores.
        grids: ``[rows, columns, anchors in each cell]`` of each grid: anchors in the middle of its cells, as large as
            the input, row by row (V. Bazarevsky et al., BlazeFace, arXiv 1907.05047).
        anchors: In place of `grids`, ``[center x, center y, width, height]`` of each as shares of the input.
        scales: What offsets are divided by: one number, or four for x, y, width and height.
        order: ``"xywh"``, or ``"yxhw"`` where outputs have y before x.
        sizes: ``"linear"`` or ``"exponential"``.
        points: How many points follow the box.
        activation: ``"sigmoid"`` where the scores are logits, ``"softmax"`` over the classes, or ``"none"``.
    """
    names = names_of("boxes", boxes, "an output"), names_of("scores", scores, "an output")
    table = _anchors(grids, anchors)
    divisors = _four(scales)
    is_turned = one_of("order", order, ("xywh", "yxhw")) == "yxhw"
    is_exponential = one_of("sizes", sizes, ("linear", "exponential")) == "exponential"
    (marks,) = integers("points", points, count=1, least=0)
    activation = one_of("activation", activation, ("sigmoid", "softmax", "none"))

    def apply(value: Any, context: StepContext) -> _Decoded:
        raw, likely = (_output(value, some, "decode_anchors") for some in names)
        if raw.shape != (len(table), 4 + 2 * marks) or len(likely) != len(table) or likely.ndim != 2:
            raise InputError(
                f"offsets {list(raw.shape)} and scores {list(likely.shape)} are not for {len(table)} anchors of "
                f"{4 + 2 * marks} numbers"
            )
        pairs = raw.reshape(len(raw), -1, 2)[:, :, ::-1] if is_turned else raw.reshape(len(raw), -1, 2)
        middle, side = table[:, :2], table[:, 2:]
        center = pairs[:, 0] / divisors[:2] * side + middle
        stretch = pairs[:, 1] / divisors[2:]
        half = (np.exp(stretch) if is_exponential else stretch) * side / 2
        decoded = {"boxes": np.concatenate([center - half, center + half], 1)[None]}
        decoded["scores"] = _activated(likely, activation)[None]
        if marks:
            decoded["points"] = (pairs[:, 2:] / divisors[:2] * side[:, None] + middle[:, None])[None]
        return decoded

    return apply


def _anchors(grids: Any, anchors: Any) -> np.ndarray:
    """float32 [n, 4]: center x, center y, width, height."""
    if (grids is None) == (anchors is None):
        raise ArtifactError('give one of "grids" and "anchors"')
    if anchors is not None:
        if not isinstance(anchors, list) or not anchors or not all(_is_row(row) for row in anchors):
            raise ArtifactError("anchors must be a list of [center x, center y, width, height]")
        return np.array(anchors, np.float32)
    if not isinstance(grids, list) or not grids:
        raise ArtifactError("grids must be a list of [rows, columns, anchors in each cell]")
    parts = []
    for grid in grids:
        rows, columns, copies = integers("grids", grid, count=3, least=1)
        down, across = np.divmod(np.arange(rows * columns), columns)
        middles = np.stack([(across + 0.5) / columns, (down + 0.5) / rows], 1)
        parts.append(np.repeat(middles, copies, axis=0))
    centers = np.concatenate(parts)
    return np.concatenate([centers, np.ones_like(centers)], 1).astype(np.float32)


def _is_row(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 4 and all(isinstance(item, int | float) for item in row)


def _four(scales: Any) -> np.ndarray:
    items = scales if isinstance(scales, list) else [scales] * 4
    if len(items) != 4:
        raise ArtifactError(f"scales must be one number, or four, not {scales!r}")
    return np.array([number("scales", item, above=0.0) for item in items], np.float32)


def decode_grid(*, size: Any, strides: Any, name: Any = None, activation: str = "none") -> Apply:
    """One output [1, n, 5 + classes] of offsets from the corners of grids -> boxes and scores.

    Of each cell: center x and y and the logarithms of width and height, all in cells, then how sure the net is that
    something is there, then its classes; the score is the product (Z. Ge et al., YOLOX, arXiv 2107.08430).

    Args:
        size: Height and width of the input.
        strides: Pixels in a cell of each grid, in the order of the output.
        name: Of the output; may be left out where there is one.
        activation: ``"sigmoid"`` where the scores are logits.
    """
    height, width = integers("size", size, count=2, least=1)
    cells = integers("strides", strides, least=1)
    names = None if name is None else names_of("name", name, "an output")
    activation = one_of("activation", activation, ("none", "sigmoid"))
    corners, steps = _cells(height, width, cells)

    def apply(value: Any, context: StepContext) -> _Decoded:
        raw = _only(value, names, "decode_grid")
        if len(raw) != len(corners) or raw.shape[1] < 6:
            raise InputError(f"an output {list(raw.shape)} is not of the {len(corners)} cells of {width} x {height}")
        sizes = np.array([width, height], np.float32)
        center = (raw[:, :2] + corners) * steps / sizes
        half = np.exp(raw[:, 2:4]) * steps / sizes / 2
        scores = _activated(raw[:, 4:], activation)
        return _both(np.concatenate([center - half, center + half], 1), scores[:, :1] * scores[:, 1:])

    return apply


def _cells(height: int, width: int, strides: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    corners, steps = [], []
    for stride in strides:
        rows, columns = height // stride, width // stride
        down, across = np.divmod(np.arange(rows * columns), columns)
        corners.append(np.stack([across, down], 1))
        steps.append(np.full((rows * columns, 1), stride))
    return np.concatenate(corners).astype(np.float32), np.concatenate(steps).astype(np.float32)


def split_boxes(
    *,
    size: Any = None,
    form: str = "cxcywh",
    anchors: str = "last",
    has_objectness: Any = False,
    points: Any = 0,
    name: Any = None,
    activation: str = "none",
) -> Apply:
    """One output of boxes and scores together -> boxes and scores.

    Along one axis are the four numbers of a box, then how sure the net is that something is there (if
    `has_objectness`; the scores are multiplied by it), then the scores of the classes, then `points` pairs x, y.

    Args:
        size: Height and width that coordinates are divided by; left out where they are shares already.
        form: ``"cxcywh"`` for center and size, ``"xyxy"`` for two corners.
        anchors: Which axis, after the batch, has the boxes: ``"first"`` for [1, n, 4 + classes], ``"last"`` for
            [1, 4 + classes, n].
        has_objectness: See above.
        points: See above.
        name: Of the output; may be left out where there is one.
        activation: ``"sigmoid"`` where the scores are logits.
    """
    height, width = (1, 1) if size is None else integers("size", size, count=2, least=1)
    form, anchors = one_of("form", form, ("cxcywh", "xyxy")), one_of("anchors", anchors, ("first", "last"))
    has_one = truth("has_objectness", has_objectness)
    (marks,) = integers("points", points, count=1, least=0)
    names = None if name is None else names_of("name", name, "an output")
    activation = one_of("activation", activation, ("none", "sigmoid"))
    sizes = np.array([width, height], np.float32)

    def apply(value: Any, context: StepContext) -> _Decoded:
        raw = _only(value, names, "split_boxes")
        raw = raw.T if anchors == "last" else raw
        classes = raw.shape[1] - 4 - has_one - 2 * marks
        if classes < 1:
            raise InputError(f"an output of {raw.shape[1]} numbers a box has no scores", hint='the argument "anchors"?')
        first, second = raw[:, :2] / sizes, raw[:, 2:4] / sizes
        if form == "cxcywh":
            first, second = first - second / 2, first + second / 2
        scores = _activated(raw[:, 4 : 4 + has_one + classes], activation)
        scores = scores[:, :1] * scores[:, 1:] if has_one else scores
        found = _both(np.concatenate([first, second], 1), scores)
        if marks:
            found["points"] = (raw[:, -2 * marks :].reshape(len(raw), marks, 2) / sizes)[None]
        return found

    return apply


def _both(boxes: np.ndarray, scores: np.ndarray) -> _Decoded:
    return {"boxes": boxes[None], "scores": scores[None]}


def _activated(scores: np.ndarray, activation: str) -> np.ndarray:
    if activation == "softmax":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    return logistic(scores) if activation == "sigmoid" else scores


def _only(value: Any, names: tuple[str, ...] | None, op: str) -> np.ndarray:
    found = without_batch(as_scores(value, op)) if names is None else _output(value, names, op)
    if found.ndim != 2:
        raise InputError(f"the step {op!r} wants the boxes of one picture, not {list(found.shape)}")
    return found.astype(np.float32)


def _output(value: Any, names: tuple[str, ...], op: str) -> np.ndarray:
    """The first of `names` among the outputs, as float32 without its batch."""
    return without_batch(np.asarray(named_output(value, names, op), np.float32))
