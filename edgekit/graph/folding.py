"""Passes that compute once, at conversion, what would be computed in every run. Each takes and gives a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.walking import (
    constant,
    fresh_name,
    initializer,
    int_attribute,
    rank,
    replace_value,
    static_shape,
    value_names,
)

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["fold_batch_norms", "fold_biases", "fold_constants", "fold_pads"]

_FOLDABLE = frozenset((
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Exp", "Expand", "Flatten",
    "Floor", "Gather", "Greater", "Identity", "Less", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pow", "Range",
    "Reciprocal", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Shape", "Size", "Slice", "Split",
    "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
))  # fmt: skip
_SMALL_BYTES = 4096
"""A folded result may be larger than the constants it came from up to this; beyond, the file would grow."""


def fold_constants(model: ir.Model) -> ir.Model:
    """Operations on constants alone become their result, unless that would make the file larger.

    QuantizeLinear and DequantizeLinear stay: a weight stored in integers is to remain so.
    """
    taken = value_names(model.graph)
    for node in list(model.graph):
        if node.domain != "" or node.op_type not in _FOLDABLE or any(o.is_graph_output() for o in node.outputs):
            continue
        arrays = _operands(node)
        if arrays is None:
            continue
        results = _evaluate(node, arrays)
        used = [(old, new) for old, new in zip(node.outputs, results, strict=False) if old.uses()]
        if sum(new.nbytes for _, new in used) > max(_SMALL_BYTES, sum(array.nbytes for array in arrays)):
            continue
        for old, new in used:
            name = fresh_name(taken, f"{old.name}_folded")
            replace_value(old, initializer(model.graph, name, new))
        model.graph.remove(node, safe=True)
    return model


def _operands(node: ir.Node) -> list[np.ndarray] | None:
    """What the node computes on when that is known now; for Shape and Size a known shape is enough."""
    if node.op_type in ("Shape", "Size"):
        shape = static_shape(node.inputs[0])
        return None if shape is None else [np.broadcast_to(np.zeros((), np.uint8), shape)]
    arrays = [constant(value) for value in node.inputs if value is not None]
    if any(array is None or array.dtype.kind not in "fiub" for array in arrays):
        return None
    return [array for array in arrays if array is not None]


def _evaluate(node: ir.Node, arrays: list[np.ndarray]) -> list[np.ndarray]:
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    proto = ir.serde.serialize_node(node)
    names = [name for name in proto.input if name]
    kinds = [onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for array in arrays]
    inputs = [
        onnx.helper.make_tensor_value_info(name, kind, list(array.shape))
        for name, kind, array in dict(zip(names, zip(names, kinds, arrays, strict=True), strict=True)).values()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output if name]
    graph = onnx.helper.make_graph([proto], "fold", inputs, outputs)
    opset = (node.graph.opset_imports if node.graph is not None else {}).get("", 18)
    alone = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):  # an infinity here is what the engine would compute as well
        results = ReferenceEvaluator(alone).run(None, dict(zip(names, arrays, strict=True)))
    return [np.asarray(result) for result in results]


def fold_batch_norms(model: ir.Model) -> ir.Model:
    """A BatchNormalization that follows a convolution goes into its weights and bias."""
    taken = value_names(model.graph)
    for norm in list(model.graph):
        if norm.op_type != "BatchNormalization" or int_attribute(norm, "training_mode", 0):
            continue
        conv = _only_producer(norm.inputs[0], "Conv")
        statistics = [constant(value) for value in norm.inputs[1:5]]
        if conv is None or any(array is None for array in statistics):
            continue
        weight, bias = _weight_of_its_own(conv), constant(conv.inputs[2]) if len(conv.inputs) > 2 else None
        if weight is None or (len(conv.inputs) > 2 and conv.inputs[2] is not None and bias is None):
            continue
        gamma, beta, mean, variance = (np.asarray(array, "float64") for array in statistics)
        epsilon = norm.attributes.get_float("epsilon", 1e-5)
        factor = gamma / np.sqrt(variance + epsilon)
        shift = beta + (0.0 - mean if bias is None else bias - mean) * factor
        scaled = weight * factor.reshape([-1] + [1] * (weight.ndim - 1))
        _set_input(model, conv, 1, scaled.astype(weight.dtype), taken)
        _set_input(model, conv, 2, shift.astype(weight.dtype), taken)
        replace_value(norm.outputs[0], conv.outputs[0])
        model.graph.remove(norm, safe=True)
    return model


def _only_producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node of `op_type` that makes a value for a single reader in the same graph."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type != op_type or node.domain != "":
        return None
    readers = [user for user, _ in value.uses()]
    same_graph = all(user.graph is node.graph for user in readers)
    return node if len(readers) == 1 and same_graph and not value.is_graph_output() else None


def _weight_of_its_own(node: ir.Node) -> np.ndarray | None:
    value = node.inputs[1]
    return constant(value) if value is not None and len(value.uses()) == 1 else None


def _set_input(model: ir.Model, node: ir.Node, index: int, array: np.ndarray, taken: set[str]) -> None:
    old = node.inputs[index] if index < len(node.inputs) else None
    base = old.name if old is not None and old.name else f"{node.name}_{'bias' if index == 2 else 'weight'}"
    value = initializer(model.graph, fresh_name(taken, f"{base}_folded"), array)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def fold_pads(model: ir.Model) -> ir.Model:
    """Zeros put around an image before a convolution become the convolution's own padding."""
    for conv in list(model.graph):
        pad = _only_producer(conv.inputs[0], "Pad") if conv.op_type == "Conv" and conv.domain == "" else None
        amounts = _zero_pads(pad) if pad is not None else None
        if pad is None or amounts is None or conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            continue
        half = len(amounts) // 2
        around = [*amounts[2:half], *amounts[half + 2 :]]
        if any(amounts[i] for i in (0, 1, half, half + 1)) or any(amount < 0 for amount in amounts):
            continue
        own = conv.attributes.get_ints("pads", [0] * len(around)) or [0] * len(around)
        _set_ints(conv, "pads", [a + b for a, b in zip(own, around, strict=True)])
        conv.replace_input_with(0, pad.inputs[0])
        model.graph.remove(pad, safe=True)
    return model


