"""Statistics of a graph's tensors on calibration data: one pass over the samples, constant memory, any number of plans.

The graph is given two more outputs per tensor, its smallest and its largest element, and run by an engine; so what is
seen is what the engine computes, and nothing but two numbers per tensor is kept.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.graph.files import save
from edgekit.graph.shapes import signature
from edgekit.graph.walking import copy_of, dtype_name
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.converter import Feeds

__all__ = ["Range", "Statistics", "observe"]

_LOW, _HIGH = "edgekit_min/", "edgekit_max/"


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value a tensor took."""

    low: float
    high: float

    def __or__(self, other: Range) -> Range:
        """The range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Statistics:
    """What calibration data showed of a graph's tensors.

    Attributes:
        ranges: By tensor name.
        samples: How many samples there were.
    """

    ranges: Mapping[str, Range]
    samples: int


def observe(
    graph: ir.Model, calibration: Iterable[Feeds], *, wanted: Collection[str] | None = None, threads: int | None = 1
) -> Statistics:
    """True extremes of the float32 tensors of a cleaned graph over all samples.

    Args:
        graph: A cleaned hub graph.
        calibration: Feeds, one sample at a time.
        wanted: Names of the tensors to observe; all by default.
        threads: Threads the engine may use.

    Raises:
        InputError: There is no sample; one does not match the signature, or holds or leads to NaN or infinity; or the
            float inputs never vary, so that nothing can be learned from them.
    """
    names = [name for name in _observable(graph) if wanted is None or name in wanted]
    ranges: dict[str, Range] = {}
    count = 0
    with tempfile.TemporaryDirectory(prefix="edgekit-observe-") as folder:
        path = Path(folder) / "observed.onnx"
        save(_with_extremes(graph, names), path)
        options = EngineOptions(threads=threads)
        with Session(RUNTIMES.get("onnx").open(path, options), runtime="onnx", check_finite=True) as session:
            for count, feeds in enumerate(calibration, start=1):
                _merge(ranges, session.run(_checked(feeds, count), copy=False), names, count)
    if not count:
        raise InputError("the calibration data holds no sample", hint="give inputs the model meets in use")
    _require_variety(graph, ranges)
    return Statistics(ranges, count)


def _observable(graph: ir.Model) -> list[str]:
    """Float tensors of the outer graph that somebody reads."""
    inputs = [value for value in graph.graph.inputs if value.const_value is None]
    results = [value for node in graph.graph for value in node.outputs if value.uses() or value.is_graph_output()]
    return [value.name for value in (*inputs, *results) if value.name and dtype_name(value) == "float32"]


def _with_extremes(graph: ir.Model, names: Collection[str]) -> ir.Model:
    import onnx_ir as ir

    observed = copy_of(graph)
    values = {value.name: value for value in observed.graph.inputs}
    values |= {value.name: value for node in observed.graph for value in node.outputs}
    for name in names:
        for op_type, prefix in (("ReduceMin", _LOW), ("ReduceMax", _HIGH)):
            node = ir.node(op_type, [values[name]], {"keepdims": 0}, name=f"{prefix}{name}", num_outputs=1)
            node.outputs[0].name = f"{prefix}{name}"
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
            node.outputs[0].shape = ir.Shape(())
            observed.graph.append(node)
            observed.graph.outputs.append(node.outputs[0])
    return observed


def _checked(feeds: Feeds, number: int) -> Feeds:
    for name, array in feeds.items():
        if not np.size(array):
            raise InputError(f"calibration sample {number}: input {name!r} is empty, shape {np.shape(array)}")
    return feeds


def _merge(ranges: dict[str, Range], results: Mapping[str, np.ndarray], names: Iterable[str], number: int) -> None:
    for name in names:
        seen = Range(float(results[_LOW + name]), float(results[_HIGH + name]))
        if not (math.isfinite(seen.low) and math.isfinite(seen.high)):
            raise InputError(
                f"calibration sample {number} makes tensor {name!r} NaN or infinite",
                hint="check how the sample is prepared; the model itself may overflow on it",
            )
        ranges[name] = ranges[name] | seen if name in ranges else seen


def _require_variety(graph: ir.Model, ranges: Mapping[str, Range]) -> None:
    inputs = [spec.name for spec in signature(graph).inputs if spec.name in ranges]
    if inputs and all(ranges[name].low == ranges[name].high for name in inputs):
        values = ", ".join(f"{name} is always {ranges[name].low:g}" for name in inputs)
        raise InputError(f"the calibration data is constant: {values}", hint="give inputs the model meets in use")
