"""The verb `convert`: runs a plan, verifies every file against the source, and writes the bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.acceptance import Accepted, Reference, accept, make_reference
from edgekit.bundle import Artifact, Bundle, BundleWriter, Golden
from edgekit.calibration import CalibrationData
from edgekit.card import find_card
from edgekit.converter import Converter, RoadRequest, SourceModel, Written
from edgekit.errors import (
    ArtifactError,
    ConversionError,
    InputError,
    UnavailableError,
    UnsupportedError,
)
from edgekit.plan import Plan, PlannedVariant, Road, make_plan
from edgekit.processing import Processing
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS
from edgekit.target import Target

__all__ = ["ConversionReport", "VariantReport", "convert"]

_REFUSALS = (UnsupportedError, ConversionError, ArtifactError, UnavailableError)


@dataclass(frozen=True)
class VariantReport:
    """What became of one file that was asked for."""

    name: str
    format: str
    precision: str
    status: str
    reason: str = ""
    road: str = ""
    size_bytes: int | None = None
    parity: dict[str, Any] | None = None
    int8_macs_share: float | None = None


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
            "variants": [vars(variant) for variant in self.variants],
            "unmet": list(self.unmet),
            "notes": list(self.notes),
        }


def convert(
    source: str | Path,
    output: str | Path,
    *,
    target: str | Target = "host",
    precision: str | Sequence[str] = ("fp32",),
    format: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    calibration_data: str | Path | None = None,
    num_samples: int | None = None,
    processing: Processing | str | None = None,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ConversionReport:
    """Turns a trained model into a bundle of files for a device, each verified against the source.

    Args:
        source: A .keras or .h5 file, a SavedModel folder or an .onnx file; told apart by content.
        output: ``NAME.edge`` (a folder) or ``NAME.edge.zip``.
        target: A named target or the path of one's own.
        precision: Names of `edgekit.recipe.NAMED`, or ``"int8"``.
        format: Of those the target takes; all of them by default.
        recipe: Rules of one's own in place of `precision`.
        calibration_data: Images, .npy, .npz or .wav, or a folder of them; needed for int8.
        num_samples: Use at most so many of them.
        processing: How they become feeds: a `Processing`, the name of a preset, or a .json file. By default that of
            the model's card, if the model is known.
        seed: Of the random feeds.
        force: Replace an existing bundle.
        dry_run: Only decide; nothing is read but the source's kind, nothing is written.
        progress: Called with a line at each step.

    Raises:
        ArtifactError: The source is missing, corrupt or of no format edgekit reads.
        InputError: Calibration data are missing or do not fit; the output exists.
        UnsupportedError: Nothing of what was asked for is possible; every reason is listed.
    """
    source, say = Path(source), progress or (lambda line: None)
    chosen = target if isinstance(target, Target) else Target.named(target)
    reader = _reader_of(source)
    plan = make_plan(
        source.name, reader, chosen, _recipes(precision, recipe), _names(format), [c for _, c in CONVERTERS]
    )
    if dry_run:
        return ConversionReport(plan, None, tuple(_planned(variant) for variant in plan.variants))
    if plan.needs_calibration and calibration_data is None:
        raise InputError("int8 needs calibration data", hint="--calibration-data FOLDER with 100 or so typical inputs")
    with BundleWriter(Path(output), force=force) as writer:
        say(f"reading {source.name} ({reader.name})")
        opened = reader.read(source, writer.stage / "source")
        try:
            data = CalibrationData.gather(
                opened.signature, find_card(source), processing, calibration_data, num_samples
            )
            say("asking the source for its own answers")
            job = _Job(plan, opened, data, make_reference(opened, data.held_out, data.description, seed), writer, say)
            return job.run(_provenance(source, opened, data, seed))
        finally:
            opened.close()


def _names(value: str | Sequence[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _recipes(precision: str | Sequence[str], recipe: Recipe | str | Path | None) -> list[Recipe]:
    if isinstance(recipe, Recipe):
        return [recipe]
    if recipe is not None:
        return [Recipe.from_file(Path(recipe)) if str(recipe).endswith(".json") else Recipe.named(str(recipe))]
    return list({r.name: r for r in map(Recipe.named, _names(precision))}.values())


def _reader_of(source: Path) -> Converter:
    if not source.exists():
        raise ArtifactError(f"{source} does not exist")
    if source.is_file() and source.stat().st_size == 0:
        raise ArtifactError(f"{source} is empty")
    for _, converter in CONVERTERS:
        if converter.reads and converter.accepts(source):
            converter.probe().require(f"the {converter.name} converter")
            return converter
    raise ArtifactError(
        f"{source} is no model that edgekit reads", hint="it reads .keras, .h5, SavedModel folders and .onnx"
    )


def _planned(variant: PlannedVariant) -> VariantReport:
    return VariantReport(
        name=variant.name,
        format=variant.format,
        precision=variant.precision,
        status="planned" if variant.roads else "refused",
        reason=variant.refusal,
        road=" | ".join(road.name for road in variant.roads),
    )


@dataclass
class _Job:
    plan: Plan
    source: SourceModel
    data: CalibrationData
    reference: Reference
    writer: BundleWriter
    say: Callable[[str], None]

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
        reports, artifacts = [], []
        for variant in self.plan.variants:
            report, artifact = self._make(variant)
            reports.append(report)
            artifacts.extend([artifact] if artifact else [])
        if not artifacts:
            raise UnsupportedError("no file could be made", offenders=[f"{r.name}: {r.reason}" for r in reports])
        bundle = self.writer.commit(
            name=Path(self.plan.source).stem,
            signature=self.source.signature,
            processing=self.data.processing.to_json(),
            target=self.plan.target.name,
            golden=self._golden(),
            statistics=_statistics(self.reference),
            provenance=provenance,
        )
        skipped = [f"skipped {path}: {why}" for path, why in self.data.samples.skipped] if self.data.samples else []
        return ConversionReport(self.plan, bundle, tuple(reports), (*self.source.notes, *self.data.notes, *skipped))

    def _make(self, variant: PlannedVariant) -> tuple[VariantReport, Artifact | None]:
        failures = [variant.refusal] if variant.refusal else []
        for road in variant.roads:
            self.say(f"{variant.name}: {road.name}")
            try:
                written = self._drive(variant, road)
                accepted = accept(written, variant.format, variant.recipe, self.source, self.reference)
            except _REFUSALS as error:
                failures.append(f"{road.name}: {error}")
                continue
            artifact = self._store(variant, road, written, accepted, failures)
            return _report(variant, road, artifact, failures), artifact
        reason = "; ".join(failures)
        return VariantReport(variant.name, variant.format, variant.precision, "refused", reason), None

    def _drive(self, variant: PlannedVariant, road: Road) -> Written:
        folder = self.writer.stage / variant.name
        folder.mkdir(exist_ok=True)
        converter = next(c for _, c in CONVERTERS if c.format == variant.format)
        path = folder / f"model{converter.suffix}"
        if road.direct is not None:
            request = RoadRequest(variant.precision, self.plan.target, path, lambda: self.data.calibration())
            return road.direct.drive(self.source, request)
        if self.source.hub_error:
            raise ConversionError(self.source.hub_error, step=f"{self.source.kind} -> hub")
        plan = None
        if variant.precision == "w8a8":
            from edgekit.quantize import make_quant_plan

            placement = self.plan.target.placements[variant.format]
            plan = make_quant_plan(self.graph, placement, variant.recipe, self.statistics)
        return converter.write(self.graph, path, precision=variant.precision, plan=plan)

    def _store(
        self, variant: PlannedVariant, road: Road, written: Written, accepted: Accepted, failures: list[str]
    ) -> Artifact:
        threads = self.plan.target.threads
        golden = range(len(self.reference.answers))[: _golden_count(self.reference)]
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
                "road": road.name,
                "roads_failed": failures,
                "recipe": variant.recipe.to_json(),
                "notes": list(written.notes),
                "tolerance": accepted.tolerance(self.reference.answers, golden),
            },
        )

    def _golden(self) -> Golden:
        count = _golden_count(self.reference)
        return Golden(
            feeds=tuple(dict(feed) for feed in self.reference.feeds[:count]),
            outputs=tuple(dict(answer) for answer in self.reference.answers[:count]),
        )


def _golden_count(reference: Reference) -> int:
    """Two real samples and nothing else where there are two; random feeds make up for missing ones."""
    return min(2, len(reference.feeds))


def _report(variant: PlannedVariant, road: Road, artifact: Artifact, failures: list[str]) -> VariantReport:
    return VariantReport(
        name=variant.name,
        format=variant.format,
        precision=variant.precision,
        status="written",
        reason="; ".join(failures),
        road=road.name,
        size_bytes=artifact.size_bytes,
        parity=artifact.facts["parity"],
        int8_macs_share=artifact.facts["int8_macs_share"],
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


def _provenance(source: Path, opened: SourceModel, data: CalibrationData, seed: int) -> dict[str, Any]:
    samples = data.samples
    return {
        "source": {"name": source.name, "kind": opened.kind, "sha256": _hash(source)},
        "card": data.card.name if data.card else None,
        "tools": {"edgekit": edgekit.__version__, **opened.versions},
        "calibration": {"sha256": samples.sha256, "samples": len(samples)} if samples is not None else None,
        "seed": seed,
        "notes": [*opened.notes, *data.notes],
    }


def _hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their relative names in order."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
