"""Multiply-accumulates of an operation, from the shapes an engine reports; None where a size is open."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

__all__ = ["filtered", "matmul", "recurrent"]

Shape = Sequence[int]


def _closed(*shapes: Shape) -> bool:
    return all(d >= 0 for shape in shapes for d in shape)


def filtered(elements: Shape, weights: Shape, filters: int) -> int | None:
    """A layer in which each of `elements` costs one filter, the weights being `filters` of them.

    The elements are the outputs of a convolution, grouped or not, or of a dense layer, and the inputs of a transposed
    convolution; layouts do not matter.
    """
    if not _closed(elements, weights) or not filters:
        return None
    return prod(elements) * prod(weights) // filters


def matmul(a: Shape, output: Shape) -> int | None:
    """A product of matrices, batched or not, `a` transposed or not: the inner size is what `a` has beside the rows."""
    if not a or not _closed(a, output):
        return None
    if len(a) == 1:
        return prod(output) * a[0]
    if len(output) < 2:
        return prod(a)
    # A vector as second factor drops the columns, so the rows are the last size of the output.
    rows = output[-2] if len(output) >= len(a) else output[-1]
    return prod(output) * (a[-1] * a[-2] // rows) if rows else 0


def recurrent(steps: int, batch: int, *weights: Shape) -> int | None:
    """An RNN, GRU or LSTM: every weight is used once a step."""
    if steps < 0 or batch < 0 or not _closed(*weights):
        return None
    return steps * batch * sum(prod(w) for w in weights)
