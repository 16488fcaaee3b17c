"""Models for engines that open no newer opset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.errors import UnsupportedError
from edgekit.graph import infer_shapes, save
from edgekit.graph.opsets import at_most_opset
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session


def model(body: str, opset: int) -> ir.Model:
    text = f'<ir_version: 12, opset_import: ["" : {opset}]> m (float[2,3,8] x) => (float[2,3,8] y) {{ {body} }}'
    return infer_shapes(ir.from_onnx_text(text))


def answer(graph: ir.Model, folder: Path, x: np.ndarray) -> np.ndarray:
    save(graph, folder / "m.onnx")
    with Session(RUNTIMES.get("onnx").open(folder / "m.onnx", EngineOptions(threads=1)), runtime="onnx") as session:
        return session.run({"x": x})["y"]


def test_an_older_opset_is_left_alone() -> None:
    graph = model("y = Relu(x)", 18)
    assert at_most_opset(graph, 21) is graph


def test_operations_that_are_the_same_go_under_the_older_opset() -> None:
    lowered = at_most_opset(model("y = Relu(x)", 23), 21)
    assert (lowered.graph.opset_imports[""], lowered.ir_version) == (21, 10)


def test_a_newer_function_is_written_out(tmp_path: Path) -> None:
    graph = model("s = Constant<value_floats=[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]>() y = RMSNormalization(x, s)", 23)
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype("float32")
    lowered = at_most_opset(graph, 21)
    assert lowered.graph.opset_imports[""] == 21
    np.testing.assert_allclose(answer(lowered, tmp_path, x), answer(graph, tmp_path, x), rtol=1e-5)


def test_what_has_no_older_form_is_refused_by_name() -> None:
    # Since opset 24 a TopK may be of bfloat16, and Top K of before is the same; TensorScatter came with 24.
    graph = model("w = Constant<value_ints=[0,0]>() y = TensorScatter<axis=1>(x, x, w)", 24)
    with pytest.raises(UnsupportedError, match="up to opset 21") as caught:
        at_most_opset(graph, 21)
    assert any("TensorScatter" in offender for offender in caught.value.offenders)
