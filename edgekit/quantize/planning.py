"""Statistics and placement to a plan: parameters for every tensor, and the rounded weights."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError, UnsupportedError
from edgekit.graph.walking import constant
from edgekit.quantize.observers import Range, Statistics
from edgekit.quantize.placing import Placed, place
from edgekit.quantize.plan import QuantizedWeight, QuantPlan
from edgekit.quantize.solver import activation_params, min_weight_scale, quantize_constant, quantize_weight
from edgekit.spec import QuantParams

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.recipe import Recipe
    from edgekit.target import Placement

__all__ = ["make_quant_plan"]

OBSERVERS = ("min-max",)


def make_quant_plan(graph: ir.Model, placement: Placement, recipe: Recipe, statistics: Statistics) -> QuantPlan:
    """The plan for one format on one target; the same statistics serve for all of them.

    Args:
        graph: The cleaned hub graph that was observed.
        placement: What the format wants on the target.
        recipe: Its rules decide what stays float.
        statistics: What `edgekit.quantize.observe` saw.

    Raises:
        UnsupportedError: A rule matches nothing, nothing would be quantized, or the observer is not known.
        InputError: The statistics are of another graph.
    """
    if recipe.observer not in OBSERVERS:
        raise UnsupportedError(f"there is no observer {recipe.observer!r}", hint=f"known: {', '.join(OBSERVERS)}")
    placed = place(graph, placement, recipe)
    activations = _activation_params(placed, placement, statistics)
    weights = _weights(graph, placed, placement, activations)
    return QuantPlan(activations, weights, placed.quantized_ops, placed.float_ops)


def _activation_params(placed: Placed, placement: Placement, statistics: Statistics) -> dict[str, QuantParams]:
    names = [name for group in placed.groups for name in group]
    if unseen := [name for name in names if name not in statistics.ranges]:
        raise InputError(f"the statistics say nothing of {unseen[:5]}", hint="observe this graph")
    params = {}
    for group in placed.groups:
        span: Range = reduce(lambda one, other: one | other, (statistics.ranges[name] for name in group))
        solved = activation_params(span, placement.activations, symmetric=placement.symmetric_activations)
        params.update(dict.fromkeys(group, solved))
    return params


def _weights(
    graph: ir.Model, placed: Placed, placement: Placement, activations: dict[str, QuantParams]
) -> dict[str, QuantizedWeight]:
    arrays = {name: constant(value) for name, value in graph.graph.initializers.items()}
    axes: dict[str, int | None] = {}
    floors: dict[str, np.ndarray] = {}
    for anchor in placed.anchors:
        weight, bias = arrays[anchor.weight], arrays.get(anchor.bias)
        assert weight is not None
        axis = anchor.axis if placement.per_channel else None
        # A weight two operations read along different axes gets one scale, which serves both.
        axes[anchor.weight] = axis if axes.get(anchor.weight, axis) == axis else None
        if bias is not None and anchor.activation in activations:
            floor = min_weight_scale(bias, activations[anchor.activation].scale[0])
            known = floors.get(anchor.weight)
            floors[anchor.weight] = floor if known is None or known.shape != floor.shape else np.maximum(known, floor)
    quantized = {}
    for name, axis in axes.items():
        weight = arrays[name]
        assert weight is not None
        quantized[name] = quantize_weight(weight, axis, dtype=placement.weights, min_scale=floors.get(name))
    for name in placed.constants:
        array = arrays[name]
        assert array is not None
        symmetric = placement.symmetric_activations
        quantized[name] = quantize_constant(array, placement.activations, symmetric=symmetric)
    return quantized
