"""Where the time of a candidate's call goes, from its engine's own profiler, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.cores import num_cores
from edgekit.errors import ConversionError, EdgekitError, UnsupportedError
from edgekit.feeds import load_feeds
from edgekit.measuring.chosen import ChosenFeeds
from edgekit.measuring.layers import LayerNames
from edgekit.measuring.operation_records import Operation, Operations, Roofline
from edgekit.measuring.roofline import find_roofline
from edgekit.measuring.rounds import Runner, feeds_file
from edgekit.registry import RUNTIMES
from edgekit.runtime import OpenModel, Session
from edgekit.tracing import OpTime, Traced, midmean
from edgekit.worker import Worker

__all__ = ["account", "run_profilers", "trace_calls"]

_TIMEOUT_S = 600.0
_TIME_US = 5e5
_LEAST_CALLS, _MOST_CALLS = 10, 100

_BEATEN = 1.1
"""An operation this much faster than the roof is a reason to measure the roof again."""

_CLOCK_US = 1.0
"""The step of the profilers' clocks: a time may be so much longer than they say."""


def run_profilers(runners: Sequence[Runner], feeds: ChosenFeeds, folder: Path, tick: Callable[[str], None]) -> None:
    """Has the engine of every candidate that was timed say where the time goes, one after the other."""
    layers = LayerNames.of(feeds.subject.path, feeds.subject.bundle)
    told: list[tuple[Runner, Traced, float]] = []
    for runner in runners:
        tick(f"operations of {runner.candidate.title}")
        if runner.failure is None and runner.rounds:
            try:
                told.append((runner, *_ask_engine(runner, feeds_file(runner, feeds.choose, folder))))
            except EdgekitError as error:
                runner.operations = Operations(reason=error.message)
    roofs: dict[int, Roofline | str] = {}
    for threads in {_threads(runner) for runner, _, _ in told}:
        roofs[threads] = _roof(threads, [traced for runner, traced, _ in told if _threads(runner) == threads])
    for runner, traced, untraced_us in told:
        runner.operations = account(traced, untraced_us, layers, roofs[_threads(runner)])


def _ask_engine(runner: Runner, feeds: Path) -> tuple[Traced, float]:
    """What the profiler says, and what calls took right before and behind it."""
    samples = [sample for one in runner.rounds for sample in one]
    calls = int(min(max(_TIME_US / max(float(np.median(samples)), 1.0), _LEAST_CALLS), _MOST_CALLS))
    with Worker(f"profiling the operations of {runner.candidate.title}") as worker:
        said = worker.call(
            "edgekit.measuring.operations:trace_calls",
            timeout_s=_TIMEOUT_S,
            feeds=str(feeds),
            calls=calls,
            **runner.place(),
        )
    return Traced.from_json(said["traced"]), said["untraced_us"]


def _threads(runner: Runner) -> int:
    """As many as were asked for; else as many as were seen at work."""
    samples = [sample for one in runner.rounds for sample in one]
    at_work = round(float(np.median(runner.cpu_us)) / max(float(np.median(samples)), 1.0))
    return runner.candidate.threads or max(1, min(num_cores(), at_work))


def _roof(threads: int, told: Sequence[Traced]) -> Roofline | str:
    """The roofline, measured again when an operation beats it; or why there is none."""
    try:
        roofline = find_roofline(threads)
        is_beaten = any(_beats(op, roofline) for traced in told for op in traced.ops)
        return find_roofline(threads, again=True) if is_beaten else roofline
    except ConversionError as error:
        return error.message


