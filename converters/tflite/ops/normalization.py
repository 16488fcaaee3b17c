"""Normalizations: deviations from a mean times the inverse of their size, in as few passes as there can be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_TINY = float(np.finfo("float32").tiny)


def _require_float(x: Tensor) -> None:
    if x.dtype != "float32":
        raise Unlowerable(f"a normalization of {x.dtype}")


def _inverse_root(b: Builder, x: Tensor, epsilon: float) -> Tensor:
    return b.unary("RSQRT", b.add(x, epsilon))


def _scaled(b: Builder, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    found = x if scale is None else b.mul(x, scale)
    return found if shift is None else b.add(found, shift)


@lowers("BatchNormalization")
def batch_normalization(b: Builder, node: Node) -> Sequence[Tensor | None]:
    x = node.input(0)
    _require_float(x)
    if node.integer("training_mode") or any(output is not None for output in node.outputs[1:]):
        raise Unlowerable("training")
    scale, shift, mean, variance = (node.input(index) for index in range(1, 5))
    epsilon = node.real("epsilon", 1e-5)
    shape = [-1, *[1] * (x.rank - 2)] if x.rank > 1 else [-1]
    if any(tensor.data is None for tensor in (scale, shift, mean, variance)):
        factor = b.mul(scale, _inverse_root(b, variance, epsilon))
        addend = b.sub(shift, b.mul(mean, factor))
    else:
        gain, offset, center, spread = (np.asarray(tensor.data, "float64") for tensor in (scale, shift, mean, variance))
        gain = gain / np.sqrt(spread + epsilon)
        factor, addend = b.const(gain, "float32"), b.const(offset - center * gain, "float32")
    found = _scaled(b, x, b.reshape(factor, shape), b.reshape(addend, shape))
    return [found, *[None] * (len(node.outputs) - 1)]


@lowers("InstanceNormalization")
def instance_normalization(b: Builder, node: Node) -> Tensor:
    x, scale, shift = node.input(0), node.input(1), node.input(2)
    _require_float(x)
    last, axes = b.channels_last(x), range(1, x.rank - 1)
    deviation = b.sub(last, b.mean(last, axes))
    inverse = _inverse_root(b, b.mean(b.unary("SQUARE", deviation), axes), node.real("epsilon", 1e-5))
    return b.channels_first(b.add(b.mul(deviation, b.mul(inverse, scale)), shift))


@lowers("GroupNormalization")
def group_normalization(b: Builder, node: Node) -> Tensor:
    """As one of every channel, but for the few numbers there are of each group, which all its channels share."""
    x, scale, shift = node.input(0), node.input(1), node.input(2)
    _require_float(x)
    groups, channels = node.integer("num_groups"), x.shape[1]
    if scale.shape[0] != channels:  # before opset 21 there is one for each group
        scale, shift = (_repeated(b, tensor, groups, channels) for tensor in (scale, shift))
    last, axes = b.channels_last(x), range(1, x.rank - 1)
    deviation = b.sub(last, _over_groups(b, b.mean(last, axes), groups))
    spread = _over_groups(b, b.mean(b.unary("SQUARE", deviation), axes), groups)
    inverse = _inverse_root(b, spread, node.real("epsilon", 1e-5))
    return b.channels_first(b.add(b.mul(deviation, b.mul(inverse, scale)), shift))


def _repeated(b: Builder, x: Tensor, groups: int, channels: int) -> Tensor:
    """One number for each group as one for each channel."""
    if x.data is not None:
        return b.const(x.data.repeat(channels // groups))
    spread = b.broadcast_to(b.reshape(x, [groups, 1]), [groups, channels // groups])
    return b.reshape(spread, [channels])


def _over_groups(b: Builder, x: Tensor, groups: int) -> Tensor:
    """The mean of each group of channels of a tensor N, 1..., C, for each of its channels."""
    channels = x.shape[-1]
    if groups == channels:
        return x
    mean = b.mean(b.reshape(x, [x.shape[0], groups, channels // groups]), [2])
    spread = b.broadcast_to(mean, [x.shape[0], groups, channels // groups])
    return b.reshape(spread, x.shape)


@lowers("LayerNormalization")
def layer_normalization(b: Builder, node: Node) -> Sequence[Tensor | None]:
    x, scale = node.input(0), node.input(1)
    _require_float(x)
    axes = range(node.integer("axis", -1) % x.rank, x.rank)
    mean = b.mean(x, axes)
    deviation = b.sub(x, mean)
    inverse = _inverse_root(b, b.mean(b.unary("SQUARE", deviation), axes), node.real("epsilon", 1e-5))
    found = _scaled(b, b.mul(deviation, inverse), scale, node.input(2) if node.has(2) else None)
    return [found, mean, inverse][: len(node.outputs)]


@lowers("RMSNormalization")
def rms_normalization(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    _require_float(x)
    axes = range(node.integer("axis", -1) % x.rank, x.rank)
    inverse = _inverse_root(b, b.mean(b.unary("SQUARE", x), axes), node.real("epsilon", 1e-5))
    return b.mul(b.mul(x, inverse), node.input(1))


@lowers("MeanVarianceNormalization")
def mean_variance_normalization(b: Builder, node: Node) -> Tensor:
    x, axes = node.input(0), node.integers("axes", [0, 2, 3])
    _require_float(x)
    deviation = b.sub(x, b.mean(x, axes))
    size = b.unary("SQRT", b.mean(b.unary("SQUARE", deviation), axes))
    return b.div(deviation, b.add(size, 1e-9))


@lowers("LpNormalization")
def lp_normalization(b: Builder, node: Node) -> Tensor:
    """L2_NORMALIZATION takes norms below 1e-6 for 1e-6, and is no faster than this; nothing but zeros stays zeros."""
    x, axis, power = node.input(0), node.integer("axis", -1), node.integer("p", 2)
    _require_float(x)
    if power == 1:
        total = b.reduce("SUM", b.unary("ABS", x), [axis], keep=True)
        return b.div(x, b.binary("MAXIMUM", total, _TINY))
    if power != 2:
        raise Unlowerable(f"p = {power}")
    total = b.reduce("SUM", b.unary("SQUARE", x), [axis], keep=True)
    return b.mul(x, b.unary("RSQRT", b.binary("MAXIMUM", total, _TINY)))


@lowers("LRN")
def lrn(b: Builder, node: Node) -> Tensor:
    """The sum over neighbors is a matrix product, several times faster than LOCAL_RESPONSE_NORMALIZATION."""
    x, size = node.input(0), node.integer("size")
    _require_float(x)
    channels = x.shape[1]
    if channels < 0:
        raise Unlowerable("a number of channels only known when the model runs")
    away = np.arange(channels) - np.arange(channels)[:, None]
    near = (away >= -((size - 1) // 2)) & (away <= size // 2)
    weights = b.const(near * (node.real("alpha", 1e-4) / size), "float32")
    bias = b.const(np.full(channels, node.real("bias", 1.0)), "float32")
    last = b.channels_last(x)
    base = b.op(
        "FULLY_CONNECTED", [b.unary("SQUARE", last), weights, bias], last.shape, keepNumDims=True,
        weightsFormat="DEFAULT", fusedActivationFunction="NONE",
    )  # fmt: skip
    return b.channels_first(_over_power(b, last, base, node.real("beta", 0.75)))


def _over_power(b: Builder, x: Tensor, base: Tensor, power: float) -> Tensor:
    if power == 0.75:
        root = b.unary("RSQRT", base)
        return b.mul(b.mul(x, root), b.unary("SQRT", root))
    if power == 0.5:
        return b.mul(x, b.unary("RSQRT", base))
    return b.div(x, base if power == 1 else b.binary("POW", base, power))
