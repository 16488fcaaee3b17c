"""How long calls take, one by one; what a start takes, and what memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgekit.measuring.records import Measurement
from edgekit.measuring.statistics import Summary, summarize
from edgekit.report.document import Block, Figure, Section, Table, table
from edgekit.report.pictures import Bar, Bars, Distribution, Distributions, Segment
from edgekit.report.sections.shipped import best_fp32, missing, place, shipped_measurement
from edgekit.report.units import dash, mebibytes, milliseconds, percent
from edgekit.reporting import Report, Trial

__all__ = ["drawn", "latency_section", "start_section"]

_MOST = 12
"""Candidates in a picture; the tables have all."""

_STAGES = (
    ("process", "process_ms"),
    ("engine import", "import_ms"),
    ("load", "load_ms"),
    ("first run", "first_run_ms"),
)
_CAPTION = (
    "Each curve is where the single calls lie. The thick line is the median, p50; the thin ones are p90 and p99, which "
    "one call in ten and one in a hundred exceeds; an arrow says that one lies beyond the axis."
)


def drawn(report: Report, measured: Sequence[Measurement], most: int = _MOST) -> list[Measurement]:
    """The fastest, and whatever their place the shipped one and the best fp32."""
    always = [m for m in (shipped_measurement(report), best_fp32(report)) if m is not None and m in measured]
    rest = [m for m in measured if m not in always][: most - len(always)]
    return [m for m in measured if m in always or m in rest]


def latency_section(report: Report) -> Section:
    """Every timed call of the fastest, and the figures of all."""
    measured = [m for m in report.profile.measured if m.latency] if report.profile else []
    if not measured:
        note = missing("Nothing was measured for this page.", f"edgekit report {place(report)} -o report.html")
        finals = [trial for trial in report.trials if trial.samples_us]
        return Section("Latency", (_of_trials(finals), note) if finals else (note,))
    shown, own = drawn(report, measured), shipped_measurement(report)
    rows = tuple(
        Distribution(
            m.candidate.title + (", shipped" if m is own else ""),
            tuple(sample / 1000 for sample in m.latency.samples_us),
            m.candidate.runtime,
            _percentiles(m.latency.summary),
            m is own,
        )
        for m in shown
        if m.latency
    )
    fewer = f" The {len(shown)} fastest of {len(measured)} are drawn." if len(shown) < len(measured) else ""
    caption = _CAPTION + fewer
    blocks: list[Block] = [Figure(Distributions(rows, "a call, ms"), _latency_table(measured), caption=caption)]
    absent = [m for m in report.profile.measurements if m.status != "measured"] if report.profile else []
    if absent:
        cells = [(m.candidate.title, m.status, m.reason, m.hint or dash) for m in absent]
        blocks.append(table(["candidate", "status", "reason", "remedy"], cells, "Not measured"))
    if loads := [m for m in measured if m.scenario]:
        blocks.append(_scenarios(loads))
    return Section("Latency", tuple(blocks))


def _of_trials(finals: Sequence[Trial]) -> Figure:
    """What the final of a search timed, where nothing was timed since."""
    rows, cells = [], []
    for trial in sorted(finals, key=lambda trial: trial.p50_us or 0.0):
        samples = trial.samples_us or ()
        summary, is_shipped = summarize(samples), trial.status == "shipped"
        times = (milliseconds(value) for value in (summary.p50_us, summary.p90_us, summary.p99_us))
        cells.append((trial.title, *times, str(summary.count), trial.status))
        rows.append(
            Distribution(
                trial.title + (", shipped" if is_shipped else ""),
                tuple(one / 1000 for one in samples),
                trial.runtime or trial.format,
                _percentiles(summary),
                is_shipped,
            )
        )
    found = table(["trial", "p50>", "p90>", "p99>", "calls>", "status"], cells, "Latency of one call, ms")
    caption = f"{_CAPTION} These are the calls of the search's final."
    return Figure(Distributions(tuple(rows[:_MOST]), "a call, ms"), found, caption=caption)


def _percentiles(s: Summary) -> str:
    return f"p50 {milliseconds(s.p50_us)}, p90 {milliseconds(s.p90_us)}, p99 {milliseconds(s.p99_us)} ms"


def _latency_table(measured: Sequence[Measurement]) -> Table:
    rows = []
    for m in measured:
        assert m.latency is not None
        s, interval = m.latency.summary, m.latency.interval
        within = f"{milliseconds(interval.low)} to {milliseconds(interval.high)}" if interval else dash
        rows.append(
            (
                m.candidate.title,
                milliseconds(s.p50_us),
                within,
                milliseconds(s.p90_us),
                milliseconds(s.p99_us),
                milliseconds(m.cpu_us),
                dash if m.throughput_per_s is None else f"{m.throughput_per_s:.0f}",
                percent(s.spread),
                str(s.count),
                _versus(m.ratio_to_engine_fp32, m.versus_engine_fp32),
                _versus(m.ratio_to_best_fp32, m.versus_best_fp32),
            )
        )
    headings = [
        *("candidate", "p50>", "interval of p50>", "p90>", "p99>", "CPU>", "calls/s>", "spread>", "calls>"),
        *("time / engine's fp32>", "time / best fp32>"),
    ]
    return table(headings, rows, "Latency of one call, ms")


def _versus(ratio: float | None, word: str | None) -> str:
    if ratio is None:
        return dash
    return f"{ratio:.2f}x" + {"slower": " slower", "same": " same", "unclear": " unclear"}.get(word or "", "")


def _scenarios(measured: Iterable[Measurement]) -> Table:
    rows = []
    for m in measured:
        if (s := m.scenario) is None:
            continue
        is_time = s.headline.endswith("_us")
        value = dash if s.value is None else f"{milliseconds(s.value)} ms" if is_time else f"{s.value:,.1f}"
        held = dash if s.is_bound_held is None else "yes" if s.is_bound_held else "no"
        rows.append((m.candidate.title, s.scenario, s.headline.removesuffix("_us"), value, str(s.queries), held))
    return table(["candidate", "scenario", "judged by", "value>", "queries>", "bound held"], rows, "Under load")


def start_section(report: Report) -> Section | None:
    """From nothing to the first answer, and the memory that takes; None where nothing was measured at all."""
    measured = [m for m in report.profile.measured if m.cold_start or m.peak_rss_bytes] if report.profile else []
    if not measured:
        return None
    blocks: list[Block] = []
    if starts := sorted((m for m in measured if m.cold_start), key=_total_ms):
        blocks.append(_starts(report, starts))
    if sizes := [m for m in measured if m.peak_rss_bytes]:
        blocks.append(_memory(report, sizes))
    return Section("Start and memory", tuple(blocks))


def _total_ms(m: Measurement) -> float:
    return m.cold_start.total_ms if m.cold_start else float("inf")


def _starts(report: Report, measured: Sequence[Measurement]) -> Figure:
    bars, rows = [], []
    for m in measured:
        assert m.cold_start is not None
        stages = [(name, float(getattr(m.cold_start, key))) for name, key in _STAGES]
        title = m.candidate.title
        rows.append(
            (title, *(f"{ms:.1f}" for ms in (_total_ms(m), m.cold_start.total_spread_ms, *(v for _, v in stages))))
        )
        parts = tuple(Segment(ms, name, f"{title}: {name} {ms:.0f} ms") for name, ms in stages)
        bars.append((m, Bar(title, parts, f"{_total_ms(m):,.0f} ms")))
    shown = drawn(report, measured, 8)
    picture = Bars(tuple(bar for m, bar in bars if m in shown), "ms", tuple(name for name, _ in _STAGES))
    headings = ["candidate", "total>", "spread>", *(f"{name}>" for name, _ in _STAGES)]
    caption = "Fresh processes, files in the page cache. The process is Python, numpy and edgekit."
    return Figure(
        picture, table(headings, rows, "From a fresh process to the first answer, ms"), "To the first answer", caption
    )


def _memory(report: Report, measured: Sequence[Measurement]) -> Figure:
    names = list(dict.fromkeys(part.name for m in measured for part in m.memory)) or ["peak"]
    bars, rows = [], []
    for m in sorted(measured, key=lambda m: m.peak_rss_bytes or 0):
        title, peak = m.candidate.title, m.peak_rss_bytes or 0
        added = {part.name: part.added_bytes for part in m.memory} or {"peak": peak}
        rows.append((title, mebibytes(peak), *(mebibytes(added.get(name)) for name in names if name != "peak")))
        parts = tuple(
            Segment(max(added[name], 0) / 2**20, name, f"{title}: {name} {mebibytes(added[name])} MiB")
            for name in names
            if name in added
        )
        bars.append((m, Bar(title, parts, f"peak {mebibytes(peak)} MiB")))
    shown = drawn(report, measured, 8)
    picture = Bars(tuple(bar for m, bar in bars if m in shown), "MiB", tuple(names))
    headings = ["candidate", "peak>", *(f"{name}>" for name in names if name != "peak")]
    caption = "Resident memory of a process that loads the model and runs it, with what each stage added to it."
    return Figure(picture, table(headings, rows, "Resident memory, MiB"), "Memory", caption)
