"""``edgekit models train``"""

from __future__ import annotations

import sys

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "train",
    cls=Command,
    example="edgekit models train feed-forward --epochs 2 -o mine.onnx",
    help="Train the model NAME (a family, or family:size) and write it in the form the output's suffix says. After "
    "each epoch its state is kept in OUTPUT.training, from which --resume goes on.",
)
@click.argument("name")
@click.option("--size", default="tiny", show_default=True, metavar="SIZE", help="`edgekit list models` shows them.")
@click.option("-o", "--output", type=click.Path(), required=True, metavar="PATH", help="The file or folder.")
@click.option("--data", metavar="NAME|PATH", help="A data set, or your own dataset.yaml; by default the family's.")
@click.option("--init", metavar="tiny|FILE|HUB", help="Weights to start from; by default drawn from the seed.")
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Passes over the data; by default its own.")
@options.seed
@options.threads
@click.option("--resume", is_flag=True, help="Go on where an interrupted run was left.")
@options.force
@options.as_json
@options.common
def COMMAND(name: str, output: str, as_json: bool, **settings: object) -> None:  # noqa: N802
    from edgekit.cli.output import answer, note
    from edgekit.cli.progress import bar
    from edgekit.report.making_view import view_training
    from edgekit.training import train

    with bar() as progress:
        # A bar shows the figures of each epoch itself; lines between would break it.
        say = note if progress is None or not sys.stderr.isatty() else None
        report = train(name, output=output, say=say, progress=progress, **settings)  # type: ignore[arg-type]
    if report.anew:
        note(f"note: {', '.join(report.anew)} did not fit and started anew")
    answer(report, lambda: view_training(report, output), schema="edgekit.training", as_json=as_json)
