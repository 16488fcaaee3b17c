"""A fixed number of threads, and room for a fixed number of requests: who comes when it is full is sent away.

And a second event loop, for calls that would have to wait their turn on the first.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from edgekit.serving.metering import Meters
from edgekit.serving.refusing import RefusedError

__all__ = ["Place", "Work", "loop_beside", "on"]

T = TypeVar("T")


class Work:
    """The threads. Everything but what they run belongs to the event loop's thread.

    Args:
        threads: Requests worked on at once.
        waiting: Requests beyond those that may wait.
        timeout_s: For a request, from its first byte to its answer.

    Attributes:
        places: Room there is.
        taken: Of that.
        given_up: Once it has a result, nobody waits for answers any more.
    """

    def __init__(self, threads: int, waiting: int, timeout_s: float, meters: Meters) -> None:
        self.places = threads + waiting
        self.timeout_s = timeout_s
        self.taken = 0
        self.meters = meters
        self.given_up = asyncio.get_running_loop().create_future()
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="edgekit-serve")

    def place(self, timeout_s: float | None = None) -> Place:
        """Room for one request, or RefusedError when there is none. To be used as a context, at once."""
        if self.taken >= self.places:
            raise RefusedError("busy", f"{self.places} requests are here already", hint="try again in a second")
        return Place(self, self.timeout_s if timeout_s is None else min(timeout_s, self.timeout_s))

    async def idle(self) -> None:
        """Returns when nothing is being worked on."""
        while self.taken:
            await asyncio.sleep(0.02)


class Place:
    """Room for one request. It is free again when the request's work is done, even if its caller has gone before."""

    def __init__(self, work: Work, timeout_s: float) -> None:
        self._work = work
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._future: Future[Any] | None = None

    @property
    def left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def __enter__(self) -> Place:
        self._work.taken += 1
        self._work.meters.in_flight.inc()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._future is None or self._future.cancel() or self._future.done():
            self._leave()
        else:
            loop = asyncio.get_running_loop()
            self._future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))

    async def run(self, model: str, function: Callable[[], T]) -> T:
        """`function` in one of the threads. Raises what it does, and RefusedError when its time is over."""
        meters, arrived = self._work.meters, time.perf_counter()

        def measured() -> T:
            started = time.perf_counter()
            meters.queue_seconds.labels(model).observe(started - arrived)
            try:
                return function()
            finally:
                meters.compute_seconds.labels(model).observe(time.perf_counter() - started)

        self._future = self._work.threads.submit(measured)
        answer = asyncio.wrap_future(self._future)
        waited = {answer, self._work.given_up}
        try:
            await asyncio.wait(waited, timeout=self.left_s, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return await answer
        finally:
            answer.cancel()  # or asyncio complains of errors that nobody is there for any more
        if self._work.given_up.done():
            raise RefusedError("not_ready", "the server stopped before there was an answer")
        raise RefusedError("timeout", f"no answer within {self._timeout_s:g} s", hint="serve with a longer --timeout")

    def _leave(self) -> None:
        self._work.taken -= 1
        self._work.meters.in_flight.dec()


@contextmanager
def loop_beside(name: str) -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that turns in a thread of its own. At the end of the context what still runs on it is canceled."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def turn() -> None:
        ended = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), ended))
        await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(turn()), name=name, daemon=True)
    thread.start()
    loop, ended = started.result()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


def on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """`work` on the loop of another thread, for a coroutine of this one's to await; canceling it cancels `work`."""
    return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
