"""Asking a model about every sample, one after the other, and keeping of it what the metric needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from edgekit.card import find_card
from edgekit.errors import InputError
from edgekit.evaluating.data import Examined
from edgekit.evaluating.records import Evaluation
from edgekit.metrics import Metric, Tally
from edgekit.metrics.intervals import interval_of
from edgekit.metrics.ranking import NORMAL
from edgekit.processing import Processing
from edgekit.registry import RUNTIMES
from edgekit.runtime import Session
from edgekit.samples import Samples

__all__ = ["ANSWERS", "Asked", "Predictor", "Progress", "ask", "ask_session", "suited"]

ANSWERS = {"miou": {"op": "class_map"}, "dice": {"op": "class_map"}, "pixel-accuracy": {"op": "class_map"}}
"""What a bare model file's output goes through, which says nothing of what it means."""

Progress = Callable[[int, int, str], None]

_HOPELESS = 20
"""So many samples that fail, and none that does not, are no accident."""

_EVERY = 1 << 20


class Predictor(Protocol):
    """Whatever answers samples: a `Session`, or an object of the user's own."""

    def predict(self, value: Any) -> Any: ...


@dataclass(frozen=True)
class Asked:
    """What a model answered.

    Attributes:
        evaluation: The figures.
        tally: What is kept of the samples.
        places: Which samples those are, from 0.
    """

    evaluation: Evaluation
    tally: Tally
    places: tuple[int, ...]


def suited(processing: Processing, metric: Metric) -> Processing:
    """The processing with an answer of every class where the metric needs that, and of five for the best five."""
    if not processing.outputs or not (metric.needs_every_class or metric.name == "top5"):
        return processing
    *before, last = processing.outputs
    if last["op"] not in ("top_k", "argmax") or (metric.name == "top5" and int(last.get("k", 1)) >= 5):
        return processing
    return replace(processing, outputs=(*before, {"op": "top_k", "k": _EVERY}))


def ask_session(
    session: Session, path: Path, examined: Examined, progress: Progress | None, *, strict: bool = False, seed: int = 0
) -> Asked:
    """`ask` of a session, with the processing of its bundle, of its card, or one that suits the metric."""
    if session.processing is None:
        card, steps = find_card(path), ANSWERS.get(examined.metric.name)
        bare = Processing(outputs=(steps,) if steps else (), labels=examined.labels)
        session.processing = card.processing if card else bare
    session.processing = suited(session.processing, examined.metric)
    return ask(session, examined, str(path), progress, strict=strict, seed=seed)


def ask(
    model: Predictor,
    examined: Examined,
    name: str,
    progress: Progress | None,
    *,
    strict: bool = False,
    seed: int = 0,
) -> Asked:
    """The figures of a model on all samples.

    Args:
        model: What is asked.
        examined: The samples, and what is judged by.
        name: What the model is called.
        progress: Called with samples done, samples in all, and what is evaluated.
        strict: Raise where one sample cannot be answered, rather than go on without it.
        seed: Of the bootstrap.

    Raises:
        InputError: No sample can be answered; with `strict` any; or answers are not such as the metric judges.
    """
    about = _about(model, name)
    labels, warnings = _labels(model, examined)
    metric, samples = examined.metric, examined.samples
    told = (lambda p: progress(p, len(samples), about["variant"])) if progress is not None else (lambda place: None)
    tally, places, failed = _answered(model, examined, labels, told, strict=strict)
    score = metric.result(tally)
    found = Evaluation(
        **about,
        metric=metric.name,
        title=metric.title,
        is_higher_better=metric.is_higher_better,
        value=score.value,
        per_class=dict(score.per_class),
        count=len(places),
        data=examined.given,
        split=examined.split,
        data_sha256=samples.sha256,
        skipped=samples.skipped,
        interval=interval_of(tally, metric.resamples, seed, is_share=metric.is_share),
        support=dict(score.support),
        confusion=score.confusion,
        failed=tuple(failed),
        warnings=(*warnings, *score.notes),
    )
    return Asked(found, tally, tuple(places))


def _labels(model: Predictor, examined: Examined) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes by index: the model's, the data's, or, as trainers take folders, those that occur by name.

    Raises:
        InputError: The model has no names for its classes, and it cannot be told which of the data's is which.
    """
    processing = model.processing if isinstance(model, Session) else getattr(model, "processing", None)
    labels = (processing.labels if processing else ()) or examined.labels
    if labels:
        return labels, examined.warnings_for(labels)
    found = examined.samples.found
    outputs = processing.outputs if processing else ()
    is_class = examined.metric.truths == ("label",) and (not outputs or outputs[-1]["op"] in ("top_k", "argmax"))
    is_score = examined.metric.needs_every_class and NORMAL in found
    if not isinstance(model, Session) or not is_class or is_score or all(map(_is_index, found)):
        return (), ()
    sizes = [spec.shape[-1] for spec in model.signature.outputs if spec.shape]
    if len(found) in sizes or (sizes == [1] and len(found) == 2):
        shown = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
        said = f"the model has no names for its classes: they are taken to be those of the data, by name: {shown}"
        return found, (said,)
    raise InputError(
        f"the model has no names for its classes, outputs of size {sizes}, and the data have {len(found)}: "
        f"{', '.join(found[:8])}",
        hint="call classes of the data by index, or give a processing with labels when converting",
    )


def _is_index(name: str) -> bool:
    """Whether a class is called by its index, as data call it or as answers of a model without names do."""
    return name.removeprefix("class ").isdecimal()


def _about(model: Predictor, name: str) -> dict[str, Any]:
    """What is asked, and what runs it."""
    if not isinstance(model, Session):
        nothing = dict.fromkeys(("precision", "runtime", "runtime_version", "artifact_sha256"))
        return {"model": name, "variant": Path(name).name, **nothing}
    artifact = model.artifact
    return {
        "model": name,
        "variant": artifact.name if artifact else Path(name).name,
        "precision": artifact.precision if artifact else None,
        "runtime": model.runtime,
        "runtime_version": RUNTIMES.get(model.runtime).probe().version,
        "artifact_sha256": artifact.files[0].sha256 if artifact else None,
    }


_Answered = tuple[Tally, list[int], list[tuple[str, str]]]


def _answered(
    model: Predictor, examined: Examined, labels: Sequence[str], told: Callable[[int], None], *, strict: bool
) -> _Answered:
    """What is kept of the samples, which those are, and which could not be answered for what reason."""
    metric, samples = examined.metric, examined.samples
    if strict and samples.skipped:
        name, reason = samples.skipped[0]
        raise InputError(f"{samples.path}: {len(samples.skipped)} files cannot be read, the first {name}: {reason}")
    tally, places = metric.start(labels), list[int]()
    errors: list[tuple[str, InputError]] = []
    for place, sample in enumerate(samples):
        told(place)
        metric.check(sample.truth, sample.name, labels)
        try:
            answer = model.predict(sample.value)
        except InputError as error:
            errors.append((sample.name, error))
            if strict or (not places and len(errors) == _HOPELESS):
                break
            continue
        try:
            metric.add(tally, answer, sample.truth)
        except InputError as error:
            raise _named(samples, sample.name, error) from error
        places.append(place)
    if errors and (strict or not places):
        raise _named(samples, *errors[0]) from errors[0][1]
    return tally, places, [(name, error.message) for name, error in errors]


def _named(samples: Samples, name: str, error: InputError) -> InputError:
    return InputError(f"{samples.path}, sample {name}: {error.message}", hint=error.hint)
