"""Control flow, raised: loops and branches with their bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.raising import Raiser
from edgekit.converters.tflite.table import Unlowerable, raises

__all__: list[str] = []


@raises("WHILE")
def while_(r: Raiser, op: Op) -> list[str]:
    """ONNX asks its condition behind the body, and gives the count that TFLite does not need."""
    import onnx

    condition, body = op.options["condSubgraphIndex"], op.options["bodySubgraphIndex"]
    first = [r.real(tensor) for tensor in op.inputs]
    begin = _inline(r, condition, first)[0]
    inside = r.inner()
    names = [inside.fresh(tensor.name) for tensor in body.inputs]
    carried = _inline(inside, body, names)
    again = _inline(inside, condition, carried)[0]
    count, given = inside.fresh("count"), inside.fresh("go")
    infos = [
        onnx.helper.make_tensor_value_info(count, 7, []),
        onnx.helper.make_tensor_value_info(given, 9, []),
        *(_unshaped(name, tensor) for name, tensor in zip(names, body.inputs, strict=True)),
    ]
    results = [inside.node("Identity", [name]) for name in (again, *carried)]
    kinds = [onnx.helper.make_tensor_value_info(results[0], 9, None)]
    kinds += [_unshaped(name, tensor) for name, tensor in zip(results[1:], body.inputs, strict=True)]
    graph = inside.graph("body", infos, kinds)
    return r.outputs("Loop", ["", _scalar(r, begin), *first], len(op.outputs), body=graph)


@raises("IF")
def if_(r: Raiser, op: Op) -> list[str]:
    condition, *given = [r.real(tensor) for tensor in op.inputs]
    branches = {}
    for key, which in (("then_branch", "thenSubgraphIndex"), ("else_branch", "elseSubgraphIndex")):
        inside = r.inner()
        found = [inside.node("Identity", [name]) for name in _inline(inside, op.options[which], given)]
        kinds = [_unshaped(name, tensor) for name, tensor in zip(found, op.options[which].outputs, strict=True)]
        branches[key] = inside.graph(key, [], kinds)
    return r.outputs("If", [_scalar(r, condition)], len(op.outputs), **branches)


def _scalar(r: Raiser, name: str) -> str:
    return r.node("Reshape", [name, r.ints([])])


def _inline(r: Raiser, graph: Graph, names: Sequence[str]) -> list[str]:
    """Raises the body of a loop or branch in place, its inputs standing for `names`."""
    for tensor, name in zip(graph.inputs, names, strict=True):
        if tensor.quant is not None:
            raise Unlowerable("integers that stand for real numbers, carried by a loop")
        r.names[tensor] = name
    r.run(graph)
    found = [r.real(tensor) for tensor in graph.outputs]
    for other in graph.tensors():  # the same graph may be raised again, for other names
        r.forget(other)
    return found


def _unshaped(name: str, tensor: Tensor) -> Any:
    import numpy as np
    import onnx

    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype)), None)
