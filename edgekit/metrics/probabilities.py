"""Metrics of probabilities: how much the truth surprises a model, and whether it is right as often as it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Metric, Tally, Truth
from edgekit.metrics.classification import RANKED, ranking
from edgekit.metrics.sums import ClassNames, Rows

__all__ = ["ECE", "LOG_LOSS"]

_BINS = 15
_SLACK = 1e-4
_FAR_FROM_ONE = 0.02
_LEAST = float(np.finfo(np.float64).eps)
"""What a probability of 0 counts as, as scikit-learn has it, so that one sample does not make the mean infinite."""


class _Likelihoods(Tally):
    """Keeps of each sample the probability of the truth, that of the best class, whether it is right, and the sum."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(labels)
        self._known = ClassNames(labels)
        self._rows = Rows(4)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, answer: Any, truth: Truth) -> None:
        ranked = {self._known.index(name): score for name, score in ranking(answer, self.labels)}
        scores = np.array(list(ranked.values()))
        if not (scores.min() >= -_SLACK and scores.max() <= 1 + _SLACK and scores.sum() <= 1 + _FAR_FROM_ONE):
            raise InputError(
                f"scores from {scores.min():.4g} to {scores.max():.4g} with a sum of {scores.sum():.4g} are no "
                "probabilities",
                hint='put the step "softmax" before "top_k"',
            )
        true = self._known.true(truth["label"])
        if true not in ranked:
            raise InputError(f"an answer has no score for {truth['label']!r}", hint='give "top_k" a larger "k"')
        best = max(ranked, key=ranked.__getitem__)
        self._rows.add((ranked[true], min(ranked[best], 1.0), float(best == true), float(scores.sum())))

    @property
    def notes(self) -> tuple[str, ...]:
        sums = self._rows.table[:, 3]
        off = int((np.abs(sums - 1) > _FAR_FROM_ONE).sum())
        if not off:
            return ()
        return (f"the scores of {off} of {len(sums)} samples do not sum to 1, the least to {sums.min():.3g}",)


class _LogLoss(_Likelihoods):
    _losses = np.zeros(0)

    def values(self, weights: np.ndarray) -> np.ndarray:
        if len(self._losses) != len(self):
            self._losses = -np.log(np.clip(self._rows.columns[0], _LEAST, 1.0))
        return np.array([weights @ self._losses / weights.sum()])


class _Calibration(_Likelihoods):
    """Over bins of equal width of the best class's probability, the gap between it and the share that is right.

    C. Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599, section 2; with 15 bins, open
    below.
    """

    def values(self, weights: np.ndarray) -> np.ndarray:
        _, sure, right, _ = self._rows.columns
        bins = np.clip(np.ceil(sure * _BINS).astype(int) - 1, 0, _BINS - 1)
        gaps = np.bincount(bins, weights * right, _BINS) - np.bincount(bins, weights * sure, _BINS)
        return np.array([np.abs(gaps).sum() / weights.sum()])


LOG_LOSS = Metric(
    "log-loss",
    "mean of -ln of the probability of the right class, nats",
    False,
    ("label",),
    RANKED,
    _LogLoss,
    needs_every_class=True,
    is_share=False,
)
ECE = Metric(
    "ece",
    "expected calibration error: how far sureness is from the share that is right, 15 bins",
    False,
    ("label",),
    RANKED,
    _Calibration,
    needs_every_class=True,
)
