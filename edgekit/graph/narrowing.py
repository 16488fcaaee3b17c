"""int64 made int32 where nothing is lost, for formats and devices that compute indices and shapes in 32 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import constant, dtype_name, fresh_name, initializer, inner_graphs, static_shape, value_names

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["narrow_integers"]

_Range = tuple[float, float]
_LOW, _HIGH = -(2.0**31), 2.0**31 - 1
_UNKNOWN: _Range = (-np.inf, np.inf)
_MOVING = frozenset((
    "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "ReduceMax", "ReduceMin", "Reshape",
    "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
))  # fmt: skip
"""What comes out of these was in their first input."""
_SIZES = frozenset(("ArgMax", "ArgMin", "NonZero", "Shape", "Size", "TopK"))
"""The int64 that comes out of these counts something in memory, or numbers it."""
_INDICES = {"Gather": 1, "GatherElements": 1, "ScatterElements": 1}
"""Which input must name a place on an axis, or the graph cannot run."""


@dataclass(frozen=True, eq=False)
class _Group:
    """The int64 tensors of a node that must be of one type, by their places.

    Attributes:
        allows: Whether ONNX has the operation in int32 as well.
    """

    node: ir.Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    allows: bool


def narrow_integers(model: ir.Model) -> ir.Model:
    """int64 tensors become int32 where their values are known to fit and ONNX lets their operations have it.

    Known are constants, sizes, indices, and what is computed from them. A Cast stands where a narrow tensor comes from
    an input of the graph or an operation that gives int64 only, as Shape does, and where one is an output of the graph.
    What an operation must have in int64, as Reshape its shape, stays, and so does what graphs inside nodes read.
    """
    model = infer_shapes(model)
    chosen = _narrowable(model)
    taken = value_names(model.graph)
    made = {group.node.outputs[place] for group in chosen for place in group.outputs}
    copies: dict[ir.Value, ir.Value] = {}
    for group in chosen:
        for place in group.inputs:
            value = group.node.inputs[place]
            if value is not None and value not in made:
                copies[value] = copies.get(value) or _narrow_copy(model, taken, value)
                group.node.replace_input_with(place, copies[value])
    public = [value for value in model.graph.outputs if value in made]
    for value in made:
        _narrow(value)
    for value in public:
        _widen_output(model, taken, value)
    _drop_unread(model)
    return infer_shapes(model)


def _narrowable(model: ir.Model) -> list[_Group]:
    """Groups that can be narrow all at once: the largest set in which none stands in another's way."""
    ranges = _ranges(model)
    groups = _groups(model)
    maker = {group.node.outputs[place]: group for group in groups for place in group.outputs}
    readers: dict[ir.Value, list[_Group]] = {}
    for group in groups:
        for place in group.inputs:
            if (value := group.node.inputs[place]) is not None:
                readers.setdefault(value, []).append(group)
    narrow = {group for group in groups if group.allows}

    def gives_narrow(value: ir.Value) -> bool:
        """Whether all who read what a group gives can read it in int32."""
        casts = sum(user.op_type == "Cast" and user.domain == "" for user, _ in value.uses())
        own = readers.get(value, [])
        return _fits(ranges, value) and len(own) + casts == len(value.uses()) and all(one in narrow for one in own)

    def takes_narrow(value: ir.Value | None) -> bool:
        """Whether it is narrow where it is made, or can be cast once behind an input or an origin."""
        made_by = maker.get(value) if value is not None else None
        is_origin = made_by is None or (not made_by.allows and not made_by.inputs)
        return value is not None and (made_by in narrow or (is_origin and _fits(ranges, value)))

    while True:
        wrong = {
            group
            for group in narrow
            if not all(gives_narrow(group.node.outputs[place]) for place in group.outputs)
            or not all(takes_narrow(group.node.inputs[place]) for place in group.inputs)
        }
        if not wrong:
            return [group for group in groups if group in narrow]
        narrow -= wrong


def _groups(model: ir.Model) -> list[_Group]:
    import onnx

    opset, found = model.graph.opset_imports.get("", 1), []
    for node in model.graph:
        is_known = node.domain == "" and onnx.defs.has(node.op_type, opset, "") and not inner_graphs(node)
        if node.op_type == "Cast" and node.domain == "":
            # Its input may have any type. A public output stays its own: a Cast behind it would be another one.
            if _is_wide(node.outputs[0]):
                found.append(_Group(node, (), (0,), not node.outputs[0].is_graph_output()))
            continue
        schema = onnx.defs.get_schema(node.op_type, opset, "") if is_known else None
        found.extend(_groups_of(node, schema))
    return found


def _groups_of(node: ir.Node, schema: onnx.defs.OpSchema | None) -> list[_Group]:
    inputs = [place for place, value in enumerate(node.inputs) if value is not None and _is_wide(value)]
    outputs = [place for place, value in enumerate(node.outputs) if _is_wide(value)]
    if schema is None:
        return [_Group(node, tuple(inputs), tuple(outputs), allows=False)] if inputs or outputs else []
    types = {entry.type_param_str: entry.allowed_type_strs for entry in schema.type_constraints}
    members: dict[str, tuple[list[int], list[int]]] = {}
    for side, places, formals in ((0, inputs, schema.inputs), (1, outputs, schema.outputs)):
        for place in places:
            members.setdefault(formals[min(place, len(formals) - 1)].type_str, ([], []))[side].append(place)
    return [
        # An output alone has the type of an attribute, as that of ConstantOfShape.
        _Group(node, tuple(read), tuple(given), bool(read) and "tensor(int32)" in types.get(kind, ()))
        for kind, (read, given) in members.items()
    ]


