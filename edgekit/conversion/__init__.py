"""The verb `convert`: runs a plan, verifies every file against the source, and writes the bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.bundle import BundleWriter
from edgekit.card import find_card
from edgekit.conversion.accuracy import MAX_LOSS, Judge
from edgekit.conversion.calibration import CalibrationData
from edgekit.conversion.gathering import gather_data, open_source, provenance_of, take_samples
from edgekit.conversion.given import Beside, Given, OwnData, Planner, find_given
from edgekit.conversion.job import Job
from edgekit.conversion.reference import make_reference
from edgekit.conversion.reports import ConversionReport, VariantReport
from edgekit.conversion.wish import Wanted, Wish, make_wish, searched
from edgekit.converter import SourceModel, SourceOptions, parse_input_shape
from edgekit.plan import PlannedVariant, make_plan
from edgekit.processing import Processing
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS
from edgekit.target import Target

__all__ = ["ConversionReport", "VariantReport", "convert"]


def convert(
    source: Any,
    output: str | Path,
    *,
    weights: str | Path | None = None,
    input_shape: str | Sequence[str] = (),
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    target: str | Target = "host",
    precision: str | Sequence[str] = ("fp32",),
    format: str | Sequence[str] | None = None,
    road: str = "",
    recipe: Recipe | str | Path | None = None,
    calibration_data: Any = None,
    num_samples: int | None = None,
    eval_data: str | Path | None = None,
    metric: str | None = None,
    max_drop: float | str | None = None,
    min_sqnr_db: float | str | None = None,
    processing: Processing | str | None = None,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
    counting: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Turns a trained model into a bundle of files for a device, each verified against the source.

    Args:
        source: The path of a .keras or .h5 file, a SavedModel folder, an .onnx, .pt2 or TorchScript file, told apart by
            content; a string that names a model, such as ``"resnet:tiny"``, whose data for calibrating and judging
            come with it; ``"FILE.py:FUNCTION"``, which gives a PyTorch module, and is run; or a PyTorch module or
            Keras model itself.
        output: ``NAME.edge`` (a folder) or ``NAME.edge.zip``.
        weights: For a model by name: a file or a hub; by default those that ship. For a function: a file.
        input_shape: How large inputs are, each as ``[NAME=]SIZE,SIZE,...[:DTYPE]``, such as ``"ids=batch,128:int64"``;
            a size that is a word stays open. Needed for a function, and for TorchScript that does not say it; of other
            sources it fixes sizes they leave open, which TFLite wants.
        example_inputs: For a PyTorch module: a tuple of the tensors it is called with, or a dict of them by name.
        dynamic_shapes: For a PyTorch module: which sizes stay open, as ``torch.export.export`` takes it; by default
            the batch, where PyTorch can export it so.
        target: A named target or the path of one's own.
        precision: Names of `edgekit.recipe.NAMED`, or ``"int8"``.
        format: Of those the target takes; all of them by default.
        road: Take only this one, such as ``"hub"``; a dry run shows those there are.
        recipe: Rules of one's own in place of `precision`.
        calibration_data: Needed for int8: images, .npy, .npz, .wav or .txt, or a folder of them; an array or a list of
            samples, or whatever gives one after the other, see `edgekit.conversion.offered.read_offered`;
            ``"random"`` or ``"random:64"`` for noise, which is marked as such.
        num_samples: Use at most so many of them.
        eval_data: Labeled data as `edgekit.evaluate` takes them, by which a recipe is searched for; by default, for a
            model by name its own, else the samples held out from calibration, without labels.
        metric: Of `eval_data`, by default what the data call for; ``"agreement"`` with the source needs no labels.
        max_drop: How much of the metric may be lost, in percent, such as 0.5: int8 is then the recipe ``"auto"``, the
            form of 8 bits that is found to keep it. ``auto`` without it keeps 99 % agreement, or 20 dB. More than 2
            also loosens what a model by name is held to.
        min_sqnr_db: Signal to noise against the source, in dB, that must be kept on the samples held out from
            calibration: int8 is then searched for too. Beside `max_drop` or `metric` both must hold.
        processing: How they become feeds: a `Processing`, the name of a preset, or a .json file. By default that of
            the model's card, if the model is known.
        seed: Of the random feeds.
        force: Replace an existing bundle.
        dry_run: Only decide; nothing is read but the source's kind, nothing is written.
        progress: Called with a line at each step.
        counting: Called within a step with how many samples, of how many, are done.

    Raises:
        ArtifactError: The source is missing, corrupt or of no format edgekit reads.
        InputError: Calibration data are missing or do not fit; the output exists; a shape is missing or not needed.
        UnsupportedError: Nothing of what was asked for is possible; every reason is listed.
    """
    say = progress or (lambda line: None)
    wanted = Wanted(eval_data, metric, max_drop, min_sqnr_db, seed)
    beside = Beside(weights, _options(input_shape), example_inputs, dynamic_shapes, seed)
    given = find_given(source, beside, _planner(target, _recipes(precision, recipe, wanted), _names(format), road))
    if dry_run:
        return ConversionReport(given.plan, None, tuple(map(_planned, given.plan.variants)), given.notes)
    with BundleWriter(Path(output), force=force) as writer:
        samples, own = take_samples(given, calibration_data, num_samples, seed)
        say(f"reading {given.plan.source} ({given.reader.name})")
        path = given.place(writer.stage)
        with closing(open_source(given, path, beside.options, writer.stage, card := find_card(path))) as opened:
            data = gather_data(given, opened, card, processing, samples, own, counting, is_own=calibration_data is None)
            provenance = provenance_of(given, path, opened, data, seed)
            return _job(given, own, opened, data, wanted, provenance, writer, say).run(provenance)


