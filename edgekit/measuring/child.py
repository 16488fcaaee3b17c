"""What runs in a candidate's own process: opening, the untimed reference, timed batches, and the cold start."""

from __future__ import annotations

import gc
import hashlib
import resource
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.environment import frequency_mhz
from edgekit.errors import EdgekitError
from edgekit.feeds import load_feeds
from edgekit.measuring.cold import load_candidate
from edgekit.measuring.energy import Meter
from edgekit.measuring.resident import peak_rss_bytes
from edgekit.parity import value_range

if TYPE_CHECKING:
    from edgekit.runtime import Session

__all__ = [
    "Subject",
    "answer_difference",
    "audit_unseen",
    "open_model",
    "prepare",
    "subject",
    "time_callers",
    "time_calls",
    "time_paced",
]

_CLOCK_READS = 2001
_MOVED_BYTES = 64 << 20
"""Feeds larger than this in all stay where they are: to move them would take longer than to run many a model."""

_UNSEEN = 7
_UNSEEN_S = 1.0


@dataclass
class Subject:
    """The one model this process has open, with its feeds and the answers it gave before anything was timed.

    Attributes:
        timer_ns: What reading the clock twice adds to every sample.
        kept: The feeds as they were given; `feeds` change their contents from round to round.
        turn: Rounds so far.
    """

    session: Session
    feeds: list[dict[str, np.ndarray]]
    answers: list[dict[str, np.ndarray]]
    timer_ns: float = 0.0
    kept: list[dict[str, np.ndarray]] = field(default_factory=list)
    turn: int = 0

    def move_feeds(self) -> None:
        """Every feed's contents go to the memory of the next: what knows a feed by its place will answer wrong."""
        forms = [[(name, array.dtype, array.shape) for name, array in feed.items()] for feed in self.kept]
        are_large = sum(array.nbytes for feed in self.kept for array in feed.values()) > _MOVED_BYTES
        if len(self.kept) < 2 or are_large or any(form != forms[0] for form in forms):
            return
        self.turn += 1
        for place, feed in enumerate(self.feeds):
            for name, array in feed.items():
                array[...] = self.kept[(place + self.turn) % len(self.kept)][name]
        self.answers.append(self.answers.pop(0))


_subjects: list[Subject] = []


def subject() -> Subject:
    """What `open_model` opened and `prepare` prepared."""
    return _subjects[0]


