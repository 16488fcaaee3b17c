"""Bodies of control flow by themselves: what they read from around, and the shapes ONNX does not tell of loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.folding import fold_constants
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import constant, inner_graphs, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Known", "free_values", "is_always_true", "settle_shapes", "stand_alone"]

_SMALL = 1024
"""Constants of at most so many elements may decide on shapes in a body, and are known to its shape inference."""


@dataclass(frozen=True)
class Known:
    """What is known of a value a body reads: shape (-1 for an unknown size), ONNX's number of its type, its numbers."""

    shape: tuple[int, ...]
    kind: int
    data: np.ndarray | None = None


def free_values(graph: ir.Graph) -> list[ir.Value]:
    """What a body and the bodies inside it read from around it."""
    own: set[Any] = {*graph.inputs, *graph.initializers.values()}
    read: dict[Any, None] = {}
    for node, _ in walk(graph):
        own.update(node.outputs)
        read.update(dict.fromkeys(value for value in node.inputs if value is not None and value.name))
        for inner in inner_graphs(node):
            own.update((*inner.inputs, *inner.initializers.values()))
            read.update(dict.fromkeys(inner.outputs))
    read.update(dict.fromkeys(graph.outputs))
    return [value for value in read if value not in own]


def stand_alone(graph: ir.Graph, known: Mapping[str, Known], opsets: Mapping[str, int]) -> ir.Graph:
    """A copy of a body as a graph of its own, with shapes, and with what is constant computed.

    Shapes are inferred anew from those in `known`, which has all it reads by name: ONNX forgets the shapes of what a
    Loop carries. Small constants are initializers of the copy, all else is an input.
    """
    import onnx
    import onnx_ir as ir

    proto: onnx.GraphProto = ir.serde.serialize_graph(graph)
    proto.name = proto.name or "body"
    del proto.input[:]
    for name, value in known.items():
        if value.data is not None and value.data.size <= _SMALL:
            array = value.data.astype(onnx.helper.tensor_dtype_to_np_dtype(value.kind))
            proto.initializer.append(onnx.numpy_helper.from_array(array, name))
        else:
            shape = [None if size < 0 else size for size in value.shape]
            proto.input.append(onnx.helper.make_tensor_value_info(name, value.kind, shape))
    for output in proto.output:
        output.type.tensor_type.ClearField("shape")
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = ir.from_proto(onnx.helper.make_model(proto, opset_imports=imports, ir_version=10))
    return settle_shapes(infer_shapes(fold_constants(infer_shapes(model)))).graph


def is_always_true(body: ir.Graph) -> bool:
    """Whether the body of a Loop only ever says to go on, having been told so."""
    value = body.outputs[0]
    while value is not body.inputs[1]:
        array = constant(value)
        if array is not None:
            return bool(array.reshape(-1)[0])
        producer = value.producer()
        if producer is None:
            return False
        if producer.op_type == "Constant":
            held = producer.attributes.get("value")
            return held is not None and bool(held.as_tensor().numpy().reshape(-1)[0])
        if producer.op_type != "Identity" or producer.inputs[0] is None:
            return False
        value = producer.inputs[0]
    return True


def settle_shapes(model: ir.Model) -> ir.Model:
    """Corrects what ONNX's shape inference leaves open or gets wrong, and all that follows from it.

    The outputs of a Loop get the shapes they have if no pass changes a shape; a lowering holds the body to that. STFT
    is told its default, one side of the spectrum, which inference takes for both.
    """
    from onnx_ir.passes.common import ShapeInferencePass

    if _tell_sides(model):
        model = infer_shapes(model)
    for node in list(model.graph):
        if node.op_type == "Loop" and node.domain == "" and _settle(node, dict(model.graph.opset_imports)):
            ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    return model


def _tell_sides(model: ir.Model) -> bool:
    import onnx_ir as ir

    found = [node for node, _ in walk(model.graph) if node.op_type == "STFT" and "onesided" not in node.attributes]
    for node in found:
        node.attributes["onesided"] = ir.AttrInt64("onesided", 1)
    for value in (value for node, _ in walk(model.graph) for value in node.outputs if found):
        value.shape = None
    return bool(found)


def _settle(loop: ir.Node, opsets: Mapping[str, int]) -> bool:
    """Whether something was learned."""
    import onnx_ir as ir

    body = loop.attributes["body"].as_graph()
    starts = list(loop.inputs[2:])
    if all(value.shape is not None and value.shape.is_static() for value in loop.outputs):
        return False
    known = {value.name or "": _known(value) for value in free_values(body)}
    carried = [_known(value) for value in starts]
    told = [Known((), ir.DataType.INT64), Known((), ir.DataType.BOOL), *carried]
    known |= {value.name or "": found for value, found in zip(body.inputs, told, strict=True) if found}
    states = [value for value in carried if value is not None]
    if None in known.values() or len(states) < len(carried):
        return False
    given = stand_alone(body, {name: value for name, value in known.items() if value}, opsets).outputs[1:]
    trips, goes_on = constant(loop.inputs[0]), loop.inputs[1] if len(loop.inputs) > 1 else None
    counts = trips is not None and is_always_true(body) and (goes_on is None or constant(goes_on) is not None)
    for i, value in enumerate(loop.outputs):
        if i < len(starts):
            value.shape, value.type = (
                ir.Shape([None if n < 0 else n for n in states[i].shape]),
                ir.TensorType(ir.DataType(states[i].kind)),
            )
        elif (shape := given[i].shape) is not None and given[i].type is not None:
            count = max(0, int(trips.reshape(-1)[0])) if counts and trips is not None else None
            value.shape, value.type = ir.Shape([count, *shape]), given[i].type
    return True


def _known(value: ir.Value | None) -> Known | None:
    """None where rank or type is not told."""
    if value is None or value.shape is None or value.dtype is None:
        return None
    sizes: list[Any] = list(value.shape)
    return Known(tuple(n if isinstance(n, int) else -1 for n in sizes), int(value.dtype), constant(value))
