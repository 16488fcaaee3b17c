"""Charts of one row for each name: bars of parts, and values with their intervals."""

from __future__ import annotations

from edgekit.report.charts.axes import Scale, below, grid, scale
from edgekit.report.charts.legend import color_classes, legend
from edgekit.report.markup import Markup, join, tag
from edgekit.report.pictures import Bar, Bars, Span, Spans

__all__ = ["draw_bars", "draw_spans", "heading"]

_BAR_PX = 16
_SPAN_PX = 18


def heading(name: str, words: str, css: str = "") -> Markup:
    """Name and figures above a row; on a narrow screen they take two lines."""
    return tag(
        "div", tag("span", name, class_="name"), tag("span", words, class_="figures"), class_=f"row-head {css}".strip()
    )


def draw_bars(picture: Bars) -> Markup:
    """Bars of parts, with what each comes to above it."""
    classes = color_classes(picture.groups)
    longest = max((sum(s.value for s in bar.segments) for bar in picture.bars), default=0.0)
    axis = scale([longest or 1.0], from_zero=True)
    rows = (_bar(bar, axis, classes) for bar in picture.bars)
    used = {segment.group for bar in picture.bars for segment in bar.segments}
    shown = legend({group: css for group, css in classes.items() if group in used})
    return tag("div", shown, *rows, below(axis, picture.axis_title), class_="chart")


def _bar(bar: Bar, axis: Scale, classes: dict[str, str]) -> Markup:
    parts, start = [], 0.0
    for segment in bar.segments:
        x, end = axis.place(start), axis.place(start + segment.value)
        shape = {"x": f"{x:.3f}%", "width": f"{end - x:.3f}%", "y": 1, "height": _BAR_PX - 2}
        parts.append(
            tag("rect", tag("title", segment.note), class_=f"part {classes.get(segment.group, 'c8')}", **shape)
        )
        start += segment.value
    said = f"{bar.name}: {bar.words}"
    drawn = tag(
        "svg", *parts, role="img", aria_label=said, class_="row", width="100%", height=_BAR_PX
    )  # fmt: skip
    return join(heading(bar.name, bar.words), drawn if parts else None)


def draw_spans(picture: Spans) -> Markup:
    """A dot for each value on a line as long as its interval."""
    ends = [end for span in picture.spans for end in (span.low, span.high)]
    known = ends if picture.reference is None else [*ends, picture.reference]
    axis = scale(known, least=picture.least)
    classes = color_classes(span.group for span in picture.spans)
    rows = (_span(span, axis, classes, picture.reference) for span in picture.spans)
    return tag("div", legend(classes), *rows, below(axis, picture.axis_title), class_="chart")


def _span(span: Span, axis: Scale, classes: dict[str, str], reference: float | None) -> Markup:
    low, value, high = (f"{axis.place(number):.2f}%" for number in (span.low, span.value, span.high))
    middle, css = _SPAN_PX / 2, classes[span.group]
    base = None
    if reference is not None:
        x = f"{axis.place(reference):.2f}%"
        base = tag("line", class_="reference", x1=x, x2=x, y1=0, y2="100%")
    drawn = tag(
        "svg",
        grid(axis),
        base,
        tag("line", class_=f"span {css}", x1=low, x2=high, y1=middle, y2=middle),
        *(tag("line", class_=f"span {css}", x1=x, x2=x, y1=middle - 4, y2=middle + 4) for x in (low, high)),
        tag("circle", tag("title", f"{span.name}: {span.words}"), class_=css, cx=value, cy=middle, r=5),
        role="img", aria_label=f"{span.name}: {span.words}", class_="row", width="100%", height=_SPAN_PX,
    )  # fmt: skip
    return join(heading(span.name, span.words), drawn)
