"""Weights that become zero: the smallest of all, or the smallest of every few.

Zeros make a file smaller once it is compressed; whether they make it faster is for the engine to say, and on CPUs the
answer is mostly no (benchmarks/compress.py). "To prune, or not to prune", Zhu and Gupta, 2017, for the magnitudes;
"Accelerating Sparse Deep Neural Networks", Mishra et al., 2021, for N:M.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.compress.weights import Changed, Weight, relative_error, require, set_weight, weights_of
from edgekit.graph.walking import copy_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["keep_largest", "prune_magnitude", "prune_n_m"]


def prune_magnitude(graph: ir.Model, *, sparsity: float, scope: str = "global", skip: Sequence[str] = ()) -> Changed:
    """A copy whose weights of least magnitude are zero.

    Args:
        graph: A hub graph; it is not changed.
        sparsity: Share of the weights that is zero afterwards, at least, above 0 and below 1.
        scope: ``"global"`` holds weights of all layers against one another, each relative to the root mean square of
            its own layer; ``"layer"`` makes every layer as sparse.
        skip: Patterns for names of operations whose weights stay.

    Raises:
        UnsupportedError: A parameter is out of range, or a pattern matches nothing.
    """
    require(0 < sparsity < 1, "sparsity", "a number above 0 and below 1", sparsity)
    require(scope in ("global", "layer"), "scope", "'global' or 'layer'", scope)
    model = copy_of(graph)
    weights = weights_of(model, skip)
    magnitudes = [np.abs(weight.array) for weight in weights]
    if scope == "layer":
        limits = [_smallest(size.ravel(), sparsity) for size in magnitudes]
    else:
        units = [float(np.sqrt(np.square(size, dtype="float64").mean())) or 1.0 for size in magnitudes]
        relative = [size.ravel() / unit for size, unit in zip(magnitudes, units, strict=True)]
        limit = _smallest(np.concatenate(relative), sparsity) if relative else 0.0
        limits = [limit * unit for unit in units]
    pairs = zip(weights, magnitudes, limits, strict=True)
    return model, _put([(weight, np.where(size > limit, weight.array, 0)) for weight, size, limit in pairs])


def _smallest(values: np.ndarray, share: float) -> float:
    """The largest of the `share` smallest values."""
    place = max(0, int(np.ceil(share * values.size)) - 1)
    return float(np.partition(values, place)[place])


def prune_n_m(graph: ir.Model, *, keep: int = 2, of: int = 4, skip: Sequence[str] = ()) -> Changed:
    """A copy in which of every `of` weights in a row that are summed at most `keep` are not zero: the largest.

    Rows run along the axis products are summed over, input channels for a convolution, which is where hardware with
    sparse kernels wants them. What is left of a row behind its last whole group stays as it is, and so do depthwise
    convolutions and tables of embeddings, where nothing is summed along an axis of the weight.

    Raises:
        UnsupportedError: Not ``0 < keep < of``, or a pattern matches nothing.
    """
    require(of >= 2, "of", "2 or more", of)
    require(0 < keep < of, "keep", f"above 0 and below {of}", keep)
    model = copy_of(graph)
    found = [weight for weight in weights_of(model, skip) if weight.sum_axis is not None]
    return model, _put([(weight, keep_largest(weight.array, weight.sum_axis or 0, keep, of)) for weight in found])


def keep_largest(array: np.ndarray, axis: int, keep: int, of: int) -> np.ndarray:
    """`array` with zeros for all but the `keep` numbers of largest magnitude of every `of` along `axis`."""
    turned = np.moveaxis(array, axis, -1).copy()
    whole = turned.shape[-1] // of * of
    groups = turned[..., :whole].reshape(*turned.shape[:-1], -1, of)
    small = np.argsort(np.abs(groups), axis=-1, kind="stable")[..., : of - keep]
    np.put_along_axis(groups, small, 0, axis=-1)
    turned[..., :whole] = groups.reshape(*turned.shape[:-1], whole)
    return np.ascontiguousarray(np.moveaxis(turned, -1, axis))


def _put(changes: list[tuple[Weight, np.ndarray]]) -> dict[str, float]:
    errors: dict[str, float] = {}
    for weight, array in changes:
        if not np.array_equal(array, weight.array):
            set_weight(weight.value, array.astype("float32"))
            errors[weight.node] = max(errors.get(weight.node, 0.0), relative_error(weight.array, array))
    return errors
