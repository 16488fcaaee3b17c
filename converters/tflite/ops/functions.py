"""Functions of one number: those TFLite has, and the others by what it has."""

from __future__ import annotations

import math

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_PLAIN = {
    "Ceil": "CEIL", "Cos": "COS", "Exp": "EXP", "Floor": "FLOOR", "Log": "LOG", "Round": "ROUND", "Sin": "SIN",
    "Sqrt": "SQRT",
}  # fmt: skip
_STORED_ONES = 1024
"""More ones than this are computed, not stored."""


@lowers(*_PLAIN)
def plain(b: Builder, node: Node) -> Tensor:
    return b.unary(_PLAIN[node.op], node.input(0))


@lowers("Reciprocal")
def reciprocal(b: Builder, node: Node) -> Tensor:
    return b.div(1, node.input(0))


@lowers("Erf")
def erf(b: Builder, node: Node) -> Tensor:
    """From the exact GELU(z) = z / 2 (1 + erf(z / sqrt 2)): to 5e-7, against 15 operations of a polynomial.

    x is held within 6, where erf is 1, since infinity over itself is none; 1e-20 keeps 0 from being divided by 0.
    """
    x = b.unary("RELU_N1_TO_1", b.mul(node.input(0), 1 / 6))
    z = b.add(b.mul(x, 6 * math.sqrt(2)), 1e-20)
    return b.sub(b.mul(b.div(b.unary("GELU", z), z), 2), 1)


# --- angles: all by ATAN2 --------------------------------------------------------------------------------------------


def _angle(b: Builder, y: Tensor, x: Tensor) -> Tensor:
    return b.op("ATAN2", [y, x], y.shape)


@lowers("Tan")
def tan(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    return b.div(b.unary("SIN", x), b.unary("COS", x))


@lowers("Asin")
def asin(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    return _angle(b, x, _leg(b, x))


@lowers("Acos")
def acos(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    return _angle(b, _leg(b, x), x)


def _leg(b: Builder, x: Tensor) -> Tensor:
    """``sqrt(1 - x x)`` without loss near 1."""
    return b.unary("SQRT", b.mul(b.sub(1, x), b.add(x, 1)))


@lowers("Atan")
def atan(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    if 0 <= x.size <= _STORED_ONES:
        return _angle(b, x, b.const(np.ones(x.shape, x.dtype)))
    return _angle(b, x, b.add(b.unary("ZEROS_LIKE", x), 1))  # ATAN2 does not broadcast


# --- hyperbolic ------------------------------------------------------------------------------------------------------


def _cosh(b: Builder, x: Tensor) -> Tensor:
    """Both exponentials are halved before they could overflow."""
    half = math.log(2)
    return b.add(b.unary("EXP", b.sub(x, half)), b.unary("EXP", b.sub(-half, x)))


@lowers("Cosh")
def cosh(b: Builder, node: Node) -> Tensor:
    return _cosh(b, node.input(0))


@lowers("Sinh")
def sinh(b: Builder, node: Node) -> Tensor:
    """As tanh times cosh it loses nothing near 0."""
    return b.mul(b.unary("TANH", node.input(0)), _cosh(b, node.input(0)))


@lowers("Asinh")
def asinh(b: Builder, node: Node) -> Tensor:
    """``sign(x) log(|x| + sqrt(x x + 1))``, with the larger of |x| and 1 taken out before anything overflows."""
    x = node.input(0)
    size = b.unary("ABS", x)
    larger, smaller = b.binary("MAXIMUM", size, 1), b.binary("MINIMUM", size, 1)
    root = b.unary("SQRT", b.add(b.unary("SQUARE", b.div(smaller, larger)), 1))
    logarithm = b.add(b.unary("LOG", larger), b.unary("LOG", b.add(smaller, root)))
    return b.mul(b.unary("SIGN", x), logarithm)


@lowers("Acosh")
def acosh(b: Builder, node: Node) -> Tensor:
    """``log(x + sqrt(x - 1) sqrt(x + 1))``: one root of the product would overflow."""
    x = node.input(0)
    roots = b.mul(b.unary("SQRT", b.sub(x, 1)), b.unary("SQRT", b.add(x, 1)))
    return b.unary("LOG", b.add(x, roots))


@lowers("Atanh")
def atanh(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    return b.mul(b.unary("LOG", b.div(b.add(x, 1), b.sub(1, x))), 0.5)


# --- along an axis ---------------------------------------------------------------------------------------------------


@lowers("CumProd")
def cum_prod(b: Builder, node: Node) -> Tensor:
    """By doubling: after step k each element holds the product of the 2^k that end in it (Hillis and Steele 1986)."""
    x = node.input(0)
    axis = int(node.known(1, "the axis").item()) % max(x.rank, 1)
    size = x.shape[axis]
    if size < 0:
        raise Unlowerable("an axis of unknown size")
    turned = b.op("REVERSE_V2", [x, b.ints([axis])], x.shape) if node.integer("reverse") else x
    found = _moved(b, turned, axis, 1) if node.integer("exclusive") else turned
    step = 1
    while step < size:
        found = b.mul(found, _moved(b, found, axis, step))
        step *= 2
    return b.op("REVERSE_V2", [found, b.ints([axis])], x.shape) if node.integer("reverse") else found


def _moved(b: Builder, x: Tensor, axis: int, step: int) -> Tensor:
    """`x` moved on by `step` along `axis`, with ones where nothing comes from."""
    kept = [n - step * (i == axis) for i, n in enumerate(x.shape)]
    before = [step * (i == axis) for i in range(x.rank)]
    return b.pad(b.slice(x, [0] * x.rank, kept), before, [0] * x.rank, value=1)
