"""Distributions as half violins: where the single measurements of each candidate lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.report.charts.axes import Scale, below, grid, log_scale
from edgekit.report.charts.legend import color_classes, legend
from edgekit.report.charts.rows import heading
from edgekit.report.markup import Markup, join, tag
from edgekit.report.pictures import Distribution, Distributions

__all__ = ["density", "draw_distributions"]

_ROW_PX = 34
_PLACES = 120
_FAR = 3.0
"""Where the largest p99 is above this many times the largest p90, the axis ends before it."""

_MOST = 1000
"""Samples a curve is made of: of more, so many order statistics at equal distances."""


def draw_distributions(picture: Distributions) -> Markup:
    """A curve for each, with upright lines at the percentiles; the axis ends at the highest p99, if not far off."""
    low, usual, tail = ([float(np.percentile(row.samples, p)) for row in picture.rows] for p in (0.5, 90, 99))
    top = max(tail) if max(tail) <= _FAR * max(usual) else 1.3 * max(usual)
    axis = log_scale([min(low), top], room=1.05)
    classes = color_classes(row.group for row in picture.rows)
    rows = (_row(row, axis, classes[row.group]) for row in picture.rows)
    return tag("div", legend(classes), *rows, below(axis, picture.axis_title), class_="chart")


def _row(row: Distribution, axis: Scale, css: str) -> Markup:
    heights = density([axis.place(sample) for sample in row.samples if axis.low <= sample <= axis.high])
    top = float(heights.max()) or 1.0
    line = "L".join(
        f"{x:.1f} {100 - 96 * h / top:.1f}" for x, h in zip(np.linspace(0, 100, _PLACES), heights, strict=True)
    )
    curve = tag("path", class_=f"curve {css}", d=f"M0 100L{line}L100 100Z", vector_effect="non-scaling-stroke")
    marks = (
        _mark(name, float(np.percentile(row.samples, p)), axis) for name, p in (("p50", 50), ("p90", 90), ("p99", 99))
    )
    drawn = tag(
        "svg",
        grid(axis),
        tag("svg", curve, viewBox="0 0 100 100", preserveAspectRatio="none", width="100%", height="100%"),
        *marks,
        role="img", aria_label=f"{row.name}: {row.words}", class_="row", width="100%", height=_ROW_PX,
    )  # fmt: skip
    return join(heading(row.name, row.words, "shipped" if row.is_shipped else ""), drawn)


def _mark(name: str, value: float, axis: Scale) -> Markup:
    """A line at a percentile; where it lies beyond the axis, a small arrow at the end."""
    said = tag("title", f"{name} {value:.4g}")
    if value > axis.high:
        return tag("svg", tag("path", said, class_="beyond", d="M-9 12L-1 17L-9 22Z"), x="100%", overflow="visible")
    x = f"{axis.place(value):.2f}%"
    return tag(
        "line", said, class_=f"mark {name}", x1=x, x2=x, y1=2, y2=_ROW_PX, stroke_width=3 if name == "p50" else 1.5
    )


def density(places: Sequence[float]) -> np.ndarray:
    """How dense `places`, 0 to 100, lie at each of 120 steps between: float64 [120], in no unit.

    A Gaussian kernel of the width that Silverman's rule of thumb gives: "Density Estimation", 1986, equation 3.31; but
    no narrower than a step.
    """
    ordered = np.sort(np.asarray(places, np.float64))
    if not len(ordered):
        return np.zeros(_PLACES)
    if len(ordered) > _MOST:
        ordered = ordered[np.linspace(0, len(ordered) - 1, _MOST).round().astype(int)]
    quarter, three = np.percentile(ordered, (25, 75))
    spread = min(float(ordered.std()), float(three - quarter) / 1.34) or float(ordered.std())
    width = max(0.9 * spread * len(ordered) ** -0.2, 100 / _PLACES)
    steps = np.linspace(0, 100, _PLACES)
    summed: np.ndarray = np.exp(-0.5 * ((steps[:, None] - ordered[None, :]) / width) ** 2).sum(axis=1)
    return summed
