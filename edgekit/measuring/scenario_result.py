"""The record of a load: what a candidate did when queries came as a scenario of MLPerf says they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.measuring.statistics import Summary
from edgekit.measuring.stopping import Interval

__all__ = ["ScenarioResult"]


@dataclass(frozen=True)
class ScenarioResult:
    """What a candidate did under load of one kind, in the sense of MLPerf's LoadGen.

    Latencies of queries that come at times of their own count from the time they were due, so waiting is in them.

    Attributes:
        scenario: ``"single-stream"``, ``"multi-stream"``, ``"offline"`` or ``"server"``.
        headline: Name of the figure the scenario is judged by: ``"p90_us"``, ``"p99_us"``, ``"samples_per_s"`` or
            ``"rate_per_s"``.
        value: That figure; None where there is none, as when no rate holds the bound.
        queries: Queries that were answered.
        samples_per_query: Samples a query asks for.
        batch: Samples that went through the model together.
        callers: Threads that called the session at the same time.
        samples_per_s: Samples answered a second, of the time queries were being served or waited for.
        rate_per_s: Queries a second that were due, asked for or found; None where each waits for the one before.
        bound_us: What 99 % of the queries must be answered within.
        is_bound_held: Whether they were; None without a bound.
        is_overloaded: Whether queries were left over that could not be answered in three times the time they came in.
        latency: Of queries; None for ``"offline"``.
        upper_us: Above the headline percentile with 95 % confidence, by its order statistics; None when there were too
            few queries to tell.
        service: Of queries from the time they were begun: what a test that waits politely would have reported.
        late_share: Share of queries that began late because all callers were busy when they were due.
        clock_late_us: By how much the load itself came late when a caller was free, 99th percentile: of this tool.
        interval: Of the headline over its turns; None of fewer than can tell.
        tried: Rates the search tried, with the 99th percentile of each and whether it held the bound.
        turns_us: Latencies of every turn; for ``"offline"``, time of each turn over its samples.
    """

    scenario: str
    headline: str
    value: float | None
    queries: int
    samples_per_query: int
    batch: int
    callers: int
    samples_per_s: float
    rate_per_s: float | None = None
    bound_us: float | None = None
    is_bound_held: bool | None = None
    is_overloaded: bool = False
    latency: Summary | None = None
    upper_us: float | None = None
    service: Summary | None = None
    late_share: float | None = None
    clock_late_us: float | None = None
    interval: Interval | None = None
    tried: tuple[tuple[float, float, bool], ...] = ()
    turns_us: tuple[tuple[float, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        latency, service = (one.to_json() if one else None for one in (self.latency, self.service))
        interval = self.interval.to_json() if self.interval else None
        return {**vars(self), "latency": latency, "service": service, "interval": interval}
