"""The answer on stdout, notes on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from edgekit.cli.options import State
from edgekit.errors import ArtifactError, InputError
from edgekit.report.document import Document
from edgekit.report.json import HasJson
from edgekit.report.json import render as render_json

__all__ = ["answer", "check_free", "check_report", "note", "write_report"]

_FORMS = (".html", ".htm", ".md", ".json", ".txt", "")


def answer(record: HasJson | Mapping[str, Any], view: Callable[[], Document], *, schema: str, as_json: bool) -> None:
    """Prints a record: as JSON, as drawn tables on a terminal, as plain text anywhere else."""
    if as_json:
        click.echo(render_json(record, schema=schema))
    elif sys.stdout.isatty():
        from rich.console import Console

        from edgekit.report.text import draw

        draw(view(), Console())
    else:
        from edgekit.report.text import render

        click.echo(render(view()))


def note(text: str) -> None:
    """A line on stderr, unless the run is quiet."""
    if not click.get_current_context().ensure_object(State).is_quiet:
        click.echo(text, err=True)


def check_free(path: Path, force: bool) -> None:
    """Raises InputError when `path` exists and is not to be replaced, before any work is done."""
    if path.exists() and not force:
        raise InputError(f"{path} exists", hint="--force replaces it")
    if not path.resolve().parent.is_dir():
        raise ArtifactError(f"there is no folder {path.resolve().parent}", hint="make it first")


def check_report(path: Path, force: bool) -> None:
    """Raises InputError when `write_report` could not write to `path`, or would write what its suffix denies."""
    check_free(path, force)
    if path.suffix.lower() not in _FORMS:
        raise InputError(f"{path}: a report is no {path.suffix} file", hint="end it in .html, .md, .json or .txt")


def write_report(path: Path, record: HasJson | Mapping[str, Any], view: Callable[[], Document], *, schema: str) -> None:
    """Writes a record in the form the suffix names: .json, .md, .html, anything else is text."""
    form = path.suffix.lower()
    if form == ".json":
        text = render_json(record, schema=schema)
    elif form == ".md":
        from edgekit.report.markdown import render

        text = render(view())
    elif form in (".html", ".htm"):
        from edgekit.report.html import render

        text = render(view())
    else:
        from edgekit.report.text import render

        text = render(view())
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error.strerror}") from error
