"""Every operation of a graph that multiplies, as it is in each format's plan: the rows of ``inspect --layers``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.cost import costs
from edgekit.graph.walking import constant
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight, QuantPlan

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.quantize.sensitivity import Sensitivity

__all__ = ["join_layers", "layers_of"]


def layers_of(
    graph: ir.Model, plans: Mapping[str, QuantPlan], sensitivity: Sensitivity | None = None
) -> list[dict[str, Any]]:
    """A record for each operation that has weights, multiplies, or is named by a plan; plain data for a manifest.

    Args:
        graph: The cleaned hub graph the plans are of.
        plans: By the name of the variant they were written as.
        sensitivity: Where it was measured.

    Returns:
        Of each: ``name``, ``op_type``, ``macs_share`` and ``bytes_share`` of the whole graph (None where shapes do not
        say), ``sensitivity_db``, ``weights_sensitivity_db`` and ``activations_sensitivity_db`` (None where not
        measured), and ``plans``: by variant ``precision``, ``weights_sqnr_db`` (None where they are not rounded) and
        ``why``, empty for what runs in integers.
    """
    listed = [cost for cost in costs(graph) if not cost.inside]
    macs = sum(cost.macs or 0 for cost in listed) or 1
    weight_bytes = sum(cost.weight_bytes for cost in listed) or 1
    nodes = {node.name or "": node for node in graph.graph}
    felt = {}
    for plan in plans.values() if sensitivity is not None else ():
        assert sensitivity is not None
        felt.update({layer.name: layer for layer in sensitivity.layers(plan) if layer.name not in felt})
    rows = []
    for cost in listed:
        named = any(cost.name in plan.float_ops for plan in plans.values())
        if not (cost.macs or named or cost.macs is None or _stores(nodes[cost.name], plans)):
            continue
        layer = felt.get(cost.name)
        rows.append(
            {
                "name": cost.name,
                "op_type": cost.op_type,
                "macs_share": None if cost.macs is None else _short(cost.macs / macs),
                "bytes_share": _short(cost.weight_bytes / weight_bytes),
                "sensitivity_db": _short(layer.sqnr_db) if layer else None,
                "weights_sensitivity_db": _short(layer.weights_db) if layer else None,
                "activations_sensitivity_db": _short(layer.activations_db) if layer else None,
                "plans": {variant: _row(nodes[cost.name], plan) for variant, plan in plans.items()},
            }
        )
    return rows


def join_layers(parts: Iterable[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Records of the same operations under several graphs as one list, the plans of each side by side."""
    joined: dict[str, dict[str, Any]] = {}
    for row in (row for part in parts for row in part):
        known = joined.setdefault(row["name"], {**row, "plans": {}})
        known["plans"].update(row["plans"])
        known.update({key: value for key, value in row.items() if known[key] is None})
    return list(joined.values())


def _stores(node: ir.Node, plans: Mapping[str, QuantPlan]) -> bool:
    return any(value is not None and value.name in plan.stored for plan in plans.values() for value in node.inputs)


def _row(node: ir.Node, plan: QuantPlan) -> dict[str, Any]:
    name = node.name or ""
    known: Mapping[str, QuantizedWeight | GroupedWeight] = plan.weights if name in plan.quantized_ops else plan.stored
    rounded = [(v, known[v.name]) for v in node.inputs if v is not None and v.name and v.name in known]
    halved = any(v is not None and v.name in plan.halves for v in node.inputs)
    noise = [db for value, weight in rounded if (db := _weights_db(constant(value), weight)) is not None]
    return {
        "precision": _precision(name, plan, [weight for _, weight in rounded], halved=halved),
        "weights_sqnr_db": _short(min(noise, default=None)),
        "why": plan.float_ops.get(name, ""),
    }


def _precision(name: str, plan: QuantPlan, rounded: list[QuantizedWeight | GroupedWeight], *, halved: bool) -> str:
    if name in plan.quantized_ops:
        return "w8a16" if any("16" in params.dtype for params in plan.activations.values()) else "w8a8"
    if name in plan.dynamic_ops:
        return "w4a8-dynamic" if isinstance(rounded[0], GroupedWeight) else "w8a8-dynamic"
    if halved:
        return "fp16"
    if rounded:
        return f"w4g{rounded[0].block}" if isinstance(rounded[0], GroupedWeight) else "w8"
    return "fp32"


def _weights_db(weight: np.ndarray | None, rounded: QuantizedWeight | GroupedWeight) -> float | None:
    """Signal to noise of the rounded numbers themselves; infinity for numbers that are kept, None for zeros."""
    if weight is None:
        return None
    numbers = rounded.dequantize() if isinstance(rounded, GroupedWeight) else rounded.params.dequantize(rounded.values)
    signal = float(np.square(weight, dtype="float64").sum())
    noise = float(np.square(weight.astype("float64") - numbers).sum())
    return None if not signal else math.inf if not noise else 10 * math.log10(signal / noise)


def _short(value: float | None) -> float | None:
    """Four digits; None for infinity, which JSON has no word for."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")
