"""A stream of inputs through one model: several at a time, each in a thread; answers come out in the order of inputs.

While an engine computes for one input the next is prepared and the last one's answer is made of its outputs, as
decoders, numpy and engines let other threads run.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from edgekit.cores import num_cores
from edgekit.errors import InputError

__all__ = ["stream"]


def stream(predict: Callable[[Any], Any], values: Iterable[Any], *, ahead: int | None = None) -> Iterator[Any]:
    """Gives ``predict(value)`` of each value, in order, while later ones are under way.

    Args:
        predict: Called in threads.
        values: Read in threads too, one value at a time, as far ahead as is said.
        ahead: How many values may have been read whose answers have not been asked for yet; by default twice the
            threads, of which there is one more than there are processors.

    Raises:
        InputError: `ahead` is no whole number above 0.
        Exception: What `predict`, or reading a value, raised, once all answers before it have come out. Nothing comes
            after it, and nothing more is read.

    The threads end with the generator: when it is exhausted, closed or forgotten. It waits for those calls that have
    begun, and for a value that is being read.
    """
    if ahead is not None and (isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 1):
        raise InputError(f"how far to read ahead is a whole number above 0, not {ahead!r}")
    workers = num_cores() + 1
    return _stream(_Pipeline(predict, values, ahead or 2 * workers), min(workers, ahead or workers))


def _stream(pipeline: _Pipeline, workers: int) -> Iterator[Any]:
    threads = [
        # Daemons, so that a program may end in the middle of a stream it still holds.
        threading.Thread(target=pipeline.work, name=f"edgekit-stream-{index}", daemon=True)
        for index in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield from pipeline
    finally:
        pipeline.stop()
        for thread in threads:
            thread.join()


class _Pipeline:
    """What the threads of a stream share: where the next value is from, and the answers that nobody has taken yet."""

    def __init__(self, predict: Callable[[Any], Any], values: Iterable[Any], ahead: int) -> None:
        self._predict = predict
        self._source = iter(values)
        self._ahead = ahead
        self._reading = threading.Lock()
        self._changed = threading.Condition()  # guards what follows
        self._answers: dict[int, tuple[Any, BaseException | None]] = {}
        self._read = self._taken = 0
        self._is_ended = False  # no value is to be read any more

    def work(self) -> None:
        """Reads values and answers them until there are none, one has failed, or the stream is stopped."""
        while (found := self._next()) is not None:
            index, value = found
            try:
                answer = self._predict(value)
            except BaseException as error:  # noqa: BLE001 - the reader's, at its place
                self._put(index, None, error)
                return
            found = value = None
            self._put(index, answer, None)

    def _next(self) -> tuple[int, Any] | None:
        with self._reading:
            with self._changed:
                self._changed.wait_for(lambda: self._is_ended or self._read - self._taken < self._ahead)
                if self._is_ended:
                    return None
                index, self._read = self._read, self._read + 1
            try:
                return index, next(self._source)
            except StopIteration:
                with self._changed:
                    self._read -= 1
                self.stop()
            except BaseException as error:  # noqa: BLE001 - the reader's, at its place
                self._put(index, None, error)
            return None

    def _put(self, index: int, answer: Any, error: BaseException | None) -> None:
        with self._changed:
            self._answers[index] = (answer, error)
            self._is_ended |= error is not None
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        for index in itertools.count():
            with self._changed:
                self._changed.wait_for(partial(self._is_settled, index))
                if index not in self._answers:
                    return
                answer, error = self._answers.pop(index)
                self._taken += 1
                self._changed.notify_all()
            if error is not None:
                raise error
            yield answer

    def _is_settled(self, index: int) -> bool:
        return index in self._answers or (self._is_ended and index >= self._read)

    def stop(self) -> None:
        """Nothing more is read; who waits finds that out."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()