def _job(
    given: Given,
    own: OwnData,
    opened: SourceModel,
    data: CalibrationData,
    wanted: Wanted,
    provenance: dict[str, Any],
    writer: BundleWriter,
    say: Callable[[str], None],
) -> Job:
    """All that is gathered, with the source's own answers and what is wanted of a recipe that is searched for."""
    say("asking the source for its own answers")
    reference = make_reference(opened, data.held_out, data.description, wanted.seed)
    wish = make_wish(replace(wanted, own=own.dataset), opened, data, given.plan, provenance)
    judge = _judge(given, own, data, opened, wish)
    return Job(given.stem, given.plan, opened, data, reference, writer, say, judge, wish)


def _planner(target: str | Target, recipes: Sequence[Recipe], formats: Sequence[str], road: str) -> Planner:
    chosen, converters = target if isinstance(target, Target) else Target.named(target), [c for _, c in CONVERTERS]
    return lambda name, reader: make_plan(name, reader, chosen, recipes, formats, converters, road)


def _names(value: str | Sequence[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _options(input_shape: str | Sequence[str]) -> SourceOptions:
    return SourceOptions(tuple(map(parse_input_shape, _names(input_shape))))


def _recipes(precision: str | Sequence[str], recipe: Recipe | str | Path | None, wanted: Wanted) -> list[Recipe]:
    if isinstance(recipe, Recipe):
        return searched([recipe], wanted)
    if recipe is not None:
        return searched(
            [Recipe.from_file(Path(recipe)) if str(recipe).endswith(".json") else Recipe.named(str(recipe))], wanted
        )
    return searched(list({r.name: r for r in map(Recipe.named, _names(precision))}.values()), wanted)


def _planned(variant: PlannedVariant) -> VariantReport:
    return VariantReport(
        name=variant.name,
        format=variant.format,
        precision=variant.precision,
        recipe=variant.recipe.name,
        status="planned" if variant.roads else "refused",
        reason=variant.refusal,
        road=" | ".join(road.name for road in variant.roads),
    )


def _judge(given: Given, own: OwnData, data: CalibrationData, opened: SourceModel, wish: Wish) -> Judge | None:
    if given.model is None or own.dataset is None:
        return None
    allowed = max(MAX_LOSS, wish.max_drop or 0.0)
    return Judge(given.model, own.dataset, data.processing, opened, allowed)
