"""Tensors as the Open Inference Protocol writes them: datatypes, JSON lists, and bytes.

The names of datatypes are those of the protocol; the bytes are those of its binary tensor extension: little-endian, row
by row, no padding, a BYTES element after its length of four bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import InputError
from edgekit.spec import TensorSpec
from edgekit.validation import dims_text

__all__ = ["DATATYPES", "Raw", "checked_shape", "from_bytes", "from_list", "from_values", "to_bytes", "to_list"]

Raw: TypeAlias = bytes | bytearray | memoryview

DATATYPES = {
    "bool": "BOOL", "string": "BYTES", "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
}  # fmt: skip
"""Dtype of a signature -> datatype of the protocol."""

_MAX_RANK = 32
_MAX_SIZE = 2**31 - 1
_LENGTH = struct.Struct("<I")


def checked_shape(name: str, shape: Any) -> tuple[int, ...]:
    """`shape` as a caller gave it, or an InputError when no tensor has it."""
    is_shape = isinstance(shape, Sequence) and not isinstance(shape, str) and len(shape) <= _MAX_RANK
    if not is_shape or not all(type(size) is int and 0 <= size <= _MAX_SIZE for size in shape):
        raise InputError(
            f"the shape of input {name!r} is not a list of sizes", hint='such as "shape": [1, 224, 224, 3]'
        )
    return tuple(shape)


def from_list(spec: TensorSpec, shape: tuple[int, ...], data: Any) -> np.ndarray:
    """The tensor that JSON gives, as one flat list or nested as its shape is. Raises InputError."""
    flat = _flat(spec.name, shape, data)
    kinds = set(map(type, flat))
    wanted = _json_types(spec.dtype)
    if not kinds <= wanted:
        got = ", ".join(sorted(kind.__name__ for kind in kinds - wanted))
        raise InputError(f"the data of input {spec.name!r} holds {got}, which {DATATYPES[spec.dtype]} does not")
    array = from_values(spec, shape, flat)
    if array.dtype.kind == "f" and not np.isfinite(array).all():  # no number of JSON is infinite
        raise _out_of_range(spec)
    return array


def from_values(spec: TensorSpec, shape: tuple[int, ...], values: Sequence[Any]) -> np.ndarray:
    """The tensor of `values`, as many as `shape` has, all of Python's type for the dtype. Raises InputError."""
    _check_count(spec, shape, len(values))
    if spec.dtype == "string":
        array = np.empty(len(values), "object")
        array[:] = [_text(spec.name, value) for value in values]
        return array.reshape(shape)
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, "float32" if spec.dtype == "bfloat16" else spec.dtype)
    except OverflowError:
        raise _out_of_range(spec) from None
    return (_bfloat16(array) if spec.dtype == "bfloat16" else array).reshape(shape)


def _out_of_range(spec: TensorSpec) -> InputError:
    return InputError(f"the data of input {spec.name!r} holds numbers beyond the range of {DATATYPES[spec.dtype]}")


def from_bytes(spec: TensorSpec, shape: tuple[int, ...], raw: Raw) -> np.ndarray:
    """The tensor in `raw`, without a copy where memory allows. Raises InputError."""
    if spec.dtype == "string":
        return from_values(spec, shape, _elements(spec.name, shape, raw))
    dtype = np.dtype({"bfloat16": "uint16", "bool": "uint8"}.get(spec.dtype, spec.dtype)).newbyteorder("<")
    if len(raw) != (wanted := math.prod(shape) * dtype.itemsize):
        said = f"{DATATYPES[spec.dtype]} {dims_text(shape)} takes {wanted} bytes"
        raise InputError(f"input {spec.name!r} of {said}, got {len(raw)}")
    array = np.frombuffer(raw, dtype).reshape(shape)
    if spec.dtype == "bool":
        if (array > 1).any():
            raise InputError(f"the data of input {spec.name!r} holds bytes other than 0 and 1, which BOOL does not")
        array = array.view("bool")
    # Behind a JSON object of any length the numbers begin anywhere, and engines read whole words.
    return np.require(array.astype(array.dtype.newbyteorder("="), copy=False), requirements="A")


def to_list(spec: TensorSpec, array: np.ndarray) -> list[Any]:
    """A flat list as JSON can hold it. Raises InputError where it cannot: NaN and infinity."""
    if spec.dtype == "bfloat16":
        array = (array.astype("uint32") << 16).view("float32")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        hint = 'ask for it as bytes: "parameters": {"binary_data": true}'
        raise InputError(f"output {spec.name!r} holds NaN or infinity, which JSON cannot", hint=hint)
    values: list[Any] = array.ravel().tolist()
    return values


def to_bytes(spec: TensorSpec, array: np.ndarray) -> bytes:
    if spec.dtype != "string":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    encoded = [str(text).encode() for text in array.ravel()]
    return b"".join(chain.from_iterable((_LENGTH.pack(len(text)), text) for text in encoded))


def _check_count(spec: TensorSpec, shape: tuple[int, ...], count: int) -> None:
    if count != (wanted := math.prod(shape)):
        raise InputError(f"input {spec.name!r} of shape {dims_text(shape)} takes {wanted} values, got {count}")


def _flat(name: str, shape: tuple[int, ...], data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise InputError(f"input {name!r} has no list of data", hint='"data": [...], flat or nested as its shape')
    if not data or type(data[0]) is not list:
        return data
    rows = [data]
    for size in shape:
        if not all(type(row) is list and len(row) == size for row in rows):
            raise InputError(f"the data of input {name!r} is not nested as its shape, {dims_text(shape)}")
        rows = list(chain.from_iterable(rows))
    return rows


def _json_types(dtype: str) -> set[type]:
    if dtype in ("bool", "string"):
        return {bool} if dtype == "bool" else {str}
    return {int, float} if "float" in dtype else {int}


def _text(name: str, value: str | bytes) -> str:
    try:
        return value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError:
        raise InputError(f"the data of input {name!r} holds bytes that are not UTF-8") from None


def _elements(name: str, shape: tuple[int, ...], raw: Raw) -> list[bytes]:
    content, elements, at = bytes(raw), [], 0
    while at < len(content):
        end = at + _LENGTH.size
        if end > len(content) or (stop := end + _LENGTH.unpack_from(content, at)[0]) > len(content):
            raise InputError(
                f"the data of input {name!r} ends within an element", hint="each after its length, <uint32"
            )
        elements.append(content[end:stop])
        at = stop
    return elements


def _bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper halves of float32 `array`, rounded to nearest, ties to even; it holds no NaN."""
    bits = array.view("uint32")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("uint16")
