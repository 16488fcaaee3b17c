"""One graph with a switch: an input more, whose number says which rounding of many takes place in this call.

What an operation gives passes an If that hands it on, or has a twin of the operation with rounded weights give it; a
tensor passes an If that hands it on or rounds it. So one file, opened once, can be asked for the effect of every
rounding alone, and of none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.walking import copy_of, fresh_name, initializer, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.spec import QuantParams

__all__ = ["NONE", "RoundedTensor", "RoundedWeights", "with_switch"]

NONE = -1
"""What the switch is set to for no rounding at all."""


@dataclass(frozen=True)
class RoundedTensor:
    """An activation by its name, and the parameters it is rounded by; None for the range each call shows.

    Attributes:
        readers: Names of the operations that read it rounded; None for all.
    """

    name: str
    params: QuantParams | None
    readers: frozenset[str] | None = None


@dataclass(frozen=True, eq=False)
class RoundedWeights:
    """An operation by its name, and the float32 numbers its constants become, by their place among its inputs."""

    name: str
    arrays: Mapping[int, np.ndarray]


def with_switch(graph: ir.Model, roundings: Mapping[RoundedTensor | RoundedWeights, int]) -> tuple[ir.Model, str]:
    """A copy of a cleaned graph with every rounding, which takes place when the switch is its number.

    Args:
        graph: A cleaned hub graph.
        roundings: Each with its number, 0 or more; several may share one.

    Returns:
        The copy, and the name of its further input: a scalar int64.
    """
    model = copy_of(graph)
    writer = _Writer(model)
    nodes = {node.name: node for node in model.graph}
    for rounding, number in roundings.items():
        if isinstance(rounding, RoundedTensor):
            writer.switch_tensor(rounding, number)
    for rounding, number in roundings.items():  # afterwards, so that their twins read what the tensors became
        if isinstance(rounding, RoundedWeights):
            writer.switch_weights(nodes[rounding.name], rounding, number)
    model.graph.sort()
    return model, writer.switch.name or ""


class _Writer:
    def __init__(self, model: ir.Model) -> None:
        import onnx_ir as ir

        self.graph = model.graph
        self._taken = value_names(model.graph) | {node.name or "" for node in model.graph}
        self._values = {value.name: value for value in model.graph.inputs}
        self._values |= {value.name: value for node in model.graph for value in node.outputs}
        self._passed: dict[str, list[ir.Value]] = {}
        self._is_on: dict[int, ir.Value] = {}
        name = fresh_name(self._taken, "edgekit_rounding")
        self.switch = ir.Value(name=name, shape=ir.Shape(()), type=ir.TensorType(ir.DataType.INT64))
        self.graph.inputs.append(self.switch)

    def switch_weights(self, node: ir.Node, rounding: RoundedWeights, number: int) -> None:
        """Lets what an operation gives pass an If that has its twin of rounded constants give it instead."""
        rounded = {place: self._constant(f"{node.name}_rounded", array) for place, array in rounding.arrays.items()}
        shown = [value for value in node.outputs if value.uses() or value.is_graph_output()]
        twin = self._node(node.op_type, [rounded.get(i, v) for i, v in enumerate(node.inputs)], node.outputs)
        twin.attributes.update(node.attributes)
        same = [self._node("Identity", [value], [value]) for value in shown]
        uses = [[use for use in value.uses() if use[0] not in same] for value in shown]
        places = [value.index() or 0 for value in shown]
        bodies = [
            self._body([twin], [twin.outputs[place] for place in places]),
            self._body(same, [one.outputs[0] for one in same]),
        ]
        for value, readers, chosen in zip(shown, uses, self._choose(number, bodies, shown), strict=True):
            for reader, index in readers:
                reader.replace_input_with(index, chosen)
            if value.is_graph_output():
                self._rename_output(value, chosen)

    def switch_tensor(self, rounding: RoundedTensor, number: int) -> None:
        """Lets a tensor pass an If that rounds it, for those of its readers that want it so."""
        known = self._passed.setdefault(rounding.name, [self._values[rounding.name]])
        # What is for all readers is done before what is for some, which may read the tensor as it left that.
        for value in known[:1] if rounding.readers is None else list(known):
            uses = [use for use in value.uses() if rounding.readers is None or use[0].name in rounding.readers]
            is_given = rounding.readers is None and value.is_graph_output()
            if not uses and not is_given:
                continue
            rounded = self._rounded(value, rounding.params)
            same = self._node("Identity", [value], [value])
            bodies = [self._body(rounded, rounded[-1].outputs), self._body([same], same.outputs)]
            (chosen,) = self._choose(number, bodies, [value])
            for reader, index in uses:
                reader.replace_input_with(index, chosen)
            if is_given:
                self._rename_output(value, chosen)
            known.append(chosen)

    def _rounded(self, value: ir.Value, params: QuantParams | None) -> list[ir.Node]:
        import onnx_ir as ir

        if params is None:
            quantize = self._node("DynamicQuantizeLinear", [value], [value] * 3)
            for output, dtype in zip(quantize.outputs, ("UINT8", "FLOAT", "UINT8"), strict=True):
                output.type = ir.TensorType(ir.DataType[dtype])
            scale, zero = quantize.outputs[1:]
            scale.shape = zero.shape = ir.Shape(())
        else:
            scale = self._constant("scale", np.float32(params.scale[0]))
            zero = self._constant("zero", np.asarray(params.zero_point[0], params.dtype))
            quantize = self._node("QuantizeLinear", [value, scale, zero], [value])
            quantize.outputs[0].type = zero.type
        return [quantize, self._node("DequantizeLinear", [quantize.outputs[0], scale, zero], [value])]

    def _rename_output(self, value: ir.Value, chosen: ir.Value) -> None:
        name = value.name
        for index, output in enumerate(self.graph.outputs):
            if output is value:
                self.graph.outputs[index] = chosen
        value.name, chosen.name = fresh_name(self._taken, f"{name}_before"), name

    def _choose(self, number: int, branches: list[Any], like: list[ir.Value]) -> list[ir.Value]:
        import onnx_ir as ir

        node = self._node("If", [self._on(number)], like)
        node.attributes["then_branch"] = ir.AttrGraph("then_branch", branches[0])
        node.attributes["else_branch"] = ir.AttrGraph("else_branch", branches[1])
        self.graph.append(node)
        return list(node.outputs)

    def _on(self, number: int) -> ir.Value:
        import onnx_ir as ir

        if number not in self._is_on:
            node = self._node("Equal", [self.switch, self._constant("number", np.int64(number))], [self.switch])
            node.outputs[0].type = ir.TensorType(ir.DataType.BOOL)
            self.graph.append(node)
            self._is_on[number] = node.outputs[0]
        return self._is_on[number]

    def _node(self, op_type: str, inputs: Any, like: Any) -> ir.Node:
        """A node that stands nowhere yet, whose outputs are of the kind of `like`."""
        import onnx_ir as ir

        node = ir.node(op_type, inputs, {}, num_outputs=len(like), name=fresh_name(self._taken, op_type))
        for output, model in zip(node.outputs, like, strict=True):
            output.name = fresh_name(self._taken, f"{node.name}_out")
            output.type, output.shape = model.type, model.shape
        return node

    def _body(self, nodes: list[ir.Node], outputs: Any) -> ir.Graph:
        import onnx_ir as ir

        return ir.Graph([], list(outputs), nodes=nodes, name=fresh_name(self._taken, "branch"))

    def _constant(self, name: str, array: Any) -> ir.Value:
        return initializer(self.graph, fresh_name(self._taken, name), np.asarray(array))
