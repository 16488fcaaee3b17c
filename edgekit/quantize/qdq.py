"""A plan in ONNX's own form: weights stored as integers, QuantizeLinear and DequantizeLinear around the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.files import raise_opset
from edgekit.graph.walking import constant, copy_of, fresh_name, initializer, value_names
from edgekit.quantize.anchors import ANCHORS, read_anchor
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight, QuantPlan
from edgekit.quantize.solver import quantize_bias
from edgekit.spec import QuantParams

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["OPSET", "to_qdq"]

OPSET = 21
"""The first in which QuantizeLinear and DequantizeLinear know blocks, 4 and 16 bits."""


def to_qdq(graph: ir.Model, plan: QuantPlan, *, stored: bool = False) -> ir.Model:
    """A copy of a cleaned graph that computes as `plan` says, in any engine that knows QDQ; the oracle included.

    Biases become int32 of scale activation x weight. Inputs and outputs stay float. What `plan` rounds in each call is
    computed in float.

    Args:
        graph: The graph the plan was made for.
        plan: What becomes integer.
        stored: Whether the weights of ``plan.stored`` become integers too, each with a DequantizeLinear behind it;
            else they are left for a writer that has another form for them.

    Raises:
        ConversionError: The plan needs opset 21, and the graph cannot be raised to it.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = raise_opset(copy_of(graph), OPSET) if _is_new(plan, stored=stored) else copy_of(graph)
    writer = _Writer(model, plan)
    for node in list(model.graph):
        if node.name in writer.quantized:
            writer.store_constants(node)
    for name, weight in plan.stored.items() if stored else ():
        writer.store(name, weight)
    for value in (*model.graph.inputs, *[value for node in list(model.graph) for value in node.outputs]):
        if value.name is not None and value.name in plan.activations:
            writer.surround(value, plan.activations[value.name])
    RemoveUnusedNodesPass()(model)
    model.graph.sort()
    return model


def _is_new(plan: QuantPlan, *, stored: bool) -> bool:
    """Whether the plan needs forms that only `OPSET` has."""
    has_blocks = stored and any(isinstance(weight, GroupedWeight) for weight in plan.stored.values())
    return has_blocks or any(params.dtype in ("uint16", "int16") for params in plan.activations.values())


class _Writer:
    """Adds nodes and initializers under short names, counted in the order of the graph."""

    def __init__(self, model: ir.Model, plan: QuantPlan) -> None:
        self.graph = model.graph
        self.plan = plan
        self.quantized = set(plan.quantized_ops)
        self._taken = value_names(model.graph) | {node.name or "" for node in model.graph}
        self._stored: dict[str, ir.Value] = {}
        self._solved: dict[QuantParams, list[ir.Value]] = {}
        self._count = 0

    def store_constants(self, node: ir.Node) -> None:
        """Makes a quantized operation read its weight, its bias or its constant operands from integers."""
        for index, value in enumerate(node.inputs):
            name = "" if value is None or value.name is None else value.name
            if name in self.plan.weights and constant(value) is not None:
                node.replace_input_with(index, self._weight(name, self.plan.weights[name]))
        if node.op_type in ANCHORS and len(node.inputs) > 2 and node.inputs[2] is not None:
            self._store_bias(node)

    def _weight(self, name: str, weight: QuantizedWeight) -> ir.Value:
        if name not in self._stored:
            self._stored[name] = self._dequantized(f"{name}_quantized", weight)
        return self._stored[name]

    def _store_bias(self, node: ir.Node) -> None:
        bias = constant(node.inputs[2])
        source = read_anchor(node)
        weight = next((w for w in self._stored if self._stored[w] is node.inputs[1]), None)
        if bias is None or weight is None or source.activation not in self.plan.activations:
            return
        scales = self.plan.weights[weight].params
        solved = quantize_bias(bias.reshape(-1), self.plan.activations[source.activation], scales)
        node.replace_input_with(2, self._dequantized(f"{source.bias}_quantized", solved))

    def _dequantized(self, name: str, stored: QuantizedWeight) -> ir.Value:
        integers = initializer(self.graph, fresh_name(self._taken, name), stored.values)
        return self._node("DequantizeLinear", integers, stored.params)

    def store(self, name: str, weight: QuantizedWeight | GroupedWeight) -> None:
        """Makes all that reads an initializer of float numbers read integers."""
        value = self.graph.initializers[name]
        readers = tuple(value.uses())
        name = f"{name}_quantized"
        result = self._blocks(name, weight) if isinstance(weight, GroupedWeight) else self._dequantized(name, weight)
        result.shape, result.type = value.shape, value.type
        for reader, index in readers:
            reader.replace_input_with(index, result)

    def _blocks(self, name: str, weight: GroupedWeight) -> ir.Value:
        import onnx_ir as ir

        values, zero = (array.astype(ir.DataType.UINT4.numpy()) for array in (weight.values, weight.zero_point))
        arrays = {name: values, f"{name}_scale": weight.scale, f"{name}_zero": zero}
        inputs = [initializer(self.graph, fresh_name(self._taken, key), array) for key, array in arrays.items()]
        return self._add("DequantizeLinear", inputs, {"axis": weight.axis, "block_size": weight.block})

    def surround(self, value: ir.Value, params: QuantParams) -> None:
        """Quantizes a tensor for the quantized operations that read it, and for all when one gives it."""
        producer, name = value.producer(), value.name
        is_integer = producer is not None and producer.name in self.quantized
        readers = [use for use in value.uses() if is_integer or use[0].name in self.quantized]
        result = self._node("DequantizeLinear", self._node("QuantizeLinear", value, params), params)
        result.shape, result.type = value.shape, value.type
        for reader, index in readers:
            reader.replace_input_with(index, result)
        if is_integer and value.is_graph_output():
            replace_output(self.graph, value, result)
            value.name = fresh_name(self._taken, f"{name}_float")
            result.name = name

    def _node(self, op_type: str, source: ir.Value, params: QuantParams) -> ir.Value:
        attributes = {} if params.axis is None else {"axis": params.axis}
        return self._add(op_type, [source, *self._parameters(params)], attributes)

    def _add(self, op_type: str, inputs: Sequence[ir.Value], attributes: Mapping[str, int]) -> ir.Value:
        import onnx_ir as ir

        name = fresh_name(self._taken, f"{op_type}_{self._count}")
        self._count += 1
        node = ir.node(op_type, inputs, attributes, name=name, num_outputs=1)
        node.outputs[0].name = fresh_name(self._taken, f"{name}_out")
        self.graph.append(node)
        return node.outputs[0]

    def _parameters(self, params: QuantParams) -> list[ir.Value]:
        if params not in self._solved:
            shape = () if params.axis is None else (-1,)
            scale = np.asarray(params.scale, "float32").reshape(shape)
            zero = np.asarray(params.zero_point, params.dtype).reshape(shape)
            self._solved[params] = [
                initializer(self.graph, fresh_name(self._taken, f"{what}_{len(self._solved)}"), array)
                for what, array in (("scale", scale), ("zero", zero))
            ]
        return self._solved[params]


def replace_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Makes the graph give `new` where it gave `old`, which stays in use inside."""
    for index, value in enumerate(graph.outputs):
        if value is old:
            graph.outputs[index] = new
