"""The order of a measurement: every candidate in its own process, all alive at once, timed in turns A B C A B C.

Interleaving lets a machine that slows down slow all candidates alike, and makes the i-th rounds of two candidates a
pair; every second round goes the other way round, so that neither always follows the other. Facts: reliability,
section 5; "Producing Wrong Data Without Doing Anything Obviously Wrong!", Mytkowicz et al., 2009, for why one candidate
after the other misleads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, EdgekitError
from edgekit.feeds import save_feeds
from edgekit.measuring.operation_records import Operations
from edgekit.measuring.records import Candidate, ScenarioResult, Settings
from edgekit.measuring.stopping import median_interval
from edgekit.measuring.watch import Watch
from edgekit.spec import Signature
from edgekit.worker import Worker

__all__ = [
    "Runner",
    "calls_per_round",
    "feeds_file",
    "is_tight",
    "open_runners",
    "run_cold_starts",
    "run_rounds",
    "time_rounds",
]

_CHILD = "edgekit.measuring.child"
_OPEN_TIMEOUT_S = 300.0
_SETTLE_S = 0.005
_MAX_CALLS = 500
"""Calls of one round, however short they are: more would fill the report and tell nothing new."""

MAX_ROUNDS = 100
"""Rounds of a measurement that goes on until medians are known: the interval shrinks with their square root."""


@dataclass
class Runner:
    """A candidate with its process and what it has shown so far.

    Attributes:
        options: Further arguments of `edgekit.load`, such as ``precision``.
        calls: Timed calls of a round.
        checked: Timed calls whose answers were held against untimed ones.
        unseen_ratio: What `child.audit_unseen` found.
        unseen_reason: Why it found nothing.
        rounds: Latencies in microseconds of each timed round; the first, dropped one is not kept.
        failure: What went wrong; from then on it takes no further part.
        cold: What each fresh process reported.
    """

    candidate: Candidate
    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    worker: Worker | None = None
    signature: Signature | None = None
    arithmetic: str | None = None
    estimate_us: float = 0.0
    least_us: float = 0.0
    is_constant: bool = False
    inputs: int = 0
    outputs: int = 0
    timer_ns: float | None = None
    calls: int = 1
    checked: int = 0
    unseen_ratio: float | None = None
    unseen_reason: str = ""
    rounds: list[tuple[float, ...]] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    frequency_mhz: list[float] = field(default_factory=list)
    energy_uj: list[float] = field(default_factory=list)
    energy_reason: str = ""
    energy_source: str = ""
    major_faults: int = 0
    difference: float = 0.0
    peak_rss_bytes: int | None = None
    cold: list[dict[str, Any]] = field(default_factory=list)
    scenario: ScenarioResult | None = None
    scenario_reason: str = ""
    operations: Operations | None = None
    failure: EdgekitError | None = None

    def place(self) -> dict[str, Any]:
        """What a process needs to open it."""
        c = self.candidate
        return {
            "path": str(self.path),
            "runtime": c.runtime,
            "variant": c.variant if c.in_bundle else None,
            "threads": c.threads,
            "options": dict(self.options),
        }

    def open(self) -> None:
        """Starts the process and opens the model in it."""
        self.worker = Worker(f"measuring {self.candidate.title}")
        said = self.worker.call(f"{_CHILD}:open_model", timeout_s=_OPEN_TIMEOUT_S, **self.place())
        self.signature = Signature.from_json(said["signature"])
        self.arithmetic = said["precision"]

    def prepare(self, feeds: Path, settings: Settings) -> None:
        """Warms up and decides how many calls a round has."""
        assert self.worker is not None
        said = self.worker.call(
            f"{_CHILD}:prepare", timeout_s=_OPEN_TIMEOUT_S, feeds=str(feeds), warmup_s=settings.warmup_s
        )
        self.estimate_us, self.is_constant = said["estimate_us"], said["is_constant"]
        self.least_us, self.timer_ns = said["least_us"], said["timer_ns"]
        self.inputs, self.outputs = said["inputs"], said["outputs"]
        self.calls = calls_per_round(self.estimate_us, settings)

    def time(self, keep: bool) -> dict[str, Any]:
        """One timed round, which is remembered if it is to be kept. Gives what the candidate's process said."""
        assert self.worker is not None
        limit_s = 60 + 20 * self.calls * self.estimate_us / 1e6
        said = self.worker.call(f"{_CHILD}:time_calls", timeout_s=limit_s, calls=self.calls, settle_s=_SETTLE_S)
        self.difference = max(self.difference, said["difference"])
        self.peak_rss_bytes = said["peak_rss_bytes"]
        if keep:
            self.rounds.append(tuple(said["samples_us"]))
            self.cpu_us.append(said["cpu_us"])
            if said["frequency_mhz"] is not None:
                self.frequency_mhz.append(said["frequency_mhz"])
            self.energy_reason, self.energy_source = said["energy_reason"], said["energy_source"]
            self.major_faults += said["major_faults"]
            self.checked += said["checked"]
            if said["energy_uj"] is not None:
                self.energy_uj.append(said["energy_uj"])
        return dict(said)

    def audit(self) -> None:
        """Whether calls with inputs it has never seen take as long as the timed ones.

        What was timed before stands if the engine dies of such an input, whose numbers no longer fit each other.
        """
        try:
            self.unseen_ratio = self.ask("audit_unseen")
        except EdgekitError as error:
            self.unseen_reason = error.message

    def ask(self, function: str, /, limit_s: float = _OPEN_TIMEOUT_S, **arguments: Any) -> Any:
        """Calls a function of `edgekit.measuring.child`, or of a ``"module:function"``, in its process."""
        assert self.worker is not None
        where = function if ":" in function else f"{_CHILD}:{function}"
        return self.worker.call(where, timeout_s=limit_s, **arguments)

    def start_cold(self, feeds: Path) -> None:
        """One cold start in a process of its own."""
        started_ns = time.perf_counter_ns()
        with Worker(f"cold start of {self.candidate.title}") as worker:
            said = worker.call(
                "edgekit.measuring.cold:cold_start",
                timeout_s=_OPEN_TIMEOUT_S,
                started_ns=started_ns,
                feeds=str(feeds),
                **self.place(),
            )
        self.cold.append(said)

    def attempt(self, step: Callable[[], None]) -> None:
        """Runs `step` unless the candidate has failed before; a failure is kept, and ends its process."""
        if self.failure is not None:
            return
        try:
            step()
        except EdgekitError as error:
            self.failure = error
            self.close()

    def close(self) -> None:
        if self.worker is not None:
            if self.failure is not None:
                self.worker.kill()
            self.worker.close()
            self.worker = None


