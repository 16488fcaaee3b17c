"""Several inputs at once: what fits goes through the model together, and answers as it would alone.

That the first dimension of a signature is the batch is nowhere written, and where it is, kernels that take their ranges
from the whole batch (8 bits, dynamically) give a row another answer beside other rows. So it is tried, once for a
model: a row beside another one against the same row alone. Only if both answers are equal, rows go together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.fitting import is_exact
from edgekit.spec import Signature, TensorSpec

if TYPE_CHECKING:
    from edgekit.processing import Processing

__all__ = ["Batches", "is_batch"]

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], Arrays]

_BYTES = 2 << 20
"""Feeds of one call where the batch is open: more rows than stay in a core's cache gain nothing."""

_LOUDER = 8
"""How much larger the floats of a row are that another is tried beside."""

_EQUAL = 1e-4
"""How far apart, of the largest number, two answers of the same row may be: rounding, and no more."""


def is_batch(value: object) -> bool:
    """Whether `value` is several inputs: a list, or a tuple but for a sound with its rate, ``(rate, samples)``."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], np.ndarray):
        return not isinstance(value[0], int | np.integer)
    return isinstance(value, list | tuple)


class Batches:
    """How one model takes several inputs. Safe to use from several threads.

    Args:
        signature: The model's.
        processing: The model's; None for a model of arrays only.
    """

    def __init__(self, signature: Signature, processing: Processing | None) -> None:
        first = {spec.shape[0] if spec.shape else None for spec in signature.inputs}
        sizes = {size for size in first if isinstance(size, int)}
        self._signature = signature
        self._processing = processing
        self._fixed = next(iter(sizes)) if len(sizes) == len(first) == 1 else None
        is_open = not sizes and None not in first and all(spec.shape for spec in signature.outputs)
        can_join = not signature.state and (is_open or (self._fixed or 0) > 1)
        self._is_independent = None if can_join else False  # None until it has been tried
        self._open = Signature(tuple(map(_opened, signature.inputs)), signature.outputs, signature.state)

    def predict(self, values: Sequence[Any], run: Run) -> list[Any]:
        """What the model answers to each of `values`, in order.

        Args:
            values: Inputs as for a single prediction, of one row each or, of sounds, of several.
            run: Raw tensors through the model.

        Raises:
            InputError: One of them is no input of this model; it says which.
        """
        for index, value in enumerate(values):
            _refuse_numbers(value, index)
        feeds: list[Arrays | None] = [None] * len(values)
        if self._is_independent is not False or (self._fixed or 1) > 1:
            for index, value in enumerate(values):
                with _naming(index):
                    feeds[index] = self._feeds(value)
        found = self._answers([feed for feed in feeds if feed is not None], run)
        answers = []
        for index, (value, feed) in enumerate(zip(values, feeds, strict=True)):
            with _naming(index):
                answers.append(self._alone(value, run) if feed is None else self._after(next(found), feed))
        return answers

    def _alone(self, value: Any, run: Run) -> Any:
        if self._processing is not None:
            return self._processing.answer(value, run, self._signature)
        return run(self._plain(value))

    def _plain(self, value: Any) -> Arrays:
        inputs = self._signature.inputs
        if isinstance(value, Mapping):
            return value
        if len(inputs) != 1:
            raise InputError(f"the model has {len(inputs)} inputs", hint=f"a dict of {[s.name for s in inputs]}")
        return {inputs[0].name: value}

    def _feeds(self, value: Any) -> Arrays | None:
        """Rows of feeds; None for what must go its own way, where it is refused in the words of a single call."""
        feeds = self._plain(value) if self._processing is None else self._processing.before(value, self._open)
        if self._processing is None and not is_exact(feeds, self._open):
            return None
        rows = {len(array) for array in feeds.values()}
        return feeds if len(rows) == 1 and 0 not in rows else None

    def _after(self, answer: Arrays, feeds: Arrays) -> Any:
        return dict(answer) if self._processing is None else self._processing.after(answer, feeds)

    def _answers(self, feeds: Sequence[Arrays], run: Run) -> Iterator[Arrays]:
        """The outputs for each of `feeds`, those of the same sizes having gone together."""
        groups: dict[Any, list[int]] = {}
        for index, feed in enumerate(feeds):
            groups.setdefault(tuple((name, feed[name].shape[1:]) for name in sorted(feed)), []).append(index)
        answers: dict[int, Arrays] = {}
        for members in groups.values():
            answers.update(zip(members, self._together([feeds[index] for index in members], run), strict=True))
        return iter([answers[index] for index in range(len(feeds))])

    def _together(self, feeds: Sequence[Arrays], run: Run) -> list[Arrays]:
        if self._is_independent is None:
            self._is_independent = self._tried(feeds, run)
        # Where all rows were the same, each may as well stand beside the others if several are wanted.
        if not (self._is_independent or (self._is_independent is None and (self._fixed or 1) > 1)):
            return [self._one(feed, run) for feed in feeds]
        ends = [int(end) for end in np.cumsum([0, *map(_rows, feeds)])]
        rows = _joined(feeds)
        row_bytes = sum(array.nbytes for array in rows.values()) // ends[-1]
        parts = _parts(ends[-1], self._fixed, max(1, _BYTES // max(1, row_bytes)))
        outputs = _joined([self._padded(_cut(rows, start, end), run) for start, end in parts])
        return [_cut(outputs, start, end) for start, end in pairwise(ends)]

    def _one(self, feed: Arrays, run: Run) -> Arrays:
        """A model whose rows are no inputs of their own takes what it declares, whole."""
        if self._fixed not in (None, _rows(feed)):
            raise InputError(
                f"the model takes {self._fixed} rows at once and mixes them, got {_rows(feed)}",
                hint=f"give each input {self._fixed} rows",
            )
        return run(feed)

    def _padded(self, feeds: Arrays, run: Run) -> Arrays:
        """The answer to as many rows as there are; where more are wanted, the last is repeated."""
        count = _rows(feeds)
        missing = (self._fixed or count) - count
        if missing:
            feeds = {name: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for name, a in feeds.items()}
        answer = run(feeds)
        return _cut(answer, 0, count) if missing else answer

    def _tried(self, feeds: Sequence[Arrays], run: Run) -> bool | None:
        """Whether a row answers alone as beside another; None when all rows are the same, which tells nothing."""
        row = _cut(feeds[0], 0, 1)
        rows = (_cut(feed, at, at + 1) for feed in feeds for at in range(_rows(feed)))
        others = (other for other in (_flipped(row), *rows) if not _is_same(row, other))
        if (other := next(others, None)) is None:
            return None
        try:
            alone, beside = self._padded(row, run), self._padded(_joined([row, other]), run)
        except (InputError, ArtifactError):
            return False  # sizes the engine cannot run
        return all(_agree(alone[name], beside[name]) for name in alone)


@contextmanager
def _naming(index: int) -> Iterator[None]:
    """Says of an error which of the inputs it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"input {index} of the batch: {error.message}", hint=error.hint) from error


