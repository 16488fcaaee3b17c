"""The few statistics latencies need, which are skewed, so that nothing here assumes a normal distribution.

How two things compare is told by one method everywhere. The latency of a round is the median of its calls; rounds of
both were timed in turns, so the ratio of two neighbors is what the state of the machine cancels out of; a pair of
processes has the median of these ratios. Processes of one file differ for as long as they live, by where their memory
and their threads came to lie (Mytkowicz et al., "Producing Wrong Data Without Doing Anything Obviously Wrong!", 2009),
so what is repeated, and resampled, is the pair of fresh processes, not the round (Kalibera and Jones, "Rigorous
Benchmarking in Reasonable Time", 2013; why rounds within a pair are not resampled too: Davison and Hinkley, "Bootstrap
Methods and their Application", 1997, section 3.8).

The interval is the symmetric bootstrap-t one of the trimmed mean of logarithms: Hall, "On Symmetric Bootstrap
Confidence Intervals", 1988; Wilcox, "Introduction to Robust Estimation and Hypothesis Testing", 1997, chapter 4. It is
wide where pairs are few and differ, as it has to be; the percentile interval is not, and in simulations raised twice as
many false alarms. Where there is one process of each, only their rounds can be looked at: the interval is that of the
median of their ratios by order statistics, and what processes differ by is allowed for by a figure measured elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekit.measuring.stopping import interval_of

__all__ = [
    "CONFIDENCE",
    "CONFIDENCE_ONCE",
    "PAIRS_TO_TELL",
    "ROUNDS_TO_TELL",
    "Contrast",
    "Rounds",
    "Summary",
    "compare_rounds",
    "contrast",
    "contrast_apart",
    "joined",
    "summarize",
]

Rounds = Sequence[Sequence[float]]
"""Latencies of calls, round by round."""

CONFIDENCE = 0.99
"""Of the interval over pairs of processes. A comparison looks several times whether it may stop, and is to be wrong in
less than 5 % of cases for all looks together."""

CONFIDENCE_ONCE = 0.95
"""Of the interval over the rounds of one pair, which is looked at once."""

ROUNDS_TO_TELL = 6
"""The least rounds that can show a difference between two processes: 1 - 2 / 2^6 > 0.95 > 1 - 2 / 2^5."""

PAIRS_TO_TELL = 6
"""The least pairs of processes that are taken for what they are; of fewer the rounds are, with `PROCESS_SPREAD`."""

PROCESS_SPREAD = 0.01
"""By how much processes of one file differ, one standard deviation, where too few were started to see it.

Taken large: half of it was seen (`process_spread` of benchmarks/comparison.py measures it), on one machine.
"""

_ALLOWED = 1.96 * math.hypot(PROCESS_SPREAD, PROCESS_SPREAD)
"""By how much a process of each file differs without either being faster, at `CONFIDENCE_ONCE`."""

_SAME = 0.01
"""Medians nearer than this are called neither faster nor slower, however sure the interval is of the difference."""

_WITHIN = 0.02
"""Two things are the same whose ratio is nearer to 1 than this with confidence: Schuirmann's two one-sided tests."""

_TRIMMED = 0.125
"""Of the pairs at either end that are left out of the mean, one of eight: a process may be disturbed all its life."""

_RESAMPLES = 1_999
_LEAST_US = 1e-3
"""A nanosecond: less no clock tells, and a call as short as reading the clock is 0 once that is subtracted."""


@dataclass(frozen=True)
class Summary:
    """Latencies of single calls, in microseconds.

    Percentiles are type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996 (numpy's default).
    `mad_us` is the median absolute deviation from the median: Hampel, "The Influence Curve", 1974.
    """

    count: int
    p50_us: float
    p90_us: float
    p99_us: float
    mean_us: float
    min_us: float
    max_us: float
    mad_us: float

    @property
    def spread(self) -> float:
        """Spread as a share of the median: 1.4826 MAD, which is one standard deviation if the noise were normal."""
        return 1.4826 * self.mad_us / self.p50_us if self.p50_us else 0.0

    def to_json(self) -> dict[str, float]:
        return {**{key: round(value, 3) for key, value in asdict(self).items()}, "spread": round(self.spread, 4)}


