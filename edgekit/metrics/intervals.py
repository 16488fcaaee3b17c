"""How sure a figure is, and whether two of the same samples differ: intervals of 95 %."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Tally

__all__ = [
    *("CONFIDENCE", "Drawing", "Interval", "bootstrap", "drawing_for", "interval_of", "mcnemar", "newcombe"),
    *("percentiles", "wilson"),
]

CONFIDENCE = 0.95
_Z = 1.959963984540054
"""The quantile 0.975 of the normal distribution."""

_LEAST = 2
_MOST_FAILED = 0.1
"""Share of the drawn sets for which there may be no figure, such as no sample of one of two classes."""

_MOST_WORK = 1_000_000_000
"""Numbers that all drawn sets together may go through: about 20 seconds."""

_LEAST_SETS = 200
"""Fewer say too little of where the outer 2.5 % begin."""

_GROUPS = 40
_T = 2.0226909200367604
"""The quantile 0.975 of Student's distribution of `_GROUPS` - 1 degrees of freedom."""


@dataclass(frozen=True)
class Interval:
    """Where the figure would lie for other samples of the same kind, 95 times in 100.

    Attributes:
        low: Lower end; None where there is no interval.
        high: Upper end.
        method: How it was found, or why there is none.
        per_class: Ends for each class by name.
    """

    low: float | None
    high: float | None
    method: str
    per_class: dict[str, tuple[float, float]]

    @property
    def ends(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The interval of a share (E. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927).

    It holds for few samples and near 0 and 1 too, where that of the normal distribution does not.
    """
    share, spread = hits / count, _Z**2 / count
    center = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, center - half), min(1.0, center + half)


def newcombe(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The interval of the difference of two shares of the same samples, first less second; bool [samples] each.

    R. Newcombe, Improved Confidence Intervals for the Difference Between Binomial Proportions Based on Paired Data,
    1998, method 10: Wilson's intervals of both shares, joined by how far they go together. Where not one sample
    differs it is not empty, as that of a bootstrap would be.
    """
    count = len(first)
    both, only_first = int((first & second).sum()), int((first & ~second).sum())
    only_second, neither = int((~first & second).sum()), int((~first & ~second).sum())
    share_a, share_b = (both + only_first) / count, (both + only_second) / count
    (low_a, high_a), (low_b, high_b) = wilson(both + only_first, count), wilson(both + only_second, count)
    margins = math.prod((both + only_first, only_second + neither, both + only_second, only_first + neither))
    product = both * neither - only_first * only_second
    together = max(product - count / 2, 0.0) if product > 0 else float(product)
    phi = together / math.sqrt(margins) if margins else 0.0
    down, up = (share_a - low_a, high_b - share_b), (high_a - share_a, share_b - low_b)
    lower, upper = (math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)) for a, b in (down, up))
    return share_a - share_b - lower, share_a - share_b + upper


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Chance of a split at least this uneven of the samples that only one of two is right about, were both as good.

    Two-sided and exact (Q. McNemar, Note on the Sampling Error of the Difference Between Correlated Proportions, 1947).
    """
    wins, losses = int((first & ~second).sum()), int((~first & second).sum())
    count = wins + losses
    tail = sum(math.exp(_log_choose(count, k) - count * math.log(2)) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail)


def _log_choose(count: int, k: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)


def bootstrap(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of `count` samples is in a set drawn from them with replacement, float64 [count], again and again.

    B. Efron, Bootstrap Methods: Another Look at the Jackknife, 1979. The same seed gives the same sets.
    """
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64)


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn again to see how much a figure hangs on which they are.

    Attributes:
        count: Samples there are.
        sets: Of the bootstrap; 0 for a jackknife, which leaves out one of `_GROUPS` groups at a time.
        seed: Of the draws.
    """

    count: int
    sets: int
    seed: int

    @property
    def size(self) -> int:
        """Sets that `weights` gives."""
        return self.sets or _GROUPS

    def weights(self) -> Iterator[np.ndarray]:
        """How often each sample counts in one set after another, float64 [samples]."""
        if self.sets:
            yield from bootstrap(self.count, self.sets, self.seed)
            return
        groups = np.random.default_rng(self.seed).permutation(self.count) % _GROUPS
        for group in range(_GROUPS):
            yield (groups != group).astype(np.float64)

    def ends(self, found: np.ndarray, figure: float) -> tuple[float, float]:
        """The interval of `figure`, from the figures of the sets; NaN where there are none.

        The jackknife's is that of J. Tukey, Bias and Confidence in Not-quite Large Samples, 1958.
        """
        if self.sets:
            return percentiles(found)
        there = found[~np.isnan(found)]
        if not there.size or not np.isfinite(there).all():
            return math.nan, math.nan
        error = math.sqrt((len(there) - 1) / len(there) * float(np.square(there - there.mean()).sum()))
        return figure - _T * error, figure + _T * error

    def around(self, found: np.ndarray, figure: float) -> tuple[float, float]:
        """`ends`, those of a bootstrap moved so that the median of its sets is `figure`.

        Samples that are drawn twice flatter some figures: average precision takes the best of what follows, and
        calibration sums gaps whatever their sign. The sets then lie beside the very figure they are to surround. Of a
        difference of two figures most of that cancels, and 0, where many sets lie, has to stay where it is.
        """
        low, high = self.ends(found, figure)
        moved = float(np.nanmedian(found)) - figure if self.sets and np.isfinite([low, high, figure]).all() else 0.0
        return low - moved, high - moved

    def method(self, *, is_paired: bool = False) -> str:
        """In words; `is_paired` where two models are asked about the same sets."""
        paired = "paired " * is_paired
        if self.sets:
            return f"percentiles of a {paired}bootstrap over samples, 95 %, {self.sets} sets, seed {self.seed}"
        return (
            f"{paired}jackknife over {_GROUPS} groups of samples, 95 %, seed {self.seed}: a bootstrap would take long"
        )


def drawing_for(tally: Tally, resamples: int, seed: int, count: int | None = None) -> Drawing:
    """The bootstrap that `resamples` asks for; fewer sets, or a jackknife, where a set goes through very many numbers.

    Args:
        tally: That is asked about each set.
        resamples: Sets to draw at most.
        seed: Of the draws.
        count: Samples to draw from, where that is not all.
    """
    sets = min(resamples, _MOST_WORK // max(tally.work, 1))
    return Drawing(len(tally) if count is None else count, sets if sets >= min(resamples, _LEAST_SETS) else 0, seed)


def interval_of(tally: Tally, resamples: int, seed: int, *, is_share: bool = False) -> Interval:
    """Wilson's for figures that are shares of samples, else what samples drawn again say: see `Drawing`.

    Args:
        tally: With all samples in it.
        resamples: Sets to draw; 0 for a figure that has no interval.
        seed: Of the draws.
        is_share: Whether the figure is at most 1.
    """
    if (shares := tally.shares()) is not None:
        (low, high), *others = [wilson(hits, count) if count else (math.nan, math.nan) for hits, count in shares]
        return Interval(low, high, "Wilson's score interval, 95 %", _named(tally, others))
    count = len(tally)
    if not resamples or count < _LEAST:
        reason = "one sample does not say how much others differ" if resamples else "drawing samples again says nothing"
        return Interval(None, None, f"none: {reason}", {})
    drawing, found = drawing_for(tally, resamples, seed), []
    for weights in drawing.weights():
        try:
            found.append(tally.values(weights))
        except InputError:
            continue  # a set without any sample of a class: how many there may be is limited below
    if len(found) < (1 - _MOST_FAILED) * drawing.size:
        failed = drawing.size - len(found)
        return Interval(None, None, f"none: {failed} of {drawing.size} sets drawn again have no such figure", {})
    figures = tally.values(np.ones(count)).tolist()
    pairs = zip(np.array(found).T, figures, strict=True)
    ends = [_limited(drawing.around(column, figure), column, is_share) for column, figure in pairs]
    if not np.isfinite(ends[0]).all():
        return Interval(None, None, "none: the figure is infinite for some of the sets drawn again", {})
    return Interval(*ends[0], drawing.method(), _named(tally, ends[1:]))


def _limited(ends: tuple[float, float], found: np.ndarray, is_share: bool) -> tuple[float, float]:
    """The part of an interval where such a figure can be; `found` are figures of the kind."""
    low, high = ends
    if (found[~np.isnan(found)] >= 0).all():
        low = max(low, 0.0)
    return low, min(high, 1.0) if is_share else high


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Where the middle 95 % of values lie, those that are NaN left out; NaN where all are."""
    there = values[~np.isnan(values)]
    if not there.size:
        return math.nan, math.nan
    # Ends are values that occur: between infinities there is nothing to interpolate.
    low, high = np.quantile(there, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="inverted_cdf")
    return float(low), float(high)


def _named(tally: Tally, ends: list[tuple[float, float]]) -> dict[str, tuple[float, float]]:
    pairs = zip(tally.classes, ends, strict=True)
    return {name: pair for name, pair in pairs if np.isfinite(pair).all()}
