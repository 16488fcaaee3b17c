"""What a session adds to the best raw pattern of each engine, on a net of microseconds.

    python benchmarks/overhead.py [--rounds 400] [--json]

The net is a dense autoencoder, 640-128x4-8-128x4-640, 0.26 million multiply-accumulates, one thread. Raw pattern and
session, both with an answer the caller owns, take turns within a round (A B A B ...), each in a block of calls; a round
gives one difference. The median of the differences is reported with the quartiles, and that of `predict` with a
processing that does nothing. Times are CPU time of the process,
so that other work on the machine, which falls on both sides alike, is not counted; with one thread and nothing to wait
for it is the time that passes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.opening import detect_format, open_session
from edgekit.processing import Processing
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.testing.tflite_writer import TfliteWriter

SIZES = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
BLOCK = 50
OPENINGS = 10
BUDGET_US = 2.0
PREDICT_BUDGET_US = 5.0

Call = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One engine: medians over the rounds, in microseconds of CPU time a call."""

    engine: str
    pattern: str
    raw_us: float
    session_us: float
    added_us: float
    added_low_us: float
    added_high_us: float
    view_added_us: float
    predict_added_us: float


def layers() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((i, o)) / np.sqrt(i)).astype("float32") for i, o in pairwise(SIZES)]


def write_onnx(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, last = [], [], "x"
    for index, weights in enumerate(layers()):
        name = f"dense{index}"
        constants += [numpy_helper.from_array(weights, f"{name}_w")]
        constants += [numpy_helper.from_array(np.zeros(weights.shape[1], "float32"), f"{name}_b")]
        nodes.append(helper.make_node("Gemm", [last, f"{name}_w", f"{name}_b"], [name]))
        last = name
        if index < len(SIZES) - 2:
            nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"]))
            last = f"{name}_relu"
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, SIZES[0]])]
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, SIZES[-1]])]
    graph = helper.make_graph(nodes, "autoencoder", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def write_tflite(path: Path) -> Path:
    writer = TfliteWriter()
    first = last = writer.tensor("x", (1, SIZES[0]))
    for index, weights in enumerate(layers()):
        units = weights.shape[1]
        tensors = [last, writer.tensor(f"w{index}", (units, weights.shape[0]), data=np.ascontiguousarray(weights.T))]
        tensors.append(writer.tensor(f"b{index}", (units,), data=np.zeros(units, "float32")))
        last = writer.tensor(f"dense{index}", (1, units))
        is_hidden = index < len(SIZES) - 2
        writer.op(
            "FULLY_CONNECTED", tensors, [last], options="FullyConnectedOptions",
            fusedActivationFunction=int(is_hidden),
        )  # fmt: skip
    path.write_bytes(writer.finish([first], [last]))
    return path


def write_openvino(path: Path) -> Path:
    import openvino

    model = openvino.Core().read_model(write_onnx(path.with_suffix(".onnx")))
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def raw_tflite(path: Path, x: np.ndarray) -> tuple[str, Call]:
    """Views of the tensors held, the wrapped interpreter called: nothing is copied out."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    feed = interpreter.tensor(interpreter.get_input_details()[0]["index"])()
    answer = interpreter.tensor(interpreter.get_output_details()[0]["index"])()
    invoke = interpreter._interpreter.Invoke

    def call() -> np.ndarray:
        feed[...] = x
        invoke()
        return answer

    call.keep = interpreter  # type: ignore[attr-defined]
    return "held views, wrapped Invoke", call


def raw_onnx(path: Path, x: np.ndarray) -> tuple[str, Call]:
    """Input and output bound once, the input copied in."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), settings, providers=["CPUExecutionProvider"])
    feed, answer = np.zeros((1, SIZES[0]), "float32"), np.zeros((1, SIZES[-1]), "float32")
    binding = session.io_binding()
    run, raw_binding = session._sess.run_with_iobinding, binding._iobinding
    held = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in (feed, answer)]
    binding.bind_ortvalue_input(session.get_inputs()[0].name, held[0])
    binding.bind_ortvalue_output(session.get_outputs()[0].name, held[1])

    def call() -> np.ndarray:
        feed[...] = x
        run(raw_binding, None)
        return answer

    return "bound once, wrapped run_with_iobinding", call


