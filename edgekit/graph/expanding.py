"""Operations that ONNX defines by others, replaced by what they are made of."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Any

from edgekit.graph.cleaning import lift_constants, remove_dead, remove_identities
from edgekit.graph.files import raise_opset
from edgekit.graph.folding import fold_constants
from edgekit.graph.naming import name_everything
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import copy_of, walk

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["expand_functions", "has_body"]

_DOMAIN = "edgekit.body"
_FULL_OPSET = 18
"""From here on ONNX gives a body for every function, and no operation inside one has changed its form since."""

_TIDY = (name_everything, lift_constants, remove_identities, infer_shapes, fold_constants, remove_dead, infer_shapes)
"""After each round: what is constant in the bodies is known before the next, which may then need no body."""


def expand_functions(model: ir.Model, keep: Container[str]) -> ir.Model:
    """A copy in which every operation outside `keep` that ONNX defines by a function is that function's body.

    Bodies inside bodies, and inside the graphs of If, Loop and Scan, are expanded too; what is constant in them is
    computed. An operation ONNX has no body for, or whose body depends on a rank nobody knows, stays what it is. The
    opset is raised to 18 when a body needs it.

    Args:
        model: A hub graph; bodies of operations that depend on a rank need its inputs' shapes.
        keep: Types of operations, as ``"Gelu"``, that stay.

    Raises:
        ConversionError: The opset has to be raised and cannot be.
    """
    model = infer_shapes(name_everything(copy_of(model)))
    if _is_too_old(model, keep):
        model = infer_shapes(raise_opset(model, _FULL_OPSET))
    while _expand_once(model, keep):
        for step in _TIDY:
            model = step(model)
    return model


def has_body(op_type: str, opset: int) -> bool:
    """Whether ONNX defines this operation of its own domain by others."""
    return bool(_versions(_schema(op_type, opset)))


def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    import onnx

    return onnx.defs.get_schema(op_type, opset, "") if onnx.defs.has(op_type, opset, "") else None


def _versions(schema: onnx.defs.OpSchema | None) -> list[int]:
    return (
        [] if schema is None else [*schema.function_opset_versions, *schema.context_dependent_function_opset_versions]
    )


def _candidates(model: ir.Model, keep: Container[str]) -> list[tuple[ir.Node, onnx.defs.OpSchema]]:
    opset = model.graph.opset_imports.get("", 1)
    nodes = [node for node, _ in walk(model.graph) if node.domain == "" and node.op_type not in keep]
    found = [(node, _schema(node.op_type, opset)) for node in nodes]
    return [(node, schema) for node, schema in found if schema is not None and _versions(schema)]


def _is_too_old(model: ir.Model, keep: Container[str]) -> bool:
    opset = model.graph.opset_imports.get("", 1)
    return any(min(_versions(schema)) > opset for _, schema in _candidates(model, keep))


def _expand_once(model: ir.Model, keep: Container[str]) -> bool:
    """Expands what stands in the graph now; what the bodies contain is left for the next time."""
    from onnx_ir.passes.common import InlinePass

    opset = model.graph.opset_imports.get("", 1)
    for number, (node, schema) in enumerate(_candidates(model, keep)):
        body = _body(node, schema, opset)
        if body is None:
            continue
        read = {attribute.ref_attr_name for inner in body.node for attribute in inner.attribute}
        _make_call(node, schema, read, str(number))
        function = _function(body, node, opset)
        model.functions[function.identifier()] = function
    if not any(domain == _DOMAIN for domain, _, _ in model.functions):
        return False
    InlinePass(criteria=lambda function: function.domain == _DOMAIN)(model)
    return True


def _body(node: ir.Node, schema: onnx.defs.OpSchema, opset: int) -> onnx.FunctionProto | None:
    """The newest body that is not newer than the model, as ONNX builds it for this very node."""
    import onnx
    import onnx_ir as ir

    version = max((version for version in _versions(schema) if version <= opset), default=None)
    if version is None:
        return None
    if version in schema.function_opset_versions:
        content = schema.get_function_with_opset_version(version)
    else:
        proto = ir.serde.serialize_node(node)
        types = [_type_of(value) for value in node.inputs]
        content = schema.get_context_dependent_function_with_opset_version(version, proto.SerializeToString(), types)
    body = onnx.FunctionProto.FromString(content)
    return body if body.node else None


def _type_of(value: ir.Value | None) -> bytes:
    import onnx_ir as ir

    return b"" if value is None else bytes(ir.serde.serialize_value(value).type.SerializeToString())


def _make_call(node: ir.Node, schema: onnx.defs.OpSchema, read: set[str], name: str) -> None:
    """The node calls a function of its own now, with those attributes, defaults included, that the body reads."""
    import onnx_ir as ir

    for attribute in list(node.attributes):
        if attribute not in read:
            del node.attributes[attribute]
    for attribute in sorted(read & set(schema.attributes) - set(node.attributes)):
        default: Any = schema.attributes[attribute].default_value
        if default.name:
            node.attributes[attribute] = ir.serde.deserialize_attribute(default)
    node.domain, node.op_type = _DOMAIN, f"{node.op_type}_{name}"


def _function(body: onnx.FunctionProto, call: ir.Node, opset: int) -> ir.Function:
    import onnx_ir as ir

    body.domain, body.name, body.overload = call.domain, call.op_type, ""
    del body.output[len(call.outputs) :]
    for entry in body.opset_import:
        entry.version = opset if entry.domain == "" else entry.version
    function = ir.serde.deserialize_function(body)
    for number, node in enumerate(function):
        node.name = f"{call.name}_{node.op_type}_{number}"
        for output in node.outputs:
            output.name = f"{call.name}_{output.name}" if output.name else None
    return function
