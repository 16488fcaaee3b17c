"""Options that mean the same in every command, and the command class whose help begins with an example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

__all__ = [
    "Command",
    "State",
    "as_json",
    "common",
    "device",
    "fail_if",
    "force",
    "names",
    "output",
    "runtime",
    "seed",
    "strict",
    "threads",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass
class State:
    """What holds for a whole run of the command line."""

    is_quiet: bool = False
    verbosity: int = 0
    debug: bool = False


class Command(click.Command):
    """A command whose help starts with an example that works as typed; a test types it."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"Example:\n  {self.example}\n\n")
        super().format_help(ctx, formatter)


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Into the run's state; given to the group and again to the command, either counts."""
    if value and parameter.name is not None:
        setattr(ctx.ensure_object(State), parameter.name, value)


def common(command: Decorated) -> Decorated:
    """``-q``, ``-v`` and ``--debug``."""
    settings: dict[str, Any] = {"expose_value": False, "callback": _remember}
    for option in (
        click.option("--debug", is_flag=True, help="Show where an error comes from.", **settings),
        click.option("-v", "--verbose", "verbosity", count=True, help="Say more on stderr.", **settings),
        click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Only errors on stderr.", **settings),
    ):
        command = option(command)
    return command


def device(command: Decorated) -> Decorated:
    """``--device`` and ``--device-python``."""
    for option in (
        click.option("--device-python", metavar="PATH", help="The Python to run there, such as ~/venv/bin/python."),
        click.option("--device", metavar="URI", help="Do it on another machine: ssh://USER@HOST, or adb://SERIAL."),
    ):
        command = option(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document in place of the table.")
force = click.option("--force", is_flag=True, help="Replace the output if it exists.")
runtime = click.option("--runtime", metavar="NAME", help="Insist on a runtime: `edgekit list runtimes`.")
seed = click.option("--seed", type=int, default=0, show_default=True, help="Of everything that is random.")
threads = click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads for one call.")
strict = click.option("--strict", is_flag=True, help="Fail too where the measurements cannot tell.")
output = click.option("-o", "--output", type=click.Path(), metavar="PATH", help="Write to this file.")


def names(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """``"a,b"`` as names; a callback of options."""
    if value is None:
        return None
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if not parts:
        raise click.BadParameter("give at least one name")
    return parts


def fail_if(quantities: str, fixed: str = "") -> Callable[[Decorated], Decorated]:
    """``--fail-if GATE``, as often as wanted; what is no gate is wrong usage.

    Args:
        quantities: Names of those there are, with spaces between them.
        fixed: Those among them that have nothing to change from.
    """

    def check(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        from edgekit.errors import InputError
        from edgekit.measuring.gating import parse_gate

        for value in values:
            try:
                parse_gate(value, known=quantities.split(), fixed=fixed.split())
            except InputError as error:
                raise click.BadParameter(str(error)) from error
        return values

    return click.option(
        "--fail-if",
        multiple=True,
        metavar="GATE",
        callback=check,
        help=f"Exit with 1 when it holds, as 'p50>+5%' or 'size>1MB': {quantities.replace(' ', ', ')}.",
    )
