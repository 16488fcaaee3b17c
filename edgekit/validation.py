"""What a session asks of feeds before an engine sees them: right dtype, rank, shape and memory, or an InputError."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import ArtifactError, EdgekitError, InputError
from edgekit.spec import QuantParams, Signature, TensorSpec

__all__ = ["Convert", "dims_text", "fit_array", "is_masked", "numpy_dtype", "order", "outward", "wanted"]

Convert: TypeAlias = Callable[[np.ndarray], np.ndarray]


def is_masked(value: object) -> bool:
    """Whether `value` is a masked array. Nobody has one before ``numpy.ma`` is imported, which takes long."""
    ma = sys.modules.get("numpy.ma")
    return ma is not None and isinstance(value, ma.MaskedArray)


def numpy_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """What numpy holds such a tensor in: strings as objects, bfloat16 as the upper halves of float32."""
    return np.dtype({"string": "object", "bfloat16": "uint16"}.get(spec.dtype, spec.dtype))


def _quantized(name: str, quant: QuantParams, array: np.ndarray) -> np.ndarray:
    """The integers for `array`; NaN has none, whatever `check_finite` says."""
    if np.isnan(array).any():
        raise InputError(f"input {name!r} holds NaN, which no {quant.dtype} stands for", hint="replace it first")
    return quant.quantize(array)


def fit_array(value: object, spec: TensorSpec, dtype: np.dtype[Any]) -> np.ndarray:
    """`value` as an array the engine reads right, or an InputError that says what it should have been."""
    if is_masked(value):
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


def wanted(
    inputs: Sequence[TensorSpec], signature: Signature, engine_names: Mapping[str, str], check_finite: bool
) -> list[list[Any]]:
    """What the hot path reads for each input.

    Our name, dtype, exact shape or the last that fitted, whether the engine takes it as it is, our spec, what makes the
    engine's array of it. They are lists because the shape is renewed; a stale one only costs the full check.
    """
    ours = {engine_names[spec.name]: spec for spec in signature.inputs}
    wanted = []
    for engine in inputs:
        spec = ours[engine.name]
        convert = _inward(spec, engine)
        is_plain = convert is None and not check_finite
        wanted.append([spec.name, numpy_dtype(spec), _static_shape(spec), is_plain, spec, convert])
    return wanted


def order(
    engine: Sequence[TensorSpec], ours: Sequence[TensorSpec], renames: Mapping[str, str], what: str
) -> dict[str, str]:
    """For each of our names the engine's, checked to be one to one."""
    pairs = {spec.name: renames.get(spec.name, spec.name) for spec in ours}
    if sorted(pairs.values()) != sorted(spec.name for spec in engine):
        raise ArtifactError(
            f"the file's {what}s {[s.name for s in engine]} are not those of the signature, {sorted(pairs.values())}"
        )
    return pairs


def _static_shape(spec: TensorSpec) -> tuple[int, ...] | None:
    return tuple(int(d) for d in spec.shape) if spec.is_static else None


def _inward(ours: TensorSpec, engine: TensorSpec) -> Convert | None:
    """What makes the engine's array of the caller's; None where they are the same."""
    if engine.quant is not None and ours.dtype == "float32":
        return partial(_quantized, ours.name, engine.quant)
    return _recasting(ours, engine, numpy_dtype(engine), InputError)


def outward(ours: TensorSpec, engine: TensorSpec) -> Convert | None:
    """What makes the caller's array of the engine's; None where they are the same.

    Raises:
        ArtifactError: They are neither of one kind nor integers that stand for real numbers.
    """
    if engine.quant is not None and ours.dtype == "float32":
        return engine.quant.dequantize
    return _recasting(ours, engine, numpy_dtype(ours), ArtifactError)


def _recasting(ours: TensorSpec, engine: TensorSpec, dtype: np.dtype[Any], error: type[EdgekitError]) -> Convert | None:
    """Between what a signature declares and a file that has it in another width: integers exactly, floats rounded."""
    if ours.dtype == engine.dtype:
        return None
    kinds = {numpy_dtype(spec).kind.replace("u", "i") for spec in (ours, engine)}
    if kinds not in ({"i"}, {"f"}) or "bfloat16" in (ours.dtype, engine.dtype):
        raise ArtifactError(
            f"{ours.name!r} is {ours.dtype} in the signature and {engine.dtype} in the file", hint="convert it again"
        )

    def recast(array: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            other = array.astype(dtype)
        if kinds == {"i"} and not np.array_equal(other, array):
            raise error(f"{ours.name!r} holds integers that {dtype.name} has not", hint="use smaller ones")
        return other

    return recast
