"""What `profile` says beside what each engine's own benchmark tool says of the same file, in turns.

    python benchmarks/agreement.py [--nets mobilenet-v2:1.0,resnet:50] [--pairs 9] [--calls 300] [--json]

The tools are those the engines' wheels bring: OpenVINO's ``benchmark_app`` (one request, one stream, synchronous, f32,
no hint, threads not pinned), LiteRT's ``litert-benchmark``, and ``onnxruntime.tools.onnxruntime_test``, which takes the
threads the engine takes by itself and prints an average only, so it is held against profile's average with threads left
to the engine. Beside them stands a bare loop in a fresh process for each engine, see ``_agreement_loops.py``. But for
onnxruntime_test all run one thread, and the same number of calls.

Every figure is of fresh processes. A pair is one run of ours and one of the tool, in turns (A B, B A, ...); its ratio
is ours over the tool's. Processes of one file differ by some per cent for their whole lives, by where their memory
comes to lie: so it is pairs that count, and the tool is held against its own run before, to show what no tool can tell
apart. Files take a batch of 1, for benchmark_app has another loop for open sizes.
It exits with 1 if a median ratio is off by more than the bar.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import edgekit
from edgekit.bundle import Bundle
from edgekit.measuring.stopping import interval_of
from edgekit.profiling import profile
from edgekit.registry import RUNTIMES

BAR = 0.03
SHAPE = "1,3,224,224"
SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
LOOPS = Path(__file__).with_name("_agreement_loops.py")


@dataclass(frozen=True)
class Tool:
    """What profile is held against: ``run(file, calls)`` gives milliseconds a call."""

    name: str
    statistic: str
    threads: int | None
    run: Callable[[Path, int], float]


@dataclass(frozen=True)
class Row:
    """A net in an engine beside a tool; medians over the pairs, ratios with the 95 % interval of their median."""

    net: str
    engine: str
    tool: str
    statistic: str
    threads: int | None
    ours_ms: float
    tool_ms: float
    ratio: float
    low: float
    high: float
    tool_apart: float
    agrees: bool


def output_of(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def run_benchmark_app(path: Path, calls: int) -> float:
    said = output_of(
        sys.executable, "-c", "from openvino.tools.benchmark.main import main; main()", "-m", str(path), "-d", "CPU",
        "-hint", "none", "-nstreams", "1", "-nireq", "1", "-api", "sync", "-nthreads", "1", "-pin", "NO",
        "-infer_precision", "f32", "-niter", str(calls),
    )  # fmt: skip
    found = re.search(r"Median:\s+([\d.]+) (us|ms)", said)
    if found is None:
        raise SystemExit(f"benchmark_app printed no median:\n{said[-2000:]}")
    return float(found[1]) / (1000 if found[2] == "us" else 1)


def run_litert_benchmark(path: Path, calls: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        output_of(
            sys.executable, "-m", "ai_edge_litert.tools.benchmark_litert_model", "--model", str(path),
            "--num_runs", str(calls), "--warmup_runs", str(calls // 2), "--num_threads", "1",
            "--result_json", str(result),
        )  # fmt: skip
        return float(json.loads(result.read_text())["latency"]["median_ms"])


def run_onnxruntime_test(path: Path, calls: int) -> float:
    said = output_of(sys.executable, "-m", "onnxruntime.tools.onnxruntime_test", str(path), str(calls))
    found = re.search(r"avg latency: ([\d.e-]+) ms", said)
    if found is None:
        raise SystemExit(f"onnxruntime_test printed no average:\n{said[-2000:]}")
    return float(found[1])


def bare_loop(engine: str) -> Tool:
    def run(path: Path, calls: int) -> float:
        return float(json.loads(output_of(sys.executable, str(LOOPS), engine, str(path), str(calls), "1"))["p50_ms"])

    return Tool("bare loop", "p50", 1, run)


TOOLS = {
    "openvino": [Tool("benchmark_app", "p50", 1, run_benchmark_app), bare_loop("openvino")],
    "tflite": [Tool("litert-benchmark", "p50", 1, run_litert_benchmark), bare_loop("tflite")],
    "onnx": [Tool("onnxruntime_test", "mean", None, run_onnxruntime_test), bare_loop("onnx")],
}


def ours(path: Path, engine: str, tool: Tool, calls: int) -> float:
    """Milliseconds by profile, in the process it makes; rounds of a fixed number, so that the calls are as many."""
    found = profile(
        path, runtime=engine, threads=tool.threads, rounds=10, min_samples=calls, min_time_s=0.0, max_time_s=600.0,
        cold_starts=0,
    ).measurements[0]  # fmt: skip
    if found.latency is None:
        raise SystemExit(f"{engine} was not measured: {found.reason}")
    summary = found.latency.summary
    return (summary.p50_us if tool.statistic == "p50" else summary.mean_us) / 1000


def measure(net: str, engine: str, path: Path, tool: Tool, pairs: int, calls: int) -> Row:
    both: list[tuple[float, float]] = []
    for turn in range(pairs):
        if turn % 2:
            theirs = tool.run(path, calls)
            both.append((ours(path, engine, tool, calls), theirs))
        else:
            mine = ours(path, engine, tool, calls)
            both.append((mine, tool.run(path, calls)))
        print(f"{net} {engine} {tool.name}: pair {turn + 1} of {pairs}", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    ratios = [a / b for a, b in both]
    interval, ratio = interval_of(ratios), statistics.median(ratios)
    apart = [abs(after / before - 1) for before, after in pairwise(b for _, b in both)]
    return Row(
        net=net,
        engine=engine,
        tool=tool.name,
        statistic=tool.statistic,
        threads=tool.threads,
        ours_ms=round(statistics.median(a for a, _ in both), 4),
        tool_ms=round(statistics.median(b for _, b in both), 4),
        ratio=round(ratio, 4),
        low=round(interval.low if interval else min(ratios), 4),
        high=round(interval.high if interval else max(ratios), 4),
        tool_apart=round(statistics.median(apart), 4) if apart else 0.0,
        agrees=abs(ratio - 1) <= BAR,
    )


def files_of(net: str, folder: Path, engines: list[str]) -> dict[str, Path]:
    """The fp32 file of each engine's own format, as `convert` writes it, under a name the tools take it by."""
    bundle = folder / f"{net.replace(':', '-')}.edge"
    edgekit.convert(net, bundle, format=engines, precision="fp32", input_shape=SHAPE)
    found = {}
    for artifact in Bundle.open(bundle).variants:
        if artifact.format in engines:
            found[artifact.format] = plain_copy(artifact.path, folder / f"{bundle.stem}{SUFFIXES[artifact.format]}")
    return found


