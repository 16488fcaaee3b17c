"""Operations element by element, raised."""

from __future__ import annotations

import numpy as np

from edgekit.converters.tflite.model import Op
from edgekit.converters.tflite.raising import Raiser
from edgekit.converters.tflite.table import Unlowerable, raises

__all__: list[str] = []

_SAME = {
    "ABS": "Abs", "CEIL": "Ceil", "COS": "Cos", "EXP": "Exp", "FLOOR": "Floor", "HARD_SWISH": "HardSwish", "LOG": "Log",
    "LOGICAL_NOT": "Not", "LOGISTIC": "Sigmoid", "NEG": "Neg", "RELU": "Relu", "ROUND": "Round", "SIGN": "Sign",
    "SIN": "Sin", "SQRT": "Sqrt", "TANH": "Tanh",
    "ADD_N": "Sum", "LOGICAL_AND": "And", "LOGICAL_OR": "Or", "MAXIMUM": "Max", "MINIMUM": "Min", "POW": "Pow",
    "EQUAL": "Equal", "LESS": "Less", "LESS_EQUAL": "LessOrEqual", "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual", "SELECT_V2": "Where", "ELU": "Elu", "PRELU": "PRelu",
    "BITWISE_XOR": "BitwiseXor", "STABLEHLO_ADD": "Add", "STABLEHLO_MULTIPLY": "Mul", "STABLEHLO_MAXIMUM": "Max",
    "STABLEHLO_MINIMUM": "Min",
}  # fmt: skip
"""Operations that ONNX has as well, with the same operands."""

_FUSED = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}

_LIMITS = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}


@raises(*_SAME)
def same(r: Raiser, op: Op) -> str:
    return r.node(_SAME[op.code], [r.real(tensor) for tensor in op.inputs])


@raises("SELECT")
def select(r: Raiser, op: Op) -> str:
    """Unlike SELECT_V2 it takes a vector for the first axis."""
    chosen, x = op.inputs[:2]
    assert chosen is not None
    assert x is not None
    name = r.real(chosen)
    if chosen.rank == 1 and x.rank > 1:
        name = r.node("Unsqueeze", [name, r.ints(range(1, x.rank))])
    return r.node("Where", [name, r.real(x), r.real(op.inputs[2])])


@raises("STABLEHLO_AND")
def both(r: Raiser, op: Op) -> str:
    return r.node("And" if op.output.dtype == "bool" else "BitwiseAnd", [r.real(tensor) for tensor in op.inputs])


@raises("RIGHT_SHIFT", "STABLEHLO_SHIFT_LEFT")
def shift(r: Raiser, op: Op) -> str:
    """ONNX shifts numbers without a sign. To the right the sign comes in: negative ones go inverted, and back."""
    dtype = op.output.dtype
    x, places = (r.real(tensor) for tensor in op.inputs)
    direction = "LEFT" if op.code == "STABLEHLO_SHIFT_LEFT" else "RIGHT"
    if dtype.startswith("uint"):
        return r.node("BitShift", [x, places], direction=direction)
    turns = direction == "RIGHT"
    is_negative = r.node("Less", [x, r.const(np.zeros((), dtype))]) if turns else ""
    bits = r.node("Where", [is_negative, r.node("BitwiseNot", [x]), x]) if turns else x
    wide = [r.cast(name, f"u{dtype}") for name in (bits, places)]
    found = r.cast(r.node("BitShift", wide, direction=direction), dtype)
    return r.node("Where", [is_negative, r.node("BitwiseNot", [found]), found]) if turns else found


@raises(*_FUSED)
def fused(r: Raiser, op: Op) -> str:
    return r.activated(r.node(_FUSED[op.code], [r.real(tensor) for tensor in op.inputs]), op)


@raises("DIV")
def div(r: Raiser, op: Op) -> str:
    """Of integers both cut the fraction off."""
    return r.activated(r.node("Div", [r.real(tensor) for tensor in op.inputs]), op)


@raises("NOT_EQUAL")
def not_equal(r: Raiser, op: Op) -> str:
    return r.node("Not", [r.node("Equal", [r.real(tensor) for tensor in op.inputs])])


@raises("SQUARE")
def square(r: Raiser, op: Op) -> str:
    x = r.real(op.inputs[0])
    return r.node("Mul", [x, x])


