"""Names that are there, are unique, and stay the same however often a graph is cleaned."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgekit.graph.shapes import bind_dimensions
from edgekit.graph.walking import fresh_name, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["distinct", "name_everything", "name_symbols"]

_MADE_UP = re.compile(r"unk__\d+|s\d+|\?|-1|")
"""Symbols an exporter made up: ``unk__64`` by tf2onnx, ``s43`` by PyTorch."""


_NO_NAMES = ("", "?", "-1")
"""Those of them that say nothing, not even that two sizes are the same."""

_PRIMES = (7919, 7927, 7933, 7937, 7949, 7951, 7963, 7993)


def distinct(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """`names` made of characters every format takes, each given once."""
    seen = set(taken)
    return [fresh_name(seen, re.sub(r"[^\w.\-]", "_", name) or "tensor") for name in names]


def name_everything(model: ir.Model) -> ir.Model:
    """Gives every node a name of its own (``Conv_3`` for the fourth Conv without one) and every value too.

    Names that are unique already stay; inputs and outputs of the graph always keep theirs.
    """
    from onnx_ir.passes.common import NameFixPass

    nodes = [node for node, _ in walk(model.graph)]
    seen = Counter(node.name for node in nodes if node.name)
    taken, first = set(seen), set[str]()
    counts: Counter[str] = Counter()
    for node in nodes:
        if not node.name:
            node.name = fresh_name(taken, f"{node.op_type}_{counts[node.op_type]}")
            counts[node.op_type] += 1
        elif node.name in first:
            node.name = fresh_name(taken, node.name)
        first.add(node.name)
    NameFixPass()(model)
    return model


def name_symbols(model: ir.Model) -> ir.Model:
    """Gives dimensions an exporter made names up for better ones: ``batch`` for the first, ``x_dim_1`` for others.

    An output's dimension takes the name of the input's it always equals, which trial sizes tell.
    """
    renamed: dict[str, str] = {}
    for value in model.graph.inputs:
        for index, old in _made_up(value):
            new = "batch" if index == 0 else f"{value.name}_dim_{index}"
            _set_symbol(value, index, renamed.setdefault(old, new) if old not in _NO_NAMES else new)
    if any(True for value in model.graph.outputs for _ in _made_up(value)):
        _name_outputs(model)
    return model


def _made_up(value: ir.Value) -> list[tuple[int, str]]:
    """The dimensions with a made-up symbol, and that symbol."""
    dims = [(i, dim) for i, dim in enumerate(value.shape or ()) if not isinstance(dim, int)]
    return [(i, str(dim.value or "")) for i, dim in dims if _MADE_UP.fullmatch(str(dim.value or ""))]


def _name_outputs(model: ir.Model) -> None:
    symbols = {
        str(dim.value): None for value in model.graph.inputs for dim in value.shape or () if not isinstance(dim, int)
    }
    # Large primes: a size that comes out again is that symbol's and no product or sum by chance.
    sizes = dict(zip(symbols, _PRIMES, strict=False))
    bound = bind_dimensions(model, sizes)
    names = {size: symbol for symbol, size in sizes.items()}
    for value, trial in zip(model.graph.outputs, bound.graph.outputs, strict=True):
        derived = list(trial.shape or ())
        for index, _ in _made_up(value):
            size = derived[index] if index < len(derived) else None
            fallback = f"{value.name}_dim_{index}"
            _set_symbol(value, index, names.get(size, fallback) if isinstance(size, int) else fallback)


def _set_symbol(value: ir.Value, index: int, symbol: str) -> None:
    import onnx_ir as ir

    value.shape = ir.Shape([symbol if i == index else dim for i, dim in enumerate(value.shape or ())])
