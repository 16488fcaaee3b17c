"""One quantization by a peer in a process of its own, in whose environment edgekit need not be.

    python _quantize_tools.py TOOL MODEL CALIBRATION.npz TARGET

Prints one JSON line: CPU seconds without imports, and the peak resident memory of the process. A tool gets the model of
fixed sizes: .onnx, or .tflite for ai-edge-quantizer. Settings are those a careful user would find documented.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

Rows = list[dict[str, np.ndarray]]


def rows_of(path: str) -> Rows:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return [dict(zip(arrays, row, strict=True)) for row in zip(*arrays.values(), strict=True)]


def ort_static(
    model: str, rows: Rows, target: str, *, ops: list[str] | None = None, activations: str = "QUInt8"
) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[dict[str, np.ndarray]] = iter(rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    prepared = f"{target}.prepared.onnx"
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=ops,
        per_channel=True,
        activation_type=QuantType[activations],
        weight_type=QuantType.QInt8,
    )
    Path(prepared).unlink()


def ort_static_products(model: str, rows: Rows, target: str) -> None:
    ort_static(model, rows, target, ops=["Conv", "MatMul", "Gemm"])


def ort_static_s8s8(model: str, rows: Rows, target: str) -> None:
    """The types it takes by itself."""
    ort_static(model, rows, target, activations="QInt8")


def ort_dynamic(model: str, rows: Rows, target: str) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    loaded = onnx.load(model)
    del loaded.graph.value_info[:]  # what it says of shapes is taken for wrong after a weight is transposed
    prepared = f"{target}.prepared.onnx"
    onnx.save(loaded, prepared)
    quantize_dynamic(prepared, target, per_channel=True, weight_type=QuantType.QInt8)
    Path(prepared).unlink()


def _nncf(model: str, target: str, quantize: Callable[[Any, Any], Any]) -> None:
    import nncf
    import openvino

    read = openvino.convert_model(model)
    openvino.save_model(quantize(nncf, read), target, compress_to_fp16=False)


def nncf_static(model: str, rows: Rows, target: str) -> None:
    def quantize(nncf: Any, read: Any) -> Any:
        return nncf.quantize(read, nncf.Dataset(rows), subset_size=len(rows))

    _nncf(model, target, quantize)


def nncf_transformer(model: str, rows: Rows, target: str) -> None:
    def quantize(nncf: Any, read: Any) -> Any:
        return nncf.quantize(read, nncf.Dataset(rows), subset_size=len(rows), model_type=nncf.ModelType.TRANSFORMER)

    _nncf(model, target, quantize)


def nncf_weights(model: str, rows: Rows, target: str) -> None:
    _nncf(model, target, lambda nncf, read: nncf.compress_weights(read))


def nncf_weights_4(model: str, rows: Rows, target: str) -> None:
    def quantize(nncf: Any, read: Any) -> Any:
        return nncf.compress_weights(read, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=64, ratio=1.0)

    _nncf(model, target, quantize)


def _ai_edge(model: str, rows: Rows, target: str, recipe: str) -> None:
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer import recipe as recipes

    work = quantizer.Quantizer(model, getattr(recipes, recipe)())
    ranges = None
    if work.need_calibration:
        from ai_edge_litert.interpreter import Interpreter

        (key,) = Interpreter(model).get_signature_list()
        ranges = work.calibrate({key: rows})
    Path(target).write_bytes(bytes(work.quantize(ranges).quantized_model))


def ai_edge_static(model: str, rows: Rows, target: str) -> None:
    _ai_edge(model, rows, target, "static_wi8_ai8")


def ai_edge_dynamic(model: str, rows: Rows, target: str) -> None:
    _ai_edge(model, rows, target, "dynamic_wi8_afp32")


def ai_edge_weights(model: str, rows: Rows, target: str) -> None:
    _ai_edge(model, rows, target, "weight_only_wi8_afp32")


TOOLS: dict[str, tuple[str, Callable[[str, Rows, str], None]]] = {
    "ort-static": ("onnxruntime.quantization", ort_static),
    "ort-products": ("onnxruntime.quantization", ort_static_products),
    "ort-static-s8s8": ("onnxruntime.quantization", ort_static_s8s8),
    "ort-dynamic": ("onnxruntime.quantization", ort_dynamic),
    "nncf": ("nncf", nncf_static),
    "nncf-transformer": ("nncf", nncf_transformer),
    "nncf-w8": ("nncf", nncf_weights),
    "nncf-w4": ("nncf", nncf_weights_4),
    "ai-edge-static": ("ai_edge_quantizer.quantizer", ai_edge_static),
    "ai-edge-dynamic": ("ai_edge_quantizer.quantizer", ai_edge_dynamic),
    "ai-edge-w8": ("ai_edge_quantizer.quantizer", ai_edge_weights),
}
"""What is imported beforehand, and what is called."""


if __name__ == "__main__":
    tool, model, calibration, target = sys.argv[1:]
    package, quantize = TOOLS[tool]
    import_module(package)
    given = rows_of(calibration)
    started = time.process_time()
    quantize(model, given, target)
    cost = {
        "cpu_s": time.process_time() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print("\n" + json.dumps(cost))
