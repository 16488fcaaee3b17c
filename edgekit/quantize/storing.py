"""Weights that are stored in few bits though their operations compute in float, or round activations in each call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.matching import made_by
from edgekit.graph.walking import constant, dtype_name, int_attribute
from edgekit.quantize.anchors import WEIGHTY
from edgekit.quantize.clipping import clip_groups, clip_weight
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight
from edgekit.quantize.solver import quantize_groups, quantize_weight
from edgekit.recipe import DYNAMIC, HALF, STATIC, WEIGHT_ONLY

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.recipe import Recipe
    from edgekit.target import Placement

__all__ = ["Stored", "is_plain_product", "store"]

_WEIGHTS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "MatMul", "Gemm"), (1,)),
    **dict.fromkeys(("Gather", "Slice"), (0,)),  # embeddings of words and of positions
    **dict.fromkeys(("LSTM", "GRU"), (1, 2)),
}
"""Places of the weights among the inputs."""

_TABLES = ("Gather", "Slice")
"""Operations that pick rows of a constant: nothing is computed, so a static recipe stores what they read."""

_MIN_ELEMENTS = 64
"""Below this the scales and the conversion back are larger than what is saved."""

_HALF_LOSS = 1e-3
"""What half precision may lose of a weight; of numbers in its normal range it loses a third of that."""

_SMALL_INPUT = 4
"""A recurrent layer computed in float keeps its input weights where they are so many times fewer than the others.

Such a layer reads features, whose ranges may differ by decades, and 8 bits are too few for one row of weights over all:
on Resemblyzer they cost 16 dB, and the floats 2 % of the file.
"""


@dataclass
class Stored:
    """What is stored in few bits.

    Attributes:
        weights: Integers by the initializer's name.
        halves: Names of initializers to be stored in half precision.
        dynamic_ops: Names of the operations that round their activations in each call.
        kept: Why an operation's weights are stored as they are.
        floats: The precision in which an operation's weights are stored though it computes in float.
    """

    weights: dict[str, QuantizedWeight | GroupedWeight] = field(default_factory=dict)
    halves: tuple[str, ...] = ()
    dynamic_ops: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)

    def add_halves(self, operation: str, names: Sequence[str]) -> None:
        self.halves = tuple(dict.fromkeys((*self.halves, *names)))
        if names:
            self.floats[operation] = "its weights stored as fp16"

    def reasons(self, float_ops: Mapping[str, str]) -> dict[str, str]:
        """Why operations compute in float, those left out that round their activations in each call."""
        said = {name: reason for name, reason in float_ops.items() if name not in self.dynamic_ops}
        return {**said, **self.floats, **self.kept}


def store(
    graph: ir.Model,
    placement: Placement,
    recipe: Recipe,
    *,
    taken: Collection[str] = (),
    beside_integers: bool = False,
) -> Stored:
    """Decides for every operation of the outer graph with a constant weight.

    Args:
        graph: A cleaned hub graph.
        placement: Which operations the format can store so, and which have dynamic kernels.
        recipe: Which precision each operation is to have.
        taken: Names of weights that are integers for their own sake.
        beside_integers: Whether operations compute in static integers, so that tables are stored small beside them.
    """
    stored = Stored()
    dynamic = []
    for node in graph.graph:
        wanted = recipe.precision_of(node.name or "", node.op_type)
        if beside_integers and wanted in STATIC and node.op_type in _TABLES:
            wanted = "w8"
        if node.op_type not in _WEIGHTS or node.domain != "" or wanted not in (*WEIGHT_ONLY, *DYNAMIC, HALF):
            continue
        arrays = _weights(node, taken)
        if wanted == HALF:
            stored.add_halves(node.name or "", [name for name, array in arrays.items() if _fits_half(array)])
            continue
        is_dynamic = wanted in DYNAMIC and node.op_type in placement.dynamic
        if not is_dynamic and _has_small_input(list(arrays.values())):
            arrays.pop(next(iter(arrays)))
        if not arrays:
            stored.kept.update({node.name or "": _why_none(node)} if node.op_type in WEIGHTY else {})
            continue
        if reason := _refusal(node, next(iter(arrays.values())), placement, wanted):
            stored.kept[node.name or ""] = reason
            continue
        for name, array in arrays.items():
            if name not in stored.weights:  # of two that read one weight, the first decides its form
                stored.weights[name] = _rounded(node, array, placement, wanted, is_clipped=recipe.clipping == "mse")
        weights = [stored.weights[name] for name in arrays]
        if is_dynamic and _is_dynamic(node, weights):
            dynamic.append(node.name or "")
        else:
            form = wanted if any(isinstance(weight, GroupedWeight) for weight in weights) else "w8"
            stored.floats[node.name or ""] = f"its weights stored as {form}"
    stored.dynamic_ops = tuple(dynamic)
    return stored


def is_plain_product(node: ir.Node, weight: QuantizedWeight | GroupedWeight) -> bool:
    """Whether a node is no more than a product with a matrix, and a bias, whose scales run as its kernels want them."""
    if not _is_plain(node, weight.values):
        return False
    if isinstance(weight, GroupedWeight):
        return weight.axis == _sum_axis(node, weight.values)
    return weight.params.axis in (None, _channel_axis(node, weight.values))


def _is_plain(node: ir.Node, weight: np.ndarray) -> bool:
    if node.op_type not in ("MatMul", "Gemm") or weight.ndim != 2:
        return False
    is_scaled = any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta"))
    return node.op_type == "MatMul" or not (is_scaled or int_attribute(node, "transA", 0))


def _is_dynamic(node: ir.Node, weights: Sequence[QuantizedWeight | GroupedWeight]) -> bool:
    """Whether kernels that round activations in each call know this form of their operation."""
    if any(isinstance(weight, GroupedWeight) for weight in weights) or len(weights) < len(_WEIGHTS[node.op_type]):
        return False
    return node.op_type not in ("MatMul", "Gemm") or is_plain_product(node, weights[0])


def _weights(node: ir.Node, taken: Collection[str]) -> dict[str, np.ndarray]:
    """The float32 initializers worth storing small; none where one of an operation's weights is not constant."""
    found = {}
    for place in _WEIGHTS[node.op_type]:
        value = node.inputs[place]
        array = constant(value) if value is not None else None
        if value is None or array is None or dtype_name(value) != "float32" or array.ndim < 2:
            return {}
        if array.size >= _MIN_ELEMENTS and value.name not in taken and value.producer() is None:
            found[value.name or ""] = array
    return found


