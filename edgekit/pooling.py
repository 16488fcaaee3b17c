"""Several callers, one model: so many predictions at a time, the others in a queue of callers, first come first served.

Callers are coroutines of any number of event loops, or threads. What waits is the caller, with its input in its own
hands: nothing is begun for one who has gone away.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from edgekit.deadline import Deadline
from edgekit.errors import InputError, PredictTimeout

__all__ = ["Pool"]


class Pool:
    """At most `size` predictions of one model at a time. A context manager, for ``with`` and for ``async with``.

    Args:
        predict: The model's; called in threads with the input and, where there is one, ``timeout=``.
        size: Predictions at a time: as many threads.
    """

    def __init__(self, predict: Callable[..., Any], size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"the size of a pool is a whole number above 0, not {size!r}")
        self.size = size
        self._predict = predict
        self._threads = ThreadPoolExecutor(size, "edgekit-pool")
        self._lock = threading.Lock()
        self._free = size
        self._waiting: deque[Future[None]] = deque()
        self._is_closed = False

    async def predict(self, value: Any, *, timeout: float | None = None) -> Any:
        """The model's answer to `value`, as its own `predict` gives it, while the event loop goes on.

        A caller that is canceled leaves at once. Its input is dropped if it was waiting; what an engine has begun is
        finished in its thread, and its place is given to the next one then.

        Raises:
            PredictTimeout: Waiting and predicting took longer than `timeout` seconds.
            InputError: The input is none of this model, `timeout` is no time, or the pool is closed.
        """
        deadline = _deadline(timeout)
        place = self._place()
        with self._leaving(place, deadline):
            async with asyncio.timeout(_left(deadline)):
                await asyncio.wrap_future(place)
        return await asyncio.wrap_future(self._begin(value, deadline))

    def map(self, values: Iterable[Any], *, timeout: float | None = None) -> Iterator[Any]:
        """The answers to all `values`, in their order, `size` of them being made at a time.

        Values are taken as places become free, never more than twice `size` ahead of what has been handed out. An
        error comes out at its place, and ends it.
        """
        source = self._begun(values, timeout)
        begun = deque(itertools.islice(source, 2 * self.size))
        try:
            while begun:
                yield begun.popleft().result()
                begun.extend(itertools.islice(source, 1))
        finally:
            for future in begun:
                future.cancel()

    def _begun(self, values: Iterable[Any], timeout: float | None) -> Iterator[Future[Any]]:
        """A prediction of each value; what went wrong in reading or beginning one is the last of them."""
        try:
            for value in values:
                yield self._submit(value, timeout)
        except Exception as error:  # noqa: BLE001 - the caller's, at its place
            failed: Future[Any] = Future()
            failed.set_exception(error)
            yield failed

    def _submit(self, value: Any, timeout: float | None) -> Future[Any]:
        """Waits for a place, as a thread, and begins."""
        deadline = _deadline(timeout)
        place = self._place()
        with self._leaving(place, deadline):
            place.result(_left(deadline))
        return self._begin(value, deadline)

    def _place(self) -> Future[None]:
        """A place, done as soon as it is the caller's; one that was given must be given back."""
        place: Future[None] = Future()
        with self._lock:
            if self._is_closed:
                raise InputError("the pool is closed", hint="predict within its `with` block")
            if self._free:
                self._free -= 1
                place.set_result(None)
            else:
                self._waiting.append(place)
        return place

    @contextmanager
    def _leaving(self, place: Future[None], deadline: Deadline | None) -> Iterator[None]:
        """Gives a place back, or up, when waiting for it ends in an error."""
        try:
            yield
        except BaseException as error:
            if not place.cancel() and place.exception() is None:
                self._give_back()
            if isinstance(error, TimeoutError):
                raise _too_late(deadline) from None
            raise

    def _give_back(self) -> None:
        with self._lock:
            while self._waiting:
                place = self._waiting.popleft()
                if place.set_running_or_notify_cancel():
                    place.set_result(None)
                    return
            self._free += 1

    def _begin(self, value: Any, deadline: Deadline | None) -> Future[Any]:
        """The prediction in a thread, which gives the caller's place back whatever comes of it."""
        left = _left(deadline)
        if left == 0:
            self._give_back()
            raise _too_late(deadline)
        try:
            future = self._threads.submit(self._predict, value, **({} if left is None else {"timeout": left}))
        except RuntimeError as error:  # closed in between
            self._give_back()
            raise InputError("the pool is closed", hint="predict within its `with` block") from error
        future.add_done_callback(lambda _: self._give_back())
        return future

    def close(self) -> None:
        """Lets what has begun be finished; who still waits, and who comes later, gets an InputError."""
        with self._lock:
            self._is_closed = True
            waiting, self._waiting = list(self._waiting), deque()
        for place in waiting:
            if place.set_running_or_notify_cancel():
                place.set_exception(InputError("the pool is closed", hint="predict within its `with` block"))
        self._threads.shutdown()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)


def _deadline(timeout: float | None) -> Deadline | None:
    return None if timeout is None else Deadline(timeout)


def _left(deadline: Deadline | None) -> float | None:
    return None if deadline is None else deadline.remaining_s()


def _too_late(deadline: Deadline | None) -> PredictTimeout:
    seconds = deadline.seconds if deadline else 0.0
    return PredictTimeout(
        f"the prediction was not begun within {seconds:g} s: others were before it",
        timeout_s=seconds,
        hint="allow it more time, or let fewer callers in",
    )
