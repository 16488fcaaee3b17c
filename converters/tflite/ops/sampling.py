"""Pixels read at computed places: rows of a table of all pixels, gathered and weighed; and pixels made of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import product
from math import prod

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.kernels import computing_type
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.convolutions import convolve
from edgekit.converters.tflite.ops.windows import Window, windows_of
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_Tap = tuple[Tensor, Tensor | None]
"""Along one dimension of a picture: which pixel (int32) and its weight; None for 1."""


def _require(x: Tensor, *others: Tensor) -> None:
    if x.dtype != "float32":
        raise Unlowerable(f"pixels of {x.dtype}")
    if any(-1 in tensor.shape for tensor in (x, *others)):
        raise Unlowerable("a size only known when the model runs")


def _clipped(b: Builder, x: Tensor, low: float, high: float) -> Tensor:
    return b.binary("MINIMUM", b.binary("MAXIMUM", x, low), high)


def _gathered(
    b: Builder, table: Tensor, start: Tensor, taps: Sequence[Sequence[_Tap]], sizes: Sequence[int]
) -> list[Tensor]:
    """The rows of `table` for each choice of one tap a dimension, times their weights.

    Args:
        b: Where to.
        table: [rows, channels].
        start: For each sample the row of its picture's first pixel.
        taps: For each dimension of the picture what is read along it; all broadcast with `start`.
        sizes: Of the picture, and of what else tells rows apart that no tap does.
    """
    strides = [prod(sizes[i + 1 :]) for i in range(len(taps))]
    placed = [
        [(b.mul(at, stride) if stride > 1 else at, weight) for at, weight in along]
        for along, stride in zip(taps, strides, strict=True)
    ]
    found = []
    for choice in product(*placed):
        row = reduce(b.add, [at for at, _ in choice], start)
        weights = [weight for _, weight in choice if weight is not None]
        pixels = b.gather(table, row, 0)
        if weights:
            weight = reduce(b.mul, weights)
            pixels = b.mul(pixels, b.reshape(weight, [*weight.shape, 1]))
        found.append(pixels)
    return found


def _linear(b: Builder, at: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    """The two pixels around each place, still as real numbers, and their weights."""
    low = b.unary("FLOOR", at)
    share = b.sub(at, low)
    return [(low, b.sub(1.0, share)), (b.add(low, 1.0), share)]


def _nearest(b: Builder, at: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    return [(b.unary("ROUND", at), None)]


def _cubic(b: Builder, at: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    """The four pixels around each place with the weights of cubic convolution for a = -0.75, by Horner's rule."""
    low = b.unary("FLOOR", at)
    share = b.sub(at, low)
    a = -0.75
    found: list[tuple[Tensor, Tensor | None]] = []
    for offset in (-1, 0, 1, 2):
        x = b.add(share, 1.0) if offset < 0 else share if not offset else b.sub(float(offset), share)
        terms = (a + 2, -(a + 3), 0.0, 1.0) if offset in (0, 1) else (a, -5 * a, 8 * a, -4 * a)
        weight = b.mul(x, terms[0])
        for term in terms[1:]:
            weight = weight if not term else b.add(weight, term)
            weight = weight if term is terms[-1] else b.mul(weight, x)
        found.append((b.add(low, float(offset)), weight))
    return found


def _kept(
    b: Builder, taps: Sequence[tuple[Tensor, Tensor | None]], size: int, rule: str, is_aligned: bool = False
) -> list[_Tap]:
    """Taps that lie outside of the picture brought back into it, or without weight for ``zeros``."""
    found = []
    for at, weight in taps:
        place = _reflected(b, at, size, is_aligned) if rule == "reflection" else at
        place = _clipped(b, place, 0.0, float(size - 1))
        if rule == "zeros":
            inside = b.cast(b.binary("EQUAL", place, at), "float32")
            weight = inside if weight is None else b.mul(weight, inside)
        found.append((b.cast(place, "int32"), weight))
    return found


def _reflected(b: Builder, at: Tensor, size: int, is_aligned: bool) -> Tensor:
    """Mirrored at the outermost pixels' centers or edges as often as it takes: a triangle wave."""
    low, span = (0.0, size - 1.0) if is_aligned else (-0.5, float(size))
    if not span:
        return b.mul(at, 0.0)
    away = b.sub(at, low)
    turns = b.unary("FLOOR", b.mul(away, 0.5 / span))
    phase = b.sub(away, b.mul(turns, 2 * span))
    return b.sub(low + span, b.unary("ABS", b.sub(phase, span)))


_TAPS: dict[str, Callable[[Builder, Tensor], list[tuple[Tensor, Tensor | None]]]] = {
    "bilinear": _linear, "linear": _linear, "nearest": _nearest, "bicubic": _cubic, "cubic": _cubic,
}  # fmt: skip


