"""Where the time goes by each engine's own profiler: times, layers, costs and arithmetic of real models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.errors import UnsupportedError
from edgekit.graph.cost import costs
from edgekit.graph.files import load as load_graph
from edgekit.graph.listing import Node, list_nodes, merged_into
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions
from edgekit.runtimes._tflite_times import align
from edgekit.tracing import OpTime, Traced
from tests.contract import sample_models as models
from tests.contract.test_placements import COSTS, ONE, RNG, net, quantized

CALLS = 12
IMAGE = [[RNG.standard_normal((1, 3, 16, 16)).astype("float32")] for _ in range(2)]


def times(runtime: str, path: Path, feeds: list[list[np.ndarray]]) -> Traced:
    traced: Traced = RUNTIMES.get(runtime).operation_times(path, ONE, feeds, CALLS)
    assert traced.calls >= CALLS
    assert traced.call_us > 0
    assert all(op.time_us >= 0 for op in traced.ops)
    assert sum(op.time_us for op in traced.ops) > 0
    assert Traced.from_json(json.loads(json.dumps(traced.to_json()))) == traced
    return traced


def at(traced: Traced, layer: str) -> OpTime:
    """The operation that multiplies for a layer."""
    (found,) = [op for op in traced.ops if op.macs and layer in op.sources]
    return found


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("batch", [1, 2])
def test_costs_are_those_of_the_graph_and_belong_to_its_layers(tmp_path: Path, runtime: str, batch: int) -> None:
    onnx.save(net("batch"), tmp_path / "float.onnx")
    feeds = [[np.concatenate([image[0]] * batch)] for image in IMAGE]
    traced = times(runtime, tmp_path / "float.onnx", feeds)
    assert sum(op.macs or 0 for op in traced.ops) == batch * sum(COSTS.values())
    graph = costs(load_graph(tmp_path / "float.onnx"), {"batch": batch})
    assert {node.name: node.macs for node in graph if node.macs} == {n: batch * m for n, m in COSTS.items()}
    # OpenVINO calls the last layer by the value it gives.
    names = {"dense": "y", "conv": "a", "depthwise": "b", "up": "c"} if runtime == "openvino" else {}
    for layer, macs in COSTS.items():
        assert at(traced, names.get(layer, layer)).macs == batch * macs
        assert at(traced, names.get(layer, layer)).precision == "fp32"


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_what_runs_in_integers_is_reported_so_and_moves_fewer_bytes(tmp_path: Path, runtime: str) -> None:
    narrow = times(runtime, quantized(tmp_path), IMAGE)
    wide = times(runtime, tmp_path / "float.onnx", IMAGE)
    integers = [op for op in narrow.ops if op.macs and op.precision == "int8"]
    assert sum(op.macs or 0 for op in integers) == sum(COSTS.values()) - COSTS["up"]
    by_cost = {op.macs: op for op in wide.ops if op.macs}
    larger = [op for op in integers if op.macs != COSTS["dense"]]
    assert all((op.bytes_moved or 0) < (by_cost[op.macs].bytes_moved or 0) for op in larger)


def test_bytes_are_weights_and_activations_at_their_widths(tmp_path: Path) -> None:
    onnx.save(net(), tmp_path / "float.onnx")
    traced = times("openvino", tmp_path / "float.onnx", IMAGE)
    read, written, weights = 3 * 16 * 16, 8 * 8 * 8, 8 * 3 * 3 * 3
    assert at(traced, "a").bytes_moved == 4 * (read + written + weights)


def test_tflite_times_come_with_the_operations_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "float.tflite"
    path.write_bytes(models.tflite_two_inputs())
    feeds = [[RNG.standard_normal((1, 8, 8, 3)).astype("float32"), np.ones((1, 1, 1, 4), "float32")]]
    traced = times("tflite", path, feeds)
    assert [op.sources for op in traced.ops] == [("conv",), ("features",), ("mean",)]
    assert [op.macs for op in traced.ops] == [models.CONV_MACS, 0, 0]
    assert traced.ops[0].bytes_moved == 4 * (8 * 8 * 3 + 4 * 27 + 4 + 8 * 8 * 4)


def test_tflite_in_integers_and_with_an_open_batch(tmp_path: Path) -> None:
    path = tmp_path / "int8.tflite"
    path.write_bytes(models.tflite_int8())
    traced = times("tflite", path, [[np.zeros((1, 8, 8, 3), "int8")]])
    assert [(op.precision, op.macs) for op in traced.ops] == [("int8", models.CONV_MACS)]
    path.write_bytes(models.tflite_dense())
    # Too short for a clock of whole microseconds: only what it is, not how long it took.
    found: Traced = RUNTIMES.get("tflite").operation_times(path, ONE, [[np.ones((3, 6), "float32")]], CALLS)
    assert sum(op.macs or 0 for op in found.ops) == 3 * models.DENSE_MACS


def test_an_engine_without_the_profiler_says_so(tmp_path: Path) -> None:
    from edgekit.runtimes._litert import require_profiler

    require_profiler("ai-edge-litert 2.3.7")
    for engine in ("ai-edge-litert 2.4.0", "tensorflow-cpu 2.21.0", "tflite-runtime 2.14.0"):
        with pytest.raises(UnsupportedError, match=engine):
            require_profiler(engine)
    path = tmp_path / "int8.tflite"
    path.write_bytes(models.tflite_int8())
    options = EngineOptions(threads=1, vendor={"experimental_preserve_all_tensors": True})
    with pytest.raises(UnsupportedError, match="experimental_preserve_all_tensors"):
        RUNTIMES.get("tflite").operation_times(path, options, [[np.zeros((1, 8, 8, 3), "int8")]], CALLS)


def test_litert_is_given_nothing_its_memory_is_too_small_for(tmp_path: Path) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(models.tflite_dense())
    feeds = [[np.ones((3, 6), "float32")], [np.ones((300, 6), "float32")]]
    with pytest.raises(UnsupportedError, match="300, 6"):
        RUNTIMES.get("tflite").operation_times(path, ONE, feeds, CALLS)


def test_a_change_of_layout_multiplies_nothing(tmp_path: Path) -> None:
    onnx.save(net(), tmp_path / "float.onnx")
    made_up = [op for op in times("onnx", tmp_path / "float.onnx", IMAGE).ops if not op.sources]
    assert made_up
    assert {op.macs for op in made_up} == {0}


def test_a_delegates_operations_find_those_of_the_file() -> None:
    tags = ["Transpose (ND, X32)", "Convolution (NHWC, F32) IGEMM", "Add (ND)", "Clamp (NC)", "Fully Connected (NC)"]
    kinds = ["TRANSPOSE", "PAD", "CONV_2D", "ADD", "RESHAPE", "CONV_2D"]
    assert align(tags, kinds) == [0, 2, 3, None, 5]
    assert align(["Sigmoid (NC)", "Multiply (ND)"], ["MUL", "LOGISTIC", "MUL"]) == [1, 2]
    assert align(["Convolution (NHWC)"], ["FULLY_CONNECTED"]) == [None]
    assert align([], ["ADD"]) == []


def test_the_listing_of_a_file_is_that_of_the_onnx_package(tmp_path: Path) -> None:
    path = quantized(tmp_path)
    want = [(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in onnx.load(path).graph.node]
    assert [(n.name, n.op_type, n.inputs, n.outputs) for n in list_nodes(path)] == want


def test_what_is_fused_goes_to_the_product_it_is_done_on() -> None:
    def node(name: str, kind: str, inputs: str, output: str) -> Node:
        return Node(name, kind, tuple(inputs.split()), (output,))

    nodes = [
        node("conv1", "Conv", "x w", "a"),
        node("clip", "Clip", "a", "b"),
        node("dq", "DequantizeLinear", "w2", "w2f"),
        node("conv2", "Conv", "b w2f", "c"),
        node("sum", "Add", "c b", "d"),
        node("relu", "Relu", "d", "e"),
        node("q", "QuantizeLinear", "e", "f"),
        node("conv3", "Conv", "f w3", "g"),
    ]
    # The first is named after its activation, the others after the product; nobody names what is between.
    assert merged_into(nodes, {"clip": 0, "conv2": 1, "conv3": 2}) == {
        0: ["clip", "conv1"],
        1: ["conv2", "dq", "sum", "relu", "q"],
        2: ["conv3"],
    }
    # A product nobody names is not taken for part of another.
    assert merged_into(nodes, {"conv3": 0}) == {0: ["conv3"]}
