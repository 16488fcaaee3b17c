"""Which candidate serves an objective best: each in a process of its own, in turns, about a second of calls in all.

What each objective is scored by, less is better:

    latency      mean of median and 95th percentile of one caller's calls: a second thread that other programs disturb
                 is fast in the median only (facts: with a busy second core up to 5x slower than one thread)
    throughput   time per call of as many parallel callers as there are cores
    memory       most memory a fresh process had resident that loads the model and runs it
    startup      start of a fresh process to the first answer
    cpu-time     CPU time of a call, all threads, in a loop that pauses between calls
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.cores import num_cores
from edgekit.errors import ConversionError
from edgekit.measuring.records import Candidate, Settings
from edgekit.measuring.rounds import Runner, feeds_file
from edgekit.spec import Signature

__all__ = ["METHODS", "Standing", "hold_contest"]

_BUDGET_S = 1.0
"""Timed calls of all candidates together, but at least `_LEAST_ROUNDS` of one call each."""

_LEAST_ROUNDS, _MOST_ROUNDS = 3, 8
_MAX_CALLS = 500
_HOPELESS = 2.0
"""What takes longer than this many times the best, least of a few calls, is timed no further."""

_COLD_STARTS = 3
_PAUSE_S = 0.005
_NOT_REPEATABLE = 1e-4
_ALIKE = 1.03
"""Scores nearer than this are no difference: the fewest threads win, then what stands first."""

_FIRST_LOOK = Settings(rounds=1, min_samples=1, min_time_s=0, max_time_s=0, warmup_s=0.02, cold_starts=0, seed=0)

ChooseFeeds = Callable[[Signature], Sequence[Mapping[str, np.ndarray]]]


@dataclass
class Standing:
    """What a candidate showed.

    Attributes:
        score: By which they are ranked, less is better; infinite for one that was not measured to the end.
        figures: What was measured, with units in the names.
        reason: Why there is no score.
        is_failure: Whether it failed, rather than having no chance.
    """

    candidate: Candidate
    score: float = float("inf")
    figures: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    is_failure: bool = False


def hold_contest(
    candidates: Sequence[Candidate],
    path: Path,
    choose_feeds: ChooseFeeds,
    objective: str,
    options: Mapping[str, Any],
) -> list[Standing]:
    """Measures the candidates and ranks them, best first; those that failed or had no chance come last.

    Args:
        candidates: In order of preference where they are alike.
        path: What each opens its own variant of.
        choose_feeds: Gives the feeds for the signature of an opened file.
        objective: A key of `METHODS`.
        options: Further arguments of `edgekit.load`.
    """
    runners = [Runner(candidate, path, options) for candidate in candidates]
    with TemporaryDirectory(prefix="edgekit-") as folder:
        try:
            standings = METHODS[objective](runners, lambda runner: feeds_file(runner, choose_feeds, Path(folder)))
        finally:
            for runner in runners:
                runner.close()
    for runner, standing in zip(runners, standings, strict=True):
        if runner.failure is not None:
            standing.score, standing.is_failure = float("inf"), True
            standing.reason = runner.failure.message
    return _ranked(standings)


def _ranked(standings: Sequence[Standing]) -> list[Standing]:
    best = min(standing.score for standing in standings)
    near = [s for s in standings if s.score <= best * _ALIKE and s.score < float("inf")]
    rest = [s for s in standings if s not in near]
    near.sort(key=lambda s: s.candidate.threads or 0)
    return [*near, *sorted(rest, key=lambda s: (s.is_failure, s.score))]


FeedsOf = Callable[[Runner], Path]


def _first_look(runners: Sequence[Runner], feeds_of: FeedsOf, hopeless: float) -> list[Standing]:
    """Opens one after the other and times a few calls; processes of what has no chance end at once.

    Those of one thread come first: of what then takes longer than all cores could make up for, others are not opened.
    """
    standings = [Standing(runner.candidate) for runner in runners]
    singles: dict[tuple[str, str], float] = {}
    best = float("inf")
    for runner, standing in sorted(
        zip(runners, standings, strict=True), key=lambda pair: pair[0].candidate.threads or 0
    ):
        name = runner.candidate.variant, runner.candidate.runtime
        if singles.get(name, 0.0) > max(hopeless, num_cores()) * best:
            standing.reason = f"one thread takes {singles[name] / best:.1f} times the best, of {num_cores()} cores"
            continue
        runner.attempt(runner.open)
        runner.attempt(lambda r=runner: r.prepare(feeds_of(r), _FIRST_LOOK))  # type: ignore[misc]
        if runner.failure is None:
            singles.setdefault(name, runner.least_us)
            best = min(best, runner.least_us)
        for other, its in zip(runners, standings, strict=True):
            if other.worker is not None and other.least_us > hopeless * best:
                other.worker.kill()
                other.close()
                its.figures = {"first_look_us": round(other.least_us, 1)}
                its.reason = f"{other.least_us / best:.1f} times the best in a first look"
    return standings


def _in_rounds(runners: Sequence[Runner], step: Callable[[Runner, float, bool], None], extra_us: float = 0.0) -> None:
    """Runs `step` for those still alive in turns; it is told its share of seconds, and whether the round counts."""
    alive = [runner for runner in runners if runner.worker is not None]
    one_of_each_s = sum(runner.estimate_us + extra_us for runner in alive) / 1e6
    rounds = int(np.clip(_BUDGET_S / max(one_of_each_s, 1e-6), _LEAST_ROUNDS, _MOST_ROUNDS))
    for turn in range(rounds + 1):
        for runner in alive:
            runner.attempt(lambda r=runner, keep=turn > 0: step(r, _BUDGET_S / rounds / len(alive), keep))  # type: ignore[misc]


def _latency(runners: Sequence[Runner], feeds_of: FeedsOf) -> list[Standing]:
    standings = _first_look(runners, feeds_of, _HOPELESS)

    def step(runner: Runner, share_s: float, keep: bool) -> None:
        runner.calls = int(np.clip(share_s * 1e6 / runner.estimate_us, 1, _MAX_CALLS))
        runner.time(keep)
        if runner.difference > _NOT_REPEATABLE:
            raise ConversionError(f"timed answers differ from untimed ones by {runner.difference:.1e} of their range")

    _in_rounds(runners, step)
    for runner, standing in zip(runners, standings, strict=True):
        if runner.rounds:
            p50 = float(np.median(np.concatenate(runner.rounds)))
            # Of each round, then the median: one hiccup of the machine is not the candidate's.
            p95 = float(np.median([np.percentile(one, 95) for one in runner.rounds]))
            standing.score = (p50 + max(p50, p95)) / 2
            standing.figures = {"p50_us": p50, "p95_us": p95, "cpu_us": float(np.median(runner.cpu_us))}
    return standings


def _throughput(runners: Sequence[Runner], feeds_of: FeedsOf) -> list[Standing]:
    # With one caller an engine may look slow that serves many well, by at most as much as there are cores.
    standings = _first_look(runners, feeds_of, _HOPELESS * num_cores())
    found: dict[int, list[float]] = {}

    def step(runner: Runner, share_s: float, keep: bool) -> None:
        rate = runner.ask("time_callers", callers=num_cores(), seconds=share_s)
        found.setdefault(id(runner), []).extend([rate] if keep else [])

    _in_rounds(runners, step)
    for runner, standing in zip(runners, standings, strict=True):
        if rates := found.get(id(runner)):
            rate = float(np.median(rates))
            standing.score = 1e6 / rate
            standing.figures = {"calls_per_s": rate, "callers": float(num_cores())}
    return standings


def _cpu_time(runners: Sequence[Runner], feeds_of: FeedsOf) -> list[Standing]:
    # All cores for as long as the fastest takes one is the most a fast candidate can cost.
    standings = _first_look(runners, feeds_of, _HOPELESS * num_cores())
    found: dict[int, list[float]] = {}

    def step(runner: Runner, share_s: float, keep: bool) -> None:
        calls = int(np.clip(share_s / (runner.estimate_us / 1e6 + _PAUSE_S), 2, _MAX_CALLS))
        cpu_us = runner.ask("time_paced", calls=calls, pause_s=_PAUSE_S)
        found.setdefault(id(runner), []).extend([cpu_us] if keep else [])

    _in_rounds(runners, step, extra_us=_PAUSE_S * 1e6)
    for runner, standing in zip(runners, standings, strict=True):
        if samples := found.get(id(runner)):
            standing.score = float(np.median(samples))
            standing.figures = {"cpu_us": standing.score, "pause_ms": _PAUSE_S * 1000}
    return standings


def _cold(runners: Sequence[Runner], feeds_of: FeedsOf, starts: int) -> list[Standing]:
    """Fresh processes in turns. Opening each once before has run its golden test and brought its files into memory."""
    for runner in runners:
        runner.attempt(runner.open)
        runner.attempt(lambda r=runner: _write_feeds(r, feeds_of))  # type: ignore[misc]
        runner.close()
    for _ in range(starts):
        for runner in runners:
            runner.attempt(lambda r=runner: r.start_cold(feeds_of(r)))  # type: ignore[misc]
    return [Standing(runner.candidate) for runner in runners]


def _write_feeds(runner: Runner, feeds_of: FeedsOf) -> None:
    feeds_of(runner)


def _memory(runners: Sequence[Runner], feeds_of: FeedsOf) -> list[Standing]:
    standings = _cold(runners, feeds_of, 1)
    for runner, standing in zip(runners, standings, strict=True):
        if runner.cold:
            standing.score = float(np.median([one["peak_rss_bytes"] for one in runner.cold]))
            standing.figures = {"peak_rss_bytes": standing.score}
    return standings


def _startup(runners: Sequence[Runner], feeds_of: FeedsOf) -> list[Standing]:
    standings = _cold(runners, feeds_of, _COLD_STARTS)
    stages = ("process_ms", "import_ms", "load_ms", "first_run_ms")
    for runner, standing in zip(runners, standings, strict=True):
        if runner.cold:
            figures = {stage: float(np.median([one[stage] for one in runner.cold])) for stage in stages}
            standing.score = float(np.median([sum(one[stage] for stage in stages) for one in runner.cold]))
            standing.figures = {"total_ms": standing.score, **figures}
    return standings


METHODS: dict[str, Callable[[Sequence[Runner], FeedsOf], list[Standing]]] = {
    "latency": _latency,
    "throughput": _throughput,
    "memory": _memory,
    "startup": _startup,
    "cpu-time": _cpu_time,
}
