"""How long each operation takes in TensorFlow Lite, from LiteRT's profiler, and which of the file's each one is."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.runtimes._litert import Event, ProfiledModel
from edgekit.runtimes._tflite_file import CALLING, MULTIPLYING, FileOp
from edgekit.tracing import OpTime, Traced, bytes_of, midmean

__all__ = ["align", "operation_times", "partitions", "sizes_of"]

_WARM_CALLS = 5

_SAME = {
    "Sigmoid": {"LOGISTIC"},
    "Reciprocal Square Root": {"RSQRT"},
    "Square Root": {"SQRT"},
    "Squared Difference": {"SQUARED_DIFFERENCE"},
    "Batch Matrix Multiply": {"BATCH_MATMUL"},
    "Convert": {"QUANTIZE", "DEQUANTIZE", "CAST"},
    "Constant Pad": {"PAD", "PADV2"},
    "Clamp": {"RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"},
    "Copy": {"RESHAPE", "CONCATENATION", "SPLIT", "EXPAND_DIMS", "SQUEEZE"},
    "Static Reshape": {"RESHAPE", "EXPAND_DIMS", "SQUEEZE"},
    "Static Expand Dims": {"EXPAND_DIMS"},
    "Slice": {"SLICE", "STRIDED_SLICE"},
    "Average Pooling": {"AVERAGE_POOL_2D"},
    "Global Average Pooling": {"MEAN", "AVERAGE_POOL_2D"},
    "Max Pooling": {"MAX_POOL_2D"},
    "Resize Bilinear": {"RESIZE_BILINEAR"},
    "Static Mean": {"MEAN"},
}
"""What XNNPACK, the delegate, calls operations of the file; of others the first three letters agree."""

_PRODUCTS = {
    "Convolution": {"CONV_2D", "DEPTHWISE_CONV_2D"},
    "Fully Connected": {"FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL"},
    "Dynamic Fully Connected": {"FULLY_CONNECTED", "BATCH_MATMUL"},
    "Deconvolution": {"TRANSPOSE_CONV", "Convolution2DTransposeBias"},
    "Subconvolution": {"TRANSPOSE_CONV", "Convolution2DTransposeBias"},
    "Batch Matrix Multiply": {"BATCH_MATMUL"},
}
_PRECISIONS = (("QC8", "int8"), ("QS8", "int8"), ("QU8", "int8"), ("QD8", "int8"), ("QC4", "int8"), ("F16", "fp16"))

_SURE = 1000
"""A product is worth more than all else together in the search for what goes with what."""

_Place = tuple[int, int]
"""Of an operation that ran: its delegate's turn, or -1, and its number."""


class _Parts(NamedTuple):
    """Operations of the file, and whether what ran is the first of them, or only done beside it."""

    numbers: tuple[int, ...] = ()
    is_itself: bool = True


def operation_times(
    model: ProfiledModel,
    file_ops: Sequence[FileOp],
    delegated: Sequence[Sequence[int]],
    feeds: Sequence[Sequence[np.ndarray]],
    calls: int,
) -> Traced:
    """Times `calls` calls on `feeds` in turns.

    Args:
        model: As in service, but for the profiler.
        file_ops: What the file says.
        delegated: As `partitions` gives them.
        feeds: What is run.
        calls: How many calls are timed.
    """
    for turn in range(_WARM_CALLS):
        model.profiled(feeds[turn % len(feeds)])
    times: dict[_Place, list[float]] = {}
    tags: dict[_Place, str] = {}
    took = []
    for turn in range(calls):
        start = time.perf_counter_ns()
        events = model.profiled(feeds[turn % len(feeds)])
        took.append((time.perf_counter_ns() - start) / 1000)
        for place, event in _placed(events):
            times.setdefault(place, [0.0] * calls)[turn] += event.time_us
            tags[place] = event.tag
    sources = _sources(tags, file_ops, delegated)
    ops = [_op_time(tags[p], round(midmean(times[p]), 3), sources.get(p, _Parts()), file_ops) for p in times]
    return Traced(tuple(ops), "LiteRT's profiler", "midmean", calls, round(midmean(took), 3))