def _opened(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=("batch", *spec.shape[1:])) if spec.shape else spec


def _refuse_numbers(value: Any, index: int) -> None:
    if isinstance(value, bool | int | float | complex | list | np.generic) or value is None:
        raise InputError(
            f"a list is several inputs, and number {index} of it is a {type(value).__name__}",
            hint="one input of numbers is an array: np.asarray(x, dtype='float32')",
        )


def _parts(count: int, fixed: int | None, most: int) -> list[tuple[int, int]]:
    """Where to cut `count` rows: as many as are `fixed`, else powers of two, for engines prepare for each size."""
    parts, start = [], 0
    while start < count:
        size = fixed or 1 << (min(most, count - start).bit_length() - 1)
        parts.append((start, min(start + size, count)))
        start += size
    return parts


def _rows(feeds: Arrays) -> int:
    return len(next(iter(feeds.values())))


def _cut(arrays: Arrays, start: int, end: int) -> dict[str, np.ndarray]:
    return {name: array[start:end] for name, array in arrays.items()}


def _joined(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _flipped(row: Arrays) -> dict[str, np.ndarray]:
    """The same numbers in another order, integers as they are, so that each stays one the model knows.

    Floats are made larger: a range that is taken from both rows is another one than the first row's.
    """
    turned = {name: np.flip(array, axis=tuple(range(1, array.ndim))) for name, array in row.items()}
    with np.errstate(over="ignore"):
        return {
            name: array * array.dtype.type(_LOUDER) if array.dtype.kind == "f" else array
            for name, array in turned.items()
        }


def _is_same(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(array, other[name]) for name, array in one.items())


def _agree(alone: np.ndarray, beside: np.ndarray) -> bool:
    """Whether row 0 of `beside` is that of `alone`, and there is a row for each of the two."""
    if alone.ndim == 0 or len(alone) != 1 or beside.ndim != alone.ndim or len(beside) != 2:
        return False
    one, other = alone[0], beside[0]
    if one.shape != other.shape or one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    limit = _EQUAL * float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=0.0, atol=limit, equal_nan=True))
