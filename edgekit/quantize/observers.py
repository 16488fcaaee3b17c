"""Statistics of a graph's tensors on calibration data: one pass over the samples, constant memory, any number of plans.

The graph is given more outputs for each tensor, its smallest and its largest element and their sum, and for histograms
some of its elements; an engine runs it. So what is seen is what the engine computes, no tensor leaves the engine whole,
and nothing is kept of a sample but a few numbers per tensor.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from itertools import islice
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit import __version__
from edgekit.errors import InputError, UnsupportedError
from edgekit.graph.files import save
from edgekit.graph.shapes import signature
from edgekit.graph.walking import copy_of, dtype_name
from edgekit.quantize.histograms import SOLVERS, Histogram, Range
from edgekit.registry import RUNTIMES, installed
from edgekit.runtime import EngineOptions, Session

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.converter import Feeds
    from edgekit.quantize.checkpoints import Checkpoint

__all__ = ["OBSERVERS", "Range", "Seen", "Statistics", "observe"]

OBSERVERS = ("min-max", "moving-average", *SOLVERS)
"""How a range is estimated: from the true extremes; from the mean of each sample's extremes, which soon follows the
latest samples; or from histograms, by leaving out 0.01 % at each end, by least loss of information or by least squared
error."""

MAX_COUNTED = 16_384
"""A histogram counts all elements of a tensor up to this size. Of a larger one it counts in each sample no more than
this many, every n-th, where n is a prime that does not divide the size: so none of its axes is seen in part only."""

_FORGETTING = 0.01
"""The weight of a new sample in a moving average, once so many came before that a plain mean gives each less."""

_LOW, _HIGH, _SUM, _PART = "edgekit_min/", "edgekit_max/", "edgekit_sum/", "edgekit_part/"
_FAR = 2**62


@dataclass(frozen=True)
class Seen:
    """What one tensor showed.

    Attributes:
        extremes: The smallest and the largest element of all samples.
        average: Moving averages of each sample's smallest and largest element.
        histogram: Of its elements, where asked for.
    """

    extremes: Range
    average: Range
    histogram: Histogram | None = None


@dataclass(frozen=True)
class Statistics:
    """What calibration data showed of a graph's tensors.

    Attributes:
        ranges: By tensor name, as the observer estimates them for 8 bits.
        samples: How many samples there were.
        observer: One of `OBSERVERS`.
        seen: By tensor name, all that the ranges of any observer follow from.
    """

    ranges: Mapping[str, Range]
    samples: int
    observer: str = "min-max"
    seen: Mapping[str, Seen] = field(default_factory=dict, repr=False)

    def ranges_by(self, observer: str, *, levels: int = 256, symmetric: bool = False) -> dict[str, Range]:
        """The range of every tensor as `observer` estimates it; see `range_of`."""
        return {name: self.range_of([name], observer, levels=levels, symmetric=symmetric) for name in self.ranges}

    def range_of(self, names: Collection[str], observer: str, *, levels: int = 256, symmetric: bool = False) -> Range:
        """One range for tensors that share their parameters.

        Args:
            names: At least one tensor of `ranges`.
            observer: One of `OBSERVERS`. Those of histograms need an observation that was made for one of them, and
                answer from one histogram of all the tensors.
            levels: How many integers there are, 256 for 8 bits.
            symmetric: The integers lie evenly around 0, so that only the end farther from 0 matters.

        Raises:
            UnsupportedError: There is no such observer.
            InputError: What it needs was not gathered.
        """
        _require_known(observer)
        if observer == self.observer and not self.seen:
            return reduce(or_, (self.ranges[name] for name in names))
        if not self.seen or (observer in SOLVERS and self.observer not in SOLVERS):
            raise InputError(
                f"statistics gathered for {self.observer!r} cannot answer {observer!r}",
                hint=f"observe with observer={observer!r}",
            )
        seen = [self.seen[name] for name in names]
        if observer == "moving-average":
            return reduce(or_, (one.average for one in seen))
        extremes = reduce(or_, (one.extremes for one in seen))
        if observer == "min-max":
            return extremes
        histogram = reduce(or_, (one.histogram for one in seen if one.histogram is not None))
        return SOLVERS[observer](histogram, extremes, levels, symmetric)


def observe(
    graph: ir.Model,
    calibration: Iterable[Feeds],
    *,
    wanted: Collection[str] | None = None,
    threads: int | None = 1,
    observer: str = "min-max",
    checkpoint: Checkpoint | None = None,
) -> Statistics:
    """Ranges of the float32 tensors of a cleaned graph over all samples.

    Args:
        graph: A cleaned hub graph.
        calibration: Feeds, one sample at a time; gone through once.
        wanted: Names of the tensors to observe; all by default.
        threads: Threads the engine may use.
        observer: One of `OBSERVERS`, for `Statistics.ranges`. ``min-max`` and ``moving-average`` are gathered always;
            any of the others gathers histograms, which answer for all.
        checkpoint: Where the state is kept in between. What an observation of the same graph, observer and data had
            gathered there is not gathered again, and gives the same ranges to the last bit.

    Raises:
        UnsupportedError: There is no such observer.
        InputError: There is no sample; one does not match the signature, or holds or leads to NaN or infinity; or the
            float inputs never vary, so that nothing can be learned from them.
    """
    _require_known(observer)
    names = [name for name in _observable(graph) if wanted is None or name in wanted]
    gathering = _Gathering(names, with_histograms=observer in SOLVERS)
    with tempfile.TemporaryDirectory(prefix="edgekit-observe-") as folder:
        path = Path(folder) / "observed.onnx"
        files = save(_instrumented(graph, names, with_parts=observer in SOLVERS), path)
        if checkpoint is not None:
            checkpoint.open(files, names, observer in SOLVERS, threads, __version__, installed("onnxruntime"))
            gathering.go_on(checkpoint)
        options = EngineOptions(threads=threads)
        with Session(RUNTIMES.get("onnx").open(path, options), runtime="onnx") as session:
            done = gathering.samples
            for number, feeds in enumerate(islice(calibration, done, None), start=done + 1):
                gathering.add(_run(session, feeds, number))
                if checkpoint is not None:
                    checkpoint.keep(gathering.state)
    if checkpoint is not None:
        checkpoint.remove()
    if not gathering.samples:
        raise InputError("the calibration data holds no sample", hint="give inputs the model meets in use")
    seen = gathering.seen()
    _require_variety(graph, seen)
    statistics = Statistics({name: one.extremes for name, one in seen.items()}, gathering.samples, observer, seen)
    return replace(statistics, ranges=statistics.ranges_by(observer))


def _require_known(observer: str) -> None:
    if observer not in OBSERVERS:
        raise UnsupportedError(f"there is no observer {observer!r}", hint=f"known: {', '.join(OBSERVERS)}")


def _observable(graph: ir.Model) -> list[str]:
    """Float tensors of the outer graph that somebody reads."""
    inputs = [value for value in graph.graph.inputs if value.const_value is None]
    results = [value for node in graph.graph for value in node.outputs if value.uses() or value.is_graph_output()]
    return [value.name for value in (*inputs, *results) if value.name and dtype_name(value) == "float32"]


def _instrumented(graph: ir.Model, names: Collection[str], *, with_parts: bool) -> ir.Model:
    """A copy that gives for each tensor its extremes and sum, and with `with_parts` some of its elements."""
    observed = copy_of(graph)
    values = {value.name: value for value in observed.graph.inputs}
    values |= {value.name: value for node in observed.graph for value in node.outputs}
    more = _MoreOutputs(observed.graph)
    # ONNX Runtime goes back from the nodes nobody reads, the last one first. So those of the earliest tensors stand
    # last: then each is computed as soon as its tensor is there, and the tensor can go. That saves a third of the time.
    for name in reversed(list(names)):
        for op_type, prefix in (("ReduceMin", _LOW), ("ReduceMax", _HIGH), ("ReduceSum", _SUM)):
            more.give(prefix + name, op_type, [values[name]], keepdims=0)
        if with_parts:
            more.give_part(_PART + name, values[name])
    return observed


class _MoreOutputs:
    """Nodes at the end of a graph, for outputs of our own."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph

    def give(self, name: str, op_type: str, inputs: Sequence[ir.Value], *, rank: int = 0, **attributes: int) -> None:
        """Adds an operation that makes the float32 output `name`."""
        import onnx_ir as ir

        value = self._add(op_type, inputs, name, **attributes)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape([None] * rank)
        self._graph.outputs.append(value)

    def give_part(self, name: str, value: ir.Value) -> None:
        """Adds the output `name`, the elements of `value` that are to be counted; see `MAX_COUNTED`."""
        strides, bool_type, int_type = _strides(), 9, 6
        size = self._add("Size", [value], f"{name}/size")
        reaches = self._constant("reaches", [MAX_COUNTED * stride for stride in strides])
        is_enough = self._add("GreaterOrEqual", [reaches, size], f"{name}/enough")
        divisors = self._constant("divisors", [_FAR, *strides[1:]])  # a stride of 1 divides all, and misses nothing
        rest = self._add("Mod", [size, divisors], f"{name}/rest")
        is_prime_to = self._add("Cast", [rest], f"{name}/prime_to", to=bool_type)
        fits = self._add("And", [is_enough, is_prime_to], f"{name}/fits")
        ranked = self._add("Cast", [fits], f"{name}/ranked", to=int_type)
        index = self._add("ArgMax", [ranked], f"{name}/index", axis=0, keepdims=1)
        stride = self._add("Gather", [self._constant("strides", strides), index], f"{name}/stride")
        flat = self._add("Reshape", [value, self._constant("flat", [-1])], f"{name}/flat")
        zero, end = self._constant("zero", [0]), self._constant("end", [_FAR])
        self.give(name, "Slice", [flat, zero, end, zero, stride], rank=1)

    def _add(self, op_type: str, inputs: Sequence[ir.Value], name: str, **attributes: int) -> ir.Value:
        import onnx_ir as ir

        node = ir.node(op_type, inputs, attributes, name=name, num_outputs=1)
        node.outputs[0].name = name
        self._graph.append(node)
        return node.outputs[0]

    def _constant(self, name: str, numbers: Sequence[int]) -> ir.Value:
        import onnx_ir as ir

        name = f"edgekit_{name}"
        if name not in self._graph.initializers:
            tensor = ir.tensor(np.array(numbers, np.int64), name=name)
            self._graph.register_initializer(ir.Value(name=name, const_value=tensor))
        return self._graph.initializers[name]


