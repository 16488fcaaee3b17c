"""From nothing to the first answer: edgekit beside the bare engine, in fresh processes that take turns."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = "mobilenet-v2"
SHAPE = (1, 3, 224, 224)
MAX_RATIO = 1.10
MAX_ADDED_MB = 10.0

HEAD = """
import sys
path, shape, runtime = sys.argv[1], tuple(map(int, sys.argv[2].split(","))), sys.argv[3]
import numpy as np
x = np.full(shape, 0.5, "float32")
"""
TAIL = """
import time
now, cpu = time.monotonic(), time.process_time()
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print(now, cpu, peak, float(np.abs(answer).sum()))
"""
OURS = """
import edgekit
model = edgekit.load(path, runtime=runtime, threads=1)
answer = next(iter(model.predict(x).values()))
"""
BARE = {
    "tflite": """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=path, num_threads=1)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
interpreter.invoke()
answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
""",
    "onnx": """
import onnxruntime
settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = settings.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
answer = session.run(None, {session.get_inputs()[0].name: x})[0]
""",
    "openvino": """
import openvino
settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
compiled = openvino.Core().compile_model(path, "CPU", settings)
answer = compiled(x)[0]
""",
}
"""The least one types to get an answer of each engine, with one thread and, of OpenVINO, fp32."""


@dataclass(frozen=True)
class Start:
    """One fresh process: from its start by us to its first answer, wall and CPU, and the most memory it had."""

    wall_ms: float
    cpu_ms: float
    peak_mb: float
    answer: float


@dataclass(frozen=True)
class Row:
    """An engine with one file; medians over rounds, of differences and ratios the quartiles too."""

    engine: str
    precision: str
    bare_ms: float
    ours_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_ratio: float
    bare_peak_mb: float
    added_mb: float
    added_mb_high: float

    @property
    def is_within(self) -> bool:
        return self.ratio <= MAX_RATIO and self.added_mb <= MAX_ADDED_MB


def environment(cache: Path) -> dict[str, str]:
    """Compiled modules are kept, as an installer leaves them; the same for both."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "EDGEKIT_CACHE": str(cache), "PYTHONPYCACHEPREFIX": str(cache / "compiled"), "OMP_NUM_THREADS": "1"}


def make_bundle(folder: Path, engines: list[str]) -> Path:
    """The paper's net of 1.0 width with random weights, in fp32 for every engine."""
    import edgekit
    from edgekit.making import make_model
    from edgekit.processing import Processing

    source = make_model(MODEL, size="1.0", output=folder / "net.onnx").path
    path = folder / "net.edge"
    edgekit.convert(
        source, path, target="generic-x86", precision=("fp32",), format=tuple(engines), processing=Processing()
    )
    return path


def start(python: str, code: str, arguments: list[str], variables: dict[str, str]) -> Start:
    begun = time.monotonic()
    run = subprocess.run(
        [python, "-c", HEAD + code + TAIL, *arguments], capture_output=True, text=True, check=False, env=variables
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    answered, cpu, peak, answer = map(float, run.stdout.split())
    return Start((answered - begun) * 1000, cpu * 1000, peak / 1024, answer)


def measure(engine: str, bundle: Path, python: str, rounds: int, variables: dict[str, str]) -> Row:
    from edgekit.bundle import Bundle

    artifact = next(variant for variant in Bundle.open(bundle).variants if variant.format == engine)
    shape = ",".join(map(str, SHAPE))
    ways = {
        "bare": (BARE[engine], [str(artifact.path), shape, engine]),
        "ours": (OURS, [str(bundle), shape, engine]),
    }
    found: dict[str, list[Start]] = {name: [] for name in ways}
    for turn in range(rounds + 2):
        for name in ways if turn % 2 else reversed(ways):
            code, arguments = ways[name]
            one = start(python, code, arguments, variables)
            if turn > 1:  # the first runs the golden test and compiles, the second finds files in memory
                found[name].append(one)
    bare, ours = found["bare"], found["ours"]
    if abs(bare[0].answer - ours[0].answer) > 1e-3 * max(1.0, abs(bare[0].answer)):
        raise SystemExit(f"{engine}: edgekit and the bare engine answer differently")
    ratios = [b.wall_ms / a.wall_ms for a, b in zip(bare, ours, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    added = [b.peak_mb - a.peak_mb for a, b in zip(bare, ours, strict=True)]
    return Row(
        engine,
        artifact.precision,
        bare_ms=round(statistics.median(one.wall_ms for one in bare), 1),
        ours_ms=round(statistics.median(one.wall_ms for one in ours), 1),
        ratio=round(statistics.median(ratios), 3),
        ratio_low=round(low, 3),
        ratio_high=round(high, 3),
        cpu_ratio=round(statistics.median(b.cpu_ms / a.cpu_ms for a, b in zip(bare, ours, strict=True)), 3),
        bare_peak_mb=round(statistics.median(one.peak_mb for one in bare), 1),
        added_mb=round(statistics.median(added), 1),
        added_mb_high=round(max(added), 1),
    )


def table(rows: list[Row]) -> str:
    lines = [
        "| engine | file | bare, ms | edgekit, ms | ratio (quartiles) | ratio of CPU time | bare peak, MB "
        "| added, MB (most) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.engine} | {r.precision} | {r.bare_ms} | {r.ours_ms} | {r.ratio:.3f} ({r.ratio_low:.3f} to "
        f"{r.ratio_high:.3f}) | {r.cpu_ratio:.3f} | {r.bare_peak_mb} | {r.added_mb} ({r.added_mb_high}) |"
        for r in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Cold start of edgekit beside the bare engine's.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--engines", default="tflite,onnx,openvino", help="names, with commas")
    parser.add_argument("--bundle", type=Path, help="one made before, in place of making it")
    parser.add_argument("--python", default=sys.executable, help="of an environment edgekit is installed in")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    engines = arguments.engines.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        variables = environment(folder)
        if arguments.python == sys.executable:
            variables["PYTHONPATH"] = str(ROOT)
        bundle = arguments.bundle or make_bundle(folder, engines)
        rows = [measure(engine, bundle, arguments.python, arguments.rounds, variables) for engine in engines]
    if arguments.json:
        print(json.dumps({"schema": "edgekit.coldstart", "version": 1, "rows": [asdict(r) for r in rows]}, indent=1))
    else:
        print(table(rows))
    return int(not all(row.is_within for row in rows))


if __name__ == "__main__":
    sys.exit(main())
