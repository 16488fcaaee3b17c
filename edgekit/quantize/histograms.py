"""Histograms whose range grows with the data, in constant memory, and the clipped ranges solved from them.

The width of a bin is a power of two and its edges are multiples of it, so 0 is always an edge. When the range grows,
pairs of bins become one until it fits again: no count is ever split or estimated. So a histogram depends on the values
alone, never on their order or on how they were dealt out, and merging two of them is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["BINS", "SOLVERS", "Histogram", "Range"]

BINS = 4096
"""Bins of a histogram, of which more than half are in use; 32 KB."""

TAIL = 1e-4
"""The share of the values that ``percentile`` leaves out at each end, at most: 99.99 % lie below the high end."""

_MIN_EXPONENT = -150
"""Bins of 2**-150 tell apart all that float32 does."""

_SIGNIFICANT_BITS = 24
"""Bins narrower than this below the largest value would tell apart what float32 does not."""


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value a tensor took, or is to keep."""

    low: float
    high: float

    def __or__(self, other: Range) -> Range:
        """The range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


class Histogram:
    """Exact counts of finite float32 values.

    Attributes:
        counts: int64, (BINS,): how many values lie in each bin; the lower edge belongs to it.
        first: The multiple of the width at which the first bin begins; the smallest value lies in that bin.
        exponent: The width of a bin is 2 to this power.
        zeros: How many values are exactly 0, which every integer grid holds without error.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.first = 0
        self.exponent = _MIN_EXPONENT
        self.zeros = 0
        self._low, self._high = math.inf, -math.inf

    @property
    def width(self) -> float:
        return 2.0**self.exponent

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def edges(self) -> np.ndarray:
        """The edges between the bins: float64, (BINS + 1,)."""
        return np.arange(self.first, self.first + BINS + 1) * self.width

    @property
    def state(self) -> dict[str, np.ndarray]:
        """All it knows: ``counts``, int64 (BINS,); ``grid``, int64 (3,); ``ends``, float64 (2,). Not a copy."""
        grid, ends = np.array([self.first, self.exponent, self.zeros], np.int64), np.array([self._low, self._high])
        return {"counts": self.counts, "grid": grid, "ends": ends}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> Histogram:
        """The histogram whose `state` that was; it takes the arrays."""
        histogram = cls()
        histogram.counts = state["counts"]
        histogram.first, histogram.exponent, histogram.zeros = map(int, state["grid"])
        histogram._low, histogram._high = map(float, state["ends"])
        return histogram

    def add(self, values: np.ndarray) -> None:
        """Counts finite float32 values of any shape."""
        if not values.size:
            return
        self._reach(float(values.min()), float(values.max()))
        # Exact, as the factor is a power of two and 64 bits do not underflow; casting alone would round towards 0.
        index = np.floor(np.multiply(values.ravel(), 2.0**-self.exponent, dtype=np.float64)).astype(np.intp)
        index -= self.first
        self.counts += np.bincount(index, minlength=BINS)
        self.zeros += values.size - int(np.count_nonzero(values))

    def __or__(self, other: Histogram) -> Histogram:
        """The histogram of the values of both."""
        both = Histogram()
        for one in (self, other):
            if one.total:
                both._reach(one._low, one._high)
        for one in (self, other):
            both.counts += one._placed(both.exponent, both.first)
            both.zeros += one.zeros
        return both

    def _reach(self, low: float, high: float) -> None:
        """Widens the bins and moves the first one until `low`, `high` and what was counted have their place."""
        if self._low <= low and high <= self._high:
            return
        low, high = min(low, self._low), max(high, self._high)
        exponent = max(self.exponent, math.frexp(max(-low, high))[1] - _SIGNIFICANT_BITS)
        while _bin_of(high, exponent) - _bin_of(low, exponent) >= BINS:
            exponent += 1
        first = _bin_of(low, exponent)
        if (exponent, first) != (self.exponent, self.first):
            self.counts = self._placed(exponent, first)
        self.exponent, self.first, self._low, self._high = exponent, first, low, high

    def _placed(self, exponent: int, first: int) -> np.ndarray:
        """The counts in bins at least as wide, from another first one on."""
        filled = np.flatnonzero(self.counts)
        counts = np.zeros(BINS, np.int64)
        np.add.at(counts, ((filled + self.first) >> (exponent - self.exponent)) - first, self.counts[filled])
        return counts


def _bin_of(value: float, exponent: int) -> int:
    return math.floor(value * 2.0**-exponent)


def _keep_percentile(histogram: Histogram, seen: Range, levels: int, symmetric: bool) -> Range:
    """The narrowest whole bins that leave out at most `TAIL` of the values at each end."""
    below = np.cumsum(histogram.counts)
    allowed = TAIL * below[-1]
    low = int(np.searchsorted(below, allowed, side="right"))
    high = int(np.searchsorted(below, below[-1] - allowed, side="left")) + 1
    return _within(seen, *histogram.edges[[low, high]])


