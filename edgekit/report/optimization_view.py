"""An `OptimizationReport` as a document."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit.report.document import Block, Document, Fields, Notes, table
from edgekit.report.units import dash, megabytes

if TYPE_CHECKING:
    from edgekit.optimizing.records import OptimizationReport, TrialRecord

__all__ = ["view"]


def view(report: OptimizationReport, place: str) -> Document:
    """What was measured, what was shipped, and why everything else was not."""
    whole = max((one.metric_count or 0 for one in report.trials), default=0)
    measured = [one for one in report.trials if one.p50_us is not None]
    rest = [one for one in report.trials if one.p50_us is None]
    metric = report.metric or "metric"
    headings = ["trial", "status", "p50 us>", "95 % interval", "size>", "peak RSS>", f"{metric}>", "dB>", "front"]
    blocks: list[Block] = []
    if measured:
        blocks.append(table(headings, [_row(one, whole) for one in measured]))
    if reasons := tuple((f"{one.title}: {one.reason}", "") for one in measured if one.reason and not _is_seen(one)):
        blocks.append(Notes(reasons, "Why not"))
    if rest:
        rows = [(one.title, one.status, one.reason or dash) for one in rest]
        blocks.append(table(["file", "status", "reason"], rows, "Not measured"))
    blocks.append(Fields(tuple(_facts(report, place))))
    if report.notes:
        blocks.append(Notes(tuple((note, "") for note in report.notes), "Notes"))
    title = f"{report.source} for {report.title}, best in {report.objective}"
    return Document(title if report.bundle is not None else f"Space: {title} (nothing was made)", tuple(blocks))


def _is_seen(one: TrialRecord) -> bool:
    """Whether the table says as much: that others were ahead."""
    return one.status == "halved" and one.reason.startswith("number ")


def _row(one: TrialRecord, whole: int) -> tuple[str, ...]:
    interval = f"{one.interval_us[0]:.4g} to {one.interval_us[1]:.4g}" if one.interval_us else dash
    return (
        one.title,
        one.status,
        f"{one.p50_us:.4g}" if one.p50_us is not None else dash,
        interval,
        megabytes(one.size_bytes),
        megabytes(one.peak_rss_bytes),
        _metric(one, whole),
        f"{one.sqnr_db:.1f}" if one.sqnr_db is not None else dash,
        "yes" if one.on_front else "",
    )


def _metric(one: TrialRecord, whole: int) -> str:
    """With the number of samples where those are not all."""
    if one.metric_value is None:
        return dash
    return f"{one.metric_value:.4f}" + (f" of {one.metric_count}" if one.metric_count != whole else "")


def _facts(report: OptimizationReport, place: str) -> Iterator[tuple[str, str]]:
    if report.bundle is None:
        yield "cost", str(report.estimate)
        return
    best = report.shipped
    assert best is not None
    yield "shipped", f"{best.title}: p50 {best.p50_us:.4g} us" + (f", {report.metric} {best.metric_value:.4f}"
                                                                  if best.metric_value is not None else "")  # fmt: skip
    if report.source_value is not None and report.metric:
        yield "source", f"{report.metric} {report.source_value:.4f}"
    cut = ", where the budget ended it" if report.is_cut else ""
    known = f"; {report.reused} units of work were known from before" if report.reused else ""
    yield "time", f"{report.seconds:.0f} s{cut}{known}"
    yield "bundle", place
    yield "next", f"edgekit profile {shlex.quote(place)}"
