"""What makes a naively lowered graph a good one: layouts, fused operations, folded constants."""

from __future__ import annotations

from edgekit.converters.tflite.model import Graph
from edgekit.converters.tflite.passes.folding import fold
from edgekit.converters.tflite.passes.fusing import fuse
from edgekit.converters.tflite.passes.layout import assign_layouts

__all__ = ["optimize"]


def optimize(graph: Graph) -> None:
    """Improves a graph and those it calls, in place; inputs, outputs and what is computed stay the same."""
    for one in graph.graphs():
        fold(one)
        assign_layouts(one)
        fold(one)
        fuse(one)
        fold(one)
