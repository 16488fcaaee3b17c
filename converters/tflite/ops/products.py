"""Matrix products: FULLY_CONNECTED where one side is constant, BATCH_MATMUL where both are computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekit.converters.tflite import integers
from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable, lowers
from edgekit.quantize.solver import quantize_weight

__all__ = ["as_matrices", "as_vectors", "dense", "product"]

_MAX_TERMS = 1 << 24
"""Products of integers, which have no kernel, are held one by one before they are summed: no more than these."""

_SCALE_BYTES = 12
"""What a row of integers holds beside them: a scale of four bytes and a zero point of eight."""


def dense(b: Builder, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` over the last axis of `x`; `weight` is [out, in], `bias` a constant [out]."""
    if weight in b.stored and b.stored[weight].scales is not None:
        return _grouped(b, x, b.stored[weight], bias)
    return _dense(b, x, weight, bias)


def _grouped(b: Builder, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """By a weight whose neighbors share scales; what is added to all of a group is multiplied by the group's sum."""
    if -1 in x.shape:
        return _dense(b, x, b.const(integers.numbers(weight)), bias)
    found = _dense(b, x, b.dequantize(replace(weight, offsets=None)), bias)
    if weight.offsets is None or weight.offsets.data is None:
        return found
    size = integers.group_size(weight)
    apart = b.reshape(x, [*x.shape[:-1], x.shape[-1] // size, size])
    small = _small_offsets(weight.offsets.name, weight.offsets.data)
    return b.add(found, _dense(b, b.reduce("SUM", apart, [-1], keep=False), b.dequantize(small), None))


def _small_offsets(name: str, offsets: np.ndarray) -> Tensor:
    """In 8 bits by rows, or in half precision where rows are so short that their scales and zeros would be larger."""
    if offsets.shape[1] <= _SCALE_BYTES and float(np.abs(offsets).max()) < float(np.finfo("float16").max):
        return Tensor(name, offsets.shape, "float16", offsets.astype("float16"))
    rounded = quantize_weight(offsets, 0)
    return Tensor(name, rounded.values.shape, "int8", rounded.values, rounded.params)


def _dense(b: Builder, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    shape = [*x.shape[:-1], weight.shape[0]]
    return b.op(
        "FULLY_CONNECTED", [x, weight, bias], shape, fusedActivationFunction="NONE", weightsFormat="DEFAULT",
        keepNumDims=True, asymmetricQuantizeInputs=False,
    )  # fmt: skip


def product(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """numpy's matmul of tensors of one dtype and of rank 2 or more; integers wrap around."""
    if x.dtype != "float32":
        return _integer_product(b, x, y)
    if (y.data is not None or y in b.stored) and y.rank == 2:
        return dense(b, x, b.transpose(y, [1, 0]))
    if x.data is not None and x.rank == 2:
        # x y = (y' x')': two cheap TRANSPOSEs, and the constant is packed once; 10 to 30 % faster than BATCH_MATMUL.
        return _turned(b, dense(b, _turned(b, y), x))
    return b.matmul(x, y)


def _turned(b: Builder, x: Tensor) -> Tensor:
    """Its last two axes swapped."""
    return b.transpose(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])


def _integer_product(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """All products, then their sums: exact where float32 might not be."""
    rows, columns = b.reshape(x, [*x.shape, 1]), b.reshape(y, [*y.shape[:-2], 1, *y.shape[-2:]])
    terms = b.mul(rows, columns)
    if not 0 <= terms.size <= _MAX_TERMS:
        raise Unlowerable(f"a product of {x.dtype}{list(x.shape)} and {y.dtype}{list(y.shape)}")
    return b.reduce("SUM", terms, [-2], keep=False)


@lowers("MatMul")
def matmul(b: Builder, node: Node) -> Tensor:
    x, y = node.input(0), node.input(1)
    left, right = as_matrices(b, x, y)
    return as_vectors(b, _product_of_swapped(b, left, node) or product(b, left, right), x, y)


def as_matrices(b: Builder, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The operands of a product, vectors as one row and one column."""
    return (
        x if x.rank > 1 else b.reshape(x, [1, *x.shape]),
        y if y.rank > 1 else b.reshape(y, [*y.shape, 1]),
    )


def as_vectors(b: Builder, found: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The product of `as_matrices` without the axes that vectors among `x` and `y` do not give."""
    rows, columns = found.shape[-2:]
    return b.reshape(found, [*found.shape[:-2], *([rows] * (x.rank > 1)), *([columns] * (y.rank > 1))])


def _product_of_swapped(b: Builder, left: Tensor, node: Node) -> Tensor | None:
    """The product where the right operand's last axes were just swapped for it: BATCH_MATMUL reads it either way."""
    y, value = node.input(1), node.node.inputs[1]
    op = next((op for op in reversed(b.graph.ops) if y in op.outputs), None)
    if op is None or op.code != "TRANSPOSE" or y.dtype != "float32" or value is None:
        return None
    source, perm = op.inputs
    swap = [*range(y.rank - 2), y.rank - 1, y.rank - 2]
    if source is None or perm is None or perm.data is None or perm.data.tolist() != swap:
        return None
    if len(value.uses()) == 1 and not value.is_graph_output():
        b.graph.ops.remove(op)
    return b.matmul(left, source, adj_y=True)


@lowers("Gemm")
def gemm(b: Builder, node: Node) -> Tensor:
    x, y = node.input(0), node.input(1)
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    left = b.transpose(x, [1, 0]) if node.integer("transA") else x
    offset = node.inputs[2] if node.has(2) and beta else None
    if x.dtype == "float32" and (y.data is not None or y in b.stored):
        weight = y if node.integer("transB") else b.transpose(y, [1, 0])
        if alpha == 1 or weight.data is not None:
            bias = _bias(b, offset, beta, weight.shape[0])
            found = dense(b, left, _scaled(b, weight, alpha), bias)
            return found if bias is not None or offset is None else b.add(found, _scaled(b, offset, beta))
    right = b.transpose(y, [1, 0]) if node.integer("transB") else y
    found = _scaled(b, product(b, left, right), alpha)
    return found if offset is None else b.add(found, _scaled(b, offset, beta))


def _bias(b: Builder, offset: Tensor | None, beta: float, size: int) -> Tensor | None:
    """A bias for every row, where that is what is added."""
    if (
        offset is None
        or offset.data is None
        or offset.size not in (1, size)
        or offset.size != np.prod(offset.shape[-1:])
    ):
        return None
    return b.const(np.broadcast_to(offset.data.reshape(-1), size) * np.float32(beta), name=offset.name)


def _scaled(b: Builder, x: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return x
    if x.dtype != "float32":
        if not float(factor).is_integer():
            raise Unlowerable(f"a factor of {factor} for {x.dtype}")
        return b.mul(x, int(factor))
    return b.const(x.data * np.float32(factor), name=x.name) if x.data is not None else b.mul(x, factor)


@lowers("Einsum")
def einsum(b: Builder, node: Node) -> Tensor:
    """Operands are taken in one by one; what neither the result nor a later operand names is summed at once."""
    inputs = [node.input(i) for i in range(len(node.inputs))]
    terms, wanted = _labels(node.text("equation"), [x.rank for x in inputs])
    found, labels = _diagonals(b, inputs[0], terms[0])
    for i, x in enumerate(inputs[1:], 1):
        later = {label for term in terms[i + 1 :] for label in term} | set(wanted)
        right, names = _diagonals(b, x, terms[i])
        found, labels = _contract(b, (found, labels), (right, names), later)
    found, labels = _sum_out(b, found, labels, set(wanted))
    return b.transpose(found, [labels.index(label) for label in wanted])


def _labels(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """A label for each axis of each operand and of the result; the axes of ``...`` are counted from the last."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(ranks):
        raise Unlowerable(f"{len(ranks)} operands for {equation!r}")
    hidden = [rank - len(text.replace("...", "")) for text, rank in zip(texts, ranks, strict=True)]

    def spell(text: str, count: int) -> list[str]:
        before, dots, after = text.partition("...")
        return [*before, *(f".{i}" for i in range(count if dots else 0, 0, -1)), *after]

    terms = [spell(text, count) for text, count in zip(texts, hidden, strict=True)]
    most = max([count for text, count in zip(texts, hidden, strict=True) if "..." in text], default=0)
    if any(len(term) != rank for term, rank in zip(terms, ranks, strict=True)):
        raise Unlowerable(f"operands of ranks {list(ranks)} for {equation!r}")
    if arrow:
        return terms, spell(right, most)
    letters = sorted(label for label in set(left) - set(".,") if left.count(label) == 1)
    return terms, [*spell("...", most), *letters]


def _diagonals(b: Builder, x: Tensor, labels: list[str]) -> tuple[Tensor, list[str]]:
    """Axes of the same label become one: every n + 1st of the n x n elements."""
    for label in [name for name in dict.fromkeys(labels) if labels.count(name) > 1]:
        while labels.count(label) > 1:
            pair = [i for i, name in enumerate(labels) if name == label][:2]
            others = [i for i in range(x.rank) if i not in pair]
            size = x.shape[pair[0]]
            flat = b.reshape(b.transpose(x, [*others, *pair]), [*(x.shape[i] for i in others), size * size])
            x = b.gather(flat, b.ints(range(0, size * size, size + 1)), -1)
            labels = [*(labels[i] for i in others), label]
    return x, labels


def _sum_out(b: Builder, x: Tensor, labels: list[str], needed: set[str]) -> tuple[Tensor, list[str]]:
    """`x` summed over the axes whose labels nobody needs."""
    axes = [i for i, label in enumerate(labels) if label not in needed]
    summed = b.reduce("SUM", x, axes, keep=False) if axes else x
    return summed, [label for label in labels if label in needed]


_Labeled = tuple[Tensor, list[str]]


def _contract(b: Builder, left: _Labeled, right: _Labeled, later: set[str]) -> _Labeled:
    """Two operands become one by a batched product; its inner axis is what both have and nobody needs any more."""
    x, xs = _sum_out(b, *left, later | set(right[1]))
    y, ys = _sum_out(b, *right, later | set(left[1]))
    common = [label for label in xs if label in ys]
    sizes = {label: max(x.shape[xs.index(label)], y.shape[ys.index(label)]) for label in common}
    x = b.broadcast_to(x, [sizes.get(label, n) for label, n in zip(xs, x.shape, strict=True)])
    y = b.broadcast_to(y, [sizes.get(label, n) for label, n in zip(ys, y.shape, strict=True)])
    batch, inner = [label for label in common if label in later], [label for label in common if label not in later]
    rows, columns = [label for label in xs if label not in common], [label for label in ys if label not in common]
    x = b.transpose(x, [xs.index(label) for label in (*batch, *rows, *inner)])
    y = b.transpose(y, [ys.index(label) for label in (*batch, *inner, *columns)])
    shape = [*x.shape[: len(batch) + len(rows)], *y.shape[len(batch) + len(inner) :]]
    names = [*batch, *rows, *columns]
    many = int(np.prod([sizes[label] for label in inner], dtype="int64"))
    x = b.reshape(x, [*x.shape[: len(batch)], math.prod(x.shape[len(batch) : len(batch) + len(rows)]), many])
    y = b.reshape(y, [*y.shape[: len(batch)], many, math.prod(y.shape[len(batch) + len(inner) :])])
    return b.reshape(product(b, x, y) if inner else b.mul(x, y), shape), names
