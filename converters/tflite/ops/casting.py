"""Types, and what hands its input on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_INTEGERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")
_REALS = ("float16", "bfloat16", "float32", "float64")


@lowers("Cast", "CastLike")
def cast(b: Builder, node: Node) -> Tensor:
    """Types held in a wider one are gone through, so that integers wrap around and float16 is rounded.

    Numbers beyond the range of an integer type are undefined in ONNX when they come from a float; they saturate.
    """
    x, source, target = node.input(0), node.hub_input(0), node.hub_dtype()
    for dtype in (source, target):
        if dtype not in _INTEGERS + _REALS:
            raise Unlowerable(f"a cast from {source} to {target}")
    if target in ("float16", "bfloat16") and source not in (target, "bool", "int8", "uint8"):
        return b.cast(b.cast(x, target), node.dtype)
    if source in _INTEGERS and target in _INTEGERS and not np.can_cast(source, target):
        return b.cast(b.cast(x, target), node.dtype)
    return b.cast(x, node.dtype)


@lowers("BitCast")
def bit_cast(b: Builder, node: Node) -> Tensor:
    x, source, target = node.input(0), node.hub_input(0), node.hub_dtype()
    for dtype in (source, target):
        if dtype not in _INTEGERS[1:] and dtype not in ("float16", "float32"):
            raise Unlowerable(f"the bits of {source} as {target}")
    return b.cast(b.op("BITCAST", [b.cast(x, source)], x.shape, target), node.dtype)


@lowers("Identity")
def identity(b: Builder, node: Node) -> Tensor:
    return node.input(0)


@lowers("Dropout")
def dropout(b: Builder, node: Node) -> Sequence[Tensor | None]:
    """Of a model in use: nothing is dropped."""
    if node.has(2) and node.known(2, "training_mode").any():
        raise Unlowerable("training_mode")
    x = node.input(0)
    if len(node.outputs) < 2 or node.outputs[1] is None:
        return [x]
    shape, dtype = node.outputs[1]
    return [x, b.broadcast_to(b.const(np.ones([1] * len(shape), dtype)), shape)]
