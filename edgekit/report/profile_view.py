"""A `Profile` as a document."""

from __future__ import annotations

from edgekit.environment import Environment
from edgekit.measuring.records import Measurement, Profile
from edgekit.report.document import Block, Document, Fields, Notes, Table, table
from edgekit.report.units import dash, mebibytes, megabytes, milliseconds, percent

__all__ = ["environment_fields", "view"]


def view(profile: Profile) -> Document:
    """Latency, cold start and what did not run, with the machine above and caveats below."""
    measured = profile.measured
    blocks: list[Block] = [environment_fields(profile.environment)]
    if measured:
        blocks += [_latency_table(measured), _cost_table(measured)]
        if any(m.cold_start for m in measured):
            blocks.append(_cold_table(measured))
    if absent := [m for m in profile.measurements if m.status != "measured"]:
        rows = [(_title(m), m.status, m.reason, m.hint or dash) for m in absent]
        blocks.append(table(["candidate", "status", "reason", "remedy"], rows, "Not measured"))
    blocks.append(_method(profile))
    if profile.warnings:
        blocks.append(Notes(tuple((w.message, w.remedy) for w in profile.warnings), "Warnings"))
    return Document(f"Profile of {profile.source}", tuple(blocks))


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
        times = (milliseconds(s.p50_us), milliseconds(s.p90_us), milliseconds(s.p99_us))
        own = _versus(m.ratio_to_engine_fp32, m.versus_engine_fp32)
        rows.append((*_names(m), *times, own, _versus(m.ratio_to_best_fp32, m.versus_best_fp32)))
    headings = ["variant", "runtime", "thr.>", "p50>", "p90>", "p99>", "vs engine's fp32>", "vs best fp32>"]
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


def _method(profile: Profile) -> Fields:
    s = profile.settings
    shapes = ", ".join(f"{name}{shape}" for name, shape in s.feed_shapes.items())
    energy = sorted({m.energy_reason for m in profile.measured if m.energy_reason})
    items = [
        ("feeds", f"{s.feeds}: {shapes}" if shapes else s.feeds),
        ("method", f"one process each, {s.rounds} interleaved rounds after one dropped, {s.cold_starts} cold starts"),
        ("vs fp32", "p50 over that of fp32 with the same engine, and over the best fp32; ? = these rounds cannot tell"),
        ("answers", "timed answers compared with untimed ones; nothing is shown of those that differ"),
        ("energy", "; ".join(energy) if energy else _energy(profile)),
        ("temperature", _temperature(profile)),
    ]
    return Fields(tuple(items), "How")


def _energy(profile: Profile) -> str:
    known = [f"{m.candidate.title} {m.energy_uj / 1000:.2f} mJ" for m in profile.measured if m.energy_uj is not None]
    return "; ".join(known) or "not read"


def _temperature(profile: Profile) -> str:
    before, after = profile.environment.temperature_c, profile.temperature_after_c
    if before is None or after is None:
        return "this machine shows none"
    return f"{before:.0f} degrees before, {after:.0f} after"
