"""Small models in every format, each with its answer by the ONNX project's reference evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit.runtimes.null import write_null
from edgekit.spec import QuantParams, Signature, TensorSpec
from edgekit.testing import Sample
from edgekit.testing.tflite_writer import TfliteWriter

Feeds = Mapping[str, np.ndarray]
RNG = np.random.default_rng(7)
CONV_WEIGHTS = RNG.standard_normal((4, 3, 3, 3)).astype("float32")
CONV_BIAS = RNG.standard_normal(4).astype("float32")
DENSE_WEIGHTS = RNG.standard_normal((6, 5)).astype("float32")
DENSE_BIAS = RNG.standard_normal(5).astype("float32")
CONV_MACS = 8 * 8 * 4 * 3 * 3 * 3
DENSE_MACS = 6 * 5
IMAGE_SCALE, FEATURE_SCALE = 0.05, 0.25
EVERY_DTYPE = {
    "f16": "float16", "f32": "float32", "f64": "float64", "flag": "bool", "i8": "int8", "i16": "int16",
    "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: dict[str, tuple[int, list[int | str]]],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def two_inputs() -> onnx.ModelProto:
    """A convolution of an image, scaled by a second input; features and their mean."""
    nodes = [
        helper.make_node("Conv", ["image", "weights", "bias"], ["conv"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
        helper.make_node("Mul", ["relu", "gain"], ["features"], name="scale"),
        helper.make_node("GlobalAveragePool", ["features"], ["mean"], name="pool"),
    ]
    one = TensorProto.FLOAT
    return _model(
        nodes,
        {"image": (one, [1, 3, 8, 8]), "gain": (one, [1, 4, 1, 1])},
        {"features": (one, [1, 4, 8, 8]), "mean": (one, [1, 4, 1, 1])},
        {"weights": CONV_WEIGHTS, "bias": CONV_BIAS},
    )


def dense() -> onnx.ModelProto:
    """A dense layer with an open batch."""
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["product"], name="product"),
        helper.make_node("Add", ["product", "bias"], ["y"], name="sum"),
    ]
    one = TensorProto.FLOAT
    return _model(
        nodes,
        {"x": (one, ["batch", 6])},
        {"y": (one, ["batch", 5])},
        {"weights": DENSE_WEIGHTS, "bias": DENSE_BIAS},
    )


def every_dtype() -> onnx.ModelProto:
    """For each dtype an input, repeated once along its first axis."""
    codes = {name: helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for name, dtype in EVERY_DTYPE.items()}
    return _model(
        [helper.make_node("Concat", [name, name], [f"{name}_twice"], axis=0) for name in codes],
        {name: (code, [1, 4]) for name, code in codes.items()},
        {f"{name}_twice": (code, [2, 4]) for name, code in codes.items()},
    )


def oracle(model: onnx.ModelProto) -> Callable[[Feeds], dict[str, np.ndarray]]:
    evaluator = ReferenceEvaluator(model)
    names = [value.name for value in model.graph.output]
    return lambda feeds: dict(zip(names, evaluator.run(None, dict(feeds)), strict=True))


def _onnx_file(model: onnx.ModelProto) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "sample.onnx").write_bytes(model.SerializeToString())
        return folder / "sample.onnx"

    return write


def _openvino_file(model: onnx.ModelProto) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import openvino

        source = folder / "source.onnx"
        source.write_bytes(model.SerializeToString())
        openvino.save_model(openvino.Core().read_model(source), folder / "sample.xml", compress_to_fp16=False)
        source.unlink()
        return folder / "sample.xml"

    return write


def onnx_samples() -> list[Sample]:
    return [
        Sample("two-inputs", _onnx_file(two_inputs()), oracle(two_inputs())),
        Sample("dense", _onnx_file(dense()), oracle(dense()), is_dynamic=True),
        Sample("dtypes", _onnx_file(every_dtype()), oracle(every_dtype()), tolerance=0),
    ]


def openvino_samples() -> list[Sample]:
    return [
        Sample("two-inputs", _openvino_file(two_inputs()), oracle(two_inputs())),
        Sample("dense", _openvino_file(dense()), oracle(dense()), is_dynamic=True),
        Sample("dtypes", _openvino_file(every_dtype()), oracle(every_dtype()), tolerance=1e-7),  # f64 as f32
    ]


def tflite_two_inputs() -> bytes:
    """The model of `two_inputs` in TFLite's layout, without a signature."""
    writer = TfliteWriter()
    image = writer.tensor("image", (1, 8, 8, 3))
    gain = writer.tensor("gain", (1, 1, 1, 4))
    weights = writer.tensor("weights", (4, 3, 3, 3), data=np.ascontiguousarray(CONV_WEIGHTS.transpose(0, 2, 3, 1)))
    bias = writer.tensor("bias", (4,), data=CONV_BIAS)
    conv = writer.tensor("conv", (1, 8, 8, 4))
    features = writer.tensor("features", (1, 8, 8, 4))
    axes = writer.tensor("axes", (2,), data=np.array([1, 2], "int32"))
    mean = writer.tensor("mean", (1, 1, 1, 4))
    writer.op(
        "CONV_2D", [image, weights, bias], [conv], options="Conv2DOptions",
        strideH=1, strideW=1, fusedActivationFunction=1,
    )  # fmt: skip
    writer.op("MUL", [conv, gain], [features], options="MulOptions")
    writer.op("MEAN", [features, axes], [mean], options="ReducerOptions", keepDims=True)
    return writer.finish([image, gain], [features, mean])


