"""What changes shapes and what makes tensors out of shapes: Reshape, Expand, Tile, Shape, Range and their kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_INLINE = 1024
"""A filled tensor of up to this many elements stands in the file; a larger one is made when the model runs."""


@lowers("Reshape")
def reshape(b: Builder, node: Node) -> Tensor:
    x, wanted = node.input(0), node.constant(1)
    keeps_zeros = bool(node.integer("allowzero"))
    if -1 not in node.shape:
        return _reshaped(b, x, node.shape)
    if wanted is None:
        sizes = _sizes(b, node.input(1))
        if not keeps_zeros:
            own = b.slice(b.shape_of(x), [0], [min(x.rank, len(node.shape))])
            own = b.pad(own, [0], [len(node.shape) - own.shape[0]])
            sizes = b.where(b.binary("EQUAL", sizes, 0), own, sizes)
        return b.op("RESHAPE", [x, sizes], node.shape, quant=x.quant)
    copied = [i for i, size in enumerate(wanted) if size == 0 and not keeps_zeros]
    shape = [x.shape[i] if i in copied else int(size) for i, size in enumerate(wanted)]
    known = [n if n >= 0 else m for n, m in zip(shape, node.shape, strict=True)]
    if known.count(-1) <= 1:
        return _reshaped(b, x, known)
    parts = [
        b.slice(b.shape_of(x), [i], [1]) if i in copied and size == -1 else b.ints([size])
        for i, size in enumerate(known)
    ]
    return b.op("RESHAPE", [x, b.concat(parts, 0)], known, quant=x.quant)


def _reshaped(b: Builder, x: Tensor, shape: Sequence[int]) -> Tensor:
    """`x` in a shape with at most one unknown."""
    return empty(b, shape, x.dtype) if 0 in shape else b.reshape(x, shape)


def empty(b: Builder, shape: Sequence[int], dtype: str) -> Tensor:
    """A tensor without elements; all of one shape are alike, so it need not come from anywhere."""
    return b.const(np.zeros([max(0, n) for n in shape], dtype))


def _sizes(b: Builder, sizes: Tensor) -> Tensor:
    """A vector of sizes only known when the model runs, as int32."""
    return b.cast(sizes, "int32")


@lowers("Flatten")
def flatten(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    axis = node.integer("axis", 1)
    axis += x.rank if axis < 0 else 0
    if -1 not in node.shape:
        return _reshaped(b, x, node.shape)
    if -1 not in x.shape[:axis]:
        return b.reshape(x, [int(np.prod(x.shape[:axis], dtype="int64")), -1])
    if -1 not in x.shape[axis:]:
        return b.reshape(x, [-1, int(np.prod(x.shape[axis:], dtype="int64"))])
    before = b.reduce("REDUCE_PROD", b.slice(b.shape_of(x), [0], [axis]), [0], keep=True)
    return b.op("RESHAPE", [x, b.concat([before, b.ints([-1])], 0)], node.shape, quant=x.quant)


@lowers("Squeeze")
def squeeze(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    if not node.has(1):
        if -1 in x.shape:
            raise Unlowerable("which dimensions are 1 is only known when the model runs")
        return _reshaped(b, x, [n for n in x.shape if n != 1])
    axes = sorted({int(axis) % x.rank for axis in node.known(1, "what is squeezed")})
    if any(x.shape[axis] not in (1, -1) for axis in axes):
        raise Unlowerable(f"axes {axes} of shape {list(x.shape)} are not 1")
    shape = [n for i, n in enumerate(x.shape) if i not in axes]
    if shape.count(-1) > 1:
        return b.op("SQUEEZE", [x], shape, quant=x.quant, squeezeDims=axes)
    return _reshaped(b, x, shape)


@lowers("Unsqueeze")
def unsqueeze(b: Builder, node: Node) -> Tensor:
    x, given = node.input(0), node.known(1, "where dimensions are inserted").reshape(-1)
    axes = sorted(int(axis) % (x.rank + len(given)) for axis in given)
    shape = list(x.shape)
    for axis in axes:
        shape.insert(axis, 1)
    if shape.count(-1) <= 1:
        return _reshaped(b, x, shape)
    for axis in axes:
        x = b.op("EXPAND_DIMS", [x, b.const(axis, "int32")], [*x.shape[:axis], 1, *x.shape[axis:]], quant=x.quant)
    return x


@lowers("Transpose")
def transpose(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    return b.transpose(x, [axis % x.rank for axis in node.integers("perm", range(x.rank)[::-1])])


@lowers("Expand")
def expand(b: Builder, node: Node) -> Tensor:
    x, wanted = node.input(0), node.constant(1)
    if 0 in node.shape:
        return empty(b, node.shape, x.dtype)
    if -1 not in node.shape and x.size >= 0:
        return b.broadcast_to(x, node.shape)
    other = _sizes(b, node.input(1)) if wanted is None else b.ints(wanted)
    if wanted is not None and (wanted == 1).all() and len(wanted) <= x.rank:
        return x
    sizes = b.op("BROADCAST_ARGS", [b.shape_of(x), other], [len(node.shape)], "int32")
    return b.op("BROADCAST_TO", [x, sizes], node.shape)


@lowers("Tile")
def tile(b: Builder, node: Node) -> Tensor:
    x, repeats = node.input(0), node.constant(1)
    if 0 in node.shape:
        return empty(b, node.shape, x.dtype)
    if repeats is None:
        return b.op("TILE", [x, _sizes(b, node.input(1))], node.shape)
    if (repeats == 1).all():
        return x
    return b.op(
        "TILE", [x, b.ints(repeats)], [-1 if n < 0 else n * int(k) for n, k in zip(x.shape, repeats, strict=True)]
    )


@lowers("Shape")
def shape(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    start, end, _ = slice(node.integer("start"), node.integer("end", x.rank)).indices(x.rank)
    if -1 not in x.shape[start:end]:
        return b.const(np.array(x.shape[start : max(start, end)], "int64"))
    sizes = b.op("SHAPE", [x], [x.rank], "int64", outType="int64")
    return b.slice(sizes, [start], [end - start])


@lowers("Size")
def size(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    if x.size >= 0:
        return b.const(x.size, "int64")
    sizes = b.op("SHAPE", [x], [x.rank], "int64", outType="int64")
    return b.reduce("REDUCE_PROD", sizes, [0], keep=False)


@lowers("Range")
def count(b: Builder, node: Node) -> Tensor:
    known = [node.constant(i) for i in range(3)]
    start, limit, delta = (array.reshape(()) if array is not None else None for array in known)
    if start is not None and limit is not None and delta is not None:
        steps = max(0, int(np.ceil((limit - start) / delta)))
        return b.const((start + np.arange(steps) * delta).astype(start.dtype))
    first, last, step = (b.reshape(node.input(i), ()) for i in range(3))
    # TFLite takes a limit that lies on the wrong side for an error, ONNX for an empty range.
    above, below = b.binary("MAXIMUM", first, last), b.binary("MINIMUM", first, last)
    if delta is not None:
        return b.op("RANGE", [first, above if delta > 0 else below, step], node.shape)
    end = b.where(b.binary("GREATER", step, 0), above, below)
    return b.op("RANGE", [first, end, step], node.shape)


@lowers("ConstantOfShape")
def constant_of_shape(b: Builder, node: Node) -> Tensor:
    attribute = node.node.attributes.get("value")
    value = np.zeros(1, "float32") if attribute is None else attribute.as_tensor().numpy()
    value = value.astype(node.dtype).reshape(())
    if -1 not in node.shape and np.prod(node.shape, dtype="int64") <= _INLINE:
        return b.const(np.full(node.shape, value))
    sizes = b.ints(node.shape) if -1 not in node.shape else _sizes(b, node.input(0))
    return b.op("FILL", [sizes, b.const(value)], node.shape, node.dtype)


@lowers("EyeLike")
def eye_like(b: Builder, node: Node) -> Tensor:
    if -1 in node.shape:
        raise Unlowerable("the shape is only known when the model runs")
    rows, columns = node.shape
    return b.const(np.eye(rows, columns, node.integer("k")).astype(node.dtype))
