"""What runs in a candidate's own process: opening, the untimed reference, timed batches, and the cold start."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.environment import energy_uj, frequency_mhz
from edgekit.feeds import load_feeds
from edgekit.parity import value_range

if TYPE_CHECKING:
    from edgekit.runtime import Session

__all__ = ["cold_start", "open_model", "prepare", "time_callers", "time_calls", "time_paced"]

_COLD_RUNS = 3
"""Calls of a cold process before its peak memory is read; some engines allocate on the second one."""


@dataclass
class _Subject:
    """The one model this process has open, with its feeds and the answers it gave before anything was timed."""

    session: Session
    feeds: list[dict[str, np.ndarray]]
    answers: list[dict[str, np.ndarray]]


_subjects: list[_Subject] = []


def open_model(
    path: str, runtime: str, variant: str | None, threads: int | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Opens the candidate and says what it is."""
    session = _load(path, runtime, variant, threads, options)
    _subjects[:] = [_Subject(session, [], [])]
    return {"signature": session.signature.to_json(), "precision": session.precision}


def prepare(feeds: str, warmup_s: float) -> dict[str, Any]:
    """Answers every feed untimed, warms up, and estimates the time of a call.

    Returns:
        ``estimate_us``; ``least_us``, which other programs do not lengthen; and ``is_constant``: several feeds, but
        every answer was the same.
    """
    subject = _subjects[0]
    subject.feeds = load_feeds(Path(feeds))
    subject.answers = [subject.session.run(feed) for feed in subject.feeds]
    end = time.perf_counter() + warmup_s
    took = [_timed_ns(subject, turn) for turn in range(3)]
    while time.perf_counter() < end:
        took.append(_timed_ns(subject, len(took)))
    first = subject.answers[0]
    same = all(np.array_equal(first[k], answer[k]) for answer in subject.answers[1:] for k in first)
    recent = took[-min(len(took), 25) :]
    return {
        "estimate_us": float(np.median(recent)) / 1000,
        "least_us": min(took) / 1000,
        "is_constant": len(subject.answers) > 1 and same,
    }


def _timed_ns(subject: _Subject, turn: int) -> int:
    feed = subject.feeds[turn % len(subject.feeds)]
    start = time.perf_counter_ns()
    subject.session.run(feed)
    return time.perf_counter_ns() - start


def time_calls(calls: int, settle_s: float) -> dict[str, Any]:
    """Times `calls` calls, feeds in turn, after untimed ones for `settle_s`: other candidates had the caches.

    Returns:
        ``samples_us``; ``cpu_us`` and ``energy_uj`` of one call; ``difference`` of the last timed answers to the
        untimed ones as a share of their range.
    """
    subject = _subjects[0]
    _settle(subject, settle_s)
    feeds, run, clock = subject.feeds, subject.session.run, time.perf_counter_ns
    count = len(feeds)
    samples, answers = [0] * calls, [None] * count
    was_on = gc.isenabled()
    gc.disable()  # a collection belongs to no call in particular; the standard library's timeit does the same
    energy, energy_reason = energy_uj()
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
    return {
        "samples_us": [round(ns / 1000, 3) for ns in samples],
        "cpu_us": cpu / 1000 / calls,
        "difference": _difference(subject.answers, answers),
        "energy_uj": _energy_per_call(energy, calls),
        "energy_reason": energy_reason,
        "frequency_mhz": frequency_mhz(),
        "peak_rss_bytes": peak_rss_bytes(),
    }


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


def _settle(subject: _Subject, settle_s: float) -> None:
    end = time.perf_counter() + settle_s
    turn = 0
    while turn == 0 or time.perf_counter() < end:
        subject.session.run(subject.feeds[turn % len(subject.feeds)])
        turn += 1


def _energy_per_call(before: int | None, calls: int) -> float | None:
    after, _ = energy_uj()
    # The counter wraps around after some minutes; a batch that saw it is left out.
    return None if before is None or after is None or after < before else (after - before) / calls


def _difference(want: list[dict[str, np.ndarray]], got: list[Any]) -> float:
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


def cold_start(
    started_ns: int,
    path: str,
    runtime: str,
    variant: str | None,
    threads: int | None,
    feeds: str,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The way to the first answer in this fresh process, which the parent began to start at `started_ns`.

    Both processes read the same monotonic clock, that of the machine.
    """
    import edgekit.loading  # noqa: F401 - the import is part of what is timed
    from edgekit.registry import RUNTIMES

    marks = [time.perf_counter_ns()]
    feed = load_feeds(Path(feeds))[0]
    read_ns = time.perf_counter_ns() - marks[0]
    before = rss_bytes()
    marks[0] += read_ns  # reading our own feed file is not the user's cost
    RUNTIMES.get(runtime).probe().require(f"the runtime {runtime!r}")
    marks.append(time.perf_counter_ns())
    session = _load(path, runtime, variant, threads, options)
    marks.append(time.perf_counter_ns())
    session.run(feed)
    marks.append(time.perf_counter_ns())
    for _ in range(_COLD_RUNS - 1):
        session.run(feed)
    return {
        "process_ms": (marks[0] - read_ns - started_ns) / 1e6,
        "import_ms": (marks[1] - marks[0]) / 1e6,
        "load_ms": (marks[2] - marks[1]) / 1e6,
        "first_run_ms": (marks[3] - marks[2]) / 1e6,
        "rss_before_load_bytes": before,
        "peak_rss_bytes": peak_rss_bytes(),
    }


def _load(path: str, runtime: str, variant: str | None, threads: int | None, options: Mapping[str, Any]) -> Session:
    from edgekit.loading import load

    return load(Path(path), runtime=runtime, variant=variant, threads=threads, **options)


def rss_bytes() -> int | None:
    """Resident memory now: "VmRSS" of proc(5)."""
    return _status_bytes("VmRSS")


def peak_rss_bytes() -> int | None:
    """The most this process ever had resident: "VmHWM" of proc(5), else what getrusage(2) says."""
    peak = _status_bytes("VmHWM")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(name: str) -> int | None:
    path = f"/proc/{os.getpid()}/status"
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(name + ":")]
    return int(values[0]) * 1024 if values else None
