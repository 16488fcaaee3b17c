"""The verb `evaluate`: how good the answers are, on data that says what is true."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.errors import ConversionError, EdgekitError, InputError, UnavailableError, UnsupportedError
from edgekit.evaluating.asking import ANSWERS, Asked, Predictor, Progress, ask, ask_session
from edgekit.evaluating.data import Examined, Question, open_data
from edgekit.evaluating.pairing import held_against
from edgekit.evaluating.records import Absent, Evaluation, Evaluations, Versus, parse_drop
from edgekit.evaluating.source import NONE, Source, find_source, opened
from edgekit.loading import is_bundle, load
from edgekit.named_files import file_of
from edgekit.processing import Processing
from edgekit.recipe import ALIASES
from edgekit.runtime import Session

__all__ = ["ANSWERS", "Absent", "Evaluation", "Evaluations", "Predictor", "Versus", "evaluate", "evaluate_variants"]


def evaluate(
    model: str | Path | Predictor,
    data: str | Path,
    *,
    metric: str | None = None,
    split: str | None = None,
    num_samples: int | None = None,
    images: str | Path | None = None,
    runtime: str | None = None,
    variant: str | None = None,
    threads: int | None = None,
    strict: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """The metric of one model on data whose truth is known, each sample answered as `predict` answers it.

    Args:
        model: A bundle, a .tflite, .onnx or .xml file, or any object with `predict`. Of a bundle the best variant this
            device can run is taken, unless another is asked for.
        data: Name of a data set, a folder with a ``dataset.yaml`` or that file; or a folder or file in any form that
            `edgekit.readers` knows: class folders, tables, COCO, YOLO, VOC, arrays, texts.
        metric: Name of a metric; by default what the data's task, or its truth, calls for.
        split: Which samples of data that have splits; by default those to test on.
        num_samples: Take so many, drawn with `seed`; None takes all.
        images: The folder of the files that the data name, where that is apart.
        runtime: Insist on a runtime; for a file.
        variant: Insist on a variant; for a bundle.
        threads: Threads for one call; for a file.
        strict: Raise where a sample cannot be answered, rather than list it and go on without it.
        seed: Of the draw, and of the bootstrap that gives the interval.
        progress: Called with samples done, samples in all, and what is evaluated.

    Raises:
        ArtifactError: The model is missing or damaged.
        InputError: The data cannot be read, does not fit the model, or lacks the truth the metric needs.
        UnsupportedError: There is no such metric, variant or runtime.
        UnavailableError: No engine for the model works here.
    """
    examined = open_data(_question(data, metric, split, num_samples, seed, images))
    if not isinstance(model, str | Path):
        name = str(getattr(model, "name", type(model).__name__))
        return ask(model, examined, name, progress, strict=strict, seed=seed).evaluation
    file = file_of(model)
    with load(file, runtime=runtime, variant=variant, threads=threads) as session:
        return ask_session(session, file, examined, progress, strict=strict, seed=seed).evaluation


def evaluate_variants(
    path: str | Path,
    data: str | Path,
    *,
    precision: str | None = None,
    variant: str | None = None,
    source: str | Path = NONE,
    max_drop: float | str | None = None,
    metric: str | None = None,
    split: str | None = None,
    num_samples: int | None = None,
    images: str | Path | None = None,
    runtime: str | None = None,
    threads: int | None = None,
    strict: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluations:
    """`evaluate` for every variant of a bundle that this device can run, on the same samples, beside the source.

    Each is held against the source, or, where that is not asked, the first variant in fp32: see
    `edgekit.evaluating.pairing.held_against`.

    Args:
        path: A bundle; a model file, or a model by name, has one variant.
        precision: Only variants of it, such as ``"int8"``.
        variant: Only this one.
        source: The model it was made of, which is asked too; ``"auto"`` takes the file the bundle names if it is still
            there and the same; ``"none"`` asks none.
        max_drop: How much of the metric may be lost, in percent: ``unmet`` of the result says which variants lose more.
        runtime: Only what this runtime opens.

    The other arguments and the errors are those of `evaluate`; an error that all variants share is raised.
    """
    drop = None if max_drop is None else parse_drop(max_drop)
    examined = open_data(_question(data, metric, split, num_samples, seed, images))
    file = file_of(path)
    origin = find_source(source, file)
    found, absent = list[Asked](), list[Absent]()
    failed: EdgekitError | None = None
    beside: Asked | None = None
    for name in _variants(file, precision, variant):
        try:
            session = load(file, runtime=runtime, variant=name, threads=threads)
        except EdgekitError as error:
            failed = failed or error
            absent.append(Absent(name or file.name, error.message, error.hint))
            continue
        with session:
            found.append(ask_session(session, file, examined, progress, strict=strict, seed=seed))
            if len(found) == 1:
                beside, origin = _ask_source(origin, session, examined, progress, strict, seed)
    if not found and failed is not None:
        raise failed
    evaluations = _paired(found, beside, examined, drop, seed)
    return Evaluations(evaluations, tuple(absent), beside.evaluation if beside else None, origin.note, drop)


def _ask_source(
    origin: Source, session: Session, examined: Examined, progress: Progress | None, strict: bool, seed: int
) -> tuple[Asked | None, Source]:
    """What the source answers, through the processing of a session of what it became; why not, where nobody insists."""
    if origin.path is None:
        return None, origin
    name, processing = f"source {origin.path.name}", session.processing or Processing()
    try:
        with opened(origin.path, processing, session.signature) as model:
            return ask(model, examined, name, progress, strict=strict, seed=seed), origin
    except (ConversionError, UnavailableError) as error:
        if origin.is_insisted_on:
            raise
        return None, Source(None, f"{origin.path} could not be asked: {error.message}")


def _question(
    data: str | Path,
    metric: str | None,
    split: str | None,
    limit: int | None,
    seed: int,
    images: str | Path | None,
) -> Question:
    return Question(data, metric, split, limit, seed, None if images is None else Path(images))


def _paired(
    found: list[Asked], beside: Asked | None, examined: Examined, drop: float | None, seed: int
) -> tuple[Evaluation, ...]:
    """Each held against the source, or the first in fp32, or nothing."""
    base = beside or next((one for one in found if one.evaluation.precision == "fp32"), None)
    others = [one for one in found if one is not base]
    if drop is not None and (base is None or not others):
        raise InputError("--max-drop needs something to lose against", hint="--source MODEL, or a bundle with fp32")
    if base is None:
        return tuple(one.evaluation for one in found)
    return tuple(
        one.evaluation if one is base else held_against(one, base, examined.metric, max_drop=drop, seed=seed)
        for one in found
    )


def _variants(path: Path, precision: str | None, variant: str | None) -> list[str | None]:
    """Names of the variants to be opened; None for a model file."""
    if not is_bundle(path):
        if precision is not None:
            raise UnsupportedError(f"{path} is a model file, not a bundle: it has no variants to choose from")
        return [variant]
    if variant is not None:
        return [variant]
    variants = Bundle.open(path).variants
    wanted = ALIASES.get(precision, precision) if precision is not None else None
    names: list[str | None] = [one.name for one in variants if wanted in (None, one.precision)]
    if not names:
        raise UnsupportedError(
            f"{path} has no variant of {precision}", hint=f"it has {', '.join(v.precision for v in variants)}"
        )
    return names
