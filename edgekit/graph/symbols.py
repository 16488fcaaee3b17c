"""What a graph computes of its shapes: sizes as a number times the names of unknown ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.graph.walking import constant, constant_size, int_attribute, is_constant, walk

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Size", "Sizes", "reshape_target"]

_ANYTHING = (None, "", "?", "-1", "None")
"""Symbols exporters give several dimensions that need not be equal."""
_MOST = 64
"""Longer lists of integers are not shapes."""


@dataclass(frozen=True)
class Size:
    """``number`` times the sizes `names` stand for, in alphabetic order."""

    number: int
    names: tuple[str, ...] = ()

    def __mul__(self, other: Size) -> Size:
        return Size(self.number * other.number, tuple(sorted((*self.names, *other.names))))

    def over(self, other: Size) -> Size | None:
        """The quotient, when there is one without a remainder."""
        left, right = Counter(self.names), Counter(other.names)
        if not other.number or self.number % other.number or right - left:
            return None
        return Size(self.number // other.number, tuple(sorted((left - right).elements())))

    @property
    def is_known(self) -> bool:
        return not self.names


class Sizes:
    """The sizes of a graph's tensors, and the lists of sizes its nodes compute.

    ONNX's shape inference gives the outcome of a Reshape a new name where it does not follow; here that name gets its
    meaning back, such as 4 times ``batch``.
    """

    def __init__(self, model: ir.Model) -> None:
        self._meanings: dict[str, Size] = {}
        self._lists: dict[ir.Value, np.ndarray] = {}
        for node, _ in walk(model.graph):
            if node.domain != "" or not node.outputs:
                continue
            if node.op_type == "Reshape":
                self._learn(node)
            found = self._compute(node)
            if found is not None and found.ndim <= 1 and found.size <= _MOST:
                self._lists[node.outputs[0]] = found

    def dims(self, value: ir.Value | None) -> list[Size | None] | None:
        """The size of each dimension, None where even a name is missing; None for an unknown rank."""
        if value is None or value.shape is None:
            return None
        return [self._size(dim) for dim in value.shape]

    def numbers(self, value: ir.Value | None) -> np.ndarray | None:
        """The elements of a scalar or list of integers, each a Size, or None where it is not known; or None."""
        if value is None:
            return None
        if not is_constant(value):
            return self._lists.get(value)
        array = constant(value) if (constant_size(value) or 0) <= _MOST else None
        if array is None or array.dtype.kind not in "iu" or array.ndim > 1:
            return None
        return _list([Size(int(number)) for number in array.reshape(-1)], array.shape)

    def reshaped(self, node: ir.Node) -> list[Size | None] | None:
        """The dimensions a Reshape gives."""
        wanted, source = self.numbers(node.inputs[1]), self.dims(node.inputs[0])
        if wanted is None or wanted.ndim != 1 or source is None or int_attribute(node, "allowzero", 0):
            return self.dims(node.outputs[0])
        found: list[Size | None] = []
        for place, size in enumerate(wanted):
            is_copy = size == Size(0) and place < len(source)
            found.append(source[place] if is_copy else size)
        if Size(-1) in found:
            place = found.index(Size(-1))
            total, rest = _product(source), _product([size for index, size in enumerate(found) if index != place])
            found[place] = None if total is None or rest is None else total.over(rest)
        said = self.dims(node.outputs[0]) or [None] * len(found)
        return [size or other for size, other in zip(found, said, strict=True)] if len(said) == len(found) else found

    def _size(self, dim: Any) -> Size | None:
        if isinstance(dim, int):
            return Size(dim)
        if dim.value in _ANYTHING:
            return None
        return self._meanings.get(str(dim.value), Size(1, (str(dim.value),)))

    def _learn(self, node: ir.Node) -> None:
        for size, dim in zip(self.reshaped(node) or (), node.outputs[0].shape or (), strict=False):
            name = "" if isinstance(dim, int) or dim.value in _ANYTHING else str(dim.value)
            if name and size is not None and name not in size.names:
                self._meanings.setdefault(name, size)

    def _compute(self, node: ir.Node) -> np.ndarray | None:
        if node.op_type == "Shape":
            dims = self.dims(node.inputs[0])
            if dims is None:
                return None
            return _list(dims[int_attribute(node, "start", 0) : int_attribute(node, "end", len(dims))])
        if node.op_type not in _STEPS:
            return None
        operands = [self.numbers(value) for value in node.inputs if value is not None]
        known = [operand for operand in operands if operand is not None]
        return _STEPS[node.op_type](node, known) if len(known) == len(operands) else None


def _list(sizes: list[Any], shape: tuple[int, ...] | None = None) -> np.ndarray:
    found = np.empty(len(sizes), object)
    found[:] = sizes
    return found if shape is None else found.reshape(shape)


def _product(sizes: list[Size | None]) -> Size | None:
    found = Size(1)
    for size in sizes:
        if size is None:
            return None
        found = found * size
    return found


def _ints(array: np.ndarray) -> list[int] | None:
    sizes = [size for size in array.reshape(-1) if size is not None and size.is_known]
    return [size.number for size in sizes] if len(sizes) == array.size else None


def _gather(node: ir.Node, operands: list[np.ndarray]) -> np.ndarray | None:
    places = _ints(operands[1])
    if places is None or operands[0].ndim != 1 or any(abs(place) > operands[0].size for place in places):
        return None
    return _list([operands[0][place] for place in places], operands[1].shape)


def _slice(node: ir.Node, operands: list[np.ndarray]) -> np.ndarray | None:
    limits = [_ints(operand) for operand in operands[1:]]
    if any(limit is None for limit in limits) or operands[0].ndim != 1:
        return None
    start, end, step = (limit[0] if limit else 1 for limit in (*limits[:2], *(limits[3:4] or [[1]])))
    return operands[0][start : None if step < 0 and end < -operands[0].size else end : step]


def _join(node: ir.Node, operands: list[np.ndarray]) -> np.ndarray | None:
    return np.concatenate(operands) if all(operand.ndim == 1 for operand in operands) else None


def _flatten(node: ir.Node, operands: list[np.ndarray]) -> np.ndarray | None:
    return operands[0].reshape(-1)


def _unpack(node: ir.Node, operands: list[np.ndarray]) -> np.ndarray | None:
    return operands[0].reshape(()) if operands[0].size == 1 else None


def _reshape(node: ir.Node, operands: list[np.ndarray]) -> np.ndarray | None:
    return operands[0].reshape(-1) if operands[1].size == 1 else _unpack(node, operands)


def _reduce(node: ir.Node, operands: list[np.ndarray]) -> np.ndarray | None:
    found = _product(list(operands[0].reshape(-1)))
    return _list([found], (1,) if int_attribute(node, "keepdims", 1) else ())


def _keep(node: ir.Node, operands: list[np.ndarray]) -> np.ndarray | None:
    return operands[0]


def _each(node: ir.Node, operands: list[np.ndarray]) -> np.ndarray | None:
    if len(operands) != 2:
        return operands[0]
    left, right = np.broadcast_arrays(*operands) if _fit(operands) else (None, None)
    if left is None or right is None:
        return None
    return _list(
        [_PAIRS[node.op_type](a, b) for a, b in zip(left.reshape(-1), right.reshape(-1), strict=True)], left.shape
    )


def _fit(operands: list[np.ndarray]) -> bool:
    return operands[0].size == operands[1].size or 1 in (operands[0].size, operands[1].size)


def _same(left: Size | None, right: Size | None) -> Size | None:
    return left if left == right else None


_PAIRS = {
    "Mul": lambda left, right: None if left is None or right is None else left * right,
    "Div": lambda left, right: None if left is None or right is None or right.number < 1 else left.over(right),
    "Max": _same,
    "Min": _same,
}
_STEPS: dict[str, Any] = {
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _join,
    "Unsqueeze": _flatten,
    "Squeeze": _unpack,
    "Reshape": _reshape,
    "ReduceProd": _reduce,
    "Cast": _keep,
    "Identity": _keep,
    **dict.fromkeys(_PAIRS, _each),
}


def reshape_target(source: list[Size | None] | None, result: list[Size | None] | None) -> list[int] | None:
    """What a Reshape must be told to give `result`: 0 for sizes that stay, -1 for one more unknown one; or None."""
    if source is None or result is None or Size(0) in result:
        return None
    target = []
    for place, size in enumerate(result):
        stays = place < len(source) and size is not None and size == source[place]
        target.append(size.number if size is not None and size.is_known else 0 if stays else -1)
    return target if target.count(-1) <= 1 else None