@cache
def _strides() -> tuple[int, ...]:
    """1, the primes below 50, and of those above some, each about a twentieth larger than the last."""
    strides = [1]
    for number in range(2, 2**31 // MAX_COUNTED * 3 // 2):
        if (number < 50 or number > 1.05 * strides[-1]) and all(number % d for d in range(2, math.isqrt(number) + 1)):
            strides.append(number)
    return tuple(strides)


def _run(session: Session, feeds: Feeds, number: int) -> Mapping[str, np.ndarray]:
    for name, array in feeds.items():
        if not np.size(array):
            raise InputError(f"calibration sample {number}: input {name!r} is empty, shape {np.shape(array)}")
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(
                f"calibration sample {number}: input {name!r} holds NaN or infinity",
                hint="check how the sample is prepared",
            )
    try:
        return session.run(feeds, copy=False)
    except InputError as error:
        raise InputError(f"calibration sample {number}: {error.message}", hint=error.hint) from error


class _Gathering:
    """What was seen so far: five numbers for each tensor, and a histogram where asked for."""

    def __init__(self, names: Sequence[str], *, with_histograms: bool) -> None:
        self.samples = 0
        self._names = names
        self._lows, self._highs = np.full(len(names), np.inf), np.full(len(names), -np.inf)
        self._averages = np.zeros((2, len(names)))
        self._histograms = [Histogram() for _ in names] if with_histograms else []

    def add(self, results: Mapping[str, np.ndarray]) -> None:
        self.samples += 1
        lows, highs, sums = (
            np.array([results[prefix + name] for name in self._names], np.float64) for prefix in (_LOW, _HIGH, _SUM)
        )
        # The engine's extremes may pass over NaN, its sum does not.
        bad = np.flatnonzero(~np.isfinite(lows) | ~np.isfinite(highs) | np.isnan(sums))
        if bad.size:
            raise InputError(
                f"calibration sample {self.samples} makes tensor {self._names[bad[0]]!r} NaN or infinite",
                hint="check how the sample is prepared; the model itself may overflow on it",
            )
        np.minimum(self._lows, lows, out=self._lows)
        np.maximum(self._highs, highs, out=self._highs)
        self._averages += (np.stack([lows, highs]) - self._averages) * max(1 / self.samples, _FORGETTING)
        for name, histogram in zip(self._names, self._histograms, strict=bool(self._histograms)):
            histogram.add(results[_PART + name])

    def state(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name. Not a copy."""
        lows, highs = self._lows, self._highs
        state: dict[str, np.ndarray] = {
            "samples": np.array([self.samples], np.int64),
            "lows": lows,
            "highs": highs,
            "averages": self._averages,
        }
        for number, histogram in enumerate(self._histograms):
            state |= {f"{number}/{part}": array for part, array in histogram.state.items()}
        return state

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Takes the state that `checkpoint` holds, if it holds one."""
        state = checkpoint.read(like=self.state())
        if state is None:
            return
        self.samples = int(state["samples"][0])
        self._lows, self._highs, self._averages = state["lows"], state["highs"], state["averages"]
        parts = Histogram().state.keys()
        self._histograms = [
            Histogram.of_state({part: state[f"{number}/{part}"] for part in parts})
            for number in range(len(self._histograms))
        ]
        checkpoint.say(f"going on after {self.samples} calibration samples that were observed before")

    def seen(self) -> dict[str, Seen]:
        histograms: Sequence[Histogram | None] = self._histograms or [None] * len(self._names)
        columns = zip(self._names, self._lows, self._highs, *self._averages, histograms, strict=True)
        return {
            name: Seen(Range(float(low), float(high)), Range(float(mean_low), float(mean_high)), histogram)
            for name, low, high, mean_low, mean_high, histogram in columns
        }


def _require_variety(graph: ir.Model, seen: Mapping[str, Seen]) -> None:
    ranges = {spec.name: seen[spec.name].extremes for spec in signature(graph).inputs if spec.name in seen}
    if ranges and all(span.low == span.high for span in ranges.values()):
        values = ", ".join(f"{name} is always {span.low:g}" for name, span in ranges.items())
        raise InputError(f"the calibration data is constant: {values}", hint="give inputs the model meets in use")
