"""Activations; where TFLite has no operation of the name, a recipe that holds near 0 and far from it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_PLAIN = {"Relu": "RELU", "Sigmoid": "LOGISTIC", "Tanh": "TANH", "HardSwish": "HARD_SWISH"}
_FULL_EXP = 20.0
"""Beyond this ``log(1 + exp(x))`` is x in float32."""


@lowers(*_PLAIN)
def plain(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    if x.dtype.startswith(("int", "uint")):
        return b.binary("MAXIMUM", x, 0)  # only Relu takes integers
    return b.unary(_PLAIN[node.op], x)


# --- limits ----------------------------------------------------------------------------------------------------------

_RANGES = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1"}


@lowers("Clip")
def clip(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    low, high = _limit(b, node, 1), _limit(b, node, 2)
    known = (_number(low, -math.inf), _number(high, math.inf))
    if known in _RANGES and x.dtype == "float32":
        return b.unary(_RANGES[known], x)
    # The limits stand first: MAXIMUM and MINIMUM give the second of two numbers that have no order, so NaN stays NaN.
    if low is not None and known[0] != -math.inf:
        x = b.binary("MAXIMUM", low, x)
    return b.binary("MINIMUM", high, x) if high is not None and known[1] != math.inf else x


def _limit(b: Builder, node: Node, index: int) -> Tensor | None:
    """Of rank 0."""
    return b.reshape(node.input(index), ()) if node.has(index) else None


def _number(limit: Tensor | None, default: float) -> float:
    """`default` for one left out; NaN, which equals nothing, for one only known when the model runs."""
    if limit is None:
        return default
    return math.nan if limit.data is None else float(limit.data)


# --- bent lines ------------------------------------------------------------------------------------------------------


@lowers("LeakyRelu")
def leaky_relu(b: Builder, node: Node) -> Tensor:
    return _leaky(b, node.input(0), node.real("alpha", 0.01))


def _leaky(b: Builder, x: Tensor, alpha: float) -> Tensor:
    return b.op("LEAKY_RELU", [x], x.shape, alpha=alpha)


@lowers("PRelu")
def prelu(b: Builder, node: Node) -> Tensor:
    x, slope = node.input(0), node.input(1)
    if x.dtype != "float32" or x.rank > 4:
        return b.where(b.binary("LESS", x, 0), b.mul(x, slope), x)
    if slope.data is not None and slope.size == 1:
        return _leaky(b, x, float(slope.data.flat[0]))
    if x.rank > 2 and (1,) * (x.rank - slope.rank) + slope.shape == (1, x.shape[1], *[1] * (x.rank - 2)):
        last = b.channels_last(x)  # one slope a channel is what XNNPACK takes
        return b.channels_first(b.op("PRELU", [last, b.reshape(slope, [x.shape[1]])], last.shape))
    return b.op("PRELU", [x, slope], x.shape)


@lowers("ThresholdedRelu")
def thresholded_relu(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    return b.where(b.binary("GREATER", x, node.real("alpha", 1.0)), x, 0)


@lowers("Shrink")
def shrink(b: Builder, node: Node) -> Tensor:
    x, edge, bias = node.input(0), node.real("lambd", 0.5), node.real("bias", 0.0)
    real = b.cast(x, "float32")
    below = b.where(b.binary("LESS", real, -edge), b.add(real, bias), 0)
    return b.cast(b.where(b.binary("GREATER", real, edge), b.sub(real, bias), below), x.dtype)


@lowers("HardSigmoid")
def hard_sigmoid(b: Builder, node: Node) -> Tensor:
    x, slope, middle = node.input(0), node.real("alpha", 0.2), node.real("beta", 0.5)
    if math.isclose(slope * 6, 1, rel_tol=1e-6):  # as in HardSwish: one multiplication less
        return b.mul(b.unary("RELU6", b.add(x, middle * 6)), 1 / 6)
    return b.unary("RELU_0_TO_1", b.add(b.mul(x, slope), middle))


# --- exponential -----------------------------------------------------------------------------------------------------


def _bent(b: Builder, x: Tensor, positive: float, negative: float) -> Tensor:
    """``positive * x`` where x > 0, else ``negative * (exp(x) - 1)``; ELU is accurate where EXP less 1 is not."""
    left = b.mul(b.unary("ELU", b.binary("MINIMUM", x, 0)), negative)
    right = b.unary("RELU", x)
    return b.add(right if positive == 1 else b.mul(right, positive), left)


@lowers("Elu")
def elu(b: Builder, node: Node) -> Tensor:
    x, alpha = node.input(0), node.real("alpha", 1.0)
    return b.unary("ELU", x) if alpha == 1 else _bent(b, x, 1, alpha)


@lowers("Selu")
def selu(b: Builder, node: Node) -> Tensor:
    gamma, alpha = node.real("gamma", 1.05070102214813232421875), node.real("alpha", 1.67326319217681884765625)
    return _bent(b, node.input(0), gamma, gamma * alpha)


@lowers("Celu")
def celu(b: Builder, node: Node) -> Tensor:
    x, alpha = node.input(0), node.real("alpha", 1.0)
    if alpha <= 0:
        raise Unlowerable(f"alpha of {alpha}")
    return b.unary("ELU", x) if alpha == 1 else b.mul(b.unary("ELU", b.div(x, alpha)), alpha)


@lowers("Gelu")
def gelu(b: Builder, node: Node) -> Tensor:
    kind = node.text("approximate", "none")
    if kind not in ("none", "tanh"):
        raise Unlowerable(f"approximate={kind}")
    x = node.input(0)
    return b.op("GELU", [x], x.shape, approximate=kind == "tanh")


@lowers("Swish")
def swish(b: Builder, node: Node) -> Tensor:
    x, alpha = node.input(0), node.real("alpha", 1.0)
    return b.mul(x, b.unary("LOGISTIC", x if alpha == 1 else b.mul(x, alpha)))


@lowers("Softplus")
def softplus(b: Builder, node: Node) -> Tensor:
    """``max(x, 0) + log(1 + exp(-|x|))``, in which nothing overflows."""
    x = node.input(0)
    tail = b.unary("LOG", b.add(b.unary("EXP", b.unary("NEG", b.unary("ABS", x))), 1))
    return b.add(b.unary("RELU", x), tail)


@lowers("Softsign")
def softsign(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    return b.div(x, b.add(b.unary("ABS", x), 1))


@lowers("Mish")
def mish(b: Builder, node: Node) -> Tensor:
    """``x tanh(log(1 + e))`` with e = exp(x) is ``x n / (n + 2)`` with n = e (e + 2)."""
    x = node.input(0)
    e = b.unary("EXP", b.binary("MINIMUM", x, _FULL_EXP))
    n = b.mul(e, b.add(e, 2))
    return b.mul(x, b.div(n, b.add(n, 2)))


# --- along an axis ---------------------------------------------------------------------------------------------------


def _along(b: Builder, node: Node, act: Callable[[Tensor], Tensor]) -> Tensor:
    """`act`, which works along the last axis, along the node's."""
    x, axis = node.input(0), node.integer("axis", -1)
    if x.rank == 0:
        raise Unlowerable("no axis to work along")
    if axis % x.rank == x.rank - 1:
        return act(x)
    order = [i for i in range(x.rank) if i != axis % x.rank] + [axis % x.rank]
    return b.transpose(act(b.transpose(x, order)), np.argsort(order).tolist())


@lowers("Softmax")
def softmax(b: Builder, node: Node) -> Tensor:
    return _along(b, node, lambda x: b.op("SOFTMAX", [x], x.shape, beta=1.0))


@lowers("LogSoftmax")
def log_softmax(b: Builder, node: Node) -> Tensor:
    return _along(b, node, lambda x: b.unary("LOG_SOFTMAX", x))


@lowers("Hardmax")
def hardmax(b: Builder, node: Node) -> Tensor:
    def act(x: Tensor) -> Tensor:
        if x.shape[-1] < 0:
            raise Unlowerable("an axis of unknown size")
        first = b.op("ARG_MAX", [x, b.ints([x.rank - 1])], x.shape[:-1], "int32", outputType="int32")
        values = [b.const(np.asarray(value, x.dtype)) for value in (1, 0)]
        return b.op("ONE_HOT", [first, b.const(np.asarray(x.shape[-1], "int32")), *values], x.shape, x.dtype, axis=-1)

    return _along(b, node, act)
