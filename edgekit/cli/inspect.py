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
@options.as_json
@options.common
def COMMAND(path: str, as_json: bool) -> None:  # noqa: N802
    from edgekit.cli.output import answer
    from edgekit.inspection import inspect
    from edgekit.report.inspection_view import view

    record = inspect(path)
    answer(record, lambda: view(record), schema="edgekit.inspection", as_json=as_json)