@lowers("GridSample")
def grid_sample(b: Builder, node: Node) -> Tensor:
    """A tap may be brought back into the picture instead of its place: mirroring maps pixels to pixels."""
    x, grid = node.input(0), node.input(1)
    _require(x, grid)
    mode, rule = node.text("mode", "bilinear"), node.text("padding_mode", "zeros")
    is_aligned, sizes, rank = bool(node.integer("align_corners")), x.shape[2:], x.rank - 2
    if mode not in _TAPS or rule not in ("zeros", "border", "reflection"):
        raise Unlowerable(f"mode {mode}, padding_mode {rule}")
    if not 1 <= rank <= (2 if "cubic" in mode else 3):
        raise Unlowerable(f"mode {mode} in {rank} dimensions")
    extents = np.array(sizes[::-1], "float32")  # the grid has x first
    places = b.mul(b.add(grid, 1.0), b.const((extents - is_aligned) / 2))
    places = places if is_aligned else b.sub(places, 0.5)
    taps = [
        _kept(b, _TAPS[mode](b, _part(b, places, rank - 1 - i)), size, rule, is_aligned) for i, size in enumerate(sizes)
    ]
    start = _starts(b, x.shape[0], prod(sizes), grid.rank - 1)
    table = b.reshape(b.channels_last(x), [x.shape[0] * prod(sizes), x.shape[1]])
    return b.channels_first(reduce(b.add, _gathered(b, table, start, taps, sizes)))


def _part(b: Builder, x: Tensor, index: int) -> Tensor:
    """One entry of the last axis, which is dropped."""
    return b.reshape(b.slice(x, [0] * (x.rank - 1) + [index], [*x.shape[:-1], 1]), x.shape[:-1])


def _starts(b: Builder, count: int, step: int, rank: int) -> Tensor:
    """0, `step`, 2 `step`... along the first of `rank` axes."""
    return b.const((np.arange(count) * step).reshape(-1, *[1] * (rank - 1)), "int32")


@lowers("AffineGrid")
def affine_grid(b: Builder, node: Node) -> Tensor:
    theta, sizes = node.input(0), node.known(1, "the size").tolist()[2:]
    _require(theta)
    is_aligned = bool(node.integer("align_corners"))
    if is_aligned and 1 in sizes:
        raise Unlowerable("aligned corners of a single pixel")
    along = [np.linspace(-1, 1, n) if is_aligned else (2 * np.arange(n) + 1) / n - 1 for n in sizes]
    places = np.meshgrid(*along, indexing="ij")[::-1]
    base = np.stack([*map(np.ravel, places), np.ones(prod(sizes))], -1)[None]
    shape = [theta.shape[0], prod(sizes), len(sizes)]
    found = b.op("BATCH_MATMUL", [b.const(base, "float32"), theta], shape, adjX=False, adjY=True)
    return b.reshape(found, [theta.shape[0], *sizes, len(sizes)])


@lowers("RoiAlign")
def roi_align(b: Builder, node: Node) -> Tensor:
    x, rois, batches = node.input(0), node.input(1), node.input(2)
    _require(x, rois)
    ratio, mode = node.integer("sampling_ratio"), node.text("mode", "avg")
    usual = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    transform = node.text("coordinate_transformation_mode", usual)
    if ratio <= 0:
        raise Unlowerable("as many samples as the size of a region asks for")
    if mode not in ("avg", "max") or transform not in ("half_pixel", "output_half_pixel"):
        raise Unlowerable(f"mode {mode}, coordinate_transformation_mode {transform}")
    outs, sizes = [node.integer("output_height", 1), node.integer("output_width", 1)], x.shape[2:]
    edges = b.mul(rois, node.real("spatial_scale", 1.0))
    if transform == "half_pixel":
        edges = b.sub(edges, 0.5)
    count = rois.shape[0]
    taps = []
    for axis, (out, size) in enumerate(zip(outs, sizes, strict=True)):
        begin, end = (b.slice(edges, [0, column], [count, 1]) for column in (1 - axis, 3 - axis))
        extent = b.sub(end, begin)
        if transform == "output_half_pixel":
            extent = b.binary("MAXIMUM", extent, 1.0)
        shares = (np.arange(out * ratio) + 0.5) / (out * ratio)
        at = b.add(begin, b.mul(extent, b.const(shares[None], "float32")))
        taps.append(_samples(b, b.reshape(at, [count, -1, 1] if axis == 0 else [count, 1, -1]), size))
    start = b.reshape(b.mul(b.cast(batches, "int32"), prod(sizes)), [count, 1, 1])
    table = b.reshape(b.channels_last(x), [x.shape[0] * prod(sizes), x.shape[1]])
    parts = _gathered(b, table, start, taps, sizes)
    # The largest is that of weighted pixels, not of samples: so ONNX Runtime and the reference have it.
    whole = reduce(b.add, parts) if mode == "avg" else reduce(lambda y, z: b.binary("MAXIMUM", y, z), parts)
    found = b.op(
        "AVERAGE_POOL_2D" if mode == "avg" else "MAX_POOL_2D", [whole], [count, *outs, x.shape[1]], padding="VALID",
        strideH=ratio, strideW=ratio, filterHeight=ratio, filterWidth=ratio, fusedActivationFunction="NONE",
    )  # fmt: skip
    return b.channels_first(found)


