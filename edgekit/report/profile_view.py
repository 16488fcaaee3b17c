"""A `Profile` as a document."""

from __future__ import annotations

from edgekit.environment import Environment
from edgekit.measuring.records import Measurement, Profile
from edgekit.report.document import Block, Document, Fields, Notes, Table, table
from edgekit.report.gating_view import gating_blocks
from edgekit.report.operations_view import operations_blocks
from edgekit.report.scenario_view import scenario_table
from edgekit.report.units import dash, mebibytes, megabytes, milliseconds, percent

__all__ = ["environment_fields", "view"]


def view(profile: Profile, top: int = 10) -> Document:
    """Latency, cold start and what did not run, with the machine above and caveats below.

    Args:
        profile: The record.
        top: How many operations are shown of each candidate that has an account of them.
    """
    measured = profile.measured
    blocks: list[Block] = [environment_fields(profile.environment)]
    if measured:
        blocks.append(_latency_table(measured))
        if (load := scenario_table(measured)) is not None:
            blocks.append(load)
        blocks.append(_cost_table(measured))
        if any(m.cold_start for m in measured):
            blocks.append(_cold_table(measured))
        if any(m.memory for m in measured):
            blocks.append(_memory_table(measured))
        blocks += operations_blocks(measured, top)
    if absent := [m for m in profile.measurements if m.status != "measured"]:
        rows = [(_title(m), m.status, m.reason, m.hint or dash) for m in absent]
        blocks.append(table(["candidate", "status", "reason", "remedy"], rows, "Not measured"))
    if profile.gating is not None:
        blocks += gating_blocks(profile.gating)
    blocks.append(_method(profile))
    if profile.warnings:
        blocks.append(Notes(tuple((w.message, w.remedy) for w in profile.warnings), "Warnings"))
    where = f" on {profile.device}" if profile.device else ""
    return Document(f"Profile of {profile.source}{where}", tuple(blocks))


def environment_fields(environment: Environment) -> Fields:
    """The machine in a few lines."""
    e = environment
    memory = dash if e.memory_bytes is None else f"{e.memory_bytes / 2**30:.1f} GiB"
    items = [
        ("cpu", f"{e.board + ': ' if e.board else ''}{e.cpu}, {e.cores} cores, {e.architecture}"),
        ("features", " ".join(e.features) or dash),
        ("memory", memory),
        ("system", f"{e.os}, Python {e.python}, edgekit {e.edgekit}" + (", virtual machine" if e.is_virtual else "")),
        ("packages", ", ".join(f"{name} {version}" for name, version in e.packages.items())),
    ]
    if e.emulation:
        items.append(("emulation", e.emulation))
    return Fields(tuple(items))


def _title(measurement: Measurement) -> str:
    return measurement.candidate.title


def _latency_table(measured: tuple[Measurement, ...]) -> Table:
    rows = []
    for m in measured:
        if (latency := m.latency) is None:
            continue
        s = latency.summary
        known = latency.interval.half_width(s.p50_us) if latency.interval else None
        within = dash if known is None else f"{known:.1%}"
        times = (milliseconds(s.p50_us), within, milliseconds(s.p90_us), milliseconds(s.p99_us))
        own = _versus(m.ratio_to_engine_fp32, m.versus_engine_fp32)
        rows.append((*_names(m), *times, own, _versus(m.ratio_to_best_fp32, m.versus_best_fp32)))
    headings = ["variant", "runtime", "thr.>", "p50>", "+-%>", "p90>", "p99>", "vs engine's fp32>", "vs best fp32>"]
    return table(headings, rows, "Latency of one call, ms, fastest first")


def _cost_table(measured: tuple[Measurement, ...]) -> Table:
    rows = [
        (
            *_names(m),
            milliseconds(m.cpu_us),
            dash if m.throughput_per_s is None else f"{m.throughput_per_s:.0f}",
            percent(m.latency.summary.spread if m.latency else None),
            mebibytes(m.peak_rss_bytes),
            megabytes(m.candidate.size_bytes),
        )
        for m in measured
    ]
    headings = ["variant", "runtime", "thr.>", "CPU ms>", "calls/s>", "spread>", "RSS MiB>", "file>"]
    return table(headings, rows, "What it costs")


def _names(measurement: Measurement) -> tuple[str, str, str]:
    c = measurement.candidate
    arithmetic = "" if measurement.arithmetic in (None, "fp32") else f" ({measurement.arithmetic})"
    return c.variant, c.runtime + arithmetic, "auto" if c.threads is None else str(c.threads)


