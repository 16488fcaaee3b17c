"""Hub graphs in files: read with a new enough opset, written with the same bytes every time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import ArtifactError, ConversionError
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.sparse import make_dense
from edgekit.graph.walking import inner_graphs, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MIN_OPSET", "load", "raise_opset", "save", "weight_bytes"]

MIN_OPSET = 13
"""The first opset whose QuantizeLinear and DequantizeLinear know one scale per channel."""

_MIN_IR_VERSION = 8
_SHOWN_BYTES = 1024
"""Smaller constants are shown to ONNX's version converter, which may have to read them."""
_MAX_INLINE_BYTES = 1_800_000_000
"""A protobuf message ends at 2 GiB; weights beyond this go to a file beside it."""


def load(path: Path) -> ir.Model:
    """Reads an .onnx file, with its opset raised to `MIN_OPSET` where it is older and all shapes derived.

    Raises:
        ArtifactError: The file is not a readable ONNX model.
        ConversionError: Its opset is too old and cannot be raised.
    """
    try:
        model = _read(path)
    except Exception as error:  # protobuf, onnx_ir and the file system all raise their own kinds
        raise ArtifactError(f"{path} is not a readable ONNX model: {error}", hint="export it again") from error
    _open_negative_sizes(model)
    if not model.graph.outputs:
        raise ArtifactError(f"{path} is not a readable ONNX model: it gives nothing", hint="export it again")
    return infer_shapes(raise_opset(model))


def _read(path: Path) -> ir.Model:
    """The file; a second time without onnx-ir's own reader, which knows no sparse constants, when it has some."""
    import onnx
    import onnx_ir as ir

    try:
        model = ir.load(path)
    except ir.serde.SerdeError:
        model = None
    if model is not None and not any(_is_nowhere(value) for node in model.graph for value in node.inputs):
        return model
    proto = onnx.load(path)
    if model is not None and not proto.graph.sparse_initializer:
        return model
    make_dense(proto.graph)
    return ir.from_proto(proto)


def _is_nowhere(value: ir.Value | None) -> bool:
    """Whether a value is made by nothing: a constant that was not read."""
    if value is None or value.producer() is not None:
        return False
    return value.const_value is None and not value.is_graph_input()


def _open_negative_sizes(model: ir.Model) -> None:
    """Some exporters write -1 for a size nobody knows; ONNX leaves it out."""
    import onnx_ir as ir

    values = [*model.graph.inputs, *model.graph.outputs, *(v for node, _ in walk(model.graph) for v in node.outputs)]
    for value in values:
        if value.shape is not None and any(isinstance(dim, int) and dim < 0 for dim in value.shape):
            value.shape = ir.Shape(None if isinstance(dim, int) and dim < 0 else dim for dim in value.shape)


def raise_opset(model: ir.Model, opset: int = MIN_OPSET) -> ir.Model:
    """The model itself when its opset is new enough, else one brought to `opset` by ONNX's version converter.

    Raises:
        ConversionError: The converter cannot do it.
    """
    import onnx
    import onnx_ir as ir

    present = model.graph.opset_imports.get("")
    if present is None or present >= opset:
        return model
    _refuse_flattening(model, present)
    _load_external(model)
    weights = _detach_weights(model)
    try:
        raised = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), opset))
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise ConversionError(
            f"opset {present} cannot be raised to {opset}",
            step="onnx -> hub",
            vendor_message=str(error),
            hint=f"export the model with opset {opset} or newer",
        ) from error
    finally:
        _attach_weights(model, weights)
    _attach_weights(raised, weights)
    raised.ir_version = max(raised.ir_version, _MIN_IR_VERSION)
    raised.metadata_props.update(model.metadata_props)
    return raised


def _refuse_flattening(model: ir.Model, present: int) -> None:
    """Until opset 13 Hardmax looked at all axes from its own on at once; the version converter does not adapt it."""
    for node, _ in walk(model.graph) if present < MIN_OPSET else ():
        shape = node.inputs[0].shape if node.op_type == "Hardmax" and node.inputs[0] is not None else None
        axis = int(node.attributes.get_int("axis", 1) or 0) if node.op_type == "Hardmax" else -1
        if node.op_type == "Hardmax" and axis != -1 and (shape is None or axis != len(shape) - 1):
            raise ConversionError(
                f"Hardmax {node.name!r} of opset {present} over several axes has no newer form",
                step="onnx -> hub",
                hint=f"export the model with opset {MIN_OPSET} or newer",
            )


def _detach_weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Makes inputs of the large initializers: the converter need not see them, and protobuf ends at 2 GiB."""
    weights: dict[str, ir.TensorProtocol] = {}
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _SHOWN_BYTES and not value.is_graph_input():
            weights[name] = tensor
            del model.graph.initializers[name]
            value.const_value = None
            model.graph.inputs.append(value)
    return weights


def _attach_weights(model: ir.Model, weights: dict[str, ir.TensorProtocol]) -> None:
    for value in [value for value in model.graph.inputs if value.name in weights]:
        model.graph.inputs.remove(value)
        value.const_value = weights[value.name or ""]
        model.graph.register_initializer(value)


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
