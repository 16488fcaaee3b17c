"""Passes that compute once, at conversion, what would be computed in every run. Each takes and gives a model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.absorbing import only_producer
from edgekit.graph.walking import (
    constant,
    fresh_name,
    initializer,
    is_constant,
    rank,
    replace_value,
    set_ints,
    static_shape,
    value_names,
    walk,
)

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["evaluate", "fold_biases", "fold_constants", "fold_pads"]

_FOLDABLE = frozenset((
    "Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "CastLike", "Ceil", "Clip", "Concat", "ConstantOfShape", "Cos",
    "CumSum", "Div", "Equal", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements", "GatherND",
    "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "MatMul", "Max", "Mean", "Min", "Mod",
    "Mul", "Neg", "NonZero", "Not", "OneHot", "Or", "Pad", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Round", "ScatterND", "Shape", "Sigmoid", "Sign", "Sin",
    "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Trilu", "Unsqueeze",
    "Where", "Xor",
))  # fmt: skip
_GROWTH_BYTES = 4096
"""What a folded operation may add to the file; it is about what the operation itself costs to run and to store."""
_TOTAL_GROWTH = 256
"""How many such additions there may be: the constants of a graph grow by a megabyte at most."""


def fold_constants(model: ir.Model, growth: int = _GROWTH_BYTES) -> ir.Model:
    """Operations on constants alone become their result, unless that would make the file noticeably larger.

    Operations on the same constant are judged together, since it goes only with the last of them. QuantizeLinear and
    DequantizeLinear stay: a weight stored in integers is to remain so.

    Args:
        growth: Bytes by which the constants may grow for each operation that goes, and by 256 times this in all. A
            result larger than its operands and this together is not even computed.
    """
    results = _compute(model, growth)
    taken, left = value_names(model.graph), growth * _TOTAL_GROWTH
    for together in _groups(results, growth):
        added = _added_bytes(together, results)
        chosen = together
        if added > min(growth * len(together), left):
            chosen = [node for node in together if _bytes(node, results) <= growth]
            added = sum(_bytes(node, results) for node in chosen)
        if added > left:
            continue
        left -= max(0, added)
        for node in chosen:
            for old, new in zip(node.outputs, results[node], strict=False):
                if old.uses():
                    replace_value(old, initializer(model.graph, fresh_name(taken, f"{old.name}_folded"), new))
        for node in reversed(chosen):
            if node.graph is not None:
                node.graph.remove(node, safe=True)
    return model


def _compute(model: ir.Model, growth: int) -> dict[ir.Node, list[np.ndarray]]:
    """The results of every operation whose operands are known, in the order of the graph."""
    known: dict[ir.Value, np.ndarray] = {}
    results: dict[ir.Node, list[np.ndarray]] = {}
    for node, _ in walk(model.graph):
        if node.domain != "" or node.op_type not in _FOLDABLE or any(o.is_graph_output() for o in node.outputs):
            continue
        arrays = _operands(node, known)
        if arrays is None or _expected_bytes(node, arrays) > sum(array.nbytes for array in arrays) + growth:
            continue
        results[node] = evaluate(node, arrays)
        known.update(zip(node.outputs, results[node], strict=False))
    return results


def _groups(results: dict[ir.Node, list[np.ndarray]], growth: int) -> list[list[ir.Node]]:
    """The operations, those together that read one another's results or the same constant of some size."""
    group_of: dict[ir.Node, list[ir.Node]] = {}
    readers: dict[ir.Value, ir.Node] = {}
    for node in results:
        own = [node]
        for value in node.inputs:
            if value is None or (value.const_value is not None and value.const_value.nbytes <= growth):
                continue
            other = value.producer() if value.const_value is None else readers.setdefault(value, node)
            if other in group_of and group_of[other] is not own:
                own = [*group_of[other], *own]
                group_of.update(dict.fromkeys(own, own))
        group_of[node] = own
    order = {node: place for place, node in enumerate(results)}
    unique = {id(group): group for group in group_of.values()}
    return [sorted(group, key=order.__getitem__) for group in unique.values()]


