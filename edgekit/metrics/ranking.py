"""Metrics of scores, whatever the threshold: the areas under the ROC curve and under precision over recall."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Metric, Tally, Truth, class_name, single_array
from edgekit.metrics.classification import ranking
from edgekit.metrics.sums import ClassNames, Rows

__all__ = ["AUC", "AUC_PR", "NORMAL"]

NORMAL = "normal"
"""What the class is called that is not looked for."""

_ONLY = ""
"""Whose score it is where an answer has one and does not say."""

Area: TypeAlias = Callable[[np.ndarray, np.ndarray], float]
"""From the weights of positive and negative samples at each distinct score, ascending, to an area."""


def _roc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The chance that a positive sample has a higher score than a negative one; ties count half.

    It is the Mann-Whitney statistic over the product of the two counts (J. Hanley, B. McNeil, The Meaning and Use of
    the Area under a ROC Curve, 1982).
    """
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """Sum over thresholds of the precision there times what recall gains: no interpolation, as scikit-learn has it."""
    right, wrong = np.cumsum(positive[::-1]), np.cumsum(negative[::-1])
    answered = right + wrong
    precision = np.divide(right, answered, out=np.zeros(len(right)), where=answered > 0)
    return float((np.diff(right, prepend=0.0) * precision).sum() / right[-1])


class Ranks(Tally):
    """Keeps of each sample its class and the score of every class in the answer.

    Of two labels the second is the positive one; without labels, the one that is not called "normal", or "1" of "0"
    and "1". Of more classes each is held against all others, and the figure is their mean.
    """

    def __init__(self, labels: Sequence[str], area: Area) -> None:
        super().__init__(labels)
        self._area = area
        self._known = ClassNames(labels)
        self._true = Rows(1, "i")
        self._scores: dict[str, array[float]] = {}
        """By class, NaN where an answer has none."""

        self._sorted: dict[str, tuple[np.ndarray, int]] = {}

    def __len__(self) -> int:
        return len(self._true)

    def add(self, answer: Any, truth: Truth) -> None:
        scores = self._scores_of(single_array(answer))
        if any(math.isnan(score) for score in scores.values()):
            raise InputError("a score is NaN")
        self._true.add((self._known.true(truth["label"]),))
        count = len(self._true)
        for name in {*scores, *self._scores}:
            column = self._scores.setdefault(name, array("d", [math.nan]) * (count - 1))
            column.append(scores.get(name, math.nan))
        self._sorted.clear()

    def _scores_of(self, answer: Any) -> dict[str, float]:
        if isinstance(answer, Mapping):
            return {_ONLY: float(answer["score"])}
        if isinstance(answer, list | tuple) and answer and isinstance(answer[0], Mapping):
            return {class_name(entry["label"], self.labels): float(entry["score"]) for entry in answer}
        if np.size(answer) == 1:
            return {_ONLY: float(np.asarray(answer, np.float64).item())}
        return {class_name(index, self.labels): score for index, score in ranking(answer, self.labels)}

    def values(self, weights: np.ndarray) -> np.ndarray:
        areas = [self._one(name, weights) for name in self._wanted]
        if len(areas) == 1:
            return np.array(areas)
        return np.array([np.mean(areas), *areas])

    def _one(self, name: str, weights: np.ndarray) -> float:
        if name not in self._sorted:
            distinct, found = np.unique(self._scores_for(name), return_inverse=True)
            self._sorted[name] = found.astype(np.int32), len(distinct)
        places, count = self._sorted[name]
        is_positive = self._true.columns[0] == self._known.names.index(name)
        positive = np.bincount(places, weights * is_positive, count)
        negative = np.bincount(places, weights, count) - positive
        if not positive.sum() or not negative.sum():
            raise InputError(
                f"an area needs samples of two classes: {int(positive.sum())} are {name!r}, {int(negative.sum())} not",
                hint="take more samples",
            )
        return self._area(positive, negative)

    def _scores_for(self, name: str) -> np.ndarray:
        absent = np.full(len(self), math.nan)
        found, only = (np.array(self._scores.get(key, absent)) for key in (name, _ONLY))
        scores = np.where(np.isnan(found), only, found)
        if np.isnan(scores).any():
            raise InputError(f"an answer has no score for {name!r}", hint='give the step "top_k" a larger "k"')
        return scores

    @property
    def work(self) -> int:
        return 3 * len(self) * len(self._wanted)

    @property
    def _wanted(self) -> list[str]:
        """The positive class, or of more than two all."""
        names = [self._known.names[index] for index in self._known.order]
        if len(self.labels) == 2:
            return [names[1]]
        if len(names) < 2:
            raise InputError(f"an area needs samples of two classes, all are {names[0]!r}", hint="take more samples")
        if not self.labels and names == ["0", "1"]:
            return ["1"]
        others = [name for name in names if name != NORMAL]
        if len(others) == 1 and NORMAL in names:
            return others
        if len(names) > 2 and _ONLY not in self._scores:
            return names
        raise InputError(
            f"which of the classes {', '.join(names)} is the one to be found?",
            hint=f'two labels, the second of which is that, or one called "{NORMAL}"; or scores of every class',
        )

    @property
    def classes(self) -> tuple[str, ...]:
        wanted = self._wanted
        return tuple(wanted) if len(wanted) > 1 else ()

    @property
    def support(self) -> Mapping[str, int]:
        counts = np.bincount(self._true.columns[0], minlength=len(self._known.names))
        return {self._known.names[index]: int(counts[index]) for index in self._known.order}


_SCORES = 'a number, a mapping with a "score", the entries of the step "top_k", or an array of scores'


def _metric(name: str, title: str, area: Area) -> Metric:
    return Metric(name, title, True, ("label",), _SCORES, lambda labels: Ranks(labels, area), needs_every_class=True)


AUC = _metric("auc", "area under the ROC curve; of more than two classes each against the rest, mean", _roc)
AUC_PR = _metric("auc-pr", "average precision, the area under precision over recall by steps", _average_precision)
