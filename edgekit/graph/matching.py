"""What a subgraph computes, whichever way it is written: its numbers, products, polynomials and limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edgekit.graph.walking import constant, constant_size, int_attribute, put_for, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["affine", "clamp", "factors", "is_close", "made_by", "polynomial", "reduced_axes", "rewrite", "scalar"]

_DEGREE = 4
_TOLERANCE = 1e-3
"""Constants in float16, and those people round, are this exact."""


def rewrite(model: ir.Model, match: Callable[[ir.Node], ir.Node | None]) -> ir.Model:
    """Puts what `match` gives for a node in that node's place, and drops what nobody reads any more.

    Unless it is a Reshape it must have the dtype and the rank of its first input.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    for node, _ in list(walk(model.graph)):
        if node.graph is None or node.domain != "" or not node.outputs:
            continue
        if (found := match(node)) is None:
            continue
        if found.op_type == "Reshape" or _is_alike(found.inputs[0], node.outputs[0]):
            put_for(node, found)
        else:
            for index in range(len(found.inputs)):
                found.replace_input_with(index, None)
    RemoveUnusedNodesPass()(model)
    return model


def _is_alike(source: ir.Value | None, result: ir.Value) -> bool:
    """Whether dtype and rank are the same: a number in more dimensions gives its result as many."""
    if source is None or source.shape is None or result.shape is None or source.dtype is None:
        return False
    return source.dtype == result.dtype and len(source.shape) == len(result.shape)


def is_close(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= _TOLERANCE * max(abs(wanted), 1e-6)


def scalar(value: ir.Value | None) -> float | None:
    """The number of a constant with one element."""
    array = constant(value) if constant_size(value) == 1 else None
    return float(array.reshape(-1)[0]) if array is not None and array.dtype.kind in "fiu" else None


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node of one of `op_types` that makes a value."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain == "" and node.op_type in op_types else None


def _is_read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def factors(value: ir.Value) -> tuple[float, list[ir.Value]]:
    """A number and tensors whose product a value is; a factor that is read elsewhere too is not taken apart."""
    node = made_by(value, "Mul", "Div", "Neg")
    if node is None:
        return 1.0, [value]
    if node.op_type == "Neg":
        number, found = _part(node.inputs[0])
        return -number, found
    left, right = (_part(value) for value in node.inputs)
    if node.op_type == "Mul":
        return left[0] * right[0], [*left[1], *right[1]]
    if not right[1] and right[0]:
        return left[0] / right[0], left[1]
    return 1.0, [value]


def _part(value: ir.Value | None) -> tuple[float, list[ir.Value]]:
    if value is None:
        return 1.0, []
    if (number := scalar(value)) is not None:
        return number, []
    return factors(value) if _is_read_once(value) else (1.0, [value])


def polynomial(value: ir.Value | None, variable: ir.Value) -> dict[int, float] | None:
    """The coefficients by power when a value is a polynomial in `variable` of at most degree 4, else None."""
    if value is variable:
        return {1: 1.0}
    if (number := scalar(value)) is not None:
        return {0: number}
    node = made_by(value, "Add", "Sub", "Sum", "Mul", "Div", "Neg", "Pow")
    if node is None:
        return None
    parts = [polynomial(operand, variable) for operand in node.inputs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    found = _combine(node.op_type, known)
    return None if found is None or max(found, default=0) > _DEGREE else found


def _combine(op_type: str, parts: list[dict[int, float]]) -> dict[int, float] | None:
    first, rest = parts[0], parts[1:]
    if op_type == "Neg":
        return {power: -number for power, number in first.items()}
    if op_type in ("Add", "Sum", "Sub"):
        sign = -1.0 if op_type == "Sub" else 1.0
        total = dict(first)
        for part in rest:
            for power, number in part.items():
                total[power] = total.get(power, 0.0) + sign * number
        return total
    if op_type == "Mul":
        return _times(first, rest[0])
    other = rest[0].get(0, 0.0) if set(rest[0]) <= {0} else 0.0
    if op_type == "Div":
        return {power: value / other for power, value in first.items()} if other else None
    if other not in range(1, _DEGREE + 1):
        return None
    result = first
    for _ in range(1, int(other)):
        result = _times(result, first)
    return result


def _times(left: dict[int, float], right: dict[int, float]) -> dict[int, float]:
    product: dict[int, float] = {}
    for a, x in left.items():
        for b, y in right.items():
            product[a + b] = product.get(a + b, 0.0) + x * y
    return product


def affine(value: ir.Value | None) -> Iterator[tuple[float, float, ir.Value]]:
    """Every scale, shift and tensor such that a value is scale * tensor + shift, the value itself first."""
    scale, shift = 1.0, 0.0
    while value is not None:
        yield scale, shift, value
        node = made_by(value, "Add", "Sub", "Mul", "Div", "Neg")
        step = _affine_step(node) if node is not None else None
        if step is None:
            return
        factor, offset, value = step
        scale, shift = scale * factor, shift + scale * offset


def _affine_step(node: ir.Node) -> tuple[float, float, ir.Value | None] | None:
    if node.op_type == "Neg":
        return -1.0, 0.0, node.inputs[0]
    left, right = scalar(node.inputs[0]), scalar(node.inputs[1])
    if right is not None:
        forms = {"Add": (1.0, right), "Sub": (1.0, -right), "Mul": (right, 0.0), "Div": (1 / (right or math.inf), 0.0)}
        return (*forms[node.op_type], node.inputs[0])
    if left is not None and node.op_type != "Div":
        forms = {"Add": (1.0, left), "Sub": (-1.0, left), "Mul": (left, 0.0)}
        return (*forms[node.op_type], node.inputs[1])
    return None


def clamp(value: ir.Value | None) -> tuple[float, float, ir.Value] | None:
    """The limits a tensor is kept between, and that tensor: Clip, Relu, Min and Max with a number, also in a row."""
    node = made_by(value, "Clip", "Relu", "Min", "Max")
    step = _clamp_step(node) if node is not None else None
    if step is None:
        return None
    low, high, source = step
    if _is_read_once(source) and (inner := clamp(source)) is not None:
        least, most, deepest = inner
        # What was limited before is limited again: the later limits win where they do not overlap.
        return min(max(least, low), high), max(min(most, high), low), deepest
    return low, high, source


def _clamp_step(node: ir.Node) -> tuple[float, float, ir.Value] | None:
    source = node.inputs[0]
    if node.op_type == "Relu":
        return None if source is None else (0.0, math.inf, source)
    if node.op_type == "Clip":
        limits = [node.inputs[index] if index < len(node.inputs) else None for index in (1, 2)]
        numbers = [scalar(limit) for limit in limits]
        if source is None or any(a is not None and b is None for a, b in zip(limits, numbers, strict=True)):
            return None
        return (-math.inf if numbers[0] is None else numbers[0], math.inf if numbers[1] is None else numbers[1], source)
    if len(node.inputs) != 2:
        return None
    for kept, other in ((0, 1), (1, 0)):
        limit, source = scalar(node.inputs[other]), node.inputs[kept]
        if limit is not None and source is not None:
            return (-math.inf, limit, source) if node.op_type == "Min" else (limit, math.inf, source)
    return None


def reduced_axes(node: ir.Node) -> list[int] | None:
    """The axes, counted from the front, that a Reduce operation of opset 18 or newer takes together and keeps as 1."""
    source = node.inputs[0]
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if source is None or source.shape is None or given is None or not int_attribute(node, "keepdims", 1):
        return None
    return sorted(int(axis) % len(source.shape) for axis in given)
