"""What each type of operation joins, for `edgekit.compress.coupling`; axes a rule does not mention stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.compress.atoms import Links, dimension
from edgekit.graph.walking import constant, int_attribute, rank

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["RULES", "matched_axes", "sliced_axes"]


def _same(node: ir.Node, links: Links) -> None:
    """Every output place comes from the same place of the first input."""
    _join_axes(links, node.inputs[0], node.outputs[0], range(rank(node.inputs[0]) or 0))
    for value in node.inputs[1:]:
        _broadcast(links, value, node.outputs[0])


def _elementwise(node: ir.Node, links: Links) -> None:
    for value in node.inputs:
        _broadcast(links, value, node.outputs[0])


def _broadcast(links: Links, value: ir.Value | None, out: ir.Value) -> None:
    dims, wide = rank(value), rank(out)
    for axis in range(dims or 0):
        if wide is None or dims is None or wide < dims:
            return
        other = axis + wide - dims
        if dimension(value, axis) == 1 and dimension(out, other) != 1:
            links.mention(value, axis)  # it serves all places, however many there are
            links.keep(value, axis)
            links.mention(out, other)
        else:
            links.join(value, axis, out, other)


def _join_axes(links: Links, value: ir.Value | None, out: ir.Value, axes: Iterable[int]) -> None:
    for axis in axes:
        links.join(value, axis, out, axis)


def _normalization(node: ir.Node, links: Links) -> None:
    """BatchNormalization and InstanceNormalization: a channel is normalized by its own numbers."""
    source, out = node.inputs[0], node.outputs[0]
    if node.op_type == "BatchNormalization":
        _join_axes(links, source, out, range(rank(source) or 0))
    else:
        _join_axes(links, source, out, (0, 1))
    for value in node.inputs[1:]:
        links.join(source, 1, value, 0)


def _along_others(node: ir.Node, links: Links) -> None:
    """Softmax and its like: an axis, or all from it on, is taken as a whole."""
    dims = rank(node.inputs[0]) or 0
    axis = int_attribute(node, "axis", -1) % max(1, dims)
    behind = range(axis, dims) if node.op_type == "LayerNormalization" else (axis,)
    _join_axes(links, node.inputs[0], node.outputs[0], (a for a in range(dims) if a not in behind))


def _pool(node: ir.Node, links: Links) -> None:
    _join_axes(links, node.inputs[0], node.outputs[0], (0, 1))


def _conv(node: ir.Node, links: Links) -> None:
    source, weight, out = node.inputs[0], node.inputs[1], node.outputs[0]
    groups = int_attribute(node, "group", 1)
    links.join(source, 0, out, 0)
    links.join(weight, 0, out, 1)
    if len(node.inputs) > 2:
        links.join(node.inputs[2], 0, out, 1)
    if groups == 1:
        links.join(source, 1, weight, 1)
        return
    ins, outs = links.atoms(source, 1), links.atoms(out, 1)
    if ins is None or outs is None:
        return
    for value, axis in ((source, 1), (weight, 1)):
        links.mention(value, axis)
    if len(ins) == groups:  # depthwise: a group goes with its channel
        links.link(np.broadcast_to(ins[:, None], (groups, len(outs) // groups)), outs.reshape(groups, -1))
        links.keep(weight, 1)
        return
    # Every group loses the same places, so that all stay alike.
    inner = links.atoms(weight, 1)
    assert inner is not None
    links.link(np.broadcast_to(inner, (groups, len(inner))), ins.reshape(groups, -1))
    rows = outs.reshape(groups, -1)
    links.link(np.broadcast_to(rows[0], rows.shape), rows)


def _conv_transpose(node: ir.Node, links: Links) -> None:
    source, weight, out = node.inputs[0], node.inputs[1], node.outputs[0]
    if int_attribute(node, "group", 1) != 1:
        return
    links.join(source, 0, out, 0)
    links.join(source, 1, weight, 0)
    links.join(weight, 1, out, 1)
    if len(node.inputs) > 2:
        links.join(node.inputs[2], 0, out, 1)


def _gemm(node: ir.Node, links: Links) -> None:
    left, right, out = node.inputs[0], node.inputs[1], node.outputs[0]
    rows = 1 if int_attribute(node, "transA", 0) else 0
    columns = 0 if int_attribute(node, "transB", 0) else 1
    links.join(left, rows, out, 0)
    links.join(left, 1 - rows, right, 1 - columns)
    links.join(right, columns, out, 1)
    if len(node.inputs) > 2:
        _broadcast(links, node.inputs[2], out)


def _matmul(node: ir.Node, links: Links) -> None:
    left, right, out = node.inputs[0], node.inputs[1], node.outputs[0]
    a, b, c = rank(left), rank(right), rank(out)
    if a is None or b is None or c is None or min(a, b) < 2:
        return
    links.join(left, a - 1, right, b - 2)
    links.join(left, a - 2, out, c - 2)
    links.join(right, b - 1, out, c - 1)
    for value, dims in ((left, a), (right, b)):
        for axis in range(dims - 2):
            if dimension(value, axis) == 1 and dimension(out, axis + c - dims) != 1:
                links.mention(value, axis)
                links.keep(value, axis)
                links.mention(out, axis + c - dims)
            else:
                links.join(value, axis, out, axis + c - dims)


def _transpose(node: ir.Node, links: Links) -> None:
    dims = rank(node.inputs[0]) or 0
    given = node.attributes.get("perm")
    for axis, source in enumerate(given.as_ints() if given is not None else range(dims)[::-1]):
        links.join(node.inputs[0], source, node.outputs[0], axis)


def _concat(node: ir.Node, links: Links) -> None:
    out = node.outputs[0]
    axis = int_attribute(node, "axis", 0) % (rank(out) or 1)
    _ranges(links, out, list(node.inputs), axis)


def _split(node: ir.Node, links: Links) -> None:
    source = node.inputs[0]
    _ranges(links, source, list(node.outputs), int_attribute(node, "axis", 0) % (rank(source) or 1))


def _ranges(links: Links, whole: ir.Value | None, parts: list[ir.Value | None], axis: int) -> None:
    """Parts lie one after the other along an axis of the whole."""
    atoms, pieces = links.atoms(whole, axis), [links.atoms(part, axis) for part in parts]
    for part in parts:
        _join_others(links, part, whole, axis)
    known = [piece for piece in pieces if piece is not None]
    if atoms is not None and len(known) == len(pieces) and sum(map(len, known)) == len(atoms):
        links.link(np.concatenate(known), atoms)
        for value in (whole, *parts):
            links.mention(value, axis)


def _join_others(links: Links, value: ir.Value | None, other: ir.Value | None, axis: int) -> None:
    for place in range(rank(value) or 0):
        if place != axis:
            links.join(value, place, other, place)


def _slice(node: ir.Node, links: Links) -> None:
    source, out = node.inputs[0], node.outputs[0]
    spans = sliced_axes(node)
    for axis in range(rank(source) or 0) if spans is not None else ():
        atoms, kept = links.atoms(source, axis), links.atoms(out, axis)
        if spans is None or axis not in spans:
            links.join(source, axis, out, axis)
        elif atoms is not None and kept is not None:
            start, stop, step = spans[axis]
            if step == 1 and len(atoms[start:stop]) == len(kept):
                links.link(atoms[start:stop], kept)
                links.mention(source, axis)
                links.mention(out, axis)


def sliced_axes(node: ir.Node) -> dict[int, tuple[int, int, int]] | None:
    """Start, stop and step, counted from the front, by axis of a Slice; None where they are not known."""
    source = node.inputs[0]
    given = [constant(value) if value is not None else None for value in node.inputs[1:]]
    dims = rank(source)
    if (
        dims is None
        or len(given) < 2
        or any(v is not None and g is None for v, g in zip(node.inputs[1:], given, strict=True))
    ):
        return None
    starts, stops = given[:2]
    assert starts is not None
    assert stops is not None
    axes = given[2] if len(given) > 2 and given[2] is not None else np.arange(len(starts))
    steps = given[3] if len(given) > 3 and given[3] is not None else np.ones(len(starts), "int64")
    spans = {}
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        size = dimension(source, int(axis) % dims)
        if size is None and not (start == 0 and stop > 2**30 and step == 1):
            return None
        # Python's own slices count like ONNX's, limits beyond the ends included.
        spans[int(axis) % dims] = slice(int(start), int(stop), int(step)).indices(size or 0)
    return spans


def _pad(node: ir.Node, links: Links) -> None:
    pads, dims = constant(node.inputs[1]), rank(node.inputs[0])
    if pads is None or dims is None or len(pads) != 2 * dims or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return
    still = [axis for axis in range(dims) if pads[axis] == 0 and pads[axis + dims] == 0]
    _join_axes(links, node.inputs[0], node.outputs[0], still)


def _resize(node: ir.Node, links: Links) -> None:
    source, out = node.inputs[0], node.outputs[0]
    for axis in (0, 1) if (rank(source) or 0) > 2 and "axes" not in node.attributes else ():
        if dimension(source, axis) == dimension(out, axis):
            links.join(source, axis, out, axis)


def _reduce(node: ir.Node, links: Links) -> None:
    source, out = node.inputs[0], node.outputs[0]
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is None and "axes" in node.attributes:
        given = np.asarray(node.attributes["axes"].as_ints())
    dims = rank(source) or 0
    axes = {int(axis) % dims for axis in given} if given is not None and dims else set(range(dims))
    others = [axis for axis in range(dims) if axis not in axes]
    if int_attribute(node, "keepdims", 1):
        _join_axes(links, source, out, others)
    else:
        for place, axis in enumerate(others):
            links.join(source, axis, out, place)


def _reshape(node: ir.Node, links: Links) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: which axes hold the same numbers is found by their sizes."""
    source, out = node.inputs[0], node.outputs[0]
    if source is None or (node.op_type == "Reshape" and constant(node.inputs[1]) is None):
        return
    for mine, its in matched_axes(source, out):
        if len(mine) == 1 and len(its) == 1:
            links.join(source, mine[0], out, its[0])
        elif len(its) == 1:
            links.choose(source, mine, out, its[0])
        elif len(mine) == 1:
            links.choose(out, its, source, mine[0])


