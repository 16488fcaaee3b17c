"""Arithmetic element by element, of floats as the kernels do it and of integers as numpy does: whole and wrapping."""

from __future__ import annotations

import functools

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_BINARY = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL"}
_VARIADIC = {"Max": "MAXIMUM", "Min": "MINIMUM", "Sum": "ADD", "Mean": "ADD"}
_WRAPPING = ("int16", "uint16", "uint32")
"""Types held in a wider one, in which results could leave their range."""


def _wrapped(b: Builder, node: Node, y: Tensor) -> Tensor:
    """`y` with the numbers that its type in the hub would have: one that is held wider wraps around here."""
    narrow = node.hub_dtype()
    return b.cast(b.cast(y, narrow), y.dtype) if narrow in _WRAPPING else y


def _magnitude(b: Builder, x: Tensor) -> Tensor:
    """The absolute value of numbers of any type."""
    if x.dtype == "uint8":
        return x
    return b.binary("MAXIMUM", x, b.unary("NEG", x)) if x.dtype == "int64" else b.unary("ABS", x)


@lowers(*_BINARY)
def binary(b: Builder, node: Node) -> Tensor:
    return _wrapped(b, node, b.binary(_BINARY[node.op], node.input(0), node.input(1)))


@lowers(*_VARIADIC)
def variadic(b: Builder, node: Node) -> Tensor:
    code = _VARIADIC[node.op]
    found = functools.reduce(functools.partial(b.binary, code), (node.input(i) for i in range(len(node.inputs))))
    return b.mul(found, 1 / len(node.inputs)) if node.op == "Mean" else found


@lowers("Div")
def div(b: Builder, node: Node) -> Tensor:
    x, y = node.input(0), node.input(1)
    if x.dtype != "int64":
        return _wrapped(b, node, b.div(x, y))
    # No kernel divides int64. Without its remainder x is a multiple of y, and float32's quotient, being right to
    # 22 bits, leaves less to divide each time: 63 bits are gone after three.
    rest = b.sub(x, _remainder(b, x, y))
    divisor = b.cast(y, "float32")
    parts = []
    for _ in range(3):
        parts.append(b.cast(b.unary("ROUND", b.div(b.cast(rest, "float32"), divisor)), "int64"))
        rest = b.sub(rest, b.mul(parts[-1], y))
    return functools.reduce(b.add, parts)


