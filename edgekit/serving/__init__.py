"""The verb `serve`: models for other programs, by the Open Inference Protocol over HTTP and gRPC.

tensors.py     the protocol's datatypes, as JSON and as bytes
models.py      what is served, and its answers to neutral requests
rest.py        HTTP: reads and writes them
origins.py     whose requests are none of ours to answer
rpc.py         gRPC: the same; messages.py has its messages
working.py     threads, and room for so many requests; a loop of its own for gRPC
refusing.py    why a request gets no answer
metering.py    what is counted
server.py      listening, loading, stopping
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence

from edgekit.errors import InputError
from edgekit.serving.models import Model, named
from edgekit.serving.origins import is_loopback
from edgekit.serving.server import ServeOptions, Server, check_installed

__all__ = ["ServeOptions", "is_loopback", "load_all", "serve"]


def serve(
    paths: Sequence[str],
    options: ServeOptions | None = None,
    *,
    runtime: str | None = None,
    threads: int | None = 1,
    say: Callable[[str], None] = print,
) -> None:
    """Serves models until SIGTERM or SIGINT, then answers what has come in, and returns. For the main thread.

    It listens at once, and is ready when every model is loaded and has passed its golden test. Requests that are still
    being worked on `ServeOptions.drain_s` after the signal are given up: the process then ends with exit code 1.

    Args:
        paths: Bundles or model files, each as ``PATH``, served under the file's name up to its first dot, or as
            ``NAME=PATH``.
        options: Where it listens and how much it takes on.
        runtime: Insist on a runtime, as of `edgekit.load`.
        threads: Threads for one call. One by default, as requests are worked on beside one another.
        say: Takes a line each time something is there: ``http://HOST:PORT``, ``grpc://HOST:PORT``, ``ready NAME: ...``.

    Raises:
        InputError: It cannot listen there, or two models have one name.
        UnavailableError: The extra ``[serve]`` is not installed, or no engine opens a model.
        ArtifactError: A model is missing, corrupt, or fails its golden test.
    """
    options = options or ServeOptions()
    check_installed(options)
    models = _named(paths)
    server, left = asyncio.run(_run(models, options, runtime, threads, say))
    if not server.is_entangled:
        server.close()
        return
    # A thread inside an engine cannot be ended, and Python would wait for it before it ends itself.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if left else 0)


async def _run(
    models: dict[str, Model],
    options: ServeOptions,
    runtime: str | None,
    threads: int | None,
    say: Callable[[str], None],
) -> tuple[Server, int]:
    server = Server(models, options, load=lambda model: model.load(runtime=runtime, threads=threads), say=say)
    return server, await server.run()


def load_all(paths: Sequence[str], *, runtime: str | None = None, threads: int | None = 1) -> dict[str, Model]:
    """The models `serve` would serve, loaded and tested, by name. Raises what `serve` does; nothing listens."""
    models = _named(paths)
    for model in models.values():
        model.load(runtime=runtime, threads=threads)
    return models


def _named(paths: Sequence[str]) -> dict[str, Model]:
    if not paths:
        raise InputError("there is nothing to serve", hint="give a bundle or a model file")
    return named(paths)