def calls_per_round(estimate_us: float, settings: Settings) -> int:
    """Calls of one round: enough for the samples and the time asked for, within the longest time allowed."""
    per_call_s = max(estimate_us, 0.1) / 1e6
    wanted = max(settings.min_samples, settings.min_time_s / per_call_s)
    allowed = max(settings.max_time_s / per_call_s, settings.rounds)
    return max(1, min(math.ceil(min(wanted, allowed) / settings.rounds), _MAX_CALLS))


def run_rounds(
    runners: Sequence[Runner],
    choose_feeds: Callable[[Signature], Sequence[Mapping[str, np.ndarray]]],
    folder: Path,
    settings: Settings,
    tick: Callable[[str], None],
) -> str:
    """Opens all, warms up all, then times them in turns and ends their processes.

    Args:
        runners: Left with their results; those that failed with their failure.
        choose_feeds: Gives the feeds for the signature of a model. Candidates of one signature get the same.
        folder: Where feed files go.
        settings: How often and how long.
        tick: Called with words before each step.

    Returns:
        What `time_rounds` does.
    """
    open_runners(runners, choose_feeds, folder, settings, tick)
    ended_by = time_rounds(runners, settings, tick)
    for runner in runners:
        runner.close()
    return ended_by


def open_runners(
    runners: Sequence[Runner],
    choose_feeds: Callable[[Signature], Sequence[Mapping[str, np.ndarray]]],
    folder: Path,
    settings: Settings,
    tick: Callable[[str], None],
) -> None:
    """Opens all and warms up all. Failures stay with their candidates."""
    for runner in runners:
        tick(f"opening {runner.candidate.title}")
        runner.attempt(runner.open)
        runner.attempt(lambda r=runner: r.prepare(feeds_file(r, choose_feeds, folder), settings))  # type: ignore[misc]


