"""Integers that stand for real numbers, and products of integers.

Where scales and zero points are constants of the forms TFLite has, its own QUANTIZE and DEQUANTIZE say so, and what
stands between them is lifted into integers later. QUANTIZE rounds ties to even as ONNX does (LiteRT 2.3.0, with XNNPACK
and without). All else is arithmetic: float32 is exact for integers below 2^24, so products are cut where their sums
could be larger.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.products import as_matrices, as_vectors, product
from edgekit.converters.tflite.table import LOWERINGS, Node, Unlowerable, lowers
from edgekit.spec import QuantParams

__all__: list[str] = []

_EXACT = 1 << 24
"""Sums of integers below this are exact in float32 in whatever order they are taken."""

_FOUR_BITS = {"int4": "int8", "uint4": "uint8"}
"""Types whose constants are stored in the next wider one."""


# --- conversions -----------------------------------------------------------------------------------------------------


@lowers("QuantizeLinear")
def quantize_linear(b: Builder, node: Node) -> Tensor:
    dtype = node.hub_dtype()
    if dtype not in ("int8", "uint8", "int16", "uint16"):
        raise Unlowerable(f"quantizing to {dtype}")
    return _quantize(b, node, node.input(0), 1, dtype)


def _quantize(b: Builder, node: Node, x: Tensor, scale_at: int, dtype: str) -> Tensor:
    """By the scale and zero point at inputs `scale_at` and the next."""
    real = b.cast(x, "float32")
    params = _params(node, scale_at, x.rank, dtype)
    if params is not None and params.axis is None and dtype in ("int8", "uint8"):
        return b.op("QUANTIZE", [real], x.shape, dtype, quant=params)
    if params is not None and params.axis is None and dtype == "int16" and params.zero_point == (0,):
        integers = b.op("QUANTIZE", [real], x.shape, dtype, quant=params)
        held = b.cast(integers, "int32")
        b.narrow[held] = integers
        return held
    scale, zero = _spread(b, node, scale_at, x.shape), _zero(b, node, scale_at + 1, x.shape)
    return _saturated(b, b.div(real, scale), zero, dtype)


def _saturated(b: Builder, steps: Tensor, zero: Tensor | None, dtype: str) -> Tensor:
    """Rounded, ties to even, moved by the zero point and cut to the range of `dtype`, in the type that holds it."""
    limits = np.iinfo(dtype)
    rounded = b.unary("ROUND", steps)
    moved = rounded if zero is None else b.add(rounded, b.cast(zero, "float32"))
    cut = b.binary("MINIMUM", b.binary("MAXIMUM", moved, limits.min), limits.max)
    return b.cast(b.cast(cut, "int32"), dtype if dtype in ("int8", "uint8") else "int32")


@lowers("DequantizeLinear")
def dequantize_linear(b: Builder, node: Node) -> Tensor:
    return _dequantize(b, node, 0, _is_only_dequantized(node))


def _dequantize(b: Builder, node: Node, index: int, may_mark: bool) -> Tensor:
    """Input `index` by the scale and zero point behind it.

    Args:
        b: What writes.
        node: The node.
        index: Where the integers are.
        may_mark: Whether an input of the graph may itself be said to stand for real numbers.
    """
    x = node.input(index)
    if x.data is not None:
        return _stored(b, node, index, x)
    params = _params(node, index + 1, x.rank, b.narrow[x].dtype if x in b.narrow else x.dtype)
    if x in b.narrow and b.narrow[x].quant == params:
        return b.dequantize(b.narrow[x])
    if params is not None and x.dtype in ("int8", "uint8") and params.axis is None:
        if x.quant is None and may_mark and x in b.graph.inputs:
            x.quant = params
        if x.quant == params:
            return b.dequantize(x)
    scale, zero = _spread(b, node, index + 1, x.shape), _zero(b, node, index + 2, x.shape)
    return b.mul(_centered(b, x, zero), scale)


def _stored(b: Builder, node: Node, index: int, x: Tensor) -> Tensor:
    """A constant: integers in the file where they are to compute, else the real numbers."""
    assert x.data is not None
    dtype = _FOUR_BITS.get(x.dtype, x.dtype)
    data = x.data.astype(dtype)
    params = _params(node, index + 1, x.rank, dtype)
    is_dynamic = x.name in node.scope.dynamic
    if is_dynamic and np.abs(data + 0.5).max(initial=0) < 8 and dtype == "int8":
        dtype = "int4"
    if params is not None and dtype in ("int8", "uint8", "int4"):
        return b.dequantize(Tensor(x.name, x.shape, dtype, data, params, is_dynamic=is_dynamic))
    if dtype == "int4" and (scales := _scales_of_groups(node, index, x)) is not None:
        return b.dequantize(Tensor(x.name, x.shape, dtype, data, scales=scales, is_dynamic=True))
    scale, zero = _spread(b, node, index + 1, x.shape), _zero(b, node, index + 2, x.shape)
    if scale.data is None or (zero is not None and zero.data is None):
        return b.mul(_centered(b, b.const(data, name=x.name), zero), scale)
    centered = data.astype("int64") - (0 if zero is None or zero.data is None else zero.data.astype("int64"))
    return b.const((centered.astype("float32") * scale.data).astype("float32"), name=x.name)


def _scales_of_groups(node: Node, index: int, x: Tensor) -> Tensor | None:
    """The scales of a constant of 4 bits whose neighbors along the last axis share them, as TFLite has them."""
    scale, size = node.constant(index + 1), node.integer("block_size")
    if scale is None or node.has(index + 2) or not size or node.integer("axis", 1) % x.rank != x.rank - 1:
        return None
    held = scale.astype("float16")
    return Tensor(f"{x.name}/scales", held.shape, "float16", held) if (held == scale).all() else None


def _is_only_dequantized(node: Node) -> bool:
    value = node.node.inputs[0]
    return value is not None and all(use.node.op_type == "DequantizeLinear" for use in value.uses())


def _params(node: Node, index: int, rank: int, dtype: str) -> QuantParams | None:
    """The scale at `index` and the zero point behind it as TFLite has them: constants, for all or along one axis."""
    scale, zero = node.constant(index), node.constant(index + 1)
    if scale is None or (zero is None and node.has(index + 1)) or scale.ndim > 1 or node.integer("block_size"):
        return None
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        return None
    zeros = np.zeros(scale.size, int) if zero is None else zero.reshape(-1).astype(int)
    axis = None if scale.size == 1 else node.integer("axis", 1) % rank
    return QuantParams(dtype, tuple(map(float, scale.reshape(-1))), tuple(map(int, zeros)), axis)


def _zero(b: Builder, node: Node, index: int, shape: Sequence[int]) -> Tensor | None:
    """The zero point at `index`, if there is one, as `_spread` gives it."""
    return _spread(b, node, index, shape) if node.has(index) else None


def _spread(b: Builder, node: Node, index: int, shape: Sequence[int]) -> Tensor:
    """A scale or zero point so that it broadcasts to `shape`."""
    x = node.input(index)
    if x.size == 1:
        return b.reshape(x, [])
    axis, block = node.integer("axis", 1) % len(shape), node.integer("block_size")
    if x.rank == 1:
        return b.reshape(x, [-1 if i == axis else 1 for i in range(len(shape))])
    if not block or -1 in shape:
        raise Unlowerable(f"a scale of {list(x.shape)} for {list(shape)}")
    blocks = np.arange(shape[axis]) // block
    return b.const(x.data.take(blocks, axis)) if x.data is not None else b.gather(x, b.ints(blocks), axis)


def _centered(b: Builder, x: Tensor, zero: Tensor | None) -> Tensor:
    """The distances from the zero point as float32; int32 ones are taken before they lose digits."""
    if x.data is not None and (zero is None or zero.data is not None):
        offset = 0 if zero is None or zero.data is None else zero.data.astype("int64")
        return b.const((x.data.astype("int64") - offset).astype("float32"), name=x.name)
    if x.dtype == "int32" and zero is not None:
        return b.cast(b.sub(x, b.cast(zero, "int32")), "float32")
    real = b.cast(x, "float32")
    return real if zero is None or not _matters(zero) else b.sub(real, b.cast(zero, "float32"))


def _matters(zero: Tensor) -> bool:
    return zero.data is None or bool(zero.data.any())


# --- products of integers --------------------------------------------------------------------------------------------


def _bound(x: Tensor, centered: Tensor, zero: Tensor | None) -> int:
    """The largest magnitude there can be in `centered`, which is `x` less `zero`."""
    if centered.data is not None:
        return int(np.abs(centered.data).max(initial=0))
    limits = np.iinfo(x.dtype if x.dtype in ("int8", "uint8") else "int32")
    if zero is None or zero.data is None:
        return int(limits.max) - int(limits.min) if zero is not None else max(-int(limits.min), int(limits.max))
    low, high = int(zero.data.min()), int(zero.data.max())
    return max(int(limits.max) - low, high - int(limits.min))


def _along(b: Builder, x: Tensor | None, rank: int, axis: int) -> Tensor | None:
    """A vector of zero points or scales as it stands to a row or column; a scalar as one; others as they are."""
    if x is None:
        return None
    if x.size == 1:
        return b.reshape(x, [])
    return b.reshape(x, [-1 if i == axis % rank else 1 for i in range(rank)]) if x.rank == 1 else x


@lowers("MatMulInteger")
def matmul_integer(b: Builder, node: Node) -> Tensor:
    return _accumulated(b, node, (0, 2), (1, 3))


def _accumulated(b: Builder, node: Node, left: tuple[int, int], right: tuple[int, int]) -> Tensor:
    """The product in int32 of the distances from zero points; each side is the places of integers and zero point."""
    given = node.input(left[0]), node.input(right[0])
    x, y = as_matrices(b, *given)
    x_zero = _along(b, node.inputs[left[1]] if node.has(left[1]) else None, x.rank, -2)
    y_zero = _along(b, node.inputs[right[1]] if node.has(right[1]) else None, y.rank, -1)
    rows, columns = _centered(b, x, x_zero), _centered(b, y, y_zero)
    terms = max(1, (_EXACT - 1) // max(1, _bound(x, rows, x_zero) * _bound(y, columns, y_zero)))
    count = rows.shape[-1]
    sums = [
        b.cast(product(b, _piece(b, rows, -1, i, terms), _piece(b, columns, -2, i, terms)), "int32")
        for i in range(0, count, terms)
    ]
    total = sums[0]
    for other in sums[1:]:
        total = b.add(total, other)
    return as_vectors(b, total, *given)


def _piece(b: Builder, x: Tensor, axis: int, start: int, count: int) -> Tensor:
    axis %= x.rank
    stop = min(start + count, x.shape[axis])
    if (start, stop) == (0, x.shape[axis]):
        return x
    if x.data is not None:
        return b.const(np.take(x.data, range(start, stop), axis))
    begin = [start if i == axis else 0 for i in range(x.rank)]
    return b.slice(x, begin, [stop - start if i == axis else n for i, n in enumerate(x.shape)])


@lowers("QLinearMatMul")
def qlinear_matmul(b: Builder, node: Node) -> Tensor:
    """One scale for the rows: real numbers between conversions, which are lifted later; else integers here."""
    dtype = node.hub_dtype()
    scales = [node.constant(i) for i in (1, 4, 6)]
    if all(scale is not None and scale.size == 1 for scale in scales):
        x, y = _dequantize(b, node, 0, False), _dequantize(b, node, 3, False)
        if x.rank > 1 and y.rank > 1:
            return _quantize(b, node, product(b, x, y), 6, dtype)
    total = b.cast(_accumulated(b, node, (0, 2), (3, 5)), "float32")
    a, c = (_along(b, node.input(i), total.rank, axis) for i, axis in ((1, -2), (4, -1)))
    assert a is not None
    assert c is not None
    scale = b.div(b.mul(a, c), b.reshape(node.input(6), []))
    return _saturated(b, b.mul(total, scale), b.reshape(node.input(7), []), dtype)


# --- convolutions of integers ----------------------------------------------------------------------------------------


def _convolved(b: Builder, node: Node, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What Conv gives for real numbers in place of the node's integers."""
    as_conv = Node(node.node, node.opset, [x, weight, bias], [(node.shape, "float32")], node.scope)
    as_conv.op = "Conv"
    found = LOWERINGS["Conv"](b, as_conv)
    assert isinstance(found, Tensor)
    return found


