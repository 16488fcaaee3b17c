"""What charts are of: numbers with names, and nothing of how they are drawn.

A *group* is what shares a color; groups are told apart in a legend and, as colors are not seen by all, in every mark's
own description.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bar", "Bars", "Distribution", "Distributions", "Picture", "Point", "Points", "Segment", "Span", "Spans"]


@dataclass(frozen=True)
class Point:
    """A candidate by two of its numbers.

    Attributes:
        x: Along the horizontal axis.
        y: Along the vertical one.
        area: What the area of its circle is in proportion to.
        note: What is said of it in full.
        is_front: Nothing drawn that was not refused is better in one and as good in the other.
        is_refused: Drawn hollow.
        interval: Where `x` lies with confidence, where that is known.
    """

    name: str
    x: float
    y: float
    area: float
    group: str
    note: str
    is_front: bool = False
    is_shipped: bool = False
    is_refused: bool = False
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Points:
    """Less `x` is better; `is_higher_better` says it of `y`, whose axis reaches over `least` at least."""

    points: tuple[Point, ...]
    x_title: str
    y_title: str
    is_higher_better: bool = True
    least: float = 0.0


@dataclass(frozen=True)
class Distribution:
    """Single measurements of one candidate; `words` are its figures as text."""

    name: str
    samples: tuple[float, ...]
    group: str
    words: str
    is_shipped: bool = False


@dataclass(frozen=True)
class Distributions:
    """One below the other on one axis, with the 50th, 90th and 99th percentile of each marked."""

    rows: tuple[Distribution, ...]
    axis_title: str


@dataclass(frozen=True)
class Segment:
    """A part of a bar. `note` says what it is in full."""

    value: float
    group: str
    note: str


@dataclass(frozen=True)
class Bar:
    """Segments end to end; `words` is what the bar comes to. Without segments `words` says why."""

    name: str
    segments: tuple[Segment, ...]
    words: str


@dataclass(frozen=True)
class Bars:
    """One below the other on one axis from 0. `groups` are in the order of the legend."""

    bars: tuple[Bar, ...]
    axis_title: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Span:
    """A value and where it lies with confidence."""

    name: str
    low: float
    value: float
    high: float
    group: str
    words: str


@dataclass(frozen=True)
class Spans:
    """One below the other on one axis, which reaches over `least` at least; `reference` is drawn through all rows."""

    spans: tuple[Span, ...]
    axis_title: str
    least: float = 0.0
    reference: float | None = None


Picture = Points | Distributions | Bars | Spans
