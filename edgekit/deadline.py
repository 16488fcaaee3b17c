"""Predictions that end in time, whatever the engine does.

An engine that can be told to stop runs in a thread, and is told. The others run in a process of their own, which is
ended (see `edgekit.isolation`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ArtifactError, InputError, PredictTimeout, UnsupportedError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from edgekit.isolation import IsolatedModel
    from edgekit.opening import Origin
    from edgekit.runtime import OpenModel

__all__ = ["Deadline", "TimedCalls"]

_GRACE_S = 0.5
"""How long an engine that was told to stop is waited for: it looks up between two operations only."""

_THREADS = 32

Stoppable = tuple[Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]], Callable[[], None]]
"""A call of its own, and what ends it from another thread."""


class Deadline:
    """A moment, some seconds from now."""

    def __init__(self, seconds: float) -> None:
        if not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
            raise InputError(f"a timeout is a number of seconds above 0, not {seconds!r}", hint="timeout=None for none")
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - time.monotonic())

    def postpone(self, seconds: float) -> None:
        """Makes it later by what is not the prediction's own time."""
        self._end += seconds

    def error(self, what: str = "the prediction") -> PredictTimeout:
        return PredictTimeout(
            f"{what} was not done within {self.seconds:g} s and has been given up",
            timeout_s=self.seconds,
            hint="allow it more time, or give it less to do; `edgekit profile` says how long the model takes",
        )


class TimedCalls:
    """The calls of one model that must end in time. Safe to use from several threads.

    Args:
        model: The open model; asked for `stoppable()`, where it has it: a `Stoppable`, or None.
        origin: What it was opened from, for engines that cannot be stopped.
    """

    def __init__(self, model: OpenModel, origin: Origin | None) -> None:
        from concurrent.futures import ThreadPoolExecutor  # which loading a model need not wait for

        self._model = model
        self._origin = origin
        self._threads = ThreadPoolExecutor(_THREADS, "edgekit-timed")
        self._child: Future[IsolatedModel] | None = None
        self._turn = threading.Lock()  # the child's
        self._is_closed = False

    def within(self, deadline: Deadline) -> TimedModel:
        """The model, each call of which ends by `deadline`."""
        return TimedModel(self._model, self, deadline)

    def run(self, arrays: Sequence[np.ndarray], deadline: Deadline) -> Sequence[np.ndarray]:
        """One call. Raises PredictTimeout, and whatever the engine raises."""
        if self._is_closed:
            raise _closed()
        if not deadline.remaining_s():
            raise deadline.error()
        stoppable: Callable[[], Stoppable | None] = getattr(self._model, "stoppable", lambda: None)
        if (call := stoppable()) is not None:
            return self._run_in_thread(*call, arrays, deadline)
        return self._run_in_child(arrays, deadline)

    def _run_in_thread(
        self,
        run: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
        stop: Callable[[], None],
        arrays: Sequence[np.ndarray],
        deadline: Deadline,
    ) -> Sequence[np.ndarray]:
        from concurrent.futures import wait

        try:
            call = self._threads.submit(run, arrays)
        except RuntimeError:  # closed in between
            raise _closed() from None
        is_done = False
        try:
            is_done = bool(wait([call], deadline.remaining_s()).done)
        finally:  # an interrupt, too, must not leave the engine running for ever
            if not is_done and not call.cancel():
                stop()
        if not is_done:
            wait([call], _GRACE_S)
            raise deadline.error()
        return call.result()

    def _run_in_child(self, arrays: Sequence[np.ndarray], deadline: Deadline) -> Sequence[np.ndarray]:
        from edgekit.isolation import OverTimeError, RefusedError

        if not self._turn.acquire(timeout=deadline.remaining_s()):
            raise deadline.error()
        try:
            child = self._started(deadline)
            if not deadline.remaining_s():
                raise deadline.error()  # nothing was begun: the process stays
            try:
                return child.run(arrays, deadline.remaining_s())
            except OverTimeError:
                child.kill()
                self._child = None if self._is_closed else self._threads.submit(self._start)  # for the next call
                raise deadline.error() from None
            except (RefusedError, InputError, UnsupportedError):
                raise
            except BaseException:  # it died, or an interrupt left its answer for the next call to take for its own
                child.kill()
                self._child = None
                raise
        finally:
            self._turn.release()

    def _started(self, deadline: Deadline) -> IsolatedModel:
        """The child, waited for if need be, which moves the deadline by no more than what an engine gets to stop."""
        from concurrent.futures import wait

        if self._is_closed:
            raise _closed()
        if self._child is None:
            self._child = self._threads.submit(self._start)
        if not self._child.done():
            began = time.monotonic()
            if not wait([self._child], deadline.remaining_s() + _GRACE_S).done:
                raise deadline.error("the prediction, the process for which was still starting,")
            deadline.postpone(min(time.monotonic() - began, _GRACE_S))
        try:
            return self._child.result()
        except BaseException:
            self._child = None
            raise

    def _start(self) -> IsolatedModel:
        from edgekit.isolation import IsolatedModel, plain_options

        origin = self._origin
        if origin is None:
            raise UnsupportedError(
                "this engine cannot be stopped, and from which file the model is, to run it elsewhere, is not known",
                hint="open it by edgekit.load",
            )
        if not origin.is_as_opened():
            raise ArtifactError(f"{origin.path} has changed since it was loaded", hint="load it again")
        child = IsolatedModel(origin.path, origin.runtime, plain_options(vars(origin.options)))
        ours = ([str(spec) for spec in side] for side in (self._model.inputs, self._model.outputs))
        if [child.inputs, child.outputs] != list(ours):
            child.kill()
            raise ArtifactError(f"{origin.path} has changed since it was loaded", hint="load it again")
        return child

    def close(self) -> None:
        """Ends the process, after the call that has it, and lets go of the threads."""
        self._is_closed = True
        with self._turn:
            if self._child is not None and self._child.exception() is None:
                self._child.result().kill()
            self._child = None
        self._threads.shutdown(wait=False)


def _closed() -> InputError:
    return InputError("the session is closed", hint="load the model again")


class TimedModel:
    """An open model whose calls end by one deadline."""

    lends_outputs = False

    def __init__(self, model: OpenModel, calls: TimedCalls, deadline: Deadline) -> None:
        self.inputs, self.outputs, self.precision = model.inputs, model.outputs, model.precision
        self._calls, self._deadline = calls, deadline

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return self._calls.run(arrays, self._deadline)

    def close(self) -> None:
        """Nothing is its own."""
