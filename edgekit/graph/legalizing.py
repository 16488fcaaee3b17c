"""Forms of an operation that an engine lacks or gets wrong, in words it knows: rules a writer picks from, op by op.

A rule looks at one node and gives what takes its place, or None where the node may stay as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import (
    constant,
    copy_of,
    fresh_name,
    initializer,
    int_attribute,
    rank,
    replace_value,
    static_shape,
    value_names,
    walk,
)

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "Gap",
    "Nodes",
    "Rule",
    "dft_axis",
    "extend_mask",
    "legalize",
    "move_batch_behind_time",
    "move_dft_axis",
    "natural_unpooled_shape",
    "refuse_gaps",
    "scatter_cache",
    "scatter_unpooled",
    "split_weight_zero_points",
    "state_attribute",
    "wrap_by_gather",
]


class Nodes:
    """Adds nodes in front of one node; called like ``new("Transpose", x, perm=[1, 0])``."""

    def __init__(self, model: ir.Model, node: ir.Node, taken: set[str]) -> None:
        self._model, self._node, self._taken = model, node, taken

    def __call__(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """The one output of a new node."""
        return self.many(op_type, inputs, attributes, 1)[0]

    def many(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any], count: int
    ) -> tuple[ir.Value, ...]:
        """The `count` outputs of a new node."""
        import onnx_ir as ir

        name = fresh_name(self._taken, f"{self._node.name}_{op_type}")
        made: Any = ir.node(op_type, inputs, attributes, name=name, num_outputs=count)
        for index, value in enumerate(made.outputs):
            value.name = fresh_name(self._taken, f"{name}_out{index or ''}")
        assert self._node.graph is not None
        self._node.graph.insert_before(self._node, made)
        return tuple(made.outputs)

    def again(self, inputs: Sequence[ir.Value | None], *without: str) -> tuple[ir.Value, ...]:
        """The outputs of the same operation on other inputs, `without` some of its attributes."""
        kept = {name: value for name, value in self._node.attributes.items() if name not in without}
        return self.many(self._node.op_type, inputs, kept, len(self._node.outputs))

    def constant(self, array: Any, dtype: str = "int64") -> ir.Value:
        """A constant; of integers if nothing else is said."""
        name = fresh_name(self._taken, f"{self._node.name}_constant")
        return initializer(self._model.graph, name, np.asarray(array, dtype))


Rule = Callable[["ir.Node", Nodes], "Sequence[ir.Value] | None"]
Gap = Callable[["ir.Node"], str]
"""Why an engine cannot take a node; empty where it can."""


def legalize(model: ir.Model, rules: Mapping[str, Rule]) -> ir.Model:
    """A copy in which the rule of each operation of ONNX has been applied, by type; answers and names stay the same.

    A model with none of these operations is given back as it is.
    """
    if not any(node.domain == "" and node.op_type in rules for node, _ in walk(model.graph)):
        return model
    model, is_changed = copy_of(model), False
    taken = value_names(model.graph) | {node.name or "" for node, _ in walk(model.graph)}
    for node, _ in list(walk(model.graph)):
        rule = rules.get(node.op_type) if node.domain == "" else None
        new = Nodes(model, node, taken)
        results = None if rule is None else rule(node, new)
        if results is None or node.graph is None:
            continue
        for old, result in zip(node.outputs, results, strict=False):
            _take_place(old, result if result.producer() is not None else new("Identity", result))
        node.graph.remove(node, safe=True)
        is_changed = True
    return _tidied(model) if is_changed else model


def _tidied(model: ir.Model) -> ir.Model:
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
    return infer_shapes(model)


def _take_place(old: ir.Value, new: ir.Value) -> None:
    """All that read `old` read `new`, which has its name too: a plan of quantization knows tensors by name."""
    name = old.name
    replace_value(old, new)
    old.name = None
    new.name = name


def refuse_gaps(model: ir.Model, gaps: Mapping[str, Gap], format: str) -> None:
    """Raises UnsupportedError with all nodes that `gaps`, by type, has a reason against."""
    offenders = [
        f"{node.op_type} ({node.name}): {reason}"
        for node, _ in walk(model.graph)
        if node.domain == "" and node.op_type in gaps and (reason := gaps[node.op_type](node))
    ]
    if offenders:
        raise UnsupportedError(
            f"{format} has these operations only in part", offenders=offenders, hint="choose another format"
        )


def state_attribute(name: str, value: Any) -> Rule:
    """Writes down an attribute that a node leaves to its default, where a reader takes another default."""

    def rule(node: ir.Node, new: Nodes) -> None:
        import onnx_ir as ir

        if name not in node.attributes:
            node.attributes[name] = ir.convenience.convert_attribute(name, value)

    return rule


def move_batch_behind_time(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """RNN, GRU and LSTM of ``layout=1`` become layout 0 between transposes."""
    if int_attribute(node, "layout", 0) == 0:
        return None
    inputs = [
        new("Transpose", value, perm=[1, 0, 2]) if index in (0, 5, 6) and value is not None else value
        for index, value in enumerate(node.inputs)
    ]
    states = new.again(inputs, "layout")
    # Y is [time, directions, batch, hidden] and shall be [batch, time, directions, hidden].
    return [new("Transpose", value, perm=[1, 0, 2] if i else [2, 0, 1, 3]) for i, value in enumerate(states)]


def split_weight_zero_points(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """ConvInteger whose weights have a zero point a channel becomes two that have none, and their difference.

    sum((x - x0) (w - w0)) = sum((x - x0) w) - w0 sum((x - x0)), whose second sum is a convolution by ones.
    """
    zeros = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    weight = static_shape(node.inputs[1])
    if zeros is None or zeros.size < 2 or weight is None or int_attribute(node, "group", 1) != 1:
        return None
    if (zeros == zeros[0]).all():
        return new.again([*node.inputs[:3], new.constant(zeros[0], zeros.dtype.name)])
    x, w, x_zero = node.inputs[:3]
    ones = new.constant(np.ones((1, *weight[1:])), zeros.dtype.name)
    factor = new.constant(zeros.reshape(-1, *[1] * (len(weight) - 2)), "int32")
    return [new("Sub", new.again([x, w, x_zero])[0], new("Mul", new.again([x, ones, x_zero])[0], factor))]


def extend_mask(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """Attention's mask may end before the keys do; what is missing of it is written out: those keys do not count."""
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    shape, key = static_shape(mask), static_shape(node.inputs[1])
    has_past = len(node.inputs) > 4 and node.inputs[4] is not None
    if mask is None or mask.dtype is None or shape is None or key is None or has_past or shape[-1] >= key[-2]:
        return None
    kind = mask.dtype.numpy()
    missing = np.full((*shape[:-1], key[-2] - shape[-1]), False if kind.kind == "b" else -np.inf)
    whole = new("Concat", mask, new.constant(missing, kind.name), axis=-1)
    return new.again([*node.inputs[:3], whole, *node.inputs[4:]])


