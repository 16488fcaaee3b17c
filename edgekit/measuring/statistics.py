"""The few statistics a latency table needs. Latencies are skewed, so nothing here assumes a normal distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

__all__ = ["ROUNDS_TO_TELL", "Summary", "compare_rounds", "sign_test", "summarize"]

_SIGNIFICANT = 0.05
ROUNDS_TO_TELL = 6
"""The least rounds whose sign test can be significant: 2 / 2^6 < 0.05 < 2 / 2^5."""

_SAME = 0.01
"""Medians nearer than this are called the same, however sure the test is of the difference."""


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


def sign_test(wins: int, losses: int) -> float:
    """Chance of a split at least this uneven if either were as likely: the two-sided sign test, ties left out.

    Conover, "Practical Nonparametric Statistics", 3rd edition, section 3.4.
    """
    count = wins + losses
    if count == 0:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(min(wins, losses) + 1)) / 2**count
    return min(1.0, 2 * tail)


def compare_rounds(candidate: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> str:
    """``"faster"``, ``"slower"``, ``"same"`` or ``"unclear"``: the candidate against the base, round by round.

    Rounds of both were interleaved, so the i-th of one met the machine in about the state the i-th of the other did:
    medians are compared in pairs. "unclear" is a difference that the sign test over these rounds does not bear out;
    with fewer than `ROUNDS_TO_TELL` of them it can bear out none.
    """
    pairs = [(float(np.median(a)), float(np.median(b))) for a, b in zip(candidate, base, strict=False) if a and b]
    if not pairs:
        return "unclear"
    ratio = float(np.median([a / b for a, b in pairs]))
    slower = sum(a > b for a, b in pairs)
    faster = sum(a < b for a, b in pairs)
    if abs(ratio - 1) < _SAME:
        return "same"
    if sign_test(slower, faster) > _SIGNIFICANT:
        return "unclear"
    return "slower" if ratio > 1 else "faster"
