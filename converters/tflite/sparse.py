"""Weights a file stores without their zeros."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["densified"]

_DENSE = 0
_MOST = 1 << 30
"""Elements; far beyond any weight that is stored so. A damaged shape must not ask for all of the memory."""


def densified(values: np.ndarray, shape: tuple[int, ...], sparsity: Any) -> np.ndarray:
    """The whole array that `values` and the schema's ``SparsityParameters`` stand for.

    Dimensions beyond the array's own number the places inside a block. Source: the TACO-like format of schema.fbs: each
    level is dense, or lists which indices of it there are.
    """
    order = [int(level) for level in sparsity.traversalOrder]
    blocks = [int(axis) for axis in sparsity.blockMap] if sparsity.blockMap is not None else []
    sizes = [1] * len(order)
    most = math.prod(shape)
    if most > _MOST:
        raise ValueError(f"sparse weights of {most} numbers")
    places = np.zeros((1, len(order)), "int64")
    for level, described in zip(order, sparsity.dimMetadata, strict=True):
        count, parents = len(places), np.arange(len(places))
        if described.format == _DENSE:
            sizes[level] = int(described.denseSize)
            if not 0 < sizes[level] * count <= most:
                raise ValueError("a dense level does not fit the tensor")
            parents, indices = np.repeat(parents, sizes[level]), np.tile(np.arange(sizes[level]), count)
        else:
            starts = np.asarray(described.arraySegments.values, "int64")
            indices = np.asarray(described.arrayIndices.values, "int64")
            parents = np.repeat(parents, np.diff(starts))
        places = places[parents]
        places[:, level] = indices
    rank = len(shape)
    position = places[:, :rank].copy()
    for block, axis in enumerate(blocks):
        position[:, axis] = position[:, axis] * sizes[rank + block] + places[:, rank + block]
    if len(values) < len(position) or (len(position) and position.min() < 0):
        raise ValueError("places and numbers do not fit each other")
    whole = np.zeros(shape, values.dtype)
    whole[tuple(position.T)] = values[: len(position)]
    return whole
