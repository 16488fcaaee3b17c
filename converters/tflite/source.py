"""A .tflite file as a source: LiteRT answers for it, and the op table brings it to the hub."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekit.converter import DirectRoad, RoadRequest, SourceModel, Written
from edgekit.converters.tflite.model import Graph
from edgekit.converters.tflite.raising import raise_model
from edgekit.converters.tflite.reading import read_model
from edgekit.errors import UnsupportedError
from edgekit.graph.cleaning import clean
from edgekit.graph.files import save
from edgekit.registry import RUNTIMES, installed
from edgekit.runtime import EngineOptions, Session

__all__ = ["AS_IT_IS", "open_source"]

_PACKAGES = ("ai-edge-litert", "onnx", "onnx-ir")


def open_source(path: Path, stage: Path) -> SourceModel:
    """Reads the file and leaves its hub form under `stage`; one whose operations the hub lacks is still answered for.

    Raises:
        ArtifactError: The file is damaged.
        UnsupportedError: LiteRT does not run it, or it has several signatures.
    """
    model = read_model(path)
    engine = RUNTIMES.get("tflite")
    session = Session(engine.open(path, EngineOptions(threads=1)), runtime="tflite")
    stage.mkdir(parents=True, exist_ok=True)
    exports, hub_error, notes = {"tflite": path}, "", []
    try:
        hub = clean(raise_model(model))
        save(hub, stage / "hub.onnx")
        exports["hub"] = stage / "hub.onnx"
    except UnsupportedError as error:
        hub_error = str(error)
    integers = _integers(model.graph)
    if integers:
        notes.append(f"{integers} tensors of the source are integers that stand for real numbers; they are kept so")
    return SourceModel(
        kind="tflite",
        path=path,
        signature=session.signature,
        run=session.run,
        exports=exports,
        hub_error=hub_error,
        versions=installed(*_PACKAGES),
        notes=notes,
        precision="w8a8" if integers else "fp32",
    )


def _integers(graph: Graph) -> int:
    return sum(tensor.quant is not None for inner in graph.graphs() for tensor in inner.tensors())


def _keep(source: SourceModel, request: RoadRequest) -> Written:
    shutil.copyfile(source.exports["tflite"], request.path)
    inputs, outputs = (
        {spec.name: spec.name for spec in side} for side in (source.signature.inputs, source.signature.outputs)
    )
    return Written((request.path,), inputs, outputs, notes=("the source's own file, unchanged",))


AS_IT_IS = DirectRoad(
    name="the .tflite file as it is",
    word="as-is",
    needs="tflite",
    format="tflite",
    precisions=("fp32",),
    why="nothing is lost, weights in half precision and integers included",
    drive=_keep,
    better_at=("fp32",),
)
"""The only road that also takes files with operations nobody but LiteRT knows."""
