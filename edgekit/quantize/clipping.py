"""How far a weight's integers should reach: an outlier may be cut off when all others gain more than it loses.

The reach of least square error is found by trying shares of the largest magnitude, for all channels or groups at once,
as surveyed in Nagel et al., "A White Paper on Neural Network Quantization" (2021), section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["best_reach", "clip_groups", "clip_weight"]

_SHARES = np.linspace(1.0, 0.3, 36)
"""Of the largest magnitude, what is tried; 1 first, which ties favor."""


def best_reach(weight: np.ndarray, axis: int | None, bits: int) -> np.ndarray:
    """The magnitude at which symmetric integers of `bits` bits end with the least square error.

    Args:
        weight: Float numbers.
        axis: The axis whose indices have a reach of their own; None for one reach for all.
        bits: Of the integers, from minus to plus ``2**(bits - 1) - 1``.

    Returns:
        float64 [size of the axis], or [1]; never more than the largest magnitude, which it is for zeros.
    """
    rows = np.asarray(weight, "float64")
    rows = rows.reshape(1, -1) if axis is None else np.moveaxis(rows, axis, 0).reshape(rows.shape[axis], -1)
    peak, limit = np.abs(rows).max(axis=1, initial=0.0), 2 ** (bits - 1) - 1

    def error(share: float) -> np.ndarray:
        scale = np.maximum(peak * share, np.finfo("float64").tiny)[:, None] / limit
        return np.square(np.clip(np.rint(rows / scale), -limit, limit) * scale - rows).sum(axis=1)

    return peak * _best(error, peak.shape)


def _best(error: Callable[[float], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Each one's share of least error."""
    least, best = np.full(shape, np.inf), np.ones(shape)
    for share in _SHARES:
        found = error(float(share))
        best, least = np.where(found < least, share, best), np.minimum(found, least)
    return best


def clip_weight(weight: np.ndarray, axis: int | None, bits: int = 8) -> np.ndarray:
    """The weight cut off at its best reach: float32; `quantize_weight` then takes that for the end of its integers."""
    reach = best_reach(weight, axis, bits)
    along = [-1 if axis is not None and i == axis % weight.ndim else 1 for i in range(weight.ndim)]
    limits = reach.reshape(along if weight.ndim else ()).astype("float32")
    return np.clip(weight, -limits, limits).astype("float32", copy=False)


def clip_groups(weight: np.ndarray, axis: int, block: int, *, symmetric: bool = False) -> np.ndarray:
    """The weight with each group cut off where its 4-bit integers serve best: float32, for `quantize_groups`.

    Args:
        weight: Float numbers.
        axis: The axis of the sum.
        block: Neighbors along it that share a scale; the last group may be shorter.
        symmetric: The zero point is the middle, and the integers are -7 to 7.
    """
    moved = np.moveaxis(np.asarray(weight, "float64"), axis, -1)
    size = moved.shape[-1]
    padded = np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(0, -size % block)])
    groups = padded.reshape(*padded.shape[:-1], -1, block)
    low, high = np.minimum(groups.min(axis=-1), 0.0), np.maximum(groups.max(axis=-1), 0.0)
    if symmetric:
        high = np.maximum(-low, high)
        low = -high
    levels = 14 if symmetric else 15

    def error(share: float) -> np.ndarray:
        scale = np.maximum((high - low) * share, np.finfo("float64").tiny)[..., None] / levels
        zero = np.rint(-low[..., None] * share / scale)
        return np.square((np.clip(np.rint(groups / scale) + zero, 0, levels) - zero) * scale - groups).sum(axis=-1)

    best = _best(error, low.shape)
    clipped = np.clip(groups, (low * best)[..., None], (high * best)[..., None])
    found = np.moveaxis(clipped.reshape(padded.shape)[..., :size], -1, axis)
    return np.ascontiguousarray(found, "float32")
