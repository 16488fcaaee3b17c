"""One ONNX operation through the TFLite writer and its engine."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from edgekit import graph as hub
from edgekit.converters.tflite.lowering import lower
from edgekit.converters.tflite.writing import write_model
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions

__all__ = ["WHOLE", "element", "graph_of", "one_op", "run_model", "run_op", "whole"]

WHOLE = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")


def whole(dtype: str, seed: int, count: int = 64) -> np.ndarray:
    """Numbers from all of an integer type."""
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, count, dtype=dtype, endpoint=True)


def one_op(
    op: str, feeds: list[Any], gives: str, shape: Any, opset: int, constants: Collection[int], attributes: Any
) -> ir.Model:
    """One node; the inputs `constants` are initializers, those of None are left out."""
    names = ["" if array is None else f"i{index}" for index, array in enumerate(feeds)]
    fed = {name: array for i, (name, array) in enumerate(zip(names, feeds, strict=True)) if name and i not in constants}
    node = helper.make_node(op, names, ["y"], "node", **attributes)
    return graph_of([node], fed, {"y": (gives, shape)}, opset, {names[i]: feeds[i] for i in constants})


def graph_of(
    nodes: list[onnx.NodeProto], feeds: dict[str, np.ndarray], gives: dict[str, Any], opset: int, weights: Any = None
) -> ir.Model:
    """A model of `nodes`; `gives` has dtype and shape of each output."""
    inputs = [helper.make_tensor_value_info(name, element(x.dtype.name), x.shape) for name, x in feeds.items()]
    outputs = [helper.make_tensor_value_info(name, element(kind), shape) for name, (kind, shape) in gives.items()]
    constants = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10))


def element(dtype: str) -> int:
    """ONNX's number of a type."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def run_model(folder: Path, model: ir.Model, *feeds: np.ndarray) -> list[np.ndarray]:
    """What LiteRT makes of the file."""
    write_model(lower(hub.infer_shapes(model)), folder / "op.tflite")
    opened = RUNTIMES.get("tflite").open(folder / "op.tflite", EngineOptions(threads=1))
    found = [np.array(array) for array in opened.run([np.require(feed, requirements="C") for feed in feeds])]
    opened.close()
    return found


def run_op(
    folder: Path,
    op: str,
    *feeds: Any,
    gives: str = "",
    shape: Any = None,
    opset: int = 20,
    constants: Collection[int] = (),
    **attributes: Any,
) -> np.ndarray:
    """The output of one node; by default of the dtype of its first input and the shape all broadcast to."""
    arrays = [None if feed is None else np.asarray(feed) for feed in feeds]
    present = [array for array in arrays if array is not None]
    wanted = np.broadcast_shapes(*(array.shape for array in present)) if shape is None else shape
    model = one_op(op, arrays, gives or present[0].dtype.name, wanted, opset, constants, attributes)
    fed = [array for i, array in enumerate(arrays) if array is not None and i not in constants]
    return run_model(folder, model, *fed)[0]