@raises("SQUARED_DIFFERENCE")
def squared_difference(r: Raiser, op: Op) -> str:
    difference = r.node("Sub", [r.real(tensor) for tensor in op.inputs])
    return r.node("Mul", [difference, difference])


@raises("RSQRT")
def rsqrt(r: Raiser, op: Op) -> str:
    return r.node("Reciprocal", [r.node("Sqrt", [r.real(op.inputs[0])])])


@raises("FLOOR_MOD")
def floor_mod(r: Raiser, op: Op) -> str:
    """The result has the divisor's sign, in integers as ONNX's Mod; of floats by the definition."""
    x, y = (r.real(tensor) for tensor in op.inputs)
    if op.output.dtype.startswith("int"):
        return r.node("Mod", [x, y])
    return r.node("Sub", [x, r.node("Mul", [r.node("Floor", [r.node("Div", [x, y])]), y])])


@raises("FLOOR_DIV")
def floor_div(r: Raiser, op: Op) -> str:
    x, y = (r.real(tensor) for tensor in op.inputs)
    if op.output.dtype == "float32":
        return r.node("Floor", [r.node("Div", [x, y])])
    # ONNX cuts off: what Mod says is left over, with the divisor's sign, makes the division exact.
    return r.node("Div", [r.node("Sub", [x, r.node("Mod", [x, y])]), y])


@raises("ATAN2")
def atan2(r: Raiser, op: Op) -> str:
    """ONNX has the angle of a quotient only: the half plane is put right, and the axis between them."""
    y, x = (r.real(tensor) for tensor in op.inputs)
    zero, half = r.const(np.float32(0)), r.const(np.float32(np.pi / 2))
    sign = r.node("Where", [r.node("Less", [y, zero]), r.const(np.float32(-np.pi)), r.const(np.float32(np.pi))])
    left = r.node("Less", [x, zero])
    angle = r.node("Atan", [r.node("Div", [y, x])])
    turned = r.node("Where", [left, r.node("Add", [angle, sign]), angle])
    upright = r.node("Mul", [r.node("Sign", [y]), half])
    return r.node("Where", [r.node("Equal", [x, zero]), upright, turned])


@raises(*_LIMITS)
def limited(r: Raiser, op: Op) -> str:
    low, high = _LIMITS[op.code]
    return r.node("Clip", [r.real(op.inputs[0]), r.const(np.float32(low)), r.const(np.float32(high))])


@raises("LEAKY_RELU")
def leaky_relu(r: Raiser, op: Op) -> str:
    return r.node("LeakyRelu", [r.real(op.inputs[0])], alpha=op.options["alpha"])


@raises("GELU")
def gelu(r: Raiser, op: Op) -> str:
    return r.node("Gelu", [r.real(op.inputs[0])], approximate="tanh" if op.options["approximate"] else "none")


@raises("SOFTMAX")
def softmax(r: Raiser, op: Op) -> str:
    x = r.real(op.inputs[0])
    if op.options["beta"] != 1:
        x = r.node("Mul", [x, r.const(np.float32(op.options["beta"]))])
    return r.node("Softmax", [x], axis=-1)


@raises("LOG_SOFTMAX")
def log_softmax(r: Raiser, op: Op) -> str:
    return r.node("LogSoftmax", [r.real(op.inputs[0])], axis=-1)


@raises("CAST")
def cast(r: Raiser, op: Op) -> str:
    return r.cast(r.real(op.inputs[0]), op.output.dtype)


@raises("QUANTIZE", "DEQUANTIZE", "DENSIFY", "FAKE_QUANT")
def quantize(r: Raiser, op: Op) -> str:
    """The numbers stay what they are: how the tensors before and behind are stored says all; sparse is unfolded."""
    if op.code == "FAKE_QUANT":
        raise Unlowerable("training's stand-in for quantization; convert the model it was trained for")
    (x,) = op.inputs
    assert x is not None
    if x.data is None and x.dtype == "float16":
        return r.node("Cast", [r.raw(x)], to=1)
    return r.real(x)


@raises("ZEROS_LIKE")
def zeros_like(r: Raiser, op: Op) -> str:
    shape = r.node("Shape", [r.real(op.inputs[0])])
    zero = r.const(np.zeros(1, op.output.dtype))
    return r.node("Expand", [zero, shape])
