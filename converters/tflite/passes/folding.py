"""Constants worked out when the model is written, what is computed twice done once, what nobody reads left out."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.passes.rewriting import Rewriter

__all__ = ["fold"]

_GROWTH = 1 << 16
"""Bytes by which a folded constant may be larger than what it is made of."""
_COMPARED_BYTES = 1 << 16
"""Larger constants are taken for different without looking."""

_LASTING = {"ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE"}
"""Operations that do something besides what they give."""
_CHANCE = {"MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM"}

_Numbers = Callable[..., np.ndarray]

_ELEMENTWISE: dict[str, _Numbers] = {
    "ABS": np.abs, "ADD": np.add, "EXP": np.exp, "LOGICAL_AND": np.logical_and, "LOGICAL_NOT": np.logical_not,
    "LOGICAL_OR": np.logical_or, "MAXIMUM": np.maximum, "MINIMUM": np.minimum, "MUL": np.multiply, "NEG": np.negative,
    "SQRT": np.sqrt, "SQUARE": np.square, "SUB": np.subtract,
}  # fmt: skip


def fold(graph: Graph) -> None:
    """Folds constants, merges what is alike and removes what is not read."""
    rewriter = Rewriter(graph)
    for op in rewriter.ops():
        data = _result(op)
        if data is not None and not rewriter.is_public(op.output):
            label = op.inputs[0].name if op.inputs[0] is not None else op.source
            rewriter.bypass(op, Tensor(label, data.shape, data.dtype.name, data, op.output.quant))
    _share_constants(rewriter)
    _merge_alike(rewriter)
    rewriter.drop_unread([op for op in reversed(rewriter.ops()) if op.code not in _LASTING])
    rewriter.finish()


def _result(op: Op) -> np.ndarray | None:
    """What an operation on nothing but constants gives, if it can be told here and is not too large."""
    inputs = [tensor.data for tensor in op.arguments()]
    given = [data for data in inputs if data is not None]
    if len(given) != len(op.inputs) or not given or len(op.outputs) != 1:
        return None
    if (
        any(t.quant is not None for t in (*op.arguments(), op.output))
        or op.options.get("fusedActivationFunction", "NONE") != "NONE"
    ):
        return None
    size = prod(op.output.shape) * np.dtype(op.output.dtype).itemsize
    if -1 in op.output.shape or size > sum(data.nbytes for data in given) + _GROWTH:
        return None
    found = _compute(op, given)
    if found is None or found.shape != op.output.shape:
        return None
    return np.ascontiguousarray(found.astype(op.output.dtype))


def _compute(op: Op, given: list[np.ndarray]) -> np.ndarray | None:
    x = given[0]
    if op.code in _ELEMENTWISE:
        with np.errstate(all="ignore"):
            return _ELEMENTWISE[op.code](*given)
    if op.code == "TRANSPOSE":
        return x.transpose(given[1])
    if op.code == "RESHAPE":
        return x.reshape(op.output.shape)
    if op.code == "BROADCAST_TO":
        return np.broadcast_to(x, op.output.shape)
    if op.code == "CAST" and not (x.dtype.kind == "f" and np.dtype(op.output.dtype).kind in "iu"):
        return x  # what a float becomes beyond the range of an integer is the kernel's business
    return None


def _share_constants(rewriter: Rewriter) -> None:
    """One tensor for small constants that are equal."""
    known: dict[tuple[object, ...], Tensor] = {}
    for op in rewriter.ops():
        inputs = [tensor if tensor is None else _shared(tensor, known) for tensor in op.inputs]
        if any(new is not old for new, old in zip(inputs, op.inputs, strict=True)):
            rewriter.set_inputs(op, inputs)


def _shared(tensor: Tensor, known: dict[tuple[object, ...], Tensor]) -> Tensor:
    stands_for_itself = tensor.quant is None and tensor.scales is None
    if tensor.data is None or not stands_for_itself or tensor.data.nbytes > _COMPARED_BYTES:
        return tensor
    return known.setdefault((tensor.dtype, tensor.shape, tensor.data.tobytes()), tensor)


def _merge_alike(rewriter: Rewriter) -> None:
    """One operation for those that do the same to the same tensors."""
    known: dict[tuple[object, ...], Op] = {}
    for op in rewriter.ops():
        if op.code in _LASTING | _CHANCE or any(op.bodies()) or any(map(rewriter.is_public, op.outputs)):
            continue
        given = tuple(id(tensor) for tensor in op.inputs)
        other = known.setdefault((op.code, given, str(sorted(op.options.items()))), op)
        same = [(t.dtype, t.quant) for t in op.outputs] == [(t.dtype, t.quant) for t in other.outputs]
        if other is not op and same:
            for old, new in zip(op.outputs, other.outputs, strict=True):
                rewriter.replace(old, new)
            rewriter.remove(op)
