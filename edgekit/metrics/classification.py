"""Metrics of classes: how often the right one is named, and how well scores tell two classes apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Metric, Score, Truth, class_name, single_array

__all__ = ["AUC", "TOP1", "TOP5"]

_RANKED = 'the entries of the step "top_k", or the one of "argmax"'
_NORMAL = "normal"


def _accuracy(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str], count: int) -> Score:
    """Share of the samples whose class is among the best `count`, over all and for the samples of each class."""
    hits: dict[str, list[bool]] = {}
    for answer, truth in zip(answers, truths, strict=True):
        ranked = [answer] if isinstance(answer, Mapping) else list(answer)
        named = [class_name(entry["label"], labels) for entry in ranked[:count]]
        if len(named) < min(count, len(labels)):
            raise InputError(
                f"an answer names {len(named)} classes, the best {count} are asked for",
                hint=f'give the step "top_k" the argument "k": {count}',
            )
        right = class_name(truth["label"], labels)
        hits.setdefault(right, []).append(right in named)
    per_class = {name: float(np.mean(hits[name])) for name in sorted(hits, key=_order(labels))}
    return Score(float(np.mean([hit for some in hits.values() for hit in some])), per_class)


def _order(labels: Sequence[str]) -> Any:
    places = {label: index for index, label in enumerate(labels)}
    return lambda name: (places.get(name, len(places)), name)


def _top1(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return _accuracy(answers, truths, labels, 1)


def _top5(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return _accuracy(answers, truths, labels, 5)


def _auc(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    """The chance that a positive sample has a higher score than a negative one; ties count half.

    It is the Mann-Whitney statistic over the product of the two counts (J. Hanley, B. McNeil, The Meaning and Use of
    the Area under a ROC Curve, 1982). Of two labels the second is the positive one; without labels, the one that is
    not called "normal", or "1" of "0" and "1".
    """
    names = [class_name(truth["label"], labels) for truth in truths]
    positive = _positive(sorted(set(names)), labels)
    is_positive = np.array([name == positive for name in names])
    scores = np.array([_score_of(answer, positive) for answer in answers], np.float64)
    if np.isnan(scores).any():
        raise InputError("a score is NaN")
    count = int(is_positive.sum())
    if count in (0, len(names)):
        raise InputError(f"auc needs samples of two classes, all are {names[0]!r}", hint="take more samples")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse.reshape(-1)]
    wins = ranks[is_positive].sum() - count * (count + 1) / 2
    return Score(float(wins / (count * (len(names) - count))))


def _positive(names: Sequence[str], labels: Sequence[str]) -> str:
    if len(labels) == 2:
        return labels[1]
    if not labels and list(names) == ["0", "1"]:
        return "1"
    others = [name for name in names if name != _NORMAL]
    if len(others) == 1 and _NORMAL in (*names, *labels):
        return others[0]
    raise InputError(
        f"which of the classes {', '.join(labels or names)} is the one to be found?",
        hint=f'two labels, the second of which is that, or one called "{_NORMAL}"',
    )


def _score_of(answer: Any, positive: str) -> float:
    """The score of the class `positive`, or the only score there is."""
    answer = single_array(answer)
    if isinstance(answer, Mapping):
        return float(answer["score"])
    if isinstance(answer, list | tuple):
        entry = next((entry for entry in answer if entry["label"] == positive), None)
        if entry is None:
            raise InputError(f"an answer has no score for {positive!r}", hint='give the step "top_k" a larger "k"')
        return float(entry["score"])
    return float(np.asarray(answer).item())


TOP1 = Metric("top1", "share of samples whose best class is right", True, ("label",), _RANKED, _top1)
TOP5 = Metric("top5", "share of samples whose class is among the best five", True, ("label",), _RANKED, _top5)
AUC = Metric(
    "auc",
    "area under the ROC curve",
    True,
    ("label",),
    'a number, a mapping with a "score", or the entries of the step "top_k"',
    _auc,
)