def _remainder(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """What C's % and fmod leave, which has the sign of `x`; FLOOR_MOD gives that of `y`."""
    if x.dtype == "uint8":
        return b.binary("FLOOR_MOD", x, y)
    is_below = b.binary("LESS", x, 0)
    if x.dtype == "float32":
        left = b.binary("FLOOR_MOD", _magnitude(b, x), _magnitude(b, y))
        return b.where(is_below, b.unary("NEG", left), left)
    left = b.binary("FLOOR_MOD", x, y)  # the least integer has no magnitude
    differs = b.binary("NOT_EQUAL", is_below, b.binary("LESS", left, 0))
    return b.where(b.binary("LOGICAL_AND", differs, b.binary("NOT_EQUAL", left, 0)), b.sub(left, y), left)


@lowers("Mod")
def mod(b: Builder, node: Node) -> Tensor:
    x, y = node.input(0), node.input(1)
    return _remainder(b, x, y) if node.integer("fmod") else b.binary("FLOOR_MOD", x, y)


# --- powers ----------------------------------------------------------------------------------------------------------


@lowers("Pow")
def power(b: Builder, node: Node) -> Tensor:
    x, y = node.input(0), node.input(1)
    exponent = _common(y) if node.shape == x.shape else None
    if x.dtype == "float32":
        return _real_power(b, x, b.cast(y, "float32"), exponent)
    if exponent is not None and exponent in range(64):
        return _whole_power(b, x, int(exponent))
    if y.dtype == "float32":
        return b.cast(b.binary("POW", b.cast(x, "float32"), y), x.dtype)
    return _integer_power(b, x, b.cast(y, "int32"))


def _common(y: Tensor) -> float | None:
    """The number that all elements of a constant are, if they are one."""
    return float(y.data.flat[0]) if y.data is not None and y.data.size and np.ptp(y.data) == 0 else None


def _real_power(b: Builder, x: Tensor, y: Tensor, exponent: float | None) -> Tensor:
    if exponent == -1:
        return b.div(1, x)
    if exponent in (1, 2, 3):
        return _whole_power(b, x, int(exponent))
    if exponent in (0.5, -0.5):
        root = b.unary("SQRT", x)
        return root if exponent == 0.5 else b.div(1, root)  # XNNPACK's RSQRT of 0 is NaN
    return b.binary("POW", x, y)


def _whole_power(b: Builder, x: Tensor, exponent: int) -> Tensor:
    """By squaring; integers wrap around."""
    found: Tensor | None = None
    while exponent:
        if exponent % 2:
            found = x if found is None else b.mul(found, x)
        exponent //= 2
        if exponent:
            x = b.unary("SQUARE", x) if x.dtype == "float32" else b.mul(x, x)
    return b.add(b.mul(x, 0), 1) if found is None else found


def _integer_power(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """By squaring along the bits of exponents up to 63; the kernel has no int64 and stops at a negative exponent."""
    found, factor, bits = b.const(np.ones((), x.dtype)), x, y
    for bit in range(6):
        odd = b.binary("EQUAL", b.binary("FLOOR_MOD", bits, 2), 1)
        found = b.where(odd, b.mul(found, factor), found)
        if bit < 5:
            factor, bits = b.mul(factor, factor), b.binary("FLOOR_DIV", bits, 2)
    inverse = b.cast(b.binary("POW", b.cast(x, "float32"), b.cast(y, "float32")), x.dtype)
    return b.where(b.binary("LESS", y, 0), inverse, found)


# --- bits ------------------------------------------------------------------------------------------------------------


@lowers("BitShift")
def shift(b: Builder, node: Node) -> Tensor:
    """In 32 bits: of the unsigned types, uint8 and uint16 fit as they are, and uint32 keeps its bits in int32."""
    x, y, narrow = node.input(0), node.input(1), node.hub_dtype()
    if narrow not in ("uint8", "uint16", "uint32"):
        raise Unlowerable(f"bits of {narrow}")
    shape = node.shape
    if node.text("direction") == "RIGHT":
        held = "uint32" if narrow == "uint32" else x.dtype
        return b.cast(b.op("RIGHT_SHIFT", [b.cast(x, held), b.cast(y, held)], shape), x.dtype)
    bits = [b.broadcast_to(b.cast(one, "int32"), shape) for one in (x, y)]
    return b.cast(b.cast(b.op("STABLEHLO_SHIFT_LEFT", bits, shape), narrow), x.dtype)


@lowers("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(b: Builder, node: Node) -> Tensor:
    x, y = node.input(0), node.input(1)
    if node.op == "BitwiseXor" and x.dtype != "int64":
        return b.binary("BITWISE_XOR", x, y)
    shape = node.shape
    both = b.op("STABLEHLO_AND", [b.broadcast_to(x, shape), b.broadcast_to(y, shape)], shape)
    if node.op == "BitwiseAnd":
        return both
    # Bits of only one of the two never carry over.
    return b.add(x if node.op == "BitwiseOr" else b.sub(x, both), b.sub(y, both))


@lowers("BitwiseNot")
def bitwise_not(b: Builder, node: Node) -> Tensor:
    x, narrow = node.input(0), node.hub_dtype()
    return b.sub(np.iinfo(narrow).max if narrow.startswith("u") else -1, x)


@lowers("Neg")
def neg(b: Builder, node: Node) -> Tensor:
    return _wrapped(b, node, b.unary("NEG", node.input(0)))


@lowers("Abs")
def absolute(b: Builder, node: Node) -> Tensor:
    return _wrapped(b, node, _magnitude(b, node.input(0)))


@lowers("Sign")
def sign(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    if x.dtype != "int64":
        return b.unary("SIGN", x)
    return b.binary("MAXIMUM", b.binary("MINIMUM", x, 1), -1)
