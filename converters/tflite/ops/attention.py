"""Attention and rotary position embeddings, directly: fewer operations than the bodies ONNX gives for them."""

from __future__ import annotations

import functools
import math

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_LOWEST = float(np.finfo("float32").min)


@lowers("Attention")
def attention(b: Builder, node: Node) -> list[Tensor]:
    """softmax(Q K' scale + bias) V for each head.

    Heads that share keys and values are rows of one product, so these are not repeated.
    """
    flat = node.input(0).rank == 3
    q, k, v = (_heads(b, node, i) for i in range(3))
    if node.has(4):
        k, v = b.concat([node.input(4), k], 2), b.concat([node.input(5), v], 2)
    batch, heads, length, size = q.shape
    shared = k.shape[1]
    if -1 in (*q.shape, *k.shape, *v.shape) or heads % shared:
        raise Unlowerable(f"queries of {list(q.shape)} for keys of {list(k.shape)}")
    scale = node.real("scale", 1 / math.sqrt(size))
    rows = b.reshape(b.mul(q, scale), [batch, shared, heads // shared * length, size])
    scores = b.reshape(b.matmul(rows, k, adj_y=True), [batch, heads, length, k.shape[2]])
    seen = [scores]
    if cap := node.real("softcap"):
        scores = b.mul(b.unary("TANH", b.mul(scores, 1 / cap)), cap)
    seen.append(scores)
    bias, attends = _bias(b, node, length, k.shape[2])
    scores = scores if bias is None else b.add(scores, bias)
    seen.append(scores)
    weights = b.op("SOFTMAX", [scores], scores.shape, beta=1.0)
    mode = node.integer("qk_matmul_output_mode")
    if attends is not None and mode == 3:
        weights = b.where(attends, weights, 0)
    seen.append(weights)
    mixed = b.matmul(b.reshape(weights, [batch, shared, heads // shared * length, k.shape[2]]), v)
    y = b.reshape(mixed, [batch, heads, length, v.shape[3]])
    y = y if attends is None else b.where(attends, y, 0)
    if flat:
        y = b.reshape(b.transpose(y, [0, 2, 1, 3]), [batch, length, heads * v.shape[3]])
    if not 0 <= mode < len(seen):
        raise Unlowerable(f"qk_matmul_output_mode {mode}")
    return [y, k, v, seen[mode]][: len(node.outputs)]


def _heads(b: Builder, node: Node, index: int) -> Tensor:
    """Queries, keys or values as [batch, heads, length, size]."""
    x = node.input(index)
    if x.rank == 4:
        return x
    heads = node.integer("kv_num_heads" if index else "q_num_heads")
    if x.rank != 3 or not heads or x.shape[2] % heads:
        raise Unlowerable(f"{heads} heads of {list(x.shape)}")
    return b.transpose(b.reshape(x, [*x.shape[:2], heads, x.shape[2] // heads]), [0, 2, 1, 3])


def _bias(b: Builder, node: Node, length: int, total: int) -> tuple[Tensor | None, Tensor | None]:
    """What is added to the scores, and which queries attend to anything, where not all are known to.

    A query that attends to nothing gives zeros, while softmax gives it NaN.
    """
    added, allowed = _mask(b, node, total)
    if (places := _window(b, node, length, total)) is not None:
        allowed.append(places)
    if node.has(6):
        lengths = b.reshape(b.cast(node.input(6), "int32"), [-1, 1, 1, 1])
        allowed.append(b.binary("LESS", b.const(np.arange(total, dtype="int32")), lengths))
    constants = [condition.data for condition in allowed if condition.data is not None]
    computed = [condition for condition in allowed if condition.data is None]
    if constants:
        together = functools.reduce(np.logical_and, constants)
        computed += [] if together.all() else [b.const(together)]
    if computed:
        added.append(_penalty(b, functools.reduce(lambda x, y: b.binary("LOGICAL_AND", x, y), computed)))
    if not added:
        return None, None
    bias = added[0] if len(added) == 1 else _sum(b, added[0], added[1])
    if bias.data is not None:
        attends = bias.data.max(-1, keepdims=True) >= _LOWEST
        return bias, None if attends.all() else b.const(attends)
    return bias, b.binary("GREATER_EQUAL", b.reduce("REDUCE_MAX", bias, [-1], keep=True), _LOWEST)


def _penalty(b: Builder, condition: Tensor) -> Tensor:
    if condition.data is not None:
        return b.const(np.where(condition.data, np.float32(0), np.float32(-np.inf)))
    return b.where(condition, b.const(0.0, "float32"), -np.inf)


def _sum(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    return b.const(x.data + y.data) if x.data is not None and y.data is not None else b.add(x, y)


def _mask(b: Builder, node: Node, total: int) -> tuple[list[Tensor], list[Tensor]]:
    """The mask that is given, as something to add or as a condition; keys it does not reach are not attended to."""
    if not node.has(3):
        return [], []
    mask = node.input(3)
    is_condition, missing = mask.dtype == "bool", total - mask.shape[-1]
    if missing:
        before, after = [0] * mask.rank, [0] * (mask.rank - 1) + [missing]
        if mask.data is not None:
            ends = list(zip(before, after, strict=True))
            mask = b.const(np.pad(mask.data, ends, constant_values=False if is_condition else -np.inf))
        elif is_condition:
            mask = b.cast(b.pad(b.cast(mask, "int32"), before, after), "bool")
        else:
            mask = b.pad(mask, before, after, -np.inf)
    return ([], [mask]) if is_condition else ([mask], [])


def _window(b: Builder, node: Node, length: int, total: int) -> Tensor | None:
    """Which keys are neither in the future of a query, if causal, nor outside of its window."""
    left, right = node.integer("left_window_size", -1), node.integer("right_window_size", -1)
    if node.integer("is_causal"):
        right = 0 if right < 0 else min(right, 0)
    if left < 0 and right < 0:
        return None
    ahead = np.arange(total, dtype="int32") - np.arange(length, dtype="int32").reshape(-1, 1)
    if not node.has(6) or node.has(4):
        ahead -= node.input(4).shape[2] if node.has(4) else 0
        return b.const(((ahead <= right) | (right < 0)) & ((ahead >= -left) | (left < 0)))
    # Queries are the last of those keys that are not padding.
    offset = b.reshape(b.sub(b.cast(node.input(6), "int32"), length), [-1, 1, 1, 1])
    apart = b.sub(b.const(ahead), offset)
    sides = []
    if right >= 0:
        sides.append(b.binary("LESS_EQUAL", apart, right))
    if left >= 0:
        sides.append(b.binary("GREATER_EQUAL", apart, -left))
    return sides[0] if len(sides) == 1 else b.binary("LOGICAL_AND", sides[0], sides[1])


@lowers("RotaryEmbedding")
def rotary_embedding(b: Builder, node: Node) -> Tensor:
    """Pairs of features turned by the angle of their position, in the layout that comes in: heads first or last."""
    source = node.input(0)
    x, heads = source, node.integer("num_heads")
    if source.rank == 3:
        if not heads:
            raise Unlowerable("the number of heads is missing")
        x = b.reshape(source, [*source.shape[:2], heads, source.shape[2] // heads])
    size = node.integer("rotary_embedding_dim") or x.shape[3]
    cos, sin = (_angles(b, node, i, 2 if source.rank == 3 else 1) for i in (1, 2))
    turned, rest = x, []
    if size != x.shape[3]:
        turned = b.slice(x, [0] * 4, [*x.shape[:3], size])
        rest = [b.slice(x, [0, 0, 0, size], [*x.shape[:3], x.shape[3] - size])]
    first, second = _pairs(b, turned, bool(node.integer("interleaved")))
    real, imaginary = b.sub(b.mul(first, cos), b.mul(second, sin)), b.add(b.mul(first, sin), b.mul(second, cos))
    if node.integer("interleaved"):
        columns = [b.reshape(part, [*part.shape, 1]) for part in (real, imaginary)]
        parts = [b.reshape(b.concat(columns, -1), turned.shape)]
    else:
        parts = [real, imaginary]
    return b.reshape(b.concat([*parts, *rest], -1), source.shape)


def _angles(b: Builder, node: Node, index: int, axis: int) -> Tensor:
    """Cosines or sines of all positions, with an axis for the heads at `axis`."""
    table = node.input(index)
    if node.has(3):
        positions = node.input(3)
        if table.data is not None and positions.data is not None:
            table = b.const(table.data[positions.data])
        else:
            table = b.gather(table, positions, 0)
    return b.reshape(table, [*table.shape[:axis], 1, *table.shape[axis:]])


def _pairs(b: Builder, x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    half = x.shape[3] // 2
    shape = [*x.shape[:3], half]
    if not interleaved:
        return b.slice(x, [0] * 4, shape), b.slice(x, [0, 0, 0, half], shape)
    pairs = b.reshape(x, [*shape, 2])
    found = [b.slice(pairs, [0, 0, 0, 0, i], [*shape, 1]) for i in range(2)]
    return b.reshape(found[0], shape), b.reshape(found[1], shape)
