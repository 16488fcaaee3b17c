"""Passes over what only moves or renames numbers: reshapes, transposes, casts, and the shapes computed for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.absorbing import only_producer
from edgekit.graph.matching import scalar
from edgekit.graph.simplifying import bypass
from edgekit.graph.symbols import Sizes, reshape_target
from edgekit.graph.walking import (
    constant,
    fresh_name,
    initializer,
    int_attribute,
    put_for,
    replace_value,
    set_ints,
    static_shape,
    value_names,
    walk,
)

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "cancel_transposes",
    "fold_dimensions",
    "merge_casts",
    "merge_reshapes",
    "merge_transposes",
    "settle_reshapes",
]

_COMPUTING = ("Cast", "Concat", "Div", "Gather", "Max", "Min", "Mul", "ReduceProd", "Slice", "Squeeze", "Unsqueeze")
_POINTWISE = (
    *("Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
    *("LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "Not", "Pow", "Reciprocal", "Relu", "Round", "Selu"),
    *("Sigmoid", "Sign", "Softplus", "Sqrt", "Sub", "Tanh"),
)
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def fold_dimensions(model: ir.Model) -> ir.Model:
    """What is computed from the known sizes of a tensor becomes a constant, though its batch is unknown."""
    taken, sizes = value_names(model.graph), Sizes(model)
    for node, _ in list(walk(model.graph)):
        result = node.outputs[0] if node.outputs else None
        if result is None or node.graph is None or result.is_graph_output() or node.op_type not in _COMPUTING:
            continue
        found = sizes.numbers(result)
        if found is None or any(size is None or not size.is_known for size in found.reshape(-1)):
            continue
        dtype = "int64" if result.dtype is None else result.dtype.numpy()
        numbers = np.array([size.number for size in found.reshape(-1)], dtype).reshape(found.shape)
        if static_shape(result) == found.shape:
            replace_value(result, initializer(model.graph, fresh_name(taken, f"{result.name}_folded"), numbers))
            node.graph.remove(node, safe=True)
    return model


def settle_reshapes(model: ir.Model) -> ir.Model:
    """The target of a Reshape becomes a constant where it is known but for sizes that stay and one other.

    A size that stays is 0, and so keeps its name in what follows; the other is -1.
    """
    taken, sizes = value_names(model.graph), Sizes(model)
    for node, _ in list(walk(model.graph)):
        if node.op_type != "Reshape" or node.domain != "" or int_attribute(node, "allowzero", 0):
            continue
        target = reshape_target(sizes.dims(node.inputs[0]), sizes.reshaped(node))
        old = constant(node.inputs[1])
        if target is not None and (old is None or old.tolist() != target):
            node.replace_input_with(1, _shape(model, taken, node, target))
    return model


def _shape(model: ir.Model, taken: set[str], node: ir.Node, target: list[int]) -> ir.Value:
    return initializer(model.graph, fresh_name(taken, f"{node.name}_shape"), np.array(target, "int64"))


def merge_reshapes(model: ir.Model) -> ir.Model:
    """Of reshapes in a row, Flatten, Squeeze and Unsqueeze among them, the last one does it all."""
    import onnx_ir as ir

    taken, sizes = value_names(model.graph), Sizes(model)
    for node, _ in list(walk(model.graph)):
        is_reshape = node.op_type in _RESHAPES and node.domain == ""
        first = only_producer(node.inputs[0], *_RESHAPES) if is_reshape else None
        if first is None or first.graph is None or first.inputs[0] is None:
            continue
        result = sizes.reshaped(node) if node.op_type == "Reshape" else sizes.dims(node.outputs[0])
        target = reshape_target(sizes.dims(first.inputs[0]), result)
        if target is None:
            continue
        merged = ir.node("Reshape", [first.inputs[0], _shape(model, taken, node, target)], name=node.name)
        put_for(node, merged)
        first.graph.remove(first, safe=True)
    return model


def merge_transposes(model: ir.Model) -> ir.Model:
    """Of transposes in a row the last one does it all."""

    for node, _ in list(walk(model.graph)):
        first = (
            only_producer(node.inputs[0], "Transpose") if node.op_type == "Transpose" and node.domain == "" else None
        )
        if first is None or first.graph is None:
            continue
        inner, outer = (_order(transpose) for transpose in (first, node))
        if inner and outer and len(inner) == len(outer):
            set_ints(node, "perm", [inner[axis] for axis in outer])
            node.replace_input_with(0, first.inputs[0])
            first.graph.remove(first, safe=True)
    return model


def cancel_transposes(model: ir.Model) -> ir.Model:
    """A Transpose that undoes an earlier one goes with it when all between them is done number by number."""
    for node, _ in list(walk(model.graph)):
        is_transpose = node.op_type == "Transpose" and node.domain == "" and node.graph is not None
        between, first = _pointwise_before(node) if is_transpose else ([], None)
        if not between or first is None or first.inputs[0] is None:
            continue
        inner, outer = _order(first), _order(node)
        if len(inner) != len(outer) or [inner[axis] for axis in outer] != list(range(len(inner))):
            continue
        last = between[0].outputs[0]
        for step in between:
            shape = step.outputs[0].shape
            step.outputs[0].shape = None if shape is None else _permuted(shape, outer)
        place = list(between[-1].inputs).index(first.outputs[0])
        between[-1].replace_input_with(place, first.inputs[0])
        bypass(node, last)
    return model


def _pointwise_before(node: ir.Node) -> tuple[list[ir.Node], ir.Node | None]:
    """The operations between a Transpose and the one before it, the last first, and that one."""
    between: list[ir.Node] = []
    value = node.inputs[0]
    while (step := only_producer(value, *_POINTWISE)) is not None:
        others = [operand for operand in step.inputs if operand is not None and scalar(operand) is None]
        if len(others) != 1:
            return [], None
        between.append(step)
        value = others[0]
    first = value.producer() if value is not None else None
    is_transpose = first is not None and first.op_type == "Transpose" and first.domain == ""
    return between, first if is_transpose and first is not None and first.graph is node.graph else None


def _permuted(shape: ir.Shape, order: list[int]) -> ir.Shape:
    import onnx_ir as ir

    return ir.Shape([shape[axis] for axis in order])


def _order(transpose: ir.Node) -> list[int]:
    source = transpose.inputs[0]
    backwards = list(range(len(source.shape)))[::-1] if source is not None and source.shape is not None else []
    return list(transpose.attributes.get_ints("perm", backwards))


def merge_casts(model: ir.Model) -> ir.Model:
    """A Cast that loses nothing is left out when another Cast follows."""
    for node, _ in list(walk(model.graph)):
        first = only_producer(node.inputs[0], "Cast") if node.op_type == "Cast" and node.domain == "" else None
        source = first.inputs[0] if first is not None else None
        if first is None or source is None or first.graph is None or not _loses_nothing(source, first.outputs[0]):
            continue
        node.replace_input_with(0, source)
        first.graph.remove(first, safe=True)
    return model


def _loses_nothing(before: ir.Value, after: ir.Value) -> bool:
    if before.dtype is None or after.dtype is None:
        return False
    kinds = [value.dtype.numpy() for value in (before, after) if value.dtype is not None]
    return all(kind.kind in "fiub" for kind in kinds) and np.can_cast(kinds[0], kinds[1], "safe")
