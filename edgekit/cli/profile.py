"""``edgekit profile``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli import options, profile_options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


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
@click.option(
    "--threads", metavar="N,M", callback=profile_options.counts, help="Threads for one call; several are all tried."
)
@profile_options.how_long
@profile_options.load
@profile_options.operations
@profile_options.against
@options.device
@options.seed
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Write it to a .json, .md, .html or .txt too.")
@options.force
@options.as_json
@options.common
def COMMAND(  # noqa: N802
    path: str,
    runtime: tuple[str, ...] | None,
    output: str | None,
    force: bool,
    as_json: bool,
    baseline: str | None,
    allow_other_machine: bool,
    fail_if: tuple[str, ...],
    strict: bool,
    **settings: Any,
) -> None:
    from edgekit.cli.output import answer, check_free, check_report, write_report
    from edgekit.cli.progress import bar
    from edgekit.errors import GateFailed
    from edgekit.measuring.baseline import hold_profile
    from edgekit.measuring.gating import require_gates
    from edgekit.measuring.trace_file import write_trace
    from edgekit.profiling import profile
    from edgekit.report.profile_view import view

    trace, top = profile_options.take_operations(settings)
    for file, check in ((output, check_report), (trace, check_free)):
        if file:
            check(Path(file), force)
    profile_options.require_base(baseline, fail_if)
    held = {"allow_other_machine": allow_other_machine, "max_time_s": 2 * settings["max_time_s"]}
    with bar() as show:
        record = profile(path, runtime="all" if runtime == ("all",) else runtime, progress=show, **settings)
        if baseline or fail_if:
            record = hold_profile(record, baseline=baseline, fail_if=fail_if, progress=show, **held)
    if output:
        write_report(Path(output), record, lambda: view(record, top), schema="edgekit.profile")
    if trace:
        write_trace(Path(trace), record.measured)
    answer(record, lambda: view(record, top), schema="edgekit.profile", as_json=as_json)
    if not record.measured:
        raise GateFailed("no candidate could be measured: the reasons are in the table above")
    require_gates(record.gating.gates if record.gating else (), strict=strict)
