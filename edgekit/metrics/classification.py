"""Metrics of classes: how often the right one is named, over all samples or over those of each class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Confusion, Metric, Tally, Truth, single_array
from edgekit.metrics.sums import ClassNames, Rows

__all__ = [
    *("ACCURACY", "BALANCED_ACCURACY", "F1", "F1_MICRO", "F1_WEIGHTED", "PRECISION", "PRECISION_MICRO"),
    *("PRECISION_WEIGHTED", "RANKED", "RECALL", "RECALL_MICRO", "RECALL_WEIGHTED", "TOP1", "TOP5", "ranking"),
]

RANKED = 'the entries of the step "top_k", or the one of "argmax", or an array of scores'

_SUSPICIOUS = 10
"""Samples from which on it is remarkable that all answers are the same."""


def ranking(answer: Any, labels: Sequence[str]) -> list[tuple[Any, float]]:
    """Classes with their scores, best first.

    Of an array of scores the classes are indices; a single score of two classes is the chance of the second.

    Raises InputError where the array does not suit the labels.
    """
    answer = single_array(answer)
    if isinstance(answer, Mapping):
        return [(answer["label"], float(answer.get("score", 1.0)))]
    if isinstance(answer, list | tuple):
        return [(entry["label"], float(entry["score"])) for entry in answer]
    scores = np.asarray(answer, np.float64)
    if sum(size > 1 for size in scores.shape) > 1:
        raise InputError(f"scores {list(scores.shape)} are not those of one sample", hint=f"an answer must be {RANKED}")
    scores = scores.reshape(-1)
    if scores.size == 1 and len(labels) in (0, 2):
        chance = float(scores[0])
        if not 0 <= chance <= 1:
            raise InputError(
                f"one score of {chance:g} does not say which of two classes it is", hint='put the step "sigmoid" first'
            )
        return sorted([(0, 1 - chance), (1, chance)], key=lambda pair: -pair[1])
    if not scores.size or (labels and len(labels) != scores.size):
        raise InputError(f"{scores.size} scores for {len(labels)} classes", hint="labels of the model, one for each")
    order = np.argsort(-scores, kind="stable")
    return list(zip(order.tolist(), scores[order].tolist(), strict=True))


Figures: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, np.ndarray]]
"""From how many samples of each class are true, answered, and both, to the figure and those of the classes."""


class Classes(Tally):
    """Keeps of each sample its class, the class that was answered, and whether the right one is among the best.

    Args:
        labels: Names of the classes by index; without them the classes are those that occur.
        count: How many of the best count as an answer.
        figures: The figure; by default the share of samples whose class is among the best.
    """

    def __init__(self, labels: Sequence[str], count: int = 1, figures: Figures | None = None) -> None:
        super().__init__(labels)
        self._count, self._figures = count, figures
        self._known = ClassNames(labels)
        self._rows = Rows(3, "i")

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, answer: Any, truth: Truth) -> None:
        scores = ranking(answer, self.labels)
        if any(math.isnan(score) for _, score in scores):
            raise InputError("a score is NaN")
        ranked = scores[: self._count]
        if len(ranked) < min(self._count, len(self.labels)) or not ranked:
            raise InputError(
                f"an answer names {len(ranked)} classes, the best {self._count} are asked for",
                hint=f'give the step "top_k" the argument "k": {self._count}',
            )
        true = self._known.true(truth["label"])
        found = [self._known.index(name) for name, _ in ranked]
        self._rows.add((true, found[0], int(true in found)))

    def values(self, weights: np.ndarray) -> np.ndarray:
        true, found, hit = self._rows.columns
        size = len(self._known.names)
        support, right = np.bincount(true, weights, size), np.bincount(true, weights * hit, size)
        if self._figures is None:
            whole, each = right.sum() / support.sum(), _share(right, support)
        else:
            whole, each = self._figures(support, np.bincount(found, weights, size), right)
        return np.append(whole, each[self._known.order])

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._known.names[index] for index in self._known.order)

    @property
    def support(self) -> Mapping[str, int]:
        counts = np.bincount(self._rows.table[:, 0], minlength=len(self._known.names))
        return {self._known.names[index]: int(counts[index]) for index in self._known.order}

    @property
    def confusion(self) -> Confusion:
        size, order = len(self._known.names), np.argsort(self._known.order)
        cells, counts = np.unique(
            order[self._rows.table[:, 0]] * size + order[self._rows.table[:, 1]], return_counts=True
        )
        rows = zip((cells // size).tolist(), (cells % size).tolist(), counts.tolist(), strict=True)
        return Confusion(self.classes, tuple(rows))

    @property
    def hits(self) -> np.ndarray | None:
        return self._rows.table[:, 2] > 0 if self._figures is None else None

    def shares(self) -> list[tuple[int, int]] | None:
        if self._figures is not None:
            return None
        true, _, hit = self._rows.table.T
        size = len(self._known.names)
        support, right = np.bincount(true, minlength=size), np.bincount(true, hit, size).astype(int)
        pairs = [(int(right[index]), int(support[index])) for index in self._known.order]
        return [(int(hit.sum()), len(hit)), *pairs]

    @property
    def notes(self) -> tuple[str, ...]:
        true, found, _ = self._rows.table.T
        if len(true) < _SUSPICIOUS or len(np.unique(true)) < 2:
            return ()
        if len(np.unique(found)) == 1:
            return (f"all {len(found)} answers are {self._known.names[found[0]]!r}, whatever the sample",)
        said = _misplaced(true, found, self._known.names)
        return (said,) if said else ()


def _misplaced(true: np.ndarray, found: np.ndarray, names: Sequence[str]) -> str:
    """What looks like classes in another order, or one too many at the front; empty for nothing."""
    pairs, counts = np.unique(true.astype(np.int64) * len(names) + found, return_counts=True)
    answers: dict[int, tuple[int, int]] = {}
    for row, column, count in zip(*np.divmod(pairs, len(names)), counts, strict=True):
        answers[int(row)] = max(answers.get(int(row), (0, 0)), (int(count), int(column)))
    agreed, right = sum(count for count, _ in answers.values()) / len(true), float(np.mean(true == found))
    if len(answers) < 3 or agreed < right + 0.3:
        return ""
    for step in (1, -1):
        moved = float(np.mean(true + step == found))
        if moved >= max(0.5, right + 0.3, 0.9 * agreed):
            return (
                f"{moved:.0%} of the answers are right if the data's classes are moved by {step:+d}, {right:.0%} as "
                "they are: is there a background class that only one of data and model counts?"
            )
    if agreed < 0.8 or len({column for _, column in answers.values()}) < len(answers):
        return ""
    true_name, answered = next((names[row], names[column]) for row, (_, column) in answers.items() if row != column)
    return (
        f"{agreed:.0%} of the answers are one and the same class for each class of the data, and {right:.0%} the right "
        f"one ({true_name!r} is answered as {answered!r}): are the labels of data and model in the same order?"
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part` of `whole`, NaN where there is nothing."""
    shares: np.ndarray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares


