"""Metrics of numbers: errors of regression, and how well a language model expects a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Metric, Tally, Truth, single_array
from edgekit.metrics.sums import Rows, Sums
from edgekit.rows import load_arrays

__all__ = ["BITS_PER_TOKEN", "MAE", "PERPLEXITY", "R2", "RMSE"]


_ROUNDING = 1e-10
"""Of the largest target: what differs by less is one and the same."""


def _both(answer: Any, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of the answer and of the truth, in a row."""
    given = np.asarray(single_array(answer), np.float64)
    target = np.asarray(_target(truth), np.float64)
    if given.size != target.size or not given.size:
        raise InputError(f"an answer of {list(given.shape)} is not like its target of {list(target.shape)}")
    if not (np.isfinite(given).all() and np.isfinite(target).all()):
        raise InputError("an answer or its target is NaN or infinite")
    return given.reshape(-1), target.reshape(-1)


def _target(truth: Truth) -> Any:
    target = truth.get("target", truth.get("label"))
    if isinstance(target, Path):
        return load_arrays(target)
    if isinstance(target, str):
        try:
            return float(target)
        except ValueError:
            raise InputError(f"{target!r} is no number to compare an answer with") from None
    return target


def _squares(answer: Any, truth: Truth) -> tuple[float, int]:
    given, target = _both(answer, truth)
    return float(np.square(given - target).sum()), given.size


def _distances(answer: Any, truth: Truth) -> tuple[float, int]:
    given, target = _both(answer, truth)
    return float(np.abs(given - target).sum()), given.size


class _Determination(Tally):
    """Keeps the numbers of each answer and of its target."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(labels)
        self._rows: Rows | None = None
        self._known: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._rows) if self._rows is not None else 0

    def add(self, answer: Any, truth: Truth) -> None:
        given, target = _both(answer, truth)
        rows = self._rows or Rows(2 * given.size)
        rows.add([*given.tolist(), *target.tolist()])
        self._rows, self._known = rows, None

    @property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """[samples, 3 outputs]: targets from their mean, squared, and squared errors; the variance that is rounding."""
        if self._known is None:
            assert self._rows is not None
            given, target = np.split(self._rows.table, 2, axis=1)
            moved = target - target.mean(axis=0)
            self._known = (
                np.hstack([moved, np.square(moved), np.square(target - given)]),
                np.square(_ROUNDING * np.abs(target).max(axis=0)),
            )
        return self._known

    @property
    def work(self) -> int:
        return self._moments[0].size

    def values(self, weights: np.ndarray) -> np.ndarray:
        moments, least = self._moments
        first, second, error = np.split(weights @ moments, 3)
        spread = second - np.square(first) / weights.sum()
        if not (spread > least * weights.sum()).all():
            raise InputError("R2 says nothing where all targets are the same", hint="take more samples, or rmse")
        return np.array([np.mean(1 - error / spread)])


def _surprise(answer: Any, truth: Truth) -> tuple[float, int]:
    return float(answer["nats"]), int(answer["tokens"])


def _nats_per_token(sums: np.ndarray) -> float:
    nats, tokens = sums.tolist()
    if tokens < 1 or not math.isfinite(nats):
        raise InputError(f"{nats:g} nats over {tokens:g} tokens say nothing", hint="take longer texts")
    return nats / tokens


_NUMBERS = "a number, numbers, or one output by name"
_TEXT = '{"nats": sum of -ln p over the predicted tokens of the text, "tokens": how many they are}'
_TRUTHS = ("target", "label")

RMSE = Metric(
    "rmse",
    "root of the mean squared error",
    False,
    _TRUTHS,
    _NUMBERS,
    lambda labels: Sums(2, _squares, lambda sums: math.sqrt(sums[0] / sums[1])),
    is_share=False,
)
MAE = Metric(
    "mae",
    "mean absolute error",
    False,
    _TRUTHS,
    _NUMBERS,
    lambda labels: Sums(2, _distances, lambda sums: float(sums[0] / sums[1])),
    is_share=False,
)
R2 = Metric("r2", "share of the variance that is explained, mean over outputs", True, _TRUTHS, _NUMBERS, _Determination)
PERPLEXITY = Metric(
    "perplexity",
    "perplexity of a token, over all texts together",
    False,
    (),
    _TEXT,
    lambda labels: Sums(2, _surprise, lambda sums: math.exp(min(_nats_per_token(sums), 700.0))),
    is_share=False,
)
BITS_PER_TOKEN = Metric(
    "bits-per-token",
    "bits needed for a token, over all texts together",
    False,
    (),
    _TEXT,
    lambda labels: Sums(2, _surprise, lambda sums: _nats_per_token(sums) / math.log(2)),
    is_share=False,
)
