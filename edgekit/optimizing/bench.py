"""The bench of real files: every question of the search becomes units of work for the crew."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgekit.conversion.acceptance import accept
from edgekit.conversion.reference import Reference
from edgekit.conversion.tuning import DEFAULT_AGREEMENT, DEFAULT_SQNR_DB
from edgekit.converter import RoadRequest, SourceModel
from edgekit.errors import ArtifactError, ConversionError, EdgekitError, UnavailableError, UnsupportedError
from edgekit.optimizing.answering import answer_samples
from edgekit.optimizing.crew import Crew, Unit
from edgekit.optimizing.exam import Block, Exam, Verdict
from edgekit.optimizing.journal import key_of
from edgekit.optimizing.making import accept_elsewhere, describe, find_file, make_file
from edgekit.optimizing.space import Entrant, File
from edgekit.optimizing.timing import hold_final, look
from edgekit.plan import Road
from edgekit.registry import CONVERTERS
from edgekit.target import Target

__all__ = ["FINAL", "RealBench"]

FINAL = {
    "rounds": 8,
    "min_samples": 160,
    "min_time_s": 1.0,
    "max_time_s": 4.0,
    "warmup_s": 0.1,
    "cold_starts": 0,
    "seed": 0,
}
"""Settings of one generation of the final."""

GENERATIONS = 2
COLD_STARTS = 2

_REFUSALS = (UnsupportedError, ConversionError, ArtifactError, UnavailableError)


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


@dataclass
class RealBench:
    """Makes, measures and judges.

    Attributes:
        crew: Who does it.
        kit: What making a file takes.
        exam: What files are judged by.
        source: Opened in its own framework, for roads that start there.
        reference: The source's answers.
        calibration: Gives the calibration feeds.
        target: The device.
        objective: What looks are for.
        context: What decides outcomes beside their arguments.
        measured: The same for what is measured: another run measures anew.
    """

    crew: Crew
    kit: Sequence[tuple[str, str]]
    exam: Exam
    source: SourceModel
    reference: Reference
    calibration: Callable[[], Any]
    target: Target
    objective: str
    context: str
    measured: str
    machines: list[Mapping[str, Any]] = field(default_factory=list, init=False)
    _was_late: bool = field(default=False, init=False)
    _made: list[File] = field(default_factory=list, init=False)

    @property
    def is_late(self) -> bool:
        return self.crew.is_late

    @property
    def was_late(self) -> bool:
        return self._was_late

    @property
    def last_share(self) -> int:
        return len(self.exam.shares) - 1

    def is_hopeless(self, verdict: Verdict) -> bool:
        return self.exam.is_hopeless(verdict)

    @cached_property
    def _kit_needs(self) -> tuple[str, ...]:
        return tuple(digest for _, digest in self.kit)

    # -- making ---------------------------------------------------------------------------------------------------

    def make(self, files: Sequence[File]) -> None:
        """By the first road that leads there."""
        for turn in range(max((len(file.planned.roads) for file in files), default=0)):
            left = [f for f in files if f.made is None and turn < len(f.planned.roads)]
            units = {
                f.name: self._make_unit(f, f.planned.roads[turn]) for f in left if f.planned.roads[turn].direct is None
            }
            for name, outcome in zip(units, self.crew.run(list(units.values())), strict=True):
                self._take(next(f for f in left if f.name == name), f"{turn}", outcome)
            for file in left:
                road = file.planned.roads[turn]
                if road.direct is not None and not self.is_late:
                    self._take(file, f"{turn}", self._drive(file, road))

    def _take(self, file: File, turn: str, outcome: Mapping[str, Any] | None) -> None:
        if outcome is None:
            return
        if "failure" in outcome:
            road = file.planned.roads[int(turn)].name
            file.failure = "; ".join(filter(None, [file.failure, f"{road}: {outcome['failure']}"]))
        else:
            file.made = outcome
            self._made.append(file)

    def _make_unit(self, file: File, road: Road) -> Unit:
        arguments = {"kit": self.kit, "format": file.format, "recipe": file.recipe.to_json(), "road": road.name}
        if file.planned.is_searched:
            arguments["bar"] = self._bar()
            return Unit(f"searching {file.name}", _place(find_file), arguments, self._kit_needs, self.context)
        return Unit(f"making {file.name}", _place(make_file), arguments, self._kit_needs, self.context)

    def _bar(self) -> dict[str, Any]:
        """What a recipe that is searched for keeps of the source's answers; the exam is held afterwards."""
        wanted, agreed = self.exam.bar, [f.made["agreement"] for f in self._made if f.made is not None]
        if wanted.min_sqnr_db is not None or not any(agreed):
            return {"min_sqnr_db": wanted.min_sqnr_db or DEFAULT_SQNR_DB}
        return {"min_agreement": 1.0 - max(self.exam.allowed, 1.0 - DEFAULT_AGREEMENT)}

    def _drive(self, file: File, road: Road) -> dict[str, Any]:
        """By a vendor's tool, which starts from the source's own framework: that is open in this process."""
        self.crew.say(f"making {file.name}: {road.name}")

        def drive() -> dict[str, Any]:
            converter = next(c for _, c in CONVERTERS if c.format == file.format)
            with TemporaryDirectory(prefix="edgekit-") as folder:
                path = Path(folder) / f"model{converter.suffix}"
                request = RoadRequest(file.recipe.precision, self.target, path, self.calibration)
                assert road.direct is not None
                try:
                    written = road.direct.drive(self.source, request)
                    accepted = accept(written, file.format, file.recipe, self.source, self.reference)
                except _REFUSALS as error:
                    return {"failure": str(error)}
                return describe(self.crew.store, written, accepted, self.source, self.reference, road.name)

        return self.crew.remember(key_of(self.context, "road", road.name, file.recipe.to_json()), file.name, drive)

    # -- holding against the source -------------------------------------------------------------------------------

    def accept(self, entrants: Sequence[Entrant]) -> dict[str, str | None]:
        ways = {e.answers_as: e for e in entrants}
        units = {
            key: Unit(
                f"checking {e.file.name} on {e.runtime} in {e.precision}",
                _place(accept_elsewhere),
                {
                    "kit": self.kit,
                    "format": e.file.format,
                    "recipe": e.file.recipe.to_json(),
                    "files": e.file.made["files"],  # type: ignore[index]
                    "sizes": e.file.made["sizes"],  # type: ignore[index]
                    "runtime": e.runtime,
                    "precision": e.precision,
                },
                (*self._kit_needs, *_digests(e)),
                self.context,
            )
            for key, e in ways.items()
            if (e.runtime, e.precision) not in e.file.elsewhere
        }
        refused: dict[tuple[str, str, str], str | None] = {}
        for key, outcome in zip(units, self.crew.run(list(units.values())), strict=True):
            if outcome is None:
                refused[key] = None
            elif "failure" in outcome:
                refused[key] = outcome["failure"]
            else:
                ways[key].file.elsewhere[ways[key].runtime, ways[key].precision] = outcome
        return {e.title: refused[e.answers_as] for e in entrants if e.answers_as in refused}

    # -- measuring ------------------------------------------------------------------------------------------------

    def look(self, groups: Sequence[Sequence[Entrant]]) -> list[Mapping[str, Any] | None]:
        method = "latency" if self.objective == "size" else self.objective
        units = [
            Unit(
                f"a look at {', '.join(dict.fromkeys(e.file.name for e in group))}",
                _place(look),
                {"kit": self.kit, "contenders": [e.contender() for e in group], "objective": method},
                (*self._kit_needs, *(digest for e in group for digest in _digests(e))),
                self.measured,
            )
            for group in groups
        ]
        return [
            self._measured(outcome, "standings", group)
            for outcome, group in zip(self.crew.run(units), groups, strict=True)
        ]

    def final(self, entrants: Sequence[Entrant]) -> Mapping[str, Any]:
        unit = Unit(
            f"the final of {len(entrants)}",
            _place(hold_final),
            {
                "kit": self.kit,
                "contenders": [e.contender() for e in entrants],
                "settings": FINAL,
                "generations": GENERATIONS,
                "cold_starts": COLD_STARTS,
            },
            (*self._kit_needs, *(digest for e in entrants for digest in _digests(e))),
            self.measured,
        )
        self._was_late = self.crew.is_late
        self.crew.deadline = None  # what is measured last decides, and is no longer than it was said
        (outcome,) = self.crew.run([unit])
        said = self._measured(outcome, "runs", entrants)
        assert said is not None
        return said

    def _measured(
        self, outcome: Mapping[str, Any] | None, what: str, entrants: Sequence[Entrant]
    ) -> Mapping[str, Any] | None:
        if outcome is None:
            return None
        for entrant in entrants:
            entrant.record.where = dict(outcome["by"])
        if "failure" in outcome:  # its process died: all that was in it has failed
            failed = {"failed": True, "reason": outcome["failure"], "failure": outcome["failure"], "figures": {}}
            return {e.title: {**failed, "score": None, "arithmetic": None} for e in entrants}
        self.machines.append(outcome["machine"])
        found: Mapping[str, Any] = outcome[what]
        return found

    # -- judging --------------------------------------------------------------------------------------------------

    def judge(self, entrants: Sequence[Entrant], share: int) -> list[Verdict | str | None]:
        if not all(self._pack(block) for block in range(share + 1)):
            return [None] * len(entrants)
        units = [self._ask_unit(e, block) for e in entrants for block in range(share + 1)]
        found = self.crew.run(units)
        said: list[Verdict | str | None] = []
        for index in range(len(entrants)):
            blocks = found[index * (share + 1) : (index + 1) * (share + 1)]
            failures = [one["failure"] for one in blocks if one is not None and "failure" in one]
            if failures:
                said.append(f"cannot be judged: {failures[0]}")
            elif any(one is None for one in blocks):
                said.append(None)
            else:
                said.append(self._verdict([one["answers"] for one in blocks if one is not None], share))
        return said

    def _verdict(self, digests: Sequence[str], share: int) -> Verdict | str:
        def judge() -> dict[str, Any]:
            answers = [one for digest in digests for one in pickle.loads(self.crew.store.read(digest))]
            try:
                return {"verdict": vars(self.exam.judge(answers, share))}
            except EdgekitError as error:
                return {"failure": f"cannot be judged: {error}"}

        key = key_of(self.context, "verdict", self.exam.ruler.name, repr(self.exam.bar), list(digests))
        said = self.crew.remember(key, f"a verdict on share {share}", judge)
        if "failure" in said:
            return str(said["failure"])
        found: dict[str, Any] = said["verdict"]
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        return Verdict(**plain)

    def _pack(self, block: int) -> bool:
        """Whether there are a block's samples and the source's answers to them; no for lack of time."""
        if self.exam.is_packed(block):
            return True
        exam, store = self.exam, self.crew.store

        def pack() -> dict[str, Any]:
            packed, places, own = exam.pack(block)
            digests = [store.put(packed), store.put(pickle.dumps(own, protocol=5))]
            return {"block": digests[0], "own": digests[1], "places": places, "blobs": digests}

        key = key_of(self.context, "block", exam.kind, exam.seed, exam.shares, block, exam.processing.to_json())
        if self.is_late and not self.crew.knows(key):
            return False
        said = self.crew.remember(key, f"the source's answers, block {block}", pack)
        own = tuple(pickle.loads(store.read(said["own"])))
        exam.use(block, Block(said["block"], tuple(said["places"]), own))
        return True

    def _ask_unit(self, entrant: Entrant, block: int) -> Unit:
        assert entrant.file.made is not None
        seen = entrant.file.seen(entrant.runtime, entrant.precision)
        file = {name: seen[name] for name in ("input_names", "output_names", "reads")}
        arguments = {
            "file": {**file, "files": entrant.file.made["files"]},
            "runtime": entrant.runtime,
            "precision": entrant.precision,
            "processing": self.exam.processing.to_json(),
            "kind": self.exam.kind,
            "block": self.exam.digest(block),
        }
        title = f"asking {entrant.file.name} on {entrant.runtime}, {len(self.exam.places(block))} samples"
        return Unit(
            title, _place(answer_samples), arguments, (*_digests(entrant), self.exam.digest(block)), self.context
        )


def _digests(entrant: Entrant) -> tuple[str, ...]:
    assert entrant.file.made is not None
    return tuple(digest for _, digest in entrant.file.made["files"])
