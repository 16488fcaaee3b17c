"""The verb `evaluate`: how good the answers are, on data that says what is true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekit.bundle import Bundle
from edgekit.card import find_card
from edgekit.datasets import open_dataset
from edgekit.datasets.description import DESCRIPTION
from edgekit.errors import EdgekitError, InputError, UnsupportedError
from edgekit.loading import is_bundle, load
from edgekit.metrics import Metric, Truth
from edgekit.named_files import file_of
from edgekit.processing import Processing
from edgekit.recipe import ALIASES
from edgekit.registry import DATASETS, METRICS, RUNTIMES
from edgekit.runtime import Session
from edgekit.samples import Sample, Samples, read_samples

__all__ = ["ANSWERS", "Absent", "Evaluation", "Evaluations", "evaluate", "evaluate_variants"]

SCHEMA = "edgekit.evaluation"
VERSION = 1

_BY_TASK = (
    ("anomaly", "auc"),
    ("detection", "map50"),
    ("segmentation", "miou"),
    ("classification", "top1"),
    ("spotting", "top1"),
    ("image to image", "ssim"),
    ("regression", "rmse"),
    ("language model", "perplexity"),
    ("text generation", "perplexity"),
    ("audio generation", "bits-per-token"),
)
"""A word of the data's task -> the metric; the first that occurs."""

_BY_TRUTH = {"boxes": "map50", "mask": "miou", "target": "ssim", "label": "top1"}

ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "top1": {"op": "top_k", "k": 1},
    "top5": {"op": "top_k", "k": 5},
    "miou": {"op": "class_map"},
}
"""What a bare model file's output goes through, which says nothing of what it means."""

Progress = Callable[[int, int, str], None]


class Predictor(Protocol):
    """Whatever answers samples: a `Session`, or an object of the user's own."""

    def predict(self, value: Any) -> Any: ...


@dataclass(frozen=True)
class Evaluation:
    """What a metric found for one variant.

    Attributes:
        model: What was evaluated, as it was given.
        variant: Name in the bundle, the file's name, or the type of an object.
        precision: Of the variant; None where nobody says.
        runtime: What ran it; None for an object that is no session.
        runtime_version: Package and version of the engine.
        artifact_sha256: Of the variant's first file, where it is of a bundle.
        metric: Name of the metric.
        title: What that is, with its unit.
        is_higher_better: Whether more is better.
        value: Over all samples.
        per_class: The same by class, where that makes sense.
        count: Samples that were answered.
        data: What the data was given as.
        split: The split of it; None where it has none.
        data_sha256: Of the content of the samples and of which they are.
        skipped: Files of the data that were left out, each with the reason.
    """

    model: str
    variant: str
    precision: str | None
    runtime: str | None
    runtime_version: str | None
    artifact_sha256: str | None
    metric: str
    title: str
    is_higher_better: bool
    value: float
    per_class: Mapping[str, float]
    count: int
    data: str
    split: str | None
    data_sha256: str
    skipped: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "version": VERSION, **asdict(self)}


@dataclass(frozen=True)
class Absent:
    """A variant that could not be opened here, and what to do about it."""

    variant: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Evaluations:
    """All variants of a bundle on the same samples."""

    evaluations: tuple[Evaluation, ...]
    absent: tuple[Absent, ...] = ()

    def to_json(self) -> dict[str, Any]:
        rows = [asdict(evaluation) for evaluation in self.evaluations]
        own = ("variant", "precision", "runtime", "runtime_version", "artifact_sha256", "value", "per_class")
        return {
            "schema": SCHEMA,
            "version": VERSION,
            **{key: value for key, value in rows[0].items() if key not in own},
            "variants": [{key: row[key] for key in own} for row in rows],
            "absent": [asdict(absent) for absent in self.absent],
        }


