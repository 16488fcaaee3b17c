"""Quantization at the hub: observe statistics once, place per target, solve parameters, apply to the graph."""

from __future__ import annotations

from edgekit.quantize.observers import Range, Statistics, observe
from edgekit.quantize.placing import Placed, place
from edgekit.quantize.plan import QuantizedWeight, QuantPlan
from edgekit.quantize.planning import make_quant_plan
from edgekit.quantize.qdq import to_qdq

__all__ = [
    "Placed",
    "QuantPlan",
    "QuantizedWeight",
    "Range",
    "Statistics",
    "make_quant_plan",
    "observe",
    "place",
    "to_qdq",
]
