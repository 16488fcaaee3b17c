"""``edgekit doctor``"""

from __future__ import annotations

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "doctor",
    cls=Command,
    example="edgekit doctor",
    help="Tell which engines and converters work here, what is missing and what adds it, and what machine this is.",
)
@options.as_json
@options.common
def COMMAND(as_json: bool) -> None:  # noqa: N802
    from edgekit.cli.output import answer
    from edgekit.diagnosis import diagnose
    from edgekit.errors import GateFailed
    from edgekit.report.diagnosis_view import view

    record = diagnose()
    answer(record, lambda: view(record), schema="edgekit.diagnosis", as_json=as_json)
    if not record.can_run:
        raise GateFailed("no engine works here: pip install 'edgekit-ml[litert]' adds the smallest")
