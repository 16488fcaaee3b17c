"""In which types LiteRT's kernels compute, and in which type to compute where they do not."""

from __future__ import annotations

from collections.abc import Set

from edgekit.converters.tflite.table import Unlowerable

__all__ = ["KERNELS", "computing_type"]

_NUMBERS = frozenset({"float32", "int32", "int64"})
_FLOATS = frozenset({"float32", "float16"})
_ALL = frozenset({"float32", "float16", "bool", "int8", "uint8", "int16", "int32", "uint32", "int64"})

KERNELS: dict[str, Set[str]] = {
    "ABS": {"float32", "float16", "int16", "int32"},
    "ADD": {"float32", "float16", "int16", "int32", "int64"},
    "ADD_N": {"float32", "int32"},
    "ARG_MAX": {"float32", "bool", "int8", "uint8", "int32"},
    "ARG_MIN": {"float32", "bool", "int8", "uint8", "int32"},
    "ATAN2": _FLOATS,
    "BATCH_MATMUL": {"float32"},
    "BATCH_TO_SPACE_ND": _ALL,
    "BITCAST": _ALL,
    "BITWISE_XOR": {"int8", "uint8", "int16", "int32", "uint32"},
    "BROADCAST_TO": _ALL,
    "CAST": _ALL,
    "CEIL": _FLOATS,
    "CONCATENATION": _ALL,
    "COS": _FLOATS,
    "CUMSUM": {"float32", "int32", "int64"},
    "DEPTH_TO_SPACE": {"float32", "float16", "int8", "uint8", "int32", "int64"},
    "DIV": {"float32", "float16", "int32"},
    "DYNAMIC_UPDATE_SLICE": _ALL,
    "ELU": _FLOATS,
    "EQUAL": {"float32", "float16", "bool", "int16", "int32", "int64"},
    "EXP": _FLOATS,
    "EXPAND_DIMS": _ALL,
    "FILL": _ALL,
    "FLOOR": _FLOATS,
    "FLOOR_DIV": {"float32", "int8", "int16", "int32"},
    "FLOOR_MOD": {"float32", "int8", "int16", "int32", "int64"},
    "GATHER": _ALL - {"uint32"},
    "GATHER_ND": _ALL - {"uint32"},
    "GELU": _FLOATS,
    "GREATER": {"float32", "float16", "int16", "int32", "int64"},
    "GREATER_EQUAL": {"float32", "float16", "int16", "int32", "int64"},
    "HARD_SWISH": _FLOATS,
    "LEAKY_RELU": _FLOATS,
    "LESS": {"float32", "float16", "int16", "int32", "int64"},
    "LESS_EQUAL": {"float32", "float16", "int16", "int32", "int64"},
    "LOG": _FLOATS,
    "LOGICAL_AND": {"bool"},
    "LOGICAL_NOT": {"bool"},
    "LOGICAL_OR": {"bool"},
    "LOGISTIC": _FLOATS,
    "LOG_SOFTMAX": {"float32"},
    "MATRIX_DIAG": _ALL - {"float16"},
    "MATRIX_SET_DIAG": _ALL - {"float16", "bool"},
    "MAXIMUM": _ALL - {"bool", "uint32"},
    "MEAN": {"float32", "float16", "int32", "int64"},
    "MINIMUM": _ALL - {"bool", "uint32"},
    "MIRROR_PAD": _ALL,
    "MUL": {"float32", "float16", "int16", "int32", "uint32", "int64"},
    "NEG": {"float32", "float16", "int8", "int16", "int32", "int64"},
    "NOT_EQUAL": {"float32", "float16", "bool", "int32", "int64"},
    "ONE_HOT": {"float32", "bool", "int8", "uint8", "int32", "int64"},
    "PACK": _ALL - {"float16", "bool"},
    "PAD": _ALL - {"uint32"},
    "PADV2": _ALL - {"uint32"},
    "POW": {"float32", "int32"},
    "PRELU": _FLOATS,
    "RANGE": {"float32", "int32", "int64"},
    "REDUCE_ALL": {"bool"},
    "REDUCE_ANY": {"bool"},
    "REDUCE_MAX": _ALL - {"bool", "uint32"},
    "REDUCE_MIN": _ALL - {"bool", "uint32"},
    "REDUCE_PROD": {"float32", "int8", "uint8", "int16", "int32", "int64"},
    "RELU": _FLOATS,
    "RELU6": _FLOATS,
    "RELU_0_TO_1": {"float32"},
    "RELU_N1_TO_1": _FLOATS,
    "RESHAPE": _ALL,
    "REVERSE_V2": _ALL - {"uint32"},
    "RIGHT_SHIFT": {"int8", "uint8", "int16", "int32", "uint32"},
    "ROUND": _FLOATS,
    "RSQRT": _FLOATS,
    "SCATTER_ND": {"float32", "bool", "int8", "uint8", "int32", "int64"},
    "SELECT_V2": _ALL,
    "SIGN": {"float32", "int32"},
    "SIN": _FLOATS,
    "SLICE": _ALL,
    "SOFTMAX": _FLOATS,
    "SPACE_TO_BATCH_ND": _ALL,
    "SPACE_TO_DEPTH": {"float32", "int8", "uint8", "int32", "int64"},
    "SPLIT": _ALL - {"bool", "uint32"},
    "SPLIT_V": {"float32", "int8", "uint8", "int16", "int32", "int64"},
    "SQRT": _FLOATS,
    "SQUARE": _FLOATS,
    "SQUARED_DIFFERENCE": {"float32", "float16", "int32"},
    "SQUEEZE": _ALL,
    "STABLEHLO_ADD": _ALL,
    "STABLEHLO_AND": _ALL - {"float32", "float16"},
    "STABLEHLO_MAXIMUM": _ALL,
    "STABLEHLO_MINIMUM": _ALL,
    "STABLEHLO_MULTIPLY": _ALL,
    "STABLEHLO_SHIFT_LEFT": {"int8", "int16", "int32"},
    "STRIDED_SLICE": _ALL,
    "SUB": {"float32", "float16", "int32", "int64"},
    "SUM": {"float32", "float16", "int32", "int64"},
    "TANH": _FLOATS,
    "TILE": _ALL,
    "TOPK_V2": {"float32", "int8", "uint8", "int16", "int32", "int64"},
    "TRANSPOSE": _ALL,
    "UNIQUE": {"float32", "int8", "uint8", "int16", "int32", "int64"},
    "UNPACK": _ALL - {"uint32", "int64"},
    "WHERE": _ALL - {"float16", "int16"},
    "ZEROS_LIKE": {"float32", "int32", "int64"},
}
"""Types of the first input that the kernel of an operation takes unquantized and computes right; see `computing_type`.

For SPLIT, FILL, ONE_HOT, SCATTER_ND and SELECT_V2 it is the type of what is moved. Measured with LiteRT 2.3.0, default
resolver with XNNPACK, by ``tests/contract/tflite_ops/kernel_probe.py``; integers other than those here are taken for
quantized, refused, or abort the process. Dimensions: PAD and PADV2 up to 5, all others here at least 6; STABLEHLO_*,
ADD_N and ATAN2 do not broadcast. XNNPACK's limits: LOG is -inf below 1.2e-38 and inf above 2.5e38, SQRT and RSQRT
are wrong above 2^126, RSQRT(0) and GELU(-inf) are NaN, EXP(NaN) is 0; MAXIMUM and MINIMUM give their second input where
there is no order.

An operation that is not here is taken to compute in float32, int32, int64 and, where it only moves data, in bool.
"""

_WIDER = {
    "bool": ("int32",), "int8": ("int32", "float32"), "uint8": ("int32", "float32"),
    "int16": ("int32", "float32"), "uint16": ("int32", "float32"), "int32": ("int64",), "uint32": ("int64",),
}  # fmt: skip
"""Types that hold all numbers of a type, narrowest first."""


def computing_type(code: str, dtype: str) -> str:
    """The type in which the operation `code` on tensors of `dtype` is computed: `dtype` or one that holds it.

    Raises:
        Unlowerable: No kernel computes in `dtype` or a type that holds all its numbers.
    """
    known = KERNELS.get(code, _NUMBERS | {"bool"})
    for candidate in (dtype, *_WIDER.get(dtype, ())):
        if candidate in known:
            return candidate
    raise Unlowerable(f"TFLite has no {code} for {dtype}")
