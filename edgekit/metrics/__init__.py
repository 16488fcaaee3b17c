"""How good answers are: a metric takes what a model's processing answered and what the data says is true.

A metric stands in `METRICS`; a package adds its own through the entry-point group ``edgekit.metrics``. Samples go by
one at a time: a `Tally` keeps some numbers of each, and never a picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import EdgekitError, InputError
from edgekit.registry import METRICS

__all__ = ["METRICS", "Confusion", "Metric", "Score", "Tally", "Truth", "class_name", "single_array"]

Truth: TypeAlias = Mapping[str, Any]
"""What the data says of a sample: ``label``, ``boxes``, ``mask``, ``segments``, ``transcript`` or ``target``."""


@dataclass(frozen=True)
class Confusion:
    """How often samples, or pixels, of each class were taken for each.

    Attributes:
        labels: The classes by index.
        cells: ``(true class, answered class, count)`` for every pair that occurs, in order.
    """

    labels: tuple[str, ...]
    cells: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, labels: Sequence[str], counts: np.ndarray) -> Confusion:
        """From counts [true, answered]."""
        rows, columns = np.nonzero(counts)
        cells = zip(rows.tolist(), columns.tolist(), counts[rows, columns].astype(int).tolist(), strict=True)
        return cls(tuple(labels), tuple(cells))


@dataclass(frozen=True)
class Score:
    """What a metric found.

    Attributes:
        value: Over all samples.
        per_class: The same for each class by name, where that makes sense.
        support: How many samples, boxes or pixels of each class are true, by name.
        confusion: What was taken for what, where answers are classes.
        notes: What a reader should know, such as that every answer is the same.
    """

    value: float
    per_class: Mapping[str, float] = field(default_factory=dict)
    support: Mapping[str, int] = field(default_factory=dict)
    confusion: Confusion | None = None
    notes: tuple[str, ...] = ()


class Tally(ABC):
    """What a metric keeps of the samples so far: a few numbers of each, from which any part of them can be judged.

    Every figure is one of *weighted* samples, so that a bootstrap draws samples by weights and asks again.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self.labels = tuple(labels)

    @abstractmethod
    def __len__(self) -> int:
        """Samples so far."""

    @abstractmethod
    def add(self, answer: Any, truth: Truth) -> None:
        """Takes one sample; nothing is kept of one it refuses. Raises InputError where the two cannot be compared."""

    @abstractmethod
    def values(self, weights: np.ndarray) -> np.ndarray:
        """The figure over all samples, then that of each of `classes`, NaN for a class that does not occur.

        Args:
            weights: How often each sample counts, float64 [samples].

        Raises:
            InputError: There is no such figure of these samples.
        """

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes there are figures of."""
        return ()

    @property
    def support(self) -> Mapping[str, int]:
        """How many of each class are true."""
        return {}

    @property
    def confusion(self) -> Confusion | None:
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def hits(self) -> np.ndarray | None:
        """Whether each sample is right, bool [samples], where the figure is the share of those that are."""
        return None

    @property
    def work(self) -> int:
        """About how many numbers `values` goes through."""
        return len(self)

    def shares(self) -> list[tuple[int, int]] | None:
        """For each of `values` how many of how many are right, where all of them are such shares."""
        return None


@dataclass(frozen=True)
class Metric:
    """A figure of merit.

    Attributes:
        name: As in the registry.
        title: A line for people, with its unit.
        is_higher_better: Whether more is better.
        truths: Keys of the truth of which a sample needs one; none where the answer says all.
        answer: What an answer has to be, in words.
        start: From the names of the classes to an empty tally.
        needs_every_class: Whether an answer must have the score of every class, not of the best ones only.
        is_share: Whether it is a share of 1, so that a loss means the same for all.
        resamples: Of a bootstrap; 0 where drawing samples again says nothing of how sure the figure is.
    """

    name: str
    title: str
    is_higher_better: bool
    truths: tuple[str, ...]
    answer: str
    start: Callable[[Sequence[str]], Tally]
    needs_every_class: bool = False
    is_share: bool = True
    resamples: int = 1000

    def check(self, truth: Truth, sample: str = "", labels: Sequence[str] = ()) -> None:
        """Raises InputError when a truth lacks what this metric compares answers with, or names no class of `labels`.

        What takes minutes to answer is to be checked before.
        """
        where = f"sample {sample}" if sample else "a sample"
        if self.truths and not any(truth.get(key) is not None for key in self.truths):
            what = " or ".join(f'"{key}"' for key in self.truths)
            folders = "; folders named after classes give labels too" if "label" in self.truths else ""
            raise InputError(
                f"{self.name} needs {what} for every sample, and {where} has {sorted(truth) or 'no truth'}",
                hint=f"labels.jsonl holds {what} in the line of each file{folders}",
            )
        try:
            for said in _classes(truth, self.truths):
                class_name(said, labels)
        except InputError as error:
            raise InputError(f"{where}: {error.message}", hint=error.hint) from None

    def add(self, tally: Tally, answer: Any, truth: Truth) -> None:
        """`tally.add`, with every way in which an answer can be strange as an InputError."""
        try:
            tally.add(answer, truth)
        except EdgekitError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            # An answer may be whatever a processing, or a stranger's model, makes of its outputs.
            raise InputError(
                f"{self.name} cannot judge these answers: {type(error).__name__}: {error}",
                hint=f"an answer must be {self.answer}",
            ) from error

    def result(self, tally: Tally) -> Score:
        """The figures over all samples of a tally. Raises InputError where there are none."""
        if not len(tally):
            raise InputError("there are no samples to judge by")
        first, *others = tally.values(np.ones(len(tally))).tolist()
        per_class = {name: value for name, value in zip(tally.classes, others, strict=True) if not np.isnan(value)}
        support = {name: count for name, count in tally.support.items() if name in per_class}
        return Score(first, per_class, support, tally.confusion, tally.notes)

    def score(self, answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str] = ()) -> Score:
        """The figure over all samples, and by class where that makes sense.

        Args:
            answers: One for each sample, as `Processing.after` gives them.
            truths: What is true of each sample, in the same order.
            labels: Names of the classes by index, as the model has them.

        Raises:
            InputError: There are none, not as many truths as answers, a truth lacks what is needed, or an answer is
                of another kind than this metric judges.
        """
        if not answers or len(answers) != len(truths):
            raise InputError(f"{self.name} needs a truth for each answer: {len(answers)} answers, {len(truths)} truths")
        tally = self.start(labels)
        for index, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
            self.check(truth, str(index), labels)
            self.add(tally, answer, truth)
        return self.result(tally)

    def compute(self, answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str] = ()) -> float:
        """The value of `score` alone."""
        return self.score(answers, truths, labels).value


def _classes(truth: Truth, needed: tuple[str, ...]) -> list[Any]:
    """The classes a truth names, for a metric of classes or of boxes."""
    if needed == ("boxes",):
        return [item["label"] for item in truth["boxes"]]
    return [truth["label"]] if needed == ("label",) else []


def class_name(said: Any, labels: Sequence[str]) -> str:
    """The name of the class `said`, by its name or its index. Raises InputError for one not among `labels`.

    An index may be said as "class 3", as a model without labels calls its classes; without labels it is the name.
    """
    name = str(said)
    index = name.removeprefix("class ")
    if name in labels:
        return name
    if not labels:
        return index if index.isdecimal() else name
    if index.isdecimal() and int(index) < len(labels):
        return labels[int(index)]
    shown = ", ".join(labels[:12]) + (", ..." if len(labels) > 12 else "")
    raise InputError(f"the model knows no class {name!r}", hint=f"it knows: {shown}")


def single_array(answer: Any) -> Any:
    """The only array of an answer that is outputs by name; any other answer as it is."""
    if isinstance(answer, Mapping) and len(answer) == 1 and hasattr(next(iter(answer.values())), "shape"):
        return next(iter(answer.values()))
    return answer
