"""Metrics of boxes: mean average precision, as PASCAL VOC and as COCO define it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Metric, Score, Truth, class_name
from edgekit.processing.boxes import overlaps

__all__ = ["MAP", "MAP50"]

_COCO_OVERLAPS = np.arange(50, 100, 5) / 100
_COCO_RECALLS = np.arange(101) / 100
_COCO_MOST = 100
"""Boxes of a class in a picture that count, the best ones."""


@dataclass(frozen=True)
class _Picture:
    """Boxes of one class in one picture: found ones best first, true ones, and how they overlap [found, true]."""

    scores: np.ndarray
    shares: np.ndarray


Match = Callable[[np.ndarray, float], list[bool]]
"""From overlaps [found, true] and the least that counts to whether each found box is right."""


def _match_voc(shares: np.ndarray, least: float) -> list[bool]:
    """A box is right if the true one it overlaps most is overlapped enough, and is not taken by a better box."""
    taken: set[int] = set()
    right = []
    for row in shares:
        best = int(row.argmax()) if row.size else -1
        right.append(best >= 0 and bool(row[best] >= least) and best not in taken)
        if right[-1]:
            taken.add(best)
    return right


def _match_coco(shares: np.ndarray, least: float) -> list[bool]:
    """A box takes, of those true ones no better box has taken, the one it overlaps most, if enough."""
    free = np.ones(shares.shape[1], bool)
    right = []
    for row in shares:
        left = np.where(free, row, -1.0)
        best = int(left.argmax()) if left.size else -1
        right.append(best >= 0 and bool(left[best] >= min(least, 1 - 1e-10)))
        if right[-1]:
            free[best] = False
    return right


def _precisions(pictures: Sequence[_Picture], least: float, match: Match) -> tuple[np.ndarray, np.ndarray, int]:
    """Recall and highest precision at this or a higher recall, after each found box in the order of scores."""
    true_count = sum(picture.shares.shape[1] for picture in pictures)
    scores = np.concatenate([picture.scores for picture in pictures])
    right = np.array([hit for picture in pictures for hit in match(picture.shares, least)], bool)
    right = right[np.argsort(-scores, kind="stable")]
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    return hits / max(true_count, 1), np.maximum.accumulate(precision[::-1])[::-1], true_count


def _area(pictures: Sequence[_Picture]) -> float:
    """Area under precision over recall, at an overlap of one half: a step at every recall that is reached."""
    recall, precision, _ = _precisions(pictures, 0.5, _match_voc)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def _mean_at_recalls(pictures: Sequence[_Picture]) -> float:
    """Mean over ten overlaps of the mean precision at 101 recalls, zero where a recall is not reached."""
    total = []
    for least in _COCO_OVERLAPS:
        recall, precision, _ = _precisions(pictures, float(least), _match_coco)
        places = np.searchsorted(recall, _COCO_RECALLS, side="left")
        total.append(np.append(precision, 0.0)[np.minimum(places, len(precision))].mean())
    return float(np.mean(total))


def _mean(
    answers: Sequence[Any],
    truths: Sequence[Truth],
    labels: Sequence[str],
    average: Callable[[Sequence[_Picture]], float],
    most: int | None,
) -> Score:
    true = [[(class_name(item["label"], labels), _box(item)) for item in truth["boxes"]] for truth in truths]
    names = sorted({name for boxes in true for name, _ in boxes}, key=lambda n: (labels.index(n) if labels else 0, n))
    if not names:
        raise InputError("there is not one true box in all the samples", hint="take more samples")
    found = [
        [{**item, "label": class_name(item["label"], labels)} for item in sorted(answer, key=lambda i: -i["score"])]
        for answer in answers
    ]
    per_class = {}
    for name in names:
        pictures = [_picture(name, some, boxes, most) for some, boxes in zip(found, true, strict=True)]
        per_class[name] = average(pictures)
    return Score(float(np.mean(list(per_class.values()))), per_class)


def _picture(
    name: str, found: Sequence[Mapping[str, Any]], true: Sequence[tuple[str, list[float]]], most: int | None
) -> _Picture:
    mine = [item for item in found if item["label"] == name][:most]
    boxes = np.array([_box(item) for item in mine], np.float64).reshape(-1, 4)
    targets = np.array([box for label, box in true if label == name], np.float64).reshape(-1, 4)
    return _Picture(np.array([item["score"] for item in mine], np.float64), overlaps(boxes, targets))


def _box(item: Mapping[str, Any]) -> list[float]:
    box = [float(value) for value in item["box"]]
    if len(box) != 4 or not all(np.isfinite(box)):
        raise InputError(f"{item['box']} is not a box", hint="a box is [x0, y0, x1, y1], relative to the picture")
    return box


def _map50(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return _mean(answers, truths, labels, _area, None)


def _map(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return _mean(answers, truths, labels, _mean_at_recalls, _COCO_MOST)


_BOXES = 'what the step "detections" gives'

MAP50 = Metric("map50", "mean average precision at IoU 0.5", True, ("boxes",), _BOXES, _map50)
"""PASCAL VOC's since 2010: the area under the whole curve of precision made monotone, and the mean over classes that
occur (M. Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, 2015)."""

MAP = Metric("map", "mean average precision at IoU 0.50 to 0.95", True, ("boxes",), _BOXES, _map)
"""COCO's: mean over ten overlaps, 101 recalls and the classes that occur, where the best 100 boxes of a class in a
picture count (T.-Y. Lin et al., Microsoft COCO, arXiv 1405.0312, and the challenge's page on detection evaluation)."""
