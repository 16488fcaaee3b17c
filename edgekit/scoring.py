"""How good a model is on samples whose truth is known: one number, found alike for every engine and every form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.family import Family, Feeds, Run
from edgekit.processing import Processing
from edgekit.registry import METRICS
from edgekit.samples import Samples
from edgekit.spec import Signature

__all__ = ["BATCH", "Question", "make_scorer", "questions_of", "score"]

BATCH = "batch"
"""What a signature calls the axis that samples lie along, where a call takes any number of them."""

_MAX_ROWS = 64


@dataclass(frozen=True)
class Question:
    """One sample as a model takes it.

    Attributes:
        name: Where it is from.
        parts: Feeds, one after the other: several where a sound has more windows than fit a call.
        truth: What is right.
    """

    name: str
    parts: tuple[Feeds, ...]
    truth: Mapping[str, Any]


def score(
    family: Family, run: Run, samples: Samples, signature: Signature, *, processing: Processing | None = None
) -> float:
    """The family's metric of what `run` answers to `samples`.

    Args:
        family: Says the metric, or judges itself.
        run: Any engine: from feeds by input name to outputs by name.
        samples: With their truths.
        signature: What `run` takes.
        processing: Where it is not the family's: other labels, another size.

    Raises:
        InputError: A sample does not fit, or has no truth the metric can use.
    """
    if family.judge is not None:
        return family.judge(run, samples, signature)
    chosen = processing or family.processing
    return _measure(family.metric, run, questions_of(family, samples, signature, chosen), signature, chosen)


def make_scorer(
    family: Family, samples: Samples, signature: Signature, processing: Processing
) -> Callable[[Run], float]:
    """A function from a `Run` to what `score` gives, that prepares the samples only once."""
    if family.judge is not None:
        judge = family.judge
        return lambda run: judge(run, samples, signature)
    asked = list(questions_of(family, samples, signature, processing))
    return lambda run: _measure(family.metric, run, asked, signature, processing)


def questions_of(
    family: Family, samples: Samples, signature: Signature, processing: Processing, *, is_training: bool = False
) -> Iterator[Question]:
    """Every sample prepared, one at a time; with `is_training`, as the family learns from them where that differs.

    Raises InputError naming the sample that does not fit.
    """
    make = (family.training.feeds if is_training else None) or family.feeds
    own = make(samples, signature) if make is not None else None
    for sample in samples:
        try:
            parts = processing.batches(sample.value, signature) if own is None else [dict(next(own))]
        except InputError as error:
            raise InputError(f"{samples.path}, sample {sample.name}: {error.message}", hint=error.hint) from error
        except StopIteration:
            raise InputError(f"{samples.path}: {family.name} makes fewer feeds than there are samples") from None
        yield Question(sample.name, tuple(parts), sample.truth)


def _measure(metric: str, run: Run, asked: Iterable[Question], signature: Signature, processing: Processing) -> float:
    answers, truths = [], []
    for group in _groups(asked, signature):
        for question, outputs in zip(group, _outputs(group, run), strict=True):
            feeds = _joined(question.parts)
            answers.append(processing.after(outputs, feeds))
            truths.append(question.truth)
    if not answers:
        raise InputError("there are no samples to judge by")
    return float(METRICS.get(metric).compute(answers, truths, processing.labels))


def _groups(asked: Iterable[Question], signature: Signature) -> Iterator[list[Question]]:
    """Questions that may share a call: single rows of the same shapes, where the signature takes any number."""
    specs = (*signature.inputs, *signature.outputs)
    is_open = all(spec.shape and spec.shape[0] == BATCH for spec in specs)
    waiting: list[Question] = []
    for question in asked:
        if waiting and not (is_open and len(waiting) < _MAX_ROWS and _shapes(waiting[0]) == _shapes(question)):
            yield waiting
            waiting = []
        waiting.append(question)
        if _shapes(question) is None:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _shapes(question: Question) -> dict[str, tuple[int, ...]] | None:
    """Shapes by input of a sample that is one row; None for any other."""
    if len(question.parts) != 1 or any(len(array) != 1 for array in question.parts[0].values()):
        return None
    return {name: array.shape for name, array in question.parts[0].items()}


def _outputs(group: list[Question], run: Run) -> list[Mapping[str, np.ndarray]]:
    if len(group) == 1:
        return [_joined([run(part) for part in group[0].parts])]
    together = _joined([question.parts[0] for question in group])
    outputs = run(together)
    return [{name: array[row : row + 1] for name, array in outputs.items()} for row in range(len(group))]


def _joined(parts: Iterable[Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """The arrays of all parts by name, one after the other."""
    found = list(parts)
    if len(found) == 1:
        return found[0]
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}
