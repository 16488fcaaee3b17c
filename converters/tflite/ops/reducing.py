"""What makes one number of many: the Reduce family, CumSum, Det."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.kernels import computing_type
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.shapes import empty
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_LARGEST_MATRIX = 8
"""Minors of a determinant grow as two to the power of its size, and with them the error."""


def _absolute(b: Builder, x: Tensor) -> Tensor:
    return b.binary("MAXIMUM", x, b.unary("NEG", x)) if x.dtype == "int64" else b.unary("ABS", x)


def _square(b: Builder, x: Tensor) -> Tensor:
    return b.mul(x, x)


def _root(b: Builder, x: Tensor) -> Tensor:
    return b.cast(b.unary("SQRT", b.cast(x, "float32")), x.dtype)


def _logarithm(b: Builder, x: Tensor) -> Tensor:
    return b.cast(b.unary("LOG", b.cast(x, "float32")), x.dtype)


_Step = Callable[[Builder, Tensor], Tensor]

_REDUCTIONS: dict[str, tuple[_Step | None, str, _Step | None]] = {
    "ReduceSum": (None, "SUM", None),
    "ReduceMean": (None, "MEAN", None),
    "ReduceMax": (None, "REDUCE_MAX", None),
    "ReduceMin": (None, "REDUCE_MIN", None),
    "ReduceProd": (None, "REDUCE_PROD", None),
    "ReduceL1": (_absolute, "SUM", None),
    "ReduceL2": (_square, "SUM", _root),
    "ReduceSumSquare": (_square, "SUM", None),
    "ReduceLogSum": (None, "SUM", _logarithm),
}
"""What is done before, the reduction, what is done after."""

_OF_NOTHING = {"ReduceProd": 1.0, "ReduceMax": -np.inf, "ReduceMin": np.inf, "ReduceLogSum": -np.inf,
               "ReduceLogSumExp": -np.inf, "ReduceMean": np.nan}  # fmt: skip
"""What an empty set is reduced to, where it is not 0."""


@lowers(*_REDUCTIONS, "ReduceLogSumExp")
def reduce(b: Builder, node: Node) -> Tensor:
    x, keep = node.input(0), bool(node.integer("keepdims", 1))
    axes: list[int] | Tensor = _axes(node, x.rank)
    if 0 in x.shape and -1 not in node.shape:
        return _of_nothing(b, node)

    def over(code: str, x: Tensor, keep: bool) -> Tensor:
        return _reduced(b, code, x, axes, keep, node.shape)

    if node.op == "ReduceLogSumExp":
        # The largest is taken out, so that nothing overflows; infinities stay in, where they are right.
        top = b.binary("MAXIMUM", over("REDUCE_MAX", x, True), float(np.finfo("float32").min))
        top = b.binary("MINIMUM", top, float(np.finfo("float32").max))
        total = b.unary("LOG", over("SUM", b.unary("EXP", b.sub(x, top)), keep))
        return b.add(total, top if keep else b.reshape(top, total.shape))
    before, code, after = _REDUCTIONS[node.op]
    if x.dtype == "bool":
        code = {"REDUCE_MAX": "REDUCE_ANY", "REDUCE_MIN": "REDUCE_ALL"}.get(code, code)
    found = over(code, before(b, x) if before else x, keep)
    return after(b, found) if after else found


def _axes(node: Node, rank: int) -> list[int] | Tensor:
    """Sorted, or the tensor they are in when they are only known when the model runs."""
    given = node.integers("axes") if not node.has(1) else None
    if given is None:
        known = node.constant(1)
        if known is None:
            tensor = node.input(1)
            if tensor.size < 0:
                raise Unlowerable("how many axes are reduced is only known when the model runs")
            return tensor
        given = [int(axis) for axis in known.reshape(-1)]
    if not given and not node.integer("noop_with_empty_axes"):
        return list(range(rank))
    return sorted({axis % rank for axis in given}) if rank else []


def _reduced(
    b: Builder, code: str, x: Tensor, axes: list[int] | Tensor, keep: bool, promised: tuple[int, ...]
) -> Tensor:
    if not isinstance(axes, Tensor):
        return b.reduce(code, x, axes, keep=keep) if axes else x
    computing, shape = computing_type(code, x.dtype), [-1] * x.rank if keep else promised
    found = b.op(code, [b.cast(x, computing), b.cast(axes, "int32")], shape, computing, keepDims=keep)
    return b.cast(found, x.dtype)


def _of_nothing(b: Builder, node: Node) -> Tensor:
    """What is reduced has no elements: empty, or all the same."""
    if 0 in node.shape:
        return empty(b, node.shape, node.dtype)
    value = _OF_NOTHING.get(node.op, 0.0)
    if np.isfinite(value) or node.dtype == "float32":
        return b.const(np.full(node.shape, value, node.dtype))
    if node.dtype == "bool":
        return b.const(np.full(node.shape, value > 0))
    if node.op not in ("ReduceMax", "ReduceMin"):
        raise Unlowerable(f"no {node.dtype} is {value}")
    limits = np.iinfo(node.hub_dtype())
    return b.const(np.full(node.shape, limits.max if value > 0 else limits.min, node.dtype))


@lowers("CumSum")
def cumulative_sum(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    axis = b.cast(b.reshape(node.input(1), ()), "int32")
    is_exclusive, is_reverse = bool(node.integer("exclusive")), bool(node.integer("reverse"))
    return b.op("CUMSUM", [x, axis], x.shape, exclusive=is_exclusive, reverse=is_reverse)


@lowers("Det")
def determinant(b: Builder, node: Node) -> Tensor:
    """Laplace's expansion, row by row, of all minors of the first rows at once: no pivots, so no zero to divide by."""
    x = node.input(0)
    size = x.shape[-1]
    if not 0 < size <= _LARGEST_MATRIX or -1 in x.shape:
        raise Unlowerable(f"a matrix of shape {list(x.shape[-2:])}")
    matrices = b.reshape(x, [-1, size, size])
    rows = [b.reshape(b.slice(matrices, [0, i, 0], [matrices.shape[0], 1, size]), [-1, size]) for i in range(size)]
    minors = rows[0]
    smaller: dict[tuple[int, ...], int] = {(column,): column for column in range(size)}
    for number, row in enumerate(rows[1:], 1):
        chosen = list(itertools.combinations(range(size), number + 1))
        left = [[smaller[(*columns[:k], *columns[k + 1 :])] for k in range(number + 1)] for columns in chosen]
        signs = [(-1.0) ** (number + k) for k in range(number + 1)]
        factors = b.mul(b.gather(row, b.ints(np.array(chosen)), 1), b.const(signs, "float32"))
        minors = b.reduce("SUM", b.mul(factors, b.gather(minors, b.ints(np.array(left)), 1)), [2], keep=False)
        smaller = {columns: i for i, columns in enumerate(chosen)}
    return b.reshape(minors, x.shape[:-2])
