"""Which version of an operation a file needs: the first that knows its types, ranks and options."""

from __future__ import annotations

from collections.abc import Callable

from edgekit.converters.tflite.model import Op, Tensor

__all__ = ["version_of"]

_INTEGERS = {"int8": 2, "int16": 3}

_SHARED: tuple[tuple[str, dict[str, int]], ...] = (
    ("DEPTH_TO_SPACE GREATER LESS_EQUAL LOG_SOFTMAX L2_NORMALIZATION SPACE_TO_DEPTH SPLIT_V SQUARED_DIFFERENCE SUM",
     {"int8": 2}),
    ("AVERAGE_POOL_2D BATCH_MATMUL GREATER_EQUAL LESS LOGISTIC MAX_POOL_2D MEAN MIRROR_PAD REDUCE_MAX REDUCE_MIN RELU6 "
     "RSQRT TANH TOPK_V2", _INTEGERS),
    ("EXP FLOOR_MOD LOG REDUCE_PROD SQRT", {"int8": 2, "int16": 2}),
    ("BATCH_TO_SPACE_ND MAXIMUM MINIMUM RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SPACE_TO_BATCH_ND",
     {"int8": 2, "int16": 4}),
    ("ARG_MAX ARG_MIN", {"int8": 2, "bool": 3}),
    ("COS SIN", {"float16": 2}),
    ("PAD PADV2", {**_INTEGERS, "bool": 5}),
)  # fmt: skip

_TYPES: dict[str, dict[str, int]] = {
    **{code: rule for codes, rule in _SHARED for code in codes.split()},
    "ABS": {"int8": 2, "uint8": 2, "int16": 4, "int32": 5},
    "ADD": {"int8": 2, "int16": 3, "int64": 4, "float16": 6},
    "BROADCAST_TO": {"int8": 3, "int16": 3},
    "CAST": {"uint32": 2, "int8": 3, "uint16": 4, "float16": 5, "float64": 5, "int4": 6, "bfloat16": 7},
    "CONCATENATION": {**_INTEGERS, "uint32": 4, "int4": 5, "float16": 6},
    "CONV_2D": {"int8": 3, "int16": 4},
    "DEPTHWISE_CONV_2D": {"int8": 3, "int16": 5},
    "DEQUANTIZE": {"int8": 2, "int16": 3, "float16": 3, "int4": 6},
    "DYNAMIC_UPDATE_SLICE": {"float16": 3, "int16": 4, "int4": 5, "bfloat16": 6},
    "EQUAL": {"int8": 2, "string": 3, "int16": 5},
    "FILL": {"bool": 2, "string": 2, "int8": 3, "int16": 3, "float16": 4},
    "FLOOR_DIV": {"float32": 2, "int8": 3, "int16": 3},
    "FULLY_CONNECTED": {"int8": 4, "int16": 7},
    "GATHER": {"int8": 2, "bool": 3, "int16": 4, "int4": 7},
    "GATHER_ND": {"string": 2, "int16": 3, "bool": 5},
    "GELU": {"int8": 2, "uint8": 2},
    "LEAKY_RELU": {"int16": 2},
    "MUL": {"int8": 2, "int16": 4, "int64": 5, "complex64": 6, "uint32": 7, "float16": 8},
    "NOT_EQUAL": {"int8": 2, "string": 3, "int16": 4},
    "PACK": {"int8": 2, "int16": 3, "uint32": 4},
    "QUANTIZE": {"int16": 2, "int4": 4},
    "RANGE": {"int64": 2},
    "RELU": {"int8": 2, "uint8": 2, "int16": 3},
    "REVERSE_V2": {"bool": 2, "int8": 3},
    "SIGN": {"int32": 2},
    "SLICE": {"int8": 2, "string": 3, "int16": 4, "uint32": 6, "int4": 7, "float16": 8},
    "SOFTMAX": {"int8": 2, "int16": 3, "float16": 4},
    "SPLIT": {"int8": 2, "int32": 3, "int16": 4},
    "SQUEEZE": {"string": 2},
    "STRIDED_SLICE": {"int8": 2, "bool": 3, "string": 5, "uint32": 7},
    "SUB": {"int8": 2, "int64": 4, "int16": 5},
    "TILE": {"string": 2, "int8": 3},
    "TRANSPOSE": {"int8": 2, "bool": 3, "int16": 5, "int4": 7, "bfloat16": 8, "float16": 9},
    "TRANSPOSE_CONV": {"int8": 2},
    "UNPACK": {"int8": 2, "uint8": 2, "bool": 3, "int16": 4, "float16": 5, "bfloat16": 5},
}  # fmt: skip
"""The version by the type of the deciding tensor, where it is not 1."""

_DECIDING = {"SPLIT": (1,), "FILL": (1,), "TRANSPOSE_CONV": (2,), "CAST": (0, -1), "QUANTIZE": (-1,)}
"""Numbers of the tensors, inputs before outputs, whose types decide; the first input where nothing is said."""

_RANKS = {
    "TRANSPOSE": ((4, 4), (5, 6), (6, 8)), "SLICE": ((4, 5),), "STRIDED_SLICE": ((4, 4),), "PAD": ((4, 4),),
    "PADV2": ((4, 4),), "SELECT": ((4, 3),),
}  # fmt: skip
"""Pairs of a rank and the version for tensors of more dimensions than that."""

_BROADCASTS = {"MAXIMUM": 3, "MINIMUM": 3, "SUB": 3, "DIV": 2}
"""The version that broadcasts more than four dimensions."""

_FIRST = {"BROADCAST_TO": 2}
"""Operations whose version 1 was taken back."""


