"""``edgekit compare``"""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "compare",
    cls=Command,
    example="edgekit compare emotion.edge#onnx-fp32 emotion.edge#tflite-fp32 --max-time 10 --fail-if 'sqnr<60'",
    help="Hold SECOND against FIRST: how alike they answer, where they begin to differ, and which is faster. Each is a "
    "bundle, a model file or a source model; PATH#VARIANT names a variant, PATH@RUNTIME a runtime.",
)
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@click.option(
    "--data", metavar="NAME|PATH", help="Samples, as evaluate takes them; by default golden and random feeds."
)
@click.option("--split", default="test", show_default=True, metavar="NAME", help="Which samples of a data set.")
@click.option("--num-samples", type=click.IntRange(min=1), metavar="N", help="Use at most so many of them.")
@options.fail_if("p50 p90 p99 rss size sqnr cosine max relative top1", fixed="sqnr cosine max relative top1")
@options.strict
@click.option("--variant", metavar="NAME", help="Of both bundles, where none is named.")
@options.runtime
@options.threads
@click.option("--layers/--no-layers", default=True, help="Look at what is computed on the way, too.")
@click.option("--latency/--no-latency", default=True, help="Time them.")
@click.option(
    "--max-time",
    "max_time_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time them until it is clear how they compare, or so long.",
)
@options.seed
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write it to a .json, .md, .html or .txt too.")
@options.force
@options.as_json
@options.common
def COMMAND(  # noqa: N802
    first: str, second: str, strict: bool, output: str | None, force: bool, as_json: bool, **settings: object
) -> None:
    from edgekit.cli.output import answer, check_report, write_report
    from edgekit.cli.progress import bar
    from edgekit.comparison import compare
    from edgekit.measuring.gating import require_gates
    from edgekit.report.comparison_view import view

    if output:
        check_report(Path(output), force)
    with bar() as show:
        record = compare(first, second, progress=show, **settings)  # type: ignore[arg-type]
    if output:
        write_report(Path(output), record, lambda: view(record), schema="edgekit.comparison")
    answer(record, lambda: view(record), schema="edgekit.comparison", as_json=as_json)
    require_gates(record.gates, strict=strict)
