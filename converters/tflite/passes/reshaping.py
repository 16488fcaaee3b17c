"""RESHAPE among operations that can be rearranged: which axes it splits and merges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgekit.converters.tflite.model import Op, Tensor
from edgekit.converters.tflite.passes.layouts import Layout, as_built, sequence
from edgekit.converters.tflite.passes.relations import Order
from edgekit.converters.tflite.passes.rewriting import Rewriter

__all__ = ["ReshapeRelation", "reshape_relation"]

_UNKNOWN = 1_000_003
"""Stands for a size that is only known when the model runs: no product of the others is taken for it."""


@dataclass
class ReshapeRelation:
    """A RESHAPE whose sides are made of the same atoms: axes as small as both sides need.

    Rearranging atoms rearranges both sides, as long as those of one axis stay together and in order. There is one more
    freedom: where the last axis of the output is only read by FULLY_CONNECTED of constant weights, its atoms may stand
    in any order, and the columns of the weights are put in the same.

    Attributes:
        source: What is reshaped.
        target: What it becomes.
        parts: For the axes of source and target, those of size 1 left out: the atoms of each.
        sizes: Of the atoms.
        readers: FULLY_CONNECTED operations that alone read the target, if that is so.
    """

    source: Tensor
    target: Tensor
    parts: tuple[dict[int, list[int]], dict[int, list[int]]]
    sizes: list[int]
    readers: list[Op]

    def order(self, tensor: Tensor, layout: Layout) -> Order | None:
        """The order of the atoms when one side is put in `layout`."""
        parts = self.parts[tensor is self.target]
        return tuple(atom for axis in sequence(layout) for atom in parts[axis])

    def layout(self, tensor: Tensor, order: Order) -> Layout | None:
        """The layout of one side when the atoms stand in `order`; None where atoms of an axis come apart."""
        parts = self.parts[tensor is self.target]
        starts = {atoms[0]: axis for axis, atoms in parts.items()}
        axes: list[int] = []
        rest = list(order)
        while rest:
            axis = starts.get(rest[0] if rest[0] is not None else -1)
            if axis is None or rest[: len(parts[axis])] != parts[axis]:
                return as_built(tensor) if tensor is self.target and self._columns(order) is not None else None
            axes.append(axis)
            del rest[: len(parts[axis])]
        following = iter(axes)
        return tuple(-1 if size == 1 else next(following) for size in tensor.shape)

    def tensors(self) -> list[Tensor]:
        """Both sides."""
        return [self.source, self.target]

    def rewrite(self, op: Op, order: Order, inputs: list[Tensor | None], outputs: list[Tensor]) -> None:
        """Sets the new shape."""
        shape = outputs[0].shape
        inputs[1] = Tensor(f"{outputs[0].name}/shape", (len(shape),), "int32", np.asarray(shape, "int32"))
        op.options["newShape"] = list(shape)

    def columns(self, order: Order) -> np.ndarray | None:
        """For each column of the weights behind it the one it was, where they have to change."""
        return None if self.layout(self.target, order) != as_built(self.target) else self._columns(order)

    def _columns(self, order: Order) -> np.ndarray | None:
        last = max(self.parts[1], default=-1)
        if not self.readers or last != self.target.rank - 1:
            return None
        atoms = self.parts[1][last]
        before = [atom for axis, found in self.parts[1].items() if axis != last for atom in found]
        if list(order[: len(before)]) != before or _UNKNOWN in (self.sizes[atom] for atom in atoms):
            return None
        places = [atoms.index(atom) for atom in order[len(before) :] if atom is not None]
        count = np.arange(self.target.shape[last]).reshape([self.sizes[atom] for atom in atoms])
        return count.transpose(places).reshape(-1)


def reshape_relation(op: Op, rewriter: Rewriter) -> ReshapeRelation | None:
    """How the two sides of a RESHAPE belong together; None where that is not known."""
    x = op.inputs[0]
    if (
        x is None
        or x.shape.count(-1) > 1
        or op.output.shape.count(-1) > 1
        or 0 in x.shape
        or x.quant != op.output.quant
    ):
        return None
    ends = [_ends(x.shape), _ends(op.output.shape)]
    if (ends[0] or [1])[-1] != (ends[1] or [1])[-1]:
        return None
    cuts = sorted({1, *ends[0], *ends[1]})
    if any(after % before for before, after in pairwise(cuts)):
        return None
    sizes = [after // before for before, after in pairwise(cuts)]
    parts = tuple(_parts(tensor.shape, cuts) for tensor in (x, op.output))
    return ReshapeRelation(x, op.output, (parts[0], parts[1]), sizes, _readers(op.output, rewriter))


def _ends(shape: Sequence[int]) -> list[int]:
    """How many elements lie within each axis and those before it, axes of size 1 left out."""
    found, product = [], 1
    for size in shape:
        if size != 1:
            product *= _UNKNOWN if size < 0 else size
            found.append(product)
    return found


def _parts(shape: Sequence[int], cuts: list[int]) -> dict[int, list[int]]:
    """For each axis larger than 1 the atoms it is made of: atom i lies between cuts i and i + 1."""
    found, start = {}, 0
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    for axis, end in zip(axes, _ends(shape), strict=True):
        stop = cuts.index(end)
        found[axis] = list(range(start, stop))
        start = stop
    return found


def _readers(tensor: Tensor, rewriter: Rewriter) -> list[Op]:
    readers = rewriter.consumers(tensor)
    for reader in readers:
        weight = reader.inputs[1] if reader.code == "FULLY_CONNECTED" else None
        if weight is None or weight.data is None or weight.quant is not None or reader.inputs[0] is not tensor:
            return []
    return [] if rewriter.is_public(tensor) else readers