def _fits_half(array: np.ndarray) -> bool:
    """Whether half precision holds the numbers to a part in a thousand: neither too large nor too small for it."""
    if np.abs(array).max() > np.finfo("float16").max:
        return False
    lost = array - array.astype("float16").astype("float32")
    return bool(np.linalg.norm(lost) <= _HALF_LOSS * np.linalg.norm(array))


def _why_none(node: ir.Node) -> str:
    values = [node.inputs[place] for place in _WEIGHTS[node.op_type]]
    if any(made_by(value, "DequantizeLinear") for value in values):
        return "quantized already in the source"
    if any(constant(value) is None for value in values):
        return "its second operand is not constant"
    odd = [dtype_name(value) for value in values if value is not None and dtype_name(value) != "float32"]
    return f"its weights are {odd[0]}" if odd else "its weights are too few to gain"


def _has_small_input(arrays: Sequence[np.ndarray]) -> bool:
    return len(arrays) > 1 and arrays[0].size * _SMALL_INPUT <= arrays[1].size


def _refusal(node: ir.Node, weight: np.ndarray, placement: Placement, wanted: str) -> str:
    if wanted in DYNAMIC and node.op_type in placement.dynamic:
        return ""
    if node.op_type in placement.stored or _is_4_bits(node, weight, placement, wanted):
        return ""
    return f"{node.op_type} has no form here whose weights are stored in few bits"


def _is_4_bits(node: ir.Node, weight: np.ndarray, placement: Placement, wanted: str) -> bool:
    is_known = node.op_type in placement.stored_in_4_bits and placement.four_bits != ""
    return bool(WEIGHT_ONLY.get(wanted)) and is_known and _is_plain(node, weight)


def _rounded(
    node: ir.Node, weight: np.ndarray, placement: Placement, wanted: str, *, is_clipped: bool
) -> QuantizedWeight | GroupedWeight:
    if _is_4_bits(node, weight, placement, wanted):
        axis = _sum_axis(node, weight)
        block = WEIGHT_ONLY[wanted] if placement.four_bits == "group" else weight.shape[axis]
        assert block is not None
        symmetric = placement.four_bits == "channel"
        numbers = clip_groups(weight, axis, block, symmetric=symmetric) if is_clipped else weight
        return quantize_groups(numbers, axis, block, symmetric=symmetric)
    axis = _channel_axis(node, weight)
    return quantize_weight(clip_weight(weight, axis) if is_clipped else weight, axis)


def _sum_axis(node: ir.Node, weight: np.ndarray) -> int:
    """The axis products are summed over; of an embedding, that of a row."""
    if node.op_type == "Gemm":
        return 1 if int_attribute(node, "transB", 0) else 0
    return weight.ndim - 2 if node.op_type == "MatMul" else weight.ndim - 1


def _channel_axis(node: ir.Node, weight: np.ndarray) -> int:
    """The axis along which 8-bit scales run: the output channels; the rows of an embedding."""
    if node.op_type == "Gemm":
        return 0 if int_attribute(node, "transB", 0) else 1
    if node.op_type == "MatMul":
        return weight.ndim - 1
    return 1 if node.op_type in ("ConvTranspose", "LSTM", "GRU") else 0