def matched_axes(source: ir.Value, out: ir.Value) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Runs of axes of the two with equal products; open sizes go with the same symbol, or the one that is left.

    Sizes of 1 belong to no run, and what cannot be told is left out.
    """
    if source.shape is None or out.shape is None:
        return []
    mine = [(axis, size) for axis, size in enumerate(source.shape) if size != 1]
    its = [(axis, size) for axis, size in enumerate(out.shape) if size != 1]
    runs: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    while mine and its:
        left, right = [mine.pop(0)], [its.pop(0)]
        if not isinstance(left[0][1], int) or not isinstance(right[0][1], int):
            if not _is_one_size(left[0][1], right[0][1], source, out):
                return runs
        else:
            while (a := _product(left)) != (b := _product(right)):
                side, rest = (left, mine) if a < b else (right, its)
                if not rest or not isinstance(rest[0][1], int):
                    return runs
                side.append(rest.pop(0))
        runs.append((tuple(axis for axis, _ in left), tuple(axis for axis, _ in right)))
    return runs


def _is_one_size(mine: object, its: object, source: ir.Value, out: ir.Value) -> bool:
    """Whether open sizes are the same: by their symbol, or because there is no other on either side."""
    if isinstance(mine, int) or isinstance(its, int):
        return False
    open_sizes = [sum(not isinstance(size, int) for size in value.shape or ()) for value in (source, out)]
    return open_sizes == [1, 1] or (str(mine) == str(its) and str(mine) not in ("None", ""))


def _product(axes: Sequence[tuple[int, object]]) -> int:
    return int(np.prod([size for _, size in axes if isinstance(size, int)]))


_ONE_TO_ONE = (
    *("Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"),
    *("HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid"),
    *("Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
)
_SEVERAL = ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "PRelu", "Where")
_POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
_REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")

RULES: dict[str, Callable[[ir.Node, Links], None]] = {
    **dict.fromkeys(_ONE_TO_ONE, _same),
    **dict.fromkeys(_SEVERAL, _elementwise),
    **dict.fromkeys(_POOLS, _pool),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LayerNormalization"), _along_others),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _normalization),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Resize": _resize,
}
