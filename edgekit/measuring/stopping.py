"""When a median is known well enough: its interval, and what ends the rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

__all__ = ["Interval", "interval_of", "median_interval", "quantile_upper"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Where a median lies with `confidence`, in the unit of what it is of.

    It is about this process on this machine at this time. Another process of the same file may differ by more: where
    its memory comes to lie counts. Rounds next to each other are more alike than chance, so it is a little too narrow.
    """

    low: float
    high: float
    confidence: float

    def half_width(self, middle: float) -> float:
        """Half of it as a share of `middle`; infinite when that is 0."""
        return (self.high - self.low) / 2 / middle if middle else float("inf")

    def to_json(self) -> dict[str, float]:
        return {key: round(value, 4) for key, value in asdict(self).items()}


def median_interval(rounds: Sequence[Sequence[float]], confidence: float = CONFIDENCE) -> Interval | None:
    """The interval of the median of the rounds' medians; None of fewer than six rounds, which cannot tell."""
    return interval_of([float(np.median(one)) for one in rounds if one], confidence)


def interval_of(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The interval of the median of `values` between two of them: nothing is assumed but that they are alike.

    The k-th smallest and the k-th largest enclose the median but for the chance that fewer than k of n fall on one of
    its sides, each with chance 1/2: David and Nagaraja, "Order Statistics", 3rd edition, section 7.1.

    Returns:
        The narrowest such interval that holds with at least `confidence`, with the confidence it really has; None when
        not even the smallest and the largest do.
    """
    ordered = sorted(values)
    count = len(ordered)
    found, below = None, 0.0
    for k in range(count // 2):
        below += math.comb(count, k) / 2**count  # chance that k or fewer fall below the median
        if 1 - 2 * below < confidence:
            break
        found = Interval(ordered[k], ordered[count - 1 - k], 1 - 2 * below)
    return found


def quantile_upper(values: Sequence[float], quantile: float, confidence: float = CONFIDENCE) -> float | None:
    """What the `quantile` of the population lies under with `confidence`: the smallest of `values` that says so.

    The k-th smallest of n is above it unless k or more of n fall below it: the one-sided form of `interval_of`. This is
    what MLPerf's LoadGen does to end a run early. None when even the largest is not enough: 29 values are for the 90th
    percentile, 299 for the 99th.
    """
    ordered = sorted(values)
    count = len(ordered)
    reached = 0.0
    for k in range(count):
        # chance that exactly k fall below the quantile, in logarithms: the coefficients overflow from 1,030 values on
        log = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        reached += math.exp(log + k * math.log(quantile) + (count - k) * math.log1p(-quantile))
        if reached >= confidence:
            return ordered[k]
    return None
