"""One run of a plan: every road driven, every file verified and timed, the bundle written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekit.bundle import Artifact, BundleWriter, Golden
from edgekit.conversion.acceptance import Accepted, accept
from edgekit.conversion.accuracy import Accuracy, Judge
from edgekit.conversion.calibration import CalibrationData
from edgekit.conversion.comparing import FormatFile, explain_formats
from edgekit.conversion.gate import SpeedComparison, TimedFile, compare_speed
from edgekit.conversion.preparing import Preparation
from edgekit.conversion.reference import Reference
from edgekit.conversion.reports import ConversionReport, VariantReport
from edgekit.conversion.searching import Found
from edgekit.conversion.tuning import SENSITIVE_SAMPLES, Bench, Tuner
from edgekit.conversion.wish import Wish
from edgekit.conversion.writing import write_through_hub
from edgekit.converter import RoadRequest, SourceModel, Writer, Written
from edgekit.errors import ArtifactError, ConversionError, EdgekitError, UnavailableError, UnsupportedError
from edgekit.plan import Plan, PlannedVariant, Road
from edgekit.recipe import FLOATS, Recipe
from edgekit.registry import CONVERTERS

__all__ = ["Job"]

_REFUSALS = (UnsupportedError, ConversionError, ArtifactError, UnavailableError)


@dataclass
class _Attempt:
    """What became of a variant so far; without `accepted` it is refused, and `failures` say why.

    Attributes:
        seconds: What making and verifying the file took.
    """

    road: str
    written: Written | None
    accepted: Accepted | None
    failures: list[str]
    speed: SpeedComparison | None = None
    accuracy: Accuracy | None = None
    gate: str = ""
    search: Found | None = None
    recipe: Recipe | None = None
    seconds: float | None = None

    @property
    def timed(self) -> TimedFile | None:
        """The file that is timed; None where there is none."""
        if self.written is None or self.accepted is None:
            return None
        return TimedFile(self.written.files[0], self.accepted.trial.input_names)


@dataclass
class Job:
    """What `convert` has gathered, and the run over it."""

    name: str
    plan: Plan
    source: SourceModel
    data: CalibrationData
    reference: Reference
    writer: BundleWriter
    say: Callable[[str], None]
    judge: Judge | None = None
    wish: Wish = field(default_factory=Wish)
    _made: dict[str, _Attempt] = field(default_factory=dict, init=False)

    @cached_property
    def preparation(self) -> Preparation:
        """The hub graph under the recipes; loaded when the first road through the hub is driven.

        Raises:
            ConversionError: The source could not be brought to the hub.
        """
        if self.source.hub_error:
            raise ConversionError(self.source.hub_error, step=f"{self.source.kind} -> hub")
        return Preparation(self.source.exports["hub"], self.data.calibration, self.say, self.data.identity)

    @cached_property
    def tuner(self) -> Tuner:
        """Searches recipes; what it measures of layers serves every format."""
        samples = (self.reference.real or self.reference.feeds)[:SENSITIVE_SAMPLES]
        placements = {v.format: self.plan.target.placements[v.format] for v in self.plan.variants if v.is_searched}
        return Tuner(self.preparation, placements, samples, self.wish.budget, self.say)

    def run(self, provenance: dict[str, Any]) -> ConversionReport:
        # Floats first: what is quantized is held against them.
        wanted = (*self.plan.yardsticks, *self.plan.variants)
        made = self._made
        for variant in sorted(wanted, key=lambda v: v.precision != "fp32"):
            made[variant.name] = self._search(variant) if variant.is_searched else self._make(variant)
        for variant in self.plan.variants:
            if self.judge is not None and made[variant.name].accepted is not None:
                self._judge(self.judge, variant, made[variant.name])
            if variant.precision != "fp32" and made[variant.name].accepted is not None:
                self._gate(variant, made)
        reports, artifacts, apart = [], [], explain_formats(self._files())
        for variant in self.plan.variants:
            attempt = made[variant.name]
            artifact = self._store(variant, attempt) if attempt.accepted is not None else None
            artifacts.extend([artifact] if artifact else [])
            reports.append(_report(variant, attempt, artifact, apart.get(variant.name, ())))
        if not artifacts:
            raise UnsupportedError("no file could be made", offenders=[f"{r.name}: {r.reason}" for r in reports])
        bundle = self.writer.commit(
            name=self.name,
            signature=self.source.signature,
            processing=self.data.processing.to_json(),
            target=self.plan.target.name,
            golden=self._golden(),
            statistics=self.reference.statistics(),
            provenance={**provenance, **({"apart": apart} if apart else {}), **self._traces()},
        )
        skipped = [f"skipped {path}: {why}" for path, why in self.data.samples.skipped] if self.data.samples else []
        return ConversionReport(self.plan, bundle, tuple(reports), (*self.source.notes, *self.data.notes, *skipped))

    def _search(self, variant: PlannedVariant) -> _Attempt:
        """The file of the recipe that is found, or what is in the way of all that were tried."""
        if not variant.roads or self.source.hub_error:
            return self._make(variant)
        assert self.wish.bar is not None
        base = self._made.get(f"{variant.format}-fp32")
        converter = next(c for _, c in CONVERTERS if c.format == variant.format)
        bench = Bench(
            variant.format,
            lambda recipe, place: self._through_hub(
                converter, replace(variant, recipe=recipe), place / f"model{converter.suffix}"
            ),
            self.source,
            self.reference,
            self.wish.bar,
            self.writer.stage / variant.name,
            self.wish.goal,
            base.timed if base is not None and self.plan.target.name == "host" else None,
            self.plan.target.threads or 1,
        )
        found = self.tuner.find(
            bench,
            journal=self.wish.journal(variant.format),
            first=self._held(),
            seconds_a_trial=base.seconds if base is not None else None,
        )
        if found.recipe is None:
            return _Attempt("", None, None, list(found.in_the_way), search=found)
        settled = replace(variant, recipe=replace(found.recipe, name=variant.recipe.name))
        return replace(self._make(settled), search=found, recipe=settled.recipe)

    def _held(self) -> list[Recipe]:
        """What a search found for other formats, which is tried first."""
        return [a.search.recipe for a in self._made.values() if a.search is not None and a.search.recipe is not None]

    def _traces(self) -> dict[str, Any]:
        """What was tried and measured on the way, layer by layer, for `inspect --layers`."""
        from edgekit.conversion.layers import layers_of_variants

        searches = {name: _without_times(made.search) for name, made in self._made.items() if made.search is not None}
        recipes = {v.name: (v.format, self._made[v.name].recipe or v.recipe) for v in self.plan.variants
                   if self._made[v.name].accepted is not None and self._made[v.name].road in v.hub_roads}  # fmt: skip
        tuner = self.tuner if searches else None
        layers = layers_of_variants(self.preparation, recipes, self.plan.target, tuner) if recipes else []
        return {**({"searches": searches} if searches else {}), **({"layers": layers} if layers else {})}

    def _files(self) -> list[FormatFile]:
        """Every file that was accepted, with its plan."""
        files = []
        for variant in self.plan.variants:
            attempt = self._made[variant.name]
            if attempt.accepted is None:
                continue
            recipe, is_ours = attempt.recipe or variant.recipe, attempt.road in variant.hub_roads
            is_planned = is_ours and not recipe.precisions <= set(FLOATS)
            placement = self.plan.target.placements.get(variant.format)
            file = FormatFile(
                variant.name,
                variant.recipe.name,
                recipe,
                attempt.accepted.parity.sqnr_db,
                attempt.accepted.trial.int8_macs_share,
                "" if is_ours else attempt.road,
                self.preparation.graph(recipe) if is_planned else None,
                self.preparation.plan(recipe, placement) if is_planned else None,
                self.tuner.known_sensitivity(recipe) if is_planned and variant.is_searched else None,
            )
            files.append(file)
        return files

    def _make(self, variant: PlannedVariant) -> _Attempt:
        failures = [variant.refusal] if variant.refusal else []
        for road in variant.roads:
            self.say(f"{variant.name}: {road.name}")
            started = time.monotonic()
            try:
                written = self._drive(variant, road)
                accepted = accept(written, variant.format, variant.recipe, self.source, self.reference)
            except _REFUSALS as error:
                failures.append(f"{road.name}: {_reason(error)}")
                continue
            return _Attempt(road.name, written, accepted, failures, seconds=time.monotonic() - started)
        return _Attempt("", None, None, failures)

    def _judge(self, judge: Judge, variant: PlannedVariant, attempt: _Attempt) -> None:
        """Measures what the file is worth at its task, and refuses an int8 file that lost too much of it."""
        assert attempt.written is not None
        assert attempt.accepted is not None
        self.say(f"{variant.name}: judging it by {len(judge.samples)} test samples")
        try:
            attempt.accuracy = judge.judge(attempt.written.files[0], attempt.accepted)
        except _REFUSALS as error:
            attempt.failures.append(f"cannot be judged: {error}")
            attempt.accepted = None
            return
        if variant.precision not in FLOATS and (complaint := attempt.accuracy.complaint):
            attempt.failures.append(complaint)
            attempt.accepted = None

    def _gate(self, variant: PlannedVariant, made: dict[str, _Attempt]) -> None:
        """Refuses a file of fewer bits that gains nothing over fp32 of its format, or loses."""
        attempt, base = made[variant.name], made.get(f"{variant.format}-fp32")
        if base is None or base.written is None or base.timed is None:
            attempt.gate = "not held against fp32: there is no fp32 file of this format"
            return
        assert attempt.written is not None
        assert attempt.accepted is not None
        if variant.precision == "fp16":
            attempt.gate = "not timed: its arithmetic is that of fp32"
        elif self.plan.target.name == "host":
            self._time(variant, attempt, base.timed)
        else:
            attempt.gate = "not timed: the target is not this machine"
        size, base_size = (sum(p.stat().st_size for p in w.files) for w in (attempt.written, base.written))
        if size >= base_size and not (attempt.speed and attempt.speed.verdict == "faster"):
            attempt.failures.append(f"no smaller than fp32 ({size} against {base_size} bytes), and not faster")
            attempt.accepted = None

    def _time(self, variant: PlannedVariant, attempt: _Attempt, base: TimedFile) -> None:
        assert attempt.timed is not None
        assert attempt.accepted is not None
        self.say(f"{variant.name}: timing it against fp32")
        runtime = attempt.accepted.runtime
        threads = self.plan.target.threads or 1
        try:
            attempt.speed = compare_speed(
                attempt.timed, base, self.reference.feeds, format=variant.format, runtime=runtime, threads=threads
            )
        except ConversionError as error:
            attempt.failures.append(str(error))
            attempt.accepted = None
            return
        attempt.gate = f"not measurably slower than fp32 in {runtime}, on the machine that made it"
        if attempt.speed.verdict == "slower":
            attempt.failures.append(f"slower than what it would replace: {attempt.speed}")
            attempt.accepted = None

    def _drive(self, variant: PlannedVariant, road: Road) -> Written:
        folder = self.writer.stage / variant.name
        folder.mkdir(exist_ok=True)
        converter = next(c for _, c in CONVERTERS if c.format == variant.format)
        path = folder / f"model{converter.suffix}"
        if road.direct is not None:
            request = RoadRequest(variant.precision, self.plan.target, path, self.data.calibration)
            return road.direct.drive(self.source, request)
        return self._through_hub(converter, variant, path)

    def _through_hub(self, converter: Writer, variant: PlannedVariant, path: Path) -> Written:
        return write_through_hub(self.source, self.preparation, self.reference, self.plan.target, variant.recipe,
                                 converter, path)  # fmt: skip

    def _store(self, variant: PlannedVariant, attempt: _Attempt) -> Artifact:
        written, accepted = attempt.written, attempt.accepted
        assert written is not None
        assert accepted is not None
        threads = self.plan.target.threads
        golden = range(_golden_count(self.reference))
        return self.writer.add(
            name=variant.name,
            format=variant.format,
            precision=(attempt.recipe or variant.recipe).precision,
            files=written.files,
            input_names=accepted.trial.input_names,
            output_names=accepted.output_names,
            engine_options={"threads": threads} if threads else {},
            facts={
                **accepted.facts(),
                "road": attempt.road,
                "roads_failed": attempt.failures,
                "recipe": (attempt.recipe or variant.recipe).to_json(),
                **self._compression(attempt.recipe or variant.recipe),
                "notes": list(written.notes),
                "tools": dict(written.versions),
                "tolerance": accepted.tolerance(self.reference.answers, golden),
                **({"gate": attempt.gate} if attempt.gate else {}),
                **({"accuracy": attempt.accuracy.to_json()} if attempt.accuracy else {}),
            },
        )

    def _compression(self, recipe: Recipe) -> dict[str, Any]:
        """What each step of compression did, where there was one."""
        effects = self.preparation.effects_of(recipe) if recipe.compress else []
        return {"compression": [effect.to_json() for effect in effects]} if effects else {}

    def _golden(self) -> Golden:
        count = _golden_count(self.reference)
        return Golden(
            feeds=tuple(dict(feed) for feed in self.reference.feeds[:count]),
            outputs=tuple(dict(answer) for answer in self.reference.answers[:count]),
        )


def _without_times(found: Found) -> dict[str, Any]:
    """What a search tried, without what differs from run to run: a bundle has the same bytes each time."""
    data = found.to_json()
    del data["estimate"]
    for trial in data["trials"]:
        trial["outcome"].pop("time_ratio")
    return data


def _reason(error: EdgekitError) -> str:
    """What an error says, and what a vendor's tool said where our own words do not hold it."""
    vendor = getattr(error, "vendor_message", "") or ""
    said = next((line.strip() for line in vendor.splitlines() if line.strip()), "")[:200]
    return f"{error} [{said}]" if said and said not in str(error) else str(error)


def _golden_count(reference: Reference) -> int:
    """Two real samples and nothing else where there are two; random feeds make up for missing ones."""
    return min(2, len(reference.feeds))


def _report(
    variant: PlannedVariant, attempt: _Attempt, artifact: Artifact | None, apart: Sequence[str]
) -> VariantReport:
    return VariantReport(
        name=variant.name,
        format=variant.format,
        precision=(attempt.recipe or variant.recipe).precision if artifact else variant.precision,
        recipe=variant.recipe.name,
        status="written" if artifact else "refused",
        reason="; ".join(attempt.failures),
        road=attempt.road,
        size_bytes=artifact.size_bytes if artifact else None,
        parity=artifact.facts["parity"] if artifact else None,
        int8_macs_share=artifact.facts["int8_macs_share"] if artifact else None,
        speed=attempt.speed,
        accuracy=attempt.accuracy,
        apart=tuple(apart),
        estimate=attempt.search.estimate if attempt.search is not None else None,
    )
