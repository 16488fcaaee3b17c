"""A stream: order, how far it reads ahead, errors at their place, and nothing left running."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.streaming import stream

SOON_S = 10.0


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("edgekit-stream")]


class Source:
    """Numbers from 0, and how many of them have been read."""

    def __init__(self, count: int | None = None) -> None:
        self.read = 0
        self._count = count

    def __iter__(self) -> Iterator[int]:
        for index in itertools.count() if self._count is None else range(self._count):
            self.read += 1
            yield index


def slowly(value: int) -> int:
    time.sleep(0.001 * (value * 7 % 5))
    return value * value


@pytest.mark.parametrize("ahead", [None, 1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_all_answers_come_in_order(ahead: int | None, count: int) -> None:
    assert list(stream(slowly, Source(count), ahead=ahead)) == [index * index for index in range(count)]
    assert running() == []


@pytest.mark.parametrize("ahead", [1, 4])
def test_it_never_reads_further_ahead_than_said(ahead: int) -> None:
    source = Source()
    answers = stream(lambda value: value, source, ahead=ahead)
    for taken in range(20):
        assert next(answers) == taken
        time.sleep(0.005)  # time enough to read on
        assert source.read - (taken + 1) <= ahead
    end = time.monotonic() + SOON_S
    while source.read < 20 + ahead and time.monotonic() < end:
        time.sleep(0.005)
    assert source.read == 20 + ahead  # and reads as far as it may
    answers.close()  # type: ignore[attr-defined]
    assert running() == []


def test_nothing_begins_before_the_first_answer_is_asked_for() -> None:
    source = Source()
    stream(lambda value: value, source)
    time.sleep(0.02)
    assert source.read == 0
    assert running() == []


def test_calls_overlap() -> None:
    both = threading.Barrier(2, timeout=SOON_S)

    def predict(value: int) -> int:
        both.wait()  # is passed by two at once only
        return value

    assert list(stream(predict, range(6), ahead=2)) == list(range(6))


def test_an_error_comes_at_its_place_and_ends_it() -> None:
    source = Source()

    def predict(value: int) -> int:
        if value == 5:
            raise ZeroDivisionError("five")
        time.sleep(0.01)
        return value

    answers = stream(predict, source, ahead=3)
    assert [next(answers) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError, match="five"):
        next(answers)
    assert source.read <= 9
    assert running() == []
    with pytest.raises(StopIteration):
        next(answers)


def test_an_error_in_reading_comes_at_its_place() -> None:
    def values() -> Iterator[int]:
        yield from range(3)
        raise OSError("the camera is gone")

    answers = stream(slowly, values())
    assert [next(answers) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(OSError, match="camera"):
        next(answers)
    assert running() == []


def test_leaving_the_loop_stops_the_threads() -> None:
    source = Source()
    for answer in stream(slowly, source):
        if answer == 4:
            break
    gc.collect()
    assert running() == []
    read = source.read
    time.sleep(0.02)
    assert source.read == read


def test_closing_waits_for_calls_that_have_begun() -> None:
    ended: list[int] = []

    def predict(value: int) -> int:
        if value:
            time.sleep(0.1)
        ended.append(value)
        return value

    answers = stream(predict, Source(), ahead=1)
    next(answers)
    time.sleep(0.02)
    answers.close()  # type: ignore[attr-defined]
    assert ended == [0, 1]
    assert running() == []


def test_values_and_answers_are_not_held_longer_than_they_are_wanted() -> None:
    frames: list[weakref.ref[np.ndarray]] = []

    def values() -> Iterator[np.ndarray]:
        for _ in range(30):
            frame = np.zeros(1000)
            frames.append(weakref.ref(frame))
            yield frame
            del frame

    most = 0
    for _ in stream(lambda frame: frame.sum(), values(), ahead=4):
        most = max(most, sum(ref() is not None for ref in frames))
    assert most <= 5  # those ahead, and the one in the hands of the source
    assert sum(ref() is not None for ref in frames) == 0


@pytest.mark.parametrize("ahead", [0, -1, 1.5, True])
def test_how_far_ahead_is_a_whole_number(ahead: Any) -> None:
    with pytest.raises(InputError, match="whole number"):
        stream(slowly, [], ahead=ahead)


def test_streams_of_streams() -> None:
    doubled = stream(lambda value: 2 * value, Source(40))
    assert list(stream(lambda value: value + 1, doubled)) == [2 * index + 1 for index in range(40)]
    assert running() == []
