"""How good answers are: a metric takes what a model's processing answered and what the data says is true.

A metric stands in `METRICS`; a package adds its own through the entry-point group ``edgekit.metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edgekit.errors import EdgekitError, InputError
from edgekit.registry import METRICS

__all__ = ["METRICS", "Measure", "Metric", "Score", "Truth", "class_name", "single_array"]

Truth: TypeAlias = Mapping[str, Any]
"""What the data says of a sample: ``label``, ``boxes``, ``mask`` or ``target``, as in a dataset's labels.jsonl."""


@dataclass(frozen=True)
class Score:
    """What a metric found.

    Attributes:
        value: Over all samples.
        per_class: The same for each class by name, where that makes sense.
    """

    value: float
    per_class: Mapping[str, float] = field(default_factory=dict)


Measure: TypeAlias = Callable[[Sequence[Any], Sequence[Truth], Sequence[str]], Score]
"""From answers, truths and names of the classes to a score; all answers are there, and all truths have been checked."""


@dataclass(frozen=True)
class Metric:
    """A figure of merit.

    Attributes:
        name: As in the registry.
        title: A line for people, with its unit.
        is_higher_better: Whether more is better.
        truths: Keys of the truth of which a sample needs one; none where the answer says all.
        answer: What an answer has to be, in words.
        measure: What computes it.
    """

    name: str
    title: str
    is_higher_better: bool
    truths: tuple[str, ...]
    answer: str
    measure: Measure

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
        try:
            for index, truth in enumerate(truths):
                self.check(truth, str(index), labels)
            return self.measure(answers, truths, labels)
        except EdgekitError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # An answer may be whatever a processing, or a stranger's model, makes of its outputs.
            raise InputError(
                f"{self.name} cannot judge these answers: {type(error).__name__}: {error}",
                hint=f"an answer must be {self.answer}",
            ) from error

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