def _is_wide(value: ir.Value) -> bool:
    return dtype_name(value) == "int64"


def _fits(ranges: dict[ir.Value, _Range], value: ir.Value) -> bool:
    is_index = any(_INDICES.get(user.op_type) == place and user.domain == "" for user, place in value.uses())
    low, high = ranges.get(value, _UNKNOWN)
    return is_index or (low >= _LOW and high <= _HIGH)


def _ranges(model: ir.Model) -> dict[ir.Value, _Range]:
    """The least and the largest number each integer tensor can hold, as far as the graph tells."""
    ranges: dict[ir.Value, _Range] = {}
    for value in model.graph.initializers.values():
        array = constant(value)
        if array is not None and array.dtype.kind in "iu" and array.size:
            ranges[value] = float(array.min()), float(array.max())
    for node in model.graph:
        if node.domain != "":
            continue
        found = _range_of(node, [ranges.get(value, _type_range(value)) for value in node.inputs if value is not None])
        ranges.update({value: found for value in node.outputs if _is_wide(value)})
    return ranges


def _type_range(value: ir.Value) -> _Range:
    name = dtype_name(value)
    if name == "bool":
        return 0.0, 1.0
    if name in ("int8", "int16", "int32", "uint8", "uint16"):
        return float(np.iinfo(name).min), float(np.iinfo(name).max)
    return _UNKNOWN


def _range_of(node: ir.Node, inputs: list[_Range]) -> _Range:
    if node.op_type in _SIZES:
        shape = static_shape(node.inputs[0])
        if shape is None:
            return 0.0, _HIGH
        return 0.0, float(np.prod(shape) if node.op_type == "Size" else max(shape, default=0))
    lows, highs = [low for low, _ in inputs], [high for _, high in inputs]
    if node.op_type in ("Concat", "Max", "Min"):
        return (max if node.op_type == "Max" else min)(lows), (min if node.op_type == "Min" else max)(highs)
    if node.op_type in _MOVING or node.op_type == "Cast":
        return inputs[0]
    if node.op_type == "Where":
        return min(lows[1:]), max(highs[1:])
    if node.op_type == "ReduceSum":
        size = static_shape(node.inputs[0])
        count = float(np.prod(size)) if size is not None else np.inf
        return min(0.0, inputs[0][0] * count), max(0.0, inputs[0][1] * count)
    arithmetic = _ARITHMETIC.get(node.op_type)
    if arithmetic is None or not np.all(np.isfinite(inputs)):
        return _UNKNOWN
    ends = [arithmetic(*pair) for pair in _corners(inputs)]
    return min(ends), max(ends)


_ARITHMETIC: dict[str, Callable[..., float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Neg": lambda a: -a,
    "Abs": lambda a: abs(a),
    "Div": lambda a, b: a / (b or 1.0),
}
"""Operations whose extremes are at the extremes of their operands; a divisor is a whole number, 1 at least."""


def _corners(inputs: list[_Range]) -> list[tuple[float, ...]]:
    import itertools

    spread = [(low, high, *((-1.0, 1.0) if low < 0 < high else ())) for low, high in inputs]
    return list(itertools.product(*spread))


def _narrow(value: ir.Value) -> None:
    import onnx_ir as ir

    value.type = ir.TensorType(ir.DataType.INT32)
    node = value.producer()
    if node is not None and node.op_type == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.INT32))


def _narrow_copy(model: ir.Model, taken: set[str], value: ir.Value) -> ir.Value:
    """The same numbers in int32: a second constant, or a Cast behind an input or the operation that gives them."""
    name = fresh_name(taken, f"{value.name}_int32")
    array = constant(value)
    if array is not None:
        return initializer(model.graph, name, array.astype("int32"))
    cast = _cast(value, "INT32", name)
    producer = value.producer()
    if producer is None:
        model.graph.insert_before(model.graph[0], cast)
    else:
        model.graph.insert_after(producer, cast)
    return cast.outputs[0]


def _cast(value: ir.Value, kind: str, name: str) -> ir.Node:
    import onnx_ir as ir

    dtype: Any = ir.DataType[kind]
    cast = ir.node("Cast", [value], {"to": int(dtype)}, name=f"{name}_cast")
    cast.outputs[0].name, cast.outputs[0].shape = name, value.shape
    cast.outputs[0].type = ir.TensorType(dtype)
    return cast


def _widen_output(model: ir.Model, taken: set[str], value: ir.Value) -> None:
    public = value.name or ""
    value.name = fresh_name(taken, f"{public}_int32")
    cast = _cast(value, "INT64", public)
    cast.name = fresh_name(taken, f"{public}_cast")
    producer = value.producer()
    assert producer is not None
    model.graph.insert_after(producer, cast)
    for place, output in enumerate(model.graph.outputs):
        if output is value:
            model.graph.outputs[place] = cast.outputs[0]


def _drop_unread(model: ir.Model) -> None:
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