def account(traced: Traced, untraced_us: float, layers: LayerNames, roof: Roofline | str) -> Operations:
    """The record of what a profiler said.

    Args:
        traced: Just that.
        untraced_us: What a call takes without it.
        layers: Of the model.
        roof: This machine's roofline for so many threads, or why there is none.
    """
    roofline, reason = (roof, "") if isinstance(roof, Roofline) else (None, roof)
    total = sum(op.time_us for op in traced.ops)
    operations = tuple(_operation(op, total, layers, roofline) for op in traced.ops)
    known = [op for op in operations if op.is_beyond or op.roofline_share is not None]
    least = sum(op.time_us * (1.0 if op.roofline_share is None else op.roofline_share) for op in known)
    memory = sum(op.time_us for op in operations if op.bound == "memory")
    return Operations(
        profiler=traced.profiler,
        statistic=traced.statistic,
        calls=traced.calls,
        operations=operations,
        sum_us=round(total, 3),
        call_us=traced.call_us,
        untraced_us=round(untraced_us, 3),
        ratio=_share(total, untraced_us),
        unmapped_share=_share(sum(op.time_us for op in operations if op.layer is None), total),
        macs=sum(op.macs or 0 for op in operations),
        macs_unknown_share=_share(sum(op.time_us for op in operations if op.macs is None), total),
        roofline=roofline,
        roofline_reason=reason,
        roofline_share=_share(least, sum(op.time_us for op in known)),
        memory_bound_share=_share(memory, total) if roofline else None,
    )


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _beats(op: OpTime, roofline: Roofline) -> bool:
    least = roofline.least_us(op.macs, op.bytes_moved, op.precision)
    return least is not None and least[0] > _BEATEN * (op.time_us + _CLOCK_US)


def _operation(op: OpTime, total_us: float, layers: LayerNames, roofline: Roofline | None) -> Operation:
    names = layers.layers(op.sources)
    least = roofline.least_us(op.macs, op.bytes_moved, op.precision) if roofline else None
    is_beyond = least is not None and least[0] > op.time_us > 0
    return Operation(
        name=op.name,
        type=op.type,
        layer=names[0] if names else None,
        sources=names,
        precision=op.precision,
        time_us=op.time_us,
        share=op.time_us / total_us if total_us else 0.0,
        macs=op.macs,
        bytes_moved=op.bytes_moved,
        roofline_share=round(least[0] / op.time_us, 4) if least and op.time_us and not is_beyond else None,
        bound=least[1] if least else None,
        is_beyond=is_beyond,
    )


class _Recorder:
    """A model that keeps what it is given."""

    def __init__(self, given: list[list[np.ndarray]], model: OpenModel) -> None:
        self.inputs, self.outputs, self.precision = model.inputs, model.outputs, model.precision
        self.lends_outputs = model.lends_outputs
        self._given, self._model = given, model

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self._given.append([array.copy() for array in arrays])
        return self._model.run(arrays)

    def close(self) -> None:
        self._model.close()


def trace_calls(
    path: str,
    runtime: str,
    variant: str | None,
    threads: int | None,
    feeds: str,
    calls: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Runs in a child: opens the candidate as it was timed, and has its engine profile calls on the same feeds."""
    from edgekit.loading import load

    session = load(Path(path), runtime=runtime, variant=variant, threads=threads, lanes=1, **options)
    origin, given = session.origin, list[list[np.ndarray]]()
    assert origin is not None
    engine: Any = RUNTIMES.get(origin.runtime)
    if not hasattr(engine, "operation_times"):
        raise UnsupportedError(f"the {origin.runtime} runtime offers no account of its operations")
    recorded = session.around(partial(_Recorder, given))
    fed = load_feeds(Path(feeds))
    for feed in fed:
        recorded.run(feed)
    took = _call_us(session, fed, calls)
    traced: Traced = engine.operation_times(origin.path, origin.options, given, calls)
    took += _call_us(session, fed, calls)
    session.close()
    return {"traced": traced.to_json(), "untraced_us": midmean(took)}


def _call_us(session: Session, feeds: Sequence[Mapping[str, np.ndarray]], calls: int) -> list[float]:
    took = []
    for turn in range(calls):
        start = time.perf_counter_ns()
        session.run(feeds[turn % len(feeds)])
        took.append((time.perf_counter_ns() - start) / 1000)
    return took
