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

__all__ = ["Known", "free_values", "kept_states", "settle_shapes", "stand_alone", "trip_count"]

_SMALL = 1024
"""Constants of at most so many elements may decide on shapes in a body, and are known to its shape inference."""


_MOST_PASSES = 4096
"""The passes of a loop are counted as far as this."""
_MOST_DECIDING = 64
"""Nodes that may decide whether a loop goes on."""


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
    given = {}
    for name, value in known.items():
        shape = [None if size < 0 else size for size in value.shape]
        given[name] = onnx.helper.make_tensor_value_info(name, value.kind, shape)
        if value.data is not None and value.data.size <= _SMALL:
            array = value.data.astype(onnx.helper.tensor_dtype_to_np_dtype(value.kind))
            proto.initializer.append(onnx.numpy_helper.from_array(array, name))
        else:
            proto.input.append(given[name])
    for output in proto.output:
        if output.name in given:
            output.CopyFrom(given[output.name])
        else:
            output.type.tensor_type.ClearField("shape")
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = ir.from_proto(onnx.helper.make_model(proto, opset_imports=imports, ir_version=10))
    return settle_shapes(infer_shapes(fold_constants(infer_shapes(model)))).graph


def kept_states(loop: ir.Node) -> set[int]:
    """Which of the states of a Loop are the same after every pass; exporters carry weights along like that."""
    body = loop.attributes["body"].as_graph()
    return {i for i, value in enumerate(body.inputs[2:]) if _origin(body.outputs[1 + i]) is value}


def _origin(value: ir.Value) -> ir.Value:
    """What a value is a copy of."""
    while (node := value.producer()) is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def _fixed(value: ir.Value | None) -> np.ndarray | None:
    """The numbers of an initializer or of a Constant that cleaning left."""
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type == "Constant" and "value" in producer.attributes:
        return np.asarray(producer.attributes["value"].as_tensor().numpy())
    return constant(value)


def trip_count(loop: ir.Node) -> int | None:
    """How many passes a Loop makes, where that does not depend on what is computed; found by running its condition."""
    body = loop.attributes["body"].as_graph()
    limit, first = loop.inputs[0], loop.inputs[1] if len(loop.inputs) > 1 else None
    most, goes_on = constant(limit), np.asarray(True) if first is None else constant(first)
    if goes_on is None or (limit is not None and most is None):
        return None
    count = None if most is None else max(0, int(most.reshape(-1)[0]))
    if not goes_on.reshape(-1)[0]:
        return 0
    source = _origin(body.outputs[0])
    if source is body.inputs[1] or ((told := _fixed(source)) is not None and told.reshape(-1)[0]):
        return count
    return _counted_passes(loop, body, count)


def _counted_passes(loop: ir.Node, body: ir.Graph, most: int | None) -> int | None:
    """Runs that part of a body which decides whether it goes on, if it starts from constants."""
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    part = _deciding_part(loop, body)
    if part is None:
        return None
    nodes, states, outer = part
    inputs = [*body.inputs[:2], *(body.inputs[2 + i] for i in states)]
    outputs = [body.outputs[0], *(body.outputs[1 + i] for i in states)]
    anything = [[onnx.helper.make_empty_tensor_value_info(value.name) for value in side] for side in (inputs, outputs)]
    constants = [onnx.numpy_helper.from_array(array, value.name) for value, array in outer.items()]
    protos = [ir.serde.serialize_node(node) for node in nodes]
    graph = onnx.helper.make_graph(protos, "condition", *anything, constants)
    version = loop.graph.opset_imports.get("", 18) if loop.graph is not None else 18
    runner = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)]))
    values = [np.asarray(True), *(np.asarray(constant(loop.inputs[2 + i])) for i in states)]
    for done in range(_MOST_PASSES if most is None else min(most, _MOST_PASSES)):
        if not np.asarray(values[0]).reshape(-1)[0]:
            return done
        feeds = dict(zip([value.name for value in inputs], [np.asarray(done, "int64"), *values], strict=True))
        values = runner.run(None, feeds)
    return most if most is not None and most <= _MOST_PASSES else None


def _deciding_part(loop: ir.Node, body: ir.Graph) -> tuple[list[ir.Node], list[int], dict[ir.Value, np.ndarray]] | None:
    """Nodes, states and constants the condition of a body depends on; None where other things decide as well."""
    states: dict[int, None] = {}
    outer: dict[ir.Value, np.ndarray] = {}
    nodes: set[ir.Node] = set()
    waiting = [body.outputs[0]]
    while waiting:
        value = waiting.pop()
        if value in body.inputs:
            index = body.inputs.index(value) - 2
            if index >= 0 and index not in states:
                if constant(loop.inputs[2 + index]) is None:
                    return None
                states[index] = None
                waiting.append(body.outputs[1 + index])
            continue
        producer = value.producer()
        if producer is not None and producer.graph is body:
            if producer.domain or inner_graphs(producer) or len(nodes) > _MOST_DECIDING:
                return None
            if producer not in nodes:
                nodes.add(producer)
                waiting.extend(read for read in producer.inputs if read is not None)
            continue
        array = constant(value)
        if array is None or array.size > _SMALL:
            return None
        outer[value] = array
    return [node for node in body if node in nodes], list(states), outer


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
    carried = [_known(value, is_kept=i in kept_states(loop)) for i, value in enumerate(starts)]
    told = [Known((), ir.DataType.INT64), Known((), ir.DataType.BOOL), *carried]
    known |= {value.name or "": found for value, found in zip(body.inputs, told, strict=True) if found}
    states = [value for value in carried if value is not None]
    if None in known.values() or len(states) < len(carried):
        return False
    given = stand_alone(body, {name: value for name, value in known.items() if value}, opsets).outputs[1:]
    count = trip_count(loop)
    for i, value in enumerate(loop.outputs):
        if i < len(starts):
            value.shape, value.type = (
                ir.Shape([None if n < 0 else n for n in states[i].shape]),
                ir.TensorType(ir.DataType(states[i].kind)),
            )
        elif (shape := given[i].shape) is not None and given[i].type is not None:
            value.shape, value.type = ir.Shape([count, *shape]), given[i].type
    return True


def _known(value: ir.Value | None, *, is_kept: bool = True) -> Known | None:
    """None where rank or type is not told; without its numbers where these do not keep."""
    if value is None or value.shape is None or value.dtype is None:
        return None
    sizes: list[Any] = list(value.shape)
    return Known(
        tuple(n if isinstance(n, int) else -1 for n in sizes), int(value.dtype), constant(value) if is_kept else None
    )
