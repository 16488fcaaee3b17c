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
    "side by side.",
)
@click.argument("path", type=click.Path())
@click.option(
    "--data",
    required=True,
    metavar="NAME|PATH",
    help="A data set by name or with a dataset.yaml, or a folder with a folder for each class, or with a labels.jsonl.",
)
@click.option("--metric", metavar="NAME", help="top1, map50, miou, ...; by default the one the data calls for.")
@click.option("--split", default="test", show_default=True, metavar="NAME", help="Which samples of a data set.")
@click.option("--num-samples", type=click.IntRange(min=1), metavar="N", help="Use at most so many of them.")
@options.runtime
@click.option("--variant", metavar="NAME", help="Only this variant of the bundle: `edgekit inspect`.")
@click.option("--precision", metavar="NAME", help="Only variants of it: fp32, fp16, int8.")
@options.threads
@options.seed
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write it to a .json, .md or .txt file too.")
@options.force
@options.as_json
@options.common
def COMMAND(  # noqa: N802
    path: str,
    data: str,
    variant: str | None,
    precision: str | None,
    output: str | None,
    force: bool,
    as_json: bool,
    **settings: object,
) -> None:
    from edgekit.cli.output import answer, check_free, write_report
    from edgekit.cli.progress import bar
    from edgekit.evaluation import Evaluations, evaluate, evaluate_variants
    from edgekit.report.evaluation_view import view

    if variant and precision:
        raise click.UsageError("--variant names one variant, and --precision may choose others: give one of them")
    if output:
        check_free(Path(output), force)
    with bar() as show:
        if variant:
            record = Evaluations((evaluate(path, data, variant=variant, progress=show, **settings),))  # type: ignore[arg-type]
        else:
            record = evaluate_variants(path, data, precision=precision, progress=show, **settings)  # type: ignore[arg-type]
    if output:
        write_report(Path(output), record, lambda: view(record), schema="edgekit.evaluation")
    answer(record, lambda: view(record), schema="edgekit.evaluation", as_json=as_json)
