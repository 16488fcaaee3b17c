"""``edgekit evaluate``"""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "evaluate",
    cls=Command,
    example="edgekit evaluate emotion.edge --data expressions",
    help="Measure how good the answers of a bundle or a model file are, on data that says what is true: every variant, "
    "side by side with the model it was made of, each figure with its interval.",
)
@click.argument("path", type=click.Path())
@click.option(
    "--data",
    required=True,
    metavar="NAME|PATH",
    help="A data set by name, or a file or folder: class folders, labels.jsonl, .csv, COCO, YOLO, VOC, .npz, texts.",
)
@click.option("--images", type=click.Path(), metavar="DIR", help="Where the files are that the data names, if apart.")
@click.option("--metric", metavar="NAME", help="top1, f1, map, miou, ...; by default the one the data calls for.")
@click.option("--split", metavar="NAME", help="Which samples of data that have splits; by default those to test on.")
@click.option(
    "--num-samples", "--limit", "num_samples", type=click.IntRange(min=1), metavar="N", help="Use at most so many."
)
@click.option("--source", default="auto", metavar="MODEL|none", help="The model it was made of; found if beside it.")
@click.option("--max-drop", metavar="PERCENT", help="Fail where a variant surely loses more of the metric than that.")
@click.option("--strict", is_flag=True, help="Fail at a sample that cannot be read, in place of going on without it.")
@options.runtime
@click.option("--variant", metavar="NAME", help="Only this variant of the bundle: `edgekit inspect`.")
@click.option("--precision", metavar="NAME", help="Only variants of it: fp32, fp16, int8.")
@options.threads
@options.seed
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write it to a .json, .md, .html or .txt too.")
@options.force
@options.as_json
@options.common
def COMMAND(  # noqa: N802
    path: str, data: str, output: str | None, force: bool, as_json: bool, **settings: object
) -> None:
    from edgekit.cli.output import answer, check_report, write_report
    from edgekit.cli.progress import bar
    from edgekit.errors import GateFailed
    from edgekit.evaluation import evaluate_variants
    from edgekit.report.evaluation_view import view

    if settings["variant"] and settings["precision"]:
        raise click.UsageError("--variant names one variant, and --precision may choose others: give one of them")
    if output:
        check_report(Path(output), force)
    with bar() as show:
        record = evaluate_variants(path, data, progress=show, **settings)  # type: ignore[arg-type]
    if output:
        write_report(Path(output), record, lambda: view(record), schema="edgekit.evaluation")
    answer(record, lambda: view(record), schema="edgekit.evaluation", as_json=as_json)
    if record.unmet:
        raise GateFailed("; ".join(record.unmet))
