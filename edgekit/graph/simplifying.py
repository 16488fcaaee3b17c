"""Passes that take out what changes nothing: no-ops, duplicates, branches never taken. Each takes and gives a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.walking import (
    constant,
    constant_size,
    dtype_name,
    fresh_name,
    initializer,
    inner_graphs,
    int_attribute,
    is_constant,
    put_for,
    replace_value,
    static_shape,
    value_names,
    walk,
)

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["define_erfc", "merge_duplicates", "remove_no_ops", "resolve_branches", "share_constants"]

_RANDOM = frozenset((
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
))  # fmt: skip
_LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"))
_SHORT = 8
"""Constants of so many numbers are compared all at once, larger ones with those of their shape."""
_PLAIN = frozenset((
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
))  # fmt: skip
_FARTHEST = 2**31 - 1
"""A Slice that ends here or beyond ends where its input does."""


def define_erfc(model: ir.Model) -> ir.Model:
    """Erfc, which tf2onnx leaves in the graph of a Keras GELU though ONNX has none, becomes 1 - Erf."""
    import onnx_ir as ir

    taken = value_names(model.graph)
    for node, _ in list(walk(model.graph)):
        source = node.inputs[0] if node.op_type == "Erfc" and node.domain == "" else None
        if source is None or source.dtype is None or node.graph is None:
            continue
        erf = ir.node("Erf", [source], name=f"{node.name}_erf")
        erf.outputs[0].name = fresh_name(taken, f"{node.outputs[0].name}_erf")
        one = initializer(model.graph, fresh_name(taken, f"{node.name}_one"), np.array(1, source.dtype.numpy()))
        node.graph.insert_before(node, erf)
        put_for(node, ir.node("Sub", [one, erf.outputs[0]], name=node.name))
    return model


def resolve_branches(model: ir.Model) -> ir.Model:
    """An If whose condition is a constant becomes the branch it takes."""
    for node, _ in list(walk(model.graph)):
        condition = constant(node.inputs[0]) if node.op_type == "If" and node.domain == "" else None
        if condition is None or node.graph is None or condition.size != 1:
            continue
        branch = node.attributes["then_branch" if condition.reshape(-1)[0] else "else_branch"].as_graph()
        results, inner = list(branch.outputs), list(branch)
        if any(value.producer() is None or value.producer() not in inner for value in results):
            continue  # a branch that gives what it does not make itself, such as a constant
        branch.outputs.clear()
        branch.remove(inner)
        for value in list(branch.initializers.values()):
            del branch.initializers[value.name or ""]
            model.graph.register_initializer(value)
        node.graph.insert_before(node, inner)
        for old, new in zip(node.outputs, results, strict=True):
            replace_value(old, new)
        node.graph.remove(node, safe=True)
    return model


def remove_no_ops(model: ir.Model) -> ir.Model:
    """Operations that give what they were given are bypassed, as a Reshape to the same shape or an addition of 0."""
    for node, _ in list(walk(model.graph)):
        if (source := _unchanged(node)) is not None:
            bypass(node, source)
    return model


def bypass(node: ir.Node, source: ir.Value) -> bool:
    """Takes out a node whose first output is `source`; False where names forbid it.

    A value has one name, so what an output of the graph is made of must not be public, or another graph's, already.
    """
    result, graph, producer = node.outputs[0], node.graph, source.producer()
    is_own = producer is not None and producer.graph is graph and not source.is_graph_output()
    if graph is None or (result.is_graph_output() and not is_own):
        return False
    replace_value(result, source)
    graph.remove(node, safe=True)
    return True


def _unchanged(node: ir.Node) -> ir.Value | None:
    """The input that a node's only output always equals, its shape included."""
    if node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    check = _CHECKS.get(node.op_type)
    if check is not None:
        return node.inputs[0] if check(node) else None
    if node.op_type in ("Max", "Min", "And", "Or") and len(set(node.inputs)) == 1:
        return node.inputs[0]
    if node.op_type in _NEUTRAL:
        return _other_than_neutral(node)
    if node.op_type == "Where":
        mask = constant(node.inputs[0])
        is_one_sided = mask is not None and mask.size > 0 and mask.min() == mask.max()
        chosen = node.inputs[2 - int(mask.flat[0])] if mask is not None and is_one_sided else None
        return chosen if chosen is not None and _is_static(chosen, node.outputs[0]) else None
    return None


def same_shape(left: ir.Value | None, right: ir.Value | None) -> bool:
    """Whether two tensors of the same number of elements have the same shape: at most one dimension may be unknown."""
    if left is None or right is None or left.shape is None or right.shape is None:
        return False
    if len(left.shape) != len(right.shape):
        return False
    pairs: list[tuple[Any, Any]] = list(zip(left.shape, right.shape, strict=True))
    unknown = [(a, b) for a, b in pairs if not isinstance(a, int) or not isinstance(b, int)]
    return len(unknown) <= 1 and all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _keeps_order(node: ir.Node) -> bool:
    """A reshape to the shape it already has; the number of elements is the same, so one dimension may be unknown."""
    return same_shape(node.inputs[0], node.outputs[0]) and not _has_zero(node.outputs[0])


