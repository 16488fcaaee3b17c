"""What runs in integers: engines' own accounts of a float file and of an int8 file, with exact costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, OpPlacement
from edgekit.testing.tflite_writer import TfliteWriter
from tests.contract import sample_models as models

ONE = EngineOptions(threads=1)
RNG = np.random.default_rng(3)
# Image 3x16x16; convolution to 8x8x8, depthwise, transposed to 4x16x16, pooled, dense to 5.
COSTS = {"conv": 8 * 8 * 8 * 3 * 9, "depthwise": 8 * 8 * 8 * 9, "up": 8 * 8 * 8 * 4 * 4, "dense": 4 * 5}


def counted(ops: list[OpPlacement]) -> list[tuple[str, int]]:
    return sorted((op.precision, op.macs) for op in ops if op.macs)


def net(batch: int | str = 1) -> onnx.ModelProto:
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 1, 3, 3), "w3": (8, 4, 2, 2), "w4": (4, 5)}
    weights = [numpy_helper.from_array(RNG.standard_normal(s).astype("float32"), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="conv", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Conv", ["a", "w2"], ["b"], name="depthwise", pads=[1] * 4, group=8),
        helper.make_node("ConvTranspose", ["b", "w3"], ["c"], name="up", strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
        helper.make_node("MatMul", ["e", "w4"], ["y"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def quantized(tmp_path: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"x": RNG.standard_normal((1, 3, 16, 16)).astype("float32")} for _ in range(3)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    onnx.save(net(), tmp_path / "float.onnx")
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        Images(),
        activation_type=QuantType.QUInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "MatMul", "GlobalAveragePool", "Flatten"],
    )
    return tmp_path / "int8.onnx"


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_float_file_runs_in_floats(tmp_path: Path, runtime: str, batch: int | str) -> None:
    onnx.save(net(batch), tmp_path / "float.onnx")
    ops = RUNTIMES.get(runtime).placements(tmp_path / "float.onnx", ONE)
    assert counted(ops) == sorted(("fp32", macs) for macs in COSTS.values())


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_an_int8_file_runs_in_integers_but_for_what_stayed_behind(tmp_path: Path, runtime: str) -> None:
    ops = RUNTIMES.get(runtime).placements(quantized(tmp_path), ONE)
    kept = {"up": "fp32"}
    assert counted(ops) == sorted((kept.get(name, "int8"), macs) for name, macs in COSTS.items())


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_recurrent_layers_cost_every_weight_every_step(tmp_path: Path, runtime: str, kind: str, gates: int) -> None:
    steps, size, hidden = 7, 5, 6
    weights = [
        numpy_helper.from_array(RNG.standard_normal((1, gates * hidden, n)).astype("float32"), name)
        for name, n in (("w", size), ("r", hidden))
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "w", "r"], ["y"], name="cell", hidden_size=hidden)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, 1, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [steps, 1, 1, hidden])],
        weights,
    )
    path = tmp_path / "recurrent.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    ops = RUNTIMES.get(runtime).placements(path, ONE)
    assert counted(ops) == [("fp32", steps * gates * hidden * (size + hidden))]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_open_sizes_leave_the_cost_open(tmp_path: Path, runtime: str) -> None:
    model = net()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    onnx.save(model, tmp_path / "open.onnx")
    ops = RUNTIMES.get(runtime).placements(tmp_path / "open.onnx", ONE)
    convolutions = [op for op in ops if "onv" in op.type]
    assert len(convolutions) == 3
    assert all(op.macs is None for op in convolutions)


def test_tflite_float_and_int8(tmp_path: Path) -> None:
    engine = RUNTIMES.get("tflite")
    for sample, precision, macs in zip(
        models.tflite_samples(),
        ("fp32", "fp32", "int8"),
        (models.CONV_MACS, models.DENSE_MACS, models.CONV_MACS),
        strict=True,
    ):
        ops = engine.placements(sample.write(tmp_path), ONE)
        assert counted(ops) == [(precision, macs)]


def test_tflite_integer_weights_beside_float_activations_run_in_integers(tmp_path: Path) -> None:
    """The hybrid kernel rounds activations to 8 bits on the fly: the answer shows the steps."""
    writer = TfliteWriter()
    x = writer.tensor("x", (1, 64))
    weights = RNG.integers(-127, 128, (16, 64)).astype("int8")
    w = writer.tensor("w", (16, 64), data=weights, quant=([0.01], [0]))
    y = writer.tensor("y", (1, 16))
    writer.op("FULLY_CONNECTED", [x, w, -1], [y], options="FullyConnectedOptions")
    path = tmp_path / "hybrid.tflite"
    path.write_bytes(writer.finish([x], [y]))
    engine = RUNTIMES.get("tflite")
    assert counted(engine.placements(path, ONE)) == [("int8", 64 * 16)]
    feed = RNG.standard_normal((1, 64)).astype("float32")
    error = np.abs(engine.open(path, ONE).run([feed])[0] - feed @ (weights.T * np.float32(0.01))).max()
    assert 1e-4 < error < 0.1


def test_tflite_transposed_convolution(tmp_path: Path) -> None:
    writer = TfliteWriter()
    shape = writer.tensor("shape", (4,), data=np.array([1, 16, 16, 4], "int32"))
    w = writer.tensor("w", (4, 2, 2, 8), data=RNG.standard_normal((4, 2, 2, 8)).astype("float32"))
    x, y = writer.tensor("x", (1, 8, 8, 8)), writer.tensor("y", (1, 16, 16, 4))
    writer.op("TRANSPOSE_CONV", [shape, w, x], [y], options="TransposeConvOptions", strideH=2, strideW=2)
    path = tmp_path / "up.tflite"
    path.write_bytes(writer.finish([x], [y]))
    engine = RUNTIMES.get("tflite")
    engine.open(path, ONE)
    assert counted(engine.placements(path, ONE)) == [("fp32", COSTS["up"])]
    assert counted(RUNTIMES.get("openvino").placements(path, ONE)) == [("fp32", COSTS["up"])]
