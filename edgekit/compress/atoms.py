"""Atoms, the places along the axes of tensors, and what joins them; `edgekit.compress.coupling` explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Coupling", "Links", "dimension"]


class Links:
    """Atoms, what joins them, and which must stay. Rules of operations write to it."""

    def __init__(self) -> None:
        self._atoms: dict[tuple[int, int], np.ndarray] = {}
        self._values: dict[int, ir.Value] = {}
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._kept: list[np.ndarray] = []
        self._mentioned: set[tuple[int, int]] = set()
        self._choices: list[tuple[ir.Value, tuple[int, ...], ir.Value, tuple[int, ...]]] = []
        self.count = 0

    def atoms(self, value: ir.Value | None, axis: int) -> np.ndarray | None:
        """The atoms along an axis; None where its size is open."""
        size = dimension(value, axis)
        if value is None or size is None:
            return None
        key = (id(value), axis)
        if key not in self._atoms:
            self._values[id(value)] = value
            self._atoms[key] = np.arange(self.count, self.count + size)
            self.count += size
        return self._atoms[key]

    def join(self, first: ir.Value | None, axis: int, second: ir.Value | None, other: int) -> None:
        """Place by place; axes of different sizes stay as they are."""
        self.mention(first, axis)
        self.mention(second, other)
        a, b = self.atoms(first, axis), self.atoms(second, other)
        if a is not None and b is not None and len(a) == len(b):
            self.link(a, b)
        else:
            self.keep(first, axis)
            self.keep(second, other)

    def mention(self, value: ir.Value | None, axis: int) -> None:
        """Says that what the operation does along this axis is accounted for."""
        self._mentioned.add((id(value), axis))

    def link(self, first: np.ndarray, second: np.ndarray) -> None:
        """Joins atoms, one to one."""
        self._pairs.append((first.ravel(), second.ravel()))

    def keep(self, value: ir.Value | None, axis: int) -> None:
        if (atoms := self.atoms(value, axis)) is not None:
            self._kept.append(atoms)

    def keep_all(self, value: ir.Value | None) -> None:
        for axis in range(len(value.shape) if value is not None and value.shape is not None else 0):
            self.keep(value, axis)

    def choose(self, many: ir.Value, axes: tuple[int, ...], one: ir.Value, other: int) -> None:
        """`one`'s axis has all places of `many`'s axes, the last running fastest; one of those may be followed."""
        for value, axis in (*((many, axis) for axis in axes), (one, other)):
            self.mention(value, axis)
            self.atoms(value, axis)
        self._choices.append((many, axes, one, (other,)))

    def keep_unmentioned(self, node: ir.Node) -> None:
        """Whatever the rules for a node said nothing about stays."""
        for value in (*node.inputs, *node.outputs):
            for axis in range(len(value.shape) if value is not None and value.shape is not None else 0):
                if (id(value), axis) not in self._mentioned:
                    self.keep(value, axis)
        self._mentioned.clear()

    def settle(self) -> Coupling:
        """Decides what reshapes follow, now that it is known which axes are no channels, and joins everything."""
        labels = _components(self.count, self._pairs)
        kept = self._kept_labels(labels)
        for many, axes, one, (other,) in self._choices:
            self._follow(many, axes, one, other, labels, kept)
        labels = _components(self.count, self._pairs)
        return Coupling(labels, self._kept_labels(labels), dict(self._atoms), dict(self._values))

    def _follow(
        self, many: ir.Value, axes: tuple[int, ...], one: ir.Value, other: int, labels: np.ndarray, kept: np.ndarray
    ) -> None:
        parts = [self.atoms(many, axis) for axis in axes]
        whole = self.atoms(one, other)
        sizes = [len(part) for part in parts if part is not None]
        assert whole is not None
        assert len(sizes) == len(axes)
        free = [i for i, part in enumerate(parts) if sizes[i] > 1 and part is not None and not kept[labels[part]].any()]
        for i, axis in enumerate(axes):
            if not free or i != free[0]:
                self.keep(many, axis)
        if not free:
            self._kept.append(whole)
            return
        chosen = parts[free[0]]
        assert chosen is not None
        shape = [-1 if i == free[0] else 1 for i in range(len(axes))]
        self.link(np.broadcast_to(chosen.reshape(shape), sizes), whole)

    def _kept_labels(self, labels: np.ndarray) -> np.ndarray:
        kept = np.zeros(self.count, "bool")
        for atoms in self._kept:
            kept[labels[atoms]] = True
        return kept


def _components(count: int, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """For every atom the least atom it is joined to, by any number of steps: labels sink until all rest."""
    labels = np.arange(count)
    if not pairs:
        return labels
    first, second = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    while True:
        low = np.minimum(labels[first], labels[second])
        sunk = labels.copy()
        for ends in (first, second, labels[first], labels[second]):
            np.minimum.at(sunk, ends, low)
        sunk = sunk[sunk]
        if np.array_equal(sunk, labels):
            return labels
        labels = sunk


@dataclass(frozen=True)
class Coupling:
    """What stands or falls together: atoms of one label.

    Attributes:
        labels: For every atom its label, itself the least atom of those.
        kept: For every label whether it must stay; elsewhere without meaning.
        axes: Atoms by the identity of a value, and axis.
        values: Values by identity.
    """

    labels: np.ndarray
    kept: np.ndarray
    axes: dict[tuple[int, int], np.ndarray]
    values: dict[int, ir.Value]

    def of(self, value: ir.Value | None, axis: int) -> np.ndarray | None:
        """The labels along an axis; None where it has no atoms."""
        atoms = self.axes.get((id(value), axis))
        return None if atoms is None else self.labels[atoms]

    def weights(self) -> Iterator[tuple[ir.Value, int, np.ndarray]]:
        """Every axis of every initializer with its labels."""
        for (identity, axis), atoms in self.axes.items():
            value = self.values[identity]
            if value.is_initializer():
                yield value, axis, self.labels[atoms]


def dimension(value: ir.Value | None, axis: int) -> int | None:
    """The size of an axis where it is known."""
    if value is None or value.shape is None or not 0 <= axis < len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None
