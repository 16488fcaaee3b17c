"""Pools: over pictures by TFLite's own operations, over more dimensions as one pool after another."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Protocol

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.windows import Window, by_planes, padding, picture, surrounded, unpicture, windows_of
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_POOLED = {"float32", "int8", "uint8"}
"""What TFLite's pools compute in, of integers only the largest."""


class _Pool(Protocol):
    """One pool over N, H, W, C."""

    def __call__(self, b: Builder, x: Tensor, windows: Sequence[Window]) -> Tensor: ...


def _windows(node: Node) -> list[Window]:
    x, kernel = node.input(0), node.integers("kernel_shape")
    if not 3 <= x.rank <= 5 or len(kernel) != x.rank - 2:
        raise Unlowerable(f"{x.rank - 2} spatial dimensions")
    return windows_of(node, x.shape[2:], kernel)


def _stages(b: Builder, x: Tensor, windows: Sequence[Window], pool: _Pool) -> Tensor:
    """Pools a tensor N, C, sizes...: 3-D as its planes first and then along the depth, which is the same."""
    if x.rank == 5:
        return by_planes(
            b,
            x,
            lambda last: pool(b, last, windows[1:]),
            lambda last: pool(b, last, [windows[0], Window(last.shape[2], 1)]),
        )
    return unpicture(b, pool(b, picture(b, x), [Window(1, 1), *windows] if x.rank == 3 else windows), x.rank)


def _largest(b: Builder, x: Tensor, windows: Sequence[Window]) -> Tensor:
    if any(window.dilation > 1 for window in windows):
        for axis, window in enumerate(windows, 1):
            x = _largest_dilated(b, x, window, axis)
        return x
    return _op(b, "MAX_POOL_2D", *padding(b, x, windows, _lowest(x.dtype)), windows)


def _op(b: Builder, code: str, x: Tensor, name: str, windows: Sequence[Window]) -> Tensor:
    height, width = windows
    options: dict[str, Any] = {
        "filterHeight": height.kernel, "filterWidth": width.kernel, "strideH": height.stride, "strideW": width.stride,
    }  # fmt: skip
    shape = [x.shape[0], height.count, width.count, x.shape[3]]
    return b.op(code, [x], shape, padding=name, fusedActivationFunction="NONE", **options)


def _lowest(dtype: str) -> float:
    return -np.inf if dtype == "float32" else float(np.iinfo(dtype).min)


def _taps(b: Builder, x: Tensor, window: Window, axis: int) -> list[Tensor]:
    """For each tap what it sees in all windows along `axis` of a tensor that is as long as the windows need it."""
    found = []
    for tap in range(window.kernel):
        begin = [0] * x.rank
        begin[axis] = tap * window.dilation
        end = [*x.shape]
        end[axis] = begin[axis] + (window.count - 1) * window.stride + 1
        steps = [1] * x.rank
        steps[axis] = window.stride
        shape = [*x.shape]
        shape[axis] = window.count
        if window.stride == 1:
            found.append(b.slice(x, begin, shape))
            continue
        masks: dict[str, Any] = dict.fromkeys(
            ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0
        )
        found.append(b.op("STRIDED_SLICE", [x, b.ints(begin), b.ints(end), b.ints(steps)], shape, **masks))
    return found


def _largest_dilated(b: Builder, x: Tensor, window: Window, axis: int) -> Tensor:
    """TFLite's pool knows no dilation: the largest of what each tap sees."""
    if window.size < 0:
        raise Unlowerable("a size only known when the model runs")
    first, *rest = _taps(b, surrounded(b, x, [window], _lowest(x.dtype), axis), window, axis)
    for other in rest:
        first = b.binary("MAXIMUM", first, other)
    return first


@lowers("MaxPool")
def max_pool(b: Builder, node: Node) -> Sequence[Tensor | None]:
    x, windows = node.input(0), _windows(node)
    if x.dtype not in _POOLED:
        raise Unlowerable(f"a pool of {x.dtype}")
    if len(node.outputs) > 1 and node.outputs[1] is not None:
        return _with_places(b, x, windows, node.integer("storage_order"))
    return [_stages(b, x, windows, _largest), None][: len(node.outputs)]


def _with_places(b: Builder, x: Tensor, windows: Sequence[Window], order: int) -> list[Tensor]:
    """The largest and where it stood: places travel with the values, along one axis after another, the last first.

    Of equal values the first in the picture's order wins, as in ONNX Runtime, since a later one has to be larger.
    """
    if -1 in x.shape:
        raise Unlowerable("a size only known when the model runs")
    values, sizes = x, list(x.shape[2:])
    if order:
        numbers = np.arange(prod(sizes)).reshape(sizes[::-1]).transpose()
    else:
        numbers = np.arange(prod(sizes)).reshape(sizes)
    places = b.const(numbers[None, None], "int32")
    for axis in range(x.rank - 1, 1, -1):
        window = windows[axis - 2]
        values = surrounded(b, values, [window], _lowest(x.dtype), axis)
        seen = _taps(b, values, window, axis)
        stood = _taps(b, surrounded(b, places, [window], 0, axis), window, axis)
        values, places = seen[0], stood[0]
        for value, place in zip(seen[1:], stood[1:], strict=True):
            is_larger = b.binary("GREATER", value, values)
            values, places = b.where(is_larger, value, values), b.where(is_larger, place, places)
    starts = np.arange(x.shape[0] * x.shape[1], dtype="int32") * prod(sizes)
    found = b.add(places, b.const(starts.reshape(*x.shape[:2], *[1] * len(sizes))))
    return [values, b.cast(found, "int64")]


