"""``edgekit optimize``"""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "optimize",
    cls=Command,
    example="edgekit optimize resnet:tiny -o best.edge --max-drop 0.5 --precision w8a8 --format onnx",
    help="Make files of SOURCE by every recipe that can win, measure them with every engine of this machine, and ship "
    "the best that keeps its accuracy and is not slower than fp32. What was ended goes on when it is started again.",
)
@click.argument("source", type=click.Path())
@click.option("-o", "--output", type=click.Path(), metavar="NAME.edge", help="The bundle; by default SOURCE's name.")
@click.option("--target", default="host", show_default=True, metavar="NAME", help="Device: `edgekit list targets`.")
@click.option("--data", metavar="NAME|PATH", help="Labeled data to judge by, as evaluate takes.")
@click.option("--metric", metavar="NAME", help="Of --data; agreement, with the source, needs no labels.")
@click.option("--max-drop", metavar="PERCENT", help="What of the metric may be lost; 0.5 by default.")
@click.option("--min-sqnr", "min_sqnr_db", metavar="DB", help="Signal to noise to keep, in place of a metric.")
@click.option(
    "--objective", default="latency", show_default=True, metavar="WORD",
    help="latency, throughput, size, memory, startup or cpu-time.",
)  # fmt: skip
@click.option("--budget", metavar="TIME", help="10m, 90s: then the best so far is shipped.")
@click.option("--scheduler", metavar="ADDRESS", help="tcp://HOST:8786: trials run on the workers of this dask.")
@click.option("--resume", is_flag=True, help="Take what a run that came to its end measured, too.")
@click.option("--keep-front", is_flag=True, help="Ship all that nothing beats, not the best alone.")
@click.option("--format", metavar="A,B", callback=options.names, help="tflite, onnx, openvino; default: the target's.")
@click.option("--precision", metavar="A,B", callback=options.names, help="Only these of `edgekit list recipes`.")
@click.option("--threads", type=click.IntRange(min=1), multiple=True, metavar="N", help="Only so many; repeatable.")
@click.option("--weights", metavar="FILE|HUB", help="As of convert.")
@click.option("--input-shape", multiple=True, metavar="[NAME=]N,N[:DTYPE]", help="As of convert.")
@click.option("--calibration-data", metavar="PATH|random[:N]", help="Typical inputs; by default a part of --data.")
@click.option("--num-samples", type=click.IntRange(min=1), metavar="N", help="Use at most so many of them.")
@click.option("--processing", metavar="NAME|FILE", help="As of convert.")
@options.seed
@options.force
@click.option("--dry-run", is_flag=True, help="Print what there is to try; make nothing.")
@options.as_json
@options.common
def COMMAND(source: str, output: str | None, as_json: bool, **settings: object) -> None:  # noqa: N802
    from edgekit.cli.output import answer
    from edgekit.cli.progress import steps
    from edgekit.family import is_model_name
    from edgekit.optimization import optimize
    from edgekit.report.optimization_view import view

    place = output or f"{source.replace(':', '-') if is_model_name(source) else Path(source).stem}.edge"
    with steps() as say:
        report = optimize(source, place, progress=say, **settings)  # type: ignore[arg-type]
    answer(report, lambda: view(report, place), schema="edgekit.optimization", as_json=as_json)
