"""What OpenVINO is known to get wrong never reaches its file: it is rewritten, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit import graph as hub
from edgekit.converters import _openvino_child
from edgekit.converters._openvino_gaps import for_openvino
from edgekit.converters.openvino import OpenVINOConverter
from edgekit.errors import UnsupportedError
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions


def network(
    op_type: str, shapes: dict[str, list[int]], dtypes: dict[str, int] | None = None, **attributes: Any
) -> ir.Model:
    """One node of opset 22 on run-time inputs of these shapes, float but for `dtypes`."""
    kinds = dtypes or {}
    inputs = [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s) for n, s in shapes.items()]
    node = helper.make_node(op_type, [*shapes], ["y"], name="here", **attributes)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


INTEGERS = TensorProto.INT64
PEEPHOLES = {"x": [2, 1, 3], "w": [1, 16, 3], "r": [1, 16, 4], "b": [1, 32], "n": [1], "h": [1, 1, 4], "c": [1, 1, 4],
             "p": [1, 12]}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (network("LSTM", PEEPHOLES, {"n": TensorProto.INT32}, hidden_size=4), "peephole"),
        (network("Tile", {"x": [2, 2], "n": [2]}, {"n": INTEGERS}), "garbage"),
        (network("Unsqueeze", {"x": [2, 2], "n": [1]}, {"n": INTEGERS}), "axes"),
        (network("ReduceLogSum", {"x": [2, 2], "n": [1]}, {"n": INTEGERS}), "axes"),
        (network("ReduceMax", {"x": [2, 0]}), "no elements"),
        (network("RoiAlign", {"x": [1, 1, 8, 8], "r": [1, 4], "n": [1]}, {"n": INTEGERS}, mode="max"), "weighted"),
    ],
    ids=lambda value: "",
)
def test_what_it_gets_wrong_is_refused_by_name(model: ir.Model, reason: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        for_openvino(hub.clean(model))
    (offender,) = caught.value.offenders
    assert offender.startswith(f"{next(iter(model.graph)).op_type} (here): ")
    assert reason in offender


def test_a_resize_of_run_time_sizes_is_refused_only_where_its_form_is_foreign() -> None:
    def resize(**attributes: Any) -> ir.Model:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])]
        inputs.append(helper.make_tensor_value_info("sizes", INTEGERS, [4]))
        node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear", **attributes)
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c", "d"])
        return ir.from_proto(helper.make_model(helper.make_graph([node], "one", inputs, [output])))

    assert [node.op_type for node in for_openvino(resize()).graph] == ["Resize"]
    with pytest.raises(UnsupportedError, match="does not honor antialias"):
        for_openvino(resize(antialias=1))


@pytest.mark.parametrize("length", [5, 6, 7, 8])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 1), (2, 3, 1), (3, 3, 0), (1, 4, 0), (2, 2, 0)])
def test_pooling_ends_where_onnx_runtime_ends(length: int, kernel: int, stride: int, pad: int, tmp_path: Path) -> None:
    if pad > kernel // 2:
        pad = kernel // 2
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "ceil_mode": 1}
    model = network("MaxPool", {"x": [1, 2, length, length]}, **attributes)
    x = np.random.default_rng(length).normal(size=(1, 2, length, length)).astype("float32")
    answers = {}
    for format, writer in (("onnx", CONVERTERS.get("onnx")), ("openvino", OpenVINOConverter(_openvino_child.convert))):
        written = writer.write(hub.clean(model), tmp_path / f"m{writer.suffix}", precision="fp32", plan=None)
        answers[format] = np.array(RUNTIMES.get(format).open(written.files[0], EngineOptions(threads=1)).run([x])[0])
    np.testing.assert_array_equal(answers["onnx"], answers["openvino"])


def test_what_only_constants_feed_is_computed_now() -> None:
    numbers = {"bins": 8, "length": 16, "rate": 8192}
    stored = [numpy_helper.from_array(np.array(number), name) for name, number in numbers.items()]
    stored += [numpy_helper.from_array(np.array(edge, "float32"), name) for name, edge in (("low", 0), ("high", 4096))]
    nodes = [
        helper.make_node("MelWeightMatrix", [*numbers, "low", "high"], ["mel"]),
        helper.make_node("MatMul", ["x", "mel"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, n]) for name, n in (("x", 9), ("y", 8))]
    graph = helper.make_graph(nodes, "mel", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    kinds = [node.op_type for node in for_openvino(hub.clean(ir.from_proto(model))).graph]
    assert kinds[-1] == "MatMul"
    assert "MelWeightMatrix" not in kinds
