"""Recurrent layers and attention as ONNX nodes."""

from __future__ import annotations

import math

import numpy as np

from edgekit.network._onnx_graph import BOOL, FLOAT, Part

__all__ = ["attention", "cached_attention", "recurrent"]

_NEVER = -1e4
"""A score beside which no other is seen: its exponential is zero in every precision, and it is finite in half."""

_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""PyTorch's gates (i f g o; r z n) in ONNX's order (i o f c; z r h)."""


def recurrent(part: Part, x: str) -> str:
    options = part.options
    units, directions = options["units"], 2 if options["bidirectional"] else 1
    attributes = {"hidden_size": units, "direction": "bidirectional" if directions == 2 else "forward"}
    if part.layer.op == "gru":
        attributes["linear_before_reset"] = 1
    # With steps first: ONNX Runtime knows no other layout.
    steps = part.add("Transpose", x, part="steps", perm=[1, 0, 2])
    weights = [part.array(name, numbers) for name, numbers in _gathered(part).items()]
    outputs = part.graph.node(
        part.layer.op.upper(), [steps, *weights], part.named(part.layer.op), outputs=2, **attributes
    )
    every, last = outputs
    if not options["sequences"]:
        if directions == 1:
            return part.add("Squeeze", last, part.integers("axes", [0]))
        return part.reshape(part.add("Transpose", last, part="turned", perm=[1, 0, 2]), [0, directions * units])
    if directions == 1:
        single = part.add("Squeeze", every, part.integers("axes", [1]), part="single")
        return part.add("Transpose", single, perm=[1, 0, 2])
    turned = part.add("Transpose", every, part="turned", perm=[2, 0, 1, 3])
    return part.reshape(turned, [0, 0, directions * units])


def _gathered(part: Part) -> dict[str, np.ndarray]:
    """W, R and B as ONNX has them: [directions, gates in its order, ...]."""
    order = _GATES[part.layer.op]
    ends = ("", "_reverse") if part.options["bidirectional"] else ("",)

    def ordered(role: str) -> np.ndarray:
        numbers = part.numbers(role)
        return numbers.reshape(len(order), part.options["units"], -1)[list(order)].reshape(numbers.shape)

    return {
        "W": np.stack([ordered(f"weight_ih{end}") for end in ends]),
        "R": np.stack([ordered(f"weight_hh{end}") for end in ends]),
        "B": np.stack([np.concatenate([ordered(f"bias_ih{end}"), ordered(f"bias_hh{end}")]) for end in ends]),
    }


def attention(part: Part, x: str, mask: str | None = None) -> str:
    heads = part.options["heads"]
    width = part.layer.inputs[0].channels // heads
    query = _heads(part, x, "query", heads, width)
    key = _heads(part, x, "key", heads, width, perm=(0, 2, 3, 1))
    value = _heads(part, x, "value", heads, width)
    query = part.add("Mul", query, part.array("scale", 1 / math.sqrt(width)), part="query/scaled")
    scores = part.add("MatMul", query, key, part="scores")
    if mask is not None:
        seen = part.add("Cast", mask, part="seen", to=BOOL)
        seen = part.add("Unsqueeze", seen, part.integers("seen/axes", [1, 2]), part="seen/spread")
        scores = part.add("Where", seen, scores, part.array("never", _NEVER), part="scores/seen")
    found = part.add("MatMul", part.add("Softmax", scores, part="shares", axis=-1), value, part="found")
    return _joined(part, found, heads * width)


def cached_attention(part: Part, x: str, keys: str, values: str, positions: str) -> tuple[str, str, str]:
    heads, key_heads = part.options["heads"], part.options["key_heads"]
    capacity, width = part.layer.inputs[1].size(2), part.layer.inputs[1].size(3)
    cos, sin = _turns(part, positions, capacity, width)
    query = _rotated(part, _heads(part, x, "query", heads, width), cos, sin, "query", width)
    key = _rotated(part, _heads(part, x, "key", key_heads, width), cos, sin, "key", width)
    value = _heads(part, x, "value", key_heads, width)
    rows = part.add("Unsqueeze", positions, part.integers("rows/axes", [1]), part="rows")
    places = part.integers("places", np.arange(capacity))
    # One column for each place: which of this call's steps goes there. A product with it moves rows, exactly.
    moves = part.add("Cast", part.add("Equal", rows, places, part="moves/equal"), part="moves", to=FLOAT)
    moved = part.add("ReduceSum", moves, part.integers("moved/axes", [0]), part="moved", keepdims=0)
    kept = part.add("Sub", part.array("one", 1.0), moved, part="kept/flat")
    kept = part.add("Unsqueeze", kept, part.integers("kept/axes", [1]), part="kept")
    columns = part.add("Transpose", moves, part="columns", perm=[1, 0])
    keys = _remembered(part, keys, kept, columns, key, "keys")
    values = _remembered(part, values, kept, columns, value, "values")
    query = part.add("Mul", query, part.array("scale", 1 / math.sqrt(width)), part="query/scaled")
    # The queries that one key serves stand one below the other: nothing of the cache is copied for them.
    query = _regrouped(part, query, key_heads, width, "query/grouped")
    turned = part.add("Transpose", keys, part="keys/turned", perm=[0, 1, 3, 2])
    scores = _regrouped(part, part.add("MatMul", query, turned, part="scores"), heads, capacity, "scores/heads")
    seen = part.add("GreaterOrEqual", rows, places, part="seen")
    scores = part.add("Where", seen, scores, part.array("never", _NEVER), part="scores/seen")
    shares = _regrouped(
        part, part.add("Softmax", scores, part="shares", axis=-1), key_heads, capacity, "shares/grouped"
    )
    found = _regrouped(part, part.add("MatMul", shares, values, part="found"), heads, width, "found/heads")
    return _joined(part, found, heads * width), keys, values


def _heads(part: Part, x: str, role: str, heads: int, width: int, perm: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    """[batch, steps, features] -> [batch, heads, steps, width] or turned otherwise, through the projection `role`."""
    flat = part.project(x, f"{role}_", f"{role}/projected")
    split = part.reshape(flat, [0, 0, heads, width], f"{role}/split")
    return part.add("Transpose", split, part=role, perm=list(perm))


def _joined(part: Part, found: str, width: int) -> str:
    """[batch, heads, steps, width of a head] -> [batch, steps, width], through the last projection."""
    turned = part.add("Transpose", found, part="found/turned", perm=[0, 2, 1, 3])
    return part.project(part.reshape(turned, [0, 0, width], "joined"), "output_")


def _turns(part: Part, positions: str, capacity: int, width: int) -> list[str]:
    """The cosines and sines of this call's positions, [steps, width]."""
    frequencies = part.options["rotary_base"] ** (-np.arange(0, width, 2) / width)
    turns = np.outer(np.arange(capacity), np.tile(frequencies, 2))
    tables = {"cos": np.cos(turns), "sin": np.sin(turns)}
    return [
        part.add("Gather", part.array(f"{name}/table", table), positions, part=name, axis=0)
        for name, table in tables.items()
    ]


def _rotated(part: Part, x: str, cos: str, sin: str, name: str, width: int) -> str:
    half = width // 2
    low = part.slice(x, [0], [half], [3], f"{name}/low")
    high = part.slice(x, [half], [width], [3], f"{name}/high")
    crossed = part.add("Concat", part.add("Neg", high, part=f"{name}/negative"), low, part=f"{name}/crossed", axis=3)
    kept = part.add("Mul", x, cos, part=f"{name}/cos")
    return part.add("Add", kept, part.add("Mul", crossed, sin, part=f"{name}/sin"), part=f"{name}/rotated")


def _remembered(part: Part, old: str, kept: str, columns: str, new: str, name: str) -> str:
    stays = part.add("Mul", old, kept, part=f"{name}/kept")
    return part.add("Add", stays, part.add("MatMul", columns, new, part=f"{name}/moved"), part=name)


def _regrouped(part: Part, x: str, heads: int, width: int, name: str) -> str:
    """The rows of [batch, ?, rows, width] dealt to `heads`."""
    if part.options["heads"] == part.options["key_heads"]:
        return x
    return part.reshape(x, [0, heads, -1, width], name)
