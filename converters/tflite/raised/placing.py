"""Operations that write by position, find positions, and pick among many, raised.

Places are taken to be within bounds and not negative: what TFLite's kernels skip, ONNX refuses or counts from the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from edgekit.converters.tflite.model import Graph, Op, Tensor
from edgekit.converters.tflite.raising import Raiser, known
from edgekit.converters.tflite.table import Unlowerable, raises

__all__: list[str] = []

_COMBINING = {"STABLEHLO_ADD": "add", "STABLEHLO_MULTIPLY": "mul", "STABLEHLO_MAXIMUM": "max",
              "STABLEHLO_MINIMUM": "min"}  # fmt: skip
_SEGMENTS = {"UNSORTED_SEGMENT_SUM": "add", "UNSORTED_SEGMENT_PROD": "mul", "UNSORTED_SEGMENT_MAX": "max",
             "UNSORTED_SEGMENT_MIN": "min"}  # fmt: skip
_FOUND = {"float32", "bool", "uint8", "int32", "int64"}
"""Types in which ONNX Runtime finds what is not zero."""


def _input(op: Op, index: int) -> Tensor:
    found = op.inputs[index]
    assert found is not None
    return found


def _narrow(r: Raiser, name: str, tensor: Tensor) -> str:
    """What ONNX gives in int64 in the dtype of `tensor`."""
    return name if tensor.dtype == "int64" else r.cast(name, tensor.dtype)


@raises("SCATTER_ND")
def scatter_nd(r: Raiser, op: Op) -> str:
    """Rows given twice are added."""
    places, rows, size = (_input(op, index) for index in range(3))
    empty = r.node("Expand", [r.const(np.zeros(1, op.output.dtype)), r.wide(size)])
    return r.node("ScatterND", [empty, r.wide(places), r.real(rows)], reduction="add")


@raises("STABLEHLO_SCATTER")
def scatter(r: Raiser, op: Op) -> str:
    """Of the form ONNX has: places in the first axes, whole rows of the others."""
    x, places, updates = (_input(op, index) for index in range(3))
    depth, rows = places.shape[-1], places.rank - 1
    form = {
        "updateWindowDims": list(range(rows, rows + x.rank - depth)),
        "insertedWindowDims": list(range(depth)),
        "scatterDimsToOperandDims": list(range(depth)),
        "indexVectorDim": rows,
    }
    if any((op.options.get(key) or 0) != (value or 0) for key, value in form.items()):
        raise Unlowerable("windows that are no rows")
    reduction = _combined(op.options["updateComputationSubgraphIndex"])
    return r.node("ScatterND", [r.real(x), r.wide(places), r.real(updates)], reduction=reduction)


def _combined(body: Graph) -> str:
    """ONNX's name of what a body makes of what is there and what comes."""
    if not body.ops and body.outputs == body.inputs[1:]:
        return "none"
    if len(body.ops) == 1 and body.outputs == body.ops[0].outputs and set(body.ops[0].inputs) == set(body.inputs):
        found = _COMBINING.get(body.ops[0].code)
        if found is not None:
            return found
    raise Unlowerable("a scatter that computes something else than a sum, product, largest or smallest")


@raises("DYNAMIC_UPDATE_SLICE")
def update_slice(r: Raiser, op: Op) -> str:
    """The beginning is moved until the block fits."""
    x, block, begin = (_input(op, index) for index in range(3))
    if min(*x.shape, *block.shape, 0) < 0:
        raise Unlowerable("a block of a size only known when the model runs")
    room = np.asarray(x.shape, "int64") - block.shape
    cut = [axis for axis in range(x.rank) if room[axis]]
    if not cut:
        return r.node("Identity", [r.real(block)])
    depth = cut[-1] + 1
    places = np.moveaxis(np.indices(block.shape[:depth], "int64"), 0, -1)
    if begin.data is not None:
        first = np.clip(begin.data.astype("int64"), 0, room)[:depth]
        return r.node("ScatterND", [r.real(x), r.const(places + first), r.real(block)])
    least = r.node("Max", [r.wide(begin), r.ints([0])])
    fitting = r.node("Slice", [r.node("Min", [least, r.ints(room)]), r.ints([0]), r.ints([depth])])
    return r.node("ScatterND", [r.real(x), r.node("Add", [r.const(places), fitting]), r.real(block)])


@raises(*_SEGMENTS)
def segments(r: Raiser, op: Op) -> str:
    """Groups that nobody is in keep what combines to nothing."""
    x, groups = _input(op, 0), _input(op, 1)
    limits = np.finfo(x.dtype) if x.dtype == "float32" else np.iinfo(x.dtype)
    reduction = _SEGMENTS[op.code]
    begin = {"add": 0, "mul": 1, "max": limits.min, "min": limits.max}[reduction]
    sizes = [r.node("Reshape", [r.wide(_input(op, 2)), r.ints([1])])]
    if x.rank > groups.rank:
        sizes.append(r.node("Shape", [r.real(x)], start=groups.rank))
    size = sizes[0] if len(sizes) == 1 else r.node("Concat", sizes, axis=0)
    empty = r.node("Expand", [r.const(np.full(1, begin, x.dtype)), size])
    places = r.node("Unsqueeze", [r.wide(groups), r.ints([-1])])
    return r.node("ScatterND", [empty, places, r.real(x)], reduction=reduction)


