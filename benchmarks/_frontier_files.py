"""All files of a net: ours by every recipe in every format, and those of the engines' own quantizers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.worker import Worker

HERE = Path(__file__).parent
FORMATS = ("tflite", "onnx", "openvino")
RECIPES = ("fp32", "w8", "w8a8", "w8a8-dynamic")
TOOL_TIMEOUT_S = 240.0
_ENVIRONMENT = {"PYTHONPATH": f"{HERE.parent}:{HERE}", "OMP_NUM_THREADS": "1"}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tool:
    """A peer's quantizer.

    Attributes:
        name: In the table.
        tool: Of `_quantize_tools.TOOLS`.
        format: Of what it writes.
        of: Suffix of our fp32 file that it takes.
        engines: That its files are timed in.
    """

    name: str
    tool: str
    format: str
    of: str
    engines: tuple[str, ...]


TOOLS = (
    Tool("ort-u8s8", "ort-static", "onnx", ".onnx", ("onnx", "openvino")),
    Tool("ort-s8s8", "ort-static-s8s8", "onnx", ".onnx", ("onnx",)),
    Tool("ort-dynamic", "ort-dynamic", "onnx", ".onnx", ("onnx",)),
    Tool("ai-edge-static", "ai-edge-static", "tflite", ".tflite", ("tflite",)),
    Tool("ai-edge-dynamic", "ai-edge-dynamic", "tflite", ".tflite", ("tflite",)),
    Tool("nncf", "nncf", "openvino", ".onnx", ("openvino",)),
)
ENGINES = {"tflite": ("tflite", "openvino"), "onnx": ("onnx", "openvino"), "openvino": ("openvino",)}
"""Those our files are timed in, by format: all that open it."""

SUFFIXES = {"onnx": ".onnx", "tflite": ".tflite", "openvino": ".xml"}


@dataclass
class File:
    """A file there is, or the reason why there is none.

    Attributes:
        maker: ``"edgekit"``, or the peer's quantizer.
        recipe: Ours, or the peer's quantizer again.
        seconds: What making it took; of ours an equal share of all that were made together.
        sqnr_db: Against the source, where edgekit judged it.
    """

    maker: str
    format: str
    recipe: str
    path: str = ""
    reason: str = ""
    seconds: float = 0.0
    size_bytes: int = 0
    sqnr_db: float | None = None
    int8_macs_share: float | None = None

    @property
    def name(self) -> str:
        return f"{self.format} {self.recipe}"

    @property
    def engines(self) -> tuple[str, ...]:
        """What it is timed in."""
        return next((tool.engines for tool in TOOLS if tool.name == self.maker), ENGINES[self.format])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def worker(name: str, **variables: str) -> Worker:
    """A process that can call what is in this folder, with further environment variables."""
    return Worker(name, env={**_ENVIRONMENT, **variables})


def make_all(made: Mapping[str, str], folder: Path, nncf_python: str, say: Say) -> list[File]:
    """Ours first; peers quantize our fp32 files, so that all compute the same graph.

    Args:
        made: What `_frontier_nets.make_net` gave.
        folder: For the files.
        nncf_python: A Python that has NNCF; empty leaves that one out.
        say: Called with a line at each step.
    """
    source = made["source"]
    files = _ours(source, made["samples"], folder, say)
    floats = {Path(file.path).suffix: file.path for file in files if file.recipe == "fp32" and file.path}
    for tool in TOOLS:
        if tool.tool == "nncf" and not nncf_python:
            continue
        given = source if tool.of == ".onnx" else floats.get(tool.of, "")
        python = nncf_python if tool.tool == "nncf" else sys.executable
        files.append(_peer(tool, given, made["batches"], folder, python, say))
    return files


def _ours(source: str, samples: str, folder: Path, say: Say) -> list[File]:
    """One run for all; where that ends badly one for each format, so that one crash costs one format."""
    try:
        return _converted(source, samples, folder / "ours.edge", FORMATS, say)
    except EdgekitError as error:
        say(f"not all at once: {error}")
    files: list[File] = []
    for format in FORMATS:
        try:
            files += _converted(source, samples, folder / f"ours-{format}.edge", (format,), say)
        except EdgekitError as error:
            files += [File("edgekit", format, recipe, reason=str(error)) for recipe in RECIPES]
    return files


def _converted(source: str, samples: str, output: Path, formats: Iterable[str], say: Say) -> list[File]:
    say(f"making {len(RECIPES)} recipes as {', '.join(formats)}")
    with worker("making files") as making:
        arguments = {"source": source, "samples": samples, "output": str(output), "formats": list(formats)}
        return [File(**made) for made in making.call("_frontier_files:convert_all", **arguments)]


def convert_all(source: str, samples: str, output: str, formats: list[str]) -> list[dict[str, Any]]:
    """Runs in the worker. The target is any x86: for this machine `convert` would leave out what is slow."""
    import edgekit

    started = time.monotonic()
    report = edgekit.convert(
        source, output, target="generic-x86", format=formats, precision=RECIPES, calibration_data=samples, force=True
    )
    assert report.bundle is not None
    seconds = (time.monotonic() - started) / len(report.variants)
    files = []
    for variant in report.variants:
        file = File("edgekit", variant.format, variant.recipe, reason=variant.reason, seconds=seconds)
        if variant.status == "written":
            file.path = str(report.bundle.variant(variant.name).path)
            file.reason, file.size_bytes = "", variant.size_bytes or 0
            file.sqnr_db, file.int8_macs_share = (variant.parity or {}).get("sqnr_db"), variant.int8_macs_share
        files.append(file.to_json())
    return files


def _peer(tool: Tool, given: str, samples: str, folder: Path, python: str, say: Say) -> File:
    file = File(tool.name, tool.format, tool.name)
    target = folder / f"{tool.name}{SUFFIXES[tool.format]}"
    if not given:
        file.reason = f"there is no {tool.of} of fp32"
        return file
    say(f"quantizing by {tool.name}")
    started = time.monotonic()
    try:
        done = subprocess.run(
            [python, "-P", str(HERE / "_quantize_tools.py"), tool.tool, given, samples, str(target)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        file.reason = f"not done within {TOOL_TIMEOUT_S:g} s"
        return file
    file.seconds = time.monotonic() - started
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        file.reason = said[-1][:300] if said else f"ended with {done.returncode}"
        return file
    json.loads(done.stdout.strip().splitlines()[-1])  # its cost: a tool that printed none did not come to its end
    file.path = str(target)
    file.size_bytes = sum(part.stat().st_size for part in folder.glob(f"{tool.name}.*"))
    return file