def raw_openvino(path: Path, x: np.ndarray) -> tuple[str, Call]:
    """The request's own buffers, the wrapped infer called."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    feed, answer = request.get_input_tensor(0).data, request.get_output_tensor(0).data
    infer = super(type(request), request).infer

    def call() -> np.ndarray:
        feed[...] = x
        infer({}, True, False)
        return answer

    return "request's own buffers, wrapped infer", call


ENGINES = {
    "tflite": ("autoencoder.tflite", write_tflite, raw_tflite),
    "onnx": ("autoencoder.onnx", write_onnx, raw_onnx),
    "openvino": ("autoencoder.xml", write_openvino, raw_openvino),
}


def block_us(call: Call) -> float:
    started = time.process_time_ns()
    for _ in range(BLOCK):
        call()
    return (time.process_time_ns() - started) / BLOCK / 1000


def measure(engine: str, folder: Path, rounds: int) -> Row:
    """Each opening of both is measured in its share of the rounds: where in memory one comes to lie is worth 5 us."""
    file, write, raw = ENGINES[engine]
    path = write(folder / file)
    x = np.random.default_rng(1).standard_normal((1, SIZES[0])).astype("float32")
    times: dict[str, list[float]] = {}
    for opening in range(OPENINGS):
        if opening % 2:
            pattern, raw_call = raw(path, x)
        identity = Processing.identity()
        _, session = open_session(path, detect_format(path), engine, EngineOptions(threads=1), processing=identity)
        if not opening % 2:
            pattern, raw_call = raw(path, x)
        if not np.allclose(session.run({"x": x})[session.signature.outputs[0].name], raw_call(), atol=1e-5):
            raise SystemExit(f"{engine}: the session and the raw pattern answer differently")
        time_calls(session, raw_call, x, -(-rounds // OPENINGS), times)
    added = [s - r for s, r in zip(times["session"], times["raw"], strict=True)]
    low, middle, high = statistics.quantiles(added, n=4)
    view, predict = (
        statistics.median(s - r for s, r in zip(times[ours], times[raw], strict=True))
        for ours, raw in (("view", "raw view"), ("predict", "raw"))
    )
    raw_us, session_us = statistics.median(times["raw"]), statistics.median(times["session"])
    return Row(engine, pattern, *(round(v, 2) for v in (raw_us, session_us, middle, low, high, view, predict)))


def time_calls(session: Session, raw_call: Call, x: np.ndarray, rounds: int, times: dict[str, list[float]]) -> None:
    feeds = {"x": x}
    calls: dict[str, Call] = {
        "raw": lambda: raw_call().copy(),
        "session": lambda: session.run(feeds),
        "raw view": raw_call,
        "view": lambda: session.run(feeds, copy=False),
        "predict": lambda: session.predict(x),
    }
    for turn in range(rounds + 1):
        for name in calls if turn % 2 else reversed(calls):
            took = block_us(calls[name])
            if turn:  # the first round warms up
                times.setdefault(name, []).append(took)


def table(rows: list[Row]) -> str:
    lines = [
        "| engine | raw, us | session, us | added, us (quartiles) | copy=False, us | by predict, us | raw pattern |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.engine} | {r.raw_us:.2f} | {r.session_us:.2f} | {r.added_us:.2f} ({r.added_low_us:.2f} to "
        f"{r.added_high_us:.2f}) | {r.view_added_us:.2f} | {r.predict_added_us:.2f} | {r.pattern} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What a session adds to the best raw pattern of each engine.")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    names = [name for name in ENGINES if RUNTIMES.get(name).probe().available]
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, Path(folder), arguments.rounds) for name in names]
    if arguments.json:
        print(json.dumps({"schema": "edgekit.overhead", "version": 1, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        print(table(rows))
    return int(any(r.added_us > BUDGET_US or r.predict_added_us > PREDICT_BUDGET_US for r in rows))


if __name__ == "__main__":
    sys.exit(main())
