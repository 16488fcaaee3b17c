"""The roads: hub, writer, engine. Writing and running are apart, for a refusal to write is no failure to run.

``tflite-onnx`` is the way there and back: what the TFLite writer wrote is read into the hub, and ONNX Runtime answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converter import Written
from edgekit.converters.onnx import read_graph
from edgekit.errors import UnsupportedError
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions
from tests.ops.cases import Case

__all__ = ["FORMATS", "ROADS", "run", "write"]

FORMATS = ("onnx", "openvino", "tflite")
"""Roads that are formats, which the table that ships tells of."""

ROUND_TRIP = "tflite-onnx"
ROADS = (*FORMATS, ROUND_TRIP)


def write(road: str, case: Case, folder: Path) -> Written:
    """Reads the case's model into the hub and writes it as fp32. Raises what reader and writer raise."""
    import onnx

    writer, source = _writer("tflite" if road == ROUND_TRIP else road), folder / "source.onnx"
    onnx.save(case.model, source)
    graph = read_graph(source)
    written: Written = writer.write(graph, folder / f"model{writer.suffix}", precision="fp32", plan=None)
    return _back(written, folder) if road == ROUND_TRIP else written


def _back(written: Written, folder: Path) -> Written:
    """What was written as TFLite, read and written as ONNX."""
    from edgekit.converters.tflite.raising import raise_model
    from edgekit.converters.tflite.reading import read_model
    from edgekit.graph.cleaning import clean

    graph = clean(raise_model(read_model(written.files[0])))
    returned: Written = CONVERTERS.get("onnx").write(graph, folder / "returned.onnx", precision="fp32", plan=None)
    return returned


def _writer(road: str) -> Any:
    if road == "openvino":
        from edgekit.converters import _openvino_child
        from edgekit.converters.openvino import OpenVINOConverter

        # In this process, which is a child already: starting one a case would take minutes.
        return OpenVINOConverter(_openvino_child.convert)
    writer = CONVERTERS.get(road)
    if not writer.writes:
        raise UnsupportedError(f"the hub does not write {road} yet")
    return writer


def run(road: str, case: Case, written: Written) -> dict[str, np.ndarray]:
    """Opens what was written and gives its outputs by the names of the case, as the engine has them."""
    opened = RUNTIMES.get("onnx" if road == ROUND_TRIP else road).open(written.files[0], EngineOptions(threads=1))
    theirs = [spec.name for spec in opened.inputs]
    given = {
        _known(written.input_names.get(name), theirs, i): array for i, (name, array) in enumerate(case.feeds.items())
    }
    results = opened.run([np.require(given[name], requirements="C") for name in theirs])
    got = dict(zip((spec.name for spec in opened.outputs), (np.array(result) for result in results), strict=True))
    names = list(got)
    named = {name: got[_known(written.output_names.get(name), names, i)] for i, name in enumerate(case.expected)}
    opened.close()
    return named


def _known(name: str | None, names: list[str], place: int) -> str:
    """The file's name of a tensor, or that at its place: a tensor that is input and output has both names."""
    return name if name in names else names[place]