def _has_zero(value: ir.Value) -> bool:
    return any(dim == 0 for dim in value.shape or () if isinstance(dim, int))


def _is_static_same(node: ir.Node) -> bool:
    return _is_static(node.inputs[0], node.outputs[0])


def _is_static(left: ir.Value | None, right: ir.Value) -> bool:
    shape = static_shape(left)
    return shape is not None and shape == static_shape(right)


def _slices_all(node: ir.Node) -> bool:
    starts, ends = (constant(node.inputs[index]) for index in (1, 2))
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else np.ones(1)
    if steps is None or not np.all(steps == 1):
        return False
    return _is_static_same(node) or (
        starts is not None and ends is not None and not starts.any() and bool(np.all(ends >= _FARTHEST))
    )


def _pads_nothing(node: ir.Node) -> bool:
    amounts = constant(node.inputs[1])
    return amounts is not None and not amounts.any()


def _is_in_order(node: ir.Node) -> bool:
    order = node.attributes.get_ints("perm", [])
    return bool(order) and list(order) == sorted(order)


def _casts_to_same(node: ir.Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.dtype is not None and int(source.dtype) == int_attribute(node, "to", 0)


_CHECKS: dict[str, Callable[[ir.Node], bool]] = {
    "Identity": lambda node: True,
    "Reshape": _keeps_order,
    "Flatten": _keeps_order,
    "Squeeze": _keeps_order,
    "Unsqueeze": _keeps_order,
    "Expand": _is_static_same,
    "Tile": _is_static_same,
    "Slice": _slices_all,
    "Pad": _pads_nothing,
    "Transpose": _is_in_order,
    "Cast": _casts_to_same,
    **dict.fromkeys(("Concat", "Sum", "Mean"), lambda node: len(node.inputs) == 1),
}
_NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "Pow": 1, "And": True, "Or": False}


def _other_than_neutral(node: ir.Node) -> ir.Value | None:
    neutral = _NEUTRAL[node.op_type]
    for kept, other in ((0, 1), (1, 0))[: 1 if node.op_type in ("Sub", "Div", "Pow") else 2]:
        source, array = node.inputs[kept], constant(node.inputs[other])
        if array is None or source is None or source.dtype != node.outputs[0].dtype or not np.all(array == neutral):
            continue
        adds_no_axis = array.size == 1 and source.shape is not None and array.ndim <= len(source.shape)
        if adds_no_axis or _is_static(source, node.outputs[0]):
            return source
    return None


def share_constants(model: ir.Model) -> ir.Model:
    """Equal initializers become one, except what a layer multiplies by or adds: quantizing gives each its own form."""
    seen: dict[tuple[Any, ...], list[ir.Value]] = {}
    for value in list(model.graph.initializers.values()):
        if not is_constant(value) or value.is_graph_output() or _is_weight(value) or dtype_name(value) not in _PLAIN:
            continue
        is_short = (constant_size(value) or 0) <= _SHORT
        others = seen.setdefault((value.dtype, static_shape(value), _bits(value) if is_short else b""), [])
        first = next((other for other in others if is_short or _bits(other) == _bits(value)), None)
        if first is None:
            others.append(value)
            continue
        value.replace_all_uses_with(first)
        del model.graph.initializers[value.name or ""]
    return model


def _bits(value: ir.Value) -> bytes:
    """What to compare: 0.0 is not -0.0, and a NaN is itself."""
    array = constant(value)
    return b"" if array is None else array.tobytes()


def _is_weight(value: ir.Value) -> bool:
    return any(node.op_type in _LAYERS and index > 0 for node, index in value.uses())


def merge_duplicates(model: ir.Model) -> ir.Model:
    """Of operations that compute the same from the same, one stays. What is public, random or has a body stays."""
    graphs = [model.graph, *(inner for node, _ in walk(model.graph) for inner in inner_graphs(node))]
    for graph in graphs:
        seen: dict[tuple[Any, ...], ir.Node] = {}
        for node in list(graph):
            if node.domain != "" or node.op_type in _RANDOM or inner_graphs(node):
                continue
            if any(value.is_graph_output() for value in node.outputs):
                continue
            first = seen.setdefault(_computation(node), node)
            if first is not node:
                for old, new in zip(node.outputs, first.outputs, strict=True):
                    replace_value(old, new)
                graph.remove(node, safe=True)
    return model


def _computation(node: ir.Node) -> tuple[Any, ...]:
    import onnx_ir as ir

    attributes = [ir.serde.serialize_attribute(node.attributes[name]) for name in sorted(node.attributes)]
    written = tuple(attribute.SerializeToString(deterministic=True) for attribute in attributes)
    return node.op_type, tuple(map(id, node.inputs)), len(node.outputs), written
