"""How long each layer takes in OpenVINO, from the counters of a model compiled as in service."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from edgekit.runtime import OpPlacement
from edgekit.runtimes._openvino_graph import PRODUCTS, float_name, layer_names
from edgekit.runtimes._tflite_file import MULTIPLYING, FileOp
from edgekit.tracing import OpTime, Traced, bytes_of, midmean

__all__ = ["names_in_file", "names_in_tflite", "operation_times"]

_WARM_CALLS = 5
_TIMES = 5
_OF_SEVERAL = {
    "Subgraph",
    "MHA",
    "ScaledDotProductAttention",
    "TensorIterator",
    "Loop",
    "If",
    "QKVProjection",
    "LLMMLP",
}
"""Layers that stand for operations of all kinds, of which there is no count."""

_ROUNDING = {"FakeQuantize", "Convert", "Constant"}

_FROM_TFLITE = {
    "CONV_2D": "Convolution",
    "DEPTHWISE_CONV_2D": "GroupConvolution",
    "TRANSPOSE_CONV": "ConvolutionBackpropData",
    "FULLY_CONNECTED": "MatMul",
    "BATCH_MATMUL": "MatMul",
}

Arrays = Sequence[np.ndarray]


def operation_times(
    compiled: Callable[[], tuple[Any, Callable[[Arrays], object], Callable[[], Iterable[Any]]]],
    placed: Callable[[Any], Iterable[tuple[Any, OpPlacement]]],
    sized: Iterable[tuple[Any, OpPlacement]],
    names: Mapping[str, tuple[str, bool]],
    feeds: Sequence[Arrays],
    calls: int,
) -> Traced:
    """Times about `calls` calls on `feeds` in turns.

    The engine gives the mean of all calls so far, in whole microseconds; that of the calls behind the warm-up is the
    difference of two such. As one call that was interrupted spoils a mean, the model is compiled several times, and of
    the means of each the median is taken.

    Args:
        compiled: Compiles it to count: the model, what makes one call, and the account of all calls so far.
        placed: The layers of a compiled model, each with what it computes in.
        sized: Those of the model for the sizes of the feeds, where it leaves any open.
        names: As `names_in_file` gives them, of every model that is compiled, by the end.
        feeds: What is run.
        calls: How many calls are timed.
    """
    took: list[float] = []
    means: list[list[float]] = []
    each, first = -(-calls // _TIMES), None
    for _ in range(_TIMES):
        model, run, counters = compiled()
        mean = _mean_us(run, counters, feeds, each, took)
        means.append([mean.get(name, 0.0) for name in layer_names(model)])
        first = first or model
    known = {layer.get_friendly_name(): (layer, cost) for layer, cost in placed(first)}
    for layer, cost in sized:  # where it is fused in another way, its shapes say nothing
        name = layer.get_friendly_name()
        if name in known and known[name][1].type == cost.type:
            known[name] = layer, cost
    alike = [mean for mean in means if len(mean) == len(means[0])]  # in the same order, under names made up anew
    medians = np.median(alike, axis=0).round(3).tolist()
    ops = tuple(_op_time(*known[name], names, us) for name, us in zip(layer_names(first), medians, strict=True))
    said = f"median of {len(alike)} means"
    return Traced(ops, "OpenVINO's performance counters", said, len(alike) * each, round(midmean(took), 3))


def _mean_us(
    run: Callable[[Arrays], object],
    counters: Callable[[], Iterable[Any]],
    feeds: Sequence[Arrays],
    calls: int,
    took: list[float],
) -> dict[str, float]:
    """What each layer takes in a call on the mean, by its name; what each call took is put into `took`."""
    for turn in range(_WARM_CALLS):
        run(feeds[turn % len(feeds)])
    before = {info.node_name: _total_us(info, _WARM_CALLS) for info in counters()}
    for turn in range(calls):
        start = time.perf_counter_ns()
        run(feeds[turn % len(feeds)])
        took.append((time.perf_counter_ns() - start) / 1000)
    after = {info.node_name: _total_us(info, _WARM_CALLS + calls) for info in counters()}
    return {name: max(0.0, total - before.get(name, 0.0)) / calls for name, total in after.items()}


def _total_us(info: Any, calls: int) -> float:
    """What a layer has taken in all calls so far."""
    return float(info.real_time.total_seconds()) * 1e6 * calls


def _op_time(layer: Any, placed: OpPlacement, names: Mapping[str, tuple[str, bool]], took_us: float) -> OpTime:
    said = layer.get_rt_info()
    parts = said["originalLayersNames"].astype(str).split(",") if "originalLayersNames" in said else []
    found = [names[part] for part in parts if part in names]
    sources = [value for value, is_rounding in found if not is_rounding] or [value for value, _ in found]
    is_open = placed.macs is None and placed.type in (*PRODUCTS, *_OF_SEVERAL)
    # An input that is left out has the type "dynamic" and no elements.
    tensors = [tensor for port in (*layer.inputs(), *layer.outputs()) if 0 not in (tensor := _tensor(port))[1]]
    precision = placed.precision
    if placed.type in _OF_SEVERAL and layer.outputs():  # what the engine says there is the narrowest type in sight
        precision = float_name(_tensor(layer.outputs()[0])[0]) or precision
    macs = None if is_open else placed.macs or 0
    return OpTime(
        layer.get_friendly_name(),
        placed.type,
        precision,
        took_us,
        macs,
        bytes_of(tensors),
        tuple(dict.fromkeys(sources)),
    )


def _tensor(port: Any) -> tuple[str, list[int]]:
    shape = port.get_partial_shape()
    sizes = [-1] if shape.rank.is_dynamic else [-1 if d.is_dynamic else d.get_length() for d in shape]
    return port.get_element_type().to_string(), sizes


def names_in_file(model: Any) -> dict[str, tuple[str, bool]]:
    """For each operation's name the one it has in other forms of the model, which is that of the value it gives.

    And whether all it does is to round.
    """
    found = {}
    for op in model.get_ordered_ops():
        values = sorted((n for port in op.outputs() for n in port.get_names()), key=lambda n: (len(n), n))
        name = op.get_friendly_name()
        found[name] = (values[0] if values else name, op.get_type_name() in _ROUNDING)
    return found


def names_in_tflite(model: Any, file_ops: Sequence[FileOp]) -> dict[str, tuple[str, bool]]:
    """The same of a .tflite file, most of whose names OpenVINO drops: those it keeps, and those of products.

    It numbers operations as it makes them, in the order of the file, so products of the same kinds that give as many
    numbers in that order are those of the file; where they are not, none is named.
    """
    named = {op.get_friendly_name() for op in model.get_ordered_ops() if any(port.get_names() for port in op.outputs())}
    found = {name: said for name, said in names_in_file(model).items() if name in named}
    kept = {value for value, _ in found.values()}
    wanted = [op for op in file_ops if op.placed.type in MULTIPLYING and op.placed.name not in kept]
    made = [op for op in model.get_ordered_ops() if op.get_type_name() in _FROM_TFLITE.values()]
    made = [op for op in made if op.get_friendly_name() not in named and not _is_named_behind(op, named)]
    made.sort(key=lambda op: int(re.sub(r"\D", "", op.get_friendly_name()) or 0))
    said = [(_FROM_TFLITE.get(op.placed.type), prod(op.tensors[-1][1])) for op in wanted]
    if [(op.get_type_name(), prod(_tensor(op.outputs()[0])[1])) for op in made] == said:
        pairs = zip(made, wanted, strict=True)
        found |= {op.get_friendly_name(): (known.placed.name, False) for op, known in pairs}
    return found


def _is_named_behind(op: Any, named: Container[str]) -> bool:
    """Whether the sum with its bias, or the activation on that, has a name: the file's operation has it."""
    while op.get_friendly_name() not in named:
        behind = [port.get_node() for port in op.outputs()[0].get_target_inputs()]
        if len(behind) != 1 or behind[0].get_type_name() not in ("Add", "Relu", "Clamp", "Transpose", "Reshape"):
            return False
        op = behind[0]
    return True