@lowers("AveragePool")
def average_pool(b: Builder, node: Node) -> Tensor:
    x, windows = node.input(0), _windows(node)
    counts_pads = bool(node.integer("count_include_pad"))
    plain = all(window.dilation == 1 for window in windows)
    if plain and not counts_pads and x.rank < 5 and all(window.is_same for window in windows):
        return _stages(b, x, windows, _average)
    found = _stages(b, x, windows, _average_with_pads)
    return _per_window(b, found, [_shares(window, counts_pads) for window in windows])


def _average(b: Builder, x: Tensor, windows: Sequence[Window]) -> Tensor:
    """TFLite's own does not count what SAME adds."""
    name = "VALID" if all(window.is_valid for window in windows) else "SAME"
    return _op(b, "AVERAGE_POOL_2D", x, name, windows)


def _average_with_pads(b: Builder, x: Tensor, windows: Sequence[Window]) -> Tensor:
    """Whatever lies around counts as 0."""
    if any(window.dilation > 1 for window in windows):
        return _weighted(b, x, windows, 1 / prod(window.kernel for window in windows))
    return _op(b, "AVERAGE_POOL_2D", surrounded(b, x, windows), "VALID", windows)


def _weighted(b: Builder, x: Tensor, windows: Sequence[Window], weight: float) -> Tensor:
    """The sum of each window times `weight`, as a depthwise convolution."""
    last, name = padding(b, x, windows)
    height, width = windows
    channels = x.shape[3]
    shape = [x.shape[0], height.count, width.count, channels]
    kernel = b.const(np.full((1, height.kernel, width.kernel, channels), weight, "float32"))
    inputs = [last, kernel, b.const(np.zeros(channels, "float32"))]
    return b.op(
        "DEPTHWISE_CONV_2D", inputs, shape, padding=name, strideH=height.stride, strideW=width.stride,
        dilationHFactor=height.dilation, dilationWFactor=width.dilation, depthMultiplier=1,
        fusedActivationFunction="NONE",
    )  # fmt: skip


def _shares(window: Window, counts_pads: bool) -> np.ndarray | None:
    """By what the mean over all taps of each window is too small; None where by nothing."""
    if window.is_valid or (counts_pads and not window.is_ceil):
        return None
    if window.size < 0:
        raise Unlowerable("a size only known when the model runs")
    pads = (window.before, window.after) if counts_pads else (0, 0)
    counted = window.taps(-pads[0], window.size + pads[1])
    return None if (counted == window.kernel).all() else window.kernel / np.maximum(counted, 1)


def _per_window(b: Builder, x: Tensor, shares: Sequence[np.ndarray | None]) -> Tensor:
    """`x` times a factor for each window: the product of one for each dimension."""
    factors = np.ones([1] * x.rank)
    for axis, share in enumerate(shares, 2):
        if share is not None:
            factors = factors * share.reshape([-1 if i == axis else 1 for i in range(x.rank)])
    return x if factors.size == 1 and factors.item() == 1 else b.mul(x, b.const(factors, "float32"))


@lowers("LpPool")
def lp_pool(b: Builder, node: Node) -> Tensor:
    x, windows, power = node.input(0), _windows(node), node.integer("p", 2)

    def total(b: Builder, x: Tensor, windows: Sequence[Window]) -> Tensor:
        return _weighted(b, x, windows, 1)

    return _rooted(b, _stages(b, _powered(b, x, power), windows, total), power)


def _powered(b: Builder, x: Tensor, power: int) -> Tensor:
    if power == 2:
        return b.unary("SQUARE", x)
    size = b.unary("ABS", x)
    return size if power == 1 else b.binary("POW", size, float(power))


def _rooted(b: Builder, x: Tensor, power: int) -> Tensor:
    if power == 2:
        return b.unary("SQRT", x)
    return x if power == 1 else b.binary("POW", x, 1 / power)


@lowers("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    last, axes = b.channels_last(x), range(1, x.rank - 1)
    if node.op == "GlobalLpPool":
        power = node.integer("p", 2)
        found = _rooted(b, b.reduce("SUM", _powered(b, last, power), axes, keep=True), power)
    else:
        found = b.reduce("MEAN" if node.op == "GlobalAveragePool" else "REDUCE_MAX", last, axes, keep=True)
    return b.channels_first(found)


@lowers("MaxUnpool")
def max_unpool(b: Builder, node: Node) -> Tensor:
    """Values go where MaxPool found them; places found by several windows hold one value several times over."""
    x, kernel = node.input(0), node.integers("kernel_shape")
    if -1 in x.shape:
        raise Unlowerable("a size only known when the model runs")
    rank = len(kernel)
    strides, pads = node.integers("strides", [1] * rank), node.integers("pads", [0] * 2 * rank)
    sizes = [
        (n - 1) * s + k - pads[i] - pads[i + rank]
        for i, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel, strict=True))
    ]
    shape = [*x.shape[:2], *sizes]
    places = b.reshape(b.cast(node.input(1), "int32"), [x.size, 1])
    found = _scatter(b, places, b.reshape(x, [x.size]), prod(shape))
    if any(k > s for k, s in zip(kernel, strides, strict=True)):
        times = _scatter(b, places, b.const(np.ones(x.size, "float32")), prod(shape))
        found = b.div(found, b.binary("MAXIMUM", times, 1.0))
    found = b.reshape(found, shape)
    after = [n - m for n, m in zip(node.known(2, "the size").tolist(), shape, strict=True)] if node.has(2) else [0]
    if min(after) < 0:
        raise Unlowerable("an output smaller than its windows")
    return b.pad(found, [0] * x.rank, after) if any(after) else found


def _scatter(b: Builder, places: Tensor, values: Tensor, count: int) -> Tensor:
    return b.op("SCATTER_ND", [places, values, b.ints([count])], [count], values.dtype)
