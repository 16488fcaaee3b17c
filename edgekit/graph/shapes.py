"""Shapes and dtypes of every tensor of a hub graph, and its signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgekit.graph.walking import constant, copy_of, dtype_name, walk
from edgekit.spec import STATE_KEY, Dim, Signature, TensorSpec, state_pairs

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["bind_dimensions", "infer_shapes", "signature"]


def infer_shapes(model: ir.Model) -> ir.Model:
    """Shapes and dtypes of all tensors, derived anew; a symbolic dimension stays one.

    What a file says of its intermediate tensors is dropped first, since files are found that say it wrongly; where
    nothing can be derived, as behind an operation of a vendor's own domain, the file's word is kept.
    """
    said = {}
    for node, _ in walk(model.graph):
        for value in node.outputs:
            if not value.is_graph_output():
                said[value] = (value.shape, value.type)
                value.shape = None
                value.type = None
    _infer(model)
    if _tell_unpooled(model):
        _infer(model)
    for value, (shape, kind) in said.items():
        if value.shape is None:
            value.shape = shape
        if value.type is None:
            value.type = kind
    return model


_SHAPED_AS_INPUT = {"GroupNormalization", "MeanVarianceNormalization"}
"""Operations ONNX infers nothing for, though their output is as large as their input: Identity stands in for them."""


def _infer(model: ir.Model) -> None:
    from onnx_ir.passes.common import ShapeInferencePass

    replaced = [(node, node.op_type) for node, _ in walk(model.graph) if node.domain == ""]
    replaced = [(node, kind) for node, kind in replaced if kind in _SHAPED_AS_INPUT]
    for node, _ in replaced:
        node.op_type = "Identity"
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    for node, kind in replaced:
        node.op_type = kind


def _tell_unpooled(model: ir.Model) -> bool:
    """Gives outputs of MaxUnpool the size they are asked for, which ONNX does not look at; says whether it gave any."""
    import onnx_ir as ir

    found = False
    for node, _ in walk(model.graph):
        size = constant(node.inputs[2]) if node.op_type == "MaxUnpool" and len(node.inputs) > 2 else None
        if size is not None and node.outputs[0].shape is None:
            node.outputs[0].shape, found = ir.Shape(int(n) for n in size), True
            node.outputs[0].type = node.outputs[0].type or (node.inputs[0].type if node.inputs[0] else None)
    return found


def bind_dimensions(model: ir.Model, bindings: Mapping[str, int] | None = None, *, default: int | None = 1) -> ir.Model:
    """A copy whose inputs have numbers for dimensions: those of `bindings` by symbol, `default` for all others.

    Without a `default` the others stay open.
    """
    import onnx_ir as ir

    bound = copy_of(model)
    sizes = bindings or {}
    for value in bound.graph.inputs:
        if value.shape is not None:
            value.shape = ir.Shape(
                dim if isinstance(dim, int) else sizes.get(str(dim.value), default or dim) for dim in value.shape
            )
    said = {value: value.shape for value in bound.graph.outputs if value.shape is not None}
    for node, _ in walk(bound.graph):
        for value in node.outputs:
            value.shape = None
    infer_shapes(bound)
    for value, shape in said.items():  # ONNX wants to know at least the rank of an output
        if value.shape is None:
            value.shape = ir.Shape(d if isinstance(d, int) else sizes.get(str(d.value), d) for d in shape)
    return bound


def signature(model: ir.Model) -> Signature:
    """Names, dtypes and shapes of what a graph takes and gives, and its state; initializers are not inputs."""
    inputs = [value for value in model.graph.inputs if value.const_value is None]
    state = state_pairs(model.metadata_props.get(STATE_KEY, ""))
    return Signature(tuple(map(_spec, inputs)), tuple(map(_spec, model.graph.outputs)), state)


def _spec(value: ir.Value) -> TensorSpec:
    shape: list[Dim] = []
    for index, dim in enumerate(value.shape or ()):
        shape.append(dim if isinstance(dim, int) else str(dim.value or f"{value.name}_dim_{index}"))
    return TensorSpec(value.name or "", dtype_name(value), tuple(shape))
