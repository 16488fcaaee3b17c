"""Which tensors and operations of a graph become integers on a target, and which with weights stay float, and why.

Two kinds of engine, told apart by `Placement.quantize_outputs`:

* ONNX Runtime fuses dequantize-operation-quantize into an integer kernel: parameters are wanted around every operation
  that is to run in integers, and an activation function is taken in when the quantization stands behind it. So it is
  with TFLite, but for products of matrices, whose kernels give floats in ONNX Runtime only, and for operations that
  want one scale.
* OpenVINO wants parameters at the inputs of the multiplying operations only, as early as the data they carry allows,
  and fuses what lies between.

In both, a chain that does not lead to another multiplication stays float: the last layers gain nothing from integers,
and lose most.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.graph.walking import constant, dtype_name, walk
from edgekit.quantize.anchors import WEIGHTY, Anchor, read_anchor, why_float
from edgekit.recipe import STATIC

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.quantize.histograms import Range
    from edgekit.recipe import Recipe
    from edgekit.target import Placement

__all__ = ["Placed", "place"]

_MOVING = ("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Resize",
           "DepthToSpace", "SpaceToDepth", "Gather", "Pad")  # fmt: skip
"""Operations that only move or pick values, so that input and output can share one scale, and kernels ask for it."""

_TAKEN_IN = ("Relu", "Clip")
"""Activation functions that disappear when the operation before them is quantized behind them."""

_FLOAT_OUTPUT = ("MatMul", "Gemm")
"""Operations whose integer kernel may give float: where it does, parameters stand behind them for integer readers."""

_JOINING = ("Concat",)
"""What these give has one scale, whatever those of their inputs are."""

_PICKING = ("Slice", "Split", "Gather")
"""What these give is part of what they read, and may be the part of small numbers."""

_APART = 4.0
"""Ranges that differ by more do not share a scale: the narrower would lose two of its eight bits."""

_WITH_CONSTANTS = ("Add", "Mul", "Sub", "PRelu")


@dataclass(frozen=True)
class Placed:
    """The answer, by names.

    Attributes:
        groups: Tensors to be quantized; those in one group share parameters.
        anchors: The multiplying operations that are quantized.
        constants: Initializers that take an activation's place in a quantized addition or multiplication.
        quantized_ops: All operations that are to run in integers.
        float_ops: Operations with weights or products that stay float, and why.
    """

    groups: tuple[tuple[str, ...], ...]
    anchors: tuple[Anchor, ...]
    constants: tuple[str, ...]
    quantized_ops: tuple[str, ...]
    float_ops: Mapping[str, str]


def place(graph: ir.Model, placement: Placement, recipe: Recipe, ranges: Mapping[str, Range] | None = None) -> Placed:
    """Decides for a cleaned graph.

    Args:
        graph: The hub graph.
        placement: What the format wants on the target.
        recipe: Which operations are to be integers at all.
        ranges: Of activations by name: what would share a scale but differs widely is joined in float.

    Raises:
        UnsupportedError: A rule of the recipe matches no operation.
    """
    _require_matches(graph, recipe)
    float_ops: dict[str, str] = {}
    anchors: dict[ir.Node, Anchor] = {}
    for node, around in walk(graph.graph):
        if node.op_type not in WEIGHTY:
            continue
        if reason := why_float(node, around, placement, recipe):
            float_ops["/".join((*around, node.name or ""))] = reason
        else:
            anchors[node] = read_anchor(node)
    plan = (_Fusing if placement.quantize_outputs else _Hoisting)(anchors, placement, recipe, ranges or {})
    plan.decide(graph.graph)
    order = [node for node in graph.graph if node in plan.quantized]
    return Placed(
        groups=plan.groups.as_tuples(),
        anchors=tuple(anchors[node] for node in order if node in anchors),
        constants=tuple(dict.fromkeys(plan.constants)),
        quantized_ops=tuple(node.name or "" for node in order),
        float_ops=float_ops,
    )


def _require_matches(graph: ir.Model, recipe: Recipe) -> None:
    nodes = [(node.name or "", node.op_type) for node, _ in walk(graph.graph)]
    idle = [rule for rule in recipe.rules if not any(rule.matches(*node) for node in nodes)]
    if idle:
        raise UnsupportedError(
            f"recipe {recipe.name!r} has rules that match no operation",
            offenders=[f"name {rule.name!r}, type {rule.op_type!r}" for rule in idle],
            hint="edgekit inspect lists the operations",
        )


class _Groups:
    """Sets of tensors that share parameters, joined as needed."""

    def __init__(self) -> None:
        self._parent: dict[ir.Value, ir.Value] = {}

    def add(self, value: ir.Value) -> None:
        self._parent.setdefault(value, value)

    def __contains__(self, value: ir.Value) -> bool:
        return value in self._parent

    def _root(self, value: ir.Value) -> ir.Value:
        while self._parent[value] is not value:
            value = self._parent[value]
        return value

    def join(self, one: ir.Value, other: ir.Value) -> None:
        self.add(one)
        self.add(other)
        self._parent[self._root(other)] = self._root(one)

    def as_tuples(self) -> tuple[tuple[str, ...], ...]:
        found: dict[ir.Value, list[str]] = {}
        for value in self._parent:
            found.setdefault(self._root(value), []).append(value.name or "")
        return tuple(tuple(names) for names in found.values())


class _Choice:
    """What both kinds share: what is quantized so far, and the recipe's word on an operation."""

    def __init__(
        self,
        anchors: Mapping[ir.Node, Anchor],
        placement: Placement,
        recipe: Recipe,
        ranges: Mapping[str, Range],
    ) -> None:
        self.ranges = ranges
        self.anchors = anchors
        self.placement = placement
        self.recipe = recipe
        self.groups = _Groups()
        self.quantized: set[ir.Node] = set(anchors)
        self.constants: list[str] = []

    def may_follow(self, node: ir.Node) -> bool:
        is_wanted = self.wants_integers(node)
        is_known = node.domain == "" and node.op_type in self.placement.followers and is_wanted and _is_plain(node)
        return is_known and not self._lies_apart(node)

    def _lies_apart(self, node: ir.Node) -> bool:
        """Whether one scale for all it joins, or for what it picks out, would leave the narrowest too few integers."""
        if self.placement.quantize_outputs and node.op_type not in (*self.placement.one_scale, *_JOINING, *_PICKING):
            return False
        values = [*_activations(node), *(node.outputs if node.op_type in _PICKING else ())]
        spans = [self.ranges[v.name] for v in values if v.name and v.name in self.ranges]
        reach = [max(span.high, 0.0) - min(span.low, 0.0) for span in spans]
        return len(reach) > 1 and max(reach) > _APART * min(reach)

    def wants_integers(self, node: ir.Node) -> bool:
        """Whether no rule says otherwise; what the recipe says of all does not bind those that follow."""
        rule = self.recipe.decide(node.name or "", node.op_type)
        return rule is None or rule.precision in STATIC


