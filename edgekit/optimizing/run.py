"""One run of `optimize`: from what was asked to the space, through the search, to the bundle and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.bundle import BundleWriter
from edgekit.cache import cache_folder
from edgekit.card import find_card
from edgekit.conversion.gathering import open_source, provenance_of
from edgekit.conversion.given import Beside, Given, find_given
from edgekit.conversion.reference import Reference, make_reference
from edgekit.converter import SourceModel
from edgekit.cores import num_cores
from edgekit.errors import InputError
from edgekit.optimizing.bench import RealBench
from edgekit.optimizing.bounds import costs_of
from edgekit.optimizing.cost import estimate_of
from edgekit.optimizing.crew import Crew, open_executor
from edgekit.optimizing.front import mark_front
from edgekit.optimizing.journal import Journal, key_of
from edgekit.optimizing.kit import open_kit, pack_kit
from edgekit.optimizing.material import Material, Wanted, gather_material
from edgekit.optimizing.records import Estimate, OptimizationReport, TrialRecord
from edgekit.optimizing.search import OBJECTIVES, Search
from edgekit.optimizing.shipping import ship
from edgekit.optimizing.space import Entrant, File, recipes_for, thread_counts
from edgekit.optimizing.store import Store
from edgekit.optimizing.timing import machine
from edgekit.plan import make_plan
from edgekit.registry import CONVERTERS, RUNTIMES, installed
from edgekit.target import Target

__all__ = ["Run", "Space", "plan_space"]

_JOURNAL = 2
"""Of what units give; raised when that changes, and what an older version kept is then done again."""

_ENGINES = ("ai-edge-litert", "tflite-runtime", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Space:
    """What there is to try.

    Attributes:
        given: The source.
        beside: What the user said of it.
        target: The device.
        objective: What is looked for.
        files: That have a road.
        threads: Counts.
    """

    given: Given
    beside: Beside
    target: Target
    objective: str
    files: tuple[File, ...]
    threads: tuple[int, ...]


def plan_space(
    source: Any,
    beside: Beside,
    target: str | Target,
    objective: str,
    formats: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
) -> Space:
    """All there is to try; nothing is read but the source's kind.

    Raises:
        ArtifactError: The source is none.
        InputError: There is no such objective.
        UnsupportedError: Nothing has a road.
    """
    if objective not in OBJECTIVES:
        raise InputError(f"there is no objective {objective!r}", hint=f"one of {', '.join(OBJECTIVES)}")
    chosen = target if isinstance(target, Target) else Target.named(target)
    recipes, converters = recipes_for(chosen, formats, precisions), [c for _, c in CONVERTERS]
    given = find_given(source, beside, lambda name, by: make_plan(name, by, chosen, recipes, formats, converters))
    files = tuple(File(variant) for variant in given.plan.variants if variant.roads)
    return Space(given, beside, chosen, objective, files, tuple(thread_counts(chosen, threads, objective)))


@dataclass
class Run:
    """One run.

    Attributes:
        space: What there is to try.
        wanted: What is to be kept, and by what that is told.
        budget: Seconds; None for no end.
        scheduler: Address of one; None for processes of this machine.
        resume: Whether what a run measured that came to its end counts.
        keep_front: Whether the front is shipped with the best.
        say: Called with a line at each step.
    """

    space: Space
    wanted: Wanted
    budget: float | None
    scheduler: str | None
    resume: bool
    keep_front: bool
    say: Callable[[str], None]
    _started: float = field(default_factory=time.monotonic, init=False)
    _estimate: Estimate | None = field(default=None, init=False)

    def planned(self) -> OptimizationReport:
        """The space, of which nothing is made."""
        return self._report([_planned(file) for file in self.space.files], self._estimated(None))

    def into(self, writer: BundleWriter) -> OptimizationReport:
        """Searches, and writes the bundle."""
        given, beside = self.space.given, self.space.beside
        with ExitStack() as stack:
            executor = stack.enter_context(open_executor(self.scheduler, max(1, num_cores() // 2)))
            self.say(f"reading {given.plan.source} ({given.reader.name})")
            path = given.place(writer.stage)
            card = find_card(path)
            opened = stack.enter_context(closing(open_source(given, path, beside.options, writer.stage, card)))
            material = gather_material(given, opened, card, self.wanted)
            provenance = provenance_of(given, path, opened, material.data, self.wanted.seed)
            context = self._context(provenance, material)
            for file in self.space.files if material.data.samples is None else ():
                if file.recipe.needs_calibration:
                    file.skipped = "it needs calibration data: --data, or --calibration-data"
            crew = self._crew(stack, executor, context)
            bench = self._bench(crew, writer.stage, opened, material, context)
            search = self._search(bench, opened)
            winner = search.run()
            report = self._report_of(search, winner, bench, opened, material)
            bundle = ship(
                writer,
                crew.store,
                [e for e in (winner, *self._others(search, winner)) if e.record.status == "shipped"],
                name=given.stem,
                target=self.space.target.name,
                signature=opened.signature,
                processing=material.data.processing,
                reference=bench.reference,
                provenance={**provenance, "optimization": report.record()},
            )
            crew.journal.finish()
        return replace(report, bundle=bundle)

    def _crew(self, stack: ExitStack, executor: Executor, context: str) -> Crew:
        journal = stack.enter_context(Journal(cache_folder() / "optimizations" / f"{context[:32]}.jsonl"))
        if len(journal):
            self.say(f"{len(journal)} units of work are known from before")
        store = Store()
        store.prune()
        return Crew(executor, journal, store, self.scheduler is not None, self.say)

    def _context(self, provenance: dict[str, Any], material: Material) -> str:
        """What decides every outcome: source, data, target, versions and processor."""
        engines = {name: engine.probe().version for name, engine in RUNTIMES}
        about = {**provenance, "notes": None}
        target, here = self.space.target.to_json(), machine()
        return key_of(_JOURNAL, about, material.identity, target, installed(*_ENGINES), engines, here)

    def _bench(self, crew: Crew, stage: Path, opened: SourceModel, material: Material, context: str) -> RealBench:
        references: list[Reference] = []
        data, target = material.data, self.space.target

        def pack() -> dict[str, Any]:
            self.say("asking the source for its own answers")
            references.append(make_reference(opened, data.held_out, data.description, self.wanted.seed))
            folder = stage / "kit"
            folder.mkdir()
            kit = pack_kit(crew.store, folder, opened, references[0], data.calibration, data.identity, target)
            return {"kit": kit, "blobs": [digest for _, digest in kit]}

        kit = crew.remember(key_of(context, "kit"), "the kit", pack)["kit"]
        names = [(str(name), str(digest)) for name, digest in kit]
        reference = references[0] if references else open_kit(crew.store, names).reference
        runs = crew.journal.runs
        measured = key_of(context, runs - 1 if self.resume and runs else runs)
        return RealBench(
            crew, names, material.exam, opened, reference, data.calibration, target, self.space.objective, context,
            measured,
        )  # fmt: skip

    def _search(self, bench: RealBench, opened: SourceModel) -> Search:
        self._estimate = self._estimated(None)
        self.say(str(self._estimate))

        def announce() -> None:
            self._estimate = self._estimated(bench)
            self.say(str(self._estimate))
            bench.crew.deadline = None if self.budget is None else self._started + self.budget

        costs = None if opened.hub_error else costs_of(opened.exports["hub"])
        higher, space = bench.exam.ruler.is_higher_better, self.space
        return Search(
            space.files, space.target, space.threads, space.objective, bench, costs, higher, self.say, announce
        )

    def _estimated(self, bench: RealBench | None) -> Estimate:
        return estimate_of(self.space.files, self.space.target, self.space.threads, bench)

    def _others(self, search: Search, winner: Entrant) -> list[Entrant]:
        """Of the front, what all of the data let through, the fastest first; nothing unless it is to be kept."""
        able = [e for e in search.entrants if e.record.on_front and e is not winner and search.is_sure_of(e)]
        return sorted(able, key=lambda e: e.record.p50_us or 0.0) if self.keep_front else []

    def _report_of(
        self, search: Search, winner: Entrant, bench: RealBench, opened: SourceModel, material: Material
    ) -> OptimizationReport:
        mark_front(search.records(), is_higher_better=search.is_higher_better)
        for entrant in self._others(search, winner):
            entrant.record.status, entrant.record.reason = "shipped", ""
        exam, crew = bench.exam, bench.crew
        assert self._estimate is not None
        return replace(
            self._report(search.records(), self._estimate),
            metric=exam.ruler.name,
            source_value=exam.source_value,
            max_drop=exam.bar.max_drop,
            is_cut=bench.was_late,
            reused=crew.known,
            work_seconds=crew.seconds,
            notes=(*self._unjudged(search), *self._notes(bench, opened, material)),
        )

    def _notes(self, bench: RealBench, opened: SourceModel, material: Material) -> list[str]:
        cpus, count = sorted({str(one["cpu"]) for one in bench.machines}), bench.exam.left_out
        differ = [f"measured on different processors, by ratios to one yardstick: {', '.join(cpus)}"]
        out = [f"{count} samples the source itself cannot answer are left out"]
        here = [] if self.space.target.is_this_machine else [f"measured here, which is no {self.space.target.title}"]
        notes = [*opened.notes, *material.data.notes, *material.notes, *here]
        return [*notes, *(out if count else []), *(differ if len(cpus) > 1 else [])]

    def _unjudged(self, search: Search) -> list[str]:
        judged = [e for e in search.entrants if e.record.metric_value is not None]
        if not judged:
            return ["time was up before the data were asked: fp32 is shipped, held against the source on a few samples"]
        if all(e.is_fp32 for e in judged):
            return [
                "nothing but fp32 was judged, so nothing else could be shipped: the table says what kept the others"
            ]
        return []

    def _report(self, trials: Sequence[TrialRecord], estimate: Estimate) -> OptimizationReport:
        return OptimizationReport(
            source=self.space.given.plan.source,
            target=self.space.target.name,
            title=self.space.target.title,
            objective=self.space.objective,
            metric=self.wanted.metric or "",
            source_value=None,
            max_drop=None,
            trials=tuple(trials),
            estimate=estimate,
            seconds=time.monotonic() - self._started,
            budget_seconds=self.budget,
            is_cut=False,
            machine=machine(),
        )


def _planned(file: File) -> TrialRecord:
    recipe = file.recipe
    return TrialRecord(file.name, file.name, file.format, recipe.precision, recipe.name, reason="planned")
