"""Metrics of what is made up: whether drawn samples are, as a set, like real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Metric, Tally, Truth, single_array

__all__ = ["FRECHET", "frechet_distance"]


def frechet_distance(found: np.ndarray, real: np.ndarray) -> float:
    """Squared Frechet distance of the Gaussians that fit two sets [samples, features] best.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)`` (Dowson and Landau 1982; for generated pictures Heusel et
    al. 2017, arXiv:1706.08500, who take features of a net for it). Zero where mean and covariance agree; it falls with
    the number of samples, so that only sets of one size compare.

    Raises InputError unless both sets have two samples at least, of the same features.
    """
    if min(len(found), len(real)) < 2 or found.shape[1:] != real.shape[1:]:
        raise InputError(
            f"{list(found.shape)} and {list(real.shape)} cannot be compared as sets",
            hint="two samples of each at least",
        )
    first, second = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (found, real))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0.0)).sum()
    distance = np.square(found.mean(axis=0) - real.mean(axis=0)).sum()
    return float(distance + np.trace(first) + np.trace(second) - 2.0 * common)


class _Sets(Tally):
    """Keeps answers and targets themselves, as float32: what is judged are the two sets."""

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__(labels)
        self._found: list[np.ndarray] = []
        self._real: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, answer: Any, truth: Truth) -> None:
        found = np.asarray(single_array(answer), np.float32).reshape(-1)
        real = np.asarray(truth["target"], np.float32).reshape(-1)
        for rows, row in ((self._found, found), (self._real, real)):
            if rows and rows[0].shape != row.shape:
                raise InputError(f"a sample of {row.size} numbers among samples of {rows[0].size}")
        self._found.append(found)
        self._real.append(real)

    def values(self, weights: np.ndarray) -> np.ndarray:
        chosen = np.repeat(np.arange(len(self)), weights.astype(int))
        found, real = (np.stack(rows).astype(np.float64)[chosen] for rows in (self._found, self._real))
        return np.array([frechet_distance(found, real)])


FRECHET = Metric(
    "frechet",
    "Frechet distance of all answers from all targets",
    False,
    ("target",),
    "an array, or one output by name",
    _Sets,
    is_share=False,
    resamples=0,  # samples drawn twice look more alike than any others do
)
