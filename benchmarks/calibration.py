"""What gathering statistics on calibration data costs by the number of samples: our observers, ONNX Runtime's, NNCF.

    python benchmarks/calibration.py [--model mobilenet-v2:1.0] [--samples 64,200,1024] [--nncf PYTHON] [--tools ours]
                                     [--json]

Every figure is of a fresh process on one CPU: seconds of CPU time of the calibration, imports and reading the model
apart, and the peak resident memory of the process. Samples are random and made beforehand, so that none of it is
theirs. Ours and ONNX Runtime's include solving the ranges; NNCF has no calibration apart from `nncf.quantize`, whose
time without samples is therefore shown by what each further sample adds. NNCF runs where `--nncf` says which Python
has it, or where this one does. ONNX Runtime's histogram calibrators keep every activation of every sample, and are
run on at most 64.

Exits with 1 when our min-max takes more than 1.5 times the CPU seconds of NNCF for any number of samples, or when the
peak memory of one of ours grows by 5 % or more from the smallest number to the largest.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

CPU_LIMIT = 1.5
GROWTH_LIMIT = 0.05
POOL = 8
TIMEOUT_S = 1800.0
MOST = {"onnxruntime percentile": 64, "onnxruntime entropy": 64}
"""Samples beyond which a tool is not run, for the memory it takes."""

Feeds = dict[str, np.ndarray]
Stream = Callable[[], Iterator[Feeds]]


@dataclass(frozen=True)
class Figure:
    """One calibration in a process of its own."""

    tool: str
    samples: int
    cpu_s: float
    peak_mb: float


def ours(observer: str) -> Callable[[Path, Stream, int], Callable[[], None]]:
    def prepare(path: Path, stream: Stream, count: int) -> Callable[[], None]:
        from edgekit.graph import clean, load
        from edgekit.quantize.observers import observe
        from edgekit.registry import RUNTIMES

        graph = clean(load(path))
        RUNTIMES.get("onnx").probe().require("the benchmark")

        def calibrate() -> None:
            assert observe(graph, stream(), observer=observer).samples == count

        return calibrate

    return prepare


def onnxruntime(method: str) -> Callable[[Path, Stream, int], Callable[[], None]]:
    def prepare(path: Path, stream: Stream, count: int) -> Callable[[], None]:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.feeds = stream()

            def get_next(self) -> Feeds | None:
                return next(self.feeds, None)

        def calibrate() -> None:
            augmented = str(path.with_suffix(f".{os.getpid()}.onnx"))
            calibrator = create_calibrator(path, None, augmented, getattr(CalibrationMethod, method))
            calibrator.collect_data(Reader())
            calibrator.compute_data()

        return calibrate

    return prepare


def nncf(path: Path, stream: Stream, count: int) -> Callable[[], None]:
    import logging

    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.convert_model(path)

    def calibrate() -> None:
        nncf.quantize(model, nncf.Dataset(list(stream())), subset_size=count)

    return calibrate


TOOLS = {
    **{f"ours {name}": ours(name) for name in ("min-max", "moving-average", "percentile", "entropy", "mse")},
    "onnxruntime min-max": onnxruntime("MinMax"),
    "onnxruntime percentile": onnxruntime("Percentile"),
    "onnxruntime entropy": onnxruntime("Entropy"),
    "nncf": nncf,
}


def child(tool: str, path: Path, count: int) -> Figure:
    """Runs in the process that is measured."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with np.load(path.with_suffix(".npz")) as file:
        stacked = dict(file)
    pool = [{name: array[index] for name, array in stacked.items()} for index in range(POOL)]

    def stream() -> Iterator[Feeds]:
        return (pool[number % POOL] for number in range(count))

    calibrate = TOOLS[tool](path, stream, count)
    started = time.process_time()
    calibrate()
    cpu_s = time.process_time() - started
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return Figure(tool, count, round(cpu_s, 2), round(peak_kb / 1024, 1))


