"""``edgekit inspect``"""

from __future__ import annotations

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "inspect",
    cls=Command,
    example="edgekit inspect emotion.edge",
    help="Show signature, variants, sizes, share of int8 and provenance of a bundle, or a model file's signature.",
)
@click.argument("path", type=click.Path())
@click.option("--layers", is_flag=True, help="What each layer is in every variant, how its rounding shows, and why.")
@options.as_json
@options.common
def COMMAND(path: str, layers: bool, as_json: bool) -> None:  # noqa: N802
    from edgekit.cli.output import answer
    from edgekit.inspection import inspect
    from edgekit.report.inspection_view import view
    from edgekit.report.layers_view import layers_view

    record = inspect(path)
    shown = (lambda: layers_view(record.name, record.required_layers())) if layers else (lambda: view(record))
    answer(record, shown, schema="edgekit.inspection", as_json=as_json)
