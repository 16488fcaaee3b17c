"""Lanes: calls at the same time, up to so many; the others in the order they came; closing; interrupts."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.lanes import Lanes, _Place
from edgekit.runtime import Session
from edgekit.spec import TensorSpec

ONE = np.ones(1, "float32")


class Model:
    """Counts what runs at the same time in it and in those it opened, and fails when one runs twice at once."""

    precision = "fp32"
    lends_outputs = True
    inputs = (TensorSpec("x", "float32", (1,)),)
    outputs = (TensorSpec("y", "float32", (1,)),)

    def __init__(self, lanes: int = 1, first: Model | None = None, delay_s: float = 0.002) -> None:
        self.lanes = lanes
        self.first = first or self
        self.delay_s = delay_s
        self.most = self.opened = self.closed = self.inside = 0
        self.order: list[float] = []
        self._buffer = np.zeros(1, "float32")
        self._busy = threading.Lock()
        self._sum = threading.Lock()

    def another(self) -> Model | None:
        self.opened += 1
        return Model(first=self.first, delay_s=self.delay_s)

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        assert self._busy.acquire(blocking=False), "two calls in one lane"
        first = self.first
        with first._sum:
            first.inside += 1
            first.most = max(first.most, first.inside)
            first.order.append(float(arrays[0][0]))
        self._buffer[...] = arrays[0]
        time.sleep(self.delay_s)
        with first._sum:
            first.inside -= 1
        self._busy.release()
        return [self._buffer]

    def close(self) -> None:
        assert self._busy.acquire(blocking=False), "closed under a call"
        self.first.closed += 1


def session(model: Model) -> Session:
    return Session(model, runtime="made-up")


def all_at_once(count: int, work: Callable[[int], None]) -> list[BaseException]:
    failed: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            work(index)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a call waits for ever"
    return failed


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_calls_run_at_the_same_time_up_to_the_number_of_lanes(lanes: int) -> None:
    model = Model(lanes)
    opened = session(model)

    def work(index: int) -> None:
        for turn in range(10):
            x = np.full(1, index * 100 + turn, "float32")
            assert opened.run({"x": x})["y"] == x

    assert not all_at_once(6, work)
    assert model.most == lanes
    assert model.opened == lanes - 1
    opened.close()
    assert model.closed == lanes


def test_one_caller_opens_no_second_lane() -> None:
    model = Model(4)
    opened = session(model)
    for _ in range(5):
        opened.run({"x": ONE})
    assert not all_at_once(1, lambda _: opened.run({"x": ONE}) and None)
    assert model.opened == 0


def test_an_engine_may_have_fewer_than_it_said() -> None:
    model = Model(4)
    model.another = lambda: None  # type: ignore[method-assign]
    opened = session(model)
    assert not all_at_once(4, lambda _: opened.run({"x": ONE}) and None)
    assert model.most == 1


def test_what_cannot_be_opened_is_told_and_the_rest_goes_on() -> None:
    model = Model(4, delay_s=0.02)

    def fail() -> Model:
        raise MemoryError("no room\nnone at all")

    model.another = fail  # type: ignore[method-assign]
    opened = session(model)
    with pytest.warns(RuntimeWarning, match=r"runs 1 calls at the same time, not more: MemoryError: no room$"):
        failed = all_at_once(4, lambda _: opened.run({"x": ONE}) and None)
    assert not failed
    assert len(model.order) == 4


def test_who_waits_is_served_in_the_order_of_coming() -> None:
    model = Model(1)
    lanes = Lanes(model)
    held = lanes.free.pop()
    served: list[int] = []

    def work(index: int) -> None:
        lane = lanes.take()
        served.append(index)
        lanes.free.append(lane)
        lanes.hand_on()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(5)]
    for index, thread in enumerate(threads, start=1):
        thread.start()
        while len(lanes.waiting) < index:
            time.sleep(0.001)
    lanes.free.append(held)
    lanes.hand_on()
    for thread in threads:
        thread.join(20)
    assert served == [0, 1, 2, 3, 4]


def test_a_busy_caller_does_not_keep_the_others_out() -> None:
    model = Model(1)
    opened = session(model)
    turns = [0, 0]
    end = time.monotonic() + 0.3

    def work(index: int) -> None:
        while time.monotonic() < end:
            opened.run({"x": ONE})
            turns[index] += 1

    assert not all_at_once(2, work)
    assert min(turns) > 0.8 * max(turns)


def test_an_error_gives_the_lane_back() -> None:
    class Failing(Model):
        def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            raise RuntimeError("no")

    opened = session(Failing(1))
    for _ in range(3):
        with pytest.raises(Exception, match="no"):
            opened.run({"x": ONE})
    opened.close()


def test_closing_waits_for_every_lane_and_sends_the_others_away() -> None:
    model = Model(2, delay_s=0.05)
    opened = session(model)
    ends: list[str] = []

    def work(index: int) -> None:
        if index == 5:
            time.sleep(0.02)
            opened.close()
            ends.append(f"closed {model.closed}, inside {model.inside}")
            return
        try:
            opened.run({"x": ONE})
            ends.append("ran")
        except InputError as error:
            ends.append(str(error))

    assert not all_at_once(6, work)
    assert ends.count("ran") == 2
    assert ends.count("closed 2, inside 0") == 1
    assert sum("the session is closed" in end for end in ends) == 3


def test_two_may_close_at_once() -> None:
    model = Model(3)
    opened = session(model)
    all_at_once(3, lambda _: opened.run({"x": ONE}) and None)
    assert not all_at_once(4, lambda _: opened.close())
    assert model.closed == model.opened + 1


def test_a_lane_that_an_interrupt_dropped_comes_back() -> None:
    lanes = Lanes(Model(1))
    lanes.free.pop()
    assert len(lanes.free) == 1
    lanes.close()
    assert not lanes.free


def test_a_call_that_was_interrupted_while_it_waited_keeps_nobody_waiting() -> None:
    lanes = Lanes(Model(1))
    held = lanes.free.pop()
    lanes.waiting.append(_Place())  # the place of one who has gone away
    taken: list[object] = []
    waiter = threading.Thread(target=lambda: taken.append(lanes.take()))
    waiter.start()
    while len(lanes.waiting) < 2:
        time.sleep(0.001)
    lanes.free.append(held)
    del held
    lanes.hand_on()
    waiter.join(5)
    assert taken


def test_a_missed_hand_on_is_made_up_for() -> None:
    lanes = Lanes(Model(1))
    held = lanes.free.pop()
    taken: list[object] = []
    waiter = threading.Thread(target=lambda: taken.append(lanes.take()))
    waiter.start()
    while not lanes.waiting:
        time.sleep(0.001)
    lanes.free.append(held)  # an interrupt came before `hand_on`
    waiter.join(5)
    assert taken


def test_a_session_that_is_let_go_takes_its_lanes_with_it() -> None:
    sessions = [session(Model(2))]
    assert not all_at_once(2, lambda _: sessions[0].run({"x": ONE}) and None)
    watched = weakref.ref(sessions.pop()._model)
    gc.collect()
    assert watched() is None
