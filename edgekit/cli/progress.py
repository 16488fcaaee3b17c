"""Progress on stderr: a bar on a terminal, lines or silence elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from edgekit.cli.options import State

__all__ = ["Steps", "bar", "steps"]

NOTE = "note: "
EVERY_S = 0.1
BAR_WIDTH = 30


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


class Steps:
    """Called with a line at each step; `count` says how far it is within one.

    Args:
        show: Called with a line.
        counted: Called with the latest line, how many are done and how many there are; None where nobody would see it.
    """

    def __init__(self, show: Callable[[str], None], counted: Callable[[str, int, int], None] | None = None) -> None:
        self._show, self._counted = show, counted
        self._line, self._shown_s = "", 0.0

    def __call__(self, line: str) -> None:
        self._line = line if not line.startswith(NOTE) else self._line
        self._show(line)

    def count(self, done: int, total: int) -> None:
        """Shows it, ten times a second at most and at the end."""
        now = time.monotonic()
        if self._counted is not None and (done == total or now >= self._shown_s + EVERY_S):
            self._shown_s = now
            self._counted(self._line, done, total)


@contextmanager
def steps() -> Iterator[Steps]:
    """Gives what is to be called with a line at each step: shown in place on a terminal, one below the other else.

    Lines that are notes stay on a terminal too. Counts are seen on a terminal only, as a bar.
    """
    if _state().is_quiet:
        yield Steps(lambda line: None)
    elif not sys.stderr.isatty():
        yield Steps(lambda line: click.echo(line, err=True))
    else:
        from rich.console import Console
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with Console(stderr=True).status(Text("")) as status:

            def show(line: str) -> None:
                if line.startswith(NOTE):
                    status.console.print(Text(line))
                else:
                    status.update(Text(line))

            def counted(line: str, done: int, total: int) -> None:
                row = Table.grid(padding=(0, 1))
                row.add_row(Text(line), ProgressBar(total, done, width=BAR_WIDTH), Text(f"{done}/{total}"))
                status.update(row)

            yield Steps(show, counted)
