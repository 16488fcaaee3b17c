"""Normalizations that exporters write out, recognized as the one operation they are. Opset 23 is expected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.matching import made_by, reduced_axes, rewrite, scalar
from edgekit.graph.walking import constant, fresh_name, initializer, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["fuse_layer_norm", "fuse_rms_norm", "fuse_unit_length"]

_MAX_FLOOR = 1e-5
"""A lower limit of a norm that only keeps zeros from dividing by zero."""


@dataclass(frozen=True)
class _Quotient:
    """``numerator / sqrt(mean(square of squared, axes) + epsilon)``."""

    numerator: ir.Value
    squared: ir.Value
    axes: list[int]
    epsilon: float


def fuse_layer_norm(model: ir.Model) -> ir.Model:
    """(x - mean) / sqrt(variance + epsilon) over the last axes; scales and offsets behind it are for `scaled_norms`.

    Also as x s + (b - mean s) with s = scale / sqrt(variance + epsilon), the form of TensorFlow and Keras.
    """
    taken = value_names(model.graph)

    def match(root: ir.Node) -> ir.Node | None:
        found = _quotient(root)
        x = _centered(found.numerator, found.axes) if found is not None else None
        if found is not None and x is not None and _centered(found.squared, found.axes) is x:
            return _normalization(model, taken, root, "LayerNormalization", x, found)
        return _from_line(model, taken, root)

    return rewrite(model, match)


def _from_line(model: ir.Model, taken: set[str], root: ir.Node) -> ir.Node | None:
    """The same from ``x s + (b - mean s)``, where the last part may also be ``-mean s`` or that plus b."""
    for left, right in ((0, 1), (1, 0)) if root.op_type == "Add" else ():
        product = made_by(root.inputs[left], "Mul")
        for i, j in ((0, 1), (1, 0)) if product is not None else ():
            x, slope = (product.inputs[index] for index in (i, j)) if product is not None else (None, None)
            scale, variance = _scaled_root(slope)
            bias, mean = _offset(root.inputs[right], slope)
            found = _mean_square(variance)
            if x is None or found is None or not _is_mean(mean, x, found.axes):
                continue
            if _centered(found.squared, found.axes) is x:
                return _normalization(model, taken, root, "LayerNormalization", x, found, scale, bias)
    return None


def _scaled_root(value: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """The constant scale and the v of ``scale / sqrt(v)``."""
    if (variance := _under_root(value)) is not None:
        return None, variance
    product = made_by(value, "Mul")
    for left, right in ((0, 1), (1, 0)) if product is not None else ():
        if product is not None and constant(product.inputs[left]) is not None:
            return product.inputs[left], _under_root(product.inputs[right])
    return None, None


def _offset(value: ir.Value | None, slope: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """The constant b and the mean of ``b - mean slope``."""
    if (mean := _negative_product(value, slope)) is not None:
        return None, mean
    node = made_by(value, "Sub", "Add")
    if node is None:
        return None, None
    if node.op_type == "Sub":
        return (
            (node.inputs[0], _other(made_by(node.inputs[1], "Mul"), slope))
            if _is_constant(node.inputs[0])
            else (None, None)
        )
    for left, right in ((0, 1), (1, 0)):
        if _is_constant(node.inputs[left]):
            return node.inputs[left], _negative_product(node.inputs[right], slope)
    return None, None


def _is_constant(value: ir.Value | None) -> bool:
    return constant(value) is not None


def _negative_product(value: ir.Value | None, slope: ir.Value | None) -> ir.Value | None:
    """The mean of ``-mean slope``, the sign standing anywhere."""
    node = made_by(value, "Neg", "Mul")
    if node is None:
        return None
    if node.op_type == "Neg":
        return _other(made_by(node.inputs[0], "Mul"), slope)
    negative = made_by(_other(node, slope), "Neg")
    return negative.inputs[0] if negative is not None else None


def _other(product: ir.Node | None, factor: ir.Value | None) -> ir.Value | None:
    if product is None or factor is None or factor not in product.inputs:
        return None
    return product.inputs[1] if product.inputs[0] is factor else product.inputs[0]


def fuse_rms_norm(model: ir.Model) -> ir.Model:
    """x / sqrt(mean(x^2) + epsilon) over the last axes (Zhang and Sennrich, "Root Mean Square Layer Normalization")."""
    taken = value_names(model.graph)

    def match(root: ir.Node) -> ir.Node | None:
        found = _quotient(root)
        if found is None or found.numerator is not found.squared:
            return None
        return _normalization(model, taken, root, "RMSNormalization", found.numerator, found)

    return rewrite(model, match)


def _normalization(
    model: ir.Model,
    taken: set[str],
    root: ir.Node,
    op_type: str,
    x: ir.Value,
    found: _Quotient,
    scale: ir.Value | None = None,
    bias: ir.Value | None = None,
) -> ir.Node | None:
    import onnx_ir as ir

    kept = _trailing(x, found.axes)
    if kept is None or x.dtype is None:
        return None
    arrays = [np.ones(kept, x.dtype.numpy())]
    for place, given in enumerate((scale, bias)):
        if given is None:
            continue
        number = constant(given)
        if number is None or number.size not in (1, math.prod(kept)) or number.squeeze().ndim > len(kept):
            return None
        shape = kept if number.size > 1 else (1,) * len(kept)
        arrays[place:] = [np.broadcast_to(number.reshape(shape), kept)]
    values = [
        initializer(model.graph, fresh_name(taken, f"{root.name}_{word}"), array)
        for word, array in zip(("scale", "bias"), arrays, strict=False)
    ]
    return ir.node(op_type, [x, *values], {"axis": -len(kept), "epsilon": found.epsilon}, name=root.name)


def _trailing(x: ir.Value, axes: list[int]) -> tuple[int, ...] | None:
    """The sizes of the axes when they are the last ones, and known."""
    dims = list(x.shape or ())
    last = dims[len(dims) - len(axes) :]
    sizes = tuple(dim for dim in last if isinstance(dim, int))
    return sizes if axes and axes == list(range(len(dims)))[-len(axes) :] and len(sizes) == len(axes) else None


def _quotient(root: ir.Node) -> _Quotient | None:
    if root.op_type == "Div":
        parts = [(root.inputs[0], _inside_root(root.inputs[1]))]
    elif root.op_type == "Mul":
        parts = [(root.inputs[0], _under_root(root.inputs[1])), (root.inputs[1], _under_root(root.inputs[0]))]
    else:
        return None
    for numerator, variance in parts:
        found = _mean_square(variance)
        if numerator is not None and found is not None:
            return _Quotient(numerator, found.squared, found.axes, found.epsilon)
    return None


def _mean_square(variance: ir.Value | None) -> _Quotient | None:
    """The x, axes and epsilon of ``mean(x^2) + epsilon``."""
    add = made_by(variance, "Add")
    for left, right in ((0, 1), (1, 0)) if add is not None else ():
        mean, epsilon = (made_by(add.inputs[left], "ReduceMean"), scalar(add.inputs[right])) if add else (None, None)
        squared = _root_of_square(mean.inputs[0]) if mean is not None else None
        axes = reduced_axes(mean) if mean is not None else None
        if squared is not None and axes is not None and epsilon is not None:
            return _Quotient(squared, squared, axes, epsilon)
    return None


def _root_of_square(value: ir.Value | None) -> ir.Value | None:
    node = made_by(value, "Mul", "Pow")
    if node is None:
        return None
    is_square = node.inputs[0] is node.inputs[1] if node.op_type == "Mul" else scalar(node.inputs[1]) == 2
    return node.inputs[0] if is_square else None


def _inside_root(value: ir.Value | None) -> ir.Value | None:
    """The v of sqrt(v)."""
    node = made_by(value, "Sqrt", "Pow")
    if node is None or (node.op_type == "Pow" and scalar(node.inputs[1]) != 0.5):
        return None
    return node.inputs[0]


def _under_root(value: ir.Value | None) -> ir.Value | None:
    """The v of 1 / sqrt(v)."""
    node = made_by(value, "Reciprocal", "Div", "Pow")
    if node is None:
        return None
    if node.op_type == "Pow":
        return node.inputs[0] if scalar(node.inputs[1]) == -0.5 else None
    if node.op_type == "Div" and scalar(node.inputs[0]) != 1:
        return None
    return _inside_root(node.inputs[-1])


def _centered(value: ir.Value, axes: list[int]) -> ir.Value | None:
    """The x of ``x - mean(x, axes)``."""
    node = made_by(value, "Sub")
    x = node.inputs[0] if node is not None else None
    return x if node is not None and x is not None and _is_mean(node.inputs[1], x, axes) else None


def _is_mean(value: ir.Value | None, x: ir.Value, axes: list[int]) -> bool:
    mean = made_by(value, "ReduceMean")
    return mean is not None and mean.inputs[0] is x and reduced_axes(mean) == axes


def fuse_unit_length(model: ir.Model) -> ir.Model:
    """x divided by its Euclidean norm along one axis, kept from zero by a small limit, is LpNormalization."""
    return rewrite(model, _unit_length)


def _unit_length(root: ir.Node) -> ir.Node | None:
    import onnx_ir as ir

    for x, total in _divided(root):
        node = made_by(total, "ReduceL2", "ReduceSumSquare", "ReduceSum")
        axes = reduced_axes(node) if node is not None else None
        if node is None or x is None or axes is None or len(axes) != 1:
            continue
        squared = _root_of_square(node.inputs[0]) if node.op_type == "ReduceSum" else node.inputs[0]
        if squared is x:
            return ir.node("LpNormalization", [x], {"axis": axes[0], "p": 2}, name=root.name)
    return None


def _divided(root: ir.Node) -> list[tuple[ir.Value | None, ir.Value | None]]:
    """What a node divides, and the norm, or the square under its root, by which; limits for zeros are taken off."""
    if root.op_type == "Div":
        norm = _unlimited(root.inputs[1])
        is_norm = made_by(norm, "ReduceL2") is not None
        return [(root.inputs[0], norm if is_norm else _unlimited(_inside_root(norm)))]
    if root.op_type != "Mul":
        return []
    pairs = ((root.inputs[0], root.inputs[1]), (root.inputs[1], root.inputs[0]))
    return [(x, _unlimited(_under_root(_below_large(inverse)))) for x, inverse in pairs]


def _below_large(value: ir.Value | None) -> ir.Value | None:
    limit = made_by(value, "Min")
    is_large = limit is not None and (scalar(limit.inputs[1]) or 0.0) >= 1 / _MAX_FLOOR
    return limit.inputs[0] if limit is not None and is_large else value


def _unlimited(value: ir.Value | None) -> ir.Value | None:
    """The value before an Expand or a small lower limit."""
    while (node := made_by(value, "Expand", "Clip", "Max")) is not None:
        floor = scalar(node.inputs[1]) if node.op_type != "Expand" else 0.0
        is_open = len(node.inputs) < 3 or node.inputs[2] is None
        if floor is None or not 0 <= floor <= _MAX_FLOOR or (node.op_type == "Clip" and not is_open):
            return None
        value = node.inputs[0]
    return value