def _placed(events: Sequence[Event]) -> list[tuple[_Place, Event]]:
    """Each event with its place. Those of one delegate follow one another, numbered from 0."""
    found, turn = [], -1
    for event in events:
        turn += event.is_delegate and event.number == 0
        found.append(((turn if event.is_delegate else -1, event.number), event))
    return found


def partitions(interpreter: Any, file_ops: Sequence[FileOp]) -> list[list[int]]:
    """For each delegate of an interpreter, in the order they run in, the operations of the file it took over.

    Args:
        interpreter: The wrapped object of an interpreter that has its memory.
        file_ops: What the file says.
    """
    makers = {value: number for number, op in enumerate(file_ops) for value in op.outputs}
    found = []
    for node in range(len(file_ops), interpreter.NumNodes()):
        given = {int(value) for value in interpreter.NodeInputs(node)}
        waiting, inside = [int(value) for value in interpreter.NodeOutputs(node)], set[int]()
        while waiting:
            value = waiting.pop()
            if value not in given and (number := makers.get(value)) is not None and number not in inside:
                inside.add(number)
                waiting.extend(file_ops[number].inputs)
        found.append(sorted(inside))
    return found


Sizes = dict[int, list[int]]


def sizes_of(plain: Any, shapes: Sequence[Sequence[int]]) -> tuple[Sizes, Sizes, Sizes]:
    """Shapes by the numbers of tensors: of inputs, of outputs, and, where sizes are open, of all.

    Args:
        plain: An interpreter without delegates, which do not say the shapes of what is inside them.
        shapes: What its inputs have, in their order.

    Raises:
        UnsupportedError: Sizes of an output depend on the data.
    """
    details = plain.get_input_details()
    is_open = any(-1 in detail["shape_signature"] for detail in details)
    for detail, shape in zip(details, shapes, strict=True):
        if is_open:
            plain.resize_tensor_input(detail["index"], shape)
    plain.allocate_tensors()
    for detail in plain.get_output_details():
        if -1 in detail["shape_signature"] and not _has_memory(plain, detail["index"]):
            raise UnsupportedError(
                "LiteRT's profiler fails on sizes that depend on the data", offenders=[detail["name"]]
            )

    raw = plain._interpreter  # only now: holding it forbids all of the above

    every = [detail["index"] for detail in plain.get_tensor_details()]

    def sizes(numbers: Iterable[int]) -> Sizes:
        return {int(number): [int(size) for size in raw.TensorSize(number, 0)] for number in numbers}

    return sizes(raw.InputIndices()), sizes(raw.OutputIndices()), sizes(every if is_open else ())


def _has_memory(plain: Any, number: int) -> bool:
    try:
        plain.tensor(number)()
    except ValueError:  # it is given when the operation before has run
        return False
    return True


def _sources(
    tags: Mapping[_Place, str], file_ops: Sequence[FileOp], delegated: Sequence[Sequence[int]]
) -> dict[_Place, _Parts]:
    """The operations of the file each stands for, the one it is named after first; none of a delegate in doubt."""
    found: dict[_Place, _Parts] = {place: _Parts((place[1],)) for place in tags if place[0] < 0}
    if 1 + max((turn for turn, _ in tags), default=-1) != len(delegated):
        return found  # the interpreter and the profiled model share the work out in other ways
    for turn, members in enumerate(delegated):
        places = [place for place in tags if place[0] == turn]
        kinds = [file_ops[number].placed.type for number in members]
        matches = align([tags[place] for place in places], kinds)
        taken = {kinds[match] for match in matches if match is not None and kinds[match] in MULTIPLYING}
        is_sure = sum(k in MULTIPLYING for k in kinds) == sum(
            match is not None and kinds[match] in MULTIPLYING for match in matches
        ) and not any(match is None and _product(tags[place]) for place, match in zip(places, matches, strict=True))
        if is_sure or not taken:
            found |= _with_neighbors(places, matches, members, kinds, tags)
    return found


