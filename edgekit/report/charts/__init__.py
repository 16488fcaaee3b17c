"""Pictures as HTML with SVG in it, drawn without a script: they show on a phone, on paper and without a network."""

from __future__ import annotations

from edgekit.report.charts.density import draw_distributions
from edgekit.report.charts.rows import draw_bars, draw_spans
from edgekit.report.charts.scatter import draw_points
from edgekit.report.markup import Markup
from edgekit.report.pictures import Bars, Distributions, Picture, Points

__all__ = ["draw_picture"]


def draw_picture(picture: Picture) -> Markup:
    """A chart in colors of the page's style sheet."""
    if isinstance(picture, Points):
        return draw_points(picture)
    if isinstance(picture, Distributions):
        return draw_distributions(picture)
    if isinstance(picture, Bars):
        return draw_bars(picture)
    return draw_spans(picture)