def _is_plain(node: ir.Node) -> bool:
    """Whether the node is of the kind its integer kernel covers."""
    if node.op_type == "Resize":
        return bool(node.attributes.get_string("mode", "nearest") == "nearest")
    if node.op_type == "Pad":
        value = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
        return node.attributes.get_string("mode", "constant") == "constant" and value is not None and not value.any()
    return all(dtype_name(value) == "float32" for value in node.outputs if value.uses() or value.is_graph_output())


def _float_operands(node: ir.Node) -> list[ir.Value]:
    operands = node.inputs[:1] if node.op_type in ("Resize", "Pad") else node.inputs  # the others only say how
    return [value for value in operands if value is not None and dtype_name(value) == "float32"]


def _activations(node: ir.Node) -> list[ir.Value]:
    """The float tensors an operation computes on that are not constant."""
    return [value for value in _float_operands(node) if constant(value) is None]


def _float_constants(node: ir.Node) -> list[ir.Value]:
    return [value for value in _float_operands(node) if constant(value) is not None]


class _Hoisting(_Choice):
    """Parameters at the inputs of anchors, moved up through operations that only move data."""

    def decide(self, graph: Iterable[ir.Node]) -> None:
        for node in graph:
            if node in self.anchors:
                sources = self._sources(node.inputs[0])
                for source in sources:
                    self.groups.join(sources[0], source)

    def _sources(self, value: ir.Value | None) -> list[ir.Value]:
        """The tensors whose parameters decide those of `value`: itself, or what the data in it was moved from."""
        assert value is not None
        node = value.producer()
        if node is None or not self.may_follow(node) or _float_constants(node):
            return [value]
        self.quantized.add(node)
        found = [source for moved in _activations(node) for source in self._sources(moved)]
        return list(dict.fromkeys(found))


