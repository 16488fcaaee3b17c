"""One run of a plan: every road driven, every file verified and timed, the bundle written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import Artifact, Bundle, BundleWriter, Golden
from edgekit.conversion.acceptance import Accepted, accept
from edgekit.conversion.accuracy import Accuracy, Judge
from edgekit.conversion.calibration import CalibrationData
from edgekit.conversion.gate import SpeedComparison, compare_speed
from edgekit.conversion.reference import Reference, open_sizes
from edgekit.converter import RoadRequest, SourceModel, Writer, Written
from edgekit.errors import ArtifactError, ConversionError, EdgekitError, UnavailableError, UnsupportedError
from edgekit.plan import Plan, PlannedVariant, Road
from edgekit.registry import CONVERTERS

__all__ = ["ConversionReport", "Job", "VariantReport"]

_REFUSALS = (UnsupportedError, ConversionError, ArtifactError, UnavailableError)


@dataclass(frozen=True)
class VariantReport:
    """What became of one file that was asked for.

    Attributes:
        status: ``"written"``, ``"refused"``, or of a dry run ``"planned"``.
        reason: Why it was refused; of a written file, which roads failed before the one that was taken.
        parity: Against the source, see `edgekit.parity.Parity`.
        int8_macs_share: Share of multiply-accumulates that the engine really prepared in 8-bit integers.
        speed: How an int8 file was timed against fp32 of its engine; None where it was not.
        accuracy: Of a model by name: its metric beside the source's, see `edgekit.conversion.accuracy.Accuracy`.
    """

    name: str
    format: str
    precision: str
    status: str
    reason: str = ""
    road: str = ""
    size_bytes: int | None = None
    parity: dict[str, Any] | None = None
    int8_macs_share: float | None = None
    speed: SpeedComparison | None = None
    accuracy: Accuracy | None = None


@dataclass(frozen=True)
class ConversionReport:
    """What `convert` did. `unmet` are the precisions asked for that no file has: the answer to those was no."""

    plan: Plan
    bundle: Bundle | None
    variants: tuple[VariantReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def unmet(self) -> tuple[str, ...]:
        met = {v.precision for v in self.variants if v.status != "refused"}
        return tuple(dict.fromkeys(v.precision for v in self.variants if v.precision not in met))

    def to_json(self) -> dict[str, Any]:
        return {
            "plan": self.plan.to_json(),
            "bundle": str(self.bundle.root) if self.bundle else None,
            "variants": [asdict(variant) for variant in self.variants],
            "unmet": list(self.unmet),
            "notes": list(self.notes),
        }


@dataclass
class _Attempt:
    """What became of a variant so far; without `accepted` it is refused, and `failures` say why."""

    road: str
    written: Written | None
    accepted: Accepted | None
    failures: list[str]
    speed: SpeedComparison | None = None
    accuracy: Accuracy | None = None
    gate: str = ""


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

    @cached_property
    def graph(self) -> Any:
        """The hub graph, cleaned; loaded when the first road through the hub is driven."""
        from edgekit.graph import clean, load

        return clean(load(self.source.exports["hub"]))

    @cached_property
    def statistics(self) -> Any:
        """Ranges of all activations, observed once for every format."""
        from edgekit.quantize import observe

        self.say("observing activations on the calibration data")
        return observe(self.graph, self.data.calibration())

    def run(self, provenance: dict[str, Any]) -> ConversionReport:
        # Floats first: what is quantized is held against them.
        wanted = (*self.plan.yardsticks, *self.plan.variants)
        made = {v.name: self._make(v) for v in sorted(wanted, key=lambda v: v.precision != "fp32")}
        for variant in self.plan.variants:
            if self.judge is not None and made[variant.name].accepted is not None:
                self._judge(self.judge, variant, made[variant.name])
            if variant.precision != "fp32" and made[variant.name].accepted is not None:
                self._gate(variant, made)
        reports, artifacts = [], []
        for variant in self.plan.variants:
            attempt = made[variant.name]
            artifact = self._store(variant, attempt) if attempt.accepted is not None else None
            artifacts.extend([artifact] if artifact else [])
            reports.append(_report(variant, attempt, artifact))
        if not artifacts:
            raise UnsupportedError("no file could be made", offenders=[f"{r.name}: {r.reason}" for r in reports])
        bundle = self.writer.commit(
            name=self.name,
            signature=self.source.signature,
            processing=self.data.processing.to_json(),
            target=self.plan.target.name,
            golden=self._golden(),
            statistics=_statistics(self.reference),
            provenance=provenance,
        )
        skipped = [f"skipped {path}: {why}" for path, why in self.data.samples.skipped] if self.data.samples else []
        return ConversionReport(self.plan, bundle, tuple(reports), (*self.source.notes, *self.data.notes, *skipped))

    def _make(self, variant: PlannedVariant) -> _Attempt:
        failures = [variant.refusal] if variant.refusal else []
        for road in variant.roads:
            self.say(f"{variant.name}: {road.name}")
            try:
                written = self._drive(variant, road)
                accepted = accept(written, variant.format, variant.recipe, self.source, self.reference)
            except _REFUSALS as error:
                failures.append(f"{road.name}: {_reason(error)}")
                continue
            return _Attempt(road.name, written, accepted, failures)
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
        if variant.precision == "w8a8" and (complaint := attempt.accuracy.complaint):
            attempt.failures.append(complaint)
            attempt.accepted = None

    def _gate(self, variant: PlannedVariant, made: dict[str, _Attempt]) -> None:
        """Refuses a file of fewer bits that gains nothing over fp32 of its format, or loses."""
        attempt, base = made[variant.name], made.get(f"{variant.format}-fp32")
        if base is None or base.written is None:
            attempt.gate = "not held against fp32: there is no fp32 file of this format"
            return
        assert attempt.written is not None
        assert attempt.accepted is not None
        if variant.precision == "fp16":
            attempt.gate = "not timed: its arithmetic is that of fp32"
        elif self.plan.target.name == "host":
            self._time(variant, attempt, base.written)
        else:
            attempt.gate = "not timed: the target is not this machine"
        size, base_size = (sum(p.stat().st_size for p in w.files) for w in (attempt.written, base.written))
        if size >= base_size and not (attempt.speed and attempt.speed.verdict == "faster"):
            attempt.failures.append(f"no smaller than fp32 ({size} against {base_size} bytes), and not faster")
            attempt.accepted = None

    def _time(self, variant: PlannedVariant, attempt: _Attempt, base: Written) -> None:
        assert attempt.written is not None
        assert attempt.accepted is not None
        self.say(f"{variant.name}: timing it against fp32")
        runtime = attempt.accepted.runtime
        attempt.speed = compare_speed(
            attempt.written.files[0],
            base.files[0],
            format=variant.format,
            runtime=runtime,
            threads=self.plan.target.threads or 1,
        )
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
        if self.source.hub_error:
            raise ConversionError(self.source.hub_error, step=f"{self.source.kind} -> hub")
        sizes = self._fixed_sizes(variant.format) if converter.fixes_sizes else {}
        plan = None
        if variant.precision == "w8a8":
            from edgekit.quantize import make_quant_plan

            placement = self.plan.target.placements[variant.format]
            plan = make_quant_plan(self.graph, placement, variant.recipe, self.statistics)
        graph = self.graph
        if sizes:
            from edgekit.graph import bind_dimensions

            graph = bind_dimensions(graph, sizes)
        if variant.format == "onnx" and self.plan.target.onnx_opset:
            from edgekit.graph.opsets import at_most_opset

            graph = at_most_opset(graph, self.plan.target.onnx_opset)
        written = converter.write(graph, path, precision=variant.precision, plan=plan)
        if not sizes:
            return written
        note = f"fixed as in the data it was judged by: {', '.join(f'{k} = {v}' for k, v in sizes.items())}"
        return replace(written, sizes=sizes, notes=(*written.notes, note))

    def _fixed_sizes(self, format: str) -> Mapping[str, int]:
        """A number for each open size but the batch. Raises UnsupportedError where nothing says which."""
        known = self.reference.sizes
        if unknown := [name for name in open_sizes(self.source.signature) if name not in known]:
            raise UnsupportedError(
                f"{format} files have fixed sizes, and nothing says how large these are",
                offenders=unknown,
                hint="--input-shape, or --calibration-data of one size",
            )
        return known

    def _store(self, variant: PlannedVariant, attempt: _Attempt) -> Artifact:
        written, accepted = attempt.written, attempt.accepted
        assert written is not None
        assert accepted is not None
        threads = self.plan.target.threads
        golden = range(_golden_count(self.reference))
        return self.writer.add(
            name=variant.name,
            format=variant.format,
            precision=variant.precision,
            files=written.files,
            input_names=accepted.trial.input_names,
            output_names=accepted.output_names,
            engine_options={"threads": threads} if threads else {},
            facts={
                **accepted.facts(),
                "road": attempt.road,
                "roads_failed": attempt.failures,
                "recipe": variant.recipe.to_json(),
                "notes": list(written.notes),
                "tools": dict(written.versions),
                "tolerance": accepted.tolerance(self.reference.answers, golden),
                **({"gate": attempt.gate} if attempt.gate else {}),
                **({"accuracy": attempt.accuracy.to_json()} if attempt.accuracy else {}),
            },
        )

    def _golden(self) -> Golden:
        count = _golden_count(self.reference)
        return Golden(
            feeds=tuple(dict(feed) for feed in self.reference.feeds[:count]),
            outputs=tuple(dict(answer) for answer in self.reference.answers[:count]),
        )


def _reason(error: EdgekitError) -> str:
    """What an error says, and what a vendor's tool said where our own words do not hold it."""
    vendor = getattr(error, "vendor_message", "") or ""
    said = next((line.strip() for line in vendor.splitlines() if line.strip()), "")[:200]
    return f"{error} [{said}]" if said and said not in str(error) else str(error)


