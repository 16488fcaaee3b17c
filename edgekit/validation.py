"""What a session asks of feeds before an engine sees them: right dtype, rank, shape and memory, or an InputError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.spec import QuantParams, TensorSpec

__all__ = ["dims_text", "fit_array", "numpy_dtype", "quantized"]


def numpy_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """What numpy holds such a tensor in: strings as objects, bfloat16 as the upper halves of float32."""
    return np.dtype({"string": "object", "bfloat16": "uint16"}.get(spec.dtype, spec.dtype))


def quantized(name: str, array: np.ndarray, quant: QuantParams) -> np.ndarray:
    """The integers for `array`; NaN has none, whatever `check_finite` says."""
    if np.isnan(array).any():
        raise InputError(f"input {name!r} holds NaN, which no {quant.dtype} stands for", hint="replace it first")
    return quant.quantize(array)


def fit_array(value: object, spec: TensorSpec, dtype: np.dtype[Any]) -> np.ndarray:
    """`value` as an array the engine reads right, or an InputError that says what it should have been."""
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"input {spec.name!r} is a masked array", hint="fill it first: x.filled(0)")
    if not isinstance(value, np.ndarray | np.generic):
        raise InputError(
            f"input {spec.name!r} is a {type(value).__name__}, not an array",
            hint=f"np.asarray(x, dtype='{dtype.name}')",
        )
    array = np.asarray(value)
    if array.dtype.newbyteorder("=") != dtype:
        raise InputError(
            f"input {spec.name!r} wants {spec.dtype}, got {array.dtype.name}", hint=f"x.astype('{dtype.name}')"
        )
    if not spec.accepts_shape(array.shape):
        raise InputError(
            f"input {spec.name!r} wants shape {dims_text(spec.shape)}, got {dims_text(array.shape)}",
            hint=_shape_hint(array.shape, spec),
        )
    return array if array.dtype.isnative else array.astype(dtype)


def _shape_hint(got: Sequence[int], spec: TensorSpec) -> str:
    want = spec.shape
    if len(got) == len(want) - 1 and TensorSpec("", spec.dtype, want[1:]).accepts_shape(got):
        return "add the batch dimension: x[None]"
    if len(got) == len(want) == 4:
        for order in ((0, 2, 3, 1), (0, 3, 1, 2)):
            if spec.accepts_shape([got[i] for i in order]):
                return f"another layout? x.transpose{order}"
    return ""


def dims_text(shape: Sequence[int | str]) -> str:
    return "[" + ", ".join(str(d) for d in shape) + "]"
