"""Operations that move, pick and reduce, raised."""

from __future__ import annotations

import numpy as np

from edgekit.converters.tflite.model import Op, Tensor
from edgekit.converters.tflite.raising import Raiser, known
from edgekit.converters.tflite.table import Unlowerable, raises

__all__: list[str] = []

_INT64 = 7
_REDUCTIONS = {
    "SUM": "ReduceSum", "MEAN": "ReduceMean", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}  # fmt: skip


def _x(op: Op) -> Tensor:
    assert op.inputs[0] is not None
    return op.inputs[0]


def _wide(r: Raiser, tensor: Tensor | None) -> str:
    """Sizes, axes or places as ONNX wants them, in int64."""
    assert tensor is not None
    if tensor.data is not None:
        return r.ints(tensor.data.reshape(tensor.shape))
    return r.raw(tensor) if tensor.dtype == "int64" else r.node("Cast", [r.raw(tensor)], to=_INT64)


@raises("RESHAPE")
def reshape(r: Raiser, op: Op) -> str:
    given = op.inputs[1] if len(op.inputs) > 1 else None
    if given is not None and given.rank == 1:
        return r.node("Reshape", [r.real(_x(op)), _wide(r, given)], allowzero=1 if _has_zero(given) else None)
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
    return r.node("Expand", [r.real(op.inputs[1]), _wide(r, op.inputs[0])])


@raises("BROADCAST_TO")
def broadcast_to(r: Raiser, op: Op) -> str:
    return r.node("Expand", [r.real(_x(op)), _wide(r, op.inputs[1])])


@raises("TILE")
def tile(r: Raiser, op: Op) -> str:
    return r.node("Tile", [r.real(_x(op)), _wide(r, op.inputs[1])])


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
    return r.outputs("Split", [r.real(_x(op)), _wide(r, op.inputs[1])], len(op.outputs), axis=axis)


@raises("SLICE")
def slice_(r: Raiser, op: Op) -> str:
    """A size of -1 reaches to the end."""
    begin, size = known(op, 1, "the beginning").astype("int64"), known(op, 2, "the size").astype("int64")
    ends = np.where(size < 0, np.iinfo("int64").max, begin + size)
    return r.node("Slice", [r.real(_x(op)), r.ints(begin), r.ints(ends), r.ints(range(len(begin)))])


@raises("STRIDED_SLICE")
def strided_slice(r: Raiser, op: Op) -> str:
    """Masks say where a beginning or an end is not meant; axes shrunk to one index go afterwards."""
    options = op.options
    if options.get("ellipsisMask") or options.get("newAxisMask") or options.get("offset"):
        raise Unlowerable("an ellipsis, new axes or offsets in a slice")
    steps = known(op, 3, "the step").astype("int64")
    begin, end = (known(op, index, "where the slice begins and ends").astype("int64") for index in (1, 2))
    far = np.iinfo("int64").max
    shrunk = [axis for axis in range(len(steps)) if options["shrinkAxisMask"] >> axis & 1]
    starts, ends = [], []
    for axis, step in enumerate(steps):
        start = begin[axis] if not options["beginMask"] >> axis & 1 else (0 if step > 0 else far)
        stop = end[axis] if not options["endMask"] >> axis & 1 else (far if step > 0 else -far)
        if axis in shrunk:
            start, stop = begin[axis], begin[axis] + 1 if begin[axis] != -1 else far
        starts.append(start)
        ends.append(stop)
    axes = list(range(len(steps)))
    found = r.node("Slice", [r.real(_x(op)), r.ints(starts), r.ints(ends), r.ints(axes), r.ints(steps)])
    return r.node("Squeeze", [found, r.ints(shrunk)]) if shrunk else found


@raises("PAD", "PADV2")
def pad(r: Raiser, op: Op) -> str:
    amounts = known(op, 1, "how much is padded").astype("int64").T.reshape(-1)
    inputs = [r.real(_x(op)), r.ints(amounts)]
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


@raises("GATHER")
def gather(r: Raiser, op: Op) -> str:
    if op.options.get("batchDims"):
        raise Unlowerable("a gather of its own for each of a batch")
    return r.node("Gather", [r.real(_x(op)), r.raw(_second(op))], axis=op.options["axis"])


@raises("GATHER_ND")
def gather_nd(r: Raiser, op: Op) -> str:
    return r.node("GatherND", [r.real(_x(op)), _wide(r, op.inputs[1])])


def _second(op: Op) -> Tensor:
    assert op.inputs[1] is not None
    return op.inputs[1]


@raises("EMBEDDING_LOOKUP")
def embedding_lookup(r: Raiser, op: Op) -> str:
    return r.node("Gather", [r.real(op.inputs[1]), r.raw(_x(op))], axis=0)


@raises("ONE_HOT")
def one_hot(r: Raiser, op: Op) -> str:
    places, depth, on, off = op.inputs
    values = [r.node("Unsqueeze", [r.real(value), r.ints([0])]) for value in (off, on)]
    return r.node("OneHot", [r.real(places), _wide(r, depth), r.node("Concat", values, axis=0)], axis=op.options["axis"])


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
    found = r.node({"ARG_MAX": "ArgMax", "ARG_MIN": "ArgMin"}[op.code], [r.real(_x(op))], axis=axis, keepdims=0)
    return found if op.output.dtype == "int64" else r.node("Cast", [found], to=6)


@raises("TOPK_V2")
def top_k(r: Raiser, op: Op) -> list[str]:
    count = r.ints(known(op, 1, "how many").reshape(-1))
    values, places = r.outputs("TopK", [r.real(_x(op)), count], 2, axis=-1)
    return [values, places if op.outputs[1].dtype == "int64" else r.node("Cast", [places], to=6)]


@raises("SCATTER_ND")
def scatter_nd(r: Raiser, op: Op) -> str:
    """Rows given twice are added."""
    places, rows, size = op.inputs
    zero = r.const(np.zeros(1, op.output.dtype))
    empty = r.node("Expand", [zero, _wide(r, size)])
    return r.node("ScatterND", [empty, _wide(r, places), r.real(rows)], reduction="add")
