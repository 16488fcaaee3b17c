"""Two things timed against each other: pairs of fresh processes, in each of them rounds in turns.

Which of the two comes first is drawn anew for each round, half of the rounds each way: who always follows the other
meets its caches. A pair is over when its rounds are; then two new processes take their places, as what a process got
when it started, it keeps (`edgekit.measuring.statistics`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.errors import ConversionError
from edgekit.measuring.records import Candidate, Settings
from edgekit.measuring.rounds import Runner, feeds_file
from edgekit.measuring.statistics import PAIRS_TO_TELL, Contrast, Rounds, contrast
from edgekit.spec import Signature

__all__ = ["LOOKS", "Contestant", "Duel", "hold_duel"]

LOOKS = (PAIRS_TO_TELL, 8, 12, 16, 24, 32)
"""After how many pairs it is asked whether that is enough; never more often, as each look may be wrong."""

_ROUNDS = 16
_ROUND_S = 0.01
"""Timed calls of one round of one side, at least one, at most `_MAX_CALLS`."""

_MAX_CALLS = 500
_NOT_REPEATABLE = 1e-4
_WARM_UP = Settings(rounds=1, min_samples=1, min_time_s=0, max_time_s=0, warmup_s=0.03, cold_starts=0, seed=0)

ChooseFeeds = Callable[[Signature], Sequence[Mapping[str, np.ndarray]]]


@dataclass(frozen=True)
class Contestant:
    """One side of a duel.

    Attributes:
        candidate: What is timed.
        path: The bundle or file it is of.
        feeds: Gives what it is fed with, by its own names.
        options: Further arguments of `edgekit.load`.
    """

    candidate: Candidate
    path: Path
    feeds: ChooseFeeds
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Duel:
    """What two contestants showed.

    Attributes:
        pairs: For each pair of processes the rounds of both, in microseconds.
        arithmetic: Of float operations, of both, as their engines report it.
        peak_rss_bytes: Largest resident memory of both, of each process.
        ended_by: ``"settled"`` or ``"time"``, or ``"pairs"``, the most there may be.
        seconds: What it took.
    """

    pairs: list[tuple[Rounds, Rounds]] = field(default_factory=list)
    arithmetic: tuple[str | None, str | None] = (None, None)
    peak_rss_bytes: list[tuple[int | None, int | None]] = field(default_factory=list)
    ended_by: str = "pairs"
    seconds: float = 0.0

    @property
    def contrast(self) -> Contrast:
        """Of the first against the second."""
        return contrast(self.pairs)

    def samples_us(self, side: int) -> np.ndarray:
        """All calls of one side."""
        return np.concatenate([one for pair in self.pairs for one in pair[side]])


def hold_duel(
    first: Contestant,
    second: Contestant,
    *,
    is_settled: Callable[[Duel], bool],
    max_time_s: float,
    seed: int = 0,
    tick: Callable[[str], None] = lambda what: None,
) -> Duel:
    """Times two contestants until it is settled how they compare, or the time is up; one pair there is always.

    Args:
        first: Whose ratio to the other is asked for.
        second: That other.
        is_settled: Asked after `LOOKS` pairs.
        max_time_s: No pair is begun that would likely end later.
        seed: Of the order in each round.
        tick: Called with words before each pair.

    Raises:
        ConversionError: One of them did not run, or answered otherwise when it was timed.
    """
    rng = np.random.default_rng(seed)
    duel, started = Duel(), time.monotonic()
    with TemporaryDirectory(prefix="edgekit-") as folder:
        while len(duel.pairs) < LOOKS[-1]:
            tick(f"pair {len(duel.pairs) + 1}: {first.candidate.title} against {second.candidate.title}")
            _time_pair(duel, (first, second), rng, Path(folder))
            duel.seconds = time.monotonic() - started
            if len(duel.pairs) in LOOKS and is_settled(duel):
                duel.ended_by = "settled"
                break
            if duel.seconds * (1 + 1 / len(duel.pairs)) > max_time_s:
                duel.ended_by = "time"
                break
    return duel


def _time_pair(duel: Duel, sides: tuple[Contestant, Contestant], rng: np.random.Generator, folder: Path) -> None:
    runners = [Runner(side.candidate, side.path, side.options) for side in sides]
    with ThreadPoolExecutor(2) as pool:
        try:
            list(pool.map(lambda number: _start(runners[number], sides[number], folder / str(number)), (0, 1)))
            _time_in_turns(runners, rng)
        finally:
            list(pool.map(Runner.close, runners))
    duel.pairs.append((runners[0].rounds, runners[1].rounds))
    duel.arithmetic = runners[0].arithmetic, runners[1].arithmetic
    duel.peak_rss_bytes.append((runners[0].peak_rss_bytes, runners[1].peak_rss_bytes))


def _time_in_turns(runners: Sequence[Runner], rng: np.random.Generator) -> None:
    for runner in runners:
        runner.calls = int(np.clip(_ROUND_S * 1e6 / max(runner.estimate_us, 0.1), 1, _MAX_CALLS))
        runner.time(keep=False)
    for is_reversed in rng.permutation([False, True] * (_ROUNDS // 2)):
        for runner in reversed(runners) if is_reversed else runners:
            runner.time(keep=True)
    for runner in runners:
        if runner.difference > _NOT_REPEATABLE:
            raise ConversionError(
                f"{runner.candidate.title}: timed answers differ from untimed ones by {runner.difference:.1e} of "
                "their range: no latency is shown",
                hint="an engine that is not repeatable; try --threads 1",
            )


def _start(runner: Runner, side: Contestant, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    runner.open()
    runner.prepare(feeds_file(runner, side.feeds, folder), _WARM_UP)