def move_dft_axis(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """DFT along another axis than 1, between transposes. Its axis is an input, by default -2, since opset 20."""
    opset = node.graph.opset_imports.get("", 1) if node.graph is not None else 1
    dims, axis = rank(node.inputs[0]), dft_axis(node)
    if opset < 20 or dims is None or axis is None or axis % dims == 1:
        return None
    order = list(range(dims))
    order[1], order[axis] = order[axis], order[1]
    length = node.inputs[1] if len(node.inputs) > 1 else None
    moved = new.again([new("Transpose", node.inputs[0], perm=order), length, new.constant(1)])
    return [new("Transpose", moved[0], perm=order)]


def dft_axis(node: ir.Node) -> int | None:
    """The axis of a DFT from opset 20 on, or None when only a run would tell."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    known = constant(given)
    return -2 if given is None else None if known is None else int(known.item())


def wrap_by_gather(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """A Pad of mode ``wrap`` by amounts known now becomes a Gather on each axis it changes."""
    shape, amounts = static_shape(node.inputs[0]), constant(node.inputs[1])
    given = node.inputs[3] if len(node.inputs) > 3 else None
    axes = constant(given)
    if node.attributes.get_string("mode", "constant") != "wrap" or shape is None or amounts is None:
        return None
    if (amounts < 0).any():  # whether to cut or to wrap first, nobody says
        return None
    if given is not None and axes is None:
        return None
    chosen = range(len(shape)) if axes is None else [int(axis) % len(shape) for axis in axes]
    value = node.inputs[0]
    for axis, before, after in zip(chosen, amounts[: len(chosen)], amounts[len(chosen) :], strict=True):
        if before or after:
            places = np.arange(-before, shape[axis] + after) % shape[axis]
            value = new("Gather", value, new.constant(places), axis=axis)
    return None if value is None else [value]


def scatter_cache(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """TensorScatter, which writes new steps into a cache, becomes ScatterElements."""
    cache, update = static_shape(node.inputs[0]), static_shape(node.inputs[1])
    if cache is None or update is None:
        return None
    axis = int_attribute(node, "axis", -2) % len(cache)
    along = [-1 if i == axis else 1 for i in range(len(cache))]
    places = new.constant(np.arange(update[axis]).reshape(along))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        first = new("Reshape", node.inputs[2], new.constant([-1] + [1] * (len(cache) - 1)))
        places = new("Add", first, places)
    if node.attributes.get_string("mode", "linear") == "circular":
        places = new("Mod", places, new.constant(cache[axis]))
    places = new("Expand", places, new.constant(update))
    return [new("ScatterElements", node.inputs[0], places, node.inputs[1], axis=axis)]


def natural_unpooled_shape(node: ir.Node) -> tuple[int, ...] | None:
    """The shape MaxUnpool gives when it is told none, or None for an input of unknown shape."""
    shape = static_shape(node.inputs[0])
    if shape is None:
        return None
    kernel = list(node.attributes.get_ints("kernel_shape", []) or [])
    strides = list(node.attributes.get_ints("strides", []) or []) or [1] * len(kernel)
    pads = list(node.attributes.get_ints("pads", []) or []) or [0] * 2 * len(kernel)
    sizes = zip(shape[2:], strides, kernel, pads[: len(kernel)], pads[len(kernel) :], strict=True)
    return (*shape[:2], *((size - 1) * stride + k - begin - end for size, stride, k, begin, end in sizes))


def scatter_unpooled(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """MaxUnpool, whose indices count through the whole tensor, becomes ScatterElements into zeros."""
    shape, value = natural_unpooled_shape(node), node.inputs[0]
    if shape is None or value is None or value.dtype is None:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        told = constant(node.inputs[2])
        if told is None or tuple(told.tolist()) != shape:
            return None
    flat = new.constant([-1])
    zeros = new.constant(np.zeros(int(np.prod(shape))), value.dtype.numpy().name)
    places, values = new("Reshape", node.inputs[1], flat), new("Reshape", value, flat)
    return [new("Reshape", new("ScatterElements", zeros, places, values, axis=0), new.constant(shape))]
