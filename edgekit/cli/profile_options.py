"""The options of ``edgekit profile``, each named as the argument of `edgekit.profile` it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgekit.cli import options

__all__ = ["against", "counts", "how_long", "load", "operations", "require_base", "take_operations"]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _share(ctx: click.Context, parameter: click.Parameter, value: str) -> float:
    """``"1%"`` or ``"0.01"``."""
    try:
        share = float(value.rstrip("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise click.BadParameter("a share, as in 1%")
    return share


def counts(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """``"1,2"`` as numbers."""
    parts = options.names(ctx, parameter, value)
    if parts is None:
        return None
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter("positive numbers, as in 1,2,4")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _all(command: Decorated, *decorators: Callable[[Decorated], Decorated]) -> Decorated:
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def how_long(command: Decorated) -> Decorated:
    """When medians are known well enough."""
    return _all(
        command,
        click.option(
            "--interval", metavar="SHARE", default="1%", show_default=True, callback=_share,
            help="Go on until every median is known as well as this, to either side, with 95 % confidence.",
        ),
        click.option(
            "--max-time", "max_time_s", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", default=5.0,
            show_default=True, help="But no longer, for each candidate.",
        ),
        click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="Just as many interleaved rounds."),
    )  # fmt: skip


def load(command: Decorated) -> Decorated:
    """Load in the sense of MLPerf."""
    positive = click.FloatRange(min=0, min_open=True)
    return _all(
        command,
        click.option(
            "--scenario", type=click.Choice(["single-stream", "multi-stream", "offline", "server"]),
            help="Put a load on each candidate too, as MLPerf's LoadGen does.",
        ),
        click.option(
            "--rate", "rate_per_s", type=positive, metavar="QPS",
            help="Queries a second; without it `server` looks for the highest that holds the bound.",
        ),
        click.option("--bound-ms", type=positive, metavar="MS", help="For 99 % of the queries of `server`."),
        click.option(
            "--samples-per-query", type=click.IntRange(min=1), metavar="N", default=8, show_default=True,
            help="Of `multi-stream`.",
        ),
    )  # fmt: skip


def against(command: Decorated) -> Decorated:
    """What is not to be exceeded, and an earlier profile."""
    return _all(
        command,
        click.option(
            "--baseline", type=click.Path(), metavar="OLD.json",
            help="An earlier profile to hold this one against; files that are still there are timed again, in turns.",
        ),
        options.fail_if("p50 p90 p99 cpu cold rss size"),
        options.strict,
        click.option(
            "--allow-other-machine", is_flag=True,
            help="Judge a baseline of another machine, or of other versions of engines, too.",
        ),
    )  # fmt: skip


def require_base(baseline: str | None, fail_if: tuple[str, ...]) -> None:
    """Refuses, before anything is measured, gates that need a baseline without one, and what is none."""
    from edgekit.measuring.gating import parse_gate
    from edgekit.measuring.reading import read_profile

    if baseline is not None:
        read_profile(baseline)
    elif lone := [text for text in fail_if if parse_gate(text).needs_base]:
        raise click.UsageError(f"{', '.join(lone)}: there is nothing to compare with; give --baseline OLD.json")


def operations(command: Decorated) -> Decorated:
    """Where the time of a call goes."""
    return _all(
        command,
        click.option("--ops", is_flag=True, help="Say where the time goes, by each engine's own profiler."),
        click.option(
            "--trace", type=click.Path(dir_okay=False), metavar="FILE.json",
            help="Write operations for Perfetto or chrome://tracing; implies --ops.",
        ),
        click.option(
            "--top", type=click.IntRange(min=1), metavar="N", default=10, show_default=True,
            help="Operations shown of each candidate.",
        ),
    )  # fmt: skip


def take_operations(settings: dict[str, Any]) -> tuple[str | None, int]:
    """Takes out where a trace goes and how many operations are shown; a trace asks for the operations."""
    trace, top = settings.pop("trace"), settings.pop("top")
    settings["ops"] = settings["ops"] or trace is not None
    return trace, top