@raises("WHERE")
def where(r: Raiser, op: Op) -> str:
    x = _input(op, 0)
    given = r.real(x) if x.dtype in _FOUND else r.cast(r.real(x), "bool")
    return r.transpose(r.node("NonZero", [given]), [1, 0])


@raises("UNIQUE")
def unique(r: Raiser, op: Op) -> list[str]:
    x = _input(op, 0)
    is_known = x.dtype in ("float32", "int8", "int64")
    given = r.real(x) if is_known else r.cast(r.real(x), "int64")
    found, _, back, _ = r.outputs("Unique", [given], 4, sorted=0)
    return [found if is_known else r.cast(found, x.dtype), _narrow(r, back, op.outputs[1])]


@raises("REVERSE_SEQUENCE")
def reverse_sequence(r: Raiser, op: Op) -> str:
    time, batch = op.options["seqDim"], op.options["batchDim"]
    if sorted((time, batch)) != [0, 1]:
        raise Unlowerable("sequences that do not run along the first two axes")
    return r.node("ReverseSequence", [r.real(_input(op, 0)), r.wide(_input(op, 1))], time_axis=time, batch_axis=batch)


@raises("ONE_HOT")
def one_hot(r: Raiser, op: Op) -> str:
    """By comparing: a place out of bounds is nowhere, where ONNX's OneHot counts negative ones from the end."""
    places, depth = _input(op, 0), int(known(op, 1, "the depth").reshape(-1)[0])
    axis = op.options["axis"] % op.output.rank
    numbers = np.arange(depth).reshape([-1 if i == axis else 1 for i in range(op.output.rank)])
    apart = r.node("Unsqueeze", [r.real(places), r.ints([axis])])
    is_there = r.node("Equal", [apart, r.const(numbers, dtype=places.dtype)])
    on, off = (r.real(tensor) for tensor in op.inputs[2:4])
    if op.output.dtype != "bool":
        return r.node("Where", [is_there, on, off])
    return r.node("Or", [r.node("And", [is_there, on]), r.node("And", [r.node("Not", [is_there]), off])])


@raises("NON_MAX_SUPPRESSION_V4")
def suppression(r: Raiser, op: Op) -> list[str]:
    """TFLite suppresses at the threshold, ONNX only beyond; the places are filled up with zeros."""
    boxes, scores = (r.node("Unsqueeze", [r.real(tensor), r.ints(axes)]) for tensor, axes in
                     zip(op.inputs[:2], ([0], [0, 1]), strict=True))  # fmt: skip
    overlap = np.float32(known(op, 3, "the overlap").reshape(-1)[0])
    if not 0 < overlap <= 1:
        raise Unlowerable(f"an overlap of {overlap}")
    most = int(known(op, 2, "how many").reshape(-1)[0])
    limits = [r.ints([most]), r.const(np.nextafter(overlap, np.float32(0)).reshape(1))]
    least = r.node("Reshape", [r.real(op.inputs[4]), r.ints([1])])
    rows = r.node("NonMaxSuppression", [boxes, scores, *limits, least])
    picked = r.node("Gather", [rows, r.const(np.int64(2))], axis=1)
    filled = r.node("Concat", [picked, r.ints([0] * most)], axis=0)
    places = r.node("Slice", [filled, r.ints([0]), r.ints([most])])
    count = r.node("Reshape", [r.node("Shape", [picked]), r.ints([])])
    return [_narrow(r, places, op.outputs[0]), _narrow(r, count, op.outputs[1])]


@raises("GATHER")
def gather(r: Raiser, op: Op) -> str:
    x, places = _input(op, 0), _input(op, 1)
    axis, shared = op.options["axis"] % x.rank, op.options.get("batchDims") or 0
    if not shared:
        return r.node("Gather", [r.real(x), r.raw(places)], axis=axis)
    # Behind the batch ONNX picks along the next axis only: the axis goes there, and the picked ones back.
    shared += places.rank if shared < 0 else 0
    order = [*range(shared), axis, *(i for i in range(shared, x.rank) if i != axis)]
    own = r.node("Unsqueeze", [r.wide(places), r.ints([-1])])
    found = r.node("GatherND", [r.transpose(r.real(x), order), own], batch_dims=shared)
    return r.transpose(found, _moved(shared, places.rank - shared, axis - shared, x.rank - axis - 1))


def _moved(*counts: int) -> Sequence[int]:
    """Axes in four runs, the second and the third of which change places."""
    starts = np.cumsum([0, *counts])
    first, second, third, fourth = (list(range(a, b)) for a, b in itertools.pairwise(starts))
    return [*first, *third, *second, *fourth]


@raises("BROADCAST_ARGS")
def broadcast_args(r: Raiser, op: Op) -> str:
    """The shape two shapes broadcast to: of two sizes the other where one is 1."""
    rank = op.output.shape[0]
    sides = []
    for index in (0, 1):
        missing = rank - _input(op, index).shape[0]
        ones = r.const(np.ones(missing, _input(op, index).dtype)) if missing else ""
        own = r.raw(_input(op, index))
        sides.append(r.node("Concat", [ones, own], axis=0) if missing else own)
    one = r.const(np.ones(1, op.output.dtype))
    return r.node("Where", [r.node("Equal", [sides[0], one]), sides[1], sides[0]])
