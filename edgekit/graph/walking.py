"""Finding and changing things in a hub graph, the graphs inside its nodes included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "constant",
    "copy_of",
    "dtype_name",
    "fresh_name",
    "inner_graphs",
    "int_attribute",
    "replace_value",
    "set_ints",
    "walk",
]


def copy_of(model: ir.Model) -> ir.Model:
    """A copy whose nodes and values are its own; the arrays of its weights are shared."""
    return model.clone()


def inner_graphs(node: ir.Node) -> list[ir.Graph]:
    """The bodies of an If, Loop or Scan, in the order of their attributes' names; none for other nodes."""
    import onnx_ir as ir

    found: list[ir.Graph] = []
    for name in sorted(node.attributes):
        attribute = node.attributes[name]
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def walk(graph: ir.Graph, around: tuple[str, ...] = ()) -> Iterator[tuple[ir.Node, tuple[str, ...]]]:
    """Every node in the order of the file, each with the names of the nodes whose bodies it stands in."""
    for node in graph:
        yield node, around
        for inner in inner_graphs(node):
            yield from walk(inner, (*around, node.name or node.op_type))


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The numbers of an initializer, or None for a value that is only known when the model runs."""
    if value is None or value.const_value is None or not is_constant(value):
        return None
    return value.const_value.numpy()


def is_constant(value: ir.Value | None) -> bool:
    """Whether `constant` knows the numbers; reading those of a large weight takes time."""
    return value is not None and value.const_value is not None and not value.is_graph_input()


def constant_size(value: ir.Value | None) -> int | None:
    """How many numbers an initializer has; None for what is no constant."""
    if value is None or value.const_value is None or not is_constant(value):
        return None
    return int(value.const_value.size)


def dtype_name(value: ir.Value) -> str:
    """Our name of the dtype of a tensor, such as ``"float32"``; empty when the graph does not say."""
    if value.dtype is None:
        return ""
    name = value.dtype.name.lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute, or what ONNX takes when it is absent."""
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def set_ints(node: ir.Node, name: str, values: list[int]) -> None:
    """Gives a node an attribute of integers."""
    import onnx_ir as ir

    node.attributes[name] = ir.AttrInt64s(name, values)


def fresh_name(taken: set[str], wanted: str) -> str:
    """`wanted`, or the first of ``wanted_1``, ``wanted_2``, ... that is not taken yet; it is taken now."""
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


def value_names(graph: ir.Graph) -> set[str]:
    """The names of all values of a graph and of the bodies inside it."""
    names = {value.name for value in (*graph.inputs, *graph.initializers.values()) if value.name}
    for node, _ in walk(graph):
        names.update(value.name for value in node.outputs if value.name)
        for inner in inner_graphs(node):
            names.update(value.name for value in (*inner.inputs, *inner.initializers.values()) if value.name)
    return names


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Makes every reader of `old` read `new`, which takes over the name too when `old` is an output of the graph."""
    import onnx_ir as ir

    new.shape, new.type = new.shape or old.shape, new.type or old.type
    was_output, name = old.is_graph_output(), old.name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if was_output:
        old.name = None
        new.name = name


def put_for(node: ir.Node, other: ir.Node) -> None:
    """Puts a node for another one, whose first output's name, shape and dtype it takes over."""
    graph, old, new = node.graph, node.outputs[0], other.outputs[0]
    assert graph is not None
    name, new.shape, new.type = old.name, old.shape, old.type
    graph.insert_before(node, other)
    replace_value(old, new)
    graph.remove(node, safe=True)
    new.name = name


def initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer holding `array`."""
    import onnx_ir as ir

    tensor = ir.tensor(np.asarray(array, order="C"), name=name)  # ascontiguousarray would make scalars vectors
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The dimensions of a tensor when all are known numbers, else None."""
    if value is None or value.shape is None:
        return None
    dims: list[Any] = list(value.shape)
    return tuple(dims) if all(isinstance(dim, int) for dim in dims) else None


def rank(value: ir.Value | None) -> int | None:
    """How many dimensions a tensor has, or None when the graph does not say."""
    return None if value is None or value.shape is None else len(value.shape)
