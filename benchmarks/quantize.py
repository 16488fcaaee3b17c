"""Our quantizer beside others': accuracy, size, latency and cost on eight trained models, in each engine.

    python benchmarks/quantize.py [--install] [--tasks d1,mn] [--formats onnx,tflite] [--ways ours:w8a8,nncf] [--json]

Every tool gets the same fp32 model of fixed sizes and the same calibration data, and works in a fresh process. Answers
are held against the fp32 model's on data nobody calibrated on. A file's latency is a ratio to the fp32 file of its
format, both by turns in one process, one thread, CPU time. Sizes are ratios to the fp32 ONNX file.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _quantize_auto import GOALS, Seen, Work, described
from _quantize_tasks import TASKS, Task
from _quantize_tasks import run as answers_of
from _roads_places import HERE, Place, run

NNCF = Place("nncf", (("nncf==3.4.0", "openvino==2026.4.1", "onnx"),), is_venv=True)
TIMEOUT_S = 1800.0
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}
PEERS = {
    "onnx": ("ort-static", "ort-products", "ort-dynamic"),
    "openvino": ("nncf", "nncf-transformer", "nncf-w8", "nncf-w4"),
    "tflite": ("ai-edge-static", "ai-edge-dynamic", "ai-edge-w8"),
}
OURS = ("auto", "auto-small", "w8a8", "w8a8-dynamic", "w8", "w4g32")
SECONDS, ROUNDS = 6.0, 200


@dataclass(frozen=True)
class Row:
    """What one way made of one model for one engine.

    Attributes:
        failure: Why there is no file, or no answer; empty where there is one.
        sqnr_db: Signal to noise of all outputs against fp32.
        figures: The task's own.
        size: Of the file beside the fp32 ONNX file.
        time: Of a call beside the fp32 file of the format, the median of rounds.
        spread: Half the distance between the quartiles of those ratios.
        recipe: That was found, of a search.
        missing: What a search gave up, or what was in its way.
        trials: Files a search made.
        seconds: It took.
    """

    task: str
    format: str
    way: str
    failure: str = ""
    sqnr_db: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    size: float | None = None
    time: float | None = None
    spread: float | None = None
    cpu_s: float | None = None
    peak_mb: float | None = None
    recipe: str = ""
    missing: str = ""
    trials: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Bench:
    """A task on disk."""

    name: str
    task: Task
    folder: Path
    wanted: list[dict[str, np.ndarray]]

    @property
    def model(self) -> Path:
        return self.folder / "fixed.onnx"

    @property
    def calibration(self) -> Path:
        return self.folder / "calibration.npz"

    def float_file(self, format: str) -> Path:
        return file_of(self.folder / "fp32.edge", f"{format}-fp32")


def prepare(name: str, folder: Path) -> Bench:
    """The model of fixed sizes, its data, and its fp32 files."""
    folder.mkdir(parents=True, exist_ok=True)
    task = TASKS[name](folder)
    fix_sizes(task, folder / "fixed.onnx")
    for what, feeds in (("calibration", task.calibration), ("evaluation", task.evaluation)):
        np.savez(folder / f"{what}.npz", **{key: np.stack([feed[key] for feed in feeds]) for key in feeds[0]})
    np.savez(folder / "first.npz", **task.evaluation[0])  # type: ignore[arg-type]
    bench = Bench(name, task, folder, answers_of(folder / "fixed.onnx", task.evaluation))
    if not (folder / "fp32.edge").exists():
        convert(bench, "fp32", list(SUFFIXES), folder / "fp32.edge")
    return bench


def fix_sizes(task: Task, path: Path) -> None:
    import onnx

    model = onnx.load(task.model)
    first = task.evaluation[0]
    for value in model.graph.input:
        for dimension, size in zip(value.type.tensor_type.shape.dim, first[value.name].shape, strict=True):
            dimension.dim_value = size
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    if max(opset.version for opset in model.opset_import if opset.domain == "") < 13:
        model = onnx.version_converter.convert_version(model, 17)  # per-channel scales need 13
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def convert(bench: Bench, recipe: str, formats: Sequence[str], target: Path) -> dict[str, Any]:
    """By edgekit's own command, for a target that is not timed: here it is timed against fp32 like all others."""
    words = ["convert", str(bench.model), "-o", str(target), "--force", "--json", "--target", "generic-x86"]
    words += ["--format", ",".join(formats), "--recipe", recipe]
    if recipe != "fp32":
        words += ["--calibration-data", str(bench.calibration)]
    done = subprocess.run([sys.executable, "-m", "edgekit", *words], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise SystemExit(f"edgekit {' '.join(words)}\n{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def ours(bench: Bench, format: str, recipe: str) -> Row:
    """Edgekit's file by a recipe: a name, or the path of a file."""
    name = Path(recipe).stem
    place = bench.folder / f"{format}-{name}.edge"
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = convert(bench, recipe, [format], place)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    (made,) = report["variants"]
    row = Row(bench.name, format, f"ours:{name}", cpu_s=ended.ru_utime - started.ru_utime)
    if made["status"] != "written":
        return replace(row, failure=made["reason"])
    return judged(bench, row, file_of(place, made["name"]))


def searched(bench: Bench, format: str, name: str, seen: slice) -> Row:
    """Edgekit's file by the recipe a search finds, which sees a part of the samples it is judged by."""
    wanted = bench.wanted[seen]
    fp32 = bench.task.score(wanted, wanted, seen)

    def judge(outputs: Sequence[Mapping[str, np.ndarray]], file: Path) -> Seen:
        answers = renamed([np.stack([answer[key] for answer in outputs]) for key in outputs[0]], wanted)
        return Seen(sqnr_db(answers, wanted), bench.task.score(answers, wanted, seen), fp32, size_of(bench, file))

    def time_of(file: Path) -> float | None:
        return race(bench, format, file).get("time")

    folder, goal = bench.folder / f"{format}-{name}", GOALS[bench.name][name]
    feeds = bench.task.evaluation[seen]
    started = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    work = Work(format, goal, bench.model, bench.task.calibration, feeds, judge, time_of, folder)
    found = work.search()
    cpu_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime - started
    row = Row(bench.name, format, f"ours:{name}", cpu_s=cpu_s, trials=found.trials, seconds=found.seconds)
    row = replace(row, missing=found.missing)
    if found.file is None or found.recipe is None:
        return replace(row, failure=found.missing)
    (folder / "recipe.json").write_text(json.dumps(found.recipe.to_json(), indent=1), encoding="utf-8")
    return judged(bench, replace(row, recipe=described(found.recipe)), found.file)


def file_of(bundle: Path, variant: str) -> Path:
    manifest = json.loads((bundle / "edgekit.json").read_text(encoding="utf-8"))
    return bundle / next(one["file"] for one in manifest["variants"] if one["name"] == variant)


def peers(bench: Bench, format: str, tool: str) -> Row:
    """A peer's file."""
    target = bench.folder / f"{tool}{SUFFIXES[format]}"
    source = bench.float_file("tflite") if format == "tflite" else bench.model
    place = NNCF if format == "openvino" else HERE
    words = [tool, str(source), str(bench.calibration), str(target)]
    done = run(place, "_quantize_tools.py", words, timeout_s=TIMEOUT_S)
    row = Row(bench.name, format, tool)
    if done.returncode:
        return replace(row, failure=(done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:200])
    return judged(bench, replace(row, **json.loads(done.stdout.splitlines()[-1])), target)


def judged(bench: Bench, row: Row, file: Path) -> Row:
    """With what the file answers, how large it is and how fast."""
    results = bench.folder / "answers.npz"
    words = [str(file), str(bench.folder / "evaluation.npz"), str(results)]
    done = run(HERE, "_quantize_answers.py", words, timeout_s=TIMEOUT_S)
    if done.returncode:
        return replace(row, failure=(done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:200])
    with np.load(results) as stored:
        columns = [stored[f"output_{i}"] for i in range(len(stored.files))]
    answers = renamed(columns, bench.wanted)
    figures, size = bench.task.score(answers, bench.wanted), size_of(bench, file)
    timed = race(bench, row.format, file)
    row = replace(row, sqnr_db=sqnr_db(answers, bench.wanted), figures=figures, size=size)
    return replace(row, time=timed.get("time"), spread=timed.get("spread"))


def size_of(bench: Bench, file: Path) -> float:
    parts = [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]
    return sum(part.stat().st_size for part in parts) / bench.model.stat().st_size


def renamed(columns: Sequence[np.ndarray], wanted: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """A file's answers by the names of fp32."""
    names = list(wanted[0])
    order = match(columns, wanted, names)
    return [{name: columns[order[name]][i] for name in names} for i in range(len(wanted))]


def match(
    columns: Sequence[np.ndarray], wanted: Sequence[Mapping[str, np.ndarray]], names: Sequence[str]
) -> dict[str, int]:
    """Which of a file's outputs each of ours is: the nearest of its shape, for tools rename and reorder."""
    order: dict[str, int] = {}
    for name in names:
        truth = np.stack([answer[name] for answer in wanted])
        errors = {
            i: float(np.square(column - truth).mean())
            for i, column in enumerate(columns)
            if column.shape == truth.shape and i not in order.values()
        }
        if not errors:
            raise SystemExit(f"no output of shape {truth.shape[1:]}")
        order[name] = min(errors, key=errors.__getitem__)
    return order


def sqnr_db(answers: Sequence[Mapping[str, np.ndarray]], wanted: Sequence[Mapping[str, np.ndarray]]) -> float:
    signal = error = 0.0
    for answer, want in zip(answers, wanted, strict=True):
        for name, truth in want.items():
            signal += float(np.square(truth, dtype="float64").sum())
            error += float(np.square(answer[name].astype("float64") - truth).sum())
    return 10 * np.log10(signal / max(error, 1e-30))


def race(bench: Bench, format: str, file: Path) -> dict[str, float]:
    """The median of the rounds' ratios, over processes half of which open the fp32 file first."""
    ratios: list[float] = []
    for first in ("ours", "other"):
        words = ["race", str(file), str(bench.float_file(format)), str(bench.folder / "first.npz")]
        done = run(HERE, "_roads_engines.py", [*words, str(SECONDS), str(ROUNDS), first], timeout_s=TIMEOUT_S)
        if done.returncode:
            return {}
        times = json.loads(done.stdout.splitlines()[-1])
        ratios += [a / b for a, b in zip(times["ours_ms"], times["other_ms"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"time": middle, "spread": (high - low) / 2}


def shown(row: Row) -> str:
    if row.failure:
        return f"{row.task:4} {row.format:9} {row.way:18} {row.failure[:140]}"
    figures = ", ".join(f"{name} {value:.4g}" for name, value in row.figures.items())
    time = "-" if row.time is None else f"x{row.time:.2f} ±{row.spread:.2f}"
    cost = f"{row.cpu_s or 0:5.1f} s" + (f" {row.peak_mb:5.0f} MB" if row.peak_mb else "")
    made = f"{row.sqnr_db:6.1f} dB  size {row.size:.2f}  {time:12} {cost:18}"
    found = f"\n     by {row.recipe}; {row.trials} trials, {row.seconds:.0f} s; {row.missing}" if row.recipe else ""
    return f"{row.task:4} {row.format:9} {row.way:18} {made} {figures}{found}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true", help="make the environment NNCF needs")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--formats", default=",".join(SUFFIXES))
    parser.add_argument("--ways", default="", help="ours:RECIPE or a peer's name; all by default")
    parser.add_argument("--folder", type=Path, help="where models and files are kept; a temporary one by default")
    parser.add_argument("--see-all", action="store_true", help="searches see all they are judged by, in place of half")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.install and not NNCF.is_there:
        NNCF.install()
    rows = []
    with tempfile.TemporaryDirectory(prefix="edgekit-quantize-") as temporary:
        for name in options.tasks.split(","):
            bench = prepare(name, (options.folder or Path(temporary)).resolve() / name)
            for format in options.formats.split(","):
                for way in options.ways.split(",") if options.ways else [f"ours:{r}" for r in OURS] + [*PEERS[format]]:
                    row = one(bench, format, way, slice(None, None, 1 if options.see_all else 2))
                    if row is not None:
                        rows.append(row)
                        print(shown(row), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))


def one(bench: Bench, format: str, way: str, seen: slice) -> Row | None:
    """One cell of the table; None where the way does not lead to the format."""
    if way.startswith("ours:auto"):
        name = way.partition(":")[2]
        return searched(bench, format, name, seen) if name in GOALS[bench.name] else None
    if way.startswith("ours:"):
        return ours(bench, format, way.partition(":")[2])
    if way not in PEERS[format]:
        return None
    if format == "openvino" and not NNCF.is_there:
        return Row(bench.name, format, way, failure="needs --install")
    return peers(bench, format, way)


if __name__ == "__main__":
    main()
