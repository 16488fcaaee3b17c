"""Helpers over onnx-ir, the hub's graph: load, clean, shapes, walk, replace, cost."""

from __future__ import annotations

from edgekit.graph.cleaning import clean
from edgekit.graph.cost import NodeCost, costs
from edgekit.graph.files import load, save, weight_bytes
from edgekit.graph.shapes import bind_dimensions, infer_shapes, signature
from edgekit.graph.walking import copy_of, walk

__all__ = [
    "NodeCost",
    "bind_dimensions",
    "clean",
    "copy_of",
    "costs",
    "infer_shapes",
    "load",
    "save",
    "signature",
    "walk",
    "weight_bytes",
]