class _Fusing(_Choice):
    """Parameters around every operation of a chain between anchors."""

    def decide(self, graph: Iterable[ir.Node]) -> None:
        self.float_outputs = _FLOAT_OUTPUT if self.placement.float_products else ()
        nodes = list(graph)
        chain = self._chain(nodes)
        for node in reversed(nodes):
            if node in chain and self._leads_on(node):
                self.quantized.add(node)
        for node in nodes:
            if node in self.anchors:
                self._surround(node, [node.inputs[0]], always_behind=node.op_type not in self.float_outputs)
            elif node in self.quantized and node.op_type not in _TAKEN_IN:
                self._surround(node, list(_activations(node)), always_behind=True)
                self.constants.extend(value.name or "" for value in _float_constants(node))

    def _chain(self, nodes: Iterable[ir.Node]) -> set[ir.Node]:
        """The operations all of whose inputs are quantized if they themselves are."""
        chain: set[ir.Node] = set()
        quantized = {node.inputs[0] for node in self.anchors}
        for node in nodes:
            inputs = _activations(node)
            reached = bool(inputs) and all(value in quantized or value.producer() in chain for value in inputs)
            follows = reached and self.may_follow(node) and _constants_fit(node)
            if node in self.anchors or follows or self._is_taken_in(node, chain):
                chain.add(node)
        return chain

    def _is_taken_in(self, node: ir.Node, chain: set[ir.Node]) -> bool:
        if node.op_type not in _TAKEN_IN or node.domain != "" or node.inputs[0] is None:
            return False
        source = node.inputs[0]
        before = source.producer()
        alone = len(source.uses()) == 1 and not source.is_graph_output()
        return (
            before in chain
            and before is not None
            and before.op_type not in (*_MOVING, *_TAKEN_IN)
            and alone
            and self.wants_integers(node)
            and _keeps_zero(node)
        )

    def _leads_on(self, node: ir.Node) -> bool:
        """Whether a multiplication in integers waits at the end of the chain; a convolution needs what it takes in."""
        if node.op_type in _TAKEN_IN:
            before = node.inputs[0].producer() if node.inputs[0] is not None else None
            if before in self.anchors and before is not None and before.op_type not in self.float_outputs:
                return True
        readers = [use for value in node.outputs for use in value.uses()]
        return any(index == 0 if user in self.anchors else user in self.quantized for user, index in readers)

    def _surround(self, node: ir.Node, inputs: list[ir.Value | None], *, always_behind: bool) -> None:
        for value in inputs:
            if value is not None:
                self.groups.add(value)
        for output in node.outputs if always_behind else ():
            if not output.uses() and not output.is_graph_output():
                continue
            reader = next(iter(output.consumers())) if len(output.uses()) == 1 else None
            is_taken = reader is not None and reader.op_type in _TAKEN_IN and reader in self.quantized
            behind = reader.outputs[0] if is_taken and reader is not None else output
            self.groups.add(behind)
            joined = inputs if node.op_type in self.placement.one_scale else inputs[:1] * (node.op_type in _MOVING)
            for value in joined:
                if value is not None:
                    self.groups.join(value, behind)


def _constants_fit(node: ir.Node) -> bool:
    return not _float_constants(node) or node.op_type in _WITH_CONSTANTS


def _keeps_zero(node: ir.Node) -> bool:
    """Whether 0 is within what a Relu or Clip lets through, as it is within every quantized range."""
    if node.op_type == "Relu":
        return True
    limits = [constant(value) for value in node.inputs[1:3] if value is not None]
    if any(limit is None for limit in limits) or len(limits) != 2:
        return False
    low, high = (float(limit) for limit in limits if limit is not None)
    return low <= 0.0 <= high
