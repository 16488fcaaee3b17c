"""Values: a tensor and all that holds the same numbers in another layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgekit.converters.tflite.model import Op, Tensor
from edgekit.converters.tflite.passes.layouts import Layout, arranged_shape, as_built, outside, sequence, view
from edgekit.converters.tflite.passes.rewriting import Rewriter

__all__ = ["Demand", "Value"]

Demand = tuple[Op | None, Tensor, Layout]
"""Who reads which tensor of a value, and the layout wanted of it; None stands for who calls the graph."""


class Value:
    """A tensor and what is made of it by TRANSPOSE, or by RESHAPE that only adds and removes axes of size 1.

    Attributes:
        root: The tensor that is no such view itself.
        members: All of them, with their layouts in terms of the root.
        views: The operations between them.
    """

    def __init__(self, rewriter: Rewriter, tensor: Tensor) -> None:
        self._rewriter = rewriter
        while (op := rewriter.producer(tensor)) is not None and view(op) is not None:
            tensor = op.inputs[0] or tensor
        self.root = tensor
        self.members: dict[Tensor, Layout] = {tensor: as_built(tensor)}
        self.views: dict[Op, None] = {}
        for member in (waiting := [tensor]):
            for op in rewriter.consumers(member):
                if op.inputs[0] is member and (layout := view(op)) is not None:
                    self.members[op.output] = outside(layout, self.members[member])
                    self.views[op] = None
                    waiting.append(op.output)

    @property
    def maker(self) -> Op | None:
        """The operation that computes it."""
        return self._rewriter.producer(self.root)

    def demands(self) -> Iterator[Demand]:
        """Who reads it now."""
        for member, layout in self.members.items():
            if self._rewriter.is_public(member):
                yield None, member, layout
            for op in self._rewriter.consumers(member):
                if op not in self.views:
                    yield op, member, layout

    def provide(self, made: Layout, wanted: Sequence[Layout]) -> dict[Layout, Tensor]:
        """Takes the views out and puts in those that give `wanted` from a root in the layout `made`.

        Returns:
            A tensor for `made` and each of `wanted`: where there was one before, that one.
        """
        known: dict[Layout, Tensor] = {}
        for member in sorted(self.members, key=lambda member: not self._rewriter.is_public(member)):
            known.setdefault(self.members[member], member)
        if made == as_built(self.root):
            known[made] = self.root
        near = self.maker
        for op in self.views:
            self._rewriter.remove(op)
        found: dict[Layout, Tensor] = {}
        for layout in dict.fromkeys([made, *wanted]):
            tensor = known.get(layout)
            if tensor is None:
                shape = arranged_shape(self.root.shape, layout)
                tensor = Tensor(self.root.name, shape, self.root.dtype, quant=self.root.quant)
            if found:
                self._view(found, layout, tensor, near)
            found[layout] = tensor
        return found

    def _view(self, there: dict[Layout, Tensor], layout: Layout, tensor: Tensor, near: Op | None) -> None:
        """Makes `tensor`, in `layout`, of a tensor that is there."""
        alike = next((known for known in there if sequence(known) == sequence(layout)), None)
        if alike is not None:
            self._reshape(there[alike], tensor, near)
            return
        made, source = next(iter(there.items()))
        if len(made) == len(layout):
            self._transpose(source, _perm(made, layout), tensor, near)
            return
        between = (*[-1] * made.count(-1), *sequence(layout))
        shape = arranged_shape(self.root.shape, between)
        step = Tensor(tensor.name, shape, tensor.dtype, quant=tensor.quant)
        self._transpose(source, _perm(made, between), step, near)
        self._reshape(step, tensor, near)

    def _transpose(self, source: Tensor, perm: list[int], target: Tensor, near: Op | None) -> None:
        given = Tensor(f"{target.name}/perm", (len(perm),), "int32", np.asarray(perm, "int32"))
        self._rewriter.add(Op("TRANSPOSE", [source, given], [target], {}, _source(near)), near)

    def _reshape(self, source: Tensor, target: Tensor, near: Op | None) -> None:
        shape = Tensor(f"{target.name}/shape", (target.rank,), "int32", np.asarray(target.shape, "int32"))
        options = {"newShape": list(target.shape)}
        self._rewriter.add(Op("RESHAPE", [source, shape], [target], options, _source(near)), near)


def _perm(made: Layout, layout: Layout) -> list[int]:
    """Axes of a tensor in the layout `made` that give `layout`, which has as many axes of size 1."""
    places = {axis: place for place, axis in enumerate(made) if axis >= 0}
    units = iter(place for place, axis in enumerate(made) if axis < 0)
    return [places[axis] if axis >= 0 else next(units) for axis in layout]


def _source(near: Op | None) -> str:
    return "" if near is None else near.source
