"""Steps on arrays of any kind: scale, cast, shape, pad."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.steps import Apply, StepContext, integers, number, one_of
from edgekit.spec import DTYPES

__all__ = ["as_array", "cast", "expand", "normalize", "pad", "pad_or_cut", "replace_nonfinite", "reshape"]

_CASTS = tuple(name for name in DTYPES if name not in ("string", "bfloat16"))


def as_array(value: Any, op: str) -> np.ndarray:
    """`value` as an array of numbers, or an InputError naming the step that wanted one."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and not isinstance(value, np.ma.MaskedArray):
        return value
    raise InputError(f"the step {op!r} wants an array of numbers, not a {type(value).__name__}")


def normalize(*, scale: Any = 1.0, mean: Any = 0.0, std: Any = 1.0) -> Apply:
    """``(x * scale - mean) / std`` in float32; `mean` and `std` are one number, or one per index of the last axis."""
    factor = number("scale", scale)
    means, deviations = _numbers("mean", mean), _numbers("std", std)
    if not (deviations > 0).all():
        raise ArtifactError(f"std must be positive, not {std!r}")
    if means.ndim and deviations.ndim and means.shape != deviations.shape:
        raise ArtifactError(f"{means.size} means but {deviations.size} deviations")
    slope = (factor / deviations).astype(np.float32)
    offset = (-means / deviations).astype(np.float32)
    channels = max(means.size, deviations.size) if means.ndim or deviations.ndim else None

    def apply(value: Any, context: StepContext) -> np.ndarray:
        array = as_array(value, "normalize")
        if channels is not None and (array.ndim == 0 or array.shape[-1] != channels):
            raise InputError(f"normalize has {channels} channels, the value {list(array.shape)}")
        result = np.multiply(array, slope, dtype=np.float32)
        return np.add(result, offset, out=result) if result.ndim else result + offset

    return apply


def _numbers(name: str, value: Any) -> np.ndarray:
    if isinstance(value, list):
        return np.array([number(name, item) for item in value])
    return np.array(number(name, value))


def cast(*, dtype: str) -> Apply:
    """Rounds, if need be, and saturates to `dtype`."""
    wanted = np.dtype(one_of("dtype", dtype, _CASTS))

    def apply(value: Any, context: StepContext) -> np.ndarray:
        array = as_array(value, "cast")
        if wanted.kind in "iu":
            limits = np.iinfo(wanted)
            whole = np.rint(array) if array.dtype.kind == "f" else array
            return np.clip(whole, limits.min, limits.max).astype(wanted)
        return array.astype(wanted)

    return apply


def reshape(*, shape: Any) -> Apply:
    """The same numbers as `shape`, where one size may be -1: what is left."""
    dims = integers("shape", shape, least=-1)
    if dims.count(-1) > 1:
        raise ArtifactError(f"only one size of {shape} may be -1")

    def apply(value: Any, context: StepContext) -> np.ndarray:
        array = as_array(value, "reshape")
        try:
            return array.reshape(dims)
        except ValueError:
            raise InputError(f"{list(array.shape)} cannot be reshaped to {list(dims)}") from None

    return apply


def expand(*, axis: Any) -> Apply:
    """Adds an axis of size one; -1 puts it last."""
    (position,) = integers("axis", axis, count=1)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        array = as_array(value, "expand")
        if not -array.ndim - 1 <= position <= array.ndim:
            raise InputError(f"there is no place {position} for an axis in {list(array.shape)}")
        return np.expand_dims(array, position)

    return apply


def pad(*, length: Any, axis: Any = 0, value: Any = 0.0) -> Apply:
    """Fills up with `value` at the end of `axis` to `length`; what is longer is an InputError."""
    (size,) = integers("length", length, count=1, least=1)
    (along,) = integers("axis", axis, count=1)
    filler = number("value", value)

    def apply(array: Any, context: StepContext) -> np.ndarray:
        array = as_array(array, "pad")
        if not -array.ndim <= along < array.ndim:
            raise InputError(f"{list(array.shape)} has no axis {along} to pad")
        missing = size - array.shape[along]
        if missing < 0:
            raise InputError(f"axis {along} of {list(array.shape)} is longer than {size}")
        widths = [(0, 0)] * array.ndim
        widths[along] = (0, missing)
        return np.pad(array, widths, constant_values=filler)

    return apply


def pad_or_cut(*, length: Any, axis: Any = 0, value: Any = 0.0) -> Apply:
    """Makes `axis` exactly `length` long: fills up with `value` at its end, or cuts off what is beyond."""
    (size,) = integers("length", length, count=1, least=1)
    (along,) = integers("axis", axis, count=1)
    fill = pad(length=length, axis=axis, value=value)

    def apply(array: Any, context: StepContext) -> np.ndarray:
        array = as_array(array, "pad_or_cut")
        if not -array.ndim <= along < array.ndim:
            raise InputError(f"{list(array.shape)} has no axis {along} to pad")
        kept = [slice(None)] * array.ndim
        kept[along] = slice(size)
        return np.asarray(fill(array[tuple(kept)], context))

    return apply


def replace_nonfinite(*, value: Any) -> Apply:
    """Puts `value` in place of NaN and infinity, for models that were trained with a mask value."""
    filler = number("value", value)

    def apply(array: Any, context: StepContext) -> np.ndarray:
        array = as_array(array, "replace_nonfinite")
        return np.where(np.isfinite(array), array, array.dtype.type(filler))

    return apply
