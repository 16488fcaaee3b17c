"""A `Report` as a document: a section for each question somebody has, every picture with its numbers as a table."""

from __future__ import annotations

from edgekit.report.document import Block, Document, Fields, Notes, Section
from edgekit.report.sections.accuracy import accuracy_section
from edgekit.report.sections.choice import choice_section
from edgekit.report.sections.latency import latency_section, start_section
from edgekit.report.sections.layers import layers_section
from edgekit.report.sections.operations import operations_section
from edgekit.report.sections.origin import machine_section, origin_section, warnings_section
from edgekit.report.sections.size import size_section
from edgekit.report.sections.summary import summary_section
from edgekit.reporting import Report

__all__ = ["view", "written_view"]


def view(report: Report) -> Document:
    """The whole page."""
    inspection = report.inspection
    sections = (
        summary_section(report),
        warnings_section(report),
        choice_section(report),
        latency_section(report),
        start_section(report),
        operations_section(report),
        layers_section(report),
        size_section(report),
        accuracy_section(report),
        machine_section(report),
        origin_section(report),
    )
    kind = f"for {inspection.target}" if inspection.target else f"({inspection.kind})"
    return Document(f"{inspection.name} {kind}", tuple(section for section in sections if section is not None))


def written_view(report: Report, place: str) -> Document:
    """The summary alone, that the page is at `place`, and what it could not show."""
    document = view(report)
    sections = [block for block in document.blocks if isinstance(block, Section)]
    absent = {item: None for s in sections for block in s.blocks for item in _absent(block)}
    blocks: list[Block] = [*sections[0].blocks, Fields((("report", place),))]
    if absent:
        blocks.append(Notes(tuple(absent), "Not on it, and what adds it"))
    return Document(document.title, tuple(blocks))


def _absent(block: Block) -> tuple[tuple[str, str], ...]:
    """Notes whose remedy is a command alone say that something is missing."""
    if not isinstance(block, Notes):
        return ()
    return tuple(item for item in block.items if item[1].startswith("`edgekit "))
