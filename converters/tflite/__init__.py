"""TFLite: written from the hub by our own writer or from a SavedModel by TensorFlow's, and read back to the hub."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.converter import DirectRoad, SourceModel, Written
from edgekit.converters.tflite.reading import looks_like_tflite
from edgekit.converters.tflite.source import AS_IT_IS, open_source
from edgekit.converters.tflite.tensorflow_road import ROADS
from edgekit.errors import UnsupportedError
from edgekit.graph.operations import require_known
from edgekit.recipe import FLOATS
from edgekit.registry import Probe, installed

if TYPE_CHECKING:
    from edgekit.converters.tflite.model import LiteModel, Tensor
    from edgekit.quantize.plan import QuantPlan

__all__ = ["CONVERTER", "TFLiteConverter"]

_PACKAGES = ("ai-edge-litert", "flatbuffers")


class TFLiteConverter:
    """The .tflite file."""

    name = "tflite"
    format = "tflite"
    suffix = ".tflite"
    reads = True
    writes = True
    reading = "edgekit's op table read backwards"
    writing = "edgekit's op table and FlatBuffer writer, without TensorFlow"
    fixes_sizes = True
    exports: tuple[str, ...] = ("hub", "tflite")
    roads: tuple[DirectRoad, ...] = (*ROADS, AS_IT_IS)

    def probe(self) -> Probe:
        """Whether ai-edge-litert, whose schema is written by, and flatbuffers are installed."""
        return _probe()

    def accepts(self, path: Path) -> bool:
        """Whether the file has the mark of a TFLite FlatBuffer."""
        return looks_like_tflite(path)

    def read(self, path: Path, stage: Path) -> SourceModel:
        """Brings a file to the hub; LiteRT answers for it, one thread. Integers that stand for real numbers are kept.

        Raises:
            ArtifactError: It is damaged.
            UnsupportedError: LiteRT does not run it, or it has several signatures.
        """
        self.probe().require("the tflite converter")
        return open_source(path, stage)

    def write(self, graph: Any, path: Path, *, precision: str, plan: QuantPlan | None) -> Written:
        """Writes fp32; fp16, which stores half and computes single; or what a plan says. Of batch 1 where it is open.

        Names, order, layout and dtypes of inputs and outputs are the hub's, so they stay float.

        Raises:
            UnsupportedError: Integers without a plan, or operations TFLite has no form for; lists all.
        """
        from edgekit.converters._half_weights import half_notes
        from edgekit.converters.tflite.lowering import lower
        from edgekit.converters.tflite.passes.halving import halve_constants
        from edgekit.converters.tflite.writing import write_model

        self.probe().require("the tflite converter")
        require_known(graph, "the model")
        notes: list[str] = []
        stored: dict[str, Tensor] = {}
        if plan is not None:
            graph, stored, notes = _planned(graph, plan)
        elif precision not in FLOATS:
            raise UnsupportedError(f"the tflite writer cannot write {precision!r} without a plan", hint="fp32 or fp16")
        model = lower(graph, stored=stored)
        notes += _kept_float(model)
        if plan is not None and plan.halves:
            halve_constants(model.graph, plan.halves)
        if precision == "fp16":
            kept = [name for one in model.graph.graphs() for name in halve_constants(one)]
            notes += half_notes(kept)
        write_model(model, path)
        return Written(
            (path,),
            {name: name for name in model.input_names},
            {name: name for name in model.output_names},
            notes=tuple(notes),
            versions=installed(*_PACKAGES),
        )


def _planned(graph: Any, plan: QuantPlan) -> tuple[Any, dict[str, Tensor], list[str]]:
    """The graph with its static part in QDQ, the constants of the rest, and what is to be said of it."""
    from edgekit.converters.tflite.stored import stored_constants
    from edgekit.quantize.qdq import to_qdq

    stored, notes = stored_constants(graph, plan)
    if plan.quantized_ops:
        graph = to_qdq(graph, plan)
    return graph, stored, [*plan.notes(), *notes]


def _kept_float(model: LiteModel) -> list[str]:
    """What was planned to compute in integers and does not, because it would be slower."""
    products = 0
    for graph in model.graph.graphs():
        made = graph.producers()
        for op in graph.ops:
            maker = made.get(op.inputs[1]) if len(op.inputs) > 1 and op.inputs[1] is not None else None
            weight = maker.inputs[0] if maker is not None and maker.code == "DEQUANTIZE" else None
            products += weight is not None and weight.is_dynamic
    said = f"{products} products compute in float, which is faster: depthwise, transposed or too small"
    return [said] if products else []


@functools.cache
def _probe() -> Probe:
    versions = installed(*_PACKAGES)
    if missing := [package for package in _PACKAGES if package not in versions]:
        return Probe(False, reason=f"{', '.join(missing)} not installed", extra="convert")
    return Probe(True, version=", ".join(f"{name} {version}" for name, version in versions.items()), extra="convert")


CONVERTER = TFLiteConverter()
