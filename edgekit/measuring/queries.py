"""Queries sent to the model in a candidate's own process: one after the other, or when they are due.

What is due is taken by the next caller that is free, in the order of arrival; so `callers` threads are a queue with as
many servers, and no further thread is needed that would take time from them. A query's latency counts from the time it
was due: Tene, "How NOT to Measure Latency", 2013, for what is left out otherwise ("coordinated omission").
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.measuring.child import Subject, answer_difference, subject

__all__ = ["look", "time_arrivals", "time_queries"]

_ROWS_APART = 1e-3
"""How far a row's answer beside others may be from its answer alone, as a share of the range, to go with them."""

_SPIN_S = 0.0003
"""Sleeping comes back this late on a common kernel, whose timers have a slack of 50 us; the rest is waited awake."""

_OVERLOAD = 3.0
"""Queries that came in a second have so many seconds to be answered; then the rest is given up."""


class _Work:
    """Calls of `batch` samples each, with the answers they must give."""

    def __init__(self, subject: Subject, batch: int) -> None:
        count = len(subject.kept)
        starts = range(count if batch == 1 else 2)
        self.run = subject.session.run
        self.feeds = [_joined([subject.kept[(s + i) % count] for i in range(batch)]) for s in starts]
        answers = [subject.session.run(feed) for feed in subject.kept]
        self.wanted = [_joined([answers[(s + i) % count] for i in range(batch)]) for s in starts]
        self.answers: list[Any] = [None] * len(self.feeds)

    def call(self, number: int) -> None:
        place = number % len(self.feeds)
        self.answers[place] = self.run(self.feeds[place])

    def difference(self) -> float:
        return answer_difference(self.wanted, self.answers)


def _joined(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(arrays) == 1:
        return arrays[0]
    return {name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]}


def look(batches: Sequence[int], callers: Sequence[int], seconds: float) -> list[dict[str, float]]:
    """Samples a second for each batch the model takes by each number of callers, a short look of `seconds` each.

    A batch is taken by a model that runs it and answers each row as it does alone.
    """
    own = subject()
    found = []
    for batch in batches:
        work = _taken(own, batch)
        for count in callers if work is not None else ():
            assert work is not None
            with ThreadPoolExecutor(count) as pool:
                _serve(work, count, count, pool)
                start, calls = time.perf_counter(), 0
                while calls == 0 or time.perf_counter() < start + seconds:
                    _serve(work, count, count, pool)
                    calls += count
                took = time.perf_counter() - start
            found.append({"batch": batch, "callers": count, "samples_per_s": calls * batch / took})
    return found


def _taken(own: Subject, batch: int) -> _Work | None:
    if batch == 1:
        return _Work(own, 1)
    if any(array.ndim == 0 or len(array) != 1 for array in own.kept[0].values()):
        return None
    try:
        work = _Work(own, batch)
        work.call(0)
    except (InputError, ArtifactError, ValueError):  # sizes that are fixed, or answers that are no rows
        return None
    return work if work.difference() <= _ROWS_APART else None


def time_queries(queries: int, samples: int, batch: int, callers: int) -> dict[str, Any]:
    """Queries of `samples` samples each, one after the other, each spread over `callers` in calls of `batch`.

    Returns:
        ``latencies_us`` of the queries; ``elapsed_s`` of all; ``difference`` of the answers to untimed ones.
    """
    own = subject()
    work, calls = _Work(own, batch), -(-samples // batch)
    took = [0.0] * queries
    with ThreadPoolExecutor(callers) as pool, _no_collection():
        _serve(work, min(calls, callers), callers, pool)
        began = time.perf_counter()
        for query in range(queries):
            start = time.perf_counter_ns()
            _serve(work, calls, callers, pool)
            took[query] = max(time.perf_counter_ns() - start - own.timer_ns, 0.0) / 1000
        elapsed_s = time.perf_counter() - began
    return {"latencies_us": _rounded(took), "elapsed_s": elapsed_s, "difference": work.difference()}


def _serve(work: _Work, calls: int, callers: int, pool: ThreadPoolExecutor) -> None:
    if callers == 1:
        for number in range(calls):
            work.call(number)
        return
    numbers = itertools.count()

    def take() -> None:
        while (number := next(numbers)) < calls:
            work.call(number)

    for one in [pool.submit(take) for _ in range(callers)]:
        one.result()


def time_arrivals(
    rate_per_s: float, queries: int, callers: int, is_random: bool, seed: Sequence[int]
) -> dict[str, Any]:
    """Queries of one sample that are due at `rate_per_s`: evenly, or `is_random`, as a Poisson process.

    Returns:
        ``latencies_us`` from the time each was due, those given up counting as long as they had waited by then;
        ``service_us`` from when it was begun; ``is_late``, no caller was free when it was due; ``clock_late_us``, how
        late a free caller began; ``unanswered``, queries given up; ``elapsed_s``; ``difference``.
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, queries) if is_random else [1 / rate_per_s] * queries
    work = _Work(subject(), 1)
    work.call(0)
    with ThreadPoolExecutor(callers) as pool, _no_collection():
        start = time.perf_counter() + 0.005
        due = (start + np.cumsum(gaps)).tolist()
        give_up = start + _OVERLOAD * (due[-1] - start) + 0.1
        numbers = itertools.count()
        parts = [pool.submit(_answer, work, due, numbers, give_up) for _ in range(callers)]
        rows = sorted(row for part in parts for row in part.result())
    end = max((row[3] for row in rows), default=give_up)
    waiting = [give_up - due[number] for number in set(range(queries)) - {row[0] for row in rows}]
    return {
        "latencies_us": _rounded([*((ended - due[n]) * 1e6 for n, _, _, ended in rows), *(w * 1e6 for w in waiting)]),
        "service_us": _rounded([(ended - begun) * 1e6 for _, _, begun, ended in rows]),
        "is_late": [free > due[number] for number, free, _, _ in rows] + [True] * len(waiting),
        "clock_late_us": _rounded([(begun - max(due[number], free)) * 1e6 for number, free, begun, _ in rows]),
        "unanswered": len(waiting),
        "elapsed_s": end - start,
        "difference": work.difference(),
    }


def _answer(
    work: _Work, due: Sequence[float], numbers: Iterator[int], give_up: float
) -> list[tuple[int, float, float, float]]:
    """What one caller answers: number, and when the caller was free, began and ended."""
    rows: list[tuple[int, float, float, float]] = []
    while True:
        free = time.perf_counter()
        number = next(numbers)
        if number >= len(due) or free > give_up:
            return rows
        _wait_until(due[number])
        begun = time.perf_counter()
        work.call(number)
        rows.append((number, free, begun, time.perf_counter()))


def _wait_until(moment: float) -> None:
    if (left := moment - time.perf_counter()) > _SPIN_S:
        time.sleep(left - _SPIN_S)
    while time.perf_counter() < moment:
        time.sleep(0)  # lets the other callers have the interpreter


@contextmanager
def _no_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]