def summarize(samples_us: Sequence[float]) -> Summary:
    """Summarizes at least one sample."""
    values = np.asarray(samples_us, dtype="float64")
    p50, p90, p99 = (float(p) for p in np.percentile(values, (50, 90, 99)))
    return Summary(
        count=len(values),
        p50_us=p50,
        p90_us=p90,
        p99_us=p99,
        mean_us=float(values.mean()),
        min_us=float(values.min()),
        max_us=float(values.max()),
        mad_us=float(np.median(np.abs(values - p50))),
    )


@dataclass(frozen=True)
class Contrast:
    """How the latency of one thing stands to that of another.

    Attributes:
        ratio: Of the first over the second.
        low: Where the ratios begin that the measurements allow with `confidence`.
        high: Where they end.
        confidence: Of the interval; 0 when there are too few rounds for any.
        verdict: ``"faster"`` or ``"slower"``: the interval leaves out 1, and the ratio is away from it by 1 % or more.
            ``"same"``: it is within 2 % of 1, or with one process of each within what processes of one file differ by.
            Else ``"unclear"``.
        pairs: Pairs of processes; 0 when the two were not timed in turns.
        rounds: Pairs of rounds in all of them; of a high percentile, of rounds joined for it.
    """

    ratio: float
    low: float
    high: float
    confidence: float
    verdict: str
    pairs: int
    rounds: int

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 5) if isinstance(value, float) else value for key, value in asdict(self).items()}


def contrast(pairs: Sequence[tuple[Rounds, Rounds]], quantile: float = 0.5) -> Contrast:
    """What pairs of processes show of the first of each against the second.

    With fewer than `PAIRS_TO_TELL` pairs the interval is that of their rounds, wide enough for every pair, and widened
    by what processes are known to differ by. With fewer than `ROUNDS_TO_TELL` rounds there is none.

    Args:
        pairs: For each pair of processes the rounds of both, timed in turns.
        quantile: Of the calls of a round, or of as many rounds as have the calls it takes; the median by default.
    """
    logs = [one for one in (_log_ratios(*pair, quantile) for pair in pairs) if one.size]
    rounds = sum(one.size for one in logs)
    middles = np.array([np.median(one) for one in logs])
    if len(logs) >= PAIRS_TO_TELL:
        middle = float(_trimmed(middles[None])[0][0])
        half = _half_width(middles)
        return _judged(middle, (middle - half, middle + half), 0.0, CONFIDENCE, len(logs), rounds)
    middle = float(middles.mean()) if logs else math.nan
    interval = interval_of(np.concatenate(logs).tolist(), CONFIDENCE_ONCE) if logs else None
    if interval is None:
        return Contrast(math.exp(middle), 0.0, math.inf, 0.0, "unclear", len(logs), rounds)
    ends = min(interval.low, *middles), max(interval.high, *middles)
    return _judged(middle, ends, _ALLOWED / math.sqrt(len(logs)), CONFIDENCE_ONCE, len(logs), rounds)


def contrast_apart(
    candidate: Rounds, base: Rounds, *, machine: tuple[float, float] = (1.0, 1.0), quantile: float = 0.5
) -> Contrast:
    """What rounds show that were not timed in turns: of the base there are only numbers, from another day.

    The interval of the difference is made of those of both sides by Zou and Donner, "Construction of Confidence Limits
    about Effect Measures", 2008.

    Args:
        candidate: Rounds of one process, now.
        base: Rounds of one process, then.
        machine: Between which two ratios the time of unchanged work is now to that of then. The ratio is divided by
            their middle, and its interval widened by their distance.
        quantile: The same as of `contrast`.
    """
    now, then = (_log_quantiles(joined([rounds], quantile)[0], quantile).tolist() for rounds in (candidate, base))
    count = min(len(now), len(then))
    drift = [math.log(one) for one in sorted(machine)]
    middle = float(np.median(now) - np.median(then)) - sum(drift) / 2 if count else math.nan
    found = interval_of(now, CONFIDENCE_ONCE), interval_of(then, CONFIDENCE_ONCE)
    if found[0] is None or found[1] is None:
        return Contrast(math.exp(middle), 0.0, math.inf, 0.0, "unclear", 0, count)
    apart = (drift[1] - drift[0]) / 2
    below = math.hypot(np.median(now) - found[0].low, found[1].high - np.median(then)) + apart
    above = math.hypot(found[0].high - np.median(now), np.median(then) - found[1].low) + apart
    return _judged(middle, (middle - below, middle + above), _ALLOWED, CONFIDENCE_ONCE, 0, count)


