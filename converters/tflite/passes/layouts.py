"""Layouts: how the axes of one tensor stand in another that holds the same numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.converters.tflite.model import Op, Tensor

__all__ = ["Layout", "arrange", "arranged_shape", "as_built", "inside", "outside", "sequence", "view"]

Layout = tuple[int, ...]
"""For each axis the axis of the original it is, or -1 for one of size 1. Axes of size 1 come and go at no cost, so
that ``(0, -1, 2, 1)`` and ``(0, 2, 1)`` only differ in shape."""


def as_built(tensor: Tensor) -> Layout:
    """The layout of a tensor in terms of itself."""
    return tuple(-1 if size == 1 else axis for axis, size in enumerate(tensor.shape))


def sequence(layout: Layout) -> Layout:
    """The axes that hold numbers: two layouts with the same ones have the same bytes."""
    return tuple(axis for axis in layout if axis >= 0)


def inside(layout: Layout, of: Layout) -> Layout:
    """`layout`, given in axes of the original, in axes of a tensor that stands in the original as `of`."""
    places = {axis: place for place, axis in enumerate(of) if axis >= 0}
    return tuple(places[axis] if axis >= 0 else -1 for axis in layout)


def outside(layout: Layout, of: Layout) -> Layout:
    """`layout`, given in axes of a tensor that stands in the original as `of`, in axes of the original."""
    return tuple(of[axis] if axis >= 0 else -1 for axis in layout)


def arranged_shape(shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """The shape of a tensor of `shape` put in `layout`."""
    return tuple(shape[axis] if axis >= 0 else 1 for axis in layout)


def arrange(data: np.ndarray, layout: Layout) -> np.ndarray:
    """The numbers of an array put in `layout`."""
    kept = sequence(layout)
    rest = [axis for axis in range(data.ndim) if axis not in kept]
    turned = data.transpose([*rest, *kept])
    return np.ascontiguousarray(turned.reshape(arranged_shape(data.shape, layout)))


def view(op: Op) -> Layout | None:
    """The layout in which an operation gives its first input, if that is all it does."""
    if op.code not in ("TRANSPOSE", "RESHAPE"):
        return None
    x = op.inputs[0]
    if x is None or x.data is not None or x.quant != op.output.quant:
        return None
    if op.code == "TRANSPOSE":
        perm = None if op.inputs[1] is None else op.inputs[1].data
        return None if perm is None else tuple(int(a) if x.shape[a] != 1 else -1 for a in perm)
    axes = [axis for axis, size in enumerate(x.shape) if size != 1]
    if [x.shape[axis] for axis in axes] != [size for size in op.output.shape if size != 1] or x.shape.count(-1) > 1:
        return None
    rest = iter(axes)
    return tuple(-1 if size == 1 else next(rest) for size in op.output.shape)