def _versus(value: float | None, word: str | None) -> str:
    """The ratio of medians; what is slower says so, and what the rounds cannot tell has a question mark."""
    if value is None:
        return dash
    return f"{value:.2f}x" + {"slower": " SLOWER", "same": " same", "unclear": " ?"}.get(word or "", "")


def _cold_table(measured: tuple[Measurement, ...]) -> Table:
    rows = []
    for m in sorted(measured, key=lambda m: m.cold_start.total_ms if m.cold_start else float("inf")):
        if (c := m.cold_start) is None:
            continue
        times = (c.total_ms, c.total_spread_ms, c.process_ms, c.import_ms, c.load_ms, c.first_run_ms)
        rows.append((m.candidate.variant, m.candidate.runtime, *(f"{value:.1f}" for value in times)))
    headings = ["variant", "runtime", "total>", "spread>", "process>", "engine import>", "load>", "first run>"]
    return table(headings, rows, "Cold start, ms, from a fresh process to the first answer")


def _memory_table(measured: tuple[Measurement, ...]) -> Table:
    rows = []
    for m in sorted(measured, key=lambda m: m.peak_rss_bytes or 0):
        if m.memory:
            anonymous = [part.anonymous_bytes for part in m.memory]
            total = None if None in anonymous else sum(one or 0 for one in anonymous)
            sizes = (m.peak_rss_bytes, *(part.added_bytes for part in m.memory), total)
            rows.append((m.candidate.variant, m.candidate.runtime, *map(mebibytes, sizes)))
    headings = ["variant", "runtime", "peak>", "interpreter>", "engine>", "model>", "runs>", "its own>"]
    return table(headings, rows, "Resident memory of a fresh process, MiB, by what brought it in")


def _method(profile: Profile) -> Fields:
    s = profile.settings
    shapes = ", ".join(f"{name}{shape}" for name, shape in s.feed_shapes.items())
    energy = sorted({m.energy_reason for m in profile.measured if m.energy_reason})
    items = [
        ("feeds", f"{s.feeds}: {shapes}" if shapes else s.feeds),
        ("method", f"one process each, one round dropped, then {_rounds(profile)}; {s.cold_starts} cold starts"),
        ("vs fp32", "p50 over that of fp32 with the same engine, and over the best fp32; ? = these rounds cannot tell"),
        ("answers", _answers(profile)),
        ("clock", _clock(profile)),
        ("energy", "; ".join(energy) if energy else _energy(profile)),
        ("temperature", _temperature(profile)),
    ]
    return Fields(tuple(items), "How")


def _rounds(profile: Profile) -> str:
    count = max((len(m.latency.rounds_us) for m in profile.measured if m.latency), default=profile.settings.rounds)
    goal = profile.settings.interval
    why = {
        "interval": f", until every median was known within {goal:.1%}" if goal else "",
        "time": ", until the time was up",
    }.get(profile.ended_by, "")
    return f"{count} interleaved rounds{why}"


def _answers(profile: Profile) -> str:
    audits = [m.audit for m in profile.measured if m.audit is not None]
    if not audits:
        return "not checked"
    calls, checked = sum(one.calls for one in audits), sum(one.calls_checked for one in audits)
    inputs = min(one.inputs for one in audits)
    return (
        f"{checked} of {calls} timed answers held against untimed ones, to {inputs} different inputs that "
        "change places between rounds; nothing is shown of those that differ"
    )


def _clock(profile: Profile) -> str:
    costs = [m.timer_ns for m in profile.measured if m.timer_ns is not None]
    return f"reading it takes {max(costs):.0f} ns, which is taken off" if costs else "not read"


def _energy(profile: Profile) -> str:
    known = [f"{m.candidate.title} {m.energy_uj / 1000:.2f} mJ" for m in profile.measured if m.energy_uj is not None]
    sources = sorted({m.energy_source for m in profile.measured if m.energy_uj is not None})
    return f"{'; '.join(known)}, of all that ran: {', '.join(sources)}" if known else "not read"


def _temperature(profile: Profile) -> str:
    before, after = profile.environment.temperature_c, profile.temperature_after_c
    if before is None or after is None:
        return "this machine shows none"
    return f"{before:.0f} degrees before, {after:.0f} after"
