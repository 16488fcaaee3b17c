"""From ranges and weights to parameters and rounded integers.

Affine quantization as in Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (CVPR 2018): ``real = scale * (integer - zero_point)``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.quantize.observers import Range
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight
from edgekit.spec import QuantParams

__all__ = [
    "activation_params",
    "min_weight_scale",
    "quantize_bias",
    "quantize_constant",
    "quantize_groups",
    "quantize_weight",
]

_MIN_SPAN = 1e-6
"""Ranges narrower than this are widened to it: their scale would be denormal, and a denormal scale is slow or zero."""

_BIAS_LIMIT = 2.0**30
"""Largest integer a bias may become; the sum it is added to has as many bits again before 32 overflow."""


def activation_params(span: Range, dtype: str, *, symmetric: bool = False) -> QuantParams:
    """Parameters for values within `span`, which is widened to include 0 so that 0 is one of the integers' values.

    Any value within the span comes back with an error of at most half a scale. With `symmetric` the zero point is the
    middle of the integers: 0 for signed ones, 128 for uint8.
    """
    limits = np.iinfo(dtype)
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    if symmetric:
        middle = (limits.min + limits.max + 1) // 2
        reach = max(-low, high, _MIN_SPAN)
        return QuantParams(dtype, (_as_float32(reach / (limits.max - middle)),), (middle,))
    high = max(high, low + _MIN_SPAN)
    scale = _as_float32((high - low) / (limits.max - limits.min))
    # Rounding the zero point moves both ends of the integers' reach by at most half a scale: the same error bound.
    zero = int(np.clip(np.rint(limits.min - low / scale), limits.min, limits.max))
    return QuantParams(dtype, (scale,), (zero,))


def _as_float32(value: float) -> float:
    """The nearest number files can hold that is not smaller."""
    rounded = np.float32(value)
    return float(rounded if rounded >= value else np.nextafter(rounded, np.float32(np.inf)))


def quantize_weight(
    weight: np.ndarray, axis: int | None, *, dtype: str = "int8", min_scale: np.ndarray | None = None
) -> QuantizedWeight:
    """A weight rounded to the nearest of symmetric integers, -127 to 127 for int8, per index of `axis` or as a whole.

    Args:
        min_scale: Per channel, the scale below which a bias would not fit its 32 bits.
    """
    limit = np.iinfo(dtype).max
    others = tuple(i for i in range(weight.ndim) if i != axis) if axis is not None else None
    reach = np.atleast_1d(np.abs(weight).max(axis=others, initial=0.0)).astype("float64")
    scale = np.maximum(reach / limit, _MIN_SPAN / limit)
    if min_scale is not None:
        scale = np.maximum(scale, min_scale if axis is not None else np.max(min_scale))
    params = QuantParams(dtype, tuple(_as_float32(s) for s in scale), (0,) * len(scale), axis)
    return QuantizedWeight(params, np.clip(params.quantize(weight), -limit, limit).astype(dtype))


def quantize_groups(weight: np.ndarray, axis: int, block: int, *, symmetric: bool = False) -> GroupedWeight:
    """A weight rounded to 4 bits, each `block` neighbors along `axis` with a scale and a zero point of their own.

    Args:
        weight: Float numbers.
        axis: The axis of the sum.
        block: Numbers that share a scale; the last block may be shorter.
        symmetric: The zero point is 8 everywhere, and the integers are 1 to 15.
    """
    size = weight.shape[axis]
    starts = np.arange(0, size, block)
    low = np.minimum(np.minimum.reduceat(weight, starts, axis=axis).astype("float64"), 0.0)
    high = np.maximum(np.maximum.reduceat(weight, starts, axis=axis).astype("float64"), 0.0)
    if symmetric:
        scale = np.maximum(np.maximum(-low, high) / 7, _MIN_SPAN / 15).astype("float32")
        zero = np.full(scale.shape, 8, "uint8")
    else:
        scale = np.maximum((high - low) / 15, _MIN_SPAN / 15).astype("float32")
        zero = np.clip(np.rint(-low / scale), 0, 15).astype("uint8")
    rounded = GroupedWeight(np.zeros(weight.shape, "uint8"), scale, zero, axis, block)
    steps = np.rint(weight / rounded.spread(scale)) + rounded.spread(zero)
    return replace(rounded, values=np.clip(steps, 1 if symmetric else 0, 15).astype("uint8"))


def min_weight_scale(bias: np.ndarray, activation_scale: float) -> np.ndarray:
    """The weight scale per channel at which `bias` still fits 32-bit integers of scale activation x weight."""
    return np.abs(bias.astype("float64")).reshape(-1) / (activation_scale * _BIAS_LIMIT)


def quantize_bias(bias: np.ndarray, activation: QuantParams, weight: QuantParams) -> QuantizedWeight:
    """A bias as int32 of scale activation x weight, as integer kernels add it to their sums."""
    scales = np.asarray(weight.scale, "float64") * activation.scale[0]
    scales = np.broadcast_to(scales, bias.shape) if weight.axis is not None else scales
    axis = 0 if weight.axis is not None else None
    params = QuantParams("int32", tuple(float(np.float32(s)) for s in scales), (0,) * len(scales), axis)
    limits = np.iinfo("int32")
    steps = np.rint(bias.astype("float64") / np.asarray(params.scale))
    return QuantizedWeight(params, np.clip(steps, limits.min, limits.max).astype("int32"))


def quantize_constant(array: np.ndarray, dtype: str, *, symmetric: bool = False) -> QuantizedWeight:
    """A constant that takes an activation's place in an addition or multiplication, with one scale."""
    params = activation_params(Range(float(array.min()), float(array.max())), dtype, symmetric=symmetric)
    return QuantizedWeight(params, params.quantize(array))
