"""Colors of groups, and the list that says which is which."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.report.charts.palette import COLORS
from edgekit.report.markup import Markup, tag

__all__ = ["color_classes", "legend"]


def color_classes(groups: Iterable[str]) -> dict[str, str]:
    """The class of the style sheet that colors each group; those beyond the palette share the last, grey one."""
    return {group: f"c{min(turn, COLORS)}" for turn, group in enumerate(dict.fromkeys(groups), 1)}


def legend(classes: dict[str, str]) -> Markup | None:
    """Nothing where there is only one group."""
    if len(classes) < 2:
        return None
    items = (
        tag(
            "li",
            tag("svg", tag("rect", width=12, height=12, rx=2, class_=css), width=12, height=12, aria_hidden="true"),
            name,
        )
        for name, css in classes.items()
    )
    return tag("ul", *items, class_="legend")
