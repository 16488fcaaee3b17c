"""Tallies of figures that follow from sums over samples, and the store that all tallies keep their numbers in."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Tally, Truth, class_name

__all__ = ["ClassNames", "Figure", "Row", "Rows", "Sums", "mean_of"]

Row: TypeAlias = Callable[[Any, Truth], Sequence[float]]
"""From an answer and its truth to the numbers of a sample that are summed."""

Figure: TypeAlias = Callable[[np.ndarray], float]
"""From the sums of those numbers to the figure. Raises InputError where there is none."""


class Rows:
    """A table that grows by rows of numbers: 8 bytes for each, 4 where they are integers.

    Args:
        width: Numbers in a row.
        kind: ``"d"`` for float64, ``"i"`` for int32, ``"q"`` for int64.
    """

    def __init__(self, width: int, kind: str = "d") -> None:
        self._width, self._kind = width, kind
        self._store: array[Any] = array(kind)
        self._seen: np.ndarray | None = None
        self._columns: tuple[np.ndarray, ...] | None = None

    def __len__(self) -> int:
        return len(self._store) // self._width

    def add(self, row: Sequence[Any]) -> None:
        if len(row) != self._width:
            raise ValueError(f"a row of {len(row)} numbers among rows of {self._width}")
        self._store.extend(array(self._kind, row))  # all or nothing: it is whole before it goes in
        self._seen = self._columns = None

    @property
    def table(self) -> np.ndarray:
        """[rows, width], a copy made once until the next row comes."""
        if self._seen is None:
            self._seen = np.array(self._store, dtype=self._kind).reshape(-1, self._width)
        return self._seen

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """The table by columns, each in one piece, integers as int64: what is asked again and again is then quick."""
        if self._columns is None:
            kind = np.float64 if self._kind == "d" else np.int64
            self._columns = tuple(np.ascontiguousarray(column, kind) for column in self.table.T)
        return self._columns

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.table.sum()))


class Sums(Tally):
    """A figure that is a function of sums over the samples.

    Args:
        width: Numbers of a sample.
        row: Makes them.
        figure: Makes the figure of their sums.
    """

    def __init__(self, width: int, row: Row, figure: Figure) -> None:
        super().__init__()
        self._rows, self._row, self._figure = Rows(width), row, figure

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, answer: Any, truth: Truth) -> None:
        self._rows.add([float(value) for value in self._row(answer, truth)])

    def values(self, weights: np.ndarray) -> np.ndarray:
        table = self._rows.table
        if self._rows.is_finite:
            return np.array([self._figure(weights @ table)])
        # Of 0 and infinity a product is NaN, and pictures that are equal are infinitely alike.
        taken = weights > 0
        return np.array([self._figure((table[taken] * weights[taken, None]).sum(axis=0))])


def mean_of(row: Row) -> Callable[[Sequence[str]], Tally]:
    """Starts tallies of the mean of what `row` gives, one number a sample."""
    return lambda labels: Sums(2, lambda answer, truth: (*row(answer, truth), 1.0), lambda s: float(s[0] / s[1]))


class ClassNames:
    """Classes by index: the model's own, or, where it has no names for them, those that occur.

    Raises:
        InputError: From `true`, where the data call some classes by numbers that are names of the model and others by
            numbers that are indices of it: then one of them means another class than it says.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self.names = list(labels)
        self._places = {name: index for index, name in enumerate(self.names)}
        self._numbers: dict[bool, str] = {}

    def index(self, said: Any) -> int:
        name = class_name(said, self._labels)
        if name not in self._places:
            self._places[name] = len(self.names)
            self.names.append(name)
        return self._places[name]

    def true(self, said: Any) -> int:
        """The index of a class that the data name."""
        name = str(said)
        if name.isdecimal() and self._labels:
            self._numbers.setdefault(name in self._places, name)
            if len(self._numbers) == 2:
                raise InputError(
                    f"the data's class {self._numbers[True]!r} is a name the model knows, and "
                    f"{self._numbers[False]!r} can only be an index",
                    hint="call classes by the names the model has, all of them",
                )
        return self.index(said)

    @property
    def order(self) -> list[int]:
        """Indices in the order in which classes are listed: the model's, else that of names, numbers by size."""
        if self._labels:
            return list(range(len(self.names)))
        return sorted(range(len(self.names)), key=lambda i: (not self.names[i].isdecimal(), _size(self.names[i])))


def _size(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdecimal() else (0, name)
