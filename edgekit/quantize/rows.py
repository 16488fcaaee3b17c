"""A weight as the matrices it multiplies by: a row for each output, a column for each number that is summed.

Rounding a weight well is a question about such rows alone: ``y = rows @ x``, where `x` is what the operation reads for
one output position. Operations with groups, depthwise convolutions above all, have as many matrices as groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from edgekit.errors import InputError
from edgekit.graph.walking import constant, dtype_name, int_attribute
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    *("RECURRENT", "Grid", "SecondMoment", "as_rows", "from_rows"),
    *("has_rows", "put_rows", "read_grid", "runs", "squared_error"),
]

SecondMoment: TypeAlias = tuple[np.ndarray, ...]
"""Mean of ``x x^T`` over positions: float32 [groups, k, k] for each run of `k` consecutive columns; one run for all
columns unless there are very many."""

RECURRENT = ("LSTM", "GRU")

Rounded = TypeVar("Rounded", QuantizedWeight, GroupedWeight)


def has_rows(node: ir.Node) -> bool:
    """Whether the node multiplies a float32 activation by a constant float32 weight in a way `as_rows` knows."""
    if node.domain != "" or node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return False
    activation, weight = node.inputs[0], node.inputs[1]
    array = constant(weight)
    if array is None or weight is None or dtype_name(weight) != "float32" or activation is None:
        return False
    if dtype_name(activation) not in ("float32", "") or constant(activation) is not None:
        return False
    is_plain = node.op_type != "Gemm" or not int_attribute(node, "transA", 0)
    return is_plain and (array.ndim == 2 if node.op_type in ("MatMul", "Gemm") else array.ndim > 2)


def as_rows(node: ir.Node, array: np.ndarray) -> np.ndarray:
    """An array of the weight's shape as [groups, outputs of a group, columns], a view where possible.

    Columns are input channels of the group times kernel positions, in that order. Of a ConvTranspose each kernel
    position is an output of its own: where several meet in one position, their errors are taken as independent.
    """
    if node.op_type in RECURRENT:
        return array  # a matrix for each direction
    groups = int_attribute(node, "group", 1)
    if node.op_type == "Conv":
        return array.reshape(groups, array.shape[0] // groups, -1)
    if node.op_type == "ConvTranspose":
        split = array.reshape(groups, array.shape[0] // groups, -1)
        return split.transpose(0, 2, 1)
    return array[None] if _is_transposed(node) else array.T[None]


def from_rows(node: ir.Node, rows: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """What `as_rows` was given, of that shape."""
    if node.op_type == "ConvTranspose":
        rows = rows.transpose(0, 2, 1)
    elif node.op_type in ("MatMul", "Gemm") and not _is_transposed(node):
        rows = rows[0].T
    return np.ascontiguousarray(rows.reshape(tuple(shape)))


def _is_transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and bool(int_attribute(node, "transB", 0))


@dataclass(frozen=True)
class Grid:
    """The numbers each element of the rows may become: ``scale * (integer - zero)``.

    Attributes:
        scale: float64, of the shape of the rows.
        zero: float64, of the shape of the rows.
        low: Smallest integer.
        high: Largest integer.
    """

    scale: np.ndarray
    zero: np.ndarray
    low: int
    high: int

    def nearest(self, real: np.ndarray) -> np.ndarray:
        """The integers of the nearest numbers, as float64."""
        return np.clip(np.rint(real / self.scale) + self.zero, self.low, self.high)

    def real(self, integers: np.ndarray) -> np.ndarray:
        """The numbers the integers stand for."""
        return (integers - self.zero) * self.scale

    def nearest_at(self, place: int, real: np.ndarray) -> np.ndarray:
        """As `nearest` of what is at `place` of the second axis: [groups, numbers]."""
        return np.clip(np.rint(real / self.scale[:, place]) + self.zero[:, place], self.low, self.high)

    def real_at(self, place: int, integers: np.ndarray) -> np.ndarray:
        """As `real` of what is at `place` of the second axis: [groups, numbers]."""
        return (integers - self.zero[:, place]) * self.scale[:, place]

    def columns_first(self) -> Grid:
        """The grid with the columns as second axis, each in one piece."""
        scale, zero = (np.array(array.transpose(0, 2, 1), order="C") for array in (self.scale, self.zero))
        return Grid(scale, zero, self.low, self.high)

    def columns(self, index: np.ndarray | slice) -> Grid:
        """The grid of some columns: a slice, or an order [groups, columns] for each group its own."""
        if isinstance(index, slice):
            return replace(self, scale=self.scale[..., index], zero=self.zero[..., index])
        order = index[:, None, :]
        return replace(
            self, scale=np.take_along_axis(self.scale, order, 2), zero=np.take_along_axis(self.zero, order, 2)
        )


def read_grid(node: ir.Node, quantized: QuantizedWeight | GroupedWeight) -> Grid:
    """The grid a rounded weight lies on. Symmetric ones leave out the integer that has no negative."""
    shape = quantized.values.shape
    if isinstance(quantized, GroupedWeight):
        scale, zero = quantized.spread(quantized.scale), quantized.spread(quantized.zero_point)
        low, high = (1 if bool((quantized.zero_point == 8).all()) else 0), 15
    else:
        params, limits = quantized.params, np.iinfo(quantized.params.dtype)
        along = [-1 if i == params.axis else 1 for i in range(len(shape))]
        scale, zero = (np.asarray(numbers).reshape(along) for numbers in (params.scale, params.zero_point))
        low, high = (-limits.max if not zero.any() else limits.min), limits.max
    spread = [as_rows(node, np.broadcast_to(array, shape)).astype("float64") for array in (scale, zero)]
    return Grid(spread[0], spread[1], int(low), int(high))


def put_rows(node: ir.Node, quantized: Rounded, integers: np.ndarray) -> Rounded:
    """The same rounded weight with other integers, given as rows."""
    values = from_rows(node, integers, quantized.values.shape).astype(quantized.values.dtype)
    return replace(quantized, values=values)


def runs(columns: int, second: SecondMoment) -> Iterator[tuple[slice, np.ndarray]]:
    """Each run of columns and its second moment.

    Raises:
        InputError: The second moment is not of as many columns.
    """
    if sum(run.shape[-1] for run in second) != columns:
        sizes = [run.shape[-1] for run in second]
        raise InputError(f"second moments of {sizes} columns do not fit a weight of {columns}", hint="gather them anew")
    start = 0
    for run in second:
        yield slice(start, start + run.shape[-1]), run
        start += run.shape[-1]


def squared_error(error: np.ndarray, second: SecondMoment) -> np.ndarray:
    """Mean square of what an error of the rows makes of each output: float64 [groups, outputs of a group]."""
    return sum(
        (np.einsum("grk,grk->gr", error[..., run] @ moment.astype("float64"), error[..., run])
         for run, moment in runs(error.shape[-1], second)),
        start=np.zeros(error.shape[:2]),
    )  # fmt: skip
