"""Operations that move, pick and reduce, raised."""

from __future__ import annotations

import numpy as np

from edgekit.converters.tflite.model import Op, Tensor
from edgekit.converters.tflite.raising import Raiser, known
from edgekit.converters.tflite.table import Unlowerable, raises

__all__: list[str] = []

_FAR = np.iinfo("int64").max
_REDUCTIONS = {
    "SUM": "ReduceSum", "MEAN": "ReduceMean", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}  # fmt: skip


def _x(op: Op) -> Tensor:
    assert op.inputs[0] is not None
    return op.inputs[0]


@raises("RESHAPE")
def reshape(r: Raiser, op: Op) -> str:
    given = op.inputs[1] if len(op.inputs) > 1 else None
    if given is not None and given.rank == 1:
        return r.node("Reshape", [r.real(_x(op)), r.wide(given)], allowzero=1 if _has_zero(given) else None)
    return r.node("Reshape", [r.real(_x(op)), r.ints(op.options.get("newShape") or op.output.shape)])


def _has_zero(tensor: Tensor) -> bool:
    return tensor.data is not None and bool((tensor.data == 0).any())


@raises("EXPAND_DIMS")
def expand_dims(r: Raiser, op: Op) -> str:
    return r.node("Unsqueeze", [r.real(_x(op)), r.ints(known(op, 1, "the axis").reshape(-1))])


@raises("SQUEEZE")
def squeeze(r: Raiser, op: Op) -> str:
    axes = op.options.get("squeezeDims") or [axis for axis, size in enumerate(_x(op).shape) if size == 1]
    return r.node("Squeeze", [r.real(_x(op)), r.ints(axes)])


@raises("TRANSPOSE")
def transpose(r: Raiser, op: Op) -> str:
    return r.transpose(r.real(_x(op)), [int(axis) for axis in known(op, 1, "the order of the axes")])


@raises("SHAPE")
def shape(r: Raiser, op: Op) -> str:
    found = r.node("Shape", [r.real(_x(op))])
    return found if op.output.dtype == "int64" else r.node("Cast", [found], to=6)


@raises("RANK")
def rank(r: Raiser, op: Op) -> str:
    return r.const(np.int32(_x(op).rank))


@raises("FILL")
def fill(r: Raiser, op: Op) -> str:
    return r.node("Expand", [r.real(op.inputs[1]), r.wide(op.inputs[0])])


@raises("BROADCAST_TO")
def broadcast_to(r: Raiser, op: Op) -> str:
    return r.node("Expand", [r.real(_x(op)), r.wide(op.inputs[1])])


@raises("TILE")
def tile(r: Raiser, op: Op) -> str:
    return r.node("Tile", [r.real(_x(op)), r.wide(op.inputs[1])])


@raises("RANGE")
def range_(r: Raiser, op: Op) -> str:
    return r.node("Range", [r.real(tensor) for tensor in op.inputs])


@raises("CONCATENATION")
def concatenation(r: Raiser, op: Op) -> str:
    axis = op.options["axis"]
    return r.activated(r.node("Concat", [r.real(tensor) for tensor in op.inputs], axis=axis), op)


@raises("PACK")
def pack(r: Raiser, op: Op) -> str:
    axis = r.ints([op.options["axis"]])
    parts = [r.node("Unsqueeze", [r.real(tensor), axis]) for tensor in op.inputs]
    return r.node("Concat", parts, axis=op.options["axis"])


@raises("UNPACK")
def unpack(r: Raiser, op: Op) -> list[str]:
    axis = op.options["axis"]
    places = [r.const(np.int64(index)) for index in range(len(op.outputs))]
    return [r.node("Gather", [r.real(_x(op)), place], axis=axis) for place in places]


@raises("SPLIT")
def split(r: Raiser, op: Op) -> list[str]:
    axis = int(known(op, 0, "the axis").reshape(-1)[0])
    return r.outputs("Split", [r.real(op.inputs[1])], len(op.outputs), axis=axis, num_outputs=len(op.outputs))


@raises("SPLIT_V")
def split_v(r: Raiser, op: Op) -> list[str]:
    axis = int(known(op, 2, "the axis").reshape(-1)[0])
    return r.outputs("Split", [r.real(_x(op)), r.wide(op.inputs[1])], len(op.outputs), axis=axis)


@raises("SLICE")
def slice_(r: Raiser, op: Op) -> str:
    """A size of -1 reaches to the end."""
    begin, size = op.inputs[1:3]
    axes = r.ints(range(_x(op).rank))
    if begin is not None and size is not None and begin.data is not None and size.data is not None:
        first, length = begin.data.astype("int64"), size.data.astype("int64")
        ends = r.ints(np.where(length < 0, _FAR, first + length))
    else:
        reach = r.node("Add", [r.wide(begin), r.wide(size)])
        ends = r.node("Where", [r.node("Less", [r.wide(size), r.ints([0])]), r.ints([_FAR]), reach])
    return r.node("Slice", [r.real(_x(op)), r.wide(begin), ends, axes])


