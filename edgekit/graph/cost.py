"""What a hub graph costs to run: multiply-accumulates and bytes, operation by operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from edgekit.graph.shapes import bind_dimensions
from edgekit.graph.walking import constant, int_attribute, static_shape, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["NodeCost", "costs"]

_RECURRENT = ("LSTM", "GRU", "RNN")
_UNCOUNTED = ("Einsum", "Attention", "DeformConv", "DFT", "STFT")
"""Operations that multiply but for which no formula is here: their `macs` is None, never 0."""

_OPERANDS = {
    "Conv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3), "ConvTranspose": (0, 1),
    "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3), "Gemm": (0, 1),
}  # fmt: skip


@dataclass(frozen=True)
class NodeCost:
    """One operation.

    Attributes:
        name: The node's name.
        op_type: ONNX's word for it.
        macs: Multiply-accumulates of one run: 0 where nothing is multiplied and summed, None where that is unknown.
        weight_bytes: Bytes of its constant inputs.
        activation_bytes: Bytes it reads and writes besides; None where a shape is unknown.
        inside: Names of the If, Loop or Scan nodes around it; its figures are for one pass through the body.
    """

    name: str
    op_type: str
    macs: int | None
    weight_bytes: int
    activation_bytes: int | None
    inside: tuple[str, ...] = ()


def costs(model: ir.Model, bindings: Mapping[str, int] | None = None) -> list[NodeCost]:
    """The cost of every node with symbolic dimensions as `bindings` say, 1 where they say nothing."""
    bound = bind_dimensions(model, bindings)
    return [_cost(node, inside) for node, inside in walk(bound.graph)]


def _cost(node: ir.Node, inside: tuple[str, ...]) -> NodeCost:
    weights, activations, is_known = 0, 0, True
    for value in (*node.inputs, *node.outputs):
        if value is None or value.name == "":
            continue
        if constant(value) is not None and value.const_value is not None:
            weights += value.const_value.nbytes
        elif (shape := static_shape(value)) is not None and value.dtype is not None:
            activations += int(prod(shape) * value.dtype.itemsize)
        else:
            is_known = False
    return NodeCost(node.name or "", node.op_type, _macs(node), weights, activations if is_known else None, inside)


def _macs(node: ir.Node) -> int | None:
    if node.op_type in _RECURRENT:
        return _recurrent_macs(node)
    if node.op_type in _UNCOUNTED:
        return None
    if node.op_type not in _OPERANDS:
        return 0
    first, second = (static_shape(node.inputs[index]) for index in _OPERANDS[node.op_type])
    out = static_shape(node.outputs[0])
    if first is None or second is None or out is None:
        return None
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(second[1:])
    if "Conv" in node.op_type:
        return prod(out) * prod(second[1:])
    depth = first[0] if node.op_type == "Gemm" and int_attribute(node, "transA", 0) else first[-1]
    return prod(out) * depth


def _recurrent_macs(node: ir.Node) -> int | None:
    """Every step multiplies the input by W and the state by R; X is [steps, batch, size] or [batch, steps, size]."""
    shapes = [static_shape(value) for value in node.inputs[:3]]
    if any(shape is None for shape in shapes):
        return None
    steps, weights, recurrence = (shape for shape in shapes if shape is not None)
    return prod(steps[:2]) * (prod(weights) + prod(recurrence))
