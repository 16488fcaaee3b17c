"""Which channels of a graph stand or fall together.

Every place along an axis of a tensor is an atom. Operations join atoms: what an Add sums has the channels of the sum,
a convolution's filters are the channels it gives, the slices of its kernels those it takes; a Flatten makes many places
of one channel. What an operation says nothing about stays as it is. The idea is that of "DepGraph: Towards Any
Structural Pruning", Fang et al., 2023; following single places, not layers, makes Concat, Split, Slice, grouped
convolutions and reshapes ordinary cases.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from edgekit.compress.atoms import Coupling, Links
from edgekit.compress.coupling_rules import RULES
from edgekit.graph.walking import inner_graphs, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Coupling", "couple"]


def couple(model: ir.Model, spared: Collection[str] = ()) -> Coupling:
    """The coupling of a graph whose shapes are known; `spared` are nodes whose outputs and weights keep all places."""
    links = Links()
    for value in (*model.graph.inputs, *model.graph.outputs):
        links.keep_all(value)
    for node in model.graph:
        rule = RULES.get(node.op_type) if node.domain == "" and node.outputs else None
        if rule is not None and not inner_graphs(node):
            rule(node, links)
        links.keep_unmentioned(node)
        if node.name in spared:
            for spare in (*node.outputs, *node.inputs[1:]):
                links.keep_all(spare)
        for inner, _ in (pair for body in inner_graphs(node) for pair in walk(body)):
            for outside in inner.inputs:
                links.keep_all(outside)
    return links.settle()
