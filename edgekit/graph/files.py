"""Hub graphs in files: read with a new enough opset, written with the same bytes every time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import ArtifactError, ConversionError
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import inner_graphs, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MIN_OPSET", "load", "raise_opset", "save", "weight_bytes"]

MIN_OPSET = 13
"""The first opset whose QuantizeLinear and DequantizeLinear know one scale per channel."""

_MIN_IR_VERSION = 8
_MAX_INLINE_BYTES = 1_800_000_000
"""A protobuf message ends at 2 GiB; weights beyond this go to a file beside it."""


def load(path: Path) -> ir.Model:
    """Reads an .onnx file, with its opset raised to `MIN_OPSET` where it is older and all shapes derived.

    Raises:
        ArtifactError: The file is not a readable ONNX model.
        ConversionError: Its opset is too old and cannot be raised.
    """
    import onnx_ir as ir

    try:
        model = ir.load(path)
    except Exception as error:  # protobuf, onnx_ir and the file system all raise their own kinds
        raise ArtifactError(f"{path} is not a readable ONNX model: {error}", hint="export it again") from error
    if not model.graph.outputs:
        raise ArtifactError(f"{path} is not a readable ONNX model: it gives nothing", hint="export it again")
    return infer_shapes(raise_opset(model))


def raise_opset(model: ir.Model) -> ir.Model:
    """The model itself when its opset is new enough, else one brought to `MIN_OPSET` by ONNX's version converter."""
    import onnx
    import onnx_ir as ir

    opset = model.graph.opset_imports.get("")
    if opset is None or opset >= MIN_OPSET:
        return model
    _load_external(model)
    try:
        raised = onnx.version_converter.convert_version(ir.to_proto(model), MIN_OPSET)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise ConversionError(
            f"opset {opset} cannot be raised to {MIN_OPSET}",
            step="onnx -> hub",
            vendor_message=str(error),
            hint=f"export the model with opset {MIN_OPSET} or newer",
        ) from error
    model = ir.from_proto(raised)
    model.ir_version = max(model.ir_version, _MIN_IR_VERSION)
    return model


def _load_external(model: ir.Model) -> None:
    import onnx_ir as ir

    ir.external_data.load_to_model(model)


def save(model: ir.Model, path: Path) -> tuple[Path, ...]:
    """Writes the model and gives all files written; beyond 1.8 GB of weights a second one, ``NAME.data``, holds them.

    Shapes of intermediate tensors are not stored: they follow from the rest.
    """
    import onnx_ir as ir

    model.ir_version = max(model.ir_version, _MIN_IR_VERSION)
    if weight_bytes(model) > _MAX_INLINE_BYTES:
        ir.save(model, path, external_data=f"{path.name}.data")
        return path, path.with_name(f"{path.name}.data")
    _load_external(model)
    proto = ir.to_proto(model)
    _drop_value_info(proto.graph)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return (path,)


def _drop_value_info(graph: Any) -> None:
    del graph.value_info[:]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _drop_value_info(inner)


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers, those of inner graphs included."""
    graphs = [model.graph, *(inner for node, _ in walk(model.graph) for inner in inner_graphs(node))]
    values = [value for graph in graphs for value in graph.initializers.values()]
    return sum(value.const_value.nbytes for value in values if value.const_value is not None)