def _keep_least_error(histogram: Histogram, seen: Range, levels: int, symmetric: bool) -> Range:
    """The ends between which `levels` integers give the values back with the least squared error.

    Values are taken to lie evenly within a bin, and the error is integrated exactly. The search first narrows both
    ends alike by ever finer factors, and then each by itself where they may differ.
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    reach = max(-low, high)
    if not reach or not (counts := _without_zeros(histogram)).any():
        return seen
    filled = np.flatnonzero(counts)
    part = slice(filled[0], filled[-1] + 1)
    edges, counts = histogram.edges[part.start : part.stop + 1], counts[part]

    def best(lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
        errors = _squared_error(edges, lows, highs, levels, symmetric) @ counts
        index = int(errors.argmin())
        return float(lows[index]), float(highs[index])

    least, most = (-reach, reach) if symmetric else (low, high)
    for factors in (_COARSE, _FINE, _FINER):
        limits = np.minimum(reach * factors, max(-least, most))
        low, high = best(np.maximum(least, -limits), np.minimum(most, limits))
        reach = max(-low, high)
    for factors in () if symmetric else (_COARSE[:10], _FINE, _FINER):
        low, high = best(np.maximum(least, low * factors), np.full_like(factors, high))
        low, high = best(np.full_like(factors, low), np.minimum(most, high * factors))
    return _within(seen, low, high)


_COARSE = 1.5 ** -np.arange(22.0)
"""Candidates as factors, from 1 down to 1/5000."""
_FINE = 1.5 ** np.linspace(1, -1, 11)
_FINER = 1.5 ** np.linspace(0.2, -0.2, 7)


def _squared_error(edges: np.ndarray, lows: np.ndarray, highs: np.ndarray, levels: int, symmetric: bool) -> np.ndarray:
    """Mean squared error within each bin, a row for each candidate range, of the grid `activation_params` makes of it.

    On a grid of steps s the integral from 0 to x of the squared error is k s^3 / 12 + r^3 / 3, where k is the nearest
    integer of the grid and r the rest x - k s, beyond the ends of the grid too.
    """
    if symmetric:
        steps = np.maximum(-lows, highs) / (levels // 2 - 1)
        lowest = np.full(steps.shape, -(levels // 2))
    else:
        steps = (highs - lows) / (levels - 1)
        lowest = np.rint(lows / steps)
    s, lowest = steps[:, None], lowest[:, None]
    k = np.clip(np.rint(edges / s), lowest, lowest + levels - 1)
    rest = edges - k * s
    integral = k * (s**3 / 12) + rest * rest * rest / 3
    error: np.ndarray = np.diff(integral, axis=1) / (edges[1] - edges[0])
    return error


def _keep_information(histogram: Histogram, seen: Range, levels: int, symmetric: bool) -> Range:
    """The range whose integers lose the least information, as TensorRT calibrates.

    S. Migacz, "8-bit Inference with TensorRT" (GTC 2017): for each threshold, P are the bins within it, the outermost
    with all counts beyond; Q are the same bins without those, as `levels` integers can tell them apart; the threshold
    with the least Kullback-Leibler divergence of P from Q wins. Here a threshold bounds the magnitude; where a tensor
    takes values of one sign, or reaches less far to one side, the levels are spread over what is left. Exact zeros do
    not count, or those that Relu makes would decide. Where bins are fewer than levels nothing can be told: the range
    stays as it was seen.
    """
    counts = _without_zeros(histogram).astype("float64")
    first, end = histogram.first, histogram.first + BINS
    filled = np.flatnonzero(counts)
    if not filled.size:
        return seen
    reach = max(-(first + int(filled[0])), first + int(filled[-1]) + 1)
    best, least = seen, math.inf
    for limit in range(reach, 0, -max(1, reach // _THRESHOLDS)):
        low, high = max(first, -limit), min(end, limit)
        floor, ceiling = (-limit, limit) if symmetric else (min(low, 0), max(high, 0))
        if ceiling - floor < levels or high <= low:
            break
        level = (np.arange(low, high) - floor) * levels // (ceiling - floor)
        divergence = _divergence(counts, slice(low - first, high - first), level)
        if divergence < least * (1 - 1e-9):
            best, least = _within(seen, low * histogram.width, high * histogram.width), divergence
    return best


_THRESHOLDS = 128
_ABSENT = 1e-4
"""What counts in Q, in counts, where only P has any, so that the logarithm exists."""


def _divergence(counts: np.ndarray, inside: slice, level: np.ndarray) -> float:
    """D(P || Q) of the bins `inside`, where `level` says which integer each of them becomes."""
    kept = counts[inside]
    there = kept > 0
    merged = np.bincount(level, kept) / np.maximum(np.bincount(level, there), 1)
    p = kept.copy()
    p[0] += counts[: inside.start].sum()
    p[-1] += counts[inside.stop :].sum()
    some = p > 0
    p, q = p[some], np.where(there, merged[level], _ABSENT)[some]
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))


def _without_zeros(histogram: Histogram) -> np.ndarray:
    """The counts but for values that are exactly 0."""
    counts = histogram.counts.copy()
    if histogram.zeros:
        counts[-histogram.first] -= histogram.zeros
    return counts


def _within(seen: Range, low: float, high: float) -> Range:
    return Range(float(max(low, seen.low)), float(min(high, seen.high)))


SOLVERS: Mapping[str, Callable[[Histogram, Range, int, bool], Range]] = {
    "percentile": _keep_percentile,
    "entropy": _keep_information,
    "mse": _keep_least_error,
}
"""By the observer's name, what makes a range within the seen one of a histogram, the number of integers there are, and
whether they lie evenly around 0."""
