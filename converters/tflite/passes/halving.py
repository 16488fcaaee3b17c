"""Weights stored in half precision, computed with in single precision."""

from __future__ import annotations

from collections.abc import Collection

from edgekit.converters._half_weights import MIN_ELEMENTS, halved
from edgekit.converters.tflite.model import Graph, Op, Tensor

__all__ = ["halve_constants"]


def halve_constants(graph: Graph, names: Collection[str] | None = None) -> list[str]:
    """Stores float32 constants as float16 behind a DEQUANTIZE, which engines unfold when they load, in place.

    Args:
        graph: Of a lowered model.
        names: Of the constants; all by default.

    Returns:
        Names of those that stay float32 because a number in them is too large for half precision.
    """
    halves: dict[Tensor, Tensor] = {}
    conversions: list[Op] = []
    kept: list[str] = []
    for tensor in graph.tensors():
        if names is not None and tensor.name not in names:
            continue
        if tensor.data is None or tensor.dtype != "float32" or tensor.size < MIN_ELEMENTS or tensor in graph.outputs:
            continue
        half = halved(tensor.data)
        if half is None:
            kept.append(tensor.name)
            continue
        stored = Tensor(f"{tensor.name}/half", tensor.shape, "float16", half)
        halves[tensor] = Tensor(tensor.name, tensor.shape, "float32")
        conversions.append(Op("DEQUANTIZE", [stored], [halves[tensor]], {}, tensor.name))
    for op in graph.ops:
        op.inputs = [halves.get(tensor, tensor) if tensor is not None else None for tensor in op.inputs]
    graph.ops = [*conversions, *graph.ops]
    return kept