def _precision(support: np.ndarray, answered: np.ndarray, right: np.ndarray) -> np.ndarray:
    """0 for a class that occurs and is never answered."""
    return np.where(support + answered > 0, np.nan_to_num(_share(right, answered)), np.nan)


def _recall(support: np.ndarray, answered: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.where(support + answered > 0, np.nan_to_num(_share(right, support)), np.nan)


def _f1(support: np.ndarray, answered: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The harmonic mean of precision and recall."""
    return _share(2 * right, support + answered)


_Each = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _macro(each: _Each) -> Figures:
    """The mean of the classes that are true or answered anywhere."""

    def figures(support: np.ndarray, answered: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
        found = each(support, answered, right)
        return float(np.nanmean(found)), found

    return figures


def _weighted(each: _Each) -> Figures:
    """The mean of the classes, each as often as it is true."""

    def figures(support: np.ndarray, answered: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
        found = each(support, answered, right)
        return float((np.nan_to_num(found) * support).sum() / support.sum()), found

    return figures


def _micro(each: _Each) -> Figures:
    """Of all samples together, as if there were one class: where each has one class, that is the accuracy."""

    def figures(support: np.ndarray, answered: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
        together = (np.array([counts.sum()]) for counts in (support, answered, right))
        return float(each(*together)[0]), each(support, answered, right)

    return figures


def _balanced(support: np.ndarray, answered: np.ndarray, right: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of the recalls of classes that are true anywhere."""
    found = _share(right, support)
    return float(np.nanmean(found)), found


def _top(count: int) -> Callable[[Sequence[str]], Tally]:
    return lambda labels: Classes(labels, count)


def _metric(name: str, title: str, figures: Figures) -> Metric:
    return Metric(name, title, True, ("label",), RANKED, lambda labels: Classes(labels, figures=figures))


TOP1 = Metric("top1", "share of samples whose best class is right", True, ("label",), RANKED, _top(1))
TOP5 = Metric("top5", "share of samples whose class is among the best five", True, ("label",), RANKED, _top(5))
ACCURACY = replace(TOP1, name="accuracy")
BALANCED_ACCURACY = _metric("balanced-accuracy", "mean over classes of the share that is right", _balanced)
PRECISION = _metric("precision", "right ones of those answered, mean over classes", _macro(_precision))
PRECISION_MICRO = _metric("precision-micro", "right ones of those answered, over all samples", _micro(_precision))
PRECISION_WEIGHTED = _metric("precision-weighted", "right ones of those answered, by class size", _weighted(_precision))
RECALL = _metric("recall", "right ones of those that are true, mean over classes", _macro(_recall))
RECALL_MICRO = _metric("recall-micro", "right ones of those that are true, over all samples", _micro(_recall))
RECALL_WEIGHTED = _metric("recall-weighted", "right ones of those that are true, by class size", _weighted(_recall))
F1 = _metric("f1", "harmonic mean of precision and recall, mean over classes", _macro(_f1))
F1_MICRO = _metric("f1-micro", "harmonic mean of precision and recall, over all samples", _micro(_f1))
F1_WEIGHTED = _metric("f1-weighted", "harmonic mean of precision and recall, by class size", _weighted(_f1))
