"""Many callers of one session, beside the ways to keep every core busy with a bare engine.

    python benchmarks/concurrency.py [--rounds 8] [--items 48] [--callers 8] [--net mobilenet-v2:1.0] [--json]

The net has random weights and a batch of 1. For each engine the raw patterns are those that were fastest on some
machine: one caller and all cores for each call; a caller for each core, on one session of one thread that they share
(ONNX Runtime), on an interpreter each (TFLite), on a request each of a model of as many streams (OpenVINO); and
OpenVINO's own AsyncInferQueue. Ours is one session of one thread, called by a thread for each core and by `--callers`
of them, each with a picture of its own. All take turns (A B C, C B A, ...) with the same number of calls; a round gives
one ratio of ours to each raw pattern, and the pattern that lost least is the one we are held against. Answers that
differ from what the same session gave before, alone, are counted. It exits with 1 where there are any, or where the
median ratio is below 0.95.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import edgekit
from edgekit.bundle import Bundle
from edgekit.cores import num_cores
from edgekit.opening import open_session
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session

ENGINES = ("tflite", "onnx", "openvino")
BAR = 0.95
CORES = num_cores()

Work = Callable[[int], None]
"""So many calls, made by one caller."""


@dataclass(frozen=True)
class Row:
    """One engine: items a second, and how ours compares in each round with the raw pattern that is nearest to it."""

    engine: str
    raw: dict[str, float]
    session: dict[str, float]
    ratio: dict[str, tuple[float, float, float]]
    wrong: int


def raw_tflite(path: Path, x: np.ndarray) -> dict[str, list[Work]]:
    from ai_edge_litert.interpreter import Interpreter

    content = path.read_bytes()

    def caller(threads: int) -> Work:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        into, out = (side[0]["index"] for side in (interpreter.get_input_details(), interpreter.get_output_details()))

        def work(count: int) -> None:
            for _ in range(count):
                interpreter.set_tensor(into, x)
                interpreter.invoke()
                interpreter.get_tensor(out)

        return work

    return {"all cores a call": [caller(CORES)], "an interpreter each": [caller(1) for _ in range(CORES)]}


def raw_onnx(path: Path, x: np.ndarray) -> dict[str, list[Work]]:
    import onnxruntime

    def session(threads: int) -> Work:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
        opened = onnxruntime.InferenceSession(path.read_bytes(), settings, providers=["CPUExecutionProvider"])
        feeds = {opened.get_inputs()[0].name: x}

        def work(count: int) -> None:
            for _ in range(count):
                opened.run(None, feeds)

        return work

    return {"all cores a call": [session(CORES)], "one session shared": [session(1)] * CORES}


def raw_openvino(path: Path, x: np.ndarray) -> dict[str, list[Work]]:
    import openvino

    core, hint = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    one = core.compile_model(path, "CPU", {**hint, "PERFORMANCE_HINT": "LATENCY"})
    streams = core.compile_model(path, "CPU", {**hint, "NUM_STREAMS": CORES, "INFERENCE_NUM_THREADS": CORES})
    queue = openvino.AsyncInferQueue(streams, CORES)

    def request(compiled: openvino.CompiledModel) -> Work:
        made = compiled.create_infer_request()

        def work(count: int) -> None:
            for _ in range(count):
                made.infer(x, share_inputs=True)

        return work

    def enqueue(count: int) -> None:
        for _ in range(count):
            queue.start_async(x, share_inputs=True)
        queue.wait_all()

    return {
        "all cores a call": [request(one)],
        "a request each": [request(streams) for _ in range(CORES)],
        "AsyncInferQueue": [enqueue],
    }


RAW = {"tflite": raw_tflite, "onnx": raw_onnx, "openvino": raw_openvino}


def callers(session: Session, count: int, wrong: list[int]) -> list[Work]:
    """So many threads' work on one session; each says how often it got another answer than it gets alone."""
    spec = session.signature.inputs[0]
    shape = [d if isinstance(d, int) else 1 for d in spec.shape]

    def caller(index: int) -> Work:
        x = np.random.default_rng(index).standard_normal(shape).astype("float32")
        right = session.run({spec.name: x})

        def work(calls: int) -> None:
            for _ in range(calls):
                answer = session.run({spec.name: x})
                wrong.extend(1 for name in right if not np.array_equal(answer[name], right[name]))

        return work

    return [caller(index) for index in range(count)]


def rate(works: Sequence[Work], items: int) -> float:
    """Items a second of wall time, when all work at the same time."""
    each = max(1, items // len(works))
    threads = [threading.Thread(target=work, args=(each,)) for work in works]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return each * len(works) / (time.perf_counter() - started)


def measure(engine: str, path: Path, counts: Sequence[int], rounds: int, items: int) -> Row:
    _, session = open_session(path, engine, engine, EngineOptions(threads=1))
    wrong: list[int] = []
    ours = {f"{count} callers": callers(session, count, wrong) for count in counts}
    shape = [d if isinstance(d, int) else 1 for d in session.signature.inputs[0].shape]
    raw = RAW[engine](path, np.random.default_rng(0).standard_normal(shape).astype("float32"))
    patterns = {**raw, **ours}
    rates: dict[str, list[float]] = {name: [] for name in patterns}
    for turn in range(rounds + 1):
        for name in patterns if turn % 2 else reversed(patterns):
            got = rate(patterns[name], items)
            if turn:  # the first round warms up, and opens the lanes
                rates[name].append(got)
    middle = {name: round(statistics.median(got), 1) for name, got in rates.items()}
    best = max(raw, key=lambda name: middle[name])
    ratio = {name: _quartiles([a / b for a, b in zip(rates[name], rates[best], strict=True)]) for name in ours}
    return Row(engine, {name: middle[name] for name in raw}, {name: middle[name] for name in ours}, ratio, len(wrong))


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return round(low, 3), round(middle, 3), round(high, 3)


def table(rows: list[Row]) -> str:
    lines = [
        "| engine | raw, items/s | one session, items/s | ours / best raw (quartiles) | wrong |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        raw, ours = (", ".join(f"{name} {got:g}" for name, got in side.items()) for side in (row.raw, row.session))
        ratio = ", ".join(f"{name} {mid:.3f} ({low:.3f} to {high:.3f})" for name, (low, mid, high) in row.ratio.items())
        lines.append(f"| {row.engine} | {raw} | {ours} | {ratio} | {row.wrong} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Many callers of one session, beside bare engines.")
    parser.add_argument("--net", default="mobilenet-v2:1.0", help="a family and size of `edgekit list models`")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--items", type=int, default=48, help="calls a round of each pattern")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    names = [name for name in ENGINES if RUNTIMES.get(name).probe().available]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.edge"
        edgekit.convert(arguments.net, path, format=names, precision="fp32")
        files = {artifact.format: artifact.path for artifact in Bundle.open(path).variants}
        counts = sorted({CORES, arguments.callers})
        rows = [measure(name, files[name], counts, arguments.rounds, arguments.items) for name in names]
    if arguments.json:
        print(
            json.dumps({"schema": "edgekit.concurrency", "version": 1, "rows": [asdict(row) for row in rows]}, indent=1)
        )
    else:
        print(table(rows))
    return int(any(row.wrong or min(middle for _, middle, _ in row.ratio.values()) < BAR for row in rows))


if __name__ == "__main__":
    sys.exit(main())
