"""A server's life: it listens, loads, answers, and when it is told to stop ends what it has begun."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from edgekit.cores import num_cores
from edgekit.errors import InputError, UnavailableError
from edgekit.serving.metering import Meters
from edgekit.serving.models import Model
from edgekit.serving.origins import is_loopback
from edgekit.serving.rest import Rest
from edgekit.serving.rpc import Rpc
from edgekit.serving.working import Work, loop_beside, on

if TYPE_CHECKING:
    import uvicorn

__all__ = ["ServeOptions", "Server", "check_installed"]

_KEEP_ALIVE_S = 75
"""An idle connection lives longer than clients commonly keep theirs, so that the client is who closes it."""

_LAST_WORD_S = 1.0
"""How long, at the end, an open connection may take to send another request; the answer to that closes it."""

_SILENCE_S = 0.2
"""How long gRPC has to be without a request before it closes. It tells its clients to go away, but cancels those calls
that were on their way here, and a cancelled call does not say whether it was worked on."""

_BACKLOG = 512

_FRAME_BYTES = 64 << 10
"""What a gRPC message may have beyond the bytes of tensors."""


@dataclass(frozen=True)
class ServeOptions:
    """Where a server listens and how much it takes on.

    Attributes:
        host: Name or address to listen on; nobody is asked who they are, so beyond loopback it is for networks that
            are trusted.
        port: For HTTP; 0 takes a free one.
        grpc_port: For gRPC; None leaves gRPC out.
        workers: Requests worked on at once; None for as many as this process may use cores.
        waiting: Requests beyond those that may wait. One more is refused.
        timeout_s: For a request, from its arrival to its answer.
        max_body_bytes: Of a request.
        drain_s: For the requests that are here when the server is told to stop.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = 8001
    workers: int | None = None
    waiting: int = 64
    timeout_s: float = 30.0
    max_body_bytes: int = 32 << 20
    drain_s: float = 30.0