def evaluate(
    model: str | Path | Predictor,
    data: str | Path,
    *,
    metric: str | None = None,
    split: str = "test",
    num_samples: int | None = None,
    runtime: str | None = None,
    variant: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """The metric of one model on data whose truth is known, each sample answered as `predict` answers it.

    Args:
        model: A bundle, a .tflite, .onnx or .xml file, or any object with `predict`. Of a bundle the best variant this
            device can run is taken, unless another is asked for.
        data: Name of a data set, a folder with a ``dataset.yaml`` or that file; or a plain folder or .npz file of
            samples with their truth.
        metric: Name of a metric; by default what the data's task, or its truth, calls for.
        split: Which samples of a data set; a plain folder has no splits.
        num_samples: Take so many, drawn with `seed`; None takes all.
        runtime: Insist on a runtime; for a file.
        variant: Insist on a variant; for a bundle.
        threads: Threads for one call; for a file.
        seed: Of the draw.
        progress: Called with samples done, samples in all, and what is evaluated.

    Raises:
        ArtifactError: The model is missing or damaged.
        InputError: The data cannot be read, does not fit the model, or lacks the truth the metric needs.
        UnsupportedError: There is no such metric, variant or runtime.
        UnavailableError: No engine for the model works here.
    """
    examined = _open_data(data, split, num_samples, seed, metric)
    if not isinstance(model, str | Path):
        return _evaluate(model, examined, str(getattr(model, "name", type(model).__name__)), progress)
    file = file_of(model)
    with load(file, runtime=runtime, variant=variant, threads=threads) as session:
        return _evaluate_file(session, file, examined, progress)


def evaluate_variants(
    path: str | Path,
    data: str | Path,
    *,
    precision: str | None = None,
    metric: str | None = None,
    split: str = "test",
    num_samples: int | None = None,
    runtime: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluations:
    """`evaluate` for every variant of a bundle that this device can run, on the same samples.

    Args:
        path: A bundle; a model file, or a model by name, has one variant.
        precision: Only variants of it, such as ``"int8"``.
        runtime: Only what this runtime opens.

    The other arguments and the errors are those of `evaluate`; an error that all variants share is raised.
    """
    examined = _open_data(data, split, num_samples, seed, metric)
    found: list[Evaluation] = []
    absent: list[Absent] = []
    errors: list[EdgekitError] = []
    file = file_of(path)
    for variant in _variants(file, precision):
        try:
            session = load(file, runtime=runtime, variant=variant, threads=threads)
        except EdgekitError as error:
            errors.append(error)
            absent.append(Absent(variant or file.name, error.message, error.hint))
            continue
        with session:
            found.append(_evaluate_file(session, file, examined, progress))
    if not found:
        raise errors[0]
    return Evaluations(tuple(found), tuple(absent))


def _variants(path: Path, precision: str | None) -> list[str | None]:
    """Names of the variants to be opened; None for a model file."""
    if not is_bundle(path):
        if precision is not None:
            raise UnsupportedError(f"{path} is a model file, not a bundle: it has no variants to choose from")
        return [None]
    variants = Bundle.open(path).variants
    wanted = ALIASES.get(precision, precision) if precision is not None else None
    names: list[str | None] = [one.name for one in variants if wanted in (None, one.precision)]
    if not names:
        raise UnsupportedError(
            f"{path} has no variant of {precision}", hint=f"it has {', '.join(v.precision for v in variants)}"
        )
    return names


@dataclass(frozen=True)
class _Examined:
    """The samples, the classes they speak of, and the metric they are judged by."""

    given: str
    split: str | None
    samples: Samples
    labels: tuple[str, ...]
    metric: Metric = field(repr=False)


def _open_data(data: str | Path, split: str, limit: int | None, seed: int, metric: str | None) -> _Examined:
    is_named = isinstance(data, str) and data in DATASETS.names()
    path = Path(data)
    is_plain = path.suffix.lower() not in (".yaml", ".yml") and path.exists() and not (path / DESCRIPTION).exists()
    if is_plain and not is_named:
        samples = read_samples(path, limit=limit, seed=seed)
        return _Examined(str(data), None, samples, (), _metric(metric, "", samples))
    dataset = open_dataset(data)
    samples = dataset.samples(split, limit=limit, seed=seed)
    return _Examined(str(data), split, samples, dataset.labels, _metric(metric, dataset.task, samples))


def _metric(name: str | None, task: str, samples: Samples) -> Metric:
    if name is not None:
        return METRICS.get(name)
    words = task.lower().replace("-", " ")
    for word, metric in _BY_TASK:
        if word in words:
            return METRICS.get(metric)
    truth: Truth = next(iter(samples)).truth
    for key, metric in _BY_TRUTH.items():
        if key in truth:
            return METRICS.get(metric)
    raise InputError(
        f"{samples.path} does not say what is true of its samples",
        hint="put files into folders named after their classes, or write a labels.jsonl beside them",
    )


def _evaluate_file(session: Session, path: Path, examined: _Examined, progress: Progress | None) -> Evaluation:
    if session.processing is None:
        card = find_card(path)
        steps = ANSWERS.get(examined.metric.name)
        session.processing = (
            card.processing if card else Processing(outputs=(steps,) if steps else (), labels=examined.labels)
        )
    return _evaluate(session, examined, str(path), progress)


def _evaluate(model: Predictor, examined: _Examined, name: str, progress: Progress | None) -> Evaluation:
    metric, samples = examined.metric, examined.samples
    session = model if isinstance(model, Session) else None
    artifact = session.artifact if session else None
    variant = artifact.name if artifact else Path(name).name
    processing = session.processing if session else getattr(model, "processing", None)
    labels = (processing.labels if processing else ()) or examined.labels
    answers: list[Any] = []
    truths: list[Truth] = []
    for sample in samples:
        if progress is not None:
            progress(len(answers), len(samples), variant)
        metric.check(sample.truth, sample.name, labels)
        answers.append(_compact(_answer(model, sample, samples)))
        truths.append(sample.truth)
    score = metric.score(answers, truths, labels)
    return Evaluation(
        model=name,
        variant=variant,
        precision=artifact.precision if artifact else None,
        runtime=session.runtime if session else None,
        runtime_version=RUNTIMES.get(session.runtime).probe().version if session else None,
        artifact_sha256=artifact.files[0].sha256 if artifact else None,
        metric=metric.name,
        title=metric.title,
        is_higher_better=metric.is_higher_better,
        value=score.value,
        per_class=dict(score.per_class),
        count=len(answers),
        data=examined.given,
        split=examined.split,
        data_sha256=samples.sha256,
        skipped=samples.skipped,
    )


def _answer(model: Predictor, sample: Sample, samples: Samples) -> Any:
    try:
        return model.predict(sample.value)
    except InputError as error:
        raise InputError(f"{samples.path}, sample {sample.name}: {error.message}", hint=error.hint) from error


def _compact(answer: Any) -> Any:
    """Nested lists of numbers as an array of the narrowest integers they fit: there may be thousands of pictures."""
    inner: Any = answer
    while isinstance(inner, Sequence) and not isinstance(inner, str) and len(inner):
        inner = inner[0]
    if inner is answer or not isinstance(inner, int | float):
        return answer
    array = np.asarray(answer)
    return array.astype(np.min_scalar_type(array.max())) if array.dtype.kind in "iu" and array.min() >= 0 else array
