"""The least one types to time an engine, in a process of its own: ``_agreement_loops.py ENGINE FILE CALLS THREADS``.

Prints one line of JSON: the median and the mean of CALLS calls in milliseconds, after half as many untimed ones. The
input is set before each call and the outputs are copied out after it, as a caller that has arrays would.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], Any]


def _noise(shape: Any, dtype: Any) -> np.ndarray:
    sizes = [1 if dim is None or isinstance(dim, str) or int(dim) < 1 else int(dim) for dim in shape]
    return np.random.default_rng(0).standard_normal(sizes).astype(dtype)


def loop_onnx(path: str, threads: int) -> Call:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    feeds = {one.name: _noise(one.shape, "float32") for one in session.get_inputs()}
    return lambda: session.run(None, feeds)


def loop_openvino(path: str, threads: int) -> Call:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
    settings["INFERENCE_NUM_THREADS"] = threads
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    feeds = {i: _noise(one.partial_shape.get_min_shape(), "float32") for i, one in enumerate(request.model_inputs)}
    return lambda: [value.copy() for value in request.infer(feeds, share_inputs=True, share_outputs=True).values()]


def loop_tflite(path: str, threads: int) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    feeds = [(one["index"], _noise(one["shape"], one["dtype"])) for one in interpreter.get_input_details()]
    outputs = [one["index"] for one in interpreter.get_output_details()]

    def call() -> list[np.ndarray]:
        for index, array in feeds:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return call


LOOPS = {"onnx": loop_onnx, "openvino": loop_openvino, "tflite": loop_tflite}


def main() -> None:
    engine, path, calls, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    call = LOOPS[engine](path, threads)
    for _ in range(calls // 2):
        call()
    took = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        call()
        took.append((time.perf_counter_ns() - start) / 1e6)
    print(json.dumps({"p50_ms": statistics.median(took), "mean_ms": statistics.mean(took)}))


if __name__ == "__main__":
    main()
