"""What selects by value: TopK, ArgMax, NonZero, Compress, Unique."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.kernels import computing_type
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.shapes import empty
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_COMPARED = 1 << 24
"""Unique along an axis compares each with each; beyond this many comparisons another way would have to be found."""


@lowers("TopK")
def top_k(b: Builder, node: Node) -> Sequence[Tensor]:
    x, axis = node.input(0), node.integer("axis", -1) % node.input(0).rank
    swap = list(range(x.rank))
    swap[axis], swap[-1] = swap[-1], swap[axis]
    k = b.cast(b.reshape(node.input(1), ()), "int32")
    values, places = _top(b, b.transpose(x, swap), k, is_largest=bool(node.integer("largest", 1)))
    return b.transpose(values, swap), b.cast(b.transpose(places, swap), "int64")


def _top(b: Builder, x: Tensor, k: Tensor, *, is_largest: bool) -> tuple[Tensor, Tensor]:
    """Values and int32 places of the `k` first along the last axis; of equal ones the first in `x` comes first."""
    computing = computing_type("TOPK_V2", x.dtype)
    shape = [*x.shape[:-1], -1 if k.data is None else int(k.data)]
    given = b.cast(x, computing) if is_largest else _turned(b, x)
    values, places = b.ops("TOPK_V2", [given, k], [(shape, None), (shape, "int32")])
    return b.cast(values if is_largest else _turned(b, values), x.dtype), places


def _turned(b: Builder, x: Tensor) -> Tensor:
    """Numbers in the opposite order, by what undoes itself; of integers none is without an opposite this way."""
    if x.dtype == "float32":
        return b.unary("NEG", x)
    return b.sub(-1, b.cast(x, computing_type("SUB", x.dtype)))


@lowers("ArgMax", "ArgMin")
def arg_max(b: Builder, node: Node) -> Tensor:
    x, axis = node.input(0), node.integer("axis") % node.input(0).rank
    is_last, size = bool(node.integer("select_last_index")), x.shape[axis]
    if is_last:
        if size < 0:
            raise Unlowerable("the last of a size only known when the model runs")
        x = b.op("REVERSE_V2", [x, b.ints([axis])], x.shape)
    # The kernel is eight times as fast along the last axis, where a segmentation's classes are once channels go last.
    behind = b.transpose(x, [*(i for i in range(x.rank) if i != axis), axis])
    shape, last = behind.shape[:-1], b.const(np.array(x.rank - 1, "int32"))
    if x.dtype == "int64":  # for which there is a TOPK_V2 only
        _, places = _top(b, behind, b.const(np.array(1, "int32")), is_largest=node.op == "ArgMax")
        found = b.cast(_without(b, places, x.rank - 1), "int64")
    else:
        code = "ARG_MAX" if node.op == "ArgMax" else "ARG_MIN"
        found = b.op(code, [behind, last], shape, "int64", outputType="int64")
    if is_last:
        found = b.sub(size - 1, found)
    return _with(b, found, axis) if node.integer("keepdims", 1) else found


def _without(b: Builder, x: Tensor, axis: int) -> Tensor:
    shape = [n for i, n in enumerate(x.shape) if i != axis]
    return b.reshape(x, shape) if -1 not in shape else b.op("SQUEEZE", [x], shape, squeezeDims=[axis])


def _with(b: Builder, x: Tensor, axis: int) -> Tensor:
    shape = [*x.shape[:axis], 1, *x.shape[axis:]]
    return b.reshape(x, shape) if -1 not in shape else b.op("EXPAND_DIMS", [x, b.const(axis, "int32")], shape)


@lowers("NonZero")
def nonzero(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    if not x.rank:
        raise Unlowerable("a scalar")
    return b.transpose(_true(b, x), [1, 0])


def _true(b: Builder, x: Tensor) -> Tensor:
    """A row of int64 for each element that is not zero: where it stands."""
    return b.op("WHERE", [x], [-1, x.rank], "int64")


@lowers("Compress")
def compress(b: Builder, node: Node) -> Tensor:
    x, chosen = node.input(0), node.input(1)
    axis = node.integer("axis") % x.rank if node.has_attribute("axis") else 0
    if not node.has_attribute("axis"):
        x = b.reshape(x, [-1])
    if chosen.data is None:
        return b.gather(x, b.reshape(_true(b, chosen), [-1]), axis)
    places = np.flatnonzero(chosen.data)
    return b.gather(x, b.ints(places), axis) if places.size else empty(b, node.shape, x.dtype)


@lowers("Unique")
def unique(b: Builder, node: Node) -> Sequence[Tensor | None]:
    x, is_sorted = node.input(0), bool(node.integer("sorted", 1))
    if node.has_attribute("axis"):
        return _unique_along(b, node, x, node.integer("axis") % x.rank, is_sorted)
    x = b.reshape(x, [-1])
    computing = computing_type("UNIQUE", x.dtype)
    count = b.reshape(b.shape_of(x), ())
    order = None
    given = b.cast(x, computing)
    if is_sorted:
        _, order = _top(b, given, count, is_largest=False)
        given = b.gather(given, order, 0)
    found, groups = b.ops("UNIQUE", [given], [([-1], None), (x.shape, "int32")], idxOutType="int32")
    number = b.reshape(b.shape_of(found), ())
    places = order if order is not None else _numbers(b, count, x.shape)
    back = groups
    if order is not None and node.outputs[2:3] not in ([], [None]):
        back = b.op("SCATTER_ND", [b.reshape(order, [-1, 1]), groups, b.shape_of(x)], x.shape, "int32")
    return b.cast(found, x.dtype), *_described(b, node, places, groups, number, back)


def _numbers(b: Builder, count: Tensor, shape: Sequence[int]) -> Tensor:
    """0, 1, 2, ... in int32."""
    if count.data is not None:
        return b.ints(np.arange(int(count.data)))
    return b.op("RANGE", [b.const(0, "int32"), count, b.const(1, "int32")], shape, "int32")


def _described(
    b: Builder, node: Node, places: Tensor, groups: Tensor, number: Tensor, back: Tensor
) -> list[Tensor | None]:
    """Unique's other outputs, those that are read: each group's first place, each element's group, each group's size.

    Args:
        places: Of each element where it was at first.
        groups: Of each element its group, a number below `number`, a scalar.
        back: The groups in the order the elements had at first.
    """
    wanted = [i < len(node.outputs) and node.outputs[i] is not None for i in range(1, 4)]
    first = size = None
    if wanted[0]:
        first = b.cast(b.op("UNSORTED_SEGMENT_MIN", [places, groups, number], [-1], "int32"), "int64")
    if wanted[2]:
        ones = b.op("FILL", [b.shape_of(groups), b.const(1, "int32")], groups.shape, "int32")
        size = b.cast(b.op("UNSORTED_SEGMENT_SUM", [ones, groups, number], [-1], "int32"), "int64")
    return [first, b.cast(back, "int64") if wanted[1] else None, size][: len(node.outputs) - 1]


def _unique_along(b: Builder, node: Node, x: Tensor, axis: int, is_sorted: bool) -> Sequence[Tensor | None]:
    """Compares each layer with each, in the order of memory: quadratic, but without a loop.

    A layer's group is the number of different layers that are less, or that came before.
    """
    count = x.shape[axis]
    if -1 in x.shape or count * x.size > _COMPARED or 0 in x.shape:
        raise Unlowerable("an empty tensor, a very large one, or one of a size only known when the model runs")
    front = [axis, *(i for i in range(x.rank) if i != axis)]
    rows = b.reshape(b.transpose(x, front), [count, x.size // count])
    left, right = b.reshape(rows, [count, 1, -1]), b.reshape(rows, [1, count, -1])
    same = b.binary("EQUAL", left, right)
    equal = b.reduce("REDUCE_ALL", same, [2], keep=False)
    leader = b.op("ARG_MAX", [equal, b.const(1, "int32")], [count], "int32", outputType="int32")
    leads = b.binary("EQUAL", leader, b.ints(np.arange(count)))
    if is_sorted:
        differs = b.op("ARG_MIN", [same, b.const(2, "int32")], [count, count], "int32", outputType="int32")
        # Where layers are equal the first element is looked at, which is not less either.
        less = b.gather(b.binary("LESS", left, right), differs, 2, batch_dims=2)
        counted = b.binary("LOGICAL_AND", less, b.reshape(leads, [count, 1]))
        groups = b.reduce("SUM", b.cast(counted, "int32"), [0], keep=False)
    else:
        before = b.op("CUMSUM", [b.cast(leads, "int32"), b.const(0, "int32")], [count], exclusive=True, reverse=False)
        groups = b.gather(before, leader, 0)
    number = b.reduce("SUM", b.cast(leads, "int32"), [0], keep=False)
    places = b.ints(np.arange(count))
    first = b.op("UNSORTED_SEGMENT_MIN", [places, groups, number], [-1], "int32")
    return b.gather(x, first, axis), *_described(b, node, places, groups, number, groups)
