"""OpenVINO IR, written from the hub; and the direct road from a SavedModel by OpenVINO's own reader."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.converter import DirectRoad, RoadRequest, SourceModel, Written
from edgekit.converters._openvino_gaps import for_openvino
from edgekit.errors import ConversionError, UnsupportedError
from edgekit.graph.files import save
from edgekit.graph.operations import require_known
from edgekit.graph.shapes import signature
from edgekit.graph.walking import constant
from edgekit.registry import Probe, installed
from edgekit.spec import Signature
from edgekit.worker import Worker

if TYPE_CHECKING:
    from edgekit.quantize.plan import QuantPlan

__all__ = ["CONVERTER", "ROADS", "OpenVINOConverter"]

_CHILD = "edgekit.converters._openvino_child"
_FLOATS = ("fp32", "fp16", "bf16")
_TIMEOUT_S = 1800.0
Convert = Callable[[str, str, str, str | None], dict[str, Any]]
"""`edgekit.converters._openvino_child.convert`, or what calls it elsewhere."""
_NOTES = {
    "fp16": "weights are stored in half precision; inputs, outputs and, unless asked otherwise, arithmetic are fp32",
    "bf16": "stored in fp32; the file asks for arithmetic in bf16, which CPUs without it do in fp32",
}


def _drive_saved_model(source: SourceModel, request: RoadRequest) -> Written:
    """Reads the SavedModel as it is, loops of recurrent layers included."""
    answer = _convert_in_child(str(source.exports["saved_model"]), str(request.path), request.precision, None)
    inputs, outputs = _match(source.signature, answer["inputs"], answer["outputs"])
    return Written(_files(request.path), inputs, outputs, _notes(request.precision), {"openvino": answer["version"]})


ROADS = (
    DirectRoad(
        name="SavedModel -> openvino (OpenVINO's own reader)",
        word="openvino",
        needs="saved_model",
        format="openvino",
        precisions=("fp32", "fp16"),
        why="when the hub cannot: OpenVINO reads TensorFlow's loops but refuses ONNX's",
        drive=_drive_saved_model,
    ),
)


class OpenVINOConverter:
    """The pair of an .xml and a .bin file."""

    name = "openvino"
    format = "openvino"
    suffix = ".xml"
    reads = False
    writes = True
    reading = ""
    writing = "OpenVINO's reader in a process of its own, integers placed by edgekit"
    fixes_sizes = False
    exports: tuple[str, ...] = ()
    roads = ROADS

    def __init__(self, convert: Convert | None = None) -> None:
        """With the child's `convert`, or, for who is a child already, another way of calling it."""
        self._convert = convert or _convert_in_child

    def probe(self) -> Probe:
        """Whether openvino is installed and its process starts."""
        return _probe()

    def write(self, graph: Any, path: Path, *, precision: str, plan: QuantPlan | None) -> Written:
        """Writes floats, or what `plan` says: FakeQuantize where it has activations, and small weights.

        Floats are fp32; fp16, which stores half; or bf16, which stores single and has the file ask for its arithmetic.
        A file with stored weights says by how many neighbors activations are rounded in each call, for the engine would
        else do so with all of them; 0 for not at all.

        Raises:
            UnsupportedError: A precision of integers without a plan, activations of 16 bits, or operations OpenVINO
                lacks or gets wrong.
            ConversionError: OpenVINO failed, or its process died.
        """
        self.probe().require("the openvino converter")
        require_known(graph, "the model")
        if precision not in _FLOATS and plan is None:
            raise UnsupportedError(
                f"the openvino writer cannot write {precision!r}", hint=f"{', '.join(_FLOATS)}, or give a plan"
            )
        if plan is not None and (wide := [name for name, p in plan.activations.items() if p.dtype[-2:] == "16"]):
            raise UnsupportedError(
                "OpenVINO has no kernels for activations of 16 bits, and computes them wrong (2026.4)",
                offenders=wide[:5],
                hint="w8a8, or w8 for float arithmetic",
            )
        graph = for_openvino(graph)
        with tempfile.TemporaryDirectory(prefix="edgekit-openvino-") as folder:
            hub = Path(folder) / "hub.onnx"
            save(graph, hub)
            if plan is not None:
                _leave_plan(graph, plan, Path(folder))
            answer = self._convert(str(hub), str(path), precision, folder if plan is not None else None)
        inputs, outputs = _match(signature(graph), answer["inputs"], answer["outputs"])
        notes = (*_notes(precision), *(_plan_notes(graph, plan) if plan is not None else ()))
        return Written(_files(path), inputs, outputs, notes, {"openvino": answer["version"]})


def _notes(precision: str) -> tuple[str, ...]:
    return (_NOTES[precision],) if precision in _NOTES else ()


def _plan_notes(graph: Any, plan: QuantPlan) -> list[str]:
    kept = [node.name for node in graph.graph if node.op_type in ("LSTM", "GRU") and _is_stored(node, plan)]
    said = "weights of recurrent layers are halves, for OpenVINO cannot keep bytes apart from integer activations: "
    return [*plan.notes(), *([said + ", ".join(kept)] if kept and plan.activations else [])]


def _is_stored(node: Any, plan: QuantPlan) -> bool:
    return any(value is not None and value.name in plan.stored for value in node.inputs)


def _leave_plan(graph: Any, plan: QuantPlan, folder: Path) -> None:
    from edgekit.converters._openvino_integers import write_plan

    names = dict.fromkeys((*plan.weights, *plan.stored, *plan.halves))
    arrays = {name: constant(graph.graph.initializers[name]) for name in names}
    readers = {name: [node.name for node in graph.graph.initializers[name].consumers()] for name in plan.stored}
    dynamic = {name for name, nodes in readers.items() if all(node in plan.dynamic_ops for node in nodes)}
    write_plan(plan, {name: array for name, array in arrays.items() if array is not None}, dynamic, folder)


def _convert_in_child(source: str, target: str, precision: str, plan: str | None) -> dict[str, Any]:
    with Worker("OpenVINO's converter", env={"PYTHONHASHSEED": "0"}) as worker:
        answer: dict[str, Any] = worker.call(
            f"{_CHILD}:convert", timeout_s=_TIMEOUT_S, source=source, target=target, precision=precision, plan=plan
        )
    return answer


def _files(path: Path) -> tuple[Path, ...]:
    return path, path.with_suffix(".bin")


def _match(promised: Signature, inputs: list[str], outputs: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The file's name for each of ours, where the road kept it; raises ConversionError when an input got lost."""
    if len(outputs) != len(promised.outputs):
        raise ConversionError(f"OpenVINO's file has outputs {outputs}, not those of {promised}", step="-> openvino")
    if len(inputs) != len(promised.inputs):
        lost = [spec.name for spec in promised.inputs if spec.name not in inputs]
        raise ConversionError(
            f"OpenVINO leaves out inputs on which no output depends: {', '.join(lost) or inputs}",
            step="-> openvino",
            hint="export the model without them",
        )
    return (
        {spec.name: spec.name for spec in promised.inputs if spec.name in inputs},
        {spec.name: spec.name for spec in promised.outputs if spec.name in outputs},
    )


def _probe() -> Probe:
    found = installed("openvino")
    if not found:
        return Probe(False, reason="openvino is not installed", extra="convert")
    return Probe(True, version=f"openvino {found['openvino']}", extra="convert")


CONVERTER = OpenVINOConverter()
