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
from edgekit.registry import Probe, installed

if TYPE_CHECKING:
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
        """Writes fp32; fp16, which stores half and computes single; or w8a8. Of batch 1 where the batch is open.

        Names, order, layout and dtypes of inputs and outputs are the hub's, so they stay float in w8a8.

        Raises:
            UnsupportedError: Another precision, w8a8 without a plan, or operations TFLite has no form for; lists all.
        """
        from edgekit.converters._half_weights import half_notes
        from edgekit.converters.tflite.lowering import lower
        from edgekit.converters.tflite.passes.halving import halve_constants
        from edgekit.converters.tflite.writing import write_model

        self.probe().require("the tflite converter")
        require_known(graph, "the model")
        notes: list[str] = []
        if precision == "w8a8" and plan is not None:
            from edgekit.quantize.qdq import to_qdq

            graph = to_qdq(graph, plan)
            notes += plan.notes()
        elif precision not in ("fp32", "fp16"):
            raise UnsupportedError(
                f"the tflite writer cannot write {precision!r}", hint="fp32, fp16, or w8a8 with a plan"
            )
        model = lower(graph)
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


@functools.cache
def _probe() -> Probe:
    versions = installed(*_PACKAGES)
    if missing := [package for package in _PACKAGES if package not in versions]:
        return Probe(False, reason=f"{', '.join(missing)} not installed", extra="convert")
    return Probe(True, version=", ".join(f"{name} {version}" for name, version in versions.items()), extra="convert")


CONVERTER = TFLiteConverter()
