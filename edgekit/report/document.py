"""What every renderer understands: a document of fields, tables, notes and figures, made from a record by a *view*.

A record of a new kind needs one view, a new form one renderer; neither knows of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgekit.report.pictures import Picture

__all__ = ["Column", "Document", "Fields", "Figure", "Highlights", "Notes", "Section", "Table", "Words", "table"]


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
    """Sentences, each with what to do about it where there is something. What stands in backticks is to be typed."""

    items: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True)
class Words:
    """A paragraph; what stands in backticks is to be typed. `tone` is of an answer: good, bad or open."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Highlights:
    """The few figures somebody came for: what it is, its value, and what that is to be held against."""

    items: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Figure:
    """A picture, and the numbers in it as a table: whoever cannot see or draw the one has the other."""

    picture: Picture
    table: Table
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Blocks under a heading of their own."""

    title: str
    blocks: tuple[Block, ...]


Block = Table | Fields | Notes | Words | Highlights | Figure | Section


@dataclass(frozen=True)
class Document:
    """A title and blocks in reading order."""

    title: str
    blocks: tuple[Block, ...] = field(default=())


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> Table:
    """A table from headings; one that ends in ``>`` is of numbers."""
    columns = tuple(Column(heading.rstrip(">"), heading.endswith(">")) for heading in headings)
    return Table(columns, tuple(tuple(row) for row in rows), title)
