"""What lowerings write with: tensors and operations of one TFLite graph, shapes and types worked out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.converters.tflite import integers
from edgekit.converters.tflite.kernels import computing_type
from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.table import Unlowerable
from edgekit.spec import QuantParams

__all__ = ["Builder"]

_LOGICAL = {"EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "LOGICAL_AND", "LOGICAL_OR"}


class Builder:
    """One graph under construction.

    Constants stay constants through `cast`, `reshape` and `transpose`. All methods that take a tensor also take an
    array or a number where a constant is meant; a number takes the dtype of the other operand.

    Attributes:
        graph: What has been built so far.
        source: Name of the hub's node that is being lowered.
        stored: The integer constant behind each constant of real numbers that is stored as such. `reshape`,
            `transpose` and `slice` move the integers.
        narrow: The int16 tensor behind each that is held in int32 and stands for real numbers by its `quant`.
    """

    def __init__(self, name: str = "main") -> None:
        self.graph = Graph(name)
        self.source = ""
        self.stored: dict[Tensor, Tensor] = {}
        self.narrow: dict[Tensor, Tensor] = {}

    def const(self, array: np.ndarray | Sequence[Any] | float, dtype: str | None = None, name: str = "") -> Tensor:
        """A constant. One without elements is cut out of one that has some: TFLite refuses it otherwise."""
        data = np.asarray(array, dtype=dtype)
        label = name or f"{self.source}/const"
        if data.size or not data.ndim:
            return Tensor(label, data.shape, data.dtype.name, np.asarray(data, order="C"))
        full = Tensor(label, tuple(max(1, n) for n in data.shape), data.dtype.name)
        full.data = np.zeros(full.shape, data.dtype)
        return self.op("SLICE", [full, self.ints([0] * data.ndim), self.ints(data.shape)], data.shape, full.dtype)

    def ints(self, values: Sequence[int] | np.ndarray) -> Tensor:
        """A constant vector of int32, as axes, sizes and positions are given."""
        return self.const(np.asarray(values, "int32"))

    def op(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        shape: Sequence[int],
        dtype: str | None = None,
        *,
        quant: QuantParams | None = None,
        **options: Any,
    ) -> Tensor:
        """Appends an operation with one output; `dtype` is by default that of the first input."""
        return self.ops(code, inputs, [(shape, dtype)], quant=quant, **options)[0]

    def ops(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[tuple[Sequence[int], str | None]],
        *,
        quant: QuantParams | None = None,
        **options: Any,
    ) -> list[Tensor]:
        """Appends an operation with any number of outputs, each given as shape and dtype."""
        first = next((tensor.dtype for tensor in inputs if tensor is not None), "float32")
        given = [Tensor(self.source, tuple(map(int, shape)), dtype or first, quant=quant) for shape, dtype in outputs]
        self.graph.ops.append(Op(code, list(inputs), given, options, self.source))
        return given

    # --- what only changes how numbers are stored --------------------------------------------------------------------

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """`x` as `dtype`; numbers that do not fit wrap around, as in C."""
        if x.dtype == dtype:
            return x
        if x.data is not None:
            return self.const(x.data.astype(dtype), name=x.name)
        return self.op("CAST", [x], x.shape, dtype, inDataType=x.dtype, outDataType=dtype)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """`x` in another shape of as many elements; at most one -1, for what is not known."""
        wanted = tuple(int(size) for size in shape)
        if -1 in wanted and x.size >= 0 and 0 not in wanted:
            rest = int(-np.prod(wanted, dtype="int64"))
            wanted = tuple(x.size // rest if size == -1 else size for size in wanted)
        if wanted == x.shape:
            return x
        if x.data is not None:
            return self.const(x.data.reshape(wanted), name=x.name)
        if x in self.stored:
            if moved := integers.reshaped(self.stored[x], wanted):
                return self.dequantize(moved)
            return self.const(integers.numbers(self.stored[x]).reshape(wanted), name=x.name)
        if not wanted:  # a constant without elements, as the shape of a scalar is, cannot be written
            return self.op("SQUEEZE", [x], wanted, quant=x.quant, squeezeDims=list(range(x.rank)))
        return self.op("RESHAPE", [x, self.ints(wanted)], wanted, quant=x.quant, newShape=list(wanted))

    def shape_of(self, x: Tensor) -> Tensor:
        """The shape of `x` as a vector of int32: a constant unless some of it is not known."""
        if x.size >= 0:
            return self.ints(x.shape)
        return self.op("SHAPE", [x], [x.rank], "int32", outType="int32")

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """`x` with output axis i taken from input axis ``perm[i]``."""
        if list(perm) == list(range(x.rank)):
            return x
        shape = [x.shape[axis] for axis in perm]
        if x.data is not None:
            return self.const(np.ascontiguousarray(x.data.transpose(perm)), name=x.name)
        if x in self.stored:
            return self.dequantize(integers.transposed(self.stored[x], perm))
        return self.op("TRANSPOSE", [x, self.ints(perm)], shape, quant=x.quant)

    def dequantize(self, x: Tensor) -> Tensor:
        """The real numbers that the integers `x` stand for by its `quant` or its `scales`."""
        found = self.op("DEQUANTIZE", [x], x.shape, "float32")
        if x.data is not None:
            self.stored[found] = x
        return found

    def channels_last(self, x: Tensor) -> Tensor:
        """N, C, spatial... to N, spatial..., C."""
        return self.transpose(x, [0, *range(2, x.rank), 1])

    def channels_first(self, x: Tensor) -> Tensor:
        """N, spatial..., C to N, C, spatial..."""
        return self.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)])

    # --- arithmetic --------------------------------------------------------------------------------------------------

    def unary(self, code: str, x: Tensor, dtype: str | None = None) -> Tensor:
        """An operation that keeps the shape; computed in a type its kernel knows and cast back to `dtype`."""
        computing = computing_type(code, x.dtype)
        return self.cast(self.op(code, [self.cast(x, computing)], x.shape, computing), dtype or x.dtype)

    def binary(self, code: str, x: Tensor | float, y: Tensor | float, **options: Any) -> Tensor:
        """An operation of two tensors of one dtype, broadcast as numpy does; comparisons give bool."""
        left, right = self._operands(x, y)
        computing = computing_type(code, left.dtype)
        shape = _broadcast(left.shape, right.shape)
        gives = "bool" if code in _LOGICAL else computing
        found = self.op(code, [self.cast(left, computing), self.cast(right, computing)], shape, gives, **options)
        return self.cast(found, "bool" if code in _LOGICAL else left.dtype)

    def _operands(self, x: Tensor | float, y: Tensor | float) -> tuple[Tensor, Tensor]:
        if not isinstance(x, Tensor):
            assert isinstance(y, Tensor)
            x = self.const(np.asarray(x, y.dtype))
        if not isinstance(y, Tensor):
            y = self.const(np.asarray(y, x.dtype))
        if x.dtype != y.dtype:
            raise Unlowerable(f"operands of {x.dtype} and {y.dtype}")
        return x, y

    def add(self, x: Tensor | float, y: Tensor | float) -> Tensor:
        return self.binary("ADD", x, y)

    def sub(self, x: Tensor | float, y: Tensor | float) -> Tensor:
        return self.binary("SUB", x, y)

    def mul(self, x: Tensor | float, y: Tensor | float) -> Tensor:
        return self.binary("MUL", x, y)

    def div(self, x: Tensor | float, y: Tensor | float) -> Tensor:
        return self.binary("DIV", x, y)

    def where(self, condition: Tensor, x: Tensor | float, y: Tensor | float) -> Tensor:
        """`x` where `condition` holds, else `y`; all broadcast."""
        left, right = self._operands(x, y)
        shape = _broadcast(condition.shape, left.shape, right.shape)
        computing = computing_type("SELECT_V2", left.dtype)
        values = [self.cast(left, computing), self.cast(right, computing)]
        return self.cast(self.op("SELECT_V2", [condition, *values], shape, computing), left.dtype)

    def reduce(self, code: str, x: Tensor, axes: Sequence[int], *, keep: bool) -> Tensor:
        """SUM, MEAN, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD, REDUCE_ANY or REDUCE_ALL over `axes`."""
        along = sorted(axis % x.rank for axis in axes) if x.rank else []
        shape = [1 if i in along else n for i, n in enumerate(x.shape) if keep or i not in along]
        computing = computing_type(code, x.dtype)
        found = self.op(code, [self.cast(x, computing), self.ints(along)], shape, computing, keepDims=keep)
        return self.cast(found, x.dtype)

    def mean(self, x: Tensor, axes: Sequence[int], *, keep: bool = True) -> Tensor:
        return self.reduce("MEAN", x, axes, keep=keep)

    def matmul(self, x: Tensor, y: Tensor, *, adj_y: bool = False) -> Tensor:
        """numpy's matmul of two float tensors of rank 2 or more, batches broadcast; `adj_y` swaps y's last two axes."""
        shape = [*_broadcast(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-2 if adj_y else -1]]
        return self.op("BATCH_MATMUL", [x, y], shape, adjX=False, adjY=adj_y)

    # --- picking and placing -----------------------------------------------------------------------------------------

    def slice(self, x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
        """The block of `x` that begins at `begin` and has shape `size`."""
        if list(size) == list(x.shape):
            return x
        if x in self.stored and (cut := integers.sliced(self.stored[x], begin, size)):
            return self.dequantize(cut)
        return self.op("SLICE", [x, self.ints(begin), self.ints(size)], size, quant=x.quant)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        axis %= parts[0].rank
        sizes = [part.shape[axis] for part in parts]
        shape = list(parts[0].shape)
        shape[axis] = -1 if -1 in sizes else sum(sizes)
        return self.op("CONCATENATION", parts, shape, axis=axis, fusedActivationFunction="NONE")

    def pad(self, x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0) -> Tensor:
        """`x` with `value` around it."""
        if not any((*before, *after)):
            return x
        amounts = self.const(np.stack([before, after], 1).astype("int32"))
        shape = [n + b + a if n >= 0 else -1 for n, b, a in zip(x.shape, before, after, strict=True)]
        if value == 0:
            return self.op("PAD", [x, amounts], shape, quant=x.quant)
        return self.op("PADV2", [x, amounts, self.const(np.asarray(value, x.dtype))], shape)

    def broadcast_to(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """`x` repeated as numpy does: by TILE, 60 times as fast as BROADCAST_TO, which looks up every element."""
        if tuple(shape) == x.shape:
            return x
        if -1 in x.shape or -1 in shape:
            return self.op("BROADCAST_TO", [x, self.ints(shape)], shape, quant=x.quant)
        aligned = self.reshape(x, [*[1] * (len(shape) - x.rank), *x.shape])
        repeats = [1 if n == m else n for n, m in zip(shape, aligned.shape, strict=True)]
        return self.op("TILE", [aligned, self.ints(repeats)], shape, quant=x.quant) if max(repeats) != 1 else aligned

    def gather(self, x: Tensor, indices: Tensor, axis: int, batch_dims: int = 0) -> Tensor:
        """Rows of `x` along `axis` by non-negative `indices` of int32 or int64."""
        axis %= x.rank
        shape = [*x.shape[:axis], *indices.shape[batch_dims:], *x.shape[axis + 1 :]]
        return self.op("GATHER", [x, indices], shape, quant=x.quant, axis=axis, batchDims=batch_dims)


def _broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    """numpy's rule; an unknown dimension stays unknown unless the others say what it is."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    found = []
    for sizes in zip(*padded, strict=True):
        known = {size for size in sizes if size not in (1, -1)}
        if len(known) > 1:
            raise Unlowerable(f"shapes {', '.join(map(str, shapes))} do not broadcast")
        found.append(known.pop() if known else -1 if -1 in sizes else 1)
    return tuple(found)
