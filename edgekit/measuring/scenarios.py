"""Load on candidates as MLPerf's LoadGen gives it, in turns, each in its own process.

"MLPerf Inference Benchmark", Reddi et al., 2020, section III, and the rules of MLCommons say what the scenarios are:

    single-stream   one sample a query, the next when the last is answered    90th percentile of latency
    multi-stream    N samples a query, the next when the last is answered     99th percentile of latency
    offline         all samples in one query                                  samples a second
    server          one sample a query, arriving as a Poisson process         queries a second that can come while
                                                                              99 % are answered within a bound

They are smaller here: seconds in place of ten minutes. What few queries cannot tell is said in the record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.cores import num_cores
from edgekit.errors import EdgekitError, InputError
from edgekit.measuring.records import ScenarioResult
from edgekit.measuring.rounds import Runner
from edgekit.measuring.statistics import summarize
from edgekit.measuring.stopping import interval_of, quantile_upper

__all__ = ["SCENARIOS", "Scenario", "run_scenario", "scenario_of", "scenario_steps"]

SCENARIOS = ("single-stream", "multi-stream", "offline", "server")

_HERE = "edgekit.measuring.queries"
_TURNS = 6
"""Turns of each candidate: the least that give an interval."""

_TURN_S = 0.5
_QUERIES_A_TURN = 60
"""A turn is longer for slow models, until it has so many queries or the time is up."""

_MOST_QUERIES = 5000
_LOOK_S = 0.1
_BATCHES = (1, 8, 32)
_SEARCH_STEPS = 7
"""Halvings of the range from nothing to what callers in a hurry get: to 1/128 of it."""

_BACK = 0.93
_BACK_STEPS = 5
_TOLERANCE = 1e-3

_SLACK_S = 300.0
_SLOWER = 4.0
"""A step may take so many times as long as it should, with the slack besides, before its process is given up."""

Tick = Callable[[str], None]


@dataclass(frozen=True)
class Scenario:
    """What load to give.

    Args:
        name: One of `SCENARIOS`.
        rate_per_s: Queries a second that are due; for ``"server"`` None searches the highest that holds the bound.
        bound_us: What 99 % of the queries of ``"server"`` must be answered within.
        samples_per_query: Of ``"multi-stream"``.

    Raises:
        InputError: They do not go together.
    """

    name: str
    rate_per_s: float | None = None
    bound_us: float | None = None
    samples_per_query: int = 8

    def __post_init__(self) -> None:
        if self.name not in SCENARIOS:
            raise InputError(f"there is no scenario {self.name!r}", hint=f"one of {', '.join(SCENARIOS)}")
        if self.rate_per_s is not None and self.name in ("multi-stream", "offline"):
            raise InputError(f"queries of {self.name} follow each other: there is no rate", hint="leave out the rate")
        if self.bound_us is not None and self.name != "server":
            raise InputError(f"{self.name} is judged without a bound", hint="--scenario server")
        if self.name == "server" and self.rate_per_s is None and self.bound_us is None:
            raise InputError("to look for a rate, server needs a bound", hint="--bound-ms 15, or --rate 100")
        numbers = (self.rate_per_s, self.bound_us, self.samples_per_query)
        if any(number is not None and not 0 < number < math.inf for number in numbers):
            raise InputError("rate, bound and samples a query must be larger than 0")

    @property
    def percentile(self) -> int:
        return 90 if self.name == "single-stream" else 99

    @property
    def is_searched(self) -> bool:
        """Whether the highest rate that holds the bound is looked for."""
        return self.name == "server" and self.rate_per_s is None

    def to_settings(self) -> dict[str, Any]:
        """Its fields as `Settings` has them."""
        return {
            "scenario": self.name,
            "rate_per_s": self.rate_per_s,
            "bound_ms": None if self.bound_us is None else self.bound_us / 1000,
            "samples_per_query": self.samples_per_query if self.name == "multi-stream" else None,
        }


def scenario_of(
    name: str | None, rate_per_s: float | None, bound_ms: float | None, samples_per_query: int
) -> Scenario | None:
    """The scenario in a user's words; a rate alone is of single queries. None when none is asked for.

    Raises:
        InputError: They do not go together.
    """
    if name is None and rate_per_s is None:
        if bound_ms is not None:
            raise InputError("a bound is of a scenario", hint="--scenario server")
        return None
    bound_us = None if bound_ms is None else bound_ms * 1000
    return Scenario(name or "single-stream", rate_per_s, bound_us, samples_per_query)


@dataclass
class _Load:
    """One candidate under load, and what it has shown."""

    runner: Runner
    scenario: Scenario
    turn_s: float
    longest_s: float
    seed: int
    batch: int = 1
    callers: int = 1
    samples_per_s: float = 0.0
    rate_per_s: float | None = None
    low: float = 0.0
    high: float = 0.0
    tried: list[tuple[float, float, bool]] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)

    def attempt(self, step: Callable[[_Load], None]) -> None:
        """Runs a step unless one has failed; what the candidate did without load stands."""
        if self.runner.failure is None and not self.runner.scenario_reason:
            try:
                step(self)
            except EdgekitError as error:
                self.runner.scenario_reason = error.message

    def look(self) -> None:
        """Finds how this candidate takes the load best: samples together, callers beside each other."""
        name, cores = self.scenario.name, num_cores()
        batches: Iterable[int] = (1,)
        if name == "multi-stream":
            batches = sorted({1, self.scenario.samples_per_query})
        elif name == "offline":
            batches = _BATCHES
        callers = [1] if name == "single-stream" else sorted({1, cores})
        seen = self.runner.ask(f"{_HERE}:look", batches=list(batches), callers=callers, seconds=_LOOK_S)
        best = max(seen, key=lambda one: one["samples_per_s"])
        self.batch, self.callers = int(best["batch"]), int(best["callers"])
        self.samples_per_s = best["samples_per_s"]
        self.rate_per_s, self.high = self.scenario.rate_per_s, self.samples_per_s

    def search(self, step: int) -> None:
        """Halves the range in which the highest rate that holds the bound lies."""
        assert self.scenario.bound_us is not None
        if self.runner.least_us > self.scenario.bound_us:
            return  # no rate makes a call shorter
        rate = (self.low + self.high) / 2
        said = self._arrivals(rate, 1000 + step)
        if self._holds(rate, [said]):
            self.low = self.rate_per_s = rate
        else:
            self.high = rate

    def step_back(self, step: int) -> None:
        """Begins anew at a lower rate when the one found did not hold over all turns."""
        if self.rate_per_s is None or self._holds(self.rate_per_s, self.turns):
            return
        self.rate_per_s *= _BACK
        self.turns = [self._arrivals(self.rate_per_s, 2000 + step * _TURNS + turn) for turn in range(_TURNS)]

    def time(self, turn: int) -> None:
        s = self.scenario
        if self.scenario.is_searched and self.rate_per_s is None:
            return  # no rate holds the bound
        if self.rate_per_s is not None:
            self.turns.append(self._arrivals(self.rate_per_s, turn))
            return
        samples = self._samples_per_query()
        queries = 1 if s.name == "offline" else self._queries(self.samples_per_s / samples, self.turn_s)
        arguments = {"queries": queries, "samples": samples, "batch": self.batch, "callers": self.callers}
        limit_s = _SLACK_S + _SLOWER * queries * samples / self.samples_per_s
        self.turns.append(self.runner.ask(f"{_HERE}:time_queries", limit_s, **arguments))

    def _samples_per_query(self) -> int:
        if self.scenario.name == "offline":
            together = self.batch * self.callers
            return together * max(1, round(self.samples_per_s * self.turn_s / together))
        return self.scenario.samples_per_query if self.scenario.name == "multi-stream" else 1

    def _queries(self, per_s: float, seconds: float) -> int:
        return int(np.clip(per_s * seconds, 5, _MOST_QUERIES))

    def _arrivals(self, rate: float, turn: int) -> dict[str, Any]:
        queries = self._queries(rate, min(max(self.turn_s, _QUERIES_A_TURN / rate), self.longest_s))
        said: dict[str, Any] = self.runner.ask(
            f"{_HERE}:time_arrivals",
            _SLACK_S + _SLOWER * queries / rate,
            rate_per_s=rate,
            queries=queries,
            callers=self.callers,
            is_random=self.scenario.name == "server",
            seed=[self.seed, turn],
        )
        return said

    def _holds(self, rate: float, turns: Sequence[dict[str, Any]]) -> bool:
        p99 = float(np.percentile([v for said in turns for v in said["latencies_us"]], 99))
        assert self.scenario.bound_us is not None
        holds = p99 <= self.scenario.bound_us and not any(said["unanswered"] for said in turns)
        self.tried.append((round(rate, 3), round(p99, 3), holds))
        return holds

    def result(self) -> ScenarioResult:
        s = self.scenario
        if s.name == "offline":
            return self._offline()
        latencies = [v for said in self.turns for v in said["latencies_us"]]
        headline = f"p{s.percentile}_us"
        if not latencies:  # a search that found no rate
            return self._record("rate_per_s", None, 0, 0.0)
        found = summarize(latencies)
        of_turns = [float(np.percentile(said["latencies_us"], s.percentile)) for said in self.turns]
        unanswered = sum(said.get("unanswered", 0) for said in self.turns)
        answered = len(latencies) - unanswered
        is_held = None if s.bound_us is None else found.p99_us <= s.bound_us and not unanswered
        return self._record(
            "rate_per_s" if s.is_searched else headline,
            (self.rate_per_s if is_held else None) if s.is_searched else getattr(found, headline),
            answered,
            answered * self._samples_per_query() / sum(said["elapsed_s"] for said in self.turns),
            latency=found,
            upper_us=quantile_upper(latencies, s.percentile / 100),
            interval=None if s.is_searched else interval_of(of_turns),
            is_bound_held=is_held,
            is_overloaded=unanswered > 0,
            turns_us=tuple(tuple(said["latencies_us"]) for said in self.turns),
            **({} if self.rate_per_s is None else self._of_arrivals()),
        )

    def _of_arrivals(self) -> dict[str, Any]:
        names = ("service_us", "is_late", "clock_late_us")
        service, late, clock = ([value for said in self.turns for value in said[name]] for name in names)
        return {
            "service": summarize(service) if service else None,
            "late_share": round(sum(late) / len(late), 4),
            "clock_late_us": round(float(np.percentile(clock, 99)), 3) if clock else None,
        }

    def _offline(self) -> ScenarioResult:
        samples = self._samples_per_query()
        rates = [samples / said["elapsed_s"] for said in self.turns]
        value = float(np.median(rates))
        per_sample = tuple((round(1e6 / rate, 3),) for rate in rates)
        return self._record(
            "samples_per_s", value, len(self.turns), value, interval=interval_of(rates), turns_us=per_sample
        )

    def _record(
        self, headline: str, value: float | None, queries: int, samples_per_s: float, **more: Any
    ) -> ScenarioResult:
        return ScenarioResult(
            scenario=self.scenario.name,
            headline=headline,
            value=None if value is None else round(value, 3),
            queries=queries,
            samples_per_query=self._samples_per_query(),
            batch=self.batch,
            callers=self.callers,
            samples_per_s=round(samples_per_s, 3),
            rate_per_s=None if self.rate_per_s is None else round(self.rate_per_s, 3),
            bound_us=self.scenario.bound_us,
            tried=tuple(self.tried),
            **more,
        )


def scenario_steps(scenario: Scenario) -> int:
    """Steps of each candidate that `run_scenario` tells of."""
    return 1 + _TURNS + (_SEARCH_STEPS + _BACK_STEPS if scenario.is_searched else 0)


def run_scenario(runners: Sequence[Runner], scenario: Scenario, max_time_s: float, seed: int, tick: Tick) -> None:
    """Puts the load on opened candidates, and its record into each, or the reason why there is none.

    Args:
        runners: Opened and prepared.
        scenario: What load.
        max_time_s: Of the turns of one candidate.
        seed: Of the arrivals.
        tick: Called with words before each step.
    """
    loads = []
    longest_s = max_time_s / _TURNS
    samples = scenario.samples_per_query if scenario.name == "multi-stream" else 1
    for runner in runners:
        wanted_s = max(_TURN_S, _QUERIES_A_TURN * samples * runner.estimate_us / 1e6)
        loads.append(_Load(runner, scenario, min(wanted_s, longest_s), longest_s, seed))

    def each(words: str, step: Callable[[_Load], None]) -> None:
        for load in loads:
            tick(f"{scenario.name}, {words}: {load.runner.candidate.title}")
            load.attempt(step)

    each("first look", lambda load: load.look())
    for number in range(_SEARCH_STEPS if scenario.is_searched else 0):
        each(f"search {number + 1} of {_SEARCH_STEPS}", lambda load, n=number: load.search(n))  # type: ignore[misc]
    for turn in range(_TURNS):
        each(f"turn {turn + 1} of {_TURNS}", lambda load, n=turn: load.time(n))  # type: ignore[misc]
    for number in range(_BACK_STEPS if scenario.is_searched else 0):
        each(f"check {number + 1} of {_BACK_STEPS}", lambda load, n=number: load.step_back(n))  # type: ignore[misc]
    for load in loads:
        load.attempt(_keep)


def _keep(load: _Load) -> None:
    difference = max((said["difference"] for said in load.turns), default=0.0)
    if difference > _TOLERANCE:
        load.runner.scenario_reason = f"answers under load differ from untimed ones by {difference:.1e} of their range"
        return
    load.runner.scenario = load.result()