@lowers("ConvInteger")
def conv_integer(b: Builder, node: Node) -> Tensor:
    x, weight = node.input(0), node.input(1)
    x_zero = _along(b, node.inputs[2] if node.has(2) else None, x.rank, 0)
    w_zero = _along(b, node.inputs[3] if node.has(3) else None, weight.rank, 0)
    picture, kernel = _centered(b, x, x_zero), _centered(b, weight, w_zero)
    largest = _bound(x, picture, x_zero) * _bound(weight, kernel, w_zero)
    per_channel = max(1, largest * int(np.prod(weight.shape[2:])))
    channels = (_EXACT - 1) // per_channel
    if channels >= weight.shape[1]:
        return b.cast(_convolved(b, node, picture, kernel, None), "int32")
    if not channels or node.integer("group", 1) != 1:
        raise Unlowerable("sums larger than float32 holds")
    total: Tensor | None = None
    for start in range(0, weight.shape[1], channels):
        cut, part_kernel = _piece(b, picture, 1, start, channels), _piece(b, kernel, 1, start, channels)
        part = b.cast(_convolved(b, node, cut, part_kernel, None), "int32")
        total = part if total is None else b.add(total, part)
    assert total is not None
    return total


@lowers("QLinearConv")
def qlinear_conv(b: Builder, node: Node) -> Tensor:
    """A Conv between conversions, which are lifted later; the bias has the scale of the products."""
    x_scale, w_scale = node.known(1, "the scale of the input"), node.known(4, "the scale of the weight")
    bias = None
    if node.has(8):
        integers = node.known(8, "the bias").astype("float64")
        bias = b.const((integers * x_scale.astype("float64").reshape(-1)[0] * w_scale.reshape(-1)).astype("float32"))
    x = _dequantize(b, node, 0, False)
    return _quantize(b, node, _convolved(b, node, x, _weight(b, node), bias), 6, node.hub_dtype())


def _weight(b: Builder, node: Node) -> Tensor:
    """The weight of a QLinearConv, whose scales run along its first axis."""
    data = node.known(3, "the weight")
    scale, zero = node.known(4, "the scale of the weight").reshape(-1), node.known(5, "the zero point of the weight")
    zeros = np.broadcast_to(zero.reshape(-1).astype(int), scale.shape)
    params = QuantParams(
        data.dtype.name, tuple(map(float, scale)), tuple(map(int, zeros)), None if scale.size == 1 else 0
    )
    return b.dequantize(Tensor(node.input(3).name, data.shape, data.dtype.name, data, params))