def time_rounds(
    runners: Sequence[Runner], settings: Settings, tick: Callable[[str], None], watch: Watch | None = None
) -> str:
    """Times opened candidates in turns: `settings.rounds`, and where there is an interval to reach, until it is.

    Args:
        runners: Opened ones; failures stay with them.
        settings: How often and how long. The time is of all rounds, `max_time_s` for each candidate that is left.
        tick: Called with words before each step.
        watch: Looks at the machine meanwhile.

    Returns:
        What ended it: ``"interval"``, ``"time"`` or ``"rounds"``. Looking after each round whether the interval is
        narrow enough makes it hold a little less often than it says: Chow and Robbins, "On the asymptotic theory of
        fixed-width sequential confidence intervals for the mean", 1965, who show that this vanishes as they narrow.
    """
    started_s, turn = time.perf_counter(), 0
    most = settings.rounds if settings.interval is None else max(settings.rounds, MAX_ROUNDS)
    while True:
        for runner in runners if turn % 2 == 0 else reversed(runners):
            tick(f"round {turn} of {_least_and_most(settings.rounds, most)}: {runner.candidate.title}")
            runner.attempt(lambda r=runner, keep=turn > 0: _time_watched(r, keep, watch))  # type: ignore[misc]
        if watch is not None:
            watch.end_round() if turn else watch.skip_round()
        alive = [runner for runner in runners if runner.failure is None]
        if turn >= settings.rounds and settings.interval is not None:
            if all(is_tight(runner.rounds, settings.interval) for runner in alive):
                return "interval"
            if time.perf_counter() - started_s > settings.max_time_s * len(alive):
                return "time"
        if turn >= most:
            return "rounds"
        turn += 1


def _time_watched(runner: Runner, keep: bool, watch: Watch | None) -> None:
    if watch is None:
        runner.time(keep)
        return
    watch.begin()
    watch.end(runner.time(keep))


def is_tight(rounds: Sequence[Sequence[float]], goal: float) -> bool:
    """Whether the interval of the median is within `goal`, a share of the median, to either side."""
    interval = median_interval(rounds)
    if interval is None:
        return False
    return interval.half_width(float(np.median([np.median(one) for one in rounds]))) <= goal


def _least_and_most(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def feeds_file(
    runner: Runner, choose_feeds: Callable[[Signature], Sequence[Mapping[str, np.ndarray]]], folder: Path
) -> Path:
    """The file of feeds for the runner's signature, written when it is first needed."""
    if runner.signature is None:
        raise ConversionError("the model was not opened")
    key = abs(hash(runner.signature.inputs))
    path = folder / f"feeds-{key}.npz"
    if not path.exists():
        save_feeds(path, choose_feeds(runner.signature))
    return path


def run_cold_starts(
    runners: Sequence[Runner],
    choose_feeds: Callable[[Signature], Sequence[Mapping[str, np.ndarray]]],
    folder: Path,
    settings: Settings,
    tick: Callable[[str], None],
) -> None:
    """Fresh processes, in turns as well. The rounds before have brought every file into the page cache."""
    for turn in range(settings.cold_starts):
        for runner in runners:
            tick(f"cold start {turn + 1} of {settings.cold_starts}: {runner.candidate.title}")
            runner.attempt(lambda r=runner: r.start_cold(feeds_file(r, choose_feeds, folder)))  # type: ignore[misc]
