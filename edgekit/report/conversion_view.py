"""A `ConversionReport` as a document."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.report.document import Block, Document, Fields, Notes, table
from edgekit.report.units import dash, megabytes, percent

if TYPE_CHECKING:
    from edgekit.conversion import ConversionReport
    from edgekit.plan import Road

__all__ = ["parity_words", "synthetic_words", "view"]


def view(report: ConversionReport, place: str) -> Document:
    """What was written or refused, that it is at `place` as the user typed it, and what to type next."""
    judged = next((v.accuracy for v in report.variants if v.accuracy), None)
    is_named = any(v.recipe != v.precision for v in report.variants)
    rows = [
        (
            v.format,
            *([v.recipe] if is_named else ()),
            v.precision,
            v.status,
            megabytes(v.size_bytes),
            parity_words(v.parity),
            percent(v.int8_macs_share),
            f"{v.speed.ratio:.2f}x" if v.speed else dash,
            *([f"{v.accuracy.value:.4f}" if v.accuracy else dash] if judged else ()),
            v.road or dash,
        )
        for v in report.variants
    ]
    headings = [
        "format",
        *(["recipe"] if is_named else ()),
        "precision",
        "status",
        "size>",
        "parity with the source",
        "int8 share>",
        "time / fp32>",
        *([f"{judged.metric} (source {judged.source_value:.4f})>"] if judged else ()),
        "road",
    ]
    blocks: list[Block] = [table(headings, rows)]
    if reasons := tuple((f"{v.format} {v.recipe}: {v.reason}", "") for v in report.variants if v.reason):
        blocks.append(Notes(reasons, "Refused, and roads that failed"))
    if apart := tuple((f"{v.format} {v.recipe}: {'; '.join(v.apart)}", "") for v in report.variants if v.apart):
        blocks.append(Notes(apart, "More than 1 dB behind another format of the recipe"))
    if report.bundle is None:
        blocks.append(Notes(tuple(_roads(report)), "Roads in the order they are tried, hop by hop"))
    else:
        blocks.append(Fields((("bundle", place), ("next", f"edgekit profile {shlex.quote(place)}"))))
    return Document(_title(report), tuple(blocks))


def _title(report: ConversionReport) -> str:
    title = f"{report.plan.source} for {report.plan.target.title}"
    if report.bundle is None:
        return f"Plan: {title} (nothing was written)"
    return f"{title}{synthetic_words(report.bundle.provenance)}"


def synthetic_words(provenance: Mapping[str, Any]) -> str:
    """What to put behind a title where the calibration data were noise; empty where they were not."""
    is_synthetic = (provenance.get("calibration") or {}).get("synthetic")
    return ", CALIBRATED ON RANDOM NUMBERS" if is_synthetic else ""


def _roads(report: ConversionReport) -> Iterator[tuple[str, str]]:
    """A line for each road, with the files it leads to."""
    leads: dict[tuple[int, Road], list[str]] = {}
    for variant in report.plan.variants:
        for place, road in enumerate(variant.roads, 1):
            leads.setdefault((place, road), []).append(f"{variant.format} {variant.precision}")
    for (place, road), files in leads.items():
        hops = "; ".join(f"{hop.name}: {hop.how}" for hop in road.hops)
        yield f"{', '.join(files)}: {place}. {hops} (--road {road.word}: {road.why})", ""


def parity_words(parity: Mapping[str, Any] | None) -> str:
    """The worst difference as a share of the output's range, and agreement of the largest output where there is one."""
    if not parity:
        return dash
    words = []
    if parity.get("relative") is not None:
        words.append(f"{parity['relative']:.1e} of range")
    if parity.get("top1_agreement") is not None:
        words.append(f"top-1 {parity['top1_agreement']:.1%}")
    return ", ".join(words) or dash