@raises("STRIDED_SLICE")
def strided_slice(r: Raiser, op: Op) -> str:
    """Masks say where a beginning or an end is not meant; axes shrunk to one index go afterwards."""
    options = op.options
    if options.get("ellipsisMask") or options.get("newAxisMask") or options.get("offset"):
        raise Unlowerable("an ellipsis, new axes or offsets in a slice")
    steps = known(op, 3, "the step").astype("int64")
    count = len(steps)
    shrunk = _masked(options.get("shrinkAxisMask"), count)
    backward = steps < 0
    begins = _replaced(r, r.wide(op.inputs[1]), _masked(options.get("beginMask"), count), np.where(backward, _FAR, 0))
    far = np.where(backward, np.iinfo("int64").min, _FAR)
    ends = _replaced(r, r.wide(op.inputs[2]), _masked(options.get("endMask"), count), far)
    if shrunk.any():
        behind = r.node("Add", [begins, r.ints([1])])  # 0 behind -1, the last one
        behind = r.node("Where", [r.node("Equal", [behind, r.ints([0])]), r.ints([_FAR]), behind])
        ends = r.node("Where", [r.const(shrunk), behind, ends])
        steps = np.where(shrunk, 1, steps)
    found = r.node("Slice", [r.real(_x(op)), begins, ends, r.ints(range(count)), r.ints(steps)])
    return r.node("Squeeze", [found, r.ints(np.flatnonzero(shrunk))]) if shrunk.any() else found


def _masked(mask: int | None, count: int) -> np.ndarray:
    """Whether the bit of an axis is set."""
    return ((mask or 0) >> np.arange(count) & 1).astype(bool)


def _replaced(r: Raiser, name: str, chosen: np.ndarray, values: np.ndarray) -> str:
    """Places with others where they are not meant."""
    return r.node("Where", [r.const(chosen), r.ints(values), name]) if chosen.any() else name


@raises("PAD", "PADV2")
def pad(r: Raiser, op: Op) -> str:
    amounts = r.node("Reshape", [r.transpose(r.wide(op.inputs[1]), [1, 0]), r.ints([-1])])
    inputs = [r.real(_x(op)), amounts]
    if op.code == "PADV2":
        inputs.append(r.real(op.inputs[2]))
    elif _x(op).quant is None and _x(op).dtype != "float32":
        inputs.append(r.const(np.zeros((), _x(op).dtype)))
    return r.node("Pad", inputs)


@raises("MIRROR_PAD")
def mirror_pad(r: Raiser, op: Op) -> str:
    amounts = known(op, 1, "how much is padded").astype("int64")
    if op.options["mode"] == "REFLECT":
        return r.node("Pad", [r.real(_x(op)), r.ints(amounts.T.reshape(-1))], mode="reflect")
    found = r.real(_x(op))
    for axis, (before, after) in enumerate(amounts):  # SYMMETRIC repeats the border, which ONNX's reflect does not
        if before or after:
            size = _x(op).shape[axis]
            if size < 0:
                raise Unlowerable("mirrors a dimension whose size is only known when the model runs")
            places = np.concatenate([np.arange(before)[::-1], np.arange(size), size - 1 - np.arange(after)])
            found = r.node("Gather", [found, r.ints(places)], axis=axis)
    return found


@raises("GATHER_ND")
def gather_nd(r: Raiser, op: Op) -> str:
    return r.node("GatherND", [r.real(_x(op)), r.wide(op.inputs[1])])


@raises("EMBEDDING_LOOKUP")
def embedding_lookup(r: Raiser, op: Op) -> str:
    return r.node("Gather", [r.real(op.inputs[1]), r.raw(_x(op))], axis=0)


@raises("REVERSE_V2")
def reverse(r: Raiser, op: Op) -> str:
    axes = known(op, 1, "the axes").astype("int64").reshape(-1)
    far = np.iinfo("int64").min
    ends = [r.ints(np.full(len(axes), value)) for value in (-1, far)]
    return r.node("Slice", [r.real(_x(op)), *ends, r.ints(axes), r.ints(np.full(len(axes), -1))])


@raises("CUMSUM")
def cumsum(r: Raiser, op: Op) -> str:
    axis = r.const(np.int64(known(op, 1, "the axis").reshape(-1)[0]))
    flags = {"exclusive": int(op.options["exclusive"]), "reverse": int(op.options["reverse"])}
    return r.node("CumSum", [r.real(_x(op)), axis], **flags)


@raises(*_REDUCTIONS)
def reduction(r: Raiser, op: Op) -> str:
    axes = known(op, 1, "the axes").reshape(-1)
    keep = int(op.options["keepDims"])
    if not len(axes):
        return r.real(_x(op))
    if op.code == "SUM":
        return r.node("ReduceSum", [r.real(_x(op)), r.ints(axes)], keepdims=keep)
    return r.node(_REDUCTIONS[op.code], [r.real(_x(op)), r.ints(axes)], keepdims=keep)


@raises("REDUCE_ANY", "REDUCE_ALL")
def logical(r: Raiser, op: Op) -> str:
    number = r.node("Cast", [r.real(_x(op))], to=6)
    kind = "ReduceMax" if op.code == "REDUCE_ANY" else "ReduceMin"
    axes = r.ints(known(op, 1, "the axes").reshape(-1))
    return r.node("Cast", [r.node(kind, [number, axes], keepdims=int(op.options["keepDims"]))], to=9)


@raises("ARG_MAX", "ARG_MIN")
def arg(r: Raiser, op: Op) -> str:
    axis = int(known(op, 1, "the axis").reshape(-1)[0])
    x = r.real(_x(op)) if _x(op).dtype != "bool" else r.cast(r.real(_x(op)), "int32")
    found = r.node({"ARG_MAX": "ArgMax", "ARG_MIN": "ArgMin"}[op.code], [x], axis=axis, keepdims=0)
    return found if op.output.dtype == "int64" else r.node("Cast", [found], to=6)


@raises("TOPK_V2")
def top_k(r: Raiser, op: Op) -> list[str]:
    count = r.node("Reshape", [r.wide(op.inputs[1]), r.ints([1])])
    values, places = r.outputs("TopK", [r.real(_x(op)), count], 2, axis=-1)
    return [values, places if op.outputs[1].dtype == "int64" else r.node("Cast", [places], to=6)]
