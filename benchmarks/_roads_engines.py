"""What a converted file answers, and how fast: in a process of its own, one thread.

    python _roads_engines.py answer SOURCE.onnx FEEDS.npz RESULTS.npz
    python _roads_engines.py judge FILE FEEDS.npz RESULTS.npz
    python _roads_engines.py race OURS OTHER FEEDS.npz SECONDS ROUNDS FIRST

Prints one JSON line. Times are CPU time of the process, so that other work on the machine is not counted.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

_BLOCK_S = 0.01
"""Calls are timed in blocks of about this long."""
_LEAST_ROUNDS = 3
_SLOW_MS = 100.0
"""A call beyond this is a block by itself."""


@dataclass(frozen=True)
class Opened:
    """A file in its engine, fed.

    Attributes:
        run: Computes.
        answers: The outputs by name after that.
    """

    run: Callable[[], object]
    answers: Callable[[], Arrays]


def as_asked(array: np.ndarray, shape: Sequence[Any], dtype: Any) -> np.ndarray:
    """A feed as a file wants it, which may have its channels last."""
    wanted = [size if isinstance(size, int) and size > 0 else None for size in shape]
    for candidate in (array, np.moveaxis(array, 1, -1) if array.ndim > 2 else array):
        if all(w in (None, n) for w, n in zip(wanted, candidate.shape, strict=True)):
            return np.ascontiguousarray(candidate, dtype)
    raise SystemExit(f"an input of shape {list(shape)} cannot be fed with {list(array.shape)}")


def feed_for(name: str, place: int, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    """By name; by place for those that number their inputs, as litert-torch does."""
    plain = re.sub(r"^serving_default_|:\d+$", "", name)
    if plain in feeds:
        return feeds[plain]
    numbered = re.fullmatch(r"args_(\d+)", plain)
    return list(feeds.values())[int(numbered[1]) if numbered else place]


def open_tflite(path: Path, feeds: Mapping[str, np.ndarray]) -> Opened:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    names = [{detail["index"]: detail["name"] for detail in side} for side in (inputs, outputs)]
    for key in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(key)
        for own, given in zip(names, (runner.get_input_details(), runner.get_output_details()), strict=True):
            own.update({detail["index"]: name for name, detail in given.items()})
    for place, detail in enumerate(inputs):
        feed = feed_for(names[0][detail["index"]], place, feeds)
        interpreter.set_tensor(detail["index"], as_asked(feed, detail["shape"].tolist(), detail["dtype"]))
    return Opened(
        interpreter.invoke,
        lambda: {names[1][detail["index"]]: interpreter.get_tensor(detail["index"]) for detail in outputs},
    )


def open_onnx(path: Path, feeds: Mapping[str, np.ndarray]) -> Opened:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(int32)": "int32"}
    given = {
        value.name: as_asked(feed_for(value.name, place, feeds), value.shape, kinds[value.type])
        for place, value in enumerate(session.get_inputs())
    }
    names = [value.name for value in session.get_outputs()]
    return Opened(lambda: session.run(None, given), lambda: dict(zip(names, session.run(None, given), strict=True)))


def open_openvino(path: Path, feeds: Mapping[str, np.ndarray]) -> Opened:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    model = openvino.Core().read_model(path)
    given = {}
    for place, port in enumerate(model.inputs):
        shape = [size.get_length() if size.is_static else None for size in port.get_partial_shape()]
        given[place] = as_asked(feed_for(port.get_any_name(), place, feeds), shape, port.get_element_type().to_dtype())
    model.reshape({place: list(array.shape) for place, array in given.items()})
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    for place, array in given.items():
        request.set_input_tensor(place, openvino.Tensor(array))
    names = [port.get_any_name() if port.get_names() else str(place) for place, port in enumerate(compiled.outputs)]
    return Opened(
        request.infer,
        lambda: {name: request.get_output_tensor(place).data.copy() for place, name in enumerate(names)},
    )


OPENERS = {".tflite": open_tflite, ".onnx": open_onnx, ".xml": open_openvino}


def opened(path: Path, feeds: Mapping[str, np.ndarray]) -> Opened:
    file = OPENERS[path.suffix](path, feeds)
    file.run()
    return file


def arrays_of(path: str) -> Arrays:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def error_share(answers: Arrays, right: Arrays) -> float:
    """The largest difference over all outputs, as a share of that output's range, which is taken to include 0."""
    named = all(name in answers for name in right)
    found = [answers[name] for name in right] if named else list(answers.values())
    if len(found) != len(right):
        raise SystemExit(f"{len(found)} outputs instead of {len(right)}")
    worst = 0.0
    for array, wanted in zip(found, right.values(), strict=True):
        if array.shape != wanted.shape and array.ndim > 2:
            array = np.moveaxis(array, -1, 1)
        if array.shape != wanted.shape:
            raise SystemExit(f"an output of shape {list(array.shape)} instead of {list(wanted.shape)}")
        extent = max(wanted.max(), 0.0) - min(wanted.min(), 0.0)
        worst = max(worst, float(np.abs(array - wanted).max() / (extent or 1.0)))
    return worst


