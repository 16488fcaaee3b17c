"""What cuts tensors up, puts them together and surrounds them: Slice, Split, Concat, Pad, CenterCropPad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.shapes import empty
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_FAR = 2**31 - 1
_PAD_RANK = 5
"""LiteRT's pads take no more dimensions."""
_RUNS = 16
"""Pieces of which an axis is put together; if there are more, its elements are picked one by one."""


@lowers("Concat")
def concat(b: Builder, node: Node) -> Tensor:
    if 0 in node.shape:
        return empty(b, node.shape, node.dtype)
    axis = node.integer("axis")
    parts = [node.input(i) for i in range(len(node.inputs))]
    return b.concat([part for part in parts if part.shape[axis % part.rank] != 0], axis)


@lowers("Split")
def split(b: Builder, node: Node) -> Sequence[Tensor | None]:
    x, count = node.input(0), len(node.outputs)
    axis = node.integer("axis") % x.rank
    total = x.shape[axis]
    if node.has(1):
        sizes = [int(size) for size in node.known(1, "where it is split")]
    elif total < 0:
        raise Unlowerable("the size of what is split is only known when the model runs")
    else:
        each = -(-total // count)  # the last is smaller where it does not divide
        sizes = [max(0, min(each, total - each * i)) for i in range(count)]
    shapes = [[*x.shape[:axis], size, *x.shape[axis + 1 :]] for size in sizes]
    if x.dtype == "bool" or 0 in x.shape or 0 in sizes:
        starts = np.cumsum([0, *sizes])
        return [_block(b, x, axis, int(start), size) for start, size in zip(starts, sizes, strict=False)]
    outputs = [(shape, x.dtype) for shape in shapes]
    where = b.const(axis, "int32")
    if len(set(sizes)) == 1:
        return b.ops("SPLIT", [where, x], outputs, quant=x.quant, numSplits=count)
    return b.ops("SPLIT_V", [x, b.ints(sizes), where], outputs, quant=x.quant, numSplits=count)


def _block(b: Builder, x: Tensor, axis: int, start: int, size: int) -> Tensor:
    """`size` of `x` along `axis` from `start` on; -1 takes the other dimensions whole, known or not."""
    shape = [*x.shape[:axis], size, *x.shape[axis + 1 :]]
    if 0 in shape and -1 not in shape:
        return empty(b, shape, x.dtype)
    return b.slice(x, [start if i == axis else 0 for i in range(x.rank)], shape)


@lowers("Slice")
def cut(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    starts, ends, steps = node.constant(1), node.constant(2), node.constant(4)
    if node.has(4) and steps is None:
        raise Unlowerable("the steps are only known when the model runs")
    if starts is not None and ends is not None:
        axes = _axes(node, x.rank, len(starts))
        by = [1] * len(axes) if steps is None else [int(step) for step in steps]
        return _cut(b, x, dict(zip(axes, zip(map(int, starts), map(int, ends), by, strict=True), strict=True)))
    return _cut_by_tensors(b, node, x, steps)


def _axes(node: Node, rank: int, count: int) -> list[int]:
    given = node.known(3, "which axes are cut") if node.has(3) else range(count)
    return [int(axis) % rank for axis in given]


def _cut(b: Builder, x: Tensor, cuts: dict[int, tuple[int, int, int]]) -> Tensor:
    """What is left of `x` after cutting, by axis from, to and in steps of, as Python counts them.

    Blocks by SLICE, then axes that are turned around, then one axis after the other what is picked in steps:
    STRIDED_SLICE, which looks up every element, takes up to twelve times as long.
    """
    unknown = {axis: cut for axis, cut in cuts.items() if x.shape[axis] < 0}
    picks = {axis: range(x.shape[axis])[slice(*cut)] for axis, cut in cuts.items() if axis not in unknown}
    shape = [len(picks[i]) if i in picks else n for i, n in enumerate(x.shape)]
    if 0 in shape and not unknown:
        return empty(b, shape, x.dtype)
    x = _cut_unknown(b, x, unknown) if unknown else x
    blocks = {axis: pick for axis, pick in picks.items() if abs(pick.step) == 1 or len(pick) <= 1}
    first = [min(blocks[i][0], blocks[i][-1]) if len(blocks.get(i, ())) else 0 for i in range(x.rank)]
    x = b.slice(x, first, [len(blocks[i]) if i in blocks else n for i, n in enumerate(x.shape)])
    turned = sorted(axis for axis, pick in blocks.items() if pick.step < 0 and len(pick) > 1)
    if turned:
        x = b.op("REVERSE_V2", [x, b.ints(turned)], x.shape, quant=x.quant)
    for axis in sorted(picks.keys() - blocks.keys()):
        x = b.gather(x, b.ints(picks[axis]), axis)
    return x


def _cut_unknown(b: Builder, x: Tensor, cuts: dict[int, tuple[int, int, int]]) -> Tensor:
    """The same along axes whose sizes are known when the model runs."""
    begin, end, strides, shape = [0] * x.rank, [n if n >= 0 else _FAR for n in x.shape], [1] * x.rank, list(x.shape)
    for axis, (start, stop, step) in cuts.items():
        begin[axis], end[axis], strides[axis] = max(-_FAR, min(start, _FAR)), max(-_FAR, min(stop, _FAR)), step
    whole = sum(1 << axis for axis in range(x.rank) if axis not in cuts)
    return _strided(b, x, [b.ints(begin), b.ints(end)], strides, shape, open_axes=whole)


def _strided(
    b: Builder, x: Tensor, limits: list[Tensor], strides: Sequence[int], shape: Sequence[int],
    *, open_axes: int,
) -> Tensor:  # fmt: skip
    """STRIDED_SLICE, which counts and clamps as Python does; the bits of `open_axes` are of axes that stay whole."""
    options: dict[str, Any] = {
        "beginMask": open_axes,
        "endMask": open_axes,
        "ellipsisMask": 0,
        "newAxisMask": 0,
        "shrinkAxisMask": 0,
    }
    return b.op("STRIDED_SLICE", [x, *limits, b.ints(strides)], shape, quant=x.quant, **options)


def _cut_by_tensors(b: Builder, node: Node, x: Tensor, steps: np.ndarray | None) -> Tensor:
    """A slice whose limits are known when the model runs; the axes that are not cut are open at both ends."""
    count = node.input(1).shape[0]
    if count < 0:
        raise Unlowerable("how many axes are cut is only known when the model runs")
    axes = _axes(node, x.rank, count)
    strides = [1] * x.rank
    for axis, step in zip(axes, [1] * count if steps is None else steps, strict=True):
        strides[axis] = int(step)
    limits = []
    for tensor in (node.input(1), node.input(2)):
        wide = b.cast(tensor, "int64")
        near = b.binary("MINIMUM", b.binary("MAXIMUM", wide, -_FAR), _FAR) if tensor.dtype == "int64" else wide
        vector = b.concat([b.cast(near, "int32"), b.ints([0])], 0)
        places = [axes.index(axis) if axis in axes else count for axis in range(x.rank)]
        limits.append(b.gather(vector, b.ints(places), 0))
    whole = sum(1 << axis for axis in range(x.rank) if axis not in axes)
    shape = [-1 if axis in axes else n for axis, n in enumerate(x.shape)]
    known = [n if n >= 0 else m for n, m in zip(node.shape, shape, strict=True)]
    return _strided(b, x, limits, strides, known, open_axes=whole)


# --- pads ------------------------------------------------------------------------------------------------------------


@lowers("Pad")
def pad(b: Builder, node: Node) -> Tensor:
    x, mode = node.input(0), node.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Unlowerable(f"mode {mode}")
    value = node.input(2) if node.has(2) and mode == "constant" else None
    if value is not None:
        value = b.reshape(value, ())
    if node.constant(1) is None:
        return _pad_by_tensor(b, node, x, mode, value)
    amounts = node.known(1, "how much is padded")
    axes = _axes_of_pad(node, x.rank)
    before, after = [0] * x.rank, [0] * x.rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = int(amounts[i]), int(amounts[i + len(axes)])
    if any(min(two) < 0 < max(two) for two in zip(before, after, strict=True)) and mode != "constant":
        raise Unlowerable(f"mode {mode} with negative pads")
    if any(n < 0 and min(two) < 0 for n, *two in zip(x.shape, before, after, strict=True)):
        raise Unlowerable("negative pads of a size only known when the model runs")
    cuts = {i: (max(0, -m), n + min(0, k), 1) for i, (n, m, k) in enumerate(zip(x.shape, before, after, strict=True))}
    x = _cut(b, x, {axis: cut for axis, cut in cuts.items() if min(before[axis], after[axis]) < 0})
    before, after = ([max(0, n) for n in side] for side in (before, after))
    if mode == "constant":
        return _pad_with(b, x, before, after, value)
    return _pad_by_own(b, x, before, after, mode)


def _axes_of_pad(node: Node, rank: int) -> list[int]:
    return [int(axis) % rank for axis in (node.known(3, "which axes are padded") if node.has(3) else range(rank))]


def _pad_with(b: Builder, x: Tensor, before: Sequence[int], after: Sequence[int], value: Tensor | None) -> Tensor:
    """`value` around `x`; dimensions next to one another that are not padded become one where there are too many."""
    if not any((*before, *after)):
        return x
    shape = [-1 if n < 0 else n + k + m for n, k, m in zip(x.shape, before, after, strict=True)]
    if 0 in x.shape:
        full = b.const(np.zeros((), x.dtype)) if value is None else value
        return b.op("FILL", [b.ints(shape), full], shape, x.dtype)
    groups: list[list[int]] = []
    for axis in range(x.rank):
        joins = bool(groups) and not any(before[i] or after[i] for i in (axis, *groups[-1]))
        if joins and x.rank > _PAD_RANK:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) > _PAD_RANK:
        raise Unlowerable(f"pads of {len(groups)} dimensions")
    if len(groups) < x.rank and x.size < 0:
        raise Unlowerable("pads of many dimensions, some only known when the model runs")
    is_narrowed = len(groups) < x.rank
    narrow = b.reshape(x, [int(np.prod([x.shape[i] for i in group])) for group in groups]) if is_narrowed else x
    amounts = np.array([[before[group[0]], after[group[0]]] for group in groups], "int32")
    padded = [-1 if n < 0 else n + int(pair.sum()) for n, pair in zip(narrow.shape, amounts, strict=True)]
    if value is None or (value.data is not None and not value.data.any()):
        found = b.op("PAD", [narrow, b.const(amounts)], padded, quant=x.quant)
    else:
        found = b.op("PADV2", [narrow, b.const(amounts), value], padded, quant=x.quant)
    return b.reshape(found, shape) if is_narrowed else found


def _pad_by_tensor(b: Builder, node: Node, x: Tensor, mode: str, value: Tensor | None) -> Tensor:
    """Constant pads only known when the model runs; LiteRT refuses to run with negative ones."""
    if mode != "constant" or x.rank > _PAD_RANK:
        raise Unlowerable(f"pads of mode {mode} and {x.rank} dimensions only known when the model runs")
    axes = _axes_of_pad(node, x.rank)
    pairs = b.transpose(b.reshape(b.cast(node.input(1), "int32"), [2, len(axes)]), [1, 0])
    if axes != list(range(x.rank)):
        rows = b.concat([pairs, b.const(np.zeros((1, 2), "int32"))], 0)
        pairs = b.gather(rows, b.ints([axes.index(i) if i in axes else len(axes) for i in range(x.rank)]), 0)
    if value is None:
        return b.op("PAD", [x, pairs], node.shape, quant=x.quant)
    return b.op("PADV2", [x, pairs, value], node.shape, quant=x.quant)


def _pad_by_own(b: Builder, x: Tensor, before: Sequence[int], after: Sequence[int], mode: str) -> Tensor:
    """Elements of `x` put around it, axis by axis; MIRROR_PAD, which looks up every element, is ten times as slow."""
    for axis in range(x.rank):
        sides = before[axis], after[axis]
        if not any(sides):
            continue
        size = x.shape[axis]
        if size < 1:
            raise Unlowerable(f"mode {mode} of an axis that is empty or of a size only known when the model runs")
        places = np.pad(np.arange(size), sides, mode=mode)  # type: ignore[call-overload]
        runs = [*_runs(places[: sides[0]]), (0, size, 1), *_runs(places[sides[0] + size :])]
        if len(runs) > _RUNS:
            x = b.gather(x, b.ints(places), axis)
        else:
            x = b.concat([_run(b, x, axis, *run) for run in runs], axis)
    return x


def _runs(places: np.ndarray) -> list[tuple[int, int, int]]:
    """Places as first place, how many, and the step from each to the next: -1, 0 or 1."""
    runs: list[tuple[int, int, int]] = []
    for place in map(int, places):
        if runs:
            first, count, step = runs[-1]
            onward = place - (first + (count - 1) * step)
            if abs(onward) <= 1 and (count == 1 or onward == step):
                runs[-1] = first, count + 1, onward
                continue
        runs.append((place, 1, 1))
    return runs


def _run(b: Builder, x: Tensor, axis: int, first: int, count: int, step: int) -> Tensor:
    if step > 0:
        return _cut(b, x, {axis: (first, first + count, 1)})
    if step < 0:  # counted from the end, as one before the first can be said only so
        return _cut(b, x, {axis: (first, first - count - x.shape[axis], -1)})
    one = _cut(b, x, {axis: (first, first + 1, 1)})
    return b.broadcast_to(one, [*x.shape[:axis], count, *x.shape[axis + 1 :]])


@lowers("CenterCropPad")
def center_crop_pad(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    if -1 in node.shape or x.size < 0:
        raise Unlowerable("a size is only known when the model runs")
    spare = [want - have for want, have in zip(node.shape, x.shape, strict=True)]
    cuts = {i: (-n // 2, -n // 2 + want, 1) for i, (n, want) in enumerate(zip(spare, node.shape, strict=True)) if n < 0}
    before = [max(0, n) // 2 for n in spare]
    return _pad_with(b, _cut(b, x, cuts), before, [max(0, n) - k for n, k in zip(spare, before, strict=True)], None)