class Server:
    """One run of a server.

    Args:
        models: To load and serve, by name.
        load: Loads one of them; called in a thread, in their order.
        say: Takes a line for who started it: ``http://HOST:PORT``, ``grpc://HOST:PORT``, ``ready NAME ...``.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        options: ServeOptions,
        *,
        load: Callable[[Model], None],
        say: Callable[[str], None],
    ) -> None:
        self._models, self._options, self._load, self._say = models, options, load, say
        self._meters = Meters()
        self._work = Work(options.workers or num_cores(), options.waiting, options.timeout_s, self._meters)
        self._rest = Rest(models, self._work, options.max_body_bytes, is_local=is_loopback(options.host))
        self._rpc = Rpc(models, self._work, self._rest)
        self._failure: Exception | None = None
        self._loading = threading.Thread(target=self._load_all, name="edgekit-load", daemon=True)
        self._stop = asyncio.Event()
        for name in models:
            self._meters.ready.labels(name).set(0)

    async def run(self) -> int:
        """Serves until SIGTERM, SIGINT or a model that cannot be loaded, and gives how many requests it left behind.

        Raises:
            InputError: It cannot listen there.
            EdgekitError: What loading a model raised.
            Exception: What ended the HTTP server before it was told to end.
        """
        self._loop = asyncio.get_running_loop()
        with loop_beside("edgekit-grpc") as self._rpc_loop:
            return await self._live()

    async def _live(self) -> int:
        rpc, rpc_port = await on(self._rpc_loop, self._listen_rpc())
        http = _http(self._rest, self._options)
        listener = _listener(self._options.host, self._options.port)
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        with self._signals():
            answering = asyncio.create_task(http.serve(sockets=[listener]))
            while not http.started and not answering.done():
                await asyncio.sleep(0.01)
            if answering.done():
                listener.close()
                answering.result()
                return self._work.taken
            self._say(f"http://{host}:{listener.getsockname()[1]}")
            if rpc is not None:
                await on(self._rpc_loop, rpc.start())
                self._say(f"grpc://{host}:{rpc_port}")
            self._loading.start()
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait({answering, stopped}, return_when=asyncio.FIRST_COMPLETED)
        await self._drain(http, answering, rpc)
        if self._failure is not None:
            raise self._failure
        if answering.done():
            answering.result()
        return self._work.taken

    @property
    def is_entangled(self) -> bool:
        """Whether a thread is still inside an engine, where nothing can end it."""
        return self._work.taken > 0 or self._loading.is_alive()

    def close(self) -> None:
        """Gives back threads and engines, for a server that is not entangled."""
        self._work.threads.shutdown()
        for model in self._models.values():
            if model.session is not None:
                model.session.close()

    def _load_all(self) -> None:
        try:
            for model in self._models.values():
                self._load(model)
                self._meters.ready.labels(model.name).set(1)
                session = model.loaded()
                variant = f"{session.artifact.name} on " if session.artifact else ""
                self._say(f"ready {model.name}: {variant}{session.runtime}")
        except Exception as error:  # noqa: BLE001 - raised again by `run`, which this thread ends
            self._failure = error
            self._loop.call_soon_threadsafe(self._stop.set)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop the server; what comes after the first one has its usual effect."""
        kinds = (signal.SIGTERM, signal.SIGINT)
        for kind in kinds:
            self._loop.add_signal_handler(kind, self._stop.set)
        try:
            yield
        finally:
            for kind in kinds:
                self._loop.remove_signal_handler(kind)

    async def _listen_rpc(self) -> tuple[Any, int]:
        if self._options.grpc_port is None:
            return None, 0
        import grpc

        limit = self._options.max_body_bytes + _FRAME_BYTES
        settings = [("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", -1)]
        # Messages are in memory before they are counted: so many more may be refused in our words, the rest in gRPC's.
        most = 4 * self._work.places + 64
        server = grpc.aio.server(options=[*settings, ("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=most)
        self._rpc.add_to(server)
        host, port = self._options.host, self._options.grpc_port
        try:
            found = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            raise _no_listening(host, port, str(error).splitlines()[0]) from error
        return server, found

    async def _drain(self, http: uvicorn.Server, answering: asyncio.Task[None], rpc: Any) -> None:
        started = time.monotonic()
        self._rest.stopping = True
        for listener in http.servers:
            listener.close()
        while time.monotonic() - started < _LAST_WORD_S and self._is_spoken_to(http, started):
            await asyncio.sleep(0.02)
        ending: set[asyncio.Future[Any]] = {answering, asyncio.create_task(self._work.idle())}
        if rpc is not None:
            ending.add(on(self._rpc_loop, rpc.stop(self._options.drain_s)))
        http.should_exit = True
        left_s = max(0.0, started + self._options.drain_s - time.monotonic())
        _, unfinished = await asyncio.wait(ending, timeout=left_s)
        if unfinished:
            self._work.given_up.set_result(None)
            await asyncio.sleep(_SILENCE_S)  # in which those who wait are told

    def _is_spoken_to(self, http: uvicorn.Server, started: float) -> bool:
        heard_at = max(started, self._rpc.heard_at)
        is_heard = self._options.grpc_port is not None and time.monotonic() - heard_at < _SILENCE_S
        return bool(http.server_state.connections) or is_heard


def check_installed(options: ServeOptions) -> None:
    """Raises UnavailableError when a package of the extra is missing."""
    packages = [
        "starlette",
        "uvicorn",
        "prometheus_client",
        *(["grpc", "google.protobuf"] if options.grpc_port is not None else []),
    ]
    if missing := [name for name in packages if not _is_there(name)]:
        raise UnavailableError(f"serving needs {', '.join(missing)}", hint="pip install 'edgekit-ml[serve]'")


def _is_there(package: str) -> bool:
    parent = package.partition(".")[0]  # without which looking for the package raises
    return find_spec(parent) is not None and find_spec(package) is not None


def _http(rest: Rest, options: ServeOptions) -> uvicorn.Server:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Prompt(H11Protocol):
        def data_received(self, data: bytes) -> None:
            """Acknowledges at once: clients that send a body behind its header wait for that, 40 ms by default."""
            super().data_received(data)
            if hasattr(socket, "TCP_QUICKACK") and not self.transport.is_closing():
                connection = self.transport.get_extra_info("socket")
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    class Quiet(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Not its business: it would raise a signal again when all is done, and end the process by it."""
            yield

    return Quiet(
        uvicorn.Config(
            rest.application(),
            http=Prompt,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(options.drain_s)),
        )
    )


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is said, as asyncio turns off Nagle's algorithm only where it is: else each answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _no_listening(host, port, error.strerror or str(error)) from error
    return listener


def _no_listening(host: str, port: int, said: str) -> InputError:
    return InputError(f"cannot listen on {host}, port {port}: {said}", hint="port 0 takes a free one")