def _golden_count(reference: Reference) -> int:
    """Two real samples and nothing else where there are two; random feeds make up for missing ones."""
    return min(2, len(reference.feeds))


def _report(variant: PlannedVariant, attempt: _Attempt, artifact: Artifact | None) -> VariantReport:
    return VariantReport(
        name=variant.name,
        format=variant.format,
        precision=variant.precision,
        status="written" if artifact else "refused",
        reason="; ".join(attempt.failures),
        road=attempt.road,
        size_bytes=artifact.size_bytes if artifact else None,
        parity=artifact.facts["parity"] if artifact else None,
        int8_macs_share=artifact.facts["int8_macs_share"] if artifact else None,
        speed=attempt.speed,
        accuracy=attempt.accuracy,
    )


def _statistics(reference: Reference) -> dict[str, Any]:
    """Mean, spread and extremes of inputs and outputs, for judging drift later."""
    feeds, answers = (
        (reference.real, reference.real_answers) if reference.real else (reference.random, reference.random_answers)
    )
    return {
        "data": reference.data if reference.real else "fixed random feeds",
        "inputs": {name: _summary([feed[name] for feed in feeds]) for name in feeds[0]},
        "outputs": {name: _summary([answer[name] for answer in answers]) for name in answers[0]},
    }


def _summary(arrays: Sequence[np.ndarray]) -> dict[str, float]:
    flat = np.concatenate([np.asarray(array, dtype="float64").ravel() for array in arrays])
    if not flat.size:
        return {}
    values = {"mean": flat.mean(), "std": flat.std(), "min": flat.min(), "max": flat.max()}
    return {name: float(f"{float(value):.6g}") for name, value in values.items()}