def write_model(name: str, folder: Path) -> Path:
    """The net as .onnx with the batch fixed to 1, and random inputs for it beside it."""
    from edgekit.graph import bind_dimensions, load, save, signature
    from edgekit.making import make_model

    path = folder / "net.onnx"
    make_model(name, output=path)
    graph = load(path)
    open_sizes = {dim for spec in signature(graph).inputs for dim in spec.shape if isinstance(dim, str)}
    graph = bind_dimensions(graph, {dim: 1 if dim == "batch" else 128 for dim in open_sizes})
    save(graph, path)
    rng = np.random.default_rng(0)
    feeds = {}
    for spec in signature(graph).inputs:
        shape = (POOL, *map(int, spec.shape))
        drawn = rng.normal(0, 1, shape) if spec.dtype.startswith("float") else rng.integers(0, 2, shape)
        feeds[spec.name] = drawn.astype(spec.dtype)
    np.savez(path.with_suffix(".npz"), **feeds)
    return path


def measure(tool: str, path: Path, count: int, python: str) -> Figure:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [python, "-P", str(Path(__file__).resolve()), "--child", tool, str(path), str(count)]
    ran = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip
    if ran.returncode:
        raise SystemExit(f"{tool}, {count} samples: {ran.stderr.strip()[-2000:]}")
    return Figure(**json.loads(ran.stdout.strip().splitlines()[-1]))


def table(figures: list[Figure]) -> str:
    counts = sorted({figure.samples for figure in figures})
    heads = [f"{count} samples: CPU s, peak MB" for count in counts]
    lines = [f"| observer | {' | '.join(heads)} | a sample, ms |", "|---" * (len(counts) + 2) + "|"]
    for tool in dict.fromkeys(figure.tool for figure in figures):
        own = {figure.samples: figure for figure in figures if figure.tool == tool}
        cells = [f"{own[n].cpu_s:.1f}, {own[n].peak_mb:.0f}" if n in own else "not run" for n in counts]
        first, last = own[min(own)], own[max(own)]
        added = 1000 * (last.cpu_s - first.cpu_s) / (last.samples - first.samples) if len(own) > 1 else None
        lines.append(f"| {tool} | {' | '.join(cells)} | {'' if added is None else f'{added:.1f}'} |")
    return "\n".join(lines)


def complaints(figures: list[Figure]) -> list[str]:
    found = []
    seconds = {(figure.tool, figure.samples): figure.cpu_s for figure in figures}
    for (tool, count), cpu_s in seconds.items():
        theirs = seconds.get(("nncf", count))
        if tool == "ours min-max" and theirs is not None and cpu_s > CPU_LIMIT * theirs:
            found.append(f"{count} samples: {cpu_s} s is more than {CPU_LIMIT} times NNCF's {theirs} s")
    for tool in {figure.tool for figure in figures if figure.tool.startswith("ours")}:
        own = sorted((figure.samples, figure.peak_mb) for figure in figures if figure.tool == tool)
        if own[-1][1] >= (1 + GROWTH_LIMIT) * own[0][1]:
            found.append(f"{tool}: peak memory grows from {own[0][1]} to {own[-1][1]} MB")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="What calibration costs by the number of samples.")
    parser.add_argument("--model", default="mobilenet-v2:1.0")
    parser.add_argument("--samples", default="64,200,1024")
    parser.add_argument("--tools", default="", help="only those whose name begins with one of these")
    parser.add_argument("--nncf", default=sys.executable if importlib.util.find_spec("nncf") else "", metavar="PYTHON")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        tool, path, count = arguments.child
        print(json.dumps(asdict(child(tool, Path(path), int(count)))))
        return 0
    return run(arguments)


def run(arguments: Any) -> int:
    figures = []
    wanted = tuple(filter(None, arguments.tools.split(",")))
    with tempfile.TemporaryDirectory() as folder:
        path = write_model(arguments.model, Path(folder))
        for tool in TOOLS:
            if wanted and not tool.startswith(wanted):
                continue
            if tool == "nncf" and not arguments.nncf:
                print("nncf is not installed here: --nncf PYTHON says where it is", file=sys.stderr)
                continue
            for count in map(int, arguments.samples.split(",")):
                if count <= MOST.get(tool, count):
                    python = arguments.nncf if tool == "nncf" else sys.executable
                    figures.append(measure(tool, path, count, python))
                    print(figures[-1], file=sys.stderr)
    found = complaints(figures)
    if arguments.json:
        rows = [asdict(figure) for figure in figures]
        print(json.dumps({"schema": "edgekit.calibration", "version": 1, "rows": rows, "complaints": found}, indent=1))
    else:
        print("\n".join([table(figures), *found]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
