"""What every renderer understands: a document of fields, tables and notes, made from a record by a *view*.

A record of a new kind needs one view, a new form one renderer; neither knows of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Column", "Document", "Fields", "Notes", "Table"]


@dataclass(frozen=True)
class Column:
    """A heading; numbers stand to the right."""

    title: str
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text, as many cells as columns. `title` may be empty."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Fields:
    """Names with values, one a line."""

    items: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True)
class Notes:
    """Sentences, each with what to do about it where there is something."""

    items: tuple[tuple[str, str], ...]
    title: str = ""


Block = Table | Fields | Notes


@dataclass(frozen=True)
class Document:
    """A title and blocks in reading order."""

    title: str
    blocks: tuple[Block, ...] = field(default=())


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Table:
    """A table from headings; one that ends in ``>`` is of numbers."""
    columns = tuple(Column(heading.rstrip(">"), heading.endswith(">")) for heading in headings)
    return Table(columns, tuple(tuple(row) for row in rows), title)
