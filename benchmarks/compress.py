"""What compression does to tiny nets: size, latency in every engine, and the metric, before anything is tuned again.

    python benchmarks/compress.py --nets resnet:tiny,ds-cnn:tiny --rounds 40

Each case is held against the same net as it was, written by the same road: blocks of calls of both take turns, in the
order A B, B A, so that what else the machine does falls on both. Told are the ratio of tenth percentiles of CPU time,
of the blocks that were disturbed least, and the quartiles of the ratios of the pairs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgekit.compress import Effect, compress, store_palettes
from edgekit.datasets import open_dataset
from edgekit.feeds import random_feeds
from edgekit.graph import bind_dimensions, clean, copy_of, load, save, signature
from edgekit.making import find_model
from edgekit.named_files import file_of
from edgekit.opening import open_session
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.scoring import make_scorer, questions_of

BLOCK_MS = 8.0
ENGINES = ("onnx", "openvino", "tflite")
PALETTES = "stored as palettes"
CASES: dict[str, list[dict[str, Any]]] = {
    "half of the weights zero": [{"method": "prune-magnitude", "sparsity": 0.5}],
    "2 of 4 weights": [{"method": "prune-n-m", "keep": 2, "of": 4}],
    "16 values": [{"method": "cluster", "bits": 4}],
    f"16 values, {PALETTES}": [{"method": "cluster", "bits": 4}],
    "16 values, 6 times smaller": [{"method": "cluster", "bits": 4, "times_smaller": 6.0}],
    "low rank, error 0.2": [{"method": "factorize", "max_error": 0.2}],
    "low rank, error 0.35": [{"method": "factorize", "max_error": 0.35}],
    "channels, half the MACs": [{"method": "prune-channels", "macs": 0.5}],
    "channels, any number": [{"method": "prune-channels", "macs": 0.5, "multiple": 1}],
    "channels, by activation": [{"method": "prune-channels", "macs": 0.5, "importance": "activation"}],
}


@dataclass(frozen=True)
class Row:
    """One net, one case.

    Attributes:
        speedup: By engine, how many times as fast it is as the net was: of the tenth percentiles, and the lower and
            upper quartile of the pairs.
    """

    net: str
    case: str
    effect: Effect
    metric: str
    value_before: float
    value: float
    onnx_file_bytes: int
    speedup: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Net:
    """A net with its judge and typical inputs."""

    name: str
    graph: ir.Model
    metric: str
    score: Callable[[ir.Model], float]
    feeds: list[dict[str, np.ndarray]]


def open_net(name: str, samples: int) -> Net:
    model, graph = find_model(name), clean(load(file_of(name)))
    dataset = open_dataset(model.family.data)
    promised = signature(graph)
    judge = make_scorer(model.family, dataset.samples("test", limit=samples), promised, model.processing)

    def score(one: ir.Model) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "judged.onnx")
            save(copy_of(one), path)
            with Session(RUNTIMES.get("onnx").open(path, EngineOptions(threads=1)), runtime="onnx") as session:
                return judge(lambda feeds: session.run(dict(feeds)))

    learned = dataset.samples("calibration", limit=32)
    asked = questions_of(model.family, learned, promised, model.processing)
    feeds = [dict(part) for question in asked for part in question.parts]
    return Net(name, graph, model.family.metric, score, feeds[:32])


def written(graph: ir.Model, engine: str, folder: Path, name: str) -> Path:
    """A file of batch 1 for the engine, by our own writer."""
    converter = next(one for _, one in CONVERTERS if one.format == engine)
    path = folder / f"{name}{converter.suffix}"
    return Path(converter.write(bind_dimensions(graph), path, precision="fp32", plan=None).files[0])


def speedup(before: Path, after: Path, engine: str, rounds: int) -> tuple[float, float, float]:
    """CPU time of the one over that of the other: of tenth percentiles, and the quartiles of pairs."""
    sessions = [open_session(path, engine, engine, EngineOptions(threads=1))[1] for path in (before, after)]
    calls = []
    for session in sessions:
        (feeds,) = random_feeds(session.signature, count=1, limit=2)
        calls.append(partial(session.run, feeds, copy=False))
    count = max(1, int(BLOCK_MS / max(1e-3, block_ms(calls[0], 5))))
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for index in (0, 1) if turn % 2 else (1, 0):
            took = block_ms(calls[index], count)
            if turn:  # the first round warms up
                times[index].append(took)
    for session in sessions:
        session.close()
    low, _, high = statistics.quantiles([a / b for a, b in zip(*times, strict=True)], n=4)
    best = np.percentile(times[0], 10) / np.percentile(times[1], 10)
    return round(float(best), 3), round(low, 3), round(high, 3)


def block_ms(call: Callable[[], Any], count: int) -> float:
    """CPU time of a call, the mean over a block of them."""
    started = time.process_time_ns()
    for _ in range(count):
        call()
    return (time.process_time_ns() - started) / count / 1e6


def measure(net: Net, case: str, value_before: float, rounds: int, folder: Path) -> Row:
    graph, effects = compress(net.graph, CASES[case], feeds=net.feeds)
    stored = store_palettes(graph) if case.endswith(PALETTES) else graph
    found, size = {}, 0
    for engine in ENGINES:
        if stored is not graph and engine == "tflite":
            continue  # it would put the weights together in every call
        before, after = (written(one, engine, folder, name) for one, name in ((net.graph, "was"), (stored, "is")))
        size = after.stat().st_size if engine == "onnx" else size
        found[engine] = speedup(before, after, engine, rounds)
    value = net.score(stored)
    return Row(net.name, case, effects[-1], net.metric, value_before, value, size, found)


def table(rows: list[Row]) -> str:
    lines = [
        "| net | case | ops | MACs | weights raw, KB | gzip, KB (times smaller than raw before) | palettes, gzip | "
        "weight error | metric | " + " | ".join(f"{engine}, times as fast" for engine in ENGINES) + " |",
        "|---|---|---|---|---|---|---|---|---|" + "---|" * len(ENGINES),
    ]
    for row in rows:
        e = row.effect
        speeds = [
            "{:.2f} ({:.2f} to {:.2f})".format(*row.speedup[engine]) if engine in row.speedup else ""
            for engine in ENGINES
        ]
        lines.append(
            f"| {row.net} | {row.case} | {len(e.operations)} | {e.macs_after / max(1, e.macs_before):.2f} | "
            f"{e.weight_bytes_after / 1024:.0f} | {e.gzip_bytes_after / 1024:.0f} "
            f"({e.weight_bytes_before / e.gzip_bytes_after:.2f}) | "
            f"{e.weight_bytes_before / e.palette_gzip_bytes_after:.2f} | {e.max_weight_error:.2f} | "
            f"{row.metric} {row.value:.3f} (was {row.value_before:.3f}) | {' | '.join(speeds)} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What compression does to tiny nets.")
    parser.add_argument("--nets", default="resnet:tiny,mobilenet-v2:tiny,ds-cnn:tiny,unet:tiny")
    parser.add_argument("--cases", default=",".join(str(number) for number in range(len(CASES))), help="by number")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    chosen = [list(CASES)[int(number)] for number in arguments.cases.split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.nets.split(","):
            net = open_net(name, arguments.samples)
            value = net.score(net.graph)
            for case in chosen:
                print(f"{name}: {case}", file=sys.stderr)
                rows.append(measure(net, case, value, arguments.rounds, Path(folder)))
    if arguments.json:
        document = {"schema": "edgekit.compression", "version": 1, "rows": [asdict(row) for row in rows]}
        print(json.dumps(document, indent=1))
    else:
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
