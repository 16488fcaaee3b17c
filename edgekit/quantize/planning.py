"""Statistics and placement to a plan: parameters for every tensor, and the rounded weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError, UnsupportedError
from edgekit.graph.cost import costs
from edgekit.graph.walking import constant
from edgekit.quantize.clipping import clip_weight
from edgekit.quantize.observers import Statistics
from edgekit.quantize.placing import Placed, place
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight, QuantPlan
from edgekit.quantize.solver import activation_params, min_weight_scale, quantize_constant, quantize_weight
from edgekit.quantize.storing import Stored, store
from edgekit.spec import QuantParams

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.quantize.moments import Moments
    from edgekit.recipe import Recipe
    from edgekit.target import Placement

__all__ = ["ROUNDINGS", "make_quant_plan", "round_weights"]

ROUNDINGS = {
    "gptq": ("edgekit.quantize.rounding", "round_gptq"),
    "adaround": ("edgekit.quantize.learned_rounding", "round_adaround"),
}
"""Better ways than to the nearest: the function that takes an operation, its weight, the integers and the moments."""

_OTHERS = ("w8a8-dynamic", "w8", "fp16")
"""What is left where nothing becomes a static integer: the first two store weights in 8 bits."""

LEAST_SHARE = 0.05
"""Of the multiplications so many are to run in integers, or the recipe is not for this net."""

_ACTIVATIONS_16 = {"uint8": "uint16", "int8": "int16"}


def make_quant_plan(
    graph: ir.Model, placement: Placement, recipe: Recipe, statistics: Statistics | None = None
) -> QuantPlan:
    """The plan for one format on one target; the same statistics serve for all of them.

    Args:
        graph: The cleaned hub graph that was observed.
        placement: What the format wants on the target.
        recipe: Its rules decide what stays float.
        statistics: What `edgekit.quantize.observe` saw; needed where activations become integers of known ranges.

    Raises:
        UnsupportedError: A rule matches nothing, or nothing would be quantized.
        InputError: Statistics are missing, or of another graph.
    """
    _require_known("rounding", recipe.rounding, ("nearest", *ROUNDINGS))
    _require_known("clipping", recipe.clipping, ("max", "mse"))
    if "w8a16" in recipe.precisions:
        placement = _wider(placement, recipe)
    placed = place(graph, placement, recipe, statistics.ranges if statistics is not None else None)
    taken = {anchor.weight for anchor in placed.anchors}
    stored = store(graph, placement, recipe, taken=taken, beside_integers=bool(placed.anchors))
    _require_enough(graph, placed, stored, recipe)
    if placed.anchors and statistics is None:
        raise InputError(f"recipe {recipe.name!r} needs statistics of activations", hint="give calibration data")
    activations = _activation_params(placed, placement, recipe, statistics) if statistics is not None else {}
    weights = _weights(graph, placed, placement, recipe, activations)
    reasons = stored.reasons(placed.float_ops)
    halves = tuple(name for name in stored.halves if name not in stored.weights)
    return QuantPlan(activations, weights, placed.quantized_ops, stored.weights, halves, stored.dynamic_ops, reasons)


def _require_enough(graph: ir.Model, placed: Placed, stored: Stored, recipe: Recipe) -> None:
    is_little = not stored.weights and _share(graph, placed) < LEAST_SHARE
    if is_little or not (placed.anchors or stored.weights):
        how_much = "hardly anything" if placed.anchors else "nothing"
        raise UnsupportedError(
            f"recipe {recipe.name!r} would quantize {how_much}",
            offenders=[f"{name}: {reason}" for name, reason in stored.reasons(placed.float_ops).items()]
            or ["no operation has weights"],
            hint=f"use {' or '.join(name for name in _OTHERS if name != recipe.precision)}",
        )


def _share(graph: ir.Model, placed: Placed) -> float:
    """Of the multiplications that are known, open sizes taken as 1, those in integers; 1 where none is known."""
    chosen = {anchor.node for anchor in placed.anchors}
    known = [cost for cost in costs(graph) if cost.macs and not cost.inside]
    total = sum(cost.macs or 0 for cost in known)
    return sum(cost.macs or 0 for cost in known if cost.name in chosen) / total if total else 1.0


def _wider(placement: Placement, recipe: Recipe) -> Placement:
    """The same place with activations of 16 bits, symmetric where they are signed, as kernels want them."""
    if "w8a8" in recipe.precisions:
        raise UnsupportedError(
            f"recipe {recipe.name!r} mixes activations of 8 and 16 bits",
            offenders=[f"name {rule.name!r}, type {rule.op_type!r}: {rule.precision}" for rule in recipe.rules],
            hint="use one of w8a8 and w8a16, and fp32 or w8 for the rest",
        )
    dtype = _ACTIVATIONS_16[placement.activations]
    return replace(placement, activations=dtype, symmetric_activations=dtype == "int16", narrow=())


def round_weights(graph: ir.Model, plan: QuantPlan, moments: Moments, method: str) -> QuantPlan:
    """The same plan with integers that lower the error of what the operations give.

    A weight several operations read is rounded for the first of them; what nobody measured keeps its integers.

    Args:
        graph: The graph the plan is of.
        plan: With weights rounded to the nearest.
        moments: Of that graph, with products.
        method: One of `ROUNDINGS`.
    """
    module, function = ROUNDINGS[method]
    better = getattr(import_module(module), function)
    done: dict[str, QuantizedWeight | GroupedWeight] = {}
    for node in graph.graph:
        for index, value in enumerate(node.inputs):
            second = moments.second_of(node, index)
            name = value.name or "" if value is not None else ""
            rounded = plan.weights.get(name) or plan.stored.get(name)
            weight = constant(value) if value is not None else None
            if second is not None and rounded is not None and weight is not None and name not in done:
                done[name] = better(node, weight, rounded, second)
    return replace(
        plan,
        weights={name: done.get(name, weight) for name, weight in plan.weights.items()},  # type: ignore[misc]
        stored={name: done.get(name, weight) for name, weight in plan.stored.items()},
    )


def _require_known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise UnsupportedError(f"there is no {what} {name!r}", hint=f"known: {', '.join(known)}")


def _activation_params(
    placed: Placed, placement: Placement, recipe: Recipe, statistics: Statistics
) -> dict[str, QuantParams]:
    names = [name for group in placed.groups for name in group]
    if unseen := [name for name in names if name not in statistics.ranges]:
        raise InputError(f"the statistics say nothing of {unseen[:5]}", hint="observe this graph")
    params = {}
    for group in placed.groups:
        dtype, symmetric = _form(placement, min(statistics.ranges[name].low for name in group))
        levels = 1 << np.iinfo(dtype).bits
        span = statistics.range_of(group, recipe.observer, levels=levels, symmetric=symmetric)
        params.update(dict.fromkeys(group, activation_params(span, dtype, symmetric=symmetric)))
    return params


def _form(placement: Placement, low: float) -> tuple[str, bool]:
    """The integers of an activation whose smallest number is `low`, and whether they lie evenly around their middle."""
    if placement.zero_points:
        return placement.activations, placement.symmetric_activations
    bits = np.iinfo(placement.activations).bits
    return (f"int{bits}", True) if low < 0 else (f"uint{bits}", False)


def _weights(
    graph: ir.Model, placed: Placed, placement: Placement, recipe: Recipe, activations: dict[str, QuantParams]
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
        if recipe.clipping == "mse":
            weight = clip_weight(weight, axis)
        quantized[name] = quantize_weight(weight, axis, dtype=placement.weights, min_scale=floors.get(name))
    for name in placed.constants:
        array = arrays[name]
        assert array is not None
        dtype, symmetric = _form(placement, float(array.min()))
        quantized[name] = quantize_constant(array, dtype, symmetric=symmetric)
    return quantized
