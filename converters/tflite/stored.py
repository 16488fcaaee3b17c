"""A plan's small weights as constants of TFLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.converters.tflite.model import Tensor
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight, QuantPlan
from edgekit.quantize.solver import quantize_weight
from edgekit.spec import QuantParams

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["stored_constants"]

_MIDDLE = 8
"""What stands for 0 among the numbers 0 to 15 of a plan; TFLite's go from -8 to 7."""

_GROUP = 32
"""LiteRT's kernel takes groups of a multiple of this."""

_OFF = 1 / 16
"""Steps by which the largest number of a group may be off because its scale is rounded."""


def stored_constants(graph: ir.Model, plan: QuantPlan) -> tuple[dict[str, Tensor], list[str]]:
    """For the initializers a plan stores small the constant each becomes, and notes on those that are not as planned.

    A weight of 4 bits is always `Tensor.is_dynamic`: kernels that compute with it in real numbers are slower, and the
    error of rounding activations to 8 bits is a twentieth of that of rounding weights to 4.
    """
    dynamic = set(plan.dynamic_ops)
    readers: dict[str, set[bool]] = {}
    for node in graph.graph:
        for value in node.inputs:
            if value is not None and value.name in plan.stored and node.op_type != "Gather":
                readers.setdefault(value.name or "", set()).add(node.name in dynamic)
    found, wider = {}, []
    for name, weight in plan.stored.items():
        if isinstance(weight, QuantizedWeight):
            found[name] = _of_eight_bits(name, weight, is_dynamic=readers.get(name) == {True})
            continue
        of_four = _of_four_bits(name, weight)
        if of_four is None:
            wider.append(name)
            again = quantize_weight(weight.dequantize(), 1 - weight.axis if weight.values.ndim == 2 else None)
            of_four = _of_eight_bits(name, again, is_dynamic=True)
        found[name] = of_four
    why = f"in 8 bits what the kernel for groups of 4 bits does not take: {', '.join(wider[:3])}"
    return found, [why + (", ..." if len(wider) > 3 else "")] if wider else []


def _of_eight_bits(name: str, weight: QuantizedWeight, *, is_dynamic: bool) -> Tensor:
    dtype = weight.params.dtype
    return Tensor(name, weight.values.shape, dtype, weight.values, weight.params, is_dynamic=is_dynamic)


def _of_four_bits(name: str, weight: GroupedWeight) -> Tensor | None:
    """None where the last group is a part of one, or where scales are too small for half precision."""
    if weight.values.ndim != 2:
        return None
    data = (weight.values.astype("int16") - _MIDDLE).astype("int8")
    if weight.scale.size == weight.values.shape[1 - weight.axis] and (weight.zero_point == _MIDDLE).all():
        of_channels = tuple(map(float, weight.scale.reshape(-1)))
        params = QuantParams("int4", of_channels, (0,) * len(of_channels), 1 - weight.axis)
        return Tensor(name, data.shape, "int4", data, params, is_dynamic=True)
    if weight.values.shape[weight.axis] % _GROUP or weight.block % _GROUP:
        return None
    scale, zero = weight.scale, weight.zero_point
    if weight.values.shape[weight.axis] % weight.block:
        starts = range(0, weight.values.shape[weight.axis], _GROUP)
        scale, zero = (weight.spread(array).take(starts, weight.axis) for array in (scale, zero))
    held = _of_eight_digits(scale)
    reach = np.maximum.reduceat(np.abs(data), _starts(weight, scale), axis=weight.axis)
    if (np.abs(held.astype("float32") - scale) * reach > _OFF * scale).any():
        return None
    scales = Tensor(f"{name}/scales", held.shape, "float16", held)
    offset = (_MIDDLE - zero.astype("float32")) * held.astype("float32")
    offsets = Tensor(f"{name}/offsets", offset.shape, "float32", offset) if offset.any() else None
    return Tensor(name, data.shape, "int4", data, scales=scales, offsets=offsets, is_dynamic=True)


def _starts(weight: GroupedWeight, scale: np.ndarray) -> np.ndarray:
    size = weight.values.shape[weight.axis]
    return np.arange(0, size, size // scale.shape[weight.axis])


def _of_eight_digits(scale: np.ndarray) -> np.ndarray:
    """In float16, of as many binary digits as the kernel keeps: it packs scales as bfloat16."""
    bits = scale.astype("float32").view("uint32")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view("float32").astype("float16")
