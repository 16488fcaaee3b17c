"""What makes a naively lowered graph a good one: layouts, fused operations, folded constants."""

from __future__ import annotations

from edgekit.converters.tflite.model import Graph
from edgekit.converters.tflite.passes.folding import fold
from edgekit.converters.tflite.passes.fusing import fuse
from edgekit.converters.tflite.passes.layout import assign_layouts

__all__ = ["optimize"]


_ROUNDS = 4
"""What is fused may let layouts be assigned better; more than two are hardly ever needed."""


def optimize(graph: Graph) -> None:
    """Improves a graph and those it calls, in place; inputs, outputs and what is computed stay the same."""
    for one in graph.graphs():
        fold(one)
        for _ in range(_ROUNDS):
            before = _outline(one)
            assign_layouts(one)
            fold(one)
            fuse(one)
            fold(one)
            if _outline(one) == before:
                break


def _outline(graph: Graph) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Enough of a graph to see whether a round has changed it."""
    return [(op.code, [tensor.shape for tensor in op.outputs]) for op in graph.ops]
