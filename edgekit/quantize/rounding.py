"""Weights rounded column by column, each column making up for the error of those before it.

What counts is not how far each weight moves but how far what the layer gives moves: ``tr(E H E^T)`` for an error `E` of
the rows and the second moment `H` of what they multiply. GPTQ finds good integers in one pass; going on to minimize it
over one column at a time, until no column changes, finds better ones at little cost.

Sources: Frantar, Ashkboos, Hoefler, Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers" (ICLR 2023), and for what follows it Behdin et al., "QuantEase: Optimization-based Quantization for
Language Models" (2023).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight
from edgekit.quantize.rows import Grid, SecondMoment, as_rows, put_rows, read_grid, runs

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["ORDERS", "descend", "gptq", "round_by", "round_gptq", "steady"]

ORDERS = ("act", "given")
"""By falling mean square of what the columns multiply, or as they stand."""

_DAMPING = 0.01
"""Share of the mean of the diagonal that is added to it: samples are few, and some columns never see a number."""

_BLOCK = 64
"""Columns after which errors are passed on to all that follow: one product of matrices in place of many small ones."""

_SWEEPS = 20

_FEW = 1e-3
"""Share of the weights: when a pass changes no more, the next would gain next to nothing."""

Rounded = TypeVar("Rounded", QuantizedWeight, GroupedWeight)


def round_gptq(
    node: ir.Node, weight: np.ndarray, quantized: Rounded, second: SecondMoment, *, order: str = "act"
) -> Rounded:
    """The same scales and zero points with integers that lower the error of what the operation gives.

    Args:
        node: The operation that multiplies by the weight.
        weight: The float numbers, of the weight's shape.
        quantized: The weight rounded to the nearest; 8 bits with a scale a channel, or 4 bits with a scale a group.
        second: `Moments.products` of the operation.
        order: One of `ORDERS`.

    Raises:
        InputError: The second moment is of another operation.
        UnsupportedError: There is no such order.
    """
    return round_by(partial(gptq, order=order), node, weight, quantized, second)


def round_by(
    find: Callable[[np.ndarray, np.ndarray, Grid], np.ndarray],
    node: ir.Node,
    weight: np.ndarray,
    quantized: Rounded,
    second: SecondMoment,
) -> Rounded:
    """What `find` makes of each run of columns, by their numbers, second moment and grid, and then `descend`."""
    rows, grid = as_rows(node, weight).astype("float64"), read_grid(node, quantized)
    integers = np.empty_like(rows)
    for run, moment in runs(rows.shape[-1], second):
        part, steadied = grid.columns(run), steady(moment)
        found = find(rows[..., run], steadied, part)
        integers[..., run] = descend(rows[..., run], found, steadied, part)
    return put_rows(node, quantized, integers)


def steady(moment: np.ndarray) -> np.ndarray:
    """Second moments that can be inverted: float64, with a little added to the diagonal."""
    steadied: np.ndarray = moment.astype("float64")
    diagonal = np.einsum("gkk->gk", steadied)
    added = _DAMPING * diagonal.mean(axis=1, keepdims=True)
    diagonal += np.where(added > 0, added, 1.0)
    return steadied


def gptq(rows: np.ndarray, second: np.ndarray, grid: Grid, *, order: str = "act", block: int = _BLOCK) -> np.ndarray:
    """Integers by one pass over the columns.

    Args:
        rows: float64 [groups, outputs, columns].
        second: Positive definite, float64 [groups, columns, columns].
        grid: What the numbers may become, of the shape of `rows`.
        order: One of `ORDERS`.
        block: Columns after which errors are passed on to all that follow.

    Returns:
        float64 integers of the shape of `rows`.

    Raises:
        UnsupportedError: There is no such order.
    """
    if order not in ORDERS:
        raise UnsupportedError(f"there is no order {order!r} of columns", hint=f"known: {', '.join(ORDERS)}")
    if order == "act":
        turn = np.argsort(-np.einsum("gkk->gk", second), axis=1, kind="stable")
        ordered = np.take_along_axis(rows, turn[:, None], 2)
        turned = np.take_along_axis(np.take_along_axis(second, turn[:, None], 2), turn[:, :, None], 1)
        found = gptq(ordered, turned, grid.columns(turn), order="given", block=block)
        return np.take_along_axis(found, np.argsort(turn, axis=1)[:, None], 2)
    # U^T U = H^-1: row i of U says how an error of column i is best spread over those behind it.
    upper = np.linalg.cholesky(np.linalg.inv(second)).transpose(0, 2, 1)
    left, lattice = _columns_first(rows), grid.columns_first()  # a column is then in one piece
    integers = np.empty_like(left)
    for start in range(0, rows.shape[-1], block):
        stop = min(start + block, rows.shape[-1])
        errors = np.empty((len(left), stop - start, left.shape[2]))
        for i in range(start, stop):
            integers[:, i] = lattice.nearest_at(i, left[:, i])
            errors[:, i - start] = (left[:, i] - lattice.real_at(i, integers[:, i])) / upper[:, i, i, None]
            left[:, i:stop] -= upper[:, i, i:stop, None] * errors[:, i - start, None]
        left[:, stop:] -= upper[:, start:stop, stop:].transpose(0, 2, 1) @ errors
    return _columns_first(integers)


def _columns_first(rows: np.ndarray) -> np.ndarray:
    """[groups, outputs, columns] as [groups, columns, outputs], or back: a copy."""
    return np.array(rows.transpose(0, 2, 1), order="C")


def descend(
    rows: np.ndarray, integers: np.ndarray, second: np.ndarray, grid: Grid, *, sweeps: int = _SWEEPS
) -> np.ndarray:
    """Integers of which next to none can be changed alone for the better, or those after `sweeps` passes.

    The error never rises. Arguments as of `gptq`.
    """
    numbers, current, lattice = _columns_first(rows), _columns_first(integers), grid.columns_first()
    error = lattice.real(current) - numbers
    diagonal = np.einsum("gkk->gk", second)
    for _ in range(sweeps):
        changes = 0
        slope = second @ error
        for start in range(0, rows.shape[-1], _BLOCK):
            stop = min(start + _BLOCK, rows.shape[-1])
            before = error[:, start:stop].copy()
            for i in range(start, stop):
                best = lattice.nearest_at(i, numbers[:, i] + error[:, i] - slope[:, i] / diagonal[:, i, None])
                moved = int(np.count_nonzero(best != current[:, i]))
                if moved:
                    now = lattice.real_at(i, best) - numbers[:, i]
                    slope[:, i:stop] += second[:, i, i:stop, None] * (now - error[:, i])[:, None]
                    changes, current[:, i], error[:, i] = changes + moved, best, now
            slope[:, stop:] += second[:, start:stop, stop:].transpose(0, 2, 1) @ (error[:, start:stop] - before)
        if changes <= _FEW * rows.size:
            break
    return _columns_first(current)
