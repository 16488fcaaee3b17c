"""The order of a measurement: every candidate in its own process, all alive at once, timed in turns A B C A B C.

Interleaving lets a machine that slows down slow all candidates alike, and makes the i-th rounds of two candidates a
pair. Facts: reliability, section 5; "Producing Wrong Data Without Doing Anything Obviously Wrong!", Mytkowicz et al.,
2009, for why one candidate after the other misleads.
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
from edgekit.measuring.records import Candidate, Settings
from edgekit.spec import Signature
from edgekit.worker import Worker

__all__ = ["Runner", "calls_per_round", "run_cold_starts", "run_rounds"]

_CHILD = "edgekit.measuring.child"
_OPEN_TIMEOUT_S = 300.0
_SETTLE_S = 0.005
_MAX_CALLS = 500
"""Calls of one round, however short they are: more would fill the report and tell nothing new."""


@dataclass
class Runner:
    """A candidate with its process and what it has shown so far.

    Attributes:
        options: Further arguments of `edgekit.load`, such as ``precision``.
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
    calls: int = 1
    rounds: list[tuple[float, ...]] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    frequency_mhz: list[float] = field(default_factory=list)
    energy_uj: list[float] = field(default_factory=list)
    energy_reason: str = ""
    difference: float = 0.0
    peak_rss_bytes: int | None = None
    cold: list[dict[str, float]] = field(default_factory=list)
    failure: EdgekitError | None = None

    def _place(self) -> dict[str, Any]:
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
        said = self.worker.call(f"{_CHILD}:open_model", timeout_s=_OPEN_TIMEOUT_S, **self._place())
        self.signature = Signature.from_json(said["signature"])
        self.arithmetic = said["precision"]

    def prepare(self, feeds: Path, settings: Settings) -> None:
        """Warms up and decides how many calls a round has."""
        assert self.worker is not None
        said = self.worker.call(
            f"{_CHILD}:prepare", timeout_s=_OPEN_TIMEOUT_S, feeds=str(feeds), warmup_s=settings.warmup_s
        )
        self.estimate_us, self.is_constant = said["estimate_us"], said["is_constant"]
        self.least_us = said["least_us"]
        self.calls = calls_per_round(self.estimate_us, settings)

    def time(self, keep: bool) -> None:
        """One timed round."""
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
            self.energy_reason = said["energy_reason"]
            if said["energy_uj"] is not None:
                self.energy_uj.append(said["energy_uj"])

    def ask(self, function: str, **arguments: Any) -> Any:
        """Calls a function of `edgekit.measuring.child` in its process."""
        assert self.worker is not None
        return self.worker.call(f"{_CHILD}:{function}", timeout_s=_OPEN_TIMEOUT_S, **arguments)

    def start_cold(self, feeds: Path) -> None:
        """One cold start in a process of its own."""
        started_ns = time.perf_counter_ns()
        with Worker(f"cold start of {self.candidate.title}") as worker:
            said = worker.call(
                f"{_CHILD}:cold_start",
                timeout_s=_OPEN_TIMEOUT_S,
                started_ns=started_ns,
                feeds=str(feeds),
                **self._place(),
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
) -> None:
    """Opens all, warms up all, then times them in turns. Failures stay with their candidates.

    Args:
        runners: Left with their results; those that failed with their failure.
        choose_feeds: Gives the feeds for the signature of a model. Candidates of one signature get the same.
        folder: Where feed files go.
        settings: How often and how long.
        tick: Called with words before each step.
    """
    for runner in runners:
        tick(f"opening {runner.candidate.title}")
        runner.attempt(runner.open)
        runner.attempt(lambda r=runner: r.prepare(feeds_file(r, choose_feeds, folder), settings))  # type: ignore[misc]
    for turn in range(settings.rounds + 1):
        for runner in runners:
            tick(f"round {turn} of {settings.rounds}: {runner.candidate.title}")
            runner.attempt(lambda r=runner, keep=turn > 0: r.time(keep))  # type: ignore[misc]
    for runner in runners:
        runner.close()


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
