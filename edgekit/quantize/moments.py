"""First and second moments of what operations multiply, over calibration data: one pass, constant memory.

What is kept does not grow with the number of samples: for each operation a vector and a matrix of its sum's length.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.graph.files import save
from edgekit.graph.walking import constant, copy_of, fresh_name, int_attribute, value_names
from edgekit.quantize.rows import RECURRENT, SecondMoment, has_rows
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.converter import Feeds

__all__ = ["MAX_COLUMNS", "Moments", "gather"]

MAX_COLUMNS = 2304
"""Longer sums are taken as several of at most this length: a matrix of 2304 x 2304 floats is 21 MB."""

POSITIONS = 256
"""Of each sample as many output positions count, drawn evenly, always the same."""

_TAPPED_ELEMENTS = 32_000_000
"""An engine gives tensors of at most so many known elements at once, 128 MB."""


@dataclass(frozen=True)
class Moments:
    """What calibration data showed.

    Attributes:
        peaks: Largest magnitude of each channel by the name of the tensor that is multiplied: float32 [channels].
        means: Mean of each number that is summed by the name of the operation: float64 [groups, columns], in the order
            of `edgekit.quantize.rows.as_rows`; paddings count.
        products: Mean of each pair's product by the name of the operation; none where they were not asked for.
        samples: How many samples there were.
        states: The same as `products` of what recurrent layers remember, which their second weight multiplies.
    """

    peaks: Mapping[str, np.ndarray]
    means: Mapping[str, np.ndarray]
    products: Mapping[str, SecondMoment]
    samples: int
    states: Mapping[str, SecondMoment] = field(default_factory=dict)

    def second_of(self, node: ir.Node, place: int) -> SecondMoment | None:
        """What the input at `place` multiplies; None where nobody measured it."""
        known = self.states if node.op_type in RECURRENT and place == 2 else self.products
        return known.get(node.name or "")


def gather(
    graph: ir.Model,
    samples: Iterable[Feeds],
    wanted: Collection[str] | None = None,
    *,
    products: bool = True,
    threads: int | None = 1,
) -> Moments:
    """Moments of what the operations of a cleaned graph multiply, over all samples.

    Args:
        graph: A cleaned hub graph, as later steps see it.
        samples: Feeds, one sample at a time.
        wanted: Names of the operations; all with a constant float32 weight by default.
        products: Whether second moments are wanted too: most of the time and of the memory.
        threads: Threads the engine may use.

    Raises:
        InputError: There is no sample, one does not match the signature, or one holds or leads to NaN or infinity.
    """
    nodes = [node for node in graph.graph if has_rows(node) and (wanted is None or node.name in wanted)]
    layers = [n for n in graph.graph if products and _is_recurrent(n) and (wanted is None or n.name in wanted)]
    graph = _with_states(graph, layers) if layers else graph
    layers = [graph.graph.node(node.name or "") for node in layers]
    keys = [*map(_key, nodes), *(key for node in layers for key in _layer_keys(node))]
    sums = {key: _Sum(key, products) for key in dict.fromkeys(keys)}
    peaks: dict[str, np.ndarray] = {}
    count = 0
    with _Taps(graph, [key.tensor for key in sums], threads) as taps:
        for count, feeds in enumerate(samples, start=1):
            for name, array in taps.run(feeds):
                own = [total for key, total in sums.items() if key.tensor == name]
                peak = _peak(array, own[0].key.axis)
                if not np.isfinite(peak).all():
                    raise InputError(
                        f"calibration sample {count} makes tensor {name!r} NaN or infinite",
                        hint="check how the sample is prepared; the model itself may overflow on it",
                    )
                peaks[name] = np.maximum(peaks[name], peak) if name in peaks else peak
                for total in own:
                    total.add(array, count)
    if not count:
        raise InputError("the calibration data holds no sample", hint="give inputs the model meets in use")
    found = {key: (total.mean(), total.second()) for key, total in sums.items()}
    means = {node.name or "": found[_key(node)][0] for node in nodes}
    seconds = {node.name or "": found[_key(node)][1] for node in nodes} if products else {}
    states = {node.name or "": found[_layer_keys(node)[1]][1] for node in layers}
    for node in layers:  # every direction reads the same
        directions = len(states[node.name or ""][0])
        given = found[_layer_keys(node)[0]][1]
        seconds[node.name or ""] = tuple(np.repeat(part, directions, axis=0) for part in given)
    return Moments(peaks, means, seconds, count, states)


def _peak(array: np.ndarray, axis: int) -> np.ndarray:
    """Largest magnitude of each channel; NaN where there is one."""
    others = tuple(i for i in range(array.ndim) if i != axis % array.ndim)
    found: np.ndarray = np.maximum(array.max(axis=others, initial=0.0), -array.min(axis=others, initial=0.0))
    return found


@dataclass(frozen=True)
class _Key:
    """What decides which numbers an operation sums: operations alike in it share their moments."""

    tensor: str
    axis: int
    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] | str = ()
    directions: int = 0


def _is_recurrent(node: ir.Node) -> bool:
    """Whether the node is a recurrent layer of constant weights whose time comes first."""
    if node.op_type not in RECURRENT or node.domain != "" or int_attribute(node, "layout", 0):
        return False
    return all(constant(value) is not None for value in node.inputs[1:3])


def _with_states(graph: ir.Model, layers: Collection[ir.Node]) -> ir.Model:
    """A copy in which these layers give what they remember at every step, also where nobody reads it."""
    copied = copy_of(graph)
    taken = value_names(copied.graph)
    for layer in layers:
        state = copied.graph.node(layer.name or "").outputs[0]
        if not state.name:
            state.name = fresh_name(taken, f"{layer.name}_states")
    return copied


def _layer_keys(node: ir.Node) -> tuple[_Key, _Key]:
    """Of what a recurrent layer reads, and of what it remembers from step to step: [steps, directions, batch, size]."""
    weight = constant(node.inputs[2])
    assert weight is not None
    assert node.inputs[0] is not None
    directions = len(weight)
    state = _Key(node.outputs[0].name or "", -1, directions, directions=directions)
    return _Key(node.inputs[0].name or "", -1), state


def _key(node: ir.Node) -> _Key:
    tensor = node.inputs[0].name or "" if node.inputs[0] is not None else ""
    if node.op_type in ("MatMul", "Gemm"):
        return _Key(tensor, -1)
    groups = int_attribute(node, "group", 1)
    if node.op_type == "ConvTranspose":
        return _Key(tensor, 1, groups)
    array = constant(node.inputs[1])
    assert array is not None
    kernel = array.shape[2:]
    ones = (1,) * len(kernel)
    strides, dilations = (tuple(node.attributes.get_ints(name, ones)) for name in ("strides", "dilations"))
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    pads = (
        auto if auto in ("SAME_UPPER", "SAME_LOWER") else tuple(node.attributes.get_ints("pads", (0, 0) * len(kernel)))
    )
    return _Key(tensor, 1, groups, kernel, strides, dilations, (0, 0) * len(kernel) if auto == "VALID" else pads)


class _Sum:
    """Sums over the numbers an operation multiplies."""

    def __init__(self, key: _Key, products: bool) -> None:
        self.key = key
        self._products = products
        self._count = 0
        self._total: np.ndarray | None = None
        self._second: list[np.ndarray] = []

    def add(self, array: np.ndarray, number: int) -> None:
        found = _positions(self.key, array, number)  # [positions, groups, columns]
        self._count += len(found)
        total = found.sum(axis=0, dtype="float64")
        self._total = total if self._total is None else self._total + total
        if not self._products:
            return
        by_group = np.ascontiguousarray(found.transpose(1, 0, 2))
        parts = [by_group[..., start : start + MAX_COLUMNS] for start in range(0, by_group.shape[-1], MAX_COLUMNS)]
        seconds = [part.transpose(0, 2, 1) @ part for part in parts]
        self._second = [old + new for old, new in zip(self._second, seconds, strict=True)] if self._second else seconds

    def mean(self) -> np.ndarray:
        assert self._total is not None
        return self._total / max(self._count, 1)

    def second(self) -> SecondMoment:
        return tuple(part / np.float32(max(self._count, 1)) for part in self._second)


def _positions(key: _Key, array: np.ndarray, number: int) -> np.ndarray:
    """What some output positions of a sample are made of: float32 [positions, groups, columns]."""
    if key.directions:
        array = np.moveaxis(array, 1, 2)
        array = array.reshape(*array.shape[:2], -1)
    if not key.kernel:
        flat = np.moveaxis(array, key.axis, -1).reshape(-1, array.shape[key.axis])
        chosen = flat[_drawn(len(flat), number)]
        return chosen.reshape(len(chosen), key.groups, -1)
    spans = [(size - 1) * step + 1 for size, step in zip(key.kernel, key.dilations, strict=True)]
    padded = np.pad(array, [(0, 0), (0, 0), *_padding(key, array.shape[2:], spans)])
    axes = tuple(range(2, array.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=axes)
    steps = (*(slice(None, None, step) for step in key.strides), *(slice(None, None, step) for step in key.dilations))
    windows = np.moveaxis(windows[(slice(None), slice(None), *steps)], 1, len(axes) + 1)
    places = windows.shape[: len(axes) + 1]
    picked = windows[np.unravel_index(_drawn(int(np.prod(places)), number), places)]  # [positions, channels, *kernel]
    return picked.reshape(len(picked), key.groups, -1)


def _padding(key: _Key, sizes: tuple[int, ...], spans: list[int]) -> list[tuple[int, int]]:
    if not isinstance(key.pads, str):
        half = len(key.pads) // 2
        return list(zip(key.pads[:half], key.pads[half:], strict=True))
    found = []
    for size, span, step in zip(sizes, spans, key.strides, strict=True):
        missing = max((-(-size // step) - 1) * step + span - size, 0)
        less, more = missing // 2, missing - missing // 2
        found.append((less, more) if key.pads == "SAME_UPPER" else (more, less))
    return found


def _drawn(count: int, number: int) -> np.ndarray:
    """Which of `count` positions of the sample of that number count."""
    if count <= POSITIONS:
        return np.arange(count)
    return np.sort(np.random.default_rng(number).choice(count, POSITIONS, replace=False))


class _Taps:
    """Engines that give tensors from inside a graph, a few at a time."""

    def __init__(self, graph: ir.Model, names: Iterable[str], threads: int | None) -> None:
        self._graph, self._threads = graph, threads
        self._inputs = {value.name or "" for value in graph.graph.inputs}
        self._names = list(dict.fromkeys(names))
        self._stack = ExitStack()

    def __enter__(self) -> _Taps:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-moments-")))
            self._sessions = []
            for index, names in enumerate(_portions(self._graph, [n for n in self._names if n not in self._inputs])):
                path = folder / f"{index}.onnx"
                save(_tapped(self._graph, names), path)
                opened = RUNTIMES.get("onnx").open(path, EngineOptions(threads=self._threads))
                session = stack.enter_context(Session(opened, runtime="onnx", check_finite=True))
                self._sessions.append((session, {spec.name for spec in session.signature.inputs}))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, feeds: Feeds) -> Iterator[tuple[str, np.ndarray]]:
        for name in self._names:
            if name in self._inputs:
                yield name, np.asarray(feeds[name])
        for session, inputs in self._sessions:
            yield from session.run({name: feeds[name] for name in inputs if name in feeds}, copy=False).items()


def _portions(graph: ir.Model, names: list[str]) -> Iterator[list[str]]:
    """The names in portions of bounded size, as far as sizes are known."""
    sizes = {}
    for node in graph.graph:
        for value in node.outputs:
            dims = list(value.shape) if value.shape is not None else []
            sizes[value.name] = int(np.prod([dim for dim in dims if isinstance(dim, int)], dtype="int64"))
    portion: list[str] = []
    for name in names:
        if portion and sum(sizes[other] for other in (*portion, name)) > _TAPPED_ELEMENTS:
            yield portion
            portion = []
        portion.append(name)
    if portion:
        yield portion


def _tapped(graph: ir.Model, names: Collection[str]) -> ir.Model:
    """A copy that gives these tensors, and computes nothing else."""
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    tapped = copy_of(graph)
    values = {value.name: value for node in tapped.graph for value in node.outputs if value.name in names}
    tapped.graph.outputs.clear()
    for value in values.values():
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        tapped.graph.outputs.append(value)
    RemoveUnusedNodesPass()(tapped)
    return tapped
