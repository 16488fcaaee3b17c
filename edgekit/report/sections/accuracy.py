"""How good the answers are: by labeled data where there are some, and against the source model."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.evaluating.records import Evaluation, Evaluations
from edgekit.report.conversion_view import parity_words
from edgekit.report.document import Block, Figure, Notes, Section, Table, Words, table
from edgekit.report.evaluation_view import view as view_evaluations
from edgekit.report.pictures import Span, Spans
from edgekit.report.sections.judging import judge_quality
from edgekit.report.sections.shipped import held_against, missing, place, shipped_trial
from edgekit.report.units import dash
from edgekit.reporting import Report

__all__ = ["accuracy_section"]


def accuracy_section(report: Report) -> Section:
    """The metric with intervals, classes, and parity."""
    blocks: list[Block] = []
    if report.evaluation is None:
        command = f"edgekit report {place(report)} --data DATA -o report.html"
        trial = shipped_trial(report)
        if trial is not None and trial.metric_value is not None:
            blocks.append(Words(f"In the search {judge_quality(report).words}."))
            blocks.append(missing("Classes and mistakes were not kept by the search.", command))
        else:
            blocks.append(missing("No metric was computed on labeled data.", command))
    else:
        blocks += _evaluated(report, report.evaluation)
    if report.inspection.variants:
        blocks.append(_parity(report))
    apart = report.inspection.provenance.get("apart") or {}
    if notes := tuple((f"{name}: {'; '.join(map(str, reasons))}", "") for name, reasons in apart.items()):
        blocks.append(Notes(notes, "More than 1 dB behind another format of the recipe"))
    return Section("Accuracy", tuple(blocks))


def _evaluated(report: Report, found: Evaluations) -> Iterator[Block]:
    """What `edgekit evaluate` shows, with a picture of its first table, which is that of the variants."""
    is_drawn = False
    for block in view_evaluations(found).blocks:
        if isinstance(block, Table) and not is_drawn:
            is_drawn = True
            yield _drawn(report, found, block)
        else:
            yield block


def _drawn(report: Report, found: Evaluations, numbers: Table) -> Figure:
    base = held_against(report)
    rows = ([found.source] if found.source else []) + list(found.evaluations)
    spans = tuple(_span(row) for row in rows)
    lines = (
        "Lines are where the figure would lie for other samples, 95 times in 100."
        if any(row.interval.ends for row in rows)
        else "No interval is known of these figures."
    )
    dashed = f" The dashed line is {base.variant}." if base else ""
    picture = Spans(spans, rows[0].metric, 0.01, base.value if base else None)
    return Figure(picture, numbers, "By variant", lines + dashed)


def _span(row: Evaluation) -> Span:
    low, high = row.interval.ends or (row.value, row.value)
    words = f"{row.value:.4f}" + (f" ({low:.4f} to {high:.4f})" if row.interval.ends else "")
    return Span(row.variant, low, row.value, high, row.precision or "source", words)


def _parity(report: Report) -> Table:
    rows = []
    for variant in report.inspection.variants:
        parity, accuracy = variant.get("parity") or {}, variant.get("accuracy")
        db = parity.get("sqnr_db")
        judged = (
            f"{accuracy['metric']} {accuracy['value']:.4f}, source {accuracy['source_value']:.4f}" if accuracy else dash
        )
        rows.append(
            (
                str(variant["name"]),
                dash if db is None else f"{db:.1f}",
                parity_words(parity),
                str(parity.get("data") or dash),
                judged,
            )
        )
    headings = ["variant", "signal to noise, dB>", "worst difference", "compared on", "judged when converted"]
    return table(headings, rows, "Against the source model, when it was converted")
