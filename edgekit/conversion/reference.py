"""The source's own answers, asked for once: what every file that is written is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgekit.converter import Feeds, SourceModel
from edgekit.errors import EdgekitError
from edgekit.feeds import random_feeds
from edgekit.spec import Signature, TensorSpec

__all__ = ["Reference", "make_reference", "open_sizes", "with_sizes"]

RANDOM_FEEDS = 4
_MOVED_FEEDS = 4


@dataclass(frozen=True)
class Reference:
    """The source's own answers, which every file is held against.

    Attributes:
        random: Fixed random feeds; they reach every corner of the arithmetic but look like no real input.
        real: Samples of the user's data, held out from calibration where there are enough.
        random_answers: The source's answers to `random`.
        real_answers: The source's answers to `real`.
        data: What `real` is, in words.
        sizes: Of the source's open sizes other than the batch those that all of `real` share, for files that fix them.
        real_moves: For each output how far the source's answer to `real` moves when its inputs do by their last bit.
        random_moves: The same for `random`.
    """

    random: Sequence[Feeds]
    real: Sequence[Feeds]
    random_answers: Sequence[Mapping[str, np.ndarray]]
    real_answers: Sequence[Mapping[str, np.ndarray]]
    data: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    real_moves: Mapping[str, float] = field(default_factory=dict)
    random_moves: Mapping[str, float] = field(default_factory=dict)

    @property
    def feeds(self) -> list[Feeds]:
        return [*self.real, *self.random]

    @property
    def answers(self) -> list[Mapping[str, np.ndarray]]:
        return [*self.real_answers, *self.random_answers]

    def statistics(self) -> dict[str, Any]:
        """Mean, spread and extremes of inputs and outputs, for judging drift later."""
        feeds, answers = (self.real, self.real_answers) if self.real else (self.random, self.random_answers)
        return {
            "data": self.data if self.real else "fixed random feeds",
            "inputs": {name: _summary([feed[name] for feed in feeds]) for name in feeds[0]},
            "outputs": {name: _summary([answer[name] for answer in answers]) for name in answers[0]},
        }


def make_reference(source: SourceModel, real: Sequence[Feeds], data: str, seed: int) -> Reference:
    """Asks the source itself, once, for the answers every file is held against.

    Raises:
        InputError: The source takes no random feeds, neither of any size nor of those all of `real` share.
    """
    sizes = _shared_sizes(source.signature, real)
    real_answers = [source.run(feed) for feed in real]
    random, answers = _random_answers(source, real, sizes, seed)
    return Reference(
        random=random,
        real=real,
        random_answers=answers,
        real_answers=real_answers,
        data=data,
        sizes=sizes,
        real_moves=_moves(source, real, real_answers, seed),
        random_moves=_moves(source, random, answers, seed),
    )


def open_sizes(signature: Signature) -> tuple[str, ...]:
    """Names of the sizes of inputs that are only known when the model runs, but for the batch."""
    inner = [dim for spec in signature.inputs for dim in spec.shape[1:] if isinstance(dim, str)]
    return tuple(dict.fromkeys(inner))


def with_sizes(signature: Signature, sizes: Mapping[str, int]) -> Signature:
    """The signature with numbers for those of its open sizes that `sizes` names."""

    def fixed(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            replace(spec, shape=tuple(sizes.get(d, d) if isinstance(d, str) else d for d in spec.shape))
            for spec in specs
        )

    return replace(signature, inputs=fixed(signature.inputs), outputs=fixed(signature.outputs))


def _shared_sizes(signature: Signature, feeds: Sequence[Feeds]) -> dict[str, int]:
    seen: dict[str, set[int]] = {name: set() for name in open_sizes(signature)}
    for feed in feeds:
        for spec in signature.inputs:
            for dim, size in zip(spec.shape, np.shape(feed[spec.name]), strict=True):
                if dim in seen:
                    seen[str(dim)].add(size)
    return {name: found.pop() for name, found in seen.items() if len(found) == 1}


_Answered = tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]


def _random_answers(source: SourceModel, real: Sequence[Feeds], sizes: Mapping[str, int], seed: int) -> _Answered:
    """Random feeds the source takes, and its answers: of any size, and of the sizes that all real ones share."""
    random, answers = list[dict[str, np.ndarray]](), list[dict[str, np.ndarray]]()
    try:
        random, answers = _answered(source, source.signature, real, seed)
    except EdgekitError as error:
        if not sizes:
            raise
        said = str(error).splitlines()[0]
        source.notes.append(f"random feeds have the sizes of the data, for the source refuses others: {said}")
    if sizes:
        more, further = _answered(source, with_sizes(source.signature, sizes), real, seed)
        random, answers = [*random, *more], [*answers, *further]
    return random, answers


def _answered(source: SourceModel, signature: Signature, real: Sequence[Feeds], seed: int) -> _Answered:
    """Integers are those of real feeds where there are some, for one may choose a branch or be a row of a table."""
    random = random_feeds(signature, count=RANDOM_FEEDS, seed=seed)
    integers = [spec.name for spec in signature.inputs if spec.dtype.startswith(("int", "uint"))]
    for index, feed in enumerate(random if real else ()):
        known = real[index % len(real)]
        feed.update({name: known[name] for name in integers if np.shape(known[name]) == feed[name].shape})
    try:
        return random, [source.run(feed) for feed in random]
    except EdgekitError as error:
        if not integers:
            raise
        random = random_feeds(signature, count=RANDOM_FEEDS, seed=seed, limit=2)
        answers = [source.run(feed) for feed in random]
        said = str(error).splitlines()[0]
        note = f"integers of the random feeds are 0 and 1, for the source refuses larger ones: {said}"
        source.notes.extend([] if note in source.notes else [note])
        return random, answers


def _moves(
    source: SourceModel, feeds: Sequence[Feeds], answers: Sequence[Mapping[str, np.ndarray]], seed: int
) -> dict[str, float]:
    """How far each output moves when every number of the inputs does to one of its neighbors, which it is drawn.

    No file can be expected nearer to the source than that: where this is much, the source's own rounding is.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, float] = {}
    for feed, answer in zip(feeds[:_MOVED_FEEDS], answers[:_MOVED_FEEDS], strict=True):
        moved = source.run({name: _neighbor(array, rng) for name, array in feed.items()})
        for name, value in answer.items():
            step = np.abs(np.asarray(moved[name], "float64") - np.asarray(value, "float64"))
            found[name] = max(found.get(name, 0.0), float(step[np.isfinite(step)].max(initial=0.0)))
    return found


def _neighbor(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    toward = np.where(rng.integers(0, 2, array.shape).astype(bool), np.inf, -np.inf).astype(array.dtype)
    return np.asarray(np.nextafter(array, toward), array.dtype)


def _summary(arrays: Sequence[np.ndarray]) -> dict[str, float]:
    flat = np.concatenate([np.asarray(array, dtype="float64").ravel() for array in arrays])
    if not flat.size:
        return {}
    values = {"mean": flat.mean(), "std": flat.std(), "min": flat.min(), "max": flat.max()}
    return {name: float(f"{float(value):.6g}") for name, value in values.items()}