def open_model(
    path: str, runtime: str, variant: str | None, threads: int | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Opens the candidate and says what it is."""
    session = load_candidate(path, runtime, variant, threads, options)
    _subjects[:] = [Subject(session, [], [])]
    return {"signature": session.signature.to_json(), "precision": session.precision}


def prepare(feeds: str, warmup_s: float) -> dict[str, Any]:
    """Answers every feed untimed, warms up, and estimates the time of a call.

    Returns:
        ``estimate_us``; ``least_us``, which other programs do not lengthen; ``is_constant``: several feeds, but every
        answer was the same; ``inputs`` and ``outputs``, how many are different; ``timer_ns``.
    """
    subject = _subjects[0]
    subject.feeds, subject.kept = load_feeds(Path(feeds)), load_feeds(Path(feeds))
    subject.answers = [subject.session.run(feed) for feed in subject.feeds]
    subject.timer_ns = _clock_ns()
    end = time.perf_counter() + warmup_s
    took = [_timed_ns(subject, turn) for turn in range(3)]
    while time.perf_counter() < end:
        took.append(_timed_ns(subject, len(took)))
    outputs = _distinct(subject.answers)
    recent = took[-min(len(took), 25) :]
    return {
        "estimate_us": float(np.median(recent)) / 1000,
        "least_us": min(took) / 1000,
        "is_constant": len(subject.answers) > 1 and outputs == 1,
        "inputs": _distinct(subject.feeds),
        "outputs": outputs,
        "timer_ns": subject.timer_ns,
    }


def _clock_ns() -> float:
    """What lies between two readings of the clock with nothing between them: half of the first, half of the second."""
    clock = time.perf_counter_ns
    took = [0] * _CLOCK_READS
    for turn in range(_CLOCK_READS):
        start = clock()
        took[turn] = clock() - start
    return float(np.median(took))


def _distinct(arrays: Sequence[Mapping[str, np.ndarray]]) -> int:
    digests = set()
    for one in arrays:
        digest = hashlib.sha256()
        for name in sorted(one):
            array = np.ascontiguousarray(one[name])
            digest.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
        digests.add(digest.digest())
    return len(digests)


def _timed_ns(subject: Subject, turn: int) -> int:
    return _timed_call_ns(subject, subject.feeds[turn % len(subject.feeds)])


def _timed_call_ns(subject: Subject, feed: dict[str, np.ndarray]) -> int:
    start = time.perf_counter_ns()
    subject.session.run(feed)
    return time.perf_counter_ns() - start


def time_calls(calls: int, settle_s: float) -> dict[str, Any]:
    """Times `calls` calls, feeds in turn, after untimed ones for `settle_s`: other candidates had the caches.

    Returns:
        ``samples_us``, less what reading the clock takes; ``cpu_us`` and ``energy_uj`` of one call; ``checked``, the
        calls whose answers were held against the untimed ones, and their largest ``difference`` as a share of the
        range; ``own_cpu_us``, what this process computed from the beginning to the end of all this.
    """
    subject = _subjects[0]
    began = time.process_time_ns()
    subject.move_feeds()
    _settle(subject, settle_s)
    feeds, run, clock = subject.feeds, subject.session.run, time.perf_counter_ns
    count = len(feeds)
    samples, answers = [0] * calls, [None] * count
    was_on = gc.isenabled()
    gc.disable()  # a collection belongs to no call in particular; the standard library's timeit does the same
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    meter = Meter()
    cpu = time.process_time_ns()
    try:
        for turn in range(calls):
            feed = feeds[turn % count]
            start = clock()
            answer = run(feed)
            samples[turn] = clock() - start
            answers[turn % count] = answer  # type: ignore[call-overload]
    finally:
        if was_on:
            gc.enable()
    cpu = time.process_time_ns() - cpu
    energy, mhz = meter.stop(), frequency_mhz()
    return {
        "samples_us": [round(max(ns - subject.timer_ns, 0.0) / 1000, 3) for ns in samples],
        "cpu_us": cpu / 1000 / calls,
        "difference": answer_difference(subject.answers, answers),
        "checked": min(calls, count),
        "energy_uj": None if energy.uj is None else energy.uj / calls,
        "energy_reason": energy.reason,
        "energy_source": energy.source,
        "frequency_mhz": mhz,
        "major_faults": resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults,
        "peak_rss_bytes": peak_rss_bytes(),
        "own_cpu_us": (time.process_time_ns() - began) / 1000,
    }


def audit_unseen() -> float | None:
    """Time of calls whose inputs were never seen over that of calls whose were, least of a few of each in turns.

    An unseen input is one of the feeds with its numbers moved along, so each number stays one the model knows. None
    where that gives no other input, or one the model refuses.
    """
    subject = _subjects[0]
    took: dict[str, list[int]] = {"unseen": [], "seen": []}
    end = time.perf_counter() + _UNSEEN_S
    for turn in range(_UNSEEN):
        known = subject.kept[turn % len(subject.kept)]
        moved = {name: np.roll(array.reshape(-1), turn + 1).reshape(array.shape) for name, array in known.items()}
        if _distinct([known, moved]) == 1:
            continue
        try:
            took["unseen"].append(_timed_call_ns(subject, moved))
        except EdgekitError:
            return None
        took["seen"].append(_timed_call_ns(subject, {name: array.copy() for name, array in known.items()}))
        if time.perf_counter() > end:
            break
    return round(min(took["unseen"]) / max(min(took["seen"]), 1), 3) if took["seen"] else None


def time_callers(callers: int, seconds: float) -> float:
    """Calls a second of `callers` threads that share the model, each waiting for its answers, for `seconds`."""
    subject = _subjects[0]
    counts = [0] * callers
    start = threading.Barrier(callers + 1)
    end = [0.0]

    def call(number: int) -> None:
        feeds, run = subject.feeds, subject.session.run
        start.wait()
        while counts[number] == 0 or time.perf_counter() < end[0]:
            run(feeds[counts[number] % len(feeds)])
            counts[number] += 1

    with ThreadPoolExecutor(callers) as pool:
        done = [pool.submit(call, number) for number in range(callers)]
        end[0] = time.perf_counter() + seconds
        start.wait()
        begun = time.perf_counter()
        for one in done:
            one.result()
        return sum(counts) / (time.perf_counter() - begun)


def time_paced(calls: int, pause_s: float) -> float:
    """CPU time of one call in microseconds, all threads, with a pause after each as a loop of frames has.

    What an engine's threads burn while they wait for the next call counts: ONNX Runtime's spin.
    """
    subject = _subjects[0]
    subject.session.run(subject.feeds[0])
    cpu = time.process_time_ns()
    for turn in range(calls):
        subject.session.run(subject.feeds[turn % len(subject.feeds)])
        time.sleep(pause_s)
    return (time.process_time_ns() - cpu) / 1000 / calls


def _settle(subject: Subject, settle_s: float) -> None:
    end = time.perf_counter() + settle_s
    turn = 0
    while turn == 0 or time.perf_counter() < end:
        subject.session.run(subject.feeds[turn % len(subject.feeds)])
        turn += 1


def answer_difference(want: list[dict[str, np.ndarray]], got: list[Any]) -> float:
    """Largest difference of any output as a share of its range; infinite where NaN stands against a number."""
    worst = 0.0
    for expected, answer in zip(want, got, strict=True):
        if answer is not None:  # fewer calls than feeds
            worst = max([worst, *(_output_difference(expected[name], answer[name]) for name in expected)])
    return worst


def _output_difference(want: np.ndarray, got: np.ndarray) -> float:
    if want.shape != got.shape or want.dtype != got.dtype:
        return float("inf")
    if np.array_equal(want, got, equal_nan=want.dtype.kind == "f"):
        return 0.0
    if want.dtype.kind not in "fiub":
        return float("inf")
    a, b = want.astype("float64"), got.astype("float64")
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    finite = np.isfinite(a)
    return float(np.abs(a - b)[finite].max() / value_range(a[finite])) if finite.any() else 0.0