def operations(path: Path) -> Counter[str]:
    """How often each operation is there; constants, inputs and outputs are none."""
    if path.suffix == ".tflite":
        from edgekit.converters.tflite.reading import read_model

        return Counter(op.code for graph in read_model(path).graph.graphs() for op in graph.ops)
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(path, load_external_data=False)
        return Counter(node.op_type for node in model.graph.node if node.op_type != "Constant")
    import openvino

    kinds = (op.get_type_name() for op in openvino.Core().read_model(path).get_ordered_ops())
    return Counter(kind for kind in kinds if kind not in ("Constant", "Parameter", "Result"))


def answer(source: str, feeds: str, results: str) -> dict[str, Any]:
    np.savez(results, **opened(Path(source), arrays_of(feeds)).answers())  # type: ignore[arg-type]
    return {}


def judge(path: str, feeds: str, results: str) -> dict[str, Any]:
    found = operations(Path(path))
    error = error_share(opened(Path(path), arrays_of(feeds)).answers(), arrays_of(results))
    counts = {"transposes": found["TRANSPOSE"] + found["Transpose"], "reshapes": found["RESHAPE"] + found["Reshape"]}
    size = Path(path).stat().st_size + (Path(path).with_suffix(".bin").stat().st_size if path.endswith(".xml") else 0)
    return {
        "error": error,
        "ops": sum(found.values()),
        **counts,
        "size_bytes": size,
        "kinds": dict(found.most_common()),
    }


def block_ms(run: Callable[[], object], calls: int) -> float:
    started = time.process_time_ns()
    for _ in range(calls):
        run()
    return (time.process_time_ns() - started) / calls / 1e6


def race(ours: str, other: str, feeds: str, seconds: str, rounds: str, first: str) -> dict[str, Any]:
    """Times by turns, A B and B A; which file is opened first, and so where its memory lies, is `first`'s to say."""
    paths = [ours, other] if first == "ours" else [other, ours]
    given = arrays_of(feeds)
    runs = {path: OPENERS[Path(path).suffix](Path(path), given).run for path in paths}
    cold_ms = max(block_ms(run, 1) for run in runs.values())
    warm_ms = cold_ms if cold_ms > _SLOW_MS else block_ms(runs[other], 1)
    calls = max(1, int(_BLOCK_S * 1e3 / max(warm_ms, 1e-3)))
    times: dict[str, list[float]] = {path: [] for path in paths}
    started = time.perf_counter()
    while len(times[ours]) < int(rounds):
        if len(times[ours]) >= _LEAST_ROUNDS and time.perf_counter() - started > float(seconds):
            break
        for path in paths if len(times[ours]) % 2 else paths[::-1]:
            times[path].append(block_ms(runs[path], calls))
    return {"ours_ms": times[ours], "other_ms": times[other]}


if __name__ == "__main__":
    print("\n" + json.dumps({"answer": answer, "judge": judge, "race": race}[sys.argv[1]](*sys.argv[2:])))
