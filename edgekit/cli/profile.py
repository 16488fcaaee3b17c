"""``edgekit profile``"""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


def _counts(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    parts = options.names(ctx, parameter, value)
    if parts is None:
        return None
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter("positive numbers, as in 1,2,4")
    return tuple(dict.fromkeys(int(part) for part in parts))


@click.command(
    "profile",
    cls=Command,
    example="edgekit profile emotion.edge",
    help="Measure every variant of a bundle, or a model file, with every engine that opens it on this machine.",
)
@click.argument("path", type=click.Path())
@click.option(
    "--runtime", metavar="A,B", callback=options.names, help="Only these; `all` takes in the slow reference too."
)
@click.option("--threads", metavar="N,M", callback=_counts, help="Threads for one call; several are all tried.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True, help="Interleaved timed rounds.")
@options.seed
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write it to a .json, .md or .txt file too.")
@options.force
@options.as_json
@options.common
def COMMAND(  # noqa: N802
    path: str,
    runtime: tuple[str, ...] | None,
    threads: tuple[int, ...] | None,
    rounds: int,
    seed: int,
    output: str | None,
    force: bool,
    as_json: bool,
) -> None:
    from edgekit.cli.output import answer, check_free, write_report
    from edgekit.cli.progress import bar
    from edgekit.errors import GateFailed
    from edgekit.profiling import profile
    from edgekit.report.profile_view import view

    if output:
        check_free(Path(output), force)
    chosen = "all" if runtime == ("all",) else runtime
    with bar() as show:
        record = profile(path, runtime=chosen, threads=threads, rounds=rounds, seed=seed, progress=show)
    if output:
        write_report(Path(output), record, lambda: view(record), schema="edgekit.profile")
    answer(record, lambda: view(record), schema="edgekit.profile", as_json=as_json)
    if not record.measured:
        raise GateFailed("no candidate could be measured: the reasons are in the table above")
