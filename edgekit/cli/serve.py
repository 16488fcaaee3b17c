"""``edgekit serve``"""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli import options
from edgekit.cli.options import Command

__all__ = ["COMMAND"]


@click.command(
    "serve",
    cls=Command,
    example="edgekit serve emotion.edge --check",
    help="Answer other programs by the Open Inference Protocol (KServe v2), over HTTP and gRPC, until SIGTERM. Each "
    "MODEL is a bundle or a model file, or NAME=FILE; without --check it is loaded, tested and served.",
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen here. Nobody is asked who they are.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="For HTTP; 0: a free one.")
@click.option("--grpc-port", type=click.IntRange(0, 65535), default=8001, show_default=True, help="For gRPC.")
@click.option("--no-grpc", is_flag=True, help="Leave gRPC out.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Requests at once.  [default: usable cores]")
@click.option("--waiting", type=click.IntRange(0), default=64, show_default=True, help="Requests that may wait.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="Seconds.")
@click.option("--max-body", type=click.IntRange(1), default=32, show_default=True, help="Of a request, in MiB.")
@click.option(
    "--drain", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to end after SIGTERM."
)
@click.option("--check", is_flag=True, help="Load and test the models, show what they take, and end.")
@options.runtime
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads for one call.")
@options.as_json
@options.common
def COMMAND(models: tuple[str, ...], check: bool, as_json: bool, **given: Any) -> None:  # noqa: N802
    from edgekit.cli.output import note
    from edgekit.serving import ServeOptions, is_loopback, serve

    loading = {"runtime": given.pop("runtime"), "threads": given.pop("threads")}
    if check:
        _show(models, as_json, **loading)
        return
    if not is_loopback(given["host"]):
        note(f"warning: whoever reaches {given['host']} may use these models: nobody is asked who they are")
    settings = ServeOptions(
        host=given["host"],
        port=given["port"],
        grpc_port=None if given["no_grpc"] else given["grpc_port"],
        workers=given["workers"],
        waiting=given["waiting"],
        timeout_s=given["timeout"],
        max_body_bytes=given["max_body"] << 20,
        drain_s=given["drain"],
    )
    serve(models, settings, say=click.echo, **loading)


def _show(models: tuple[str, ...], as_json: bool, **loading: Any) -> None:
    from edgekit.cli.output import answer
    from edgekit.report.document import Document, table
    from edgekit.serving import load_all

    found = [model.metadata() for model in load_all(models, **loading).values()]
    rows = [
        (model["name"], what.removesuffix("s"), tensor["name"], tensor["datatype"], str(tensor["shape"]))
        for model in found
        for what in ("inputs", "outputs")
        for tensor in model[what]
    ]
    view = Document("ready to be served", (table(["model", "", "tensor", "datatype", "shape"], rows),))
    answer({"models": found}, lambda: view, schema="edgekit.serving", as_json=as_json)
