"""A `Comparison` as a document."""

from __future__ import annotations

import math

from edgekit.comparison import Compared, Comparison, Latencies
from edgekit.measuring.agreement import Agreement
from edgekit.measuring.layerwise import LayerReport
from edgekit.report.document import Block, Document, Fields, Notes, Table, table
from edgekit.report.gating_view import gates_table
from edgekit.report.profile_view import environment_fields
from edgekit.report.units import dash, mebibytes, megabytes, milliseconds, percent

__all__ = ["view"]

_WORDS = {
    "faster": "the second is faster",
    "slower": "the second is slower",
    "same": "no difference that matters",
    "unclear": "unclear: the measurements allow both",
}


def view(comparison: Comparison) -> Document:
    """What the two are, how alike they answer, layer by layer, which is faster, and the gates."""
    c = comparison
    blocks: list[Block] = [_sides(c.first, c.second)]
    blocks += [_outputs(one) for one in c.agreements]
    if c.layers is not None:
        blocks += _layers(c.layers)
    if c.latencies is not None:
        blocks += [_latency_table(c.first, c.second), _latency(c.latencies)]
    if c.gates:
        blocks.append(gates_table(c.gates))
    if c.latencies is not None:
        blocks.append(environment_fields(c.environment))
    if c.notes:
        blocks.append(Notes(tuple((note, "") for note in c.notes), "Notes"))
    if c.warnings:
        blocks.append(Notes(tuple((w.message, w.remedy) for w in c.warnings), "Warnings"))
    return Document(f"{c.second.name} against {c.first.name}", tuple(blocks))


def _sides(first: Compared, second: Compared) -> Table:
    rows = []
    for word, side in (("first", first), ("second", second)):
        one = side.candidate
        threads = dash if one is None else "auto" if one.threads is None else str(one.threads)
        precision = dash if one is None else one.precision or dash
        size = megabytes(one.size_bytes) if one else dash
        rows.append((word, side.title, precision, threads, size, one.artifact_sha256[:12] if one else dash))
    return table(["", "what", "precision", "thr.>", "file>", "sha256"], rows)


def _outputs(agreement: Agreement) -> Table:
    rows = [
        (
            o.name if o.name == o.other_name else f"{o.name} = {o.other_name}",
            f"{o.max_abs:.3g}" + (f", {o.not_finite} not finite" if o.not_finite else ""),
            f"{o.relative:.2g}",
            decibels(o.sqnr_db),
            f"{o.cosine:.6f}",
            percent(o.top1_agreement, 1),
        )
        for o in agreement.outputs
    ]
    headings = ["output", "max diff>", "of range>", "SQNR dB>", "cosine>", "top-1 agrees>"]
    return table(headings, rows, f"Outputs on {agreement.data}")


def decibels(value: float) -> str:
    return "equal" if value == math.inf else "none" if value == -math.inf else f"{value:.1f}"


def _layers(report: LayerReport) -> list[Block]:
    if not report.layers:
        return [Fields((("layers", f"not compared: {report.reason}"),))]
    rows = [
        (
            one.name if one.name == one.other_name else f"{one.name} = {one.other_name}",
            "x".join(map(str, one.shape)),
            decibels(one.sqnr_db),
            f"{one.relative:.2g}",
            f"after {one.after}" if one.after else "",
            _mark(one.name, report),
        )
        for one in report.layers
    ]
    found: list[Block] = [table(["tensor", "shape", "SQNR dB>", "of range>", "", ""], rows, "Layer by layer")]
    items = [("begins at", report.begins_at or "nowhere: all differ by the rounding of floats at most")]
    if report.unmatched:
        items.append(("not compared", f"{report.unmatched} tensors of the first have no namesake of their size"))
    return [*found, Fields((*items, *(("read", note) for note in report.notes)))]


def _mark(name: str, report: LayerReport) -> str:
    marks = ["begins here"] if name == report.begins_at else []
    marks += ["largest step"] if name == report.worst_step else []
    return ", ".join(marks)


def _latency_table(first: Compared, second: Compared) -> Table:
    rows = []
    for word, side in (("first", first), ("second", second)):
        times = [milliseconds(value) for value in (side.percentiles_us or {}).values()]
        rows.append((word, *times, mebibytes(side.peak_rss_bytes), side.arithmetic or dash))
    return table(["", "p50>", "p90>", "p99>", "RSS MiB>", "floats in"], rows, "Latency of one call, ms")


def _latency(latencies: Latencies) -> Fields:
    c = latencies.contrast
    interval = f"{c.low:.3f} to {c.high:.3f}, {c.confidence:.0%} interval" if c.confidence else "too few rounds to tell"
    ended = {"settled": "until it was clear", "time": "until the time was up", "pairs": "as often as it may be asked"}
    method = f"{c.pairs} pairs of fresh processes, {c.rounds} rounds in drawn order, {latencies.seconds:.0f} s"
    return Fields(
        (
            ("verdict", _WORDS[c.verdict]),
            ("ratio", f"x{c.ratio:.3f} ({interval})"),
            ("method", f"{method}, {ended[latencies.ended_by]}"),
        )
    )
