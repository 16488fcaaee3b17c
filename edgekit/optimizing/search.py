"""The search: cheap questions to many, dear ones to few, until one way to run the model is left (successive halving).

Nothing here knows an engine, a file or a clock; a `Bench` answers, and all that is decided follows from its answers,
so that the same answers give the same choice. The order of questions is that of K. Jamieson and A. Talwalkar,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016: all get a little, the better half more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgekit.errors import UnsupportedError
from edgekit.optimizing.bounds import Costs, best_us
from edgekit.optimizing.exam import Verdict
from edgekit.optimizing.final import TIMED, Final, order_of
from edgekit.optimizing.records import TrialRecord
from edgekit.optimizing.space import FIRST_WAVE, KIN, Entrant, File, entrants_of
from edgekit.target import Target

__all__ = ["OBJECTIVES", "Bench", "Search"]

OBJECTIVES = ("latency", "throughput", "size", "memory", "startup", "cpu-time")
"""What can be asked for; `edgekit.measuring.contest` says how each is scored, and size is that of all files."""

FINALISTS = 3
LEADERS = 6
"""Entrants asked for the first share of the data; half as many for each further one, but never below `FINALISTS`."""

_LATE = "time was up"

_WORTH = 0.98
"""What could at best be faster by less than this is not made."""


class Bench(Protocol):
    """What answers the search's questions."""

    @property
    def is_late(self) -> bool:
        """Whether time is up: nothing new is asked then but the final."""

    @property
    def last_share(self) -> int:
        """Index of the share that is all of the data."""

    def make(self, files: Sequence[File]) -> None:
        """Makes files and leaves in each what came of it, or its failure; neither for lack of time."""

    def accept(self, entrants: Sequence[Entrant]) -> dict[str, str | None]:
        """Holds them against the source in their own runtime and arithmetic; by title why one may not go on.

        None for lack of time.
        """

    def look(self, groups: Sequence[Sequence[Entrant]]) -> list[Mapping[str, Any] | None]:
        """For each group the standings of its entrants by title, measured in turns; None for lack of time."""

    def judge(self, entrants: Sequence[Entrant], share: int) -> list[Verdict | str | None]:
        """What a share of the data says of each; words for one that failed; None for lack of time."""

    def is_hopeless(self, verdict: Verdict) -> bool:
        """Whether a share says already what all of the data would."""

    def final(self, entrants: Sequence[Entrant]) -> Mapping[str, Any]:
        """Runs of each by title: many rounds in turns, whatever the time."""


