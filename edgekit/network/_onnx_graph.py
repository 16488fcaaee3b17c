"""What an ONNX graph is built of: nodes and initializers under readable names, made into protobuf at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph.walking import fresh_name
from edgekit.network.record import Layer, Param, Record, Tensor
from edgekit.spec import Dim

__all__ = ["BOOL", "FLOAT", "OnnxGraph", "Part"]

FLOAT, BOOL = 1, 9
"""onnx.TensorProto's numbers of the dtypes."""


@dataclass
class _Node:
    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


class OnnxGraph:
    """Nodes in order, and initializers.

    Args:
        network: What is rendered; its inputs, outputs and weights have their names reserved.
        weights: Checked to fit.
    """

    def __init__(self, network: Record, weights: Mapping[str, np.ndarray]) -> None:
        self.network = network
        self.values: dict[str, str] = {}
        self.initializers: dict[str, np.ndarray] = {}
        self._weights = weights
        self._uses = Counter(param.name for layer in network.layers for param in layer.params.values())
        self._nodes: list[_Node] = []
        self._node_names: set[str] = set()
        self._turned: dict[str, str] = {}
        inputs = [tensor.name for tensor in network.inputs]
        self._taken = {*inputs, *network.outputs}
        self._weight_names = {name: self.fresh_name(name) for name in network.params}
        self.values.update(zip(inputs, inputs, strict=True))

    def node(self, op: str, inputs: Sequence[str], name: str, *, outputs: int = 1, **attributes: Any) -> list[str]:
        """Appends a node; gives the names of its values, of which the first is as near to `name` as it can be."""
        given = [self.fresh_name(name if index == 0 else f"{name}/{index}") for index in range(outputs)]
        self._nodes.append(_Node(op, fresh_name(self._node_names, name), list(inputs), given, attributes))
        return given

    def constant(self, name: str, array: np.ndarray) -> str:
        """A fixed array."""
        own = self.fresh_name(name)
        self.initializers[own] = array
        return own

    def weight(self, param: Param) -> str:
        """A weight in PyTorch's layout, under its own name."""
        own = self._weight_names[param.name]
        self.initializers[own] = self.numbers(param)
        return own

    def turned(self, param: Param) -> str:
        """A matrix the other way round: stored so when nobody else uses it, else turned by a node."""
        if self._uses[param.name] == 1:
            own = self._weight_names[param.name]
            self.initializers[own] = np.ascontiguousarray(self.numbers(param).T)
            return own
        if param.name not in self._turned:
            self._turned[param.name] = self.node("Transpose", [self.weight(param)], f"{param.name}/T", perm=[1, 0])[0]
        return self._turned[param.name]

    def numbers(self, param: Param) -> np.ndarray:
        return np.asarray(self._weights[param.name], np.float32)

    def name_outputs(self) -> None:
        """Gives every output its name, by another node only where its value has a public name already."""
        public = {tensor.name for tensor in self.network.inputs}
        renamed: dict[str, str] = {}
        for name, tensor in self.network.outputs.items():
            value = self.values[tensor.name]
            if value in public or value in renamed:
                self._nodes.append(_Node("Identity", fresh_name(self._node_names, name), [value], [name], {}))
            else:
                renamed[value] = name
        for node in self._nodes:
            node.inputs = [renamed.get(value, value) for value in node.inputs]
            node.outputs = [renamed.get(value, value) for value in node.outputs]

    def to_proto(self) -> Any:
        """The onnx.GraphProto."""
        from onnx import helper, numpy_helper

        def info(name: str, tensor: Tensor) -> Any:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
            return helper.make_tensor_value_info(name, kind, tensor.shape)

        return helper.make_graph(
            [helper.make_node(n.op, n.inputs, n.outputs, n.name, **n.attributes) for n in self._nodes],
            self.network.name,
            [info(tensor.name, tensor) for tensor in self.network.inputs],
            [info(name, tensor) for name, tensor in self.network.outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self.initializers.items()],
        )

    def fresh_name(self, name: str) -> str:
        return fresh_name(self._taken, name)


class Part:
    """One layer on its way into the graph: what it adds is named after it."""

    def __init__(self, graph: OnnxGraph, layer: Layer) -> None:
        self.graph = graph
        self.layer = layer
        self.options = layer.options

    def add(self, op: str, *inputs: str, part: str = "", **attributes: Any) -> str:
        """A node of one value; `part` says which of the layer's it is, nothing that it is the last."""
        return self.graph.node(op, inputs, self.named(part), **attributes)[0]

    def array(self, part: str, numbers: Any, dtype: str = "float32") -> str:
        return self.graph.constant(self.named(part), np.asarray(numbers, dtype))

    def integers(self, part: str, numbers: Any) -> str:
        return self.array(part, numbers, "int64")

    def weight(self, role: str) -> str:
        return self.graph.weight(self.layer.params[role])

    def numbers(self, role: str) -> np.ndarray:
        return self.graph.numbers(self.layer.params[role])

    def project(self, x: str, role: str = "", part: str = "") -> str:
        """``x @ weight.T + bias`` along the last axis of a tensor of more than two."""
        params = self.layer.params
        weight = self.graph.turned(params[f"{role}weight"])
        if f"{role}bias" not in params:
            return self.add("MatMul", x, weight, part=part)
        product = self.add("MatMul", x, weight, part=f"{part}/product" if part else "product")
        return self.add("Add", product, self.weight(f"{role}bias"), part=part)

    def reshape(self, x: str, sizes: Sequence[Dim], part: str = "") -> str:
        """To `sizes`: zeros copy, -1 is what is left."""
        shape = self.integers(f"{part}/shape" if part else "shape", sizes)
        return self.add("Reshape", x, shape, part=part)

    def slice(
        self,
        x: str,
        starts: Sequence[int],
        stops: Sequence[int],
        axes: Sequence[int],
        part: str = "",
        *,
        steps: Sequence[int] | None = None,
    ) -> str:
        bounds = {"starts": starts, "stops": stops, "axes": axes}
        if steps is not None:
            bounds["steps"] = steps
        given = [self.integers(f"{part}/{name}" if part else name, numbers) for name, numbers in bounds.items()]
        return self.add("Slice", x, *given, part=part)

    def named(self, part: str) -> str:
        return f"{self.layer.name}/{part}" if part else self.layer.name
