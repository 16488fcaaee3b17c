"""ONNX: read into the hub, whose form it is, and written from it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.converter import DirectRoad, SourceModel, Written
from edgekit.converters._half_weights import half_notes, halve_weights
from edgekit.converters._onnx_wire import looks_like_onnx
from edgekit.errors import ArtifactError, ConversionError, UnsupportedError
from edgekit.graph.cleaning import clean
from edgekit.graph.files import load, save
from edgekit.graph.legalizing import (
    Rule,
    extend_mask,
    legalize,
    move_batch_behind_time,
    natural_unpooled_shape,
    refuse_gaps,
    split_weight_zero_points,
    state_attribute,
)
from edgekit.graph.operations import require_known
from edgekit.graph.opsets import lower_opset
from edgekit.graph.shapes import signature
from edgekit.graph.walking import constant, rank, static_shape, walk
from edgekit.registry import RUNTIMES, Probe, installed
from edgekit.runtime import EngineOptions, Session

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.quantize.plan import QuantPlan

__all__ = ["CONVERTER", "OnnxConverter", "read_graph"]

_PACKAGES = ("onnx", "onnx-ir")
_LAST_OPSETS = {"RoiAlign": 21}
"""ONNX Runtime 1.31 has no kernel for RoiAlign-22, which differs from RoiAlign-16 in dtypes alone."""

_INTEGERS = {
    "QuantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MatMulInteger",
}  # fmt: skip
"""A model with one of these came quantized."""

_RULES: dict[str, Rule] = {
    **dict.fromkeys(("RNN", "GRU", "LSTM"), move_batch_behind_time),  # ONNX Runtime has layout 0 only
    "Attention": extend_mask,  # which ONNX Runtime wants as long as the keys
    "ConvInteger": split_weight_zero_points,  # one zero point for all channels is what ONNX Runtime has
    # Shape inference of onnx 1.23 takes the defaults of these two for something else.
    "MeanVarianceNormalization": state_attribute("axes", [0, 2, 3]),
    "STFT": state_attribute("onesided", 1),
}


class OnnxConverter:
    """The .onnx file."""

    name = "onnx"
    format = "onnx"
    suffix = ".onnx"
    reads = True
    writes = True
    reading = "as it is; the opset is raised where it is older than 13"
    writing = "edgekit, by onnx-ir; checked by ONNX's own checker"
    fixes_sizes = False
    exports = ("hub",)
    roads: tuple[DirectRoad, ...] = ()

    def probe(self) -> Probe:
        """Whether onnx and onnx-ir are installed and make and check a small model."""
        return _probe()

    def accepts(self, path: Path) -> bool:
        """Whether the file has the outer fields of an ONNX model."""
        return looks_like_onnx(path)

    def read(self, path: Path, stage: Path) -> SourceModel:
        """Checks the model and puts its cleaned copy under `stage`; ONNX Runtime answers for it, in fp32, one thread.

        Raises:
            ArtifactError: The file is damaged, or names weights outside its own folder.
            UnsupportedError: Operations ONNX Runtime does not know, or inputs that are no tensors.
        """
        self.probe().require("the onnx converter")
        graph = read_graph(path)
        engine = RUNTIMES.get("onnx")
        promised = signature(graph)
        session = Session(engine.open(path, EngineOptions(threads=1)), runtime="onnx", signature=promised)
        stage.mkdir(parents=True, exist_ok=True)
        hub = stage / "hub.onnx"
        save(graph, hub)
        versions = {**installed(*_PACKAGES), "onnxruntime": engine.probe().version.rpartition(" ")[2]}
        return SourceModel(
            kind="onnx",
            path=path,
            signature=promised,
            run=session.run,
            exports={"hub": hub},
            versions=versions,
            precision="w8a8" if any(node.op_type in _INTEGERS for node, _ in walk(graph.graph)) else "fp32",
        )

    def write(self, graph: Any, path: Path, *, precision: str, plan: QuantPlan | None) -> Written:
        """Writes fp32; fp16, which stores half and computes single; or what a plan says, in ONNX Runtime's forms.

        Inputs and outputs stay float.

        Raises:
            UnsupportedError: A precision of integers is asked for without a plan, or operations are not ONNX's, or ONNX
                Runtime would compute them otherwise than ONNX defines them.
            ConversionError: What was written is not valid ONNX.
        """
        self.probe().require("the onnx converter")
        require_known(graph, "the model")
        graph = lower_opset(legalize(graph, _RULES), _LAST_OPSETS)
        refuse_gaps(graph, {"ConvInteger": _zero_points, "MaxUnpool": _unpooling}, "ONNX Runtime")
        notes: list[str] = []
        if precision == "fp16":
            graph, kept = halve_weights(graph)
            notes += half_notes(kept)
        elif plan is not None:
            from edgekit.quantize.onnxruntime_form import to_onnxruntime

            graph = to_onnxruntime(halve_weights(graph, plan.halves)[0] if plan.halves else graph, plan)
            notes += plan.notes()
        elif precision != "fp32":
            raise UnsupportedError(
                f"the onnx writer cannot write {precision!r} without a plan", hint="fp32, fp16, or give a plan"
            )
        files = _write_checked(graph, path)
        return Written(files, notes=tuple(notes), versions=installed(*_PACKAGES))


def _zero_points(node: ir.Node) -> str:
    shape = static_shape(node.inputs[3]) if len(node.inputs) > 3 else ()
    return (
        "" if shape in ((), (1,)) else "a zero point for each channel of the weights must be a constant, of one group"
    )


def _unpooling(node: ir.Node) -> str:
    """ONNX counts the indices in the shape before the extra border, ONNX Runtime in the one after."""
    told = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return ""
    is_natural = told is not None and tuple(told.tolist()) == natural_unpooled_shape(node)
    return "" if is_natural else "with another output_shape than it has by itself, its indices mean another place"


def read_graph(path: Path) -> ir.Model:
    """The cleaned hub graph of an .onnx file, which takes and gives what the file says.

    Raises:
        ArtifactError: The file is damaged, or names weights outside its own folder.
        ConversionError: Its opset is too old, and cannot be raised without other inputs or outputs.
        UnsupportedError: Operations that ONNX does not define.
    """
    declared = _check_source(path)
    graph = clean(load(path))
    said = {value.name: value.type.tensor_type for value in (*declared.graph.input, *declared.graph.output)}
    changed = [
        f"{value.name} has {rank(value)} dimensions instead of {len(said[value.name].shape.dim)}"
        for value in (*graph.graph.inputs, *graph.graph.outputs)
        if value.name in said and said[value.name].HasField("shape") and value.shape is not None
        if rank(value) != len(said[value.name].shape.dim)
    ]
    if changed:
        raise ConversionError(
            f"a newer opset would change the model: {', '.join(changed)}",
            step="onnx -> hub",
            hint="export the model with opset 13 or newer",
        )
    require_known(graph, path.name)
    return graph


@functools.cache
def _probe() -> Probe:
    try:
        import onnx
        import onnx_ir as ir

        node = onnx.helper.make_node("Relu", ["x"], ["y"])
        values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "probe", values[:1], values[1:]))
        onnx.checker.check_model(ir.to_proto(clean(ir.from_proto(model))))
        versions = ", ".join(f"{name} {version}" for name, version in installed(*_PACKAGES).items())
    except Exception as error:  # noqa: BLE001 - a probe answers, whatever is wrong
        return Probe(False, reason=f"{type(error).__name__}: {error}", extra="convert")
    return Probe(True, version=versions, extra="convert")


def _write_checked(graph: Any, path: Path) -> tuple[Path, ...]:
    import onnx

    files = save(graph, path)
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        for file in files:
            file.unlink(missing_ok=True)
        raise ConversionError(
            "the file written is not valid ONNX", step="hub -> onnx", vendor_message=str(error)
        ) from error
    return files


def _check_source(path: Path) -> Any:
    """The model without its weights; raises ArtifactError for one that is not valid or reads outside its folder."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ArtifactError(f"{path} is damaged: {error}", hint="copy or export it again") from error
    _check_external(model, path.resolve().parent)
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        raise ArtifactError(
            f"{path} is not valid ONNX: {str(error).splitlines()[0]}", hint="export it again"
        ) from error
    return model


def _check_external(model: Any, folder: Path) -> None:
    import onnx

    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = (folder / location).resolve()
        if not location or Path(location).is_absolute() or not file.is_relative_to(folder):
            raise ArtifactError(
                f"tensor {tensor.name!r} names the file {location!r}, outside the model's folder",
                hint="use only models whose origin you know",
            )
        if not file.is_file():
            raise ArtifactError(
                f"{location} is missing, which holds tensor {tensor.name!r}", hint="copy it beside the model"
            )
        end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        if end > file.stat().st_size:
            raise ArtifactError(f"{location} is too short for tensor {tensor.name!r}", hint="copy it again")


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of a model, a graph or a node, however deep."""
    import onnx

    if isinstance(message, onnx.ModelProto):
        for part in (message.graph, *message.functions):
            yield from _tensors(part)
        return
    if isinstance(message, onnx.GraphProto):
        yield from message.initializer
        for sparse in message.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in message.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


CONVERTER = OnnxConverter()
