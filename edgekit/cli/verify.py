"""``edgekit verify``"""

from __future__ import annotations

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "verify",
    cls=Command,
    example="edgekit verify emotion.edge",
    help="Check a bundle on this machine: every file's hash, then every variant's golden answers with its engine.",
)
@click.argument("path", type=click.Path())
@options.runtime
@options.device
@options.as_json
@options.common
def COMMAND(  # noqa: N802
    path: str, runtime: str | None, device: str | None, device_python: str | None, as_json: bool
) -> None:
    from edgekit.cli.output import answer
    from edgekit.errors import GateFailed
    from edgekit.report.inspection_view import verification_view
    from edgekit.verification import verify

    record = verify(path, runtime=runtime, device=device, device_python=device_python)
    answer(record, lambda: verification_view(record), schema="edgekit.verification", as_json=as_json)
    if not record.passed:
        failed = [f"{row.variant} on {row.runtime}" for row in record.rows if row.status == "failed"]
        raise GateFailed(f"failed: {', '.join(failed)}" if failed else "no engine was there to try anything with")
