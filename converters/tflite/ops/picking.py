"""What picks by position: Gather and its kin, OneHot, Trilu, ReverseSequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.kernels import computing_type
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.shapes import empty
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_MASK = 1 << 16
"""A triangle of up to this many elements stands in the file; a larger one is compared when the model runs."""
_NEVER_NEGATIVE = {"ARG_MAX", "ARG_MIN", "WHERE", "SHAPE"}


@lowers("Gather")
def gather(b: Builder, node: Node) -> Tensor:
    x, indices = node.input(0), node.input(1)
    axis = node.integer("axis") % x.rank
    if 0 in node.shape:
        return empty(b, node.shape, x.dtype)
    indices = from_front(b, indices, sizes_along(b, x, axis, indices.dtype))
    if x in b.stored and axis == 0 and x.rank == 2 and indices.size >= 0 and b.stored[x].quant is not None:
        return _looked_up(b, b.stored[x], indices)
    if indices.data is None:
        return b.gather(x, indices, axis)
    places = indices.data.reshape(-1)
    shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]
    if x.data is None and len(places) > 1 and (np.diff(places) == 1).all() and shape.count(-1) <= 1:  # a block
        begin, size = [0] * x.rank, list(x.shape)
        begin[axis], size[axis] = int(places[0]), len(places)
        return b.reshape(b.slice(x, begin, size), shape)
    return b.gather(x, b.cast(indices, "int32"), axis)


def _looked_up(b: Builder, table: Tensor, indices: Tensor) -> Tensor:
    """Rows of a stored table: only they become real numbers."""
    places = b.reshape(b.cast(indices, "int32"), [indices.size])
    rows = b.op("EMBEDDING_LOOKUP", [places, table], [indices.size, table.shape[1]], "float32")
    return b.reshape(rows, [*indices.shape, table.shape[1]])


def sizes_along(b: Builder, x: Tensor, axis: int, dtype: str) -> Tensor:
    """The size of `x` along `axis`, as a scalar of `dtype`."""
    if x.shape[axis] >= 0:
        return b.const(np.asarray(x.shape[axis], dtype))
    return b.cast(b.reshape(b.slice(b.shape_of(x), [axis], [1]), ()), dtype)


def from_front(b: Builder, indices: Tensor, sizes: Tensor) -> Tensor:
    """`indices`, of which negative ones count from the end, as TFLite wants them; `sizes` is broadcast.

    What is out of bounds stays so, for the kernels to find: a remainder would make it some other element.
    """
    if indices.data is not None and (not (indices.data < 0).any() or sizes.data is not None):
        back = 0 if sizes.data is None else sizes.data
        return b.const(np.where(indices.data < 0, indices.data + back, indices.data).astype(indices.dtype))
    if _counts_from_front(b, indices):
        return indices
    return b.where(b.binary("LESS", indices, 0), b.add(indices, sizes), indices)


def _counts_from_front(b: Builder, indices: Tensor) -> bool:
    """Whether positions come, perhaps cast or reshaped, from an operation that gives none below zero."""
    for op in reversed(b.graph.ops):
        if indices in op.outputs:
            if op.code not in ("CAST", "RESHAPE", "TRANSPOSE", "SQUEEZE"):
                return op.code in _NEVER_NEGATIVE or (op.code == "TOPK_V2" and indices is op.outputs[1])
            if op.inputs[0] is None:
                return False
            indices = op.inputs[0]
    return False


@lowers("GatherElements")
def gather_elements(b: Builder, node: Node) -> Tensor:
    x, indices = node.input(0), node.input(1)
    axis = node.integer("axis") % x.rank
    if 0 in indices.shape:
        return empty(b, indices.shape, x.dtype)
    places = from_front(b, indices, sizes_along(b, x, axis, indices.dtype))
    if axis == x.rank - 1 and x.shape[:-1] == indices.shape[:-1] and -1 not in x.shape:
        return b.gather(x, places, axis, batch_dims=axis)
    return b.gather(b.reshape(x, [-1]), flat_places(b, x.shape, places, axis), 0)


def flat_places(b: Builder, shape: Sequence[int], places: Tensor, axis: int) -> Tensor:
    """Where elements of a tensor of `shape` lie in its memory, whose positions along `axis` are `places`.

    Along the other axes an element lies where its place is. Of that only one layer is stored: it is the same for all
    along `axis`.
    """
    if -1 in shape or -1 in places.shape:
        raise Unlowerable("a size is only known when the model runs")
    if int(np.prod(shape, dtype="int64")) >= 2**31 and places.dtype == "int32":
        raise Unlowerable("more than 2^31 elements")
    strides = [int(np.prod(shape[i + 1 :], dtype="int64")) for i in range(len(shape))]
    layer = [1 if i == axis else n for i, n in enumerate(places.shape)]
    rest = sum(np.arange(n).reshape([-1 if j == i else 1 for j in range(len(layer))]) * strides[i]
               for i, n in enumerate(layer) if i != axis)  # fmt: skip
    start = np.broadcast_to(np.asarray(rest, places.dtype), layer)
    if places.data is not None:
        return b.const((places.data * strides[axis] + start).astype(places.dtype))
    along = places if strides[axis] == 1 else b.mul(places, strides[axis])
    return b.add(along, b.const(start)) if start.any() else along


@lowers("GatherND")
def gather_nd(b: Builder, node: Node) -> Tensor:
    x, indices, batches = node.input(0), node.input(1), node.integer("batch_dims")
    depth = indices.shape[-1]
    if depth < 0:
        raise Unlowerable("how many axes are picked from is only known when the model runs")
    if 0 in node.shape:
        return empty(b, node.shape, x.dtype)
    places = coordinates(b, x, indices, batches)
    if batches:
        if -1 in indices.shape[:-1]:
            raise Unlowerable("batches of a size only known when the model runs")
        own = np.moveaxis(np.indices(indices.shape[:-1])[:batches], 0, -1).astype(indices.dtype)
        places = b.concat([b.const(own), places], -1)
    return b.op("GATHER_ND", [x, places], [*indices.shape[:-1], *x.shape[batches + depth :]])


def coordinates(b: Builder, x: Tensor, indices: Tensor, skipped: int = 0) -> Tensor:
    """Rows of positions in the axes of `x` from axis `skipped` on, none of them negative."""
    depth = indices.shape[-1]
    if x.size >= 0:
        return from_front(b, indices, b.const(np.array(x.shape[skipped : skipped + depth], indices.dtype)))
    return from_front(b, indices, b.cast(b.slice(b.shape_of(x), [skipped], [depth]), indices.dtype))


@lowers("OneHot")
def one_hot(b: Builder, node: Node) -> Tensor:
    indices, depth, values = node.input(0), b.reshape(node.input(1), ()), node.input(2)
    axis = node.integer("axis", -1)
    axis += indices.rank + 1 if axis < 0 else 0
    if indices.dtype != "int64":
        indices = b.cast(indices, "int32")
    depth = b.cast(depth, "int32")
    # Not `from_front`: what is out of bounds is no error here but a row of `off`.
    places = b.where(b.binary("LESS", indices, 0), b.add(indices, b.cast(depth, indices.dtype)), indices)
    pair = [b.reshape(b.slice(values, [i], [1]), ()) for i in range(2)] if values.data is None else None
    off, on = pair or [b.const(np.asarray(value)) for value in values.data]  # type: ignore[union-attr]
    computing = computing_type("ONE_HOT", on.dtype)
    inputs = [places, depth, b.cast(on, computing), b.cast(off, computing)]
    size = -1 if depth.data is None else int(depth.data)
    shape = [*indices.shape[:axis], size, *indices.shape[axis:]]
    return b.cast(b.op("ONE_HOT", inputs, shape, computing, axis=-1 if axis == indices.rank else axis), on.dtype)


@lowers("Trilu")
def trilu(b: Builder, node: Node) -> Tensor:
    x, upper = node.input(0), bool(node.integer("upper", 1))
    if -1 in x.shape[-2:]:
        raise Unlowerable("the size of the matrix is only known when the model runs")
    if 0 in x.shape:
        return empty(b, x.shape, x.dtype)
    rows, columns = x.shape[-2:]
    diagonal = node.constant(1) if node.has(1) else np.int64(0)
    if diagonal is not None and rows * columns <= _MASK:
        lower = np.tri(rows, columns, int(diagonal) - upper, dtype="bool")
        mask = b.const(~lower if upper else lower)
    else:
        k = b.const(np.asarray(diagonal, "int64")) if diagonal is not None else b.reshape(node.input(1), ())
        # Numbers of diagonals: column less row. Sums of vectors, not a matrix, are what is stored.
        border = b.add(b.const(np.arange(rows).reshape(rows, 1)), k)
        mask = b.binary(
            "GREATER_EQUAL" if upper else "LESS_EQUAL", b.const(np.arange(columns).reshape(1, columns)), border
        )
    return b.where(mask, x, 0)


@lowers("ReverseSequence")
def reverse_sequence(b: Builder, node: Node) -> Tensor:
    x, lengths = node.input(0), node.input(1)
    batch, time = node.integer("batch_axis", 1) % x.rank, node.integer("time_axis") % x.rank
    computing = x.dtype if x.dtype not in ("bool", "int8") else "int32"
    found = b.op("REVERSE_SEQUENCE", [b.cast(x, computing), lengths], x.shape, seqDim=time, batchDim=batch)
    return b.cast(found, x.dtype)
