"""Which axes of an operation's inputs and outputs belong together, and what changes in it when they are rearranged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.converters.tflite.model import Op, Tensor
from edgekit.converters.tflite.passes.layouts import Layout

__all__ = ["AxisRelation", "Order", "axis_relation"]

Order = tuple[int | None, ...]
"""Labels of axes in the order in which they are to stand; None for a new axis of size 1."""

Inputs = list[Tensor | None]

Rewrite = Callable[[Op, Order, Inputs], None]

_USUAL_RANK = 4
"""All kernels take tensors up to it; a rearrangement may go beyond only where the operation was beyond already."""

_UNARY = {
    "ABS", "CAST", "CEIL", "COS", "DEQUANTIZE", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG",
    "LOGICAL_NOT", "LOGISTIC", "NEG", "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT",
    "SIGN", "SIN", "SQRT", "SQUARE", "TANH", "ZEROS_LIKE",
}  # fmt: skip
_BROADCASTING = {
    "ADD", "ADD_N", "ATAN2", "BITWISE_XOR", "DIV", "EQUAL", "FLOOR_DIV", "FLOOR_MOD", "GREATER", "GREATER_EQUAL",
    "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "MAXIMUM", "MINIMUM", "MUL", "NOT_EQUAL", "POW", "PRELU",
    "RIGHT_SHIFT", "SELECT_V2", "SQUARED_DIFFERENCE", "SUB",
}  # fmt: skip
_REDUCTIONS = {"MEAN", "SUM", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"}
_ALONG_THE_LAST = {"SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION", "FULLY_CONNECTED", "TOPK_V2"}


@dataclass
class _Slot:
    """A tensor of the operation; `labels` has one for each of its axes."""

    tensor: Tensor
    labels: tuple[int, ...]


@dataclass
class AxisRelation:
    """The tensors of an operation whose axes can be rearranged together.

    Attributes:
        op: The operation.
        inputs: By position.
        outputs: In order.
        change: Changes options and further inputs to an order; it is given the new inputs.
        kept: Labels whose axis must stay even where its size is 1.
        last: The label whose axis must be the last.
        broadcasts: Whether inputs may have fewer axes, or sizes of 1 where others are larger.
    """

    op: Op
    inputs: dict[int, _Slot]
    outputs: list[_Slot]
    change: Rewrite
    kept: set[int] = field(default_factory=set)
    last: int | None = None
    broadcasts: bool = False

    def __post_init__(self) -> None:
        self._slots = [*self.inputs.values(), *self.outputs]
        self._labels = {label for slot in self._slots for label in slot.labels}
        self.kept = self.kept | {
            label
            for slot in self._slots
            for label, size in zip(slot.labels, slot.tensor.shape, strict=True)
            if size != 1
        }
        self._rank = max((slot.tensor.rank for slot in self._slots), default=0)

    def tensors(self) -> list[Tensor]:
        """What is rearranged; nothing when the operation also reads one of them as something else."""
        here = {slot.tensor for slot in self.inputs.values()}
        others = [tensor for place, tensor in enumerate(self.op.inputs) if place not in self.inputs]
        return [] if any(tensor in here for tensor in others) else list(dict.fromkeys(s.tensor for s in self._slots))

    def rewrite(self, op: Op, order: Order, inputs: Inputs, outputs: list[Tensor]) -> None:
        """Changes what names axes in an operation that gets `inputs` and `outputs`."""
        self.change(op, order, inputs)

    def order(self, tensor: Tensor, layout: Layout) -> Order | None:
        """The order of all axes that puts `tensor` in `layout`; None where there is none, or more than one."""
        slot = next(slot for slot in self._slots if slot.tensor is tensor)
        units = [label for label, size in zip(slot.labels, tensor.shape, strict=True) if size == 1]
        if self._labels - {*slot.labels} & self.kept:
            return None
        spare = len(units) - layout.count(-1)
        for label in [label for label in units if label not in self.kept][: max(0, spare)]:
            units.remove(label)
        if len(units) > layout.count(-1):
            return None
        # Which new axis is which of the old cannot be told; from the last is how kernels number them.
        rest = iter([*[None] * -spare, *units])
        found = tuple(slot.labels[axis] if axis >= 0 else next(rest) for axis in layout)
        if len(found) > max(_USUAL_RANK, self._rank) or (self.last is not None and found[-1:] != (self.last,)):
            return None
        return found

    def layout(self, tensor: Tensor, order: Order) -> Layout | None:
        """The layout of one of the tensors when the axes stand in `order`; None where it cannot stand so."""
        slot = next(slot for slot in self._slots if slot.tensor is tensor)
        axes = {label: axis for axis, label in enumerate(slot.labels)}
        found = []
        for label in order:
            if label in axes and label is not None:
                found.append(axes[label] if tensor.shape[axes[label]] != 1 else -1)
            elif label is None or self.broadcasts:
                found.append(-1)
        if tensor.rank < self._rank:
            while self.broadcasts and len(found) > tensor.rank and found[0] < 0:
                del found[0]
        return tuple(found)


def axis_relation(op: Op) -> AxisRelation | None:
    """How the axes of an operation's tensors belong together; None for one that cannot be rearranged."""
    rule = _RULES.get(op.code)
    if rule is None or any(t.quant is not None and t.quant.axis is not None for t in (*op.arguments(), *op.outputs)):
        return None
    return rule(op)


