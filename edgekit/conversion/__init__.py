"""The verb `convert`: runs a plan, verifies every file against the source, and writes the bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.bundle import BundleWriter
from edgekit.card import find_card
from edgekit.conversion.acceptance import make_reference
from edgekit.conversion.calibration import CalibrationData
from edgekit.conversion.job import ConversionReport, Job, VariantReport
from edgekit.converter import Reader, SourceModel
from edgekit.errors import (
    ArtifactError,
    InputError,
)
from edgekit.plan import PlannedVariant, make_plan
from edgekit.processing import Processing
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS
from edgekit.target import Target

__all__ = ["ConversionReport", "VariantReport", "convert"]


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
            job = Job(plan, opened, data, make_reference(opened, data.held_out, data.description, seed), writer, say)
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


def _reader_of(source: Path) -> Reader:
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


def _provenance(source: Path, opened: SourceModel, data: CalibrationData, seed: int) -> dict[str, Any]:
    samples = data.samples
    return {
        "source": {"name": source.name, "kind": opened.kind, "sha256": _hash(source)},
        "card": data.card.name if data.card else None,
        "tools": {"edgekit": __version__, **opened.versions},
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
