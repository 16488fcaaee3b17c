"""Operations that exporters write out as several, put together again, for writers whose format has them as one.

ONNX Runtime and OpenVINO recognize these themselves, so `clean` leaves them; TFLite's writer asks for them here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgekit.graph.activations import (
    fuse_clamps,
    fuse_gelu,
    fuse_hard_sigmoid,
    fuse_hard_swish,
    fuse_mish,
    fuse_softplus,
)
from edgekit.graph.cleaning import outline, remove_dead
from edgekit.graph.files import raise_opset
from edgekit.graph.matching import made_by, rewrite
from edgekit.graph.normalizations import (
    fuse_layer_norm,
    fuse_rms_norm,
    fuse_unit_length,
)
from edgekit.graph.scaled_norms import fuse_group_norm, fuse_scales
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import copy_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FUSED_OPSET", "FUSIONS", "fuse", "fuse_rearrangements"]

FUSED_OPSET = 23
"""The first opset that has all of the operations recognized here; RMSNormalization came last."""


def fuse(model: ir.Model) -> ir.Model:
    """A copy of a cleaned graph, raised to opset 23, in which every known pattern is the one operation it stands for.

    Those are Clip (Relu6 is one from 0 to 6), HardSigmoid, HardSwish, Gelu, Softplus, Mish, LayerNormalization,
    RMSNormalization, GroupNormalization, LpNormalization, DepthToSpace and SpaceToDepth. x Sigmoid(x) stays.

    Raises:
        ConversionError: The opset cannot be raised.
    """
    model, written = infer_shapes(raise_opset(copy_of(model), FUSED_OPSET)), ""
    while written != (written := outline(model)):
        for step in FUSIONS:
            model = step(model)
    return infer_shapes(remove_dead(model))


def fuse_rearrangements(model: ir.Model) -> ir.Model:
    """A Reshape, a Transpose and a Reshape that move blocks between space and channels are one operation."""
    return rewrite(model, _rearrangement)


def _rearrangement(root: ir.Node) -> ir.Node | None:
    import onnx_ir as ir

    transpose = made_by(root.inputs[0], "Transpose") if root.op_type == "Reshape" else None
    first = made_by(transpose.inputs[0], "Reshape") if transpose is not None else None
    x = first.inputs[0] if first is not None else None
    if transpose is None or first is None or x is None:
        return None
    shapes = [_inner_shape(value) for value in (x, first.outputs[0], root.outputs[0])]
    whole, split, result = shapes
    order = list(transpose.attributes.get_ints("perm", []))
    if whole is None or split is None or result is None or len(whole) != 3 or len(result) != 3:
        return None
    for op_type, perm, (block, parts, after), attributes in _FORMS:
        size = split[block] if len(split) == 5 else 0
        if order == perm and list(split) == parts(whole, size) and list(result) == after(whole, size):
            return ir.node(op_type, [x], {"blocksize": size, **attributes}, name=root.name)
    return None


def _inner_shape(value: ir.Value) -> tuple[int, ...] | None:
    """The dimensions behind the batch."""
    dims: list[Any] = list(value.shape or ())[1:]
    return tuple(dims) if dims and all(isinstance(dim, int) for dim in dims) else None


def _deep(whole: tuple[int, ...], size: int) -> list[int]:
    return [whole[0] // size**2, whole[1] * size, whole[2] * size]


def _flat(whole: tuple[int, ...], size: int) -> list[int]:
    return [whole[0] * size**2, whole[1] // size, whole[2] // size]


_FORMS: tuple[tuple[str, list[int], tuple[int, Any, Any], dict[str, str]], ...] = (
    (
        "DepthToSpace",
        [0, 3, 4, 1, 5, 2],
        (0, lambda whole, b: [b, b, whole[0] // b**2, *whole[1:]] if b else [], _deep),
        {"mode": "DCR"},
    ),
    (
        "DepthToSpace",
        [0, 1, 4, 2, 5, 3],
        (1, lambda whole, b: [whole[0] // b**2, b, b, *whole[1:]] if b else [], _deep),
        {"mode": "CRD"},
    ),
    (
        "SpaceToDepth",
        [0, 3, 5, 1, 2, 4],
        (2, lambda whole, b: [whole[0], whole[1] // b, b, whole[2] // b, b] if b else [], _flat),
        {},
    ),
)
"""The operation, the order of the axes, and the shapes before and behind the Transpose, as ONNX defines them."""

FUSIONS: tuple[Callable[[ir.Model], ir.Model], ...] = (
    fuse_clamps,
    fuse_hard_sigmoid,
    fuse_hard_swish,
    fuse_gelu,
    fuse_softplus,
    fuse_mish,
    fuse_layer_norm,
    fuse_rms_norm,
    fuse_group_norm,
    fuse_scales,
    fuse_unit_length,
    fuse_rearrangements,
    remove_dead,
    infer_shapes,
)
"""What `fuse` repeats in this order until nothing changes."""