def _zero_pads(pad: ir.Node) -> list[int] | None:
    """How much a Pad node adds, when that is known and what it adds is zero on all axes."""
    amounts, fill = constant(pad.inputs[1]), pad.inputs[2] if len(pad.inputs) > 2 else None
    is_zero = fill is None or ((array := constant(fill)) is not None and not array.any())
    has_axes = len(pad.inputs) > 3 and pad.inputs[3] is not None
    if amounts is None or not is_zero or has_axes or pad.attributes.get_string("mode", "constant") != "constant":
        return None
    return [int(amount) for amount in amounts]


def _set_ints(node: ir.Node, name: str, values: list[int]) -> None:
    import onnx_ir as ir

    node.attributes[name] = ir.AttrInt64s(name, values)


def fold_biases(model: ir.Model) -> ir.Model:
    """MatMul followed by adding a constant becomes Gemm, where the matrices are plain ones."""
    import onnx_ir as ir

    for add in list(model.graph):
        if add.op_type != "Add" or add.domain != "":
            continue
        found = _product_and_bias(add)
        if found is None:
            continue
        product, bias = found
        inputs = [product.inputs[0], product.inputs[1], bias]
        gemm: Any = ir.node("Gemm", inputs, name=product.name, num_outputs=1)
        gemm.outputs[0].name = f"{add.name}_gemm"
        gemm.outputs[0].shape, gemm.outputs[0].type = add.outputs[0].shape, add.outputs[0].type
        model.graph.insert_before(add, gemm)
        name = add.outputs[0].name
        replace_value(add.outputs[0], gemm.outputs[0])
        model.graph.remove([add, product], safe=True)
        gemm.outputs[0].name = name
    return model


def _product_and_bias(add: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    for left, right in ((0, 1), (1, 0)):
        product, bias = _only_producer(add.inputs[left], "MatMul"), add.inputs[right]
        if product is None or bias is None or constant(bias) is None:
            continue
        weight = constant(product.inputs[1])
        if weight is None or weight.ndim != 2 or rank(product.inputs[0]) != 2:
            continue
        if static_shape(bias) in ((weight.shape[1],), (1, weight.shape[1])):
            return product, bias
    return None
