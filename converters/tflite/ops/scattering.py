"""What writes into a copy of a tensor by position: ScatterND, ScatterElements, TensorScatter."""

from __future__ import annotations

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.ops.picking import coordinates, flat_places, from_front, sizes_along
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_REDUCTIONS = {"none": "", "add": "STABLEHLO_ADD", "mul": "STABLEHLO_MULTIPLY", "max": "STABLEHLO_MAXIMUM",
               "min": "STABLEHLO_MINIMUM"}  # fmt: skip


@lowers("ScatterND")
def scatter_nd(b: Builder, node: Node) -> Tensor:
    x, indices, updates = (node.input(i) for i in range(3))
    if 0 in indices.shape[:-1] or 0 in updates.shape:
        return x
    places = coordinates(b, x, indices)
    reduction = node.text("reduction", "none")
    if reduction == "none" and (block := _block(x, places)):
        begin, shape = block
        return b.op("DYNAMIC_UPDATE_SLICE", [x, b.reshape(updates, shape), b.ints(begin)], x.shape)
    return _scatter(b, x, places, updates, reduction)


def _block(x: Tensor, places: Tensor) -> tuple[list[int], list[int]] | None:
    """Where the block begins, and its shape, that constant places are in the order of memory."""
    if places.data is None or -1 in x.shape:
        return None
    depth = places.shape[-1]
    rows = places.data.reshape(-1, depth)
    begin, end = rows.min(0), rows.max(0) + 1
    grid = np.moveaxis(np.indices(end - begin), 0, -1).reshape(-1, depth) + begin
    if grid.shape != rows.shape or (grid != rows).any() or (end > x.shape[:depth]).any():
        return None
    rest = x.shape[depth:]
    return [*map(int, begin), *[0] * len(rest)], [*map(int, end - begin), *rest]


def _scatter(b: Builder, x: Tensor, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """`x` with `updates` at `places`: their last axis holds positions in the first axes of `x`, from the front.

    The only kernel that combines with what is there, in the order of the updates; it skips what is out of bounds.
    """
    if reduction not in _REDUCTIONS:
        raise Unlowerable(f"reduction {reduction}")
    depth, rows = places.shape[-1], places.rank - 1
    return b.op(
        "STABLEHLO_SCATTER",
        [x, places, updates],
        x.shape,
        indicesAreSorted=False,
        updateWindowDims=list(range(rows, rows + x.rank - depth)),
        insertedWindowDims=list(range(depth)),
        scatterDimsToOperandDims=list(range(depth)),
        indexVectorDim=rows,
        uniqueIndices=False,
        updateComputationSubgraphIndex=_combining(_REDUCTIONS[reduction], x.dtype),
    )


def _combining(code: str, dtype: str) -> Graph:
    """What becomes of an element and its update: the update where there is no operation."""
    old, new = Tensor("old", (), dtype), Tensor("new", (), dtype)
    if not code:
        return Graph("update", [old, new], [new])
    found = Tensor("found", (), dtype)
    return Graph(code.lower(), [old, new], [found], [Op(code, [old, new], [found])])


@lowers("ScatterElements", "Scatter")
def scatter_elements(b: Builder, node: Node) -> Tensor:
    x, indices, updates = (node.input(i) for i in range(3))
    axis = node.integer("axis") % x.rank
    if 0 in indices.shape:
        return x
    places = from_front(b, indices, sizes_along(b, x, axis, indices.dtype))
    return _scatter_flat(b, x, places, updates, axis, node.text("reduction", "none"))


def _scatter_flat(b: Builder, x: Tensor, places: Tensor, updates: Tensor, axis: int, reduction: str) -> Tensor:
    """Elements at `places` along `axis`, along the other axes where they are in `updates`, written in flat memory."""
    flat = b.reshape(flat_places(b, x.shape, places, axis), [-1, 1])
    found = _scatter(b, b.reshape(x, [-1]), flat, b.reshape(updates, [-1]), reduction)
    return b.reshape(found, x.shape)


@lowers("TensorScatter")
def tensor_scatter(b: Builder, node: Node) -> Tensor:
    past, update = node.input(0), node.input(1)
    axis, mode = node.integer("axis", -2) % past.rank, node.text("mode", "linear")
    if mode not in ("linear", "circular"):
        raise Unlowerable(f"mode {mode}")
    if -1 in past.shape or -1 in update.shape:
        raise Unlowerable("a size is only known when the model runs")
    first = node.input(2) if node.has(2) else b.const(np.zeros(past.shape[0], "int64"))
    if mode == "linear":
        parts = [_updated(b, past, update, first, i, axis) for i in range(past.shape[0])]
        return b.concat(parts, 0)
    steps = np.arange(update.shape[axis]).astype(first.dtype)
    steps = steps.reshape([-1 if i == axis else 1 for i in range(past.rank)])
    places = b.add(b.reshape(first, [-1, *[1] * (past.rank - 1)]), b.const(steps))
    places = b.binary("FLOOR_MOD", places, past.shape[axis])
    whole = b.broadcast_to(places, update.shape)
    return _scatter_flat(b, past, whole, update, axis, "none")


def _updated(b: Builder, past: Tensor, update: Tensor, first: Tensor, sample: int, axis: int) -> Tensor:
    """One sample of a cache, written from its own place on."""

    def own(tensor: Tensor) -> Tensor:
        return b.slice(tensor, [sample, *[0] * (tensor.rank - 1)], [1, *tensor.shape[1:]])

    place = b.cast(own(first), "int32") if first.data is None else b.ints([first.data[sample]])
    behind = past.rank - axis - 1
    begin = [b.ints([0] * axis), place, *([b.ints([0] * behind)] if behind else [])]
    return b.op("DYNAMIC_UPDATE_SLICE", [own(past), own(update), b.concat(begin, 0)], [1, *past.shape[1:]])