def _samples(b: Builder, at: Tensor, size: int) -> list[_Tap]:
    """Samples less than a pixel outside take the picture's edge, those further away nothing."""
    inside = b.binary("LOGICAL_AND", b.binary("GREATER_EQUAL", at, -1.0), b.binary("LESS_EQUAL", at, float(size)))
    weight = b.cast(inside, "float32")
    taps = _kept(b, _linear(b, _clipped(b, at, 0.0, float(size - 1))), size, "border")
    return [(place, share if share is None else b.mul(share, weight)) for place, share in taps]


@lowers("DeformConv")
def deform_conv(b: Builder, node: Node) -> Tensor:
    """All that the kernel's taps see becomes channels, which a convolution of 1 x 1 weighs."""
    x, weight, offset = node.input(0), node.input(1), node.input(2)
    _require(x, offset)
    if x.rank != 4:
        raise Unlowerable(f"{x.rank - 2} spatial dimensions")
    windows = windows_of(node, x.shape[2:], weight.shape[2:])
    parts, groups, taps = node.integer("offset_group", 1), node.integer("group", 1), prod(weight.shape[2:])
    batch, channels, *sizes = x.shape
    outs = [window.count for window in windows]
    shifts = b.transpose(b.reshape(offset, [batch, parts, taps, 2, *outs]), [0, 4, 5, 2, 1, 3])
    seen = []
    for axis, at in enumerate(_regular(windows)):
        places = b.add(_part(b, shifts, axis), b.const(at, "float32"))
        seen.append(_kept(b, _linear(b, places), sizes[axis], "zeros"))
    if node.has(4):
        mask = b.transpose(b.reshape(node.input(4), [batch, parts, taps, *outs]), [0, 3, 4, 2, 1])
        seen[0] = [(place, share and b.mul(share, mask)) for place, share in seen[0]]
    start = b.const(np.arange(batch).reshape(-1, 1, 1, 1, 1) * prod(sizes) * parts + np.arange(parts), "int32")
    table = b.reshape(b.channels_last(x), [batch * prod(sizes) * parts, channels // parts])
    columns = reduce(b.add, _gathered(b, table, start, seen, [*sizes, parts]))
    return _weighed(b, columns, weight, node.input(3) if node.has(3) else None, groups, [batch, *outs, channels])


def _regular(windows: Sequence[Window]) -> list[np.ndarray]:
    """Where all taps of all windows stand unshifted, for each axis: [1, out height, out width, taps, 1]."""
    found = []
    for axis, window in enumerate(windows):
        starts = np.arange(window.count) * window.stride - window.before
        steps = np.indices([other.kernel for other in windows])[axis].ravel() * window.dilation
        found.append((starts.reshape(1, *[-1 if i == axis else 1 for i in range(2)], 1) + steps)[..., None])
    return found


def _weighed(
    b: Builder, columns: Tensor, weight: Tensor, bias: Tensor | None, groups: int, shape: Sequence[int]
) -> Tensor:
    batch, height, width, channels = shape
    taps, outs = prod(weight.shape[2:]), weight.shape[0]
    last = b.reshape(columns, [batch, height, width, taps, groups, channels // groups])
    if groups > 1:
        last = b.transpose(last, [0, 1, 2, 4, 3, 5])
    last = b.reshape(last, [batch, height, width, taps * channels])
    kernel = b.reshape(b.transpose(weight, [0, 2, 3, 1]), [outs, taps * channels // groups, 1, 1])
    added = bias if bias is not None else b.const(np.zeros(outs, "float32"))
    return b.channels_first(convolve(b, last, kernel, added, [Window(height, 1), Window(width, 1)], groups))


@lowers("DepthToSpace", "SpaceToDepth")
def depth_to_space(b: Builder, node: Node) -> Tensor:
    x, size = node.input(0), node.integer("blocksize")
    mode = node.text("mode", "DCR")
    if -1 in x.shape or mode not in ("DCR", "CRD"):
        raise Unlowerable(f"mode {mode}, or a size only known when the model runs")
    code = "DEPTH_TO_SPACE" if node.op == "DepthToSpace" else "SPACE_TO_DEPTH"
    batch, channels, height, width = x.shape
    if code == "DEPTH_TO_SPACE":
        channels, height, width = channels // size**2, height * size, width * size
    else:
        channels, height, width = channels * size**2, height // size, width // size
    if mode == "CRD" and channels > 1:
        blocks = b.reshape(b.channels_last(x), [batch, height // size, width // size, channels, size, size])
        apart = b.transpose(blocks, [0, 1, 4, 2, 5, 3])
        return b.channels_first(b.reshape(apart, [batch, height, width, channels]))
    last = b.cast(b.channels_last(x), computing_type(code, x.dtype))
    found = b.op(code, [last], [batch, height, width, channels], blockSize=size)
    return b.channels_first(b.cast(found, x.dtype))
