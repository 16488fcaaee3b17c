"""Files of one large matrix product, for each engine's format: what the multipliers of a machine can do at most."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["write_products"]

_FLOAT, _UINT8, _INT8 = 1, 2, 3
_OPSET, _IR_VERSION = 13, 8
_RANGE = 4.0
_NUMBERS = {"uint8": _UINT8, "int8": _INT8, "float32": _FLOAT}

_STEP = _RANGE / 127

_WITHOUT_BIAS = 6
"""The version of TFLite's product that may leave out its bias."""


def write_products(folder: Path, size: int, seed: int = 0) -> dict[tuple[str, str], Path]:
    """Writes products of square matrices of `size`, x of float32 with a constant; by format and precision.

    The int8 ones round x first, which costs next to nothing beside the product.
    """
    weights = np.random.default_rng(seed).uniform(-_RANGE, _RANGE, (size, size)).astype("float32")
    rounded = np.rint(weights / _STEP).astype("int8")
    files = {("onnx", "fp32"): folder / "fp32.onnx", ("onnx", "int8"): folder / "int8.onnx"}
    files["onnx", "fp32"].write_bytes(_onnx_file([_node("MatMul", ["x", "w"], "y")], size, {"w": weights}))
    nodes = [
        _node("QuantizeLinear", ["x", "step", "zero"], "xq"),
        _node("DequantizeLinear", ["xq", "step", "zero"], "xd"),
        _node("DequantizeLinear", ["w", "step", "middle"], "wd"),
        _node("MatMul", ["xd", "wd"], "y"),
    ]
    # Activations without a sign: the pairing every integer kernel on every processor is fast with.
    constants = {"step": np.float32(_STEP), "zero": np.uint8(127), "middle": np.int8(0), "w": rounded}
    files["onnx", "int8"].write_bytes(_onnx_file(nodes, size, {k: np.asarray(v) for k, v in constants.items()}))
    if find_spec("flatbuffers") is not None and find_spec("ai_edge_litert") is not None:
        files["tflite", "fp32"], files["tflite", "int8"] = folder / "fp32.tflite", folder / "int8.tflite"
        _write_tflite(files["tflite", "fp32"], weights, None)
        _write_tflite(files["tflite", "int8"], rounded, _STEP)
    return files


def _write_tflite(path: Path, weights: np.ndarray, step: float | None) -> None:
    """Without edgekit's own writer, with which all of the converter would have to be copied to a device."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as s

    size = len(weights)
    scales = (None, None, None) if step is None else (step, step, step * size)
    model, graph, op, code, buffer = s.ModelT(), s.SubGraphT(), s.OperatorT(), s.OperatorCodeT(), s.BufferT()
    kind = s.TensorType.FLOAT32 if step is None else s.TensorType.INT8
    graph.tensors = [_tensor(s, name, size, kind, scale) for name, scale in zip("xwy", scales, strict=True)]
    graph.tensors[1].buffer, buffer.data = 1, weights.reshape(-1).view("uint8")
    op.inputs, op.outputs = [0, 1, -1], [2]
    op.builtinOptionsType, op.builtinOptions = s.BuiltinOptions.FullyConnectedOptions, s.FullyConnectedOptionsT()
    graph.inputs, graph.outputs, graph.operators = [0], [2], [op]
    code.builtinCode = code.deprecatedBuiltinCode = s.BuiltinOperator.FULLY_CONNECTED
    code.version = _WITHOUT_BIAS
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [s.BufferT(), buffer]
    builder = flatbuffers.Builder(weights.nbytes + 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def _tensor(schema: Any, name: str, size: int, kind: int, scale: float | None) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.hasRank = name, [size, size], kind, True
    if scale is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
    return tensor


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protobuf message: a number, a text, or a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _node(kind: str, inputs: Iterable[str], output: str) -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(3, output) + _field(4, kind)


def _onnx_file(nodes: Iterable[bytes], size: int, constants: Mapping[str, np.ndarray]) -> bytes:
    """A ModelProto with x and y of float32[size, size]; the numbers of fields are those of onnx.proto."""
    dims = b"".join(_field(1, _field(1, size)) for _ in range(2))
    kind = _field(2, _field(1, _field(1, _FLOAT) + _field(2, dims)))
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "product")
    for name, array in constants.items():
        shape = b"".join(_field(1, d) for d in array.shape)
        tensor = shape + _field(2, _NUMBERS[array.dtype.name]) + _field(8, name) + _field(9, array.tobytes())
        graph += _field(5, tensor)
    graph += _field(11, _field(1, "x") + kind) + _field(12, _field(1, "y") + kind)
    return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, _field(2, _OPSET))
