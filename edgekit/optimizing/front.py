"""What nothing else beats: the Pareto front over latency, size, memory and the metric."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.optimizing.records import TrialRecord

__all__ = ["mark_front"]


def mark_front(trials: Sequence[TrialRecord], *, is_higher_better: bool) -> None:
    """Sets `on_front` of each trial that was measured and may be used.

    A trial is off the front when another is as good in every respect and better in one. What was not measured of
    either does not tell them apart, nor does a metric on a share of the data; a trial without a latency, or one that
    failed or was refused, has no place on it.
    """
    whole = max((one.metric_count or 0 for one in trials), default=0)
    able = [one for one in trials if one.p50_us is not None and one.status not in ("failed", "skipped", "refused")]
    for one in trials:
        one.on_front = one in able and not any(_beats(other, one, whole, is_higher_better) for other in able)


def _beats(a: TrialRecord, b: TrialRecord, whole: int, is_higher_better: bool) -> bool:
    sign = -1.0 if is_higher_better else 1.0

    def lost(one: TrialRecord) -> float | None:
        is_told = one.metric_value is not None and (one.metric_count or 0) == whole
        return sign * one.metric_value if is_told and one.metric_value is not None else None

    pairs = [
        (a.p50_us, b.p50_us),
        (a.size_bytes, b.size_bytes),
        (a.peak_rss_bytes, b.peak_rss_bytes),
        (lost(a), lost(b)),
    ]
    known = [(x, y) for x, y in pairs if x is not None and y is not None]
    return all(x <= y for x, y in known) and any(x < y for x, y in known)