def _with_neighbors(
    places: Sequence[_Place],
    matches: Sequence[int | None],
    members: Sequence[int],
    kinds: Sequence[str],
    tags: Mapping[_Place, str],
) -> dict[_Place, _Parts]:
    """What matched, with what went into it: padding in front of a product, rounding before, an activation behind."""
    found: dict[_Place, _Parts] = {}
    done = set(matches)
    for index, (place, match) in enumerate(zip(places, matches, strict=True)):
        word, beside = _word(tags[place]), match
        if match is None and word in ("Clamp", "Convert"):
            others = reversed(matches[:index]) if word == "Clamp" else matches[index:]
            beside = next((other for other in others if other is not None), None)
        if beside is not None:
            is_padded = beside > 0 and beside - 1 not in done and kinds[beside - 1] in ("PAD", "PADV2")
            numbers = (members[beside], *([members[beside - 1]] if is_padded else []))
            found[place] = _Parts(numbers, match is not None)
    return found


def align(tags: Sequence[str], kinds: Sequence[str]) -> list[int | None]:
    """For each of a delegate's operations, as it calls them, which of the file's it is, both in order; None for none.

    The longest common subsequence (Wagner and Fischer, "The String-to-String Correction Problem", 1974) of what can be
    the same, products before all else.
    """
    best = np.zeros((len(tags) + 1, len(kinds) + 1), "int64")
    worth = {tag: {kind: _worth(tag, kind) for kind in set(kinds)} for tag in set(tags)}
    for i in range(len(tags) - 1, -1, -1):
        row, below = best[i].tolist(), best[i + 1].tolist()
        for j in range(len(kinds) - 1, -1, -1):
            value = worth[tags[i]][kinds[j]]
            row[j] = max(below[j], row[j + 1], below[j + 1] + value if value else 0)
        best[i] = row
    found: list[int | None] = []
    j = 0
    for i, tag in enumerate(tags):
        while j < len(kinds) and best[i, j] == best[i, j + 1]:
            j += 1
        value = worth[tag].get(kinds[j], 0) if j < len(kinds) else 0
        is_match = value > 0 and best[i, j] == best[i + 1, j + 1] + value
        found.append(j if is_match else None)
        j += is_match
    return found


def _word(tag: str) -> str:
    """``"Fully Connected"`` of ``"Fully Connected (NC, F32) GEMM"``."""
    return tag.partition(" (")[0]


def _product(tag: str) -> set[str]:
    return _PRODUCTS.get(_word(tag), set())


def _worth(tag: str, kind: str) -> int:
    if kind in _product(tag):
        return _SURE
    if kind in MULTIPLYING or _product(tag):
        return 0
    word = _word(tag)
    letters = re.sub(r"[^A-Z]", "", word.upper())[:3]
    return int(kind in _SAME[word] if word in _SAME else kind.replace("_", "").startswith(letters))


def _op_time(tag: str, took_us: float, parts: _Parts, file_ops: Sequence[FileOp]) -> OpTime:
    if not parts.numbers:
        said = next((name for letters, name in _PRECISIONS if letters in tag), "fp32" if "F32" in tag else "")
        return OpTime(tag, tag, said, took_us, None if _product(tag) else 0)
    placed, tensors = file_ops[parts.numbers[0]][:2]
    sources = tuple(file_ops[number].placed.name for number in parts.numbers)
    if not parts.is_itself:
        return OpTime(placed.name, tag, placed.precision, took_us, 0, None, sources)
    macs = placed.macs if placed.type in (*MULTIPLYING, *CALLING) else 0
    return OpTime(placed.name, tag, placed.precision, took_us, macs, bytes_of(tensors), sources)
