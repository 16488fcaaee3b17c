"""Progress on stderr: a bar on a terminal, lines or silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from edgekit.cli.options import State

__all__ = ["bar", "steps"]


def _state() -> State:
    return click.get_current_context().ensure_object(State)


@contextmanager
def bar() -> Iterator[Callable[[int, int, str], None] | None]:
    """Gives what is to be called with steps done, steps in all, and what is next; None when nobody would see it."""
    state = _state()
    if state.is_quiet or not sys.stderr.isatty():
        yield (lambda done, total, what: click.echo(f"{done}/{total} {what}", err=True)) if state.verbosity else None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, what="")

        def show(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, what=what)

        yield show


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Gives what is to be called with a line at each step: shown in place on a terminal, one below the other else."""
    if _state().is_quiet:
        yield lambda line: None
    elif not sys.stderr.isatty():
        yield lambda line: click.echo(line, err=True)
    else:
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status(Text("")) as status:
            yield lambda line: status.update(Text(line))
