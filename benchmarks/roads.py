"""Our roads beside others', on the same seven nets: cost of converting, what comes out, and how fast that runs.

    python benchmarks/roads.py [--install] [--nets mobilenet,bert] [--roads onnx2tf,litert-torch] [--json]

The nets are made by edgekit, with the same weights in every form: .onnx, .keras and .pt2. Every conversion runs in a
fresh process; its time is CPU time without imports, the least of a few runs. Latencies are CPU times of one thread: our
file and the other take turns within a process, each round gives one ratio, and half of the processes open ours first.

Exits with 1 when, in the median over the nets, our TFLite file takes more than 1.03 times as long as that of
TensorFlow's converter, or writing it more than a fifth of what litert-torch takes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _roads_places import HERE, LITERT_TORCH, ONNX2TF, Place, run

LATENCY_LIMIT = 1.03
WRITING_LIMIT = 1 / 5
REPEATS = 3
REPEAT_BUDGET_S = 15.0
"""A conversion is not done again when all so far took longer."""
PROCESSES = 8
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Net:
    """A model: its name for edgekit, and a number for each size it leaves open."""

    model: str
    sizes: dict[str, int] = field(default_factory=dict)


NETS = {
    "mobilenet": Net("mobilenet-v2:1.0"),
    "resnet50": Net("resnet:50"),
    "lite0": Net("efficientnet-lite:lite0"),
    "unet": Net("unet:64"),
    "yolo": Net("yolo:nano"),
    "bert": Net("bert:minilm-l6"),
    "wavenet": Net("wavenet:tiny"),
}
OPEN_SIZE = 128
"""For sizes other than the batch: the words of bert."""


@dataclass(frozen=True)
class Way:
    """A road as it stands in the table.

    Attributes:
        road: Of `_roads_child.ROADS`.
        source: Suffix of the form it begins with; ``fixed.onnx`` has a number for every size.
        target: Suffix of what it writes.
        rival: The road of ours beside which it stands; empty for ours.
        place: Its environment.
    """

    road: str
    source: str
    target: str
    rival: str = ""
    place: Place = HERE


WAYS = {
    way.road: way
    for way in (
        Way("ours", ".onnx", ".tflite"),
        Way("tensorflow", ".keras", ".tflite", "ours"),
        Way("litert-torch", ".pt2", ".tflite", "ours", LITERT_TORCH),
        Way("onnx2tf", ".fixed.onnx", ".tflite", "ours", ONNX2TF),
        Way("ours-to-openvino", ".onnx", ".xml"),
        Way("ovc", ".fixed.onnx", ".xml", "ours-to-openvino"),
        Way("ours-from-keras", ".keras", ".onnx"),
        Way("tf2onnx-from-keras", ".keras", ".onnx", "ours-from-keras"),
        Way("ours-from-tflite", ".tflite", ".onnx"),
        Way("tf2onnx-from-tflite", ".tflite", ".onnx", "ours-from-tflite"),
    )
}


@dataclass
class Row:
    """One net on one road; times in the units of the names, None where there is no file to measure."""

    net: str
    road: str
    source: str
    target: str
    failure: str = ""
    cpu_s: float | None = None
    clock_s: float | None = None
    import_cpu_s: float | None = None
    peak_mb: float | None = None
    ops: int | None = None
    transposes: int | None = None
    reshapes: int | None = None
    error: float | None = None
    size_bytes: int | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    latency_ms: float | None = None
    ours_ms: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    rounds: int = 0


class Bench:
    """The nets made, the roads driven, the files raced; all files in one folder."""

    def __init__(self, folder: Path, seconds: float, rounds: int) -> None:
        self.folder = folder
        self.seconds = seconds
        self.rounds = rounds

    def make(self, net: str, suffixes: set[str]) -> None:
        """The forms of a net that are not there yet, its feeds, and what ONNX Runtime answers to them."""
        from edgekit.graph import bind_dimensions, load, save, signature
        from edgekit.making import make_model

        for suffix in sorted({".onnx", *suffixes} & {".onnx", ".keras", ".pt2"}):
            if not self.file(net, suffix).exists():
                make_model(NETS[net].model, output=self.file(net, suffix))
        graph = load(self.file(net, ".onnx"))
        fixed = bind_dimensions(graph, self.sizes(net))
        save(fixed, self.file(net, ".fixed.onnx"))
        np.savez(self.file(net, ".feeds.npz"), **feeds_of(signature(fixed)))  # type: ignore[arg-type]
        self.measured("answer", self.file(net, ".onnx"), *self.told(net))
        if suffixes & {".tflite"}:
            self.convert(WAYS["ours"], net, self.file(net, ".tflite"))

    def sizes(self, net: str) -> dict[str, int]:
        from edgekit.graph import load, signature

        dims = {dim for spec in signature(load(self.file(net, ".onnx"))).inputs for dim in spec.shape}
        return {dim: 1 if dim == "batch" else OPEN_SIZE for dim in dims if isinstance(dim, str)}

    def file(self, net: str, suffix: str) -> Path:
        return self.folder / f"{net}{suffix}"

    def told(self, net: str) -> tuple[Path, Path]:
        return self.file(net, ".feeds.npz"), self.file(net, ".answers.npz")

    def written(self, net: str, way: Way) -> Path:
        return self.folder / f"{net}-{way.road}" / f"model{way.target}"

    def measured(self, *arguments: object) -> dict[str, Any]:
        return last_line(run(HERE, "_roads_engines.py", [str(a) for a in arguments], timeout_s=TIMEOUT_S))

    def convert(self, way: Way, net: str, target: Path) -> dict[str, float]:
        target.parent.mkdir(exist_ok=True)
        arguments = [way.road, str(self.file(net, way.source)), str(target), json.dumps(self.sizes(net))]
        found: dict[str, float] = last_line(run(way.place, "_roads_child.py", arguments, timeout_s=TIMEOUT_S))
        return found

    def drive(self, way: Way, net: str) -> Row:
        """Converts a few times and looks at the file."""
        row = Row(net, way.road, way.source, way.target)
        target = self.written(net, way)
        runs: list[dict[str, float]] = []
        try:
            while len(runs) < REPEATS and sum(r["clock_s"] for r in runs) < REPEAT_BUDGET_S:
                with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                    made = Path(folder) / target.name
                    runs.append(self.convert(way, net, made))
                    target.parent.mkdir(exist_ok=True)
                    for file in made.parent.glob(f"{made.stem}.*"):
                        if file.is_file():
                            file.replace(target.with_name(file.name))
            for name in ("cpu_s", "clock_s", "import_cpu_s", "peak_mb"):
                setattr(row, name, round(min(r[name] for r in runs), 3))
            for name, value in self.measured("judge", target, *self.told(net)).items():
                setattr(row, name, value)
        except (ChildError, subprocess.TimeoutExpired) as error:
            row.failure = str(error)
        return row

    def race(self, row: Row, ours: Row) -> None:
        """Fills in the latency of a file beside ours."""
        paths = [self.written(row.net, WAYS[r.road]) for r in (ours, row)]
        found: dict[str, list[float]] = {"ours_ms": [], "other_ms": []}
        share = (self.seconds / PROCESSES, self.rounds // PROCESSES)
        started = time.perf_counter()
        for turn in range(PROCESSES):
            if turn % 2 == 0 and turn and time.perf_counter() - started > 2 * self.seconds:
                break  # a slow net: one round takes longer than its share
            first = "ours" if turn % 2 else "other"
            samples = self.measured("race", *paths, self.file(row.net, ".feeds.npz"), *share, first)
            for name, values in samples.items():
                found[name] += values
        ratios = [a / b for a, b in zip(found["ours_ms"], found["other_ms"], strict=True)]
        row.latency_ms, row.ours_ms = (round(statistics.median(found[n]), 4) for n in ("other_ms", "ours_ms"))
        row.ratio_low, row.ratio, row.ratio_high = (round(q, 4) for q in statistics.quantiles(ratios, n=4))
        row.rounds = len(ratios)
        ours.latency_ms = ours.latency_ms or row.ours_ms


class ChildError(Exception):
    """A process ended badly; its last words."""


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if done.returncode == 0:
        return json.loads(done.stdout.strip().splitlines()[-1])
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    raise ChildError(said[-1][:200] if said else f"ended with {done.returncode}")


def feeds_of(signature: Any) -> dict[str, np.ndarray]:
    """Numbers by chance: normal ones, and for integers words, a mask of ones, and types of 0 and 1."""
    rng = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {}
    for spec in signature.inputs:
        if spec.dtype.startswith("float"):
            feeds[spec.name] = rng.standard_normal(spec.shape).astype(spec.dtype)
        else:
            low, high = (1, 2) if "mask" in spec.name else (0, 2) if "type" in spec.name else (1, 1000)
            feeds[spec.name] = rng.integers(low, high, spec.shape).astype(spec.dtype)
    return feeds


def bars(rows: list[Row]) -> list[dict[str, Any]]:
    """The two figures to hold, each a median over the nets that could be measured; missed where ours fails on one."""
    is_whole = not any(row.failure for row in rows if row.road == "ours")
    ours = {row.net: row for row in rows if row.road == "ours" and not row.failure}
    latency = {r.net: r.ratio for r in rows if r.road == "tensorflow" and r.ratio is not None}
    writing = {
        r.net: round(ours[r.net].cpu_s / r.cpu_s, 4)
        for r in rows
        if r.road == "litert-torch" and r.cpu_s and r.net in ours and ours[r.net].cpu_s
    }
    asked = (
        ("latency, ours / tensorflow", latency, LATENCY_LIMIT),
        ("writing time, ours / litert-torch", writing, WRITING_LIMIT),
    )
    return [
        {"name": name, "nets": nets, "median": median, "limit": limit, "is_met": is_whole and median <= limit}
        for name, nets, limit in asked
        if nets
        for median in (statistics.median(nets.values()),)
    ]


def table(rows: list[Row]) -> str:
    lines = [
        "| net | road | time, s | with imports, s | peak, MB | ops | TRANSPOSE | RESHAPE | error | ms | "
        "ours / this (quartiles) |",
        "|---" * 11 + "|",
    ]
    for r in rows:
        if r.failure:
            lines.append(f"| {r.net} | {r.road} | fails: {r.failure.replace('|', '/')} |" + " |" * 8)
            continue
        ratio = "" if r.ratio is None else f"{r.ratio:.3f} ({r.ratio_low:.3f} to {r.ratio_high:.3f})"
        latency = "" if r.latency_ms is None else f"{r.latency_ms:.3g}"
        lines.append(
            f"| {r.net} | {r.road} | {r.cpu_s:.2f} | {r.cpu_s + r.import_cpu_s:.2f} | {r.peak_mb:.0f} | {r.ops} | "
            f"{r.transposes} | {r.reshapes} | {r.error:.1e} | {latency} | {ratio} |"
        )
    return "\n".join(lines)


def chosen(given: str | None, known: dict[str, Any]) -> list[str]:
    if given is None:
        return list(known)
    names = [name.strip() for name in given.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"{', '.join(unknown)}: not among {', '.join(known)}")
    return names


def ways_of(given: str | None, install: bool) -> list[Way]:
    """The roads asked for and those of ours beside which they stand, without those whose environment is not there."""
    names = chosen(given, WAYS)
    wanted = {*names, *(WAYS[name].rival for name in names)}
    ways = [way for way in WAYS.values() if way.road in wanted]
    for place in {way.place.name: way.place for way in ways if way.place is not HERE}.values():
        if not place.is_there and install:
            print(f"installing {place.name} into {place.folder}", file=sys.stderr)
            place.install()
        elif not place.is_there:
            print(f"skipped: {place.name} is not installed; --install does", file=sys.stderr)
    return [way for way in ways if way.place is HERE or way.place.is_there]


def measure(bench: Bench, nets: list[str], ways: list[Way]) -> list[Row]:
    rows: list[Row] = []
    for net in nets:
        bench.make(net, {way.source for way in ways})
        own: dict[str, Row] = {}
        for way in ways:
            print(f"{net}: {way.road}", file=sys.stderr)
            row = own[way.road] = bench.drive(way, net)
            rival = own.get(way.rival)
            if rival is not None and not row.failure and not rival.failure:
                try:
                    bench.race(row, rival)
                except (ChildError, subprocess.TimeoutExpired) as error:
                    row.failure = str(error)
        rows += own.values()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Our roads beside others', on the same seven nets.")
    parser.add_argument("--nets", help=f"of {', '.join(NETS)}")
    parser.add_argument("--roads", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--install", action="store_true", help="make the environments of other roads that are missing")
    parser.add_argument("--folder", type=Path, help="keep all files here, and use the nets that are there already")
    parser.add_argument("--seconds", type=float, default=32.0, help="for a pair of files to race")
    parser.add_argument("--rounds", type=int, default=160, help="of a race, at most")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    ways = ways_of(arguments.roads, arguments.install)
    with tempfile.TemporaryDirectory(prefix="edgekit-roads-") as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        rows = measure(Bench(folder, arguments.seconds, arguments.rounds), chosen(arguments.nets, NETS), ways)
    verdicts = bars(rows)
    if arguments.json:
        document = {"schema": "edgekit.roads", "version": 1, "rows": [asdict(row) for row in rows], "bars": verdicts}
        print(json.dumps(document, indent=1))
    else:
        print(table(rows))
        for bar in verdicts:
            nets = ", ".join(f"{net} {value:.3f}" for net, value in bar["nets"].items())
            word = "met" if bar["is_met"] else "missed"
            print(f"\n{bar['name']}: median {bar['median']:.3f} (limit {bar['limit']:.2f}: {word}); {nets}")
    return int(any(not bar["is_met"] for bar in verdicts))


if __name__ == "__main__":
    sys.exit(main())