@dataclass
class Search:
    """One search.

    Attributes:
        files: The space.
        target: The device.
        threads: Counts of threads.
        objective: One of `OBJECTIVES`.
        bench: What answers.
        costs: Of the graph; None bounds nothing.
        is_higher_better: Of the metric.
        say: Told of what is decided.
        announce: Called once, when the fp32 files are made and looked at: whatever the time, there is one to ship.
    """

    files: Sequence[File]
    target: Target
    threads: Sequence[int]
    objective: str
    bench: Bench
    costs: Costs | None = None
    is_higher_better: bool = True
    say: Callable[[str], None] = lambda line: None
    announce: Callable[[], None] = lambda: None
    entrants: list[Entrant] = field(default_factory=list, init=False)
    _yardstick: Entrant | None = field(default=None, init=False)
    _yard_score: float = field(default=0.0, init=False)
    _passed: dict[tuple[tuple[str, str, str], int], bool] = field(default_factory=dict, init=False)

    def run(self) -> Entrant:
        """The one that is shipped; every other is left with its status and the reason.

        Raises:
            UnsupportedError: Not even a float file can be made, or none of them runs.
        """
        floats = [file for file in self.files if file.recipe.precision == "fp32"]
        self._make(floats)
        self._look_at_floats()
        self.announce()
        self._wave([file for file in self.files if file.recipe.name in FIRST_WAVE and file not in floats])
        leaders = self._settle()
        for name in dict.fromkeys(file.recipe.name for file in self.files if file.recipe.name not in FIRST_WAVE):
            if self.bench.is_late:
                break
            wave = [file for file in self.files if file.recipe.name == name]
            if self._wave([file for file in wave if self._is_wanted(file, leaders)]):
                leaders = self._settle()
        return self._final(leaders)

    # -- making ---------------------------------------------------------------------------------------------------

    def _make(self, files: Sequence[File]) -> list[Entrant]:
        """Makes them; the ways to run those that can be run."""
        self.bench.make(files)
        found = []
        for file in files:
            if file.made is not None:
                found += entrants_of(file, self.target, self.threads, self.files)
        foreign = [e for e in found if e.runtime != e.file.made["runtime"]]  # type: ignore[index]
        for title, reason in self.bench.accept(foreign).items():
            refused = next(e for e in found if e.title == title)
            if reason is None:
                refused.record.reason = _LATE
            else:
                self._fail(refused, reason)
        for entrant in found:
            entrant.record.stage = "made"
            entrant.record.size_bytes = entrant.file.made["size_bytes"]  # type: ignore[index]
            entrant.record.sqnr_db = entrant.file.seen(entrant.runtime, entrant.precision)["sqnr_db"]
            entrant.record.where = dict(entrant.file.made.get("by", {}))  # type: ignore[union-attr]
        self.entrants += found
        return [entrant for entrant in found if not entrant.record.reason]

    def _wave(self, files: Sequence[File]) -> bool:
        """Makes and looks at what may still win; whether there was any."""
        wanted = [file for file in files if not self._rule_out(file)]
        if not wanted or self.bench.is_late:
            return False
        entrants = self._make(wanted)
        groups = [g for f in wanted if (g := [e for e in entrants if e.file is f])]
        found = self.bench.look([self._beside_yardstick(group) for group in groups])
        for group, standings in zip(groups, found, strict=True):
            self._note(group, standings, "look")
        return bool(groups)

    def _rule_out(self, file: File) -> bool:
        """Whether its bound is above what is measured; then it says so."""
        if file.skipped or self.costs is None or self.objective not in TIMED or file.recipe.precision == "fp32":
            return bool(file.skipped)
        best = min((e.record.p50_us for e in self._alive() if e.record.p50_us is not None), default=None)
        base = [
            e.record.p50_us for e in self.entrants if e.is_fp32 and e.file.format == file.format and e.record.p50_us
        ]
        if best is None or not base:
            return False
        bound, why = best_us(file.recipe, self.target.placements.get(file.format), self.costs, min(base))
        if bound <= best * _WORTH:
            return False
        file.skipped = f"{why}: {bound:.4g} us at best, and {best:.4g} us are measured"
        self.say(f"{file.name}: skipped: {file.skipped}")
        return True

    def _is_wanted(self, file: File, leaders: Sequence[Entrant]) -> bool:
        """Whether a recipe of more care is called for: what it is kin of was ahead, and lost too much."""
        if file.skipped or file.recipe.name not in KIN:
            return not file.skipped
        kin = [f for f in self.files if f.format == file.format and f.recipe.name == KIN[file.recipe.name]]
        ways = [e for e in self.entrants if e.file in kin]
        refused = [e for e in ways if e.record.status == "refused"]
        best = min((e.record.score for e in leaders if e.record.score is not None), default=float("inf"))
        if any(e.record.score is None or e.record.score < best for e in refused):
            return not any(
                e.file.recipe.precision == file.recipe.precision and e.file.format == file.format for e in leaders
            )
        if any(f.failure and "dB against the source" in f.failure for f in kin):
            return True
        file.skipped = f"as fast as {KIN[file.recipe.name]}, which {self._standing_of(ways, bool(refused))}"
        return False

    def _standing_of(self, ways: Sequence[Entrant], is_refused: bool) -> str:
        """Of the kin of a recipe, in words, why more care is not called for."""
        if not ways:
            return "there is no file of"
        if is_refused:
            return "loses too much, and was not ahead"
        return "keeps enough" if any(self.is_sure_of(e) for e in ways) else "was not ahead"

    # -- looking --------------------------------------------------------------------------------------------------

    def _look_at_floats(self) -> None:
        floats = [e for e in self.entrants if not e.record.reason]
        if not floats:
            reasons = [f"{f.name}: {f.failure}" for f in self.files if f.failure] or [
                f"{e.title}: {e.record.reason}" for e in self.entrants
            ]
            raise UnsupportedError("no file could be made", offenders=reasons)
        self._note(floats, self.bench.look([floats])[0], "look")
        able = [e for e in floats if e.record.score is not None]
        if not able:
            raise UnsupportedError("no file runs here", offenders=[f"{e.title}: {e.record.reason}" for e in floats])
        few = min(e.threads for e in able)
        self._yardstick = min((e for e in able if e.threads == few), key=order_of)
        self._yard_score = self._yardstick.record.score or 1.0

    def _note(self, entrants: Sequence[Entrant], standings: Mapping[str, Any] | None, stage: str) -> None:
        """Takes what was measured in turns, scores in units of the yardstick."""
        if standings is None:
            return
        yard = self._yardstick
        beside = _score(standings.get(yard.title), self.objective) if yard is not None else None
        scale = self._yard_score / beside if beside and self.objective in TIMED else 1.0
        for entrant in entrants:
            said, record = standings[entrant.title], entrant.record
            record.stage = stage
            record.figures.update(said["figures"])
            record.p50_us = said["figures"].get("p50_us", record.p50_us)
            peak = said["figures"].get("peak_rss_bytes")
            record.peak_rss_bytes = int(peak) if peak else record.peak_rss_bytes
            record.engine_precision = said.get("arithmetic") or record.engine_precision
            if said["failed"]:
                self._fail(entrant, said["reason"])
            elif self.objective == "size":
                record.score = float(record.size_bytes or 0)
            elif said["score"] is None:
                record.status, record.reason, record.score = "halved", said["reason"], None
            else:
                record.score = (_score(said, self.objective) or 0.0) * scale

    def _fail(self, entrant: Entrant, reason: str) -> None:
        entrant.record.status, entrant.record.reason, entrant.record.score = "failed", reason, None

    def _alive(self) -> list[Entrant]:
        """All that may still win, the best first."""
        able = [e for e in self.entrants if e.record.score is not None and e.record.status in ("made", "halved")]
        return sorted(able, key=order_of)

    # -- judging --------------------------------------------------------------------------------------------------

    def _settle(self) -> list[Entrant]:
        """The few in front that keep what must be kept: first by a share of the data, then by more of fewer."""
        leaders = self._take(LEADERS, 0)
        if len(leaders) > 1 and not self.bench.is_late:
            self._refine(leaders)
        count = LEADERS
        for share in range(1, self.bench.last_share + 1):
            count = max(FINALISTS, count // 2)
            leaders = self._take(count, share)
        return self._take(FINALISTS, self.bench.last_share)

    def _refine(self, leaders: Sequence[Entrant]) -> None:
        """Times them beside one another: a first look was at each with the yardstick alone."""
        (standings,) = self.bench.look([self._beside_yardstick(leaders)])
        self._note(leaders, standings, "rounds")

    def _beside_yardstick(self, entrants: Sequence[Entrant]) -> list[Entrant]:
        """What memory or a start takes does not change with the state of the machine: that needs no yardstick."""
        yard = self._yardstick if self.objective in TIMED else None
        return [*([yard] if yard is not None else []), *(e for e in entrants if e is not yard)]

    def _take(self, count: int, share: int) -> list[Entrant]:
        """The first `count` of all alive that a share of the data lets through."""
        taken: list[Entrant] = []
        seen: set[str] = set()
        while len(taken) < count:
            batch = [e for e in self._alive() if e.title not in seen][: count - len(taken)]
            if not batch:
                break
            seen |= {e.title for e in batch}
            self._ask(batch, share)
            taken += [e for e in batch if self._passed.get((e.answers_as, share), False)]
        return sorted((e for e in taken if e in self._alive()), key=order_of)

    def _ask(self, batch: Sequence[Entrant], share: int) -> None:
        asked = {e.answers_as: e for e in batch if (e.answers_as, share) not in self._passed}
        refusals = self.bench.accept([e for e in asked.values() if (e.runtime, e.precision) != self._own(e)])
        ways = [e for e in asked.values() if e.title not in refusals]
        for key, entrant in asked.items():
            if entrant.title in refusals:
                reason = refusals[entrant.title]
                self._hear(key, share, None) if reason is None else self._refuse(key, share, reason, None)
        for entrant, verdict in zip(ways, self.bench.judge(ways, share), strict=True):
            self._hear(entrant.answers_as, share, verdict)

    def _own(self, entrant: Entrant) -> tuple[str, str]:
        assert entrant.file.made is not None
        return entrant.file.made["runtime"], "fp32"

    def _hear(self, key: tuple[str, str, str], share: int, verdict: Verdict | str | None) -> None:
        if verdict is None:
            self._passed[key, share] = False  # for lack of time: it is not refused, and cannot be shipped
        elif isinstance(verdict, str):
            self._refuse(key, share, verdict, None)
        else:
            for entrant in self._ways(key):
                entrant.record.metric_value, entrant.record.metric_interval = verdict.value, verdict.interval
                entrant.record.metric_count = verdict.count
                entrant.record.sqnr_db = verdict.sqnr_db if verdict.sqnr_db is not None else entrant.record.sqnr_db
                entrant.record.stage = "metric"
            is_all = share == self.bench.last_share
            is_lost = verdict.gap > 0 if is_all else self.bench.is_hopeless(verdict)
            if is_lost and not self._ways(key)[0].is_fp32:
                self._refuse(key, share, verdict.shortfall, verdict)
                return
            self._passed[key, share] = True

    def _refuse(self, key: tuple[str, str, str], share: int, reason: str, verdict: Verdict | None) -> None:
        on = f" on {verdict.count} samples" if verdict is not None else ""
        for entrant in self._ways(key):
            entrant.record.status, entrant.record.reason = "refused", f"{reason}{on}"
        for later in range(share, self.bench.last_share + 1):
            self._passed[key, later] = False
        self.say(f"{key[0]} on {key[1]}: refused: {reason}{on}")

    def _ways(self, key: tuple[str, str, str]) -> list[Entrant]:
        return [e for e in self.entrants if e.answers_as == key]

    # -- the final ------------------------------------------------------------------------------------------------

    def _final(self, leaders: Sequence[Entrant]) -> Entrant:
        floats = [e for e in self.entrants if e.is_fp32 and e.record.status != "failed"]
        final = Final(leaders, floats, self.objective, self.is_higher_better)
        if (base := final.best_fp32) is not None and not self.bench.is_late:
            self._ask([base], self.bench.last_share)
        late = f", when {_LATE}" if self.bench.is_late else ""
        for rank, entrant in enumerate(self._alive(), 1):
            if entrant not in final.contenders and entrant.record.status == "made":
                entrant.record.status = "made" if late else "halved"
                entrant.record.reason = f"number {rank} in {self.objective}{late}"
        for entrant in self.entrants:
            if entrant.record.status == "made" and entrant not in final.contenders and not entrant.record.reason:
                entrant.record.reason = _LATE
        return final.choose(self.bench.final(final.contenders))

    def is_sure_of(self, entrant: Entrant) -> bool:
        """Whether all of the data let it through."""
        return self._passed.get((entrant.answers_as, self.bench.last_share), False)

    def records(self) -> list[TrialRecord]:
        """Of all ways to run files, then of files that were never made; the shipped one first."""
        rank = {"shipped": 0, "finalist": 1, "halved": 2, "made": 3, "refused": 4, "failed": 5}
        found = [e.record for e in sorted(self.entrants, key=lambda e: (rank[e.record.status], *order_of(e)))]
        for file in self.files:
            if file.made is not None:
                continue
            status = "failed" if file.failure else "skipped"
            reason = file.failure or file.skipped or _LATE
            found.append(
                TrialRecord(
                    file.name,
                    file.name,
                    file.format,
                    file.recipe.precision,
                    file.recipe.name,
                    status=status,
                    reason=reason,
                )
            )
        return found


def _score(said: Mapping[str, Any] | None, objective: str) -> float | None:
    """What a standing is ranked by: of latency the median, as in the final."""
    if said is None or said["score"] is None:
        return None
    found = said["figures"].get("p50_us") if objective == "latency" else None
    return float(said["score"] if found is None else found)
