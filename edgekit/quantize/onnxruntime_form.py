"""A plan in the forms ONNX Runtime's CPU kernels are fast with; what it stores or rounds in each call, beyond QDQ.

What each form becomes was read from the graphs ONNX Runtime 1.31 makes of them, and timed (one thread, x86-64):

* MatMulInteger between DynamicQuantizeLinear and a product of scales is one kernel, 2.5 to 13 times as fast as float.
* DequantizeLinear by blocks in front of a product is one kernel on 4 bits, which rounds activations to 8 bits by
  blocks; of a transposed weight there is none. On 8 bits there is one too, but a product then has 26 dB where one in
  float has 30 (MiniLM), and it takes up to four times as long as float.
* Any other DequantizeLinear of a constant is computed again in every call, and keeps convolutions from their fast
  layout (1.6 times the time of float). Cast and Mul are computed once, when the file is loaded.
* MatMulInteger is told one range of all rows. Rows are tokens, and behind a Gelu a few of them reach much farther than
  others: with integers by the range of each row, which are a QuantizeLinear whose scales are computed, MiniLM keeps
  6 dB more (27.5 in place of 21.3), for .05 of the time of float. For all other products rows gain .3 dB.
* An embedding's rows are picked as integers; behind a DequantizeLinear the whole table is computed in every call.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.files import raise_opset
from edgekit.graph.legalizing import Nodes, legalize
from edgekit.graph.matching import made_by
from edgekit.graph.walking import (
    copy_of,
    fresh_name,
    initializer,
    int_attribute,
    rank,
    static_shape,
    value_names,
)
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight, QuantPlan
from edgekit.quantize.qdq import OPSET, to_qdq
from edgekit.quantize.storing import is_plain_product

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["to_onnxruntime"]

_OWN = "com.microsoft"

_LEAST_GELU = -0.17
"""Just below the least number a Gelu gives, -0.16997."""

_ROWS_OPSET = 18
"""The first in which ReduceMax takes its axes as every operation does."""

_GELU_PARTS = ("Mul", "Add", "Div")
_SAME_ROWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def to_onnxruntime(graph: ir.Model, plan: QuantPlan) -> ir.Model:
    """A copy of a cleaned graph that computes as `plan` says, by the kernels ONNX Runtime has for it.

    All of it is ONNX's own, but for LSTMs that round what they take, which are ``com.microsoft.DynamicQuantizeLSTM``.

    Raises:
        ConversionError: The plan needs opset 21, and the graph cannot be raised to it.
    """
    model = to_qdq(graph, plan)
    if not plan.stored:
        return model
    if any(isinstance(weight, GroupedWeight) for weight in plan.stored.values()):
        model = raise_opset(model, OPSET)
    elif any(node.name in plan.dynamic_ops and _is_behind_gelu(node.inputs[0]) for node in model.graph):
        model = raise_opset(model, _ROWS_OPSET)
    forms = _Forms(plan, [node.name or "" for node in model.graph])
    model = legalize(model, {"MatMul": forms.product, "Gemm": forms.product, "Gather": forms.rows})
    return _Remaining(copy_of(model), plan).written()


class _Forms:
    """Rules for `legalize`: what a plan makes of products and embeddings."""

    def __init__(self, plan: QuantPlan, outer: Collection[str]) -> None:
        self.plan = plan
        self.outer = set(outer)  # what is put before one in a body cannot be read by others
        self.dynamic = set(plan.dynamic_ops)
        self._numbers: dict[str, ir.Value] = {}
        self._rounded: dict[ir.Value, tuple[ir.Value, ...]] = {}
        self._constants: dict[tuple[str, str], ir.Value] = {}

    def product(self, node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
        """A product with weights of 4 bits, or one in integers of the range each call shows."""
        source, stored = node.inputs[:2]
        if source is None or stored is None or node.name not in self.outer:
            return None
        weight = self.plan.stored.get(stored.name or "")
        if weight is None or not is_plain_product(node, weight):
            return None
        is_transposed = node.op_type == "Gemm" and bool(int_attribute(node, "transB", 0))
        if isinstance(weight, GroupedWeight):
            result = new("MatMul", source, self._blocks(stored.name or "", weight, is_transposed, new))
        elif node.name in self.dynamic:
            write = self._product_by_rows if _is_behind_gelu(source) else self._integer_product
            result = write(source, stored.name or "", weight, is_transposed, new)
        else:
            return None
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return [result if bias is None else new("Add", result, bias)]

    def _integer_product(
        self, source: ir.Value, name: str, weight: QuantizedWeight, is_transposed: bool, new: Nodes
    ) -> ir.Value:
        if source not in self._rounded:
            self._rounded[source] = new.many("DynamicQuantizeLinear", [source], {}, 3)
        integers, scale, zero = self._rounded[source]
        values, scales = self._columns(name, weight, is_transposed, new)
        sums = new("MatMulInteger", integers, values, zero)
        return new("Mul", new("Cast", sums, to=1), new("Mul", scale, scales))

    def _product_by_rows(
        self, source: ir.Value, name: str, weight: QuantizedWeight, is_transposed: bool, new: Nodes
    ) -> ir.Value:
        """Integers from the least a Gelu gives to the most of each row."""
        values, scales = self._columns(name, weight, is_transposed, new)
        array = weight.values.T if is_transposed else weight.values
        depth, width = array.shape
        least = new.constant(-_LEAST_GELU, "float32")
        rows = new("Reshape", source, new.constant([-1, depth])) if rank(source) != 2 else source
        reach = new("Add", new("ReduceMax", rows, new.constant([-1])), least)
        step = new("Mul", reach, new.constant(1 / 255, "float32"))
        zero = new("Round", new("Div", least, step))
        zeros, steps = (new("Reshape", value, new.constant([-1])) for value in (zero, step))
        integers = new("QuantizeLinear", rows, steps, new("Cast", zeros, to=2), axis=0)
        # In this order, for ONNX Runtime takes a product of both scales into a kernel that knows one for all rows.
        sums = new("Mul", new("Mul", new("Cast", new("MatMulInteger", integers, values), to=1), step), scales)
        ones = array.sum(0, dtype="float64") * np.asarray(weight.params.scale, "float64")
        result = new("Sub", sums, new("Mul", new("Mul", zero, step), new.constant(ones, "float32")))
        return result if rank(source) == 2 else new("Reshape", result, _shape_with(source, width, new))

    def _columns(
        self, name: str, weight: QuantizedWeight, is_transposed: bool, new: Nodes
    ) -> tuple[ir.Value, ir.Value]:
        """The integers of a matrix with the sum along its columns, and the scales of those."""
        array, part = (weight.values.T, "rows_as_columns") if is_transposed else (weight.values, "columns")
        scales = self._constant(name, "scales", np.asarray(weight.params.scale, "float32"), new)
        return self._constant(name, part, array, new), scales

    def _blocks(self, name: str, weight: GroupedWeight, is_transposed: bool, new: Nodes) -> ir.Value:
        """The float numbers of a weight with the sum along its rows, which is what ONNX Runtime has a kernel for."""
        import onnx_ir as ir

        if name not in self._numbers:
            columns, zeros = _in_4_bits(weight.values), _in_4_bits(weight.zero_point)
            arrays = {"columns": columns, "scales": _halved(weight.scale), "zeros": zeros}
            inputs = [
                self._constant(name, part, array.T if is_transposed else array, new) for part, array in arrays.items()
            ]
            if inputs[1].dtype == ir.DataType.FLOAT16:
                inputs[1] = new("Cast", inputs[1], to=1)
            self._numbers[name] = new("DequantizeLinear", *inputs, axis=0, block_size=weight.block)
        return self._numbers[name]

    def rows(self, node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
        """The rows of an embedding, which become float behind the operation that picks them."""
        table, picked = node.inputs
        name = table.name or "" if table is not None and node.name in self.outer else ""
        weight = self.plan.stored.get(name)
        if not isinstance(weight, QuantizedWeight) or weight.params.axis != 0 or int_attribute(node, "axis", 0):
            return None
        values = self._constant(name, "rows", weight.values, new)
        scales = self._constant(name, "row_scales", _along(weight), new)
        integers = new("Cast", new("Gather", values, picked), to=1)
        return [new("Mul", integers, new("Gather", scales, picked))]

    def _constant(self, name: str, part: str, array: np.ndarray, new: Nodes) -> ir.Value:
        if (name, part) not in self._constants:
            dtype: Any = array.dtype  # that of 4 bits has no name numpy knows
            self._constants[name, part] = new.constant(array, dtype)
        return self._constants[name, part]


def _is_behind_gelu(value: ir.Value | None) -> bool:
    """Whether these are several rows of what a Gelu gives, as one operation or as those with Erf in it."""
    shape = static_shape(value)
    if shape is not None and int(np.prod(shape[:-1])) == 1:
        return False
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in _SAME_ROWS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and (node.op_type == "Gelu" or (node.op_type == "Mul" and _holds_erf(node, depth=3)))


def _holds_erf(node: ir.Node, depth: int) -> bool:
    makers = [made_by(value, "Erf", *_GELU_PARTS) for value in node.inputs]
    return any(m.op_type == "Erf" or (depth > 1 and _holds_erf(m, depth - 1)) for m in makers if m is not None)


def _shape_with(value: ir.Value, width: int, new: Nodes) -> ir.Value:
    """The shape of `value` but for its last size."""
    known = [size if isinstance(size, int) else -1 for size in value.shape or ()][:-1]
    if known and known.count(-1) <= 1:
        return new.constant([*known, width])
    before = new("Slice", new("Shape", value), new.constant([0]), new.constant([-1]))
    return new("Concat", before, new.constant([width]), axis=0)


def _in_4_bits(array: np.ndarray) -> np.ndarray:
    import onnx_ir as ir

    return array.astype(ir.DataType.UINT4.numpy())


def _halved(scales: np.ndarray) -> np.ndarray:
    """Scales of blocks in half precision, which is far finer than the integers they belong to, where they fit it."""
    halves = scales.astype("float16")
    return halves if np.allclose(halves.astype("float32"), scales, rtol=2**-10, atol=0) else scales


def _along(weight: QuantizedWeight) -> np.ndarray:
    """The scales of a weight in the shape in which they can be multiplied by it."""
    scales = np.asarray(weight.params.scale, "float32")
    shape = [1] * weight.values.ndim
    if weight.params.axis is not None:
        shape[weight.params.axis] = -1
    return scales.reshape(shape)


class _Remaining:
    """LSTMs that round what they take, and all other readers of stored weights, which compute in float."""

    def __init__(self, model: ir.Model, plan: QuantPlan) -> None:
        self.model, self.plan = model, plan
        self._taken = value_names(model.graph) | {node.name or "" for node in model.graph}
        self._lstm_weights: dict[str, tuple[ir.Value, ...]] = {}

    def written(self) -> ir.Model:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        for node in self.model.graph:
            if node.op_type == "LSTM" and node.domain == "" and node.name in self.plan.dynamic_ops:
                self._round_calls_of(node)
        for name, weight in self.plan.stored.items():
            value = self.model.graph.initializers.get(name)
            if value is not None and (readers := tuple(value.uses())):
                numbers = self._numbers(name, weight)
                for reader, index in readers:
                    reader.replace_input_with(index, numbers)
        RemoveUnusedNodesPass()(self.model)
        self.model.graph.sort()
        return self.model

    def _round_calls_of(self, node: ir.Node) -> None:
        """Makes an LSTM ONNX Runtime's own, which takes weights transposed, with a scale for each column."""
        node.resize_inputs(12)
        for place, at in ((1, 8), (2, 10)):
            source = node.inputs[place]
            assert source is not None
            for index, value in zip((place, at, at + 1), self._gates(source.name or ""), strict=True):
                node.replace_input_with(index, value)
        node.op_type, node.domain = "DynamicQuantizeLSTM", _OWN
        node.attributes.pop("layout", None)
        self.model.graph.opset_imports[_OWN] = 1

    def _gates(self, name: str) -> tuple[ir.Value, ...]:
        if name not in self._lstm_weights:
            weight = self.plan.stored[name]
            assert isinstance(weight, QuantizedWeight)
            values = weight.values.transpose(0, 2, 1)
            scales = np.broadcast_to(np.asarray(weight.params.scale, "float32"), (values.shape[0], values.shape[2]))
            arrays = {"values": values, "scales": scales, "zeros": np.zeros(scales.shape, "int8")}
            self._lstm_weights[name] = tuple(self._constant(f"{name}_{part}", a) for part, a in arrays.items())
        return self._lstm_weights[name]

    def _numbers(self, name: str, weight: QuantizedWeight | GroupedWeight) -> ir.Value:
        """Float numbers out of integers of 8 bits, once, when the file is loaded; of 4 bits, in each call."""
        if isinstance(weight, QuantizedWeight):
            scales = self._constant(f"{name}_scales", _along(weight))
            return self._add("Mul", self._add("Cast", self._constant(f"{name}_values", weight.values), to=1), scales)
        parts = {"values": _in_4_bits(weight.values), "scales": weight.scale, "zeros": _in_4_bits(weight.zero_point)}
        inputs = [self._constant(f"{name}_{part}", array) for part, array in parts.items()]
        return self._add("DequantizeLinear", *inputs, axis=weight.axis, block_size=weight.block)

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        return initializer(self.model.graph, fresh_name(self._taken, name), array)

    def _add(self, op_type: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        import onnx_ir as ir

        name = fresh_name(self._taken, f"{inputs[0].name}_{op_type}")
        node = ir.node(op_type, inputs, attributes, name=name, num_outputs=1)
        node.outputs[0].name = fresh_name(self._taken, f"{name}_out")
        self.model.graph.append(node)
        return node.outputs[0]
