"""SavedModel to the hub, inside the TensorFlow child: tf2onnx at a fixed opset, checked, and named as the source is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.spec import Signature, TensorSpec

__all__ = ["OPSET", "write"]

OPSET = 18
"""ONNX Runtime refuses the loops that tf2onnx writes at lower ones."""


def write(saved_model: Path, signature: Signature, path: Path) -> str:
    """Writes the SavedModel as an .onnx file, or nothing: then the reason, naming every operation at fault.

    The file's inputs and outputs have the names, order, dtypes and shapes of `signature`.
    """
    import onnx

    try:
        model = _convert(saved_model)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever tf2onnx stumbles over is a reason, and direct roads may still go
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"tf2onnx: {lines[0][:300]}"
    if unknown := sorted(set(_unregistered(model.graph, model.functions))):
        return "no ONNX operation for " + ", ".join(unknown)
    if wrong := _adopt(model.graph, signature):
        return wrong
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return f"tf2onnx wrote an invalid graph: {str(error).strip().splitlines()[0][:300]}"
    onnx.save(model, path)
    return ""


def _convert(saved_model: Path) -> Any:
    import logging

    import tensorflow as tf
    import tf2onnx
    from tf2onnx import tf_loader

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    _order_sets(tf2onnx)
    graph, inputs, outputs, tables, renames = tf_loader.from_saved_model(
        str(saved_model),
        None,
        None,
        "serve",
        ["serving_default"],
        return_initialized_tables=True,
        return_tensors_to_rename=True,
    )
    with tf.device("/cpu:0"):
        # What its command line calls: the public from_graph_def() cannot pass on tables.
        model, _ = tf2onnx.convert._convert_common(
            graph,
            name="model",
            opset=OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename=renames,
            initialized_tables=tables,
        )
    return model


def _order_sets(tf2onnx: Any) -> None:
    """Makes tf2onnx write equal bytes for equal input, in this process only.

    Its optimizers walk sets of nodes, whose order follows from their addresses in memory; a hash by the order of first
    use takes the place of the address. Names it makes up count from 1 again.
    """
    numbers = itertools.count()

    def by_first_use(node: Any) -> int:
        if "_first_use" not in vars(node):
            node._first_use = next(numbers)
        return node._first_use

    tf2onnx.graph.Node.__hash__ = by_first_use
    tf2onnx.utils.INTERNAL_NAME = 1


def _erfc(context: Any, node: Any, name: str, arguments: Any) -> None:
    """erfc(x) = 1 - erf(x): tf2onnx 1.17 has no mapping for it and says so in its log only."""
    source, target = node.input[0], node.output[0]
    shape, dtype = context.get_shape(target), context.get_dtype(target)
    context.remove_node(node.name)
    one = context.make_const(f"{name}_one", np.ones((), dtype=np.float32 if dtype == 1 else np.float64))
    erf = context.make_node("Erf", [source], dtypes=[dtype], shapes=[shape])
    context.make_node(
        "Sub", [one.output[0], erf.output[0]], name=name, outputs=[target], dtypes=[dtype], shapes=[shape]
    )


def _unregistered(graph: Any, functions: Any) -> Iterator[str]:
    """Each operation that the opset does not have, with the node's name: tf2onnx leaves them in and reports success."""
    import onnx

    local = {(function.domain, function.name) for function in functions}
    for node in graph.node:
        known = (node.domain, node.op_type) in local or onnx.defs.has(node.op_type, OPSET, node.domain)
        if not known or (node.domain == "" and onnx.defs.get_schema(node.op_type, OPSET, "").deprecated):
            yield f"{node.domain + '.' if node.domain else ''}{node.op_type} ({node.name})"
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _unregistered(inner, functions)


def _adopt(graph: Any, signature: Signature) -> str:
    """Gives the graph's ends the signature's order and shapes; the reason if they are not its ends."""
    for ends, specs, what in ((graph.input, signature.inputs, "input"), (graph.output, signature.outputs, "output")):
        found = {end.name: end for end in ends}
        missing = [spec.name for spec in specs if spec.name not in found]
        extra = sorted(set(found) - {spec.name for spec in specs})
        if extra or (missing and what == "output"):
            return f"tf2onnx wrote {what}s {sorted(found)} for {[spec.name for spec in specs]}"
        del ends[:]
        ends.extend(_value(spec) for spec in specs)  # an input that nothing reads is an input all the same
    # Inner shapes carry tf2onnx's own symbols (unk__12) for sizes the signature names.
    del graph.value_info[:]
    graph.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
    return ""


def _value(spec: TensorSpec) -> Any:
    import onnx

    dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(re.sub("^bfloat16$", "float32", spec.dtype)))
    return onnx.helper.make_tensor_value_info(spec.name, dtype, list(spec.shape))
