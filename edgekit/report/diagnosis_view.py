"""A `Diagnosis` as a document."""

from __future__ import annotations

from edgekit.diagnosis import Diagnosis
from edgekit.report.document import Document, Fields, table
from edgekit.report.profile_view import environment_fields
from edgekit.report.units import dash

__all__ = ["view"]


def view(diagnosis: Diagnosis) -> Document:
    """The machine, then what works and what is missing."""
    blocks = [environment_fields(diagnosis.environment)]
    rows = {"runtime": [], "converter": []}  # type: dict[str, list[tuple[str, ...]]]
    for part in diagnosis.parts:
        p = part.probe
        state = "works" if p.available else "missing"
        rows[part.kind].append((part.name, state, p.version or dash, p.reason or dash, part.remedy or dash))
    headings = ["name", "", "version", "reason", "what adds it"]
    cache = diagnosis.cache_problem or "can be written"
    return Document(
        "edgekit doctor",
        (
            *blocks,
            table(headings, rows["runtime"], "Runtimes"),
            table(headings, rows["converter"], "Converters"),
            Fields((("cache", f"{diagnosis.cache}: {cache}"),)),
        ),
    )
