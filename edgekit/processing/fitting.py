"""The last stretch before the engine: an array becomes a feed exactly as the signature wants it, or an InputError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.spec import DTYPES, Signature, TensorSpec
from edgekit.validation import is_masked

__all__ = ["fit", "free_inputs", "is_exact", "zero_state"]


_DTYPES = {name: np.dtype({"string": "object", "bfloat16": "uint16"}.get(name, name)) for name in DTYPES}


def is_exact(feeds: Mapping[str, Any], signature: Signature) -> bool:
    """Whether `feeds` are what the signature wants already: every input, its dtype, its shape, and nothing else."""
    if len(feeds) != len(signature.inputs):
        return False
    for spec in signature.inputs:  # this loop is what `predict` costs beyond `run` for a model without processing
        array = feeds.get(spec.name)
        if array.__class__ is not np.ndarray or array.dtype != _DTYPES[spec.dtype]:
            return False
        shape = array.shape
        if shape != spec.shape and not spec.accepts_shape(shape):
            return False
    return True


def free_inputs(signature: Signature) -> list[TensorSpec]:
    """The inputs a caller gives a value to: all but the state."""
    state = {pair.input for pair in signature.state}
    return [spec for spec in signature.inputs if spec.name not in state]


def zero_state(signature: Signature) -> dict[str, np.ndarray]:
    """Zeros for each state input, with size one where a dimension is open."""
    return {
        spec.name: np.zeros([d if isinstance(d, int) else 1 for d in spec.shape], _DTYPES[spec.dtype])
        for spec in signature.inputs
        if any(pair.input == spec.name for pair in signature.state)
    }


def fit(value: Any, spec: TensorSpec) -> np.ndarray:
    """`value` with the batch dimension and the dtype of `spec`; its first dimension may still differ.

    Numbers are cast only where nothing but precision can be lost: never float to integer, never beyond a range. A
    bfloat16 input takes the upper halves of float32 as they are, uint16.
    """
    if is_masked(value) or not isinstance(value, np.ndarray | np.generic):
        raise InputError(
            f"input {spec.name!r} got a {type(value).__name__}, not an array",
            hint="the model has no processing for it: pass an array, or convert with --processing",
        )
    array = np.asarray(value)
    if array.ndim == len(spec.shape) - 1:
        array = array[None]
    if array.ndim != len(spec.shape) or not _accepts(spec, array):
        raise InputError(
            f"input {spec.name!r} wants shape {_dims(spec.shape)}, got {_dims(np.shape(value))}",
            hint=f"one sample is {_dims(spec.shape[1:])}" if len(spec.shape) > 1 else "",
        )
    return _cast(array, spec)


def _accepts(spec: TensorSpec, array: np.ndarray) -> bool:
    inner = TensorSpec(spec.name, spec.dtype, spec.shape[1:])
    return array.ndim == 0 or (array.shape[0] > 0 and inner.accepts_shape(array.shape[1:]))


def _cast(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    wanted = _DTYPES[spec.dtype]
    if array.dtype == wanted and array.dtype.isnative:
        return array
    if wanted.kind == "O" and array.dtype.kind in "USO":
        return array.astype(object)
    is_numeric = array.dtype.kind in "biuf" and wanted.kind in "biuf" and spec.dtype != "bfloat16"
    if is_numeric and np.can_cast(array.dtype, wanted, "same_kind"):
        with np.errstate(over="ignore"):
            cast = array.astype(wanted)
        if wanted.kind == "f":
            if np.can_cast(array.dtype, wanted) or (np.isfinite(cast) | ~np.isfinite(array)).all():
                return cast
            raise InputError(f"input {spec.name!r} wants {spec.dtype}, got numbers beyond its range")
        if (cast == array).all():
            return cast
    elif is_numeric and array.dtype.kind in "iu" and wanted.kind in "iu":
        cast = array.astype(wanted)
        if (cast == array).all() and ((cast < 0) == (array < 0)).all():
            return cast
    hint = f"x.astype(np.{wanted.name}), if its numbers mean the same"
    if spec.dtype == "bfloat16":
        hint = "the upper halves of float32: (x.view('uint32') >> 16).astype('uint16')"
    raise InputError(f"input {spec.name!r} wants {spec.dtype}, got {array.dtype}", hint=hint)


def _dims(shape: Any) -> str:
    return "[" + ", ".join(str(d) for d in shape) + "]"