def _bytes(node: ir.Node, results: dict[ir.Node, list[np.ndarray]]) -> int:
    return sum(new.nbytes for old, new in zip(node.outputs, results[node], strict=False) if old.uses())


def _added_bytes(together: list[ir.Node], results: dict[ir.Node, list[np.ndarray]]) -> int:
    """How much larger the constants are once these operations are gone, and what nobody else reads."""
    inside = set(together)

    def is_inner(value: ir.Value) -> bool:
        return all(user in inside for user, _ in value.uses())

    kept = [
        new.nbytes
        for node in together
        for old, new in zip(node.outputs, results[node], strict=False)
        if not is_inner(old)
    ]
    operands = {value for node in together for value in node.inputs if value is not None}
    freed = [value.const_value.nbytes for value in operands if value.const_value is not None and is_inner(value)]
    return sum(kept) - sum(freed)


def _expected_bytes(node: ir.Node, arrays: list[np.ndarray]) -> float:
    """How large the results will be, as far as that is known before they are computed; 0 for not at all."""
    if node.op_type == "ConstantOfShape":
        return float(np.prod(arrays[0].astype("float64")))
    if node.op_type == "Range":
        start, limit, delta = (float(array) for array in arrays)
        return (limit - start) / delta * arrays[0].itemsize if delta else math.inf
    shapes = [(static_shape(value), value.dtype) for value in node.outputs if value.uses()]
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in shapes if shape is not None and dtype is not None)


def _operands(node: ir.Node, known: dict[ir.Value, np.ndarray]) -> list[np.ndarray] | None:
    """What the node computes on when that is known now; for Shape and Size a known shape is enough."""
    if node.op_type in ("Shape", "Size", "EyeLike"):
        shape = static_shape(node.inputs[0])
        return None if shape is None else [np.broadcast_to(np.zeros((), _dtype(node.inputs[0])), shape)]
    if not all(value in known or is_constant(value) for value in node.inputs if value is not None):
        return None
    arrays = [known[value] if value in known else constant(value) for value in node.inputs if value is not None]
    if any(array is None or array.dtype.kind not in "fiub" for array in arrays):
        return None
    return [array for array in arrays if array is not None]


def _dtype(value: ir.Value | None) -> np.dtype:
    """A dtype for an operand of which only the shape counts, but for the type EyeLike takes over."""
    known = None if value is None or value.dtype is None else value.dtype.numpy()
    return known if known is not None and known.kind in "fiub" else np.dtype("uint8")


def evaluate(node: ir.Node, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What a node gives to `arrays`, one for each of its inputs that is not left out."""
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


def fold_pads(model: ir.Model) -> ir.Model:
    """Zeros put around an image before a convolution become the convolution's own padding."""
    for conv in list(model.graph):
        pad = only_producer(conv.inputs[0], "Pad") if conv.op_type == "Conv" and conv.domain == "" else None
        amounts = _zero_pads(pad) if pad is not None else None
        if pad is None or amounts is None or conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            continue
        half = len(amounts) // 2
        around = [*amounts[2:half], *amounts[half + 2 :]]
        if any(amounts[i] for i in (0, 1, half, half + 1)) or any(amount < 0 for amount in amounts):
            continue
        own = conv.attributes.get_ints("pads", [0] * len(around)) or [0] * len(around)
        set_ints(conv, "pads", [a + b for a, b in zip(own, around, strict=True)])
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
        product, bias = only_producer(add.inputs[left], "MatMul"), add.inputs[right]
        if product is None or bias is None or not is_constant(bias) or not is_constant(product.inputs[1]):
            continue
        shape = static_shape(product.inputs[1])
        if shape is None or len(shape) != 2 or rank(product.inputs[0]) != 2:
            continue
        if static_shape(bias) in ((shape[1],), (1, shape[1])):
            return product, bias
    return None
