"""Normalizations of groups, and scales and offsets behind those of any kind. Opset 21 or newer is expected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.absorbing import only_producer
from edgekit.graph.cleaning import remove_dead
from edgekit.graph.matching import made_by, rewrite
from edgekit.graph.reshaping import merge_reshapes
from edgekit.graph.simplifying import remove_no_ops
from edgekit.graph.walking import constant, fresh_name, initializer, int_attribute, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["fuse_group_norm", "fuse_scales"]


def fuse_scales(model: ir.Model) -> ir.Model:
    """Constants multiplied with or added to a normalized tensor go into the normalization's own scale and bias."""
    taken = value_names(model.graph)
    return rewrite(model, lambda root: _scaled(model, taken, root))


def _scaled(model: ir.Model, taken: set[str], root: ir.Node) -> ir.Node | None:
    import onnx_ir as ir

    for left, right in ((0, 1), (1, 0)) if root.op_type in ("Mul", "Add") else ():
        norm = made_by(root.inputs[left], *_NORMALIZATIONS)
        number = constant(root.inputs[right])
        if norm is None or number is None or len(norm.outputs[0].uses()) > 1 or norm.outputs[0].is_graph_output():
            continue
        scale = constant(norm.inputs[1])
        bias = constant(norm.inputs[2]) if len(norm.inputs) > 2 else None
        aligned = _aligned(norm, number, scale)
        if scale is None or aligned is None or (len(norm.inputs) > 2 and bias is None):
            continue
        if root.op_type == "Add" and norm.op_type == "RMSNormalization":
            continue
        scale, bias = _moved(root.op_type, scale, bias, aligned)
        arrays = [array for array in (scale, bias) if array is not None]
        values = [
            initializer(model.graph, fresh_name(taken, f"{norm.name}_{word}"), array)
            for word, array in zip(("scale", "bias"), arrays, strict=False)
        ]
        attributes = [norm.attributes[name] for name in norm.attributes]
        return ir.Node("", norm.op_type, [norm.inputs[0], *values], attributes, name=norm.name)
    return None


_NORMALIZATIONS = ("LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization")


def _moved(
    op_type: str, scale: np.ndarray, bias: np.ndarray | None, number: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    if op_type == "Mul":
        return scale * number, None if bias is None else bias * number
    return scale, (np.zeros_like(scale) if bias is None else bias) + number


def _aligned(norm: ir.Node, number: np.ndarray, scale: np.ndarray | None) -> np.ndarray | None:
    """A constant behind a normalization in the shape of its scale; None when it varies along other axes."""
    source = norm.inputs[0]
    rank = len(source.shape or ()) if source is not None else 0
    if scale is None or not rank or number.ndim > rank or number.dtype != scale.dtype:
        return None
    full = number.reshape((1,) * (rank - number.ndim) + number.shape)
    if norm.op_type in _NORMALIZATIONS[:2]:
        lead = rank - scale.ndim
        if any(size != 1 for size in full.shape[:lead]):
            return None
        found = full.reshape(full.shape[lead:])
    else:
        if full.size != full.shape[1]:
            return None
        found = full.reshape(-1)
    same = np.broadcast_shapes(found.shape, scale.shape) if _broadcasts(found.shape, scale.shape) else None
    return np.broadcast_to(found, scale.shape) if same == scale.shape else None


def _broadcasts(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return len(left) == len(right) and all(a == b or a == 1 for a, b in zip(left, right, strict=True))


def fuse_group_norm(model: ir.Model) -> ir.Model:
    """An InstanceNormalization of channels put together in groups, as PyTorch writes it, is GroupNormalization.

    A Reshape to the groups is left behind it, which goes where the one that was there makes it superfluous.
    """
    taken = value_names(model.graph)
    model = rewrite(model, lambda root: _group_norm(model, taken, root))
    return remove_dead(remove_no_ops(merge_reshapes(model)))


def _group_norm(model: ir.Model, taken: set[str], norm: ir.Node) -> ir.Node | None:
    import onnx_ir as ir

    first = only_producer(norm.inputs[0], "Reshape") if norm.op_type == "InstanceNormalization" else None
    x, outer = (first.inputs[0], norm.graph) if first is not None else (None, None)
    if first is None or x is None or outer is None:
        return None
    arrays = [constant(value) for value in norm.inputs[1:3]]
    dims, grouped = _dims(x), [*_dims(first.outputs[0]), *_target(first)]
    channels, groups = dims[1] if len(dims) > 2 else None, arrays[0].size if arrays[0] is not None else 0
    if not isinstance(channels, int) or not groups or channels % groups or any(array is None for array in arrays):
        return None
    # A batch is the same when it is copied, when it has the same name, or when all behind it is as large.
    has_batch = 0 in grouped[3:4] or dims[0] == grouped[0] or (_count(dims[1:]) or -1) == _count(grouped[1:3])
    if len(grouped) < 3 or not has_batch:
        return None
    values = [
        initializer(model.graph, fresh_name(taken, f"{norm.name}_{word}"), np.repeat(array, channels // groups))
        for word, array in zip(("scale", "bias"), arrays, strict=True)
        if array is not None
    ]
    attributes = {"num_groups": groups, "epsilon": norm.attributes.get_float("epsilon", 1e-5)}
    whole = ir.node("GroupNormalization", [x, *values], attributes, name=f"{norm.name}_groups")
    whole.outputs[0].name = fresh_name(taken, f"{norm.name}_groups")
    whole.outputs[0].shape, whole.outputs[0].type = x.shape, x.type
    outer.insert_before(norm, whole)
    return ir.node("Reshape", [whole.outputs[0], first.inputs[1]], name=norm.name)


def _target(reshape: ir.Node) -> list[int]:
    array = constant(reshape.inputs[1])
    return [] if array is None or int_attribute(reshape, "allowzero", 0) else array.tolist()


def _count(dims: list[Any]) -> int:
    """The number of elements, or 0 when it is not known."""
    return math.prod(dims) if all(isinstance(dim, int) for dim in dims) else 0


def _dims(value: ir.Value) -> list[Any]:
    return list(value.shape or ())
