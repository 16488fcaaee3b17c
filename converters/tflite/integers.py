"""Constants stored as integers, moved about without becoming real numbers in between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekit.converters.tflite.model import Tensor

__all__ = ["group_size", "numbers", "reshaped", "sliced", "spread", "transposed"]


def numbers(x: Tensor) -> np.ndarray:
    """The float32 numbers that the integers of a constant stand for."""
    assert x.data is not None
    if x.scales is None:
        assert x.quant is not None
        return x.quant.dequantize(x.data)
    assert x.scales.data is not None
    axis = _group_axis(x)
    size = group_size(x)
    found = x.data.astype("float32") * np.repeat(x.scales.data.astype("float32"), size, axis)
    return found if x.offsets is None or x.offsets.data is None else found + np.repeat(x.offsets.data, size, axis)


def _group_axis(x: Tensor) -> int:
    """The axis along which neighbors share scales."""
    assert x.scales is not None
    return next((i for i, (n, m) in enumerate(zip(x.shape, x.scales.shape, strict=True)) if n != m), x.rank - 1)


def group_size(x: Tensor) -> int:
    """How many neighbors share a scale."""
    assert x.scales is not None
    axis = _group_axis(x)
    return x.shape[axis] // x.scales.shape[axis]


def transposed(x: Tensor, perm: Sequence[int]) -> Tensor:
    """Its axes in another order."""
    assert x.data is not None
    data = np.ascontiguousarray(x.data.transpose(perm))
    quant = x.quant
    if quant is not None and quant.axis is not None:
        quant = replace(quant, axis=list(perm).index(quant.axis))
    scales, offsets = (None if one is None else transposed(one, perm) for one in (x.scales, x.offsets))
    return replace(x, shape=data.shape, data=data, quant=quant, scales=scales, offsets=offsets)


def reshaped(x: Tensor, shape: Sequence[int]) -> Tensor | None:
    """In another shape, if that still has the axis along which its scales run."""
    assert x.data is not None
    quant = x.quant
    if quant is None:
        return None
    if quant.axis is not None:
        before, size = math.prod(x.shape[: quant.axis]), x.shape[quant.axis]
        axis = next((i for i, n in enumerate(shape) if n == size and math.prod(shape[:i]) == before), None)
        if axis is None:
            return None
        quant = replace(quant, axis=axis)
    return replace(x, shape=tuple(shape), data=x.data.reshape(shape), quant=quant)


def sliced(x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor | None:
    """The block that begins at `begin`; None where it would cut through groups."""
    assert x.data is not None
    if x.quant is None:
        return None
    where = tuple(slice(start, start + count) for start, count in zip(begin, size, strict=True))
    data, quant = np.ascontiguousarray(x.data[where]), x.quant
    if quant.axis is not None:
        kept = where[quant.axis]
        quant = replace(quant, scale=quant.scale[kept], zero_point=quant.zero_point[kept])
    return replace(x, shape=data.shape, data=data, quant=quant)


def spread(x: Tensor, shape: Sequence[int], where: tuple[slice, ...]) -> Tensor | None:
    """Its integers at the places `where` of a constant of `shape`, and zeros around; None where it has no zero."""
    assert x.data is not None
    if x.quant is None or any(x.quant.zero_point):
        return None
    data = np.zeros(shape, x.data.dtype)
    data[where] = x.data
    return replace(x, shape=data.shape, data=data)
