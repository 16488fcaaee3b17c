"""Candidates by two numbers, with the line of those that nothing else beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.report.charts.axes import Scale, below, grid, log_scale, scale
from edgekit.report.charts.legend import color_classes, legend
from edgekit.report.markup import Markup, join, tag
from edgekit.report.pictures import Point, Points

__all__ = ["draw_points"]

_HEIGHT_PX = 300
_LARGEST_PX = 15.0
_SMALLEST_PX = 4.5


def draw_points(picture: Points) -> Markup:
    """Circles, the front's with numbers that a list below gives names to."""
    x = log_scale([end for p in picture.points for end in (p.x, *(p.interval or ()))])
    y = scale([p.y for p in picture.points], least=picture.least)
    classes = color_classes(p.group for p in picture.points)
    largest = max(p.area for p in picture.points) or 1.0
    front = sorted((p for p in picture.points if p.is_front or p.is_shipped), key=lambda p: p.x)
    order = sorted(picture.points, key=lambda p: (p.is_front or p.is_shipped, -p.area))
    circles = (_circle(p, x, y, classes[p.group], math.sqrt(p.area / largest)) for p in order)
    numbers = (_number(turn, p, x, y, math.sqrt(p.area / largest)) for turn, p in enumerate(front, 1))
    drawn = tag(
        "svg", grid(x), _across(y), _line([p for p in front if p.is_front], x, y), *circles, *numbers,
        role="img", aria_label=_said(picture, front), class_="plot", width="100%", height=_HEIGHT_PX,
    )  # fmt: skip
    arrow = "\N{UPWARDS ARROW}" if picture.is_higher_better else "\N{DOWNWARDS ARROW}"
    return tag(
        "div",
        legend(classes),
        tag("p", f"{picture.y_title} ({arrow} is better)", class_="axis-title above"),
        tag("div", drawn, below(x, f"{picture.x_title} (\N{LEFTWARDS ARROW} is better)"), class_="plot-box"),
        tag("ol", *(tag("li", _listed(p)) for p in front), class_="key"),
        class_="chart",
    )


def _said(picture: Points, front: Sequence[Point]) -> str:
    named = "; ".join(p.note for p in front)
    return f"{len(picture.points)} candidates by {picture.x_title} and {picture.y_title}. The front: {named}"


def _listed(point: Point) -> Markup:
    return join(
        tag("strong", point.name),
        " (shipped) " if point.is_shipped else " ",
        point.note.removeprefix(f"{point.name}: "),
    )


def _px(share: float) -> float:
    return max(_SMALLEST_PX, _LARGEST_PX * share)


def _across(axis: Scale) -> Markup:
    parts = []
    for tick in axis.ticks:
        y = f"{100 - axis.place(tick):.2f}%"
        parts.append(tag("line", class_="grid", x1=0, x2="100%", y1=y, y2=y))
        parts.append(tag("text", axis.words(tick), x=-6, y=y, dy="0.32em", text_anchor="end"))
    return join(*parts)


def _line(front: Sequence[Point], x: Scale, y: Scale) -> Markup | None:
    """Steps from each point of the front to the next: along them something drawn is as fast and as good."""
    if len(front) < 2:
        return None
    places = [(x.place(p.x), 100 - y.place(p.y)) for p in front]
    path = f"M{places[0][0]:.2f} {places[0][1]:.2f}" + "".join(f"H{a:.2f}V{b:.2f}" for a, b in places[1:])
    drawn = tag("path", class_="front", d=path, vector_effect="non-scaling-stroke")
    return tag("svg", drawn, viewBox="0 0 100 100", preserveAspectRatio="none", width="100%", height="100%")


def _circle(point: Point, x: Scale, y: Scale, css: str, share: float) -> Markup:
    cy = f"{100 - y.place(point.y):.2f}%"
    whisker = None
    if point.interval is not None:
        low, high = (f"{x.place(end):.2f}%" for end in point.interval)
        whisker = tag("line", class_=f"span {css}", x1=low, x2=high, y1=cy, y2=cy)
    states = " front" * point.is_front + " shipped" * point.is_shipped + " refused" * point.is_refused
    circle = tag(
        "circle", tag("title", point.note), class_=f"point {css}{states}",
        cx=f"{x.place(point.x):.2f}%", cy=cy, r=_px(share),
    )  # fmt: skip
    return join(whisker, circle)


def _number(turn: int, point: Point, x: Scale, y: Scale, share: float) -> Markup:
    """Above the circle and below it by turns: neighbors on the front are often near each other."""
    away = _px(share) + 5
    place = 100 - y.place(point.y)
    dy = away + 9 if (turn % 2 == 0 and place < 88) or place < 8 else -away
    return tag(
        "text", str(turn), class_="number", x=f"{x.place(point.x):.2f}%", y=f"{place:.2f}%", dy=dy, text_anchor="middle"
    )