def _elementwise(op: Op) -> AxisRelation | None:
    rank = op.output.rank
    if any(tensor is None or tensor.rank > rank for tensor in op.inputs):
        return None
    inputs = {i: _slot(tensor, range(rank - tensor.rank, rank)) for i, tensor in enumerate(op.inputs) if tensor}
    return AxisRelation(op, inputs, [_all(op.output)], _unchanged, broadcasts=True)


def _broadcast_to(op: Op) -> AxisRelation | None:
    x, sizes, rank = op.inputs[0], _constant(op, 1), op.output.rank
    if x is None or sizes is None or x.rank > rank:
        return None

    def rewrite(_: Op, order: Order, inputs: Inputs) -> None:
        inputs[1] = _like(inputs[1], _reordered(sizes, order, 1))

    slots = {0: _slot(x, range(rank - x.rank, rank))}
    return AxisRelation(op, slots, [_all(op.output)], rewrite, broadcasts=True)


def _concatenation(op: Op) -> AxisRelation | None:
    axis = op.options["axis"] % op.output.rank
    inputs = {i: _all(tensor) for i, tensor in enumerate(op.inputs) if tensor}
    return AxisRelation(op, inputs, [_all(op.output)], _option("axis", axis), {axis})


def _pack(op: Op) -> AxisRelation | None:
    axis = op.options["axis"] % op.output.rank
    labels = [label for label in range(op.output.rank) if label != axis]
    inputs = {i: _slot(tensor, labels) for i, tensor in enumerate(op.inputs) if tensor}
    return AxisRelation(op, inputs, [_all(op.output)], _option("axis", axis), {axis})


def _unpack(op: Op) -> AxisRelation | None:
    x = op.inputs[0]
    if x is None:
        return None
    axis = op.options["axis"] % x.rank
    labels = [label for label in range(x.rank) if label != axis]
    return AxisRelation(op, {0: _all(x)}, [_slot(one, labels) for one in op.outputs], _option("axis", axis), {axis})


def _split(op: Op) -> AxisRelation | None:
    place, axis_at = (1, 0) if op.code == "SPLIT" else (0, 2)
    x, axis = op.inputs[place], _constant(op, axis_at)
    if x is None or axis is None:
        return None
    return AxisRelation(op, {place: _all(x)}, [*map(_all, op.outputs)], *_axes_input(axis_at, axis, x.rank))


def _along_axes(op: Op) -> AxisRelation | None:
    """CUMSUM and REVERSE_V2."""
    x, axes = op.inputs[0], _constant(op, 1)
    if x is None or axes is None:
        return None
    return AxisRelation(op, {0: _all(x)}, [_all(op.output)], *_axes_input(1, axes, x.rank))


def _reduction(op: Op) -> AxisRelation | None:
    """Also ARG_MAX and ARG_MIN, which always drop their axis."""
    x, axes = op.inputs[0], _constant(op, 1)
    if x is None or axes is None:
        return None
    rewrite, along = _axes_input(1, axes, x.rank)
    keeps = op.options.get("keepDims", False) and op.code in _REDUCTIONS
    left = [label for label in range(x.rank) if keeps or label not in along]
    return AxisRelation(op, {0: _all(x)}, [_slot(op.output, left)], rewrite, along)


def _pad(op: Op) -> AxisRelation | None:
    amounts = _constant(op, 1)
    if amounts is None:
        return None

    def rewrite(_: Op, order: Order, inputs: Inputs) -> None:
        inputs[1] = _like(inputs[1], _reordered(amounts, order, np.zeros(2)))

    padded = {axis for axis, pair in enumerate(amounts) if pair.any()}
    return _one_to_one(op, rewrite, padded)


def _slice(op: Op) -> AxisRelation | None:
    begin, size = _constant(op, 1), _constant(op, 2)
    if begin is None or size is None:
        return None

    def rewrite(_: Op, order: Order, inputs: Inputs) -> None:
        inputs[1] = _like(inputs[1], _reordered(begin, order, 0))
        inputs[2] = _like(inputs[2], _reordered(size, order, 1))

    return _one_to_one(op, rewrite)


