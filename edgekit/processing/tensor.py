"""Steps on arrays of any kind: scale, cast, shape, pad."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.steps import Apply, StepContext, integers, number, one_of
from edgekit.spec import DTYPES
from edgekit.validation import is_masked

__all__ = [
    *("as_array", "cast", "constant", "expand", "normalize", "one_hot"),
    *("pad", "pad_or_cut", "replace_nonfinite", "reshape"),
]

_CASTS = tuple(name for name in DTYPES if name not in ("string", "bfloat16"))


def as_array(value: Any, op: str) -> np.ndarray:
    """`value` as an array of numbers, or an InputError naming the step that wanted one."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and not is_masked(value):
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
    """Rounds, if need be, and saturates to `dtype`; NaN, which no integer stands for, is an InputError."""
    wanted = np.dtype(one_of("dtype", dtype, _CASTS))

    def apply(value: Any, context: StepContext) -> np.ndarray:
        array = as_array(value, "cast")
        return _saturated(array, wanted) if wanted.kind in "iu" and array.dtype.kind != "b" else array.astype(wanted)

    return apply


def _saturated(array: np.ndarray, wanted: np.dtype[Any]) -> np.ndarray:
    limits = np.iinfo(wanted)
    if array.dtype.kind != "f":
        own = np.iinfo(array.dtype)
        return np.clip(array, max(own.min, limits.min), min(own.max, limits.max)).astype(wanted)
    if np.isnan(array).any():
        raise InputError(f"NaN cannot be cast to {wanted}", hint='put "replace_nonfinite" before "cast"')
    whole = np.rint(array.astype(np.float64))
    is_beyond = whole >= float(limits.max)  # not clipped to it: as a float the largest int64 is one too large
    cast = np.where(is_beyond, 0.0, np.maximum(whole, float(limits.min))).astype(wanted)
    cast[is_beyond] = limits.max
    return cast


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
        with np.errstate(invalid="ignore"):
            is_held = array.dtype.kind == "f" or bool(np.array(filler).astype(array.dtype) == filler)
        if not is_held:
            raise InputError(f"{array.dtype} cannot hold the {filler:g} that is padded with")
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
        if array.dtype.kind != "f":
            return array
        return np.where(np.isfinite(array), array, array.dtype.type(filler))

    return apply


def constant(*, value: Any) -> Apply:
    """`value`, a number or lists of them, for an input that is not given; what is given passes.

    It stands first. An input that has it takes no part in one value for all inputs.
    """
    array = _constant(value)
    return lambda given, context: array.copy() if given is None else given


def _constant(value: Any) -> np.ndarray:
    """int64 of whole numbers, else float32."""
    try:
        array = np.array(value)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ArtifactError(f"value must be a number, or lists of them of equal lengths, not {str(value)[:60]}")
    return array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)


def one_hot(*, count: Any) -> Apply:
    """A whole number below `count`, or one of the labels -> float32 [count], one at its place and zero elsewhere.

    An array passes: it is a mixture.
    """
    (size,) = integers("count", count, count=1, least=1)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        if isinstance(value, np.ndarray) and value.ndim:
            return as_array(value, "one_hot")
        index = context.labels.index(value) if isinstance(value, str) and value in context.labels else value
        if isinstance(index, np.ndarray):
            index = index.item()
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < size:
            raise InputError(f"{value!r} is none of {size}", hint=f"a number from 0 to {size - 1}")
        return np.asarray(np.arange(size) == index, np.float32)

    return apply
