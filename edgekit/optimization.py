"""The verb `optimize`: what serves a model best on a device, found by making and measuring, and shipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgekit.bundle import BundleWriter
from edgekit.conversion.given import Beside
from edgekit.converter import SourceOptions, parse_input_shape
from edgekit.optimizing.cost import parse_budget
from edgekit.optimizing.material import Wanted
from edgekit.optimizing.records import OptimizationReport, TrialRecord
from edgekit.optimizing.run import Run, plan_space
from edgekit.processing import Processing
from edgekit.target import Target

__all__ = ["OptimizationReport", "TrialRecord", "optimize"]


def optimize(
    source: Any,
    output: str | Path,
    *,
    data: str | Path | None = None,
    metric: str | None = None,
    max_drop: float | str | None = None,
    min_sqnr_db: float | str | None = None,
    objective: str = "latency",
    target: str | Target = "host",
    format: str | Sequence[str] | None = None,
    precision: str | Sequence[str] | None = None,
    threads: int | Sequence[int] | None = None,
    budget: str | float | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    keep_front: bool = False,
    weights: str | Path | None = None,
    input_shape: str | Sequence[str] = (),
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    calibration_data: Any = None,
    num_samples: int | None = None,
    processing: Processing | str | None = None,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    progress: Callable[[str], None] | None = None,
) -> OptimizationReport:
    """Makes files by every recipe that can win, measures them with every engine, and ships the best that keeps enough.

    What is shipped is within `max_drop` of the source on all of the data, and not slower than the fp32 file of its
    engine nor than the best fp32 file; where nothing else is, that is what is shipped. Every finished trial is kept in
    the cache folder: a run that was ended, by whatever, goes on there when it is started again.

    Args:
        source: As `edgekit.convert` takes it.
        output: ``NAME.edge`` or ``NAME.edge.zip``.
        data: Labeled data as `edgekit.evaluate` takes them, which files are judged by; without labels they are judged
            by agreement with the source. Where `calibration_data` is not given a part of it is calibrated on, and that
            part is not judged by. Default: for a model by name its own.
        metric: Of the data, by default what they call for; ``"agreement"`` needs no labels.
        max_drop: How much of it may be lost, in percent; 0.5 by default.
        min_sqnr_db: Signal to noise against the source that must be kept, in place of the metric.
        objective: ``"latency"``, ``"throughput"``, ``"size"``, ``"memory"``, ``"startup"`` or ``"cpu-time"``.
        target: The device; what is measured is measured here.
        format: Only these.
        precision: Only these recipes; fp32 is always made, to hold the others against.
        threads: Only these counts; by default one and all cores, or what the target says.
        budget: Time for all of it, such as ``"10m"``, or a number of seconds; then the best so far is shipped. Files in
            fp32 are made, and the final is held, whatever the time.
        scheduler: Address of a scheduler of dask, ``"tcp://HOST:8786"``, whose workers do the trials.
        resume: Take what a run that came to its end has measured as well; without, only files and answers are.
        keep_front: Ship with the best all others that nothing beats in latency, size, memory and metric at once.
        weights, input_shape, example_inputs, dynamic_shapes, calibration_data, num_samples, processing: As of
            `edgekit.convert`.
        seed: Of everything that is random.
        force: Replace an existing bundle.
        dry_run: Only say what there is to try.
        progress: Called with a line at each step.

    Raises:
        ArtifactError: The source is missing or corrupt, or another run of it is at work.
        InputError: Data are missing or do not fit; an argument makes no sense; the output exists.
        UnsupportedError: There is no road from the source to the target, or no fp32 file can be made.
        UnavailableError: No scheduler answers.
    """
    wanted = Wanted(data, metric, max_drop, min_sqnr_db, calibration_data, num_samples, processing, seed)
    options = SourceOptions(tuple(map(parse_input_shape, _names(input_shape))))
    beside = Beside(weights, options, example_inputs, dynamic_shapes, seed)
    counts = [threads] if isinstance(threads, int) else list(threads or ())
    space = plan_space(source, beside, target, objective, _names(format), _names(precision), counts)
    run = Run(space, wanted, parse_budget(budget), scheduler, resume, keep_front, progress or (lambda line: None))
    if dry_run:
        return run.planned()
    with BundleWriter(Path(output), force=force) as writer:
        return run.into(writer)


def _names(value: str | Sequence[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
