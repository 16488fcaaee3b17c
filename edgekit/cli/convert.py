"""``edgekit convert``"""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "convert",
    cls=Command,
    example="edgekit convert emotion_model.hdf5 --target raspberry-pi-5 --precision fp32,int8 --calibration-data faces",
    help="Turn SOURCE (.keras, .h5, SavedModel folder, .onnx, .pt2, TorchScript, .tflite, FILE.py:FUNCTION for a "
    "PyTorch module, or a name of `edgekit list models`) into a bundle for a device, each file verified.",
)
@click.argument("source", type=click.Path())
@click.option("-o", "--output", type=click.Path(), metavar="NAME.edge", help="The bundle; by default SOURCE's name.")
@click.option(
    "--weights", metavar="FILE|HUB", help="For a model by name: others than those that ship; for FILE.py: its."
)
@click.option(
    "--input-shape",
    multiple=True,
    metavar="[NAME=]N,N[:DTYPE]",
    help="Size of each input: 1,3,224,224 or ids=batch,128:int64; a word is a size that stays open.",
)
@click.option("--target", default="host", show_default=True, metavar="NAME", help="Device: `edgekit list targets`.")
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    metavar="A,B",
    callback=options.names,
    help="`edgekit list recipes`.",
)
@click.option(
    "--format", metavar="A,B", callback=options.names, help="tflite, onnx, openvino; by default the target's."
)
@click.option("--road", default="", metavar="WORD", help="Take only this road: hub, or one that --dry-run shows.")
@click.option("--recipe", metavar="NAME|FILE", help="Named or own rules, in place of --precision.")
@click.option(
    "--calibration-data",
    metavar="PATH|random[:N]",
    help="Typical inputs, needed for int8: a folder or file. `random` is noise, and is marked as such.",
)
@click.option("--num-samples", type=click.IntRange(min=1), metavar="N", help="Use at most so many of them.")
@click.option("--eval-data", metavar="PATH|NAME", help="Labeled data a form of int8 is searched by, as evaluate takes.")
@click.option("--metric", metavar="NAME", help="Of --eval-data; agreement, with the source, needs no labels.")
@click.option("--max-drop", metavar="PERCENT", help="Search the form of int8 that loses no more of the metric.")
@click.option(
    "--min-sqnr",
    "min_sqnr_db",
    metavar="DB",
    help="Search the form of int8 that keeps so much signal to noise against the source; with --max-drop, both.",
)
@click.option("--processing", metavar="NAME|FILE", help="How files become inputs; by default the model card's.")
@options.seed
@options.force
@click.option("--dry-run", is_flag=True, help="Print the plan; read and write nothing.")
@options.as_json
@options.common
def COMMAND(source: str, output: str | None, as_json: bool, **settings: object) -> None:  # noqa: N802
    from edgekit.cli.output import answer, note
    from edgekit.cli.progress import steps
    from edgekit.conversion import convert
    from edgekit.errors import GateFailed
    from edgekit.family import is_model_name
    from edgekit.report.conversion_view import view

    place = output or f"{source.replace(':', '-') if is_model_name(source) else Path(source).stem}.edge"
    with steps() as say:
        report = convert(source, place, progress=say, counting=say.count, **settings)  # type: ignore[arg-type]
    for line in report.notes:
        note(f"note: {line}")
    answer(report, lambda: view(report, place), schema="edgekit.conversion", as_json=as_json)
    if report.unmet:
        raise GateFailed(f"no file could be made in {', '.join(report.unmet)}: the reasons are in the table above")
