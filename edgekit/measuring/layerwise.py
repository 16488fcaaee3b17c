"""Where two files of one graph begin to differ: tensors of the same names held against each other, in order.

Engines keep names and give other tensors: one fuses an activation into the operation before it, another lays out
channels last, a third rounds. So a tensor is compared in whichever of these forms makes it nearest to its namesake:
with channels moved, and with the activation that the other has already applied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import EdgekitError, UnsupportedError
from edgekit.measuring.agreement import Tally, short
from edgekit.measuring.sides import Side, feeds_for
from edgekit.registry import RUNTIMES

__all__ = ["LayerAgreement", "LayerReport", "compare_layers", "nearest", "paired"]

Feeds = Mapping[str, np.ndarray]

_ROUNDING_DB = 80.0
"""Float kernels that add up in another order are nearer to each other than this."""

_NEARER_DB = 3.0
"""A form is taken for another only when it is nearer by so much."""

_MADE = re.compile(r"_\d+|/u?int\d+")
"""What is added to a name that is taken, or for the integers of a tensor."""

_FIRST = re.compile(r"(:|_output_)0$")
"""What TensorFlow and PyTorch add to the name of an operation for the first tensor that it gives."""

_FORMS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
}
"""Activations that engines fuse into the operation before."""


@dataclass(frozen=True)
class LayerAgreement:
    """A tensor that both compute.

    Attributes:
        name: In the first.
        other_name: In the second.
        shape: In the first.
        sqnr_db: Signal to noise of the second's; infinite when they are equal.
        relative: Largest difference as a share of the range of the first's.
        cosine: Of both as one vector.
        after: The activation one of them had not applied yet; empty where they are compared as they are.
    """

    name: str
    other_name: str
    shape: tuple[int, ...]
    sqnr_db: float
    relative: float
    cosine: float
    after: str = ""

    def to_json(self) -> dict[str, Any]:
        shown = {**vars(self), "shape": list(self.shape)}
        return {key: short(value) if isinstance(value, float) else value for key, value in shown.items()}


@dataclass(frozen=True)
class LayerReport:
    """Tensors of the same names, in the order the first computes them.

    Attributes:
        layers: Those that could be compared.
        begins_at: The first that differs by more than the rounding of floats; empty where none does.
        worst_step: The one whose signal to noise falls most below the worst before it; empty where none does.
        unmatched: Tensors of the first that have no namesake of their size.
        reason: Why there are none.
        notes: What is to be known of how they were read.
    """

    layers: tuple[LayerAgreement, ...] = ()
    begins_at: str = ""
    worst_step: str = ""
    unmatched: int = 0
    reason: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "layers": [one.to_json() for one in self.layers], "notes": list(self.notes)}


def compare_layers(a: Side, b: Side, names: Mapping[str, str], feeds: Sequence[Feeds]) -> LayerReport:
    """The tensors both compute on the way from `feeds`, which are by the names of the first.

    A side whose engine does not show them, or a source model, is the reason why there are none; it is no error.
    """
    try:
        ours, our_note = _tensors(a, feeds)
        theirs, their_note = _tensors(b, [feeds_for(b, names, feed) for feed in feeds])
    except EdgekitError as error:
        return LayerReport(reason=error.message)
    found = paired(ours, theirs)
    unmatched = len(ours) - len(found)
    notes = tuple(dict.fromkeys(filter(None, (our_note, their_note))))
    if not found:
        return LayerReport(unmatched=unmatched, reason="no tensor has the same name in both", notes=notes)
    begins = next((one.name for one in found if one.sqnr_db < _ROUNDING_DB), "")
    return LayerReport(found, begins, _worst_step(found), unmatched, notes=notes)


def paired(ours: Mapping[str, list[np.ndarray]], theirs: Mapping[str, list[np.ndarray]]) -> tuple[LayerAgreement, ...]:
    """Each of ours with its namesake; where several have the same one, as what is padded before and what comes after,
    the nearest of them only.
    """
    claims: dict[str, LayerAgreement] = {}
    for name, arrays in ours.items():
        pair = nearest(name, arrays, theirs, ours)
        if pair is not None and (pair.other_name not in claims or pair.sqnr_db > claims[pair.other_name].sqnr_db):
            claims[pair.other_name] = pair
    kept = {pair.name: pair for pair in claims.values()}
    return tuple(kept[name] for name in ours if name in kept)


def _tensors(side: Side, feeds: Sequence[Feeds]) -> tuple[dict[str, list[np.ndarray]], str]:
    """Every tensor a side computes, by name, for each feed; and what is to be known of how they were read."""
    if side.candidate is None or side.file is None:
        raise UnsupportedError(f"{side.name} is a source model: what it computes on the way is not read")
    engine = RUNTIMES.get(side.candidate.runtime)
    if not hasattr(engine, "tensors"):
        raise UnsupportedError(f"the runtime {side.candidate.runtime} does not show what it computes on the way")
    own = [{side.file_names.get(name, name): array for name, array in feed.items()} for feed in feeds]
    arrays, note = engine.tensors(side.file, side.options, own)
    return arrays, note


def _worst_step(found: Sequence[LayerAgreement]) -> str:
    worst, name, lowest = 0.0, "", 200.0
    for one in found:
        step = lowest - max(one.sqnr_db, -200.0)
        if one.sqnr_db < _ROUNDING_DB and step > worst:
            worst, name = step, one.name
        lowest = min(lowest, max(one.sqnr_db, -200.0))
    return name


def nearest(
    name: str, arrays: list[np.ndarray], theirs: Mapping[str, list[np.ndarray]], taken: Collection[str]
) -> LayerAgreement | None:
    """The namesake in its nearest form; None where nothing of that name has as many numbers in a shape that fits."""
    best: LayerAgreement | None = None
    for other_name in _namesakes(name, theirs, taken):
        for moved in _laid_out(arrays, theirs[other_name]):
            for after, tally in _forms(arrays, moved):
                found = tally.result(name, other_name)
                if best is None or found.sqnr_db > best.sqnr_db + _NEARER_DB:
                    shape = tuple(arrays[0].shape)
                    best = LayerAgreement(name, other_name, shape, found.sqnr_db, found.relative, found.cosine, after)
    return best


def _namesakes(name: str, theirs: Collection[str], taken: Collection[str]) -> list[str]:
    """The tensor of that name, then those called after the operation that gives it, as one format does and another does
    not, then those of names made of it, as where it was taken; but for what others of ours are called.
    """
    plain = _operation(name)
    reserved = {*taken, *map(_operation, taken)} - {name, plain}
    free = [other for other in theirs if other != name and other not in reserved and other.startswith(plain)]
    same = [other for other in free if _operation(other) == plain]
    made = [other for other in free if other not in same and _MADE.fullmatch(other.removeprefix(plain))]
    return [*([name] if name in theirs else []), *same, *made] or [
        o for o in theirs if o not in taken and _is_of(name, o)
    ]


def _is_of(name: str, other: str) -> bool:
    """Whether `name` is made of that of the operation which gives `other`."""
    plain = _operation(other)
    return name.startswith(plain) and _MADE.fullmatch(name.removeprefix(plain)) is not None


def _operation(name: str) -> str:
    """The name of the operation of a tensor that is called after it and its place among what that gives, the first."""
    return _FIRST.sub("", name)


def _laid_out(arrays: list[np.ndarray], others: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The others in the layout of `arrays`: as they are, with channels moved to the front, or to the back."""
    want = _sizes(arrays)
    if _sizes(others) == want:
        yield [other.reshape(array.shape) for other, array in zip(others, arrays, strict=True)]
    for source, place in ((-1, 1), (1, -1)):
        if others[0].ndim >= 3:
            moved = [np.moveaxis(other, source, place) for other in others]
            if _sizes(moved) == want and moved[0].shape != others[0].shape:
                yield [other.reshape(array.shape) for other, array in zip(moved, arrays, strict=True)]


def _sizes(arrays: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
    """Of each feed's: how many rows or boxes there are may depend on the numbers."""
    return [_squeezed(one.shape) for one in arrays]


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _forms(arrays: list[np.ndarray], others: list[np.ndarray]) -> Iterator[tuple[str, Tally]]:
    """Both as they are, and one of them with an activation that the other may have applied already."""
    low, other_low = (min(float(one.min(initial=0)) for one in side) for side in (arrays, others))
    for after, apply in _FORMS.items():
        # What has numbers below zero has no such activation behind it.
        if after and (low < 0) == (other_low < 0):
            continue
        tally = Tally()
        for array, other in zip(arrays, others, strict=True):
            tally.add(apply(array), apply(other))
        yield after, tally