def compare_rounds(candidate: Rounds, base: Rounds) -> str:
    """The verdict of `contrast` on one process of each, timed in turns round by round."""
    return contrast([(candidate, base)]).verdict


def joined(rounds: Sequence[Sequence[Sequence[float]]], quantile: float) -> list[list[list[float]]]:
    """Rounds next to each other as one, until each has the calls that its quantile takes: the 99th percentile of ten
    calls is the longest of them, that of one is the median. What is left over goes to the last; none where all are
    too few.

    Args:
        rounds: Of each thing that was timed, its rounds; those of one place were timed next to each other.
        quantile: What is asked of them; one call is enough for the median.
    """
    least = 1 if quantile <= 0.5 else math.ceil(1 / (1 - quantile) - 1e-9)
    found: list[list[list[float]]] = []
    open_: list[list[float]] = [[] for _ in rounds]
    for turn in zip(*rounds, strict=False):
        open_ = [[*calls, *more] for calls, more in zip(open_, turn, strict=True)]
        if min(map(len, open_)) >= least:
            found.append(open_)
            open_ = [[] for _ in rounds]
    if found and quantile > 0.5:
        found[-1] = [[*calls, *more] for calls, more in zip(found[-1], open_, strict=True)]
    return [[one[place] for one in found] for place in range(len(rounds))]


def _log_ratios(candidate: Rounds, base: Rounds, quantile: float) -> np.ndarray:
    if quantile > 0.5:
        candidate, base = joined((candidate, base), quantile)
    pairs = [(a, b) for a, b in zip(candidate, base, strict=False) if len(a) and len(b)]
    return _log_quantiles([a for a, _ in pairs], quantile) - _log_quantiles([b for _, b in pairs], quantile)


def _log_quantiles(rounds: Rounds, quantile: float) -> np.ndarray:
    """The logarithm of a quantile of each round that has calls."""
    rounds = [one for one in rounds if len(one)]
    if len({len(one) for one in rounds}) == 1:
        found = np.quantile(np.asarray(rounds, "float64"), quantile, axis=1)  # at once, which is much faster
    else:
        found = np.array([np.quantile(one, quantile) for one in rounds])
    return np.log(np.maximum(found, _LEAST_US))


def _judged(
    middle: float, ends: tuple[float, float], allowed: float, confidence: float, pairs: int, rounds: int
) -> Contrast:
    """A contrast from the logarithm of a ratio, the ends of its interval, and what is allowed for besides."""
    low, high = ends[0] - allowed, ends[1] + allowed
    verdict = "unclear"
    if (low > 0 or high < 0) and abs(middle) >= math.log1p(_SAME):
        verdict = "slower" if middle > 0 else "faster"
    elif max(-ends[0], ends[1]) <= max(math.log1p(_WITHIN), allowed):
        verdict = "same"
    largest = math.log(np.finfo("float64").max)
    return Contrast(math.exp(middle), math.exp(low), math.exp(min(high, largest)), confidence, verdict, pairs, rounds)


def _half_width(values: np.ndarray) -> float:
    """Half of the symmetric bootstrap-t interval of the trimmed mean of `values`; the same for the same values."""
    count = values.size
    center, error = _trimmed(values[None])
    if error[0] == 0:
        return 0.0
    drawn = values[np.random.default_rng(0).integers(0, count, (_RESAMPLES, count))]
    centers, errors = _trimmed(drawn)
    away = np.abs(centers - center)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(errors > 0, away / errors, np.inf)  # one value drawn every time says nothing of the error
    return float(error[0] * np.sort(scaled)[round((_RESAMPLES + 1) * CONFIDENCE) - 1])


def _trimmed(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the mean without its extremes, and the standard error of that: Tukey and McLaughlin, 1963."""
    rows = np.sort(rows, axis=1)
    count = rows.shape[1]
    cut = int(_TRIMMED * count)
    inner = rows[:, cut : count - cut]
    pulled = np.clip(rows, inner[:, :1], inner[:, -1:])
    return inner.mean(axis=1), pulled.std(axis=1, ddof=1) * math.sqrt(count) / inner.shape[1]