def _strided_slice(op: Op) -> AxisRelation | None:
    x, vectors = op.inputs[0], [_constant(op, i) for i in (1, 2, 3)]
    masks = {name: op.options.get(name, 0) for name in ("beginMask", "endMask", "shrinkAxisMask")}
    odd = op.options.get("ellipsisMask") or op.options.get("newAxisMask") or op.options.get("offset")
    if x is None or odd or any(vector is None or len(vector) != x.rank for vector in vectors):
        return None

    def rewrite(op: Op, order: Order, inputs: Inputs) -> None:
        for i, (vector, fill) in enumerate(zip(vectors, (0, 1, 1), strict=True), 1):
            inputs[i] = _like(inputs[i], _reordered(vector, order, fill))
        for name, mask in masks.items():
            bits = sum(1 << place for place, label in enumerate(order) if label is not None and mask >> label & 1)
            op.options[name] = bits

    shrunk = {label for label in range(x.rank) if masks["shrinkAxisMask"] >> label & 1}
    left = [label for label in range(x.rank) if label not in shrunk]
    return AxisRelation(op, {0: _all(x)}, [_slot(op.output, left)], rewrite, shrunk)


def _tile(op: Op) -> AxisRelation | None:
    times = _constant(op, 1)
    if times is None:
        return None

    def rewrite(_: Op, order: Order, inputs: Inputs) -> None:
        inputs[1] = _like(inputs[1], _reordered(times, order, 1))

    return _one_to_one(op, rewrite)


def _gather(op: Op) -> AxisRelation | None:
    x, indices = op.inputs[0], op.inputs[1]
    if x is None or indices is None or indices.rank > 1 or op.options.get("batchDims"):
        return None
    axis = op.options.get("axis", 0) % x.rank
    left = [label for label in range(x.rank) if indices.rank or label != axis]
    return AxisRelation(op, {0: _all(x)}, [_slot(op.output, left)], _option("axis", axis), {axis})


def _along_the_last(op: Op) -> AxisRelation | None:
    """What works on the last axis, the same for all before it."""
    x = op.inputs[0]
    if x is None or not x.rank or any(one.rank != x.rank for one in op.outputs):
        return None

    def rewrite(op: Op, order: Order, _: Inputs) -> None:
        if op.code == "FULLY_CONNECTED" and len(order) != 2:
            op.options["keepNumDims"] = True

    last = x.rank - 1
    return AxisRelation(op, {0: _all(x)}, [*map(_all, op.outputs)], rewrite, {last}, last)


_RULES: dict[str, Callable[[Op], AxisRelation | None]] = {
    **dict.fromkeys((*_UNARY, *_BROADCASTING), _elementwise),
    **dict.fromkeys((*_REDUCTIONS, "ARG_MAX", "ARG_MIN"), _reduction),
    **dict.fromkeys(_ALONG_THE_LAST, _along_the_last),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), _pad),
    **dict.fromkeys(("SPLIT", "SPLIT_V"), _split),
    **dict.fromkeys(("CUMSUM", "REVERSE_V2"), _along_axes),
    "BROADCAST_TO": _broadcast_to,
    "CONCATENATION": _concatenation,
    "GATHER": _gather,
    "PACK": _pack,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "TILE": _tile,
    "UNPACK": _unpack,
}


def _slot(tensor: Tensor, labels: Iterable[int]) -> _Slot:
    return _Slot(tensor, tuple(labels))


def _all(tensor: Tensor) -> _Slot:
    return _slot(tensor, range(tensor.rank))


def _one_to_one(op: Op, rewrite: Rewrite, kept: Iterable[int] = ()) -> AxisRelation | None:
    x = op.inputs[0]
    return None if x is None else AxisRelation(op, {0: _all(x)}, [_all(op.output)], rewrite, {*kept})


def _unchanged(op: Op, order: Order, inputs: Inputs) -> None:
    """Nothing in the operation names an axis."""


def _option(name: str, axis: int) -> Rewrite:
    def rewrite(op: Op, order: Order, _: Inputs) -> None:
        op.options[name] = order.index(axis)

    return rewrite


def _axes_input(place: int, axes: np.ndarray, rank: int) -> tuple[Rewrite, set[int]]:
    """How an input that lists axes is rewritten, and the labels it lists."""
    along = {int(axis) % rank for axis in axes.reshape(-1)} if rank else set()

    def rewrite(_: Op, order: Order, inputs: Inputs) -> None:
        places = [at for at, label in enumerate(order) if label in along]
        inputs[place] = _like(inputs[place], np.reshape(places, axes.shape))

    return rewrite, along


def _constant(op: Op, place: int) -> np.ndarray | None:
    tensor = op.inputs[place]
    return None if tensor is None else tensor.data


def _reordered(values: np.ndarray | None, order: Sequence[int | None], fill: float | np.ndarray) -> np.ndarray:
    assert values is not None
    return np.array([fill if label is None else values[label] for label in order])


def _like(tensor: Tensor | None, data: np.ndarray) -> Tensor:
    """A constant of the dtype of another."""
    assert tensor is not None
    return Tensor(tensor.name, data.shape, tensor.dtype, np.ascontiguousarray(data.astype(tensor.dtype)))
