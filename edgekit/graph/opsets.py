"""Models under an older opset, for engines that open no newer one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgekit.errors import UnsupportedError
from edgekit.graph.expanding import expand_functions
from edgekit.graph.walking import copy_of, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["at_most_opset", "lower_opset"]


def lower_opset(model: ir.Model, limits: Mapping[str, int]) -> ir.Model:
    """A model whose opset is not above the limit of any operation in it, where nothing but accepted dtypes changed.

    Args:
        model: A hub graph; it is not changed.
        limits: By type of operation, the last opset an engine has a kernel for.

    Returns:
        The same graph under the older opset, or `model` itself where that would say something else.
    """
    present = model.graph.opset_imports.get("", 1)
    kinds = {node.op_type for node, _ in walk(model.graph) if node.domain == ""}
    wanted = min([limits[kind] for kind in kinds & set(limits)], default=present)
    if wanted >= present or not all(_same_form(kind, wanted, present) for kind in kinds):
        return model
    lowered = copy_of(model)
    lowered.graph.opset_imports[""] = wanted
    return lowered


def at_most_opset(model: ir.Model, limit: int) -> ir.Model:
    """A model whose opset is not above `limit`; newer operations that ONNX defines by others are written out.

    Raises:
        UnsupportedError: Operations have no such form; lists them all.
    """
    import onnx

    present = model.graph.opset_imports.get("", 1)
    if present <= limit:
        return model
    if newer := _newer(model, limit, present):
        model = expand_functions(model, {schema.name for schema in onnx.defs.get_all_schemas()} - newer)
    if newer := _newer(model, limit, present):
        offenders = [f"{n.op_type} ({n.name})" for n, _ in walk(model.graph) if n.op_type in newer and n.domain == ""]
        raise UnsupportedError(
            f"the target's ONNX Runtime opens models up to opset {limit}",
            offenders=offenders,
            hint="choose another format, or a target file with a higher onnx_opset",
        )
    lowered = copy_of(model)
    lowered.graph.opset_imports[""] = limit
    imports = [onnx.helper.make_opsetid("", limit)]
    lowered.ir_version = min(model.ir_version, onnx.helper.find_min_ir_version_for(imports))
    return lowered


def _newer(model: ir.Model, limit: int, present: int) -> set[str]:
    """Types of operations that opset `limit` lacks, or has in another form."""
    kinds = {node.op_type for node, _ in walk(model.graph) if node.domain == ""}
    return {kind for kind in kinds if not _same_form(kind, limit, present)}


def _same_form(op_type: str, old: int, new: int) -> bool:
    """Whether two versions of an operation have the same inputs, outputs, attributes and defaults."""
    import onnx

    if not onnx.defs.has(op_type, old, ""):
        return False
    forms = []
    for version in (old, new):
        schema = onnx.defs.get_schema(op_type, version, "")
        attributes = {
            name: (attribute.type, attribute.required, attribute.default_value.SerializeToString())
            for name, attribute in schema.attributes.items()
        }
        forms.append(
            (attributes, *([(end.name, end.option) for end in side] for side in (schema.inputs, schema.outputs)))
        )
    return forms[0] == forms[1]
