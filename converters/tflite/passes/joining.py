"""Operations that only change how numbers are stored, joined with each other and with those around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.converters.tflite.model import Op, Tensor
from edgekit.converters.tflite.passes.rewriting import Rewriter

__all__ = ["JOINING"]

_REDUCTIONS = {"MEAN", "SUM", "REDUCE_ALL", "REDUCE_ANY", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"}


def _reshape(rewriter: Rewriter, op: Op) -> bool:
    """RESHAPE of RESHAPE, of a reduction that could drop its axes itself, or that changes nothing."""
    x = op.inputs[0]
    if x is None or x.quant != op.output.quant or op.output.shape.count(-1) > 1:
        return False
    is_free = not rewriter.is_public(op.output) or _computed(rewriter, x)
    if x.shape == op.output.shape and -1 not in x.shape and is_free:
        rewriter.bypass(op, x)
        return True
    maker = rewriter.producer(x)
    if maker is None:
        return False
    if maker.code == "RESHAPE" and maker.inputs[0] is not None:
        rewriter.set_inputs(op, [maker.inputs[0], _shape_of(op.output)])
        op.options["newShape"] = list(op.output.shape)
        return True
    return rewriter.sole_consumer(x) is op and (_dropped_axes(rewriter, op, maker) or _kept_axes(rewriter, op, maker))


def _computed(rewriter: Rewriter, tensor: Tensor) -> bool:
    """Whether a tensor may take a public name: neither an input nor a constant nor public itself."""
    return rewriter.producer(tensor) is not None and not rewriter.is_public(tensor)


def _dropped_axes(rewriter: Rewriter, op: Op, maker: Op) -> bool:
    """RESHAPE that drops just the axes a reduction has kept."""
    x, axes = (maker.inputs[0], maker.inputs[1]) if maker.code in _REDUCTIONS else (None, None)
    if x is None or axes is None or axes.data is None or not maker.options.get("keepDims"):
        return False
    along = {int(axis) % x.rank for axis in axes.data.reshape(-1)}
    if op.output.shape != tuple(size for axis, size in enumerate(x.shape) if axis not in along):
        return False
    maker.options["keepDims"] = False
    _give(rewriter, maker, op)
    return True


def _kept_axes(rewriter: Rewriter, op: Op, maker: Op) -> bool:
    """FULLY_CONNECTED between a RESHAPE to rows and one back: it takes tensors of any rank itself."""
    source = maker.inputs[0] if maker.code == "FULLY_CONNECTED" else None
    before = None if source is None else rewriter.producer(source)
    x = before.inputs[0] if before is not None and before.code == "RESHAPE" else source
    weight = maker.inputs[1] if maker.code == "FULLY_CONNECTED" else None
    if x is None or weight is None or x.rank < 2 or -1 in (*x.shape, *op.output.shape):
        return False
    if op.output.shape != (*x.shape[:-1], weight.shape[0]) or x.shape[-1] != weight.shape[1]:
        return False
    maker.options["keepNumDims"] = True
    rewriter.set_inputs(maker, [x, *maker.inputs[1:]])
    _give(rewriter, maker, op)
    return True


def _rows(rewriter: Rewriter, op: Op) -> bool:
    """RESHAPE to rows in front of FULLY_CONNECTED, which counts rows itself."""
    rows, weight = op.inputs[0], op.inputs[1]
    before = None if rows is None else rewriter.producer(rows)
    x = before.inputs[0] if before is not None and before.code == "RESHAPE" else None
    if x is None or rows is None or weight is None or rows.rank != 2 or x.rank < 2 or x.quant != rows.quant:
        return False
    if -1 in x.shape or rows.shape[1] != weight.shape[1]:
        return False
    op.options["keepNumDims"] = False
    rewriter.set_inputs(op, [x, *op.inputs[1:]])
    return True


def _cast(rewriter: Rewriter, op: Op) -> bool:
    """CAST of a CAST that lost nothing."""
    middle = op.inputs[0]
    maker = None if middle is None else rewriter.producer(middle)
    x = maker.inputs[0] if maker is not None and maker.code == "CAST" else None
    if x is None or middle is None or not _holds(middle.dtype, x.dtype):
        return False
    if x.dtype != op.output.dtype:
        op.options["inDataType"] = x.dtype
        rewriter.set_inputs(op, [x])
        return True
    if rewriter.is_public(op.output) and not _computed(rewriter, x):
        return False
    rewriter.bypass(op, x)
    return True


def _holds(wide: str, narrow: str) -> bool:
    """Whether a type has all numbers of another."""
    return {wide, narrow}.isdisjoint({"bfloat16", "int4"}) and np.can_cast(narrow, wide)


def _swapped(rewriter: Rewriter, op: Op) -> bool:
    """BATCH_MATMUL reads its right operand either way round; the left one only at the cost of a copy."""
    y = op.inputs[1]
    maker = None if y is None else rewriter.producer(y)
    if y is None or maker is None or maker.code != "TRANSPOSE" or y.quant is not None:
        return False
    source, perm = maker.inputs
    swap = [*range(y.rank - 2), y.rank - 1, y.rank - 2]
    if source is None or perm is None or perm.data is None or perm.data.tolist() != swap:
        return False
    op.options["adjY"] = not op.options.get("adjY", False)
    rewriter.set_inputs(op, [op.inputs[0], source, *op.inputs[2:]])
    return True


def _single(rewriter: Rewriter, op: Op) -> bool:
    """CONCATENATION, PACK and UNPACK of one."""
    x = op.inputs[0]
    if len(op.inputs) != 1 or len(op.outputs) != 1 or x is None or not _plain(op) or x.quant != op.output.quant:
        return False
    if op.output.shape.count(-1) > 1 or x.shape.count(-1) > 1:
        return False
    op.code, op.options = "RESHAPE", {"newShape": list(op.output.shape)}
    rewriter.set_inputs(op, [x, _shape_of(op.output)])
    return True


def _plain(op: Op) -> bool:
    return op.options.get("fusedActivationFunction", "NONE") == "NONE"


def _give(rewriter: Rewriter, maker: Op, op: Op) -> None:
    """Lets `maker` make what `op` made of it."""
    made = op.output
    rewriter.remove(op)
    rewriter.set_outputs(maker, [made])


def _shape_of(tensor: Tensor) -> Tensor:
    return Tensor(f"{tensor.name}/shape", (tensor.rank,), "int32", np.asarray(tensor.shape, "int32"))


JOINING: dict[str, tuple[Callable[[Rewriter, Op], bool], ...]] = {
    **dict.fromkeys(("CONCATENATION", "PACK", "UNPACK"), (_single,)),
    "BATCH_MATMUL": (_swapped,),
    "CAST": (_cast,),
    "FULLY_CONNECTED": (_rows,),
    "RESHAPE": (_reshape,),
}
