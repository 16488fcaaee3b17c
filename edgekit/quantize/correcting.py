"""Biases that take in the mean error of rounded weights.

Rounding moves what a layer gives by the error of its weights times what they multiply; the mean of that is known from
calibration data and goes into the bias. Source: Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization
Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.2, with means measured in place of derived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.walking import constant, copy_of, fresh_name, initializer, value_names
from edgekit.quantize.moments import Moments
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight
from edgekit.quantize.rows import as_rows

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Corrected", "correct_biases", "mean_shifts"]


@dataclass(frozen=True)
class Corrected:
    """A graph whose biases make up for rounded weights.

    Attributes:
        graph: A copy with the weights as they were.
        biases: The new biases by the name of the operation that adds them: float32 [channels].
        without: Names of operations nothing constant is added to, and which cannot add: a MatMul alone.
    """

    graph: ir.Model
    biases: Mapping[str, np.ndarray]
    without: tuple[str, ...]


def correct_biases(
    graph: ir.Model, rounded: Mapping[str, QuantizedWeight | GroupedWeight], moments: Moments
) -> Corrected:
    """Corrects the bias of every operation whose weight is rounded and whose inputs were measured.

    A Conv, ConvTranspose or Gemm without a bias gets one. A bias others read too is left to them.

    Args:
        graph: The cleaned hub graph the plan and the moments are of.
        rounded: Integers by the name of the weight, as `QuantPlan.weights` and `QuantPlan.stored`.
        moments: What `gather` found.
    """
    corrected, taken = copy_of(graph), value_names(graph.graph)
    biases: dict[str, np.ndarray] = {}
    without: list[str] = []
    for name, shift in mean_shifts(graph, rounded, moments).items():
        node = corrected.graph.node(name)
        place = _bias_place(node, shift.size)
        if place is None:
            without.append(name)
            continue
        adder, index = place
        old = constant(adder.inputs[index]) if index < len(adder.inputs) else None
        bias = np.asarray(0.0 if old is None else old, "float64") - shift
        biases[name] = bias.reshape(-1).astype("float32")
        shape = bias.shape if old is None or old.size != shift.size else old.shape
        value = initializer(
            corrected.graph, fresh_name(taken, f"{name}_bias_corrected"), bias.reshape(shape).astype("float32")
        )
        if index == len(adder.inputs):
            adder.resize_inputs(index + 1)
        adder.replace_input_with(index, value)
    return Corrected(_without_unread(corrected), biases, tuple(without))


def mean_shifts(
    graph: ir.Model, rounded: Mapping[str, QuantizedWeight | GroupedWeight], moments: Moments
) -> dict[str, np.ndarray]:
    """By how much rounding moves the mean of each output channel, by the name of the operation: float64 [channels]."""
    shifts = {}
    for node in graph.graph:
        weight = node.inputs[1] if node.name in moments.means else None
        array = constant(weight)
        integers = rounded.get(weight.name or "") if weight is not None else None
        if array is None or integers is None:
            continue
        error = _real(integers).astype("float64") - array
        moved = np.einsum("grk,gk->gr", as_rows(node, error), moments.means[node.name or ""])
        shifts[node.name or ""] = _by_channel(node, moved, array.shape)
    return shifts


def _real(rounded: QuantizedWeight | GroupedWeight) -> np.ndarray:
    return rounded.dequantize() if isinstance(rounded, GroupedWeight) else rounded.params.dequantize(rounded.values)


def _by_channel(node: ir.Node, moved: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Of a ConvTranspose each position of the kernel meets one of ``stride`` outputs in each direction."""
    if node.op_type != "ConvTranspose":
        return moved.reshape(-1)
    taps = int(np.prod(shape[2:]))
    strides = node.attributes.get_ints("strides", (1,) * (len(shape) - 2))
    by_tap: np.ndarray = moved.reshape(len(moved), taps, -1).sum(axis=1) / np.prod(strides)
    return by_tap.reshape(-1)


def _bias_place(node: ir.Node, channels: int) -> tuple[ir.Node, int] | None:
    """The operation that adds the bias and the place of it among the inputs; None where there is none."""
    if node.op_type != "MatMul":
        scaled = any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta"))
        given = node.inputs[2] if len(node.inputs) > 2 else None
        array = constant(given)
        unfit = given is not None and (array is None or array.size not in (1, channels))
        return None if unfit or scaled else (node, 2)
    readers = list(node.outputs[0].uses())
    if len(readers) != 1 or node.outputs[0].is_graph_output() or readers[0][0].op_type != "Add":
        return None
    adder, index = readers[0]
    array = constant(adder.inputs[1 - index])
    fits = array is not None and array.size == channels and array.shape[-1:] == (channels,)
    return (adder, 1 - index) if fits else None


def _without_unread(model: ir.Model) -> ir.Model:
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
    return model
