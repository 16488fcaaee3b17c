"""Convolutions: channels go last, and zeros around the picture become SAME where that is what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.converters.tflite import integers
from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.windows import Window, padding, picture, unpicture, windows_of
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__ = ["convolve", "split"]

_SPLIT_GROUPS = 16
"""A transposed convolution of no more groups is fastest as one for each, unless every channel is a group."""


@lowers("Conv")
def conv(b: Builder, node: Node) -> Tensor:
    x, weight = node.input(0), node.input(1)
    _require_float(x)
    windows = windows_of(node, x.shape[2:], weight.shape[2:])
    if x.rank == 3:
        weight, windows = _flat(b, weight), [Window(1, 1), *windows]
    bias = node.input(2) if node.has(2) else _zeros(b, weight.shape[0])
    return unpicture(b, convolve(b, picture(b, x), weight, bias, windows, node.integer("group", 1)), x.rank)


def _require_float(x: Tensor) -> None:
    if x.dtype != "float32":
        raise Unlowerable(f"a convolution of {x.dtype}")
    if not 3 <= x.rank <= 5:
        raise Unlowerable(f"{x.rank - 2} spatial dimensions")


def _flat(b: Builder, weight: Tensor) -> Tensor:
    return b.reshape(weight, [*weight.shape[:2], 1, weight.shape[2]])


def _zeros(b: Builder, count: int) -> Tensor:
    return b.const(np.zeros(count, "float32"))


def convolve(b: Builder, x: Tensor, weight: Tensor, bias: Tensor, windows: Sequence[Window], groups: int = 1) -> Tensor:
    """Convolves N, H, W, C or N, D, H, W, C by a weight in ONNX's order: out, in / groups, sizes."""
    last, name = padding(b, x, windows)
    shape = [x.shape[0], *(window.count for window in windows), weight.shape[0]]
    options = dict(_options(windows), padding=name)
    if x.rank == 5:
        return _convolve_3d(b, last, weight, bias, shape, options, groups)
    if groups == x.shape[-1] and groups > 1:
        options["depthMultiplier"] = weight.shape[0] // groups
        return b.op("DEPTHWISE_CONV_2D", [last, b.transpose(weight, [1, 2, 3, 0]), bias], shape, **options)
    return b.op("CONV_2D", [last, b.transpose(weight, [0, 2, 3, 1]), bias], shape, **options)


