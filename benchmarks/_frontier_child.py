"""What runs in the process of one file in one engine: it is open once for every thread count, and timed when asked."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgekit.runtime import Session

_FEEDS = 4
_SETTLE_NS = 3_000_000
"""Untimed calls before timed ones: other processes had the caches."""
_LOOK_NS = 20_000_000


@dataclass
class _Subject:
    session: Session
    feeds: list[dict[str, np.ndarray]]
    call_ns: float = 0.0


_subjects: dict[int, _Subject] = {}


def open_file(path: str, samples: str, threads: list[int], runtime: str, precision: str) -> dict[str, Any]:
    """Opens a file, or a bundle as its manifest pins it (``runtime`` empty, ``threads`` [0]), and looks at each.

    Returns:
        ``call_us`` by thread count, the least of a few calls; ``arithmetic``, ``runtime`` and ``threads`` as opened.
    """
    from edgekit.loading import load

    rows = _rows(samples)
    said: dict[str, Any] = {"call_us": {}}
    for count in threads:
        asked: dict[str, Any] = {"runtime": runtime, "threads": count, "precision": precision} if runtime else {}
        session = load(Path(path), **asked)
        subject = _subjects[count] = _Subject(session, rows)
        subject.call_ns = _look(subject)
        said["call_us"][count] = subject.call_ns / 1e3
        said["arithmetic"] = session.precision
        said["choice"] = str(session.choice)
    return said


def _rows(samples: str) -> list[dict[str, np.ndarray]]:
    with np.load(samples) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return [{name: array[row : row + 1].copy() for name, array in arrays.items()} for row in range(_FEEDS)]


def _look(subject: _Subject) -> float:
    """The least of a few calls, after a first one that prepares."""
    subject.session.run(subject.feeds[0])
    took: list[int] = []
    while len(took) < 3 or (sum(took) < _LOOK_NS and len(took) < 200):
        started = time.perf_counter_ns()
        subject.session.run(subject.feeds[len(took) % _FEEDS])
        took.append(time.perf_counter_ns() - started)
    return float(min(took))


def time_calls(threads: int, share_us: float) -> list[float]:
    """Microseconds of single calls that fill `share_us`, but one at least and 400 at most."""
    subject = _subjects[threads]
    run, feeds, clock = subject.session.run, subject.feeds, time.perf_counter_ns
    started, turn = clock(), 0
    while turn == 0 or clock() - started < _SETTLE_NS:
        run(feeds[turn % _FEEDS])
        turn += 1
    calls = int(np.clip(share_us * 1e3 / subject.call_ns, 1, 400))
    took = [0] * calls
    was_on = gc.isenabled()
    gc.disable()
    try:
        for turn in range(calls):
            feed = feeds[turn % _FEEDS]
            started = clock()
            run(feed)
            took[turn] = clock() - started
    finally:
        if was_on:
            gc.enable()
    return [ns / 1e3 for ns in took]
