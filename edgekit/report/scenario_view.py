"""What candidates did under load, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.measuring.records import Measurement, ScenarioResult
from edgekit.report.document import Table, table
from edgekit.report.units import dash, milliseconds, percent

__all__ = ["scenario_table"]

_TITLES = {
    "single-stream": "Single stream, ms: one sample after the other, judged by p90",
    "paced": "Single stream, ms: one sample at even times, judged by p90 from when each was due",
    "multi-stream": "Multi-stream, ms: {samples} samples a query, one query after the other, judged by p99",
    "offline": "Offline: all samples at once, judged by samples a second",
    "server": "Server, ms: queries at random times, judged by p99 from when each was due",
}


def scenario_table(measured: Sequence[Measurement]) -> Table | None:
    """One row a candidate, the best first; None when no load was put on any."""
    rows = [(m, m.scenario) for m in measured if m.scenario is not None]
    if not rows:
        return None
    first = rows[0][1]
    # Of offline and of a searched rate more is better; of a latency less.
    sign = 1 if first.headline.endswith("_us") else -1
    rows.sort(key=lambda row: sign * row[1].value if row[1].value is not None else float("inf"))
    if first.scenario == "offline":
        return _offline(rows)
    is_due = any(s.rate_per_s is not None or s.scenario == "server" for _, s in rows)
    kind = "paced" if is_due and first.scenario == "single-stream" else first.scenario
    title = _TITLES[kind].format(samples=first.samples_per_query)
    if first.bound_us is not None:
        title += f", which must be within {milliseconds(first.bound_us)} ms"
    headings = ["variant", "runtime", "thr.>", "p50>", "p90>", "p99>", "samples/s>", "how"]
    if is_due:
        headings[3:3] = ["queries/s>"]
        headings[-1:] = ["late>", "served p99>", "callers>", "bound"]
    return table(headings, [_row(m, s, is_due) for m, s in rows], title)


def _row(m: Measurement, s: ScenarioResult, is_due: bool) -> tuple[str, ...]:
    found = s.latency
    times = (dash,) * 3 if found is None else tuple(map(milliseconds, (found.p50_us, found.p90_us, found.p99_us)))
    if not is_due:
        return (*_names(m), *times, f"{s.samples_per_s:.0f}", _how(s))
    rate = dash if s.rate_per_s is None else f"{s.rate_per_s:.1f}"
    held = {None: dash, True: "held", False: "NOT HELD"}[s.is_bound_held]
    if s.headline == "rate_per_s" and s.value is None:
        held = "no rate holds it"
    served = milliseconds(s.service.p99_us) if s.service else dash
    return (*_names(m), rate, *times, f"{s.samples_per_s:.0f}", percent(s.late_share), served, str(s.callers), held)


def _offline(rows: Sequence[tuple[Measurement, ScenarioResult]]) -> Table:
    cells = []
    for m, s in rows:
        interval = dash if s.interval is None else f"{s.interval.low:.0f} to {s.interval.high:.0f}"
        cells.append((*_names(m), f"{s.samples_per_s:.0f}", interval, str(s.batch), str(s.callers)))
    headings = ["variant", "runtime", "thr.>", "samples/s>", "95 % interval>", "batch>", "callers>"]
    return table(headings, cells, _TITLES["offline"])


def _names(m: Measurement) -> tuple[str, str, str]:
    c = m.candidate
    return c.variant, c.runtime, "auto" if c.threads is None else str(c.threads)


def _how(s: ScenarioResult) -> str:
    words = [f"batch {s.batch}"] if s.batch > 1 else []
    return ", ".join([*words, f"{s.callers} callers" if s.callers > 1 else "one caller"])
