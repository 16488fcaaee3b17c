"""Attention in the PyTorch form: projections that are modules, and what is between them as calls."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from edgekit.network.record import Layer

__all__ = ["attention", "cached_attention"]


def _heads(form: Any, layer: Layer, part: str, x: Any, heads: int) -> Any:
    """[batch, steps, width] -> [batch, heads, steps, width of a head], through the projection `part`."""
    return form.method("transpose", form.method("unflatten", _project(form, layer, part, x), -1, (heads, -1)), 1, 2)


def _project(form: Any, layer: Layer, part: str, x: Any) -> Any:
    weight = layer.params[f"{part}_weight"]
    linear = form.nn.Linear(weight.shape[1], weight.shape[0], bias=f"{part}_bias" in layer.params)
    return form.module(weight.name.removesuffix(".weight"), linear, x)


def attention(form: Any, layer: Layer, x: Any, mask: Any = None) -> Any:
    heads = layer.options["heads"]
    query, key, value = (_heads(form, layer, part, x, heads) for part in ("query", "key", "value"))
    if mask is not None:
        seen = form.call(form.torch.ne, mask, 0)
        mask = form.method("unsqueeze", form.method("unsqueeze", seen, 1), 1)
    found = form.call(form.functional.scaled_dot_product_attention, query, key, value, mask)
    return _project(form, layer, "output", form.method("flatten", form.method("transpose", found, 1, 2), 2))


def cached_attention(form: Any, layer: Layer, x: Any, keys: Any, values: Any, positions: Any) -> tuple[Any, ...]:
    torch, options = form.torch, layer.options
    heads, key_heads = options["heads"], options["key_heads"]
    capacity, width = layer.inputs[1].size(2), layer.inputs[1].size(3)
    frequencies = options["rotary_base"] ** (-np.arange(0, width, 2) / width)
    turns = np.outer(np.arange(capacity), np.tile(frequencies, 2))
    cos, sin = (
        form.call(operator.getitem, form.constant(f"{layer.name}_{name}", table.astype(np.float32)), positions)
        for name, table in (("cos", np.cos(turns)), ("sin", np.sin(turns)))
    )
    query = _rotate(form, _heads(form, layer, "query", x, heads), cos, sin, width)
    key = _rotate(form, _heads(form, layer, "key", x, key_heads), cos, sin, width)
    value = _heads(form, layer, "value", x, key_heads)
    places = form.constant(f"{layer.name}_places", np.arange(capacity))
    rows = form.method("unsqueeze", positions, 1)
    # One column for each place: which of this call's steps goes there. A product with it moves rows, exactly.
    moves = form.method("to", form.call(torch.eq, rows, places), torch.float32)
    kept = form.method("unsqueeze", form.call(torch.rsub, form.call(torch.sum, moves, 0), 1.0), 1)
    columns = form.method("transpose", moves, 0, 1)
    keys, values = (
        form.call(torch.add, form.call(torch.mul, old, kept), form.call(torch.matmul, columns, new))
        for old, new in ((keys, key), (values, value))
    )
    seen = form.call(torch.ge, rows, places)
    spread = [form.call(torch.repeat_interleave, old, heads // key_heads, 1) for old in (keys, values)]
    found = form.call(form.functional.scaled_dot_product_attention, query, *spread, seen)
    flat = form.method("flatten", form.method("transpose", found, 1, 2), 2)
    return _project(form, layer, "output", flat), keys, values


def _rotate(form: Any, x: Any, cos: Any, sin: Any, width: int) -> Any:
    torch, half = form.torch, width // 2
    low, high = (form.call(torch.narrow, x, -1, start, half) for start in (0, half))
    turned = form.call(torch.cat, [form.call(torch.neg, high), low], -1)
    return form.call(torch.add, form.call(torch.mul, x, cos), form.call(torch.mul, turned, sin))
