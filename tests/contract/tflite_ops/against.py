"""A whole model through the TFLite writer and its engine, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from edgekit import graph as hub
from edgekit.converters.tflite.lowering import lower
from edgekit.converters.tflite.model import Graph
from tests.contract.tflite_ops.single import run_model

__all__ = ["agree", "codes", "normal", "text_model"]


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype("float32")


def text_model(text: str, opset: int = 20, **weights: np.ndarray) -> ir.Model:
    """A model of ONNX text ``(inputs) => (outputs) { nodes }`` with `weights` as initializers."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> m {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return ir.from_proto(model)


def agree(folder: Path, model: ir.Model, feeds: Mapping[str, np.ndarray], tolerance: float = 1e-5) -> list[np.ndarray]:
    """Asserts that LiteRT gives what ONNX Runtime gives, the second time as the first; returns it."""
    import onnxruntime

    proto = ir.to_proto(model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, dict(feeds))
    found = run_model(folder, model, *feeds.values())
    for want, got in zip(expected, found, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    return found


def codes(model: ir.Model) -> list[str]:
    """The TFLite operations of a model, those in bodies included."""
    graphs: list[Graph] = list(lower(hub.infer_shapes(model)).graph.graphs())
    return [op.code for graph in graphs for op in graph.ops]
