"""Scales and offsets behind a layer that multiplies by constants go into its weight and bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.walking import constant, fresh_name, initializer, int_attribute, rank, replace_value, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["fold_batch_norms", "fold_scales", "only_producer"]

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_AXES = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1, "MatMul": -1}
"""Where the output has the channels of the weight."""


def fold_batch_norms(model: ir.Model) -> ir.Model:
    """A BatchNormalization that follows a convolution or Gemm goes into its weight and bias."""
    taken = value_names(model.graph)
    for norm in list(model.graph):
        if norm.op_type != "BatchNormalization" or int_attribute(norm, "training_mode", 0):
            continue
        layer = only_producer(norm.inputs[0], *_LAYERS[:3])
        statistics = [constant(value) for value in norm.inputs[1:5]]
        if layer is None or any(array is None for array in statistics):
            continue
        gamma, beta, mean, variance = (np.asarray(array, "float64") for array in statistics)
        factor = gamma / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
        if _absorb(model, layer, factor, beta - mean * factor, taken):
            replace_value(norm.outputs[0], layer.outputs[0])
            model.graph.remove(norm, safe=True)
    return model


def fold_scales(model: ir.Model) -> ir.Model:
    """Constants multiplied with or added to what a layer gives, one or one per channel, go into its weight and bias."""
    taken = value_names(model.graph)
    for node in list(model.graph):
        found = _layer_and_constant(node)
        if found is None:
            continue
        layer, array = found
        factor, shift = _STEPS[node.op_type](array.astype("float64"))
        if _absorb(model, layer, factor, shift, taken):
            replace_value(node.outputs[0], layer.outputs[0])
            model.graph.remove(node, safe=True)
    return model


_ZERO, _ONE = np.zeros(1), np.ones(1)
_STEPS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "Mul": lambda array: (array, _ZERO),
    "Div": lambda array: (1.0 / array, _ZERO),
    "Add": lambda array: (_ONE, array),
    "Sub": lambda array: (_ONE, -array),
}


def _layer_and_constant(node: ir.Node) -> tuple[ir.Node, np.ndarray] | None:
    """The layer a node scales or shifts, and by what: a flat array of one number, or one for each channel."""
    if node.op_type not in _STEPS or node.domain != "":
        return None
    for left, right in ((0, 1), (1, 0))[: 2 if node.op_type in ("Mul", "Add") else 1]:
        layer, array = only_producer(node.inputs[left], *_LAYERS), constant(node.inputs[right])
        if layer is None or array is None or array.dtype.kind != "f" or (layer.op_type == "MatMul" and _adds(node)):
            continue
        if node.op_type == "Div" and not array.all():
            continue
        if (flat := _per_channel(array, rank(layer.outputs[0]), _AXES[layer.op_type])) is not None:
            return layer, flat
    return None


def _adds(node: ir.Node) -> bool:
    return node.op_type in ("Add", "Sub")


def _per_channel(array: np.ndarray, dims: int | None, axis: int) -> np.ndarray | None:
    """The numbers when they differ along that axis of the layer's output only, which they do not make larger."""
    if dims is None or array.ndim > dims:
        return None
    shape = (1,) * (dims - array.ndim) + array.shape
    return array.reshape(-1) if array.size in (1, shape[axis]) else None


def only_producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node of one of `op_types` that makes a value for a single reader in the same graph."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type not in op_types or node.domain != "":
        return None
    readers = [user for user, _ in value.uses()]
    same_graph = all(user.graph is node.graph for user in readers)
    return node if len(readers) == 1 and same_graph and not value.is_graph_output() else None


def _absorb(model: ir.Model, layer: ir.Node, factor: np.ndarray, shift: np.ndarray, taken: set[str]) -> bool:
    """Makes a layer give `factor` times what it gave, plus `shift`; whether it could."""
    weight, old = _weight_of_its_own(layer), layer.inputs[2] if len(layer.inputs) > 2 else None
    bias = constant(old)
    if weight is None or weight.dtype.kind != "f" or (old is not None and bias is None):
        return False
    channels = _channels(layer, weight)
    if factor.size not in (1, channels) or shift.size not in (1, channels) or weight.ndim < 2:
        return False
    if bias is not None and bias.size not in (1, channels):
        return False
    if not np.all(factor == 1):
        _set_input(
            model, layer, 1, _scaled(layer, weight, np.broadcast_to(factor, channels)).astype(weight.dtype), taken
        )
    if bias is not None or np.any(shift):
        beta = layer.attributes.get_float("beta", 1.0) if layer.op_type == "Gemm" else 1.0
        moved = (0.0 if bias is None else beta * bias.reshape(-1).astype("float64")) * factor + shift
        _set_input(model, layer, 2, np.broadcast_to(moved, channels).astype(weight.dtype), taken)
        layer.attributes.pop("beta", None)
    return True


def _channels(layer: ir.Node, weight: np.ndarray) -> int:
    if layer.op_type == "ConvTranspose":
        return int(weight.shape[1]) * int_attribute(layer, "group", 1)
    return int(weight.shape[0 if layer.op_type == "Conv" or int_attribute(layer, "transB", 0) else -1])


def _scaled(layer: ir.Node, weight: np.ndarray, factor: np.ndarray) -> np.ndarray:
    if layer.op_type == "ConvTranspose":  # its channels are the group's times the second axis of the weight
        groups = int_attribute(layer, "group", 1)
        parts = weight.reshape(groups, -1, *weight.shape[1:])
        return np.asarray(parts * factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)
    if layer.op_type == "Conv" or int_attribute(layer, "transB", 0):
        return np.asarray(weight * factor.reshape([-1] + [1] * (weight.ndim - 1)))
    return np.asarray(weight * factor)


def _weight_of_its_own(node: ir.Node) -> np.ndarray | None:
    value = node.inputs[1]
    return constant(value) if value is not None and len(value.uses()) == 1 else None


def _set_input(model: ir.Model, node: ir.Node, index: int, array: np.ndarray, taken: set[str]) -> None:
    old = node.inputs[index] if index < len(node.inputs) else None
    base = old.name if old is not None and old.name else f"{node.name}_{'bias' if index == 2 else 'weight'}"
    value = initializer(model.graph, fresh_name(taken, f"{base.removesuffix('_folded')}_folded"), array)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)
