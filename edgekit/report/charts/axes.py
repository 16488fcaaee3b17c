"""Scales: where a number stands along an axis, and the round numbers to write beside it.

Places are percents of the drawing's width or height. A chart made of them fits any screen without being made smaller:
its letters keep the size of the page's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.report.markup import Markup, join, tag

__all__ = ["Scale", "below", "grid", "log_scale", "scale"]

_LOG_FROM = 6.0
"""Axes that reach over more than this factor are logarithmic."""


@dataclass(frozen=True)
class Scale:
    """From `low` to `high`, with `ticks` in between."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Percent of the way; what lies outside stands at the end."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            return 100 * math.log(value / self.low) / math.log(self.high / self.low)
        return 100 * (value - self.low) / (self.high - self.low)

    def words(self, value: float) -> str:
        """A tick's number, with as many digits as tell it from its neighbors."""
        steps = [b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False)] or [abs(value) or 1.0]
        step = abs(value) if self.is_log else min(steps)
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
        return f"{value:,.{digits}f}"


def scale(values: Sequence[float], *, from_zero: bool = False, least: float = 0.0) -> Scale:
    """A linear scale around all of `values`, of which there is at least one.

    Args:
        from_zero: Begin at 0.
        least: Reach over at least so much, so that noise does not look like a difference.
    """
    low, high = min(values), max(values)
    if from_zero:
        low = min(0.0, low)
    room = max(high - low, least, abs(high) * 1e-9) or 1.0
    middle = (low + high) / 2
    low, high = (low, low + room * 1.02) if from_zero else (middle - 0.56 * room, middle + 0.56 * room)
    step = _round_step((high - low) / 4)
    first = math.ceil(low / step - 1e-9)
    ticks = tuple(step * turn for turn in range(first, math.floor(high / step + 1e-9) + 1))
    return Scale(low, high, ticks)


def log_scale(values: Sequence[float], *, room: float = 1.12) -> Scale:
    """Around positive `values`: logarithmic if they differ by much, else linear. `room` is the factor left around."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < _LOG_FROM:
        return scale(values)
    low, high = low / room, high * room
    ticks = [
        m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
    ]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) > 6:
        inside = [tick for tick in inside if round(tick / 10.0 ** math.floor(math.log10(tick) + 1e-9)) == 1]
    return Scale(low, high, tuple(inside), is_log=True)


def _round_step(step: float) -> float:
    """The next of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return power * next(m for m in (1, 2, 5, 10) if m * power >= step * (1 - 1e-9))


def grid(axis: Scale) -> Markup:
    """Upright lines at the ticks, over the whole height."""
    lines = (
        tag("line", class_="grid", x1=f"{axis.place(t):.2f}%", x2=f"{axis.place(t):.2f}%", y1=0, y2="100%")
        for t in axis.ticks
    )
    return join(*lines)


def below(axis: Scale, title: str) -> Markup:
    """The numbers under a chart, and what they are of."""
    marks = []
    for tick in axis.ticks:
        x = axis.place(tick)
        anchor = "start" if x < 2 else "end" if x > 98 else "middle"
        marks.append(tag("text", axis.words(tick), x=f"{x:.2f}%", y=14, text_anchor=anchor))
    return join(
        tag("svg", *marks, class_="axis", width="100%", height=18, aria_hidden="true"),
        tag("p", title, class_="axis-title"),
    )
