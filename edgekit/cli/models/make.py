"""``edgekit models make``"""

from __future__ import annotations

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "make",
    cls=Command,
    example="edgekit models make feed-forward --size tiny -o feed-forward.onnx",
    help="Write the model NAME (a family, or family:size) in the form the output's suffix says: .keras, .h5, .pt2, "
    ".pt, .onnx, .safetensors, or a folder for a SavedModel.",
)
@click.argument("name")
@click.option("--size", default="tiny", show_default=True, metavar="SIZE", help="`edgekit list models` shows them.")
@click.option("-o", "--output", type=click.Path(), required=True, metavar="PATH", help="The file or folder.")
@click.option(
    "--weights",
    metavar="FILE|HUB",
    help="torchvision, huggingface, keras, huggingface:owner/name, or a file (.safetensors, .pth); by default those "
    "that ship, which only tiny sizes have.",
)
@options.seed
@options.force
@options.as_json
@options.common
def COMMAND(name: str, output: str, as_json: bool, **settings: object) -> None:  # noqa: N802
    from edgekit.cli.output import answer, note
    from edgekit.cli.progress import steps
    from edgekit.making import make_model
    from edgekit.report.making_view import view

    with steps() as say:
        made = make_model(name, output=output, say=say, **settings)  # type: ignore[arg-type]
    for line in made.notes:
        note(f"note: {line}")
    answer(made, lambda: view(made, output), schema="edgekit.model-file", as_json=as_json)