def tflite_dense() -> bytes:
    """The model of `dense`, with a signature whose names are not the tensors'."""
    writer = TfliteWriter()
    x = writer.tensor("serving_default_x:0", (-1, 6))
    weights = writer.tensor("weights", (5, 6), data=np.ascontiguousarray(DENSE_WEIGHTS.T))
    bias = writer.tensor("bias", (5,), data=DENSE_BIAS)
    y = writer.tensor("StatefulPartitionedCall:0", (-1, 5))
    writer.op("FULLY_CONNECTED", [x, weights, bias], [y], options="FullyConnectedOptions", keepNumDims=False)
    return writer.finish([x], [y], signature={"inputs": {"x": x}, "outputs": {"y": y}})


def tflite_int8() -> bytes:
    """The convolution of `two_inputs` in int8, per channel, with integer input and output."""
    scales = np.abs(CONV_WEIGHTS).max(axis=(1, 2, 3)) / 127
    filters = np.rint(CONV_WEIGHTS / scales[:, None, None, None]).astype("int8").transpose(0, 2, 3, 1)
    writer = TfliteWriter()
    image = writer.tensor("image", (1, 8, 8, 3), dtype="int8", quant=([IMAGE_SCALE], [3]))
    weights = writer.tensor(
        "weights", (4, 3, 3, 3), data=np.ascontiguousarray(filters), quant=(scales.tolist(), [0] * 4)
    )
    steps = np.rint(CONV_BIAS / (IMAGE_SCALE * scales)).astype("int32")
    bias = writer.tensor("bias", (4,), data=steps, quant=((IMAGE_SCALE * scales).tolist(), [0] * 4))
    features = writer.tensor("features", (1, 8, 8, 4), dtype="int8", quant=([FEATURE_SCALE], [-5]))
    writer.op("CONV_2D", [image, weights, bias], [features], options="Conv2DOptions", strideH=1, strideW=1)
    return writer.finish([image], [features])


def _two_inputs_nhwc(feeds: Feeds) -> dict[str, np.ndarray]:
    swapped = {name: array.transpose(0, 3, 1, 2) for name, array in feeds.items()}
    return {name: array.transpose(0, 2, 3, 1) for name, array in oracle(two_inputs())(swapped).items()}


def _int8_by_hand(feeds: Feeds) -> dict[str, np.ndarray]:
    """The float convolution of what the integers stand for, rounded to the integers of the output."""
    image = QuantParams("int8", (IMAGE_SCALE,), (3,))
    features = QuantParams("int8", (FEATURE_SCALE,), (-5,))
    scales = np.abs(CONV_WEIGHTS).max(axis=(1, 2, 3), keepdims=True) / 127
    model = _model(
        [helper.make_node("Conv", ["x", "weights", "bias"], ["y"], pads=[1, 1, 1, 1])],
        {"x": (TensorProto.FLOAT, [1, 3, 8, 8])},
        {"y": (TensorProto.FLOAT, [1, 4, 8, 8])},
        {"weights": (np.rint(CONV_WEIGHTS / scales) * scales).astype("float32"), "bias": CONV_BIAS},
    )
    x = image.dequantize(image.quantize(feeds["image"])).transpose(0, 3, 1, 2)
    y = oracle(model)({"x": x})["y"].transpose(0, 2, 3, 1)
    return {"features": features.dequantize(features.quantize(y))}


def _bytes_file(content: bytes, name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def tflite_samples() -> list[Sample]:
    def file(content: bytes) -> Callable[[Path], Path]:
        return _bytes_file(content, "sample.tflite")

    # A tie may be rounded either way: one step of the output.
    step = FEATURE_SCALE / 20
    return [
        Sample("two-inputs", file(tflite_two_inputs()), _two_inputs_nhwc),
        Sample("dense", file(tflite_dense()), oracle(dense()), is_dynamic=True),
        Sample("int8", file(tflite_int8()), _int8_by_hand, tolerance=step, is_quantized=True),
    ]


def null_samples() -> list[Sample]:
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", 4)), TensorSpec("flags", "int64", ("batch", 1))),
        (TensorSpec("y", "float32", ("batch", 2)),),
    )
    return [
        Sample(
            "zeros",
            lambda folder: write_null(folder / "sample.null.json", signature),
            lambda feeds: {"y": np.zeros((feeds["x"].shape[0], 2), "float32")},
            tolerance=0,
            is_dynamic=True,
        )
    ]