def _convolve_3d(
    b: Builder, x: Tensor, weight: Tensor, bias: Tensor, shape: list[int], options: dict[str, Any], groups: int
) -> Tensor:
    """CONV_3D knows no groups."""
    parts = zip(split(b, x, groups, 4), split(b, weight, groups, 0), split(b, bias, groups, 0), strict=True)
    shape = [*shape[:-1], shape[-1] // groups]
    return b.concat(
        [b.op("CONV_3D", [one, b.transpose(w, [2, 3, 4, 1, 0]), add], shape, **options) for one, w, add in parts], -1
    )


def _options(windows: Sequence[Window]) -> dict[str, Any]:
    named = list(zip("DHW"[-len(windows) :], windows, strict=True))
    return {
        **{f"stride{letter}": window.stride for letter, window in named},
        **{f"dilation{letter}Factor": window.dilation for letter, window in named},
        "fusedActivationFunction": "NONE",
    }


def split(b: Builder, x: Tensor, parts: int, axis: int) -> list[Tensor]:
    """Equal parts along `axis`; of a constant, constants."""
    if parts == 1:
        return [x]
    if x.data is not None:
        return [b.const(part) for part in np.split(x.data, parts, axis)]
    shape = [*x.shape[:axis], x.shape[axis] // parts, *x.shape[axis + 1 :]]
    if x in b.stored:
        starts = [[i * shape[axis] if at == axis else 0 for at in range(x.rank)] for i in range(parts)]
        return [b.slice(x, start, shape) for start in starts]
    where = b.const(np.asarray(axis, "int32"))
    return b.ops("SPLIT", [where, x], [(shape, x.dtype)] * parts, numSplits=parts)


@lowers("ConvTranspose")
def conv_transpose(b: Builder, node: Node) -> Tensor:
    x, weight = node.input(0), node.input(1)
    _require_float(x)
    sizes = x.shape[2:]
    if min(sizes) < 0:
        raise Unlowerable("a size only known when the model runs")
    strides, dilations = node.integers("strides", [1] * len(sizes)), node.integers("dilations", [1] * len(sizes))
    before, given = _transposed_sizes(node, sizes, weight.shape[2:], strides, dilations)
    groups = node.integer("group", 1)
    if x.rank == 3:
        weight, strides, dilations = _flat(b, weight), [1, *strides], [1, *dilations]
        before, given = [0, *before], [1, *given]
    bias = node.input(2) if node.has(2) else _zeros(b, weight.shape[1] * groups)
    last, form = picture(b, x), (strides, dilations, before, given)
    is_many = groups > _SPLIT_GROUPS or 2 < groups == x.shape[1]
    if is_many and last.rank == 4 and (weight.data is not None or weight in b.stored):
        return unpicture(b, _spread(b, last, weight, bias, form, groups), x.rank)
    pieces = zip(
        split(b, last, groups, last.rank - 1), split(b, weight, groups, 0), split(b, bias, groups, 0), strict=True
    )
    return unpicture(b, b.concat([_transposed(b, one, w, add, form) for one, w, add in pieces], -1), x.rank)


def _transposed_sizes(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """How many places of the whole result are dropped in front, and how many then make the output."""
    rank, mode = len(sizes), node.text("auto_pad", "NOTSET")
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Unlowerable(f"auto_pad {mode}")
    extra = node.integers("output_padding", [0] * rank)
    pads = node.integers("pads", [0] * 2 * rank) if mode == "NOTSET" else [0] * 2 * rank
    full = [
        s * (n - 1) + (k - 1) * d + 1 + e
        for s, n, k, d, e in zip(strides, sizes, kernel, dilations, extra, strict=True)
    ]
    wanted = node.integers("output_shape")[-rank:]
    if not wanted and mode.startswith("SAME"):
        wanted = [n * s for n, s in zip(sizes, strides, strict=True)]
    if not wanted:
        return pads[:rank], [f - pads[i] - pads[i + rank] for i, f in enumerate(full)]
    totals = [max(f - w, 0) for f, w in zip(full, wanted, strict=True)]
    return [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals], wanted


_Form = tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int]]
"""Of a transposed convolution, for each dimension: stride, dilation, places dropped in front, size of the output."""


def _transposed(b: Builder, x: Tensor, weight: Tensor, bias: Tensor, form: _Form) -> Tensor:
    """TFLite's operation with SAME where that drops the same places; else the output is cut out of all it gives."""
    strides, dilations, before, given = form
    if min(before) < 0 or min(given) < 1:
        raise Unlowerable("negative pads, or nothing left")
    sizes = x.shape[1:-1]
    extents = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    full = [(n - 1) * s + e for n, s, e in zip(sizes, strides, extents, strict=True)]
    if all(
        -(-g // s) == n and p == max(f - g, 0) // 2
        for n, s, p, g, f in zip(sizes, strides, before, given, full, strict=True)
    ):
        return _transpose_op(b, x, _stretched(b, weight, extents, extents), bias, strides, given, "SAME")
    # A result may be less than a stride longer than the kernel reaches; for more the kernel gets zeros behind it.
    missing = [max(p + g - f, 0) for p, g, f in zip(before, given, full, strict=True)]
    longer = [e if m < s else e + m for e, m, s in zip(extents, missing, strides, strict=True)]
    whole = [f + m for f, m in zip(full, missing, strict=True)]
    found = _transpose_op(b, x, _stretched(b, weight, extents, longer), bias, strides, whole, "VALID")
    return b.slice(found, [0, *before, 0], [x.shape[0], *given, found.shape[-1]])


def _transpose_op(
    b: Builder, x: Tensor, weight: Tensor, bias: Tensor, strides: Sequence[int], sizes: Sequence[int], name: str
) -> Tensor:
    shape = [x.shape[0], *sizes, weight.shape[1]]
    if x.shape[0] < 0:
        raise Unlowerable("a batch only known when the model runs")
    options = _options([Window(1, 1, stride) for stride in strides])
    if x.rank == 5:
        inputs = [b.ints(shape), b.transpose(weight, [2, 3, 4, 1, 0]), x, bias]
        return b.op("CONV_3D_TRANSPOSE", inputs, shape, x.dtype, padding=name, **options)
    options = {key: value for key, value in options.items() if not key.startswith("dilation")}
    inputs = [b.ints(shape), b.transpose(weight, [1, 2, 3, 0]), x, bias]
    return b.op("TRANSPOSE_CONV", inputs, shape, x.dtype, padding=name, **options)


def _stretched(b: Builder, weight: Tensor, extents: Sequence[int], longer: Sequence[int]) -> Tensor:
    """The weight with its taps spread over `extents` and zeros up to `longer`: TFLite knows no dilation here."""
    kernel = weight.shape[2:]
    if list(longer) == list(kernel):
        return weight
    shape = [*weight.shape[:2], *longer]
    steps = [max((e - 1) // max(k - 1, 1), 1) for e, k in zip(extents, kernel, strict=True)]
    taps = [slice(0, e, step) for e, step in zip(extents, steps, strict=True)]
    where: tuple[slice, ...] = (slice(None), slice(None), *taps)
    if weight.data is not None:
        spread = np.zeros(shape, "float32")
        spread[where] = weight.data
        return b.const(spread)
    if weight in b.stored and (wider := integers.spread(b.stored[weight], shape, where)):
        return b.dequantize(wider)
    if list(extents) != list(kernel):
        raise Unlowerable("a dilated weight only known when the model runs")
    return b.pad(weight, [0] * weight.rank, [0, 0, *(n - e for n, e in zip(longer, extents, strict=True))])


def _spread(b: Builder, x: Tensor, weight: Tensor, bias: Tensor, form: _Form, groups: int) -> Tensor:
    """A convolution by the mirrored kernel over the picture with zeros put between its pixels."""
    strides, dilations, before, given = form
    (height, width), (down, right) = x.shape[1:3], strides
    apart = b.reshape(x, [x.shape[0], height, 1, width, 1, x.shape[3]])
    apart = b.pad(apart, [0] * 6, [0, 0, down - 1, 0, right - 1, 0])
    dense = b.reshape(apart, [x.shape[0], height * down, width * right, x.shape[3]])
    kernel = weight.shape[2:]
    first = [(k - 1) * d - p for k, d, p in zip(kernel, dilations, before, strict=True)]
    begin = [max(-n, 0) for n in first]
    sizes = [n - skip for n, skip in zip(dense.shape[1:3], begin, strict=True)]
    ends = [g + (k - 1) * d - max(n, 0) for g, k, d, n in zip(given, kernel, dilations, first, strict=True)]
    kept = [min(n, end) for n, end in zip(sizes, ends, strict=True)]
    dense = b.slice(dense, [0, *begin, 0], [x.shape[0], *kept, x.shape[3]])
    windows = [
        Window(n, k, 1, d, max(p, 0), end - n)
        for n, k, d, p, end in zip(kept, kernel, dilations, first, ends, strict=True)
    ]
    return convolve(b, dense, _mirrored(b, weight, groups), bias, windows, groups)


def _mirrored(b: Builder, weight: Tensor, groups: int) -> Tensor:
    """The weight of a transposed convolution as that of a convolution: taps the other way round, outputs first."""
    ins, outs, *kernel = weight.shape
    of_groups = [groups, ins // groups, outs, *kernel]
    shape = [groups * outs, ins // groups, *kernel]

    def turned(data: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(data[..., ::-1, ::-1].reshape(of_groups).swapaxes(1, 2).reshape(shape))

    if weight.data is not None:
        return b.const(turned(weight.data))
    stored = b.stored[weight]
    assert stored.data is not None
    if stored.quant is None or stored.quant.axis not in (None, 1):
        return b.const(turned(integers.numbers(stored)))
    quant = stored.quant
    if quant.axis == 1:
        quant = replace(quant, scale=quant.scale * groups, zero_point=quant.zero_point * groups, axis=0)
    return b.dequantize(replace(stored, shape=tuple(shape), data=turned(stored.data), quant=quant))


@lowers("Col2Im")
def col2im(b: Builder, node: Node) -> Tensor:
    """Every tap is a channel that a transposed convolution puts where it belongs: its kernel is 1 at that tap."""
    x = node.input(0)
    image, block = (node.known(i, what).tolist() for i, what in ((1, "the size"), (2, "the block")))
    rank, taps = len(image), int(np.prod(block))
    _require_float(x)
    strides, dilations = node.integers("strides", [1] * rank), node.integers("dilations", [1] * rank)
    pads = node.integers("pads", [0] * 2 * rank)
    windows = [
        Window(n, k, s, d, pads[i], pads[i + rank])
        for i, (n, k, s, d) in enumerate(zip(image, block, strides, dilations, strict=True))
    ]
    if rank > 3 or x.shape[0] < 0:
        raise Unlowerable("more than three dimensions, or a batch only known when the model runs")
    counts = [window.count for window in windows]
    channels = x.shape[1] // taps
    kernel = np.eye(taps, dtype="float32").reshape(taps, 1, *block)
    columns = b.reshape(x, [x.shape[0] * channels, taps, *counts])
    form = (strides, dilations, pads[:rank], image)
    if rank == 1:
        kernel, form = kernel[:, :, None], ([1, *strides], [1, *dilations], [0, pads[0]], [1, *image])
    found = _transposed(b, picture(b, columns), b.const(kernel), _zeros(b, 1), form)
    return b.reshape(unpicture(b, found, rank + 2), [x.shape[0], channels, *image])
