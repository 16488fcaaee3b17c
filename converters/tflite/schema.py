"""What the TFLite schema calls things: tables of options, enumerations, types."""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["ENUMERATIONS", "TYPES", "enumeration", "member_names", "options_table", "schema"]

TYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "float64": "FLOAT64", "bfloat16": "BFLOAT16", "bool": "BOOL",
    "int4": "INT4", "int8": "INT8", "uint8": "UINT8", "int16": "INT16", "uint16": "UINT16", "int32": "INT32",
    "uint32": "UINT32", "int64": "INT64", "uint64": "UINT64", "string": "STRING", "complex64": "COMPLEX64",
}  # fmt: skip
"""numpy's name of a type to the schema's."""

ENUMERATIONS = {
    "padding": "Padding",
    "fusedActivationFunction": "ActivationFunctionType",
    "mode": "MirrorPadMode",
    "weightsFormat": "FullyConnectedOptionsWeightsFormat",
    "quantizedBiasType": "TensorType",
    "inDataType": "TensorType",
    "outDataType": "TensorType",
    "outputType": "TensorType",
    "outType": "TensorType",
    "idxOutType": "TensorType",
    "kernelType": "LSTMKernelType",
}
"""Fields of options that hold a member of an enumeration."""

_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2D", "MAX_POOL_2D": "Pool2D", "L2_POOL_2D": "Pool2D", "L2_NORMALIZATION": "L2Norm",
    "MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum", "MEAN": "Reducer", "SUM": "Reducer",
    "REDUCE_ALL": "Reducer", "REDUCE_ANY": "Reducer", "REDUCE_MAX": "Reducer", "REDUCE_MIN": "Reducer",
    "REDUCE_PROD": "Reducer", "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNN", "CONV_3D_TRANSPOSE": "Conv3D",
    "RANDOM_STANDARD_NORMAL": "Random", "RANDOM_UNIFORM": "Random", "MULTINOMIAL": "Random",
}  # fmt: skip
"""Operations whose table of options has another name than they."""


def schema() -> Any:
    """The generated schema, which comes with the runtime."""
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


@functools.cache
def options_table(code: str) -> tuple[str, int]:
    """The name of an operation's table of options and which of the two unions it is in; ``("", 1)`` for none."""
    wanted = _OPTIONS.get(code, code).replace("_", "").lower() + "options"
    for union, members in ((1, schema().BuiltinOptions), (2, schema().BuiltinOptions2)):
        for name in vars(members):
            if name.lower() == wanted:
                return name, union
    return "", 1


@functools.cache
def enumeration(name: str) -> dict[str, int]:
    """Names and numbers of one of the schema's enumerations."""
    return {key: value for key, value in vars(getattr(schema(), name)).items() if isinstance(value, int)}


@functools.cache
def member_names(name: str) -> dict[int, str]:
    """The same, from numbers to names."""
    return {number: member for member, number in enumeration(name).items()}
