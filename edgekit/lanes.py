"""Several ways to run one model at the same time, each in the hands of one call.

A lane is taken and given back by one operation on a list each, which the interpreter does not divide: a call that finds
one free pays for no lock. Only a call that finds none comes to `Lanes.take`.
"""

from __future__ import annotations

import contextlib
import time
import warnings
import weakref
from _queue import Empty, SimpleQueue
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgekit.errors import InputError

if TYPE_CHECKING:
    from edgekit.runtime import OpenModel

__all__ = ["Lane", "Lanes"]

_LOOK_AGAIN_S = 1.0

_PATIENCE_S = 0.05
"""So long who waits may be overtaken by who comes just as a lane is given back.

A caller in a loop is on its processor with the lane's memory at hand; another has to be woken first. Serving strictly
in turn gave 0.72 of the calls a second of two callers, this gives 0.88 (8 callers, 2 lanes, MobileNetV2 in LiteRT).
"""


class _Place:
    """Where one call waits for a lane, for word to look for one (`LOOK`), or for None when there will be none."""

    LOOK = "look"
    __slots__ = ("is_called", "since", "word")

    def __init__(self) -> None:
        self.word: SimpleQueue[Lane | str | None] = SimpleQueue()
        self.since = time.monotonic()
        self.is_called = False


class Lane:
    """One way to run a model, for one call at a time."""

    __slots__ = ("_is_closed", "_lanes", "_model", "run")

    def __init__(self, model: OpenModel, lanes: Lanes) -> None:
        self.run = model.run
        self._model = model
        self._lanes = weakref.ref(lanes)
        self._is_closed = False

    def close(self) -> None:
        self._is_closed = True
        self._model.close()

    def __del__(self) -> None:
        # Nothing drops a lane but an interrupt (Ctrl-C) that falls between its being taken and its being held.
        if not self._is_closed and (lanes := self._lanes()) is not None:
            lanes.free.append(Lane(self._model, lanes))


class Lanes:
    """The lanes of one model: one from the start; another when a call finds none free, up to the model's `lanes`.

    Beyond that calls wait, and are served in the order they came but for those that come just as one is given back:
    these are served first, until somebody has waited long. A call takes a lane by ``free.pop()``, or by `take`
    where there is none; it gives it back by ``free.append``, and calls `hand_on` if anybody is `waiting`.

    Attributes:
        free: Lanes that no call holds; the last one given back is the first to be taken.
        waiting: The places of calls that found none.
        is_closed: Whether `close` has been called.
    """

    def __init__(self, model: OpenModel) -> None:
        self.free = [Lane(model, self)]
        self.waiting: deque[_Place] = deque()
        self.is_closed = False
        self._count = 1
        self._limit: int = getattr(model, "lanes", 1)
        self._open: Callable[[], OpenModel | None] = getattr(model, "another", lambda: None)
        self._opening = allocate_lock()
        self._closing = allocate_lock()

    def take(self) -> Lane:
        """A lane, when none was free: another, or the next that is given back. Raises InputError when closed."""
        lane = None if self.is_closed else self._another() or self._wait()
        if lane is None:
            raise InputError("the session is closed", hint="load the model again") from None
        return lane

    def hand_on(self) -> None:
        """Calls who waits first to what is free; who has waited long has it put into his hands."""
        while self.waiting and self.free:
            try:
                first = self.waiting[0]
                if not self.is_closed and time.monotonic() - first.since < _PATIENCE_S:
                    if not first.is_called:
                        first.is_called = True
                        first.word.put(_Place.LOOK)
                    return
                lane = self.free.pop()
            except IndexError:
                return  # a call took it, and will hand it on
            try:
                place = self.waiting.popleft()
            except IndexError:
                self.free.append(lane)
            else:
                place.word.put(lane)

    def close(self) -> None:
        """Waits for the calls under way and closes what they ran on; who waits for a lane or comes later gets none."""
        with self._opening:
            self.is_closed = True
        with self._closing:
            self._send_away()
            while self._count and (lane := self._wait(is_closing=True)) is not None:
                self._count -= 1
                lane.close()
            self._send_away()

    def _send_away(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self.waiting.popleft().word.put(None)

    def _wait(self, *, is_closing: bool = False) -> Lane | None:
        """The next lane for this call; None when the lanes are closed meanwhile."""
        place = _Place()
        self.waiting.append(place)
        while is_closing or not self.is_closed:
            self.hand_on()  # what came back before anybody could see this place
            try:
                word = place.word.get(timeout=_LOOK_AGAIN_S)
            except Empty:
                word = _Place.LOOK  # an interrupt can have kept a call from handing on
            if not isinstance(word, str):
                return word
            place.is_called = False
            if (lane := self._look(place)) is not None:
                return lane
        return None

    def _look(self, place: _Place) -> Lane | None:
        """A free lane for who waits at `place`, which is given up then."""
        try:
            lane = self.free.pop()
        except IndexError:
            if place not in self.waiting and place.word.empty():  # lost by an interrupt
                self.waiting.append(place)
            return None
        try:
            self.waiting.remove(place)
        except ValueError:  # somebody is putting another one into this place just now, behind older word to look
            while isinstance(other := place.word.get(), str):
                pass
            if other is not None:
                self.free.append(other)
        self.hand_on()
        return lane

    def _another(self) -> Lane | None:
        """A new lane, unless there are enough, somebody is opening one just now, or the engine has no more."""
        if self._count >= self._limit or not self._opening.acquire(blocking=False):
            return None
        try:
            model = None if self.is_closed or self._count >= self._limit else self._open()
            self._limit = self._limit if model else self._count
        except Exception as error:  # noqa: BLE001 - what there is goes on, with less at the same time
            self._limit = self._count
            said = str(error).strip().partition("\n")[0]
            text = f"this model runs {self._count} calls at the same time, not more: {type(error).__name__}: {said}"
            warnings.warn(text, RuntimeWarning, stacklevel=4)
            return None
        else:
            self._count += model is not None
            return Lane(model, self) if model else None
        finally:
            self._opening.release()