def version_of(op: Op) -> int:
    """The version to be written: the highest of those that its types, ranks and options ask for.

    The rules are those of LiteRT's own versioning (tools/versioning/op_version.cc), as tables.
    """
    rule = _TYPES.get(op.code, {})
    tensors = [*op.inputs, *op.outputs]
    deciding = [tensors[index] for index in _DECIDING.get(op.code, (0,)) if tensors]
    asked = [rule.get(tensor.dtype, 1) for tensor in deciding if tensor is not None]
    rank = max((tensor.rank for tensor in op.arguments()), default=0)
    asked += [version for limit, version in _RANKS.get(op.code, ()) if rank > limit]
    if op.code in _BROADCASTS and rank > 4 and len({tensor.shape for tensor in op.arguments()}) > 1:
        asked.append(_BROADCASTS[op.code])
    if op.code in _OPTIONS:
        asked.append(_OPTIONS[op.code](op))
    return max(_FIRST.get(op.code, 1), *asked, 1)


def _dtype(op: Op, index: int) -> str:
    """Of an input; "" for one left out."""
    found = op.inputs[index] if index < len(op.inputs) else None
    return "" if found is None else found.dtype


def _is_hybrid(op: Op) -> bool:
    """Whether the activations are float and the weights integers."""
    return _dtype(op, 0) == "float32" and _dtype(op, 1) == "int8"


def _is_per_channel(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.quant is not None and len(tensor.quant.scale) > 1


def _bias(op: Op, version: int) -> int:
    """`version` where the type of a bias beside int16 activations is spelled out."""
    return version if op.options.get("quantizedBiasType") else 1


def _conv(op: Op) -> int:
    channels = {tensor.shape[-1] for tensor in op.inputs[:2] if tensor is not None}
    hybrid = (5 if _is_per_channel(op.inputs[1]) else 2) if _is_hybrid(op) else 1
    return max(6 if len(channels) > 1 else 1, hybrid, 7 if _dtype(op, 1) == "int4" else 1, _bias(op, 8))


def _depthwise(op: Op) -> int:
    dilated = max(op.options.get("dilationHFactor", 1), op.options.get("dilationWFactor", 1)) > 1
    hybrid = (6 if _is_per_channel(op.inputs[1]) else 4) if _is_hybrid(op) else 1
    return max(2 if dilated else 1, hybrid, 7 if _dtype(op, 1) == "int4" else 1)


def _dense(op: Op) -> int:
    asked = [5 if op.options.get("keepNumDims") else 1, 1 if _dtype(op, 2) else 6, _bias(op, 11)]
    if _dtype(op, 1) == "int4":
        asked.append(13 if _dtype(op, 0) == "int16" else 10)
    if _is_hybrid(op):
        asked.append(12 if _is_per_channel(op.inputs[1]) else 9 if op.options.get("asymmetricQuantizeInputs") else 3)
    return max(asked)


def _transpose_conv(op: Op) -> int:
    if op.options.get("fusedActivationFunction", "NONE") != "NONE":
        return max(4, _bias(op, 5))
    return max(3 if _dtype(op, 3) else 1, _bias(op, 5))


def _gather(op: Op) -> int:
    return max(6 if _dtype(op, 1) == "int16" else 1, 5 if op.options.get("batchDims") else 1)


def _strided_slice(op: Op) -> int:
    if op.options.get("offset"):
        return 8
    return 6 if op.options.get("ellipsisMask") or op.options.get("newAxisMask") else 1


def _scale(op: Op) -> float:
    """What the products of a quantized multiplication are scaled by; 0 for one that is not quantized."""
    scales = [tensor.quant.scale[0] for tensor in (*op.inputs, *op.outputs) if tensor is not None and tensor.quant]
    return float(scales[0] * scales[1] / scales[2]) if len(scales) == 3 else 0.0


def _of_rank_4(op: Op) -> int:
    return 1 if op.inputs[0] is not None and op.inputs[0].rank == 4 else 3


def _is_plain(op: Op, dtype: str) -> bool:
    """Whether the first input is of `dtype` and not quantized."""
    return op.inputs[0] is not None and op.inputs[0].dtype == dtype and op.inputs[0].quant is None


_OPTIONS: dict[str, Callable[[Op], int]] = {
    "ADD": lambda op: 5 if _is_plain(op, "int16") else 1,
    "BATCH_MATMUL": lambda op: 4 if _is_hybrid(op) and op.options.get("asymmetricQuantizeInputs") else 1,
    "BATCH_TO_SPACE_ND": _of_rank_4,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": lambda op: 5 if _is_per_channel(op.inputs[0]) else 1,
    "DYNAMIC_UPDATE_SLICE": lambda op: 2 if _dtype(op, 2) == "int64" else 1,
    "FULLY_CONNECTED": _dense,
    "GATHER": _gather,
    "GATHER_ND": lambda op: 4 if _dtype(op, 1) == "int16" else 1,
    "MUL": lambda op: 7 if _is_plain(op, "int16") else 3 if _scale(op) >= 1 else 1,
    "QUANTIZE": lambda op: 3 if _is_per_channel(op.output) else 1,
    "RESIZE_BILINEAR": lambda op: 3 if op.options.get("halfPixelCenters") else 1,
    "RESIZE_NEAREST_NEIGHBOR": lambda op: (
        3 if op.options.get("halfPixelCenters") or op.options.get("alignCorners") else 1
    ),
    "SPACE_TO_BATCH_ND": _of_rank_4,
    "STRIDED_SLICE": _strided_slice,
    "TRANSPOSE_CONV": _transpose_conv,
    "WHERE": lambda op: 1 if _dtype(op, 0) == "bool" else 2,
}
"""What options and the other tensors ask for."""