def plain_copy(path: Path, to: Path) -> Path:
    to.write_bytes(path.read_bytes())
    if path.with_suffix(".bin").is_file():
        to.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes())
    return to


def table(rows: list[Row]) -> str:
    lines = [
        "| net | engine | tool | of | threads | profile, ms | tool, ms | ratio (95 %) | tool to itself | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        threads = "engine's" if r.threads is None else r.threads
        lines.append(
            f"| {r.net} | {r.engine} | {r.tool} | {r.statistic} | {threads} | {r.ours_ms:.3f} | {r.tool_ms:.3f} | "
            f"{r.ratio:.3f} ({r.low:.3f} to {r.high:.3f}) | +-{r.tool_apart:.1%} | {'' if r.agrees else 'APART'} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What profile says beside what each engine's own benchmark tool says.")
    parser.add_argument("--nets", default="mobilenet-v2:1.0", help=f"nets that take {SHAPE}")
    parser.add_argument("--engines", default=",".join(TOOLS))
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    engines = [name for name in arguments.engines.split(",") if RUNTIMES.get(name).probe().available]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for net in arguments.nets.split(","):
            files: dict[str, Any] = files_of(net, Path(folder), engines)
            for engine in engines:
                for tool in TOOLS[engine]:
                    rows.append(measure(net, engine, files[engine], tool, arguments.pairs, arguments.calls))
    if arguments.json:
        print(
            json.dumps({"schema": "edgekit.agreement", "version": 1, "rows": [asdict(row) for row in rows]}, indent=1)
        )
    else:
        print(table(rows))
    return int(not all(row.agrees for row in rows))


if __name__ == "__main__":
    sys.exit(main())
