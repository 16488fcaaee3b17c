"""``edgekit report``"""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "report",
    cls=Command,
    example="edgekit report emotion.edge -o report.html",
    help="Put all that is known of a bundle or a model file on one page: what is shipped and why, latency, operations, "
    "layers, size, accuracy, machine and warnings. What is not known is named, with the command that adds it.",
)
@click.argument("path", type=click.Path())
@click.option("--profile", metavar="FILE", help="Take latencies from `edgekit profile -o FILE.json`; else measure now.")
@click.option("--no-profile", is_flag=True, help="Measure nothing.")
@click.option("--evaluation", metavar="FILE", help="Take the metric from `edgekit evaluate -o FILE.json`.")
@click.option("--data", metavar="NAME|PATH", help="Labeled data to evaluate every variant on now.")
@click.option("--metric", metavar="NAME", help="Of that data; by default the one it calls for.")
@click.option("--num-samples", type=click.IntRange(min=1), metavar="N", help="Use at most so many of its samples.")
@options.threads
@options.seed
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write it to a .html, .md, .json or .txt file.")
@options.force
@options.as_json
@options.common
def COMMAND(  # noqa: N802
    path: str,
    profile: str | None,
    no_profile: bool,
    output: str | None,
    force: bool,
    as_json: bool,
    **settings: object,
) -> None:
    from edgekit.cli.output import answer, check_report, write_report
    from edgekit.cli.progress import bar
    from edgekit.report.sections import view, written_view
    from edgekit.reporting import report

    if profile and no_profile:
        raise click.UsageError("--profile gives what --no-profile leaves out: give one of them")
    if settings["evaluation"] and settings["data"]:
        raise click.UsageError(
            "--evaluation has the metric already, and --data would compute it again: give one of them"
        )
    if output:
        check_report(Path(output), force)
    with bar() as show:
        record = report(path, profile=profile, measure=not no_profile, progress=show, **settings)  # type: ignore[arg-type]
    if output:
        write_report(Path(output), record, lambda: view(record), schema="edgekit.report")
    shown = (lambda: written_view(record, str(output))) if output else (lambda: view(record))
    answer(record, shown, schema="edgekit.report", as_json=as_json)
