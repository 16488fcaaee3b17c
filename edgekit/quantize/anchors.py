"""Operations that can compute in integers for their own sake: those with a constant weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.walking import constant, dtype_name, int_attribute
from edgekit.recipe import STATIC

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.recipe import Recipe
    from edgekit.target import Placement

__all__ = ["ANCHORS", "WEIGHTY", "Anchor", "read_anchor", "why_float"]

ANCHORS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operations whose products with a constant can be computed in integers."""

WEIGHTY = (*ANCHORS, "LSTM", "GRU", "RNN", "Einsum", "Attention")
"""Operations a plan must account for: each is quantized or said to stay float, and why."""


@dataclass(frozen=True)
class Anchor:
    """A quantizable operation.

    Attributes:
        node: Its name.
        activation: Name of the tensor that is multiplied.
        weight: Name of the initializer it is multiplied by.
        bias: Name of the initializer that is added; empty for none.
        axis: The weight's axis of output channels; None where there is no single one.
    """

    node: str
    activation: str
    weight: str
    bias: str
    axis: int | None


def read_anchor(node: ir.Node) -> Anchor:
    """The tensors of an operation for which `why_float` has nothing to say."""
    weight = node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    activation = node.inputs[0]
    assert activation is not None
    assert weight is not None
    name = bias.name or "" if bias is not None else ""
    return Anchor(node.name or "", activation.name or "", weight.name or "", name, _axis(node, constant(weight)))


def _axis(node: ir.Node, weight: np.ndarray | None) -> int | None:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if int_attribute(node, "transB", 0) else 1
    return 1 if weight is not None and weight.ndim == 2 else None


def why_float(node: ir.Node, around: tuple[str, ...], placement: Placement, recipe: Recipe) -> str:
    """Why a weighty operation stays float; empty when it can be quantized.

    Args:
        around: Names of the nodes whose bodies it stands in.
        placement: Its `anchors` are the operation types with integer kernels; ``"*"`` for all of `ANCHORS`.
        recipe: Its rules may put the operation in the ignored scope.
    """
    if node.domain != "":
        return f"an operation of the domain {node.domain!r}"
    if around:
        return f"inside the body of {around[-1]!r}, where nothing is quantized"
    allowed = ANCHORS if "*" in placement.anchors else placement.anchors
    if node.op_type not in allowed or node.op_type not in ANCHORS:
        return f"{node.op_type} has no integer kernel here"
    rule, precision = recipe.decide(node.name or "", node.op_type), recipe.precision_of(node.name or "", node.op_type)
    if precision not in STATIC:
        kept = "kept in float by the recipe" if precision == "fp32" else f"{precision} by the recipe"
        return (rule.reason if rule is not None else "") or kept
    if refusal := _operand_refusal(node) or (_gemm_refusal(node) if node.op_type == "Gemm" else ""):
        return refusal
    return "so narrow a convolution is faster in float here" if _is_narrow(node, placement.narrow) else ""


def _is_narrow(node: ir.Node, narrow: tuple[int, ...]) -> bool:
    weight = constant(node.inputs[1])
    if not narrow or node.op_type != "Conv" or int_attribute(node, "group", 1) > 1 or weight is None:
        return False
    channels, products = narrow
    return weight.shape[1] <= channels and weight.size < products


def _operand_refusal(node: ir.Node) -> str:
    activation, weight = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if activation is None or weight is None:
        return "an operand is missing"
    if any(value.producer() is not None and value.producer().op_type == "DequantizeLinear" for value in (weight,)):  # type: ignore[union-attr]
        return "quantized already in the source"
    if constant(weight) is None:
        return "its second operand is not constant"
    if constant(activation) is not None:
        return "its first operand is constant"
    if dtype_name(weight) != "float32" or dtype_name(activation) not in ("float32", ""):
        return f"its operands are {dtype_name(weight) or 'of unknown dtype'}, not float32"
    if bias is not None and constant(bias) is None:
        return "its bias is not constant"
    return ""


def _gemm_refusal(node: ir.Node) -> str:
    if int_attribute(node, "transA", 0):
        return "its first operand is transposed"
    if any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return "its product or bias is scaled"
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    weight = constant(node.inputs[1])
    assert weight is not None
    width = weight.shape[0 if int_attribute(node, "transB", 0) else 1]
    return "" if bias is None or bias.size == width else "its bias is not one number per column"
