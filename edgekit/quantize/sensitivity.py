"""What every rounding alone does to a model's outputs, measured once for all formats; and what follows from it.

The noise each rounding brings is small and hardly correlated with that of the next, so that noises add: the sum over a
plan's roundings says within a dB or three what signal to noise a file of it will have, without one being written. From
that follows which operations to leave out, and whether weights or activations are the limit.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import InputError
from edgekit.graph.cost import costs
from edgekit.graph.files import save
from edgekit.quantize.plan import GroupedWeight, QuantPlan
from edgekit.quantize.switching import NONE, RoundedTensor, RoundedWeights, with_switch
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.converter import Feeds
    from edgekit.spec import QuantParams

__all__ = ["MAX_UNITS", "LayerSensitivity", "Sensitivity", "Unit", "sensitivity"]

MAX_UNITS = 128
"""Roundings that are tried one at a time; of more, those that matter least are tried several together."""


@dataclass(frozen=True, order=True)
class Unit:
    """A rounding: of an ``"activation"`` by its tensor's name, or of the ``"weights"`` of an operation by its name.

    Attributes:
        bits: ``"8"``, ``"16"``, ``"4"``, or ``"call"`` for an activation rounded by the range of each call.
    """

    kind: str
    name: str
    bits: str


@dataclass(frozen=True)
class LayerSensitivity:
    """One operation rounded alone, its weights, its input and its output: signal to noise of the worst model output.

    Attributes:
        sqnr_db: Of all its roundings together; infinity where none shows.
        weights_db: Of its weights; None where they are not rounded.
        activations_db: Of what it reads and gives; None where nothing of it is rounded.
    """

    name: str
    op_type: str
    sqnr_db: float
    weights_db: float | None
    activations_db: float | None


@dataclass(frozen=True)
class Sensitivity:
    """Noise as a share of the signal's power, one number for each output of the model.

    Attributes:
        noises: By rounding.
        samples: Samples it was measured on.
        together: Roundings that were tried with others: each has an equal part of what they did together.
        tensors: For each operation the tensors it reads and gives.
        operations: Type of each operation by its name, in the order of the graph.
    """

    noises: Mapping[Unit, np.ndarray]
    samples: int
    together: tuple[Unit, ...]
    tensors: Mapping[str, tuple[str, ...]] = field(repr=False)
    operations: Mapping[str, str] = field(repr=False)
    constants: Mapping[str, tuple[str, ...]] = field(repr=False)

    def predict_db(self, plan: QuantPlan) -> float:
        """Signal to noise of the worst output if the roundings of a plan add up; infinity for no noise at all.

        A rounding nobody measured counts for nothing.
        """
        return _decibels(sum((self.noises.get(unit, np.zeros(1)) for unit in self.units(plan)), np.zeros(1)))

    def weights_share(self, plan: QuantPlan) -> float:
        """How much of the noise of a plan its weights make, 0 to 1: near 1 better rounding helps, near 0 it cannot."""
        parts = {"weights": 0.0, "activation": 0.0}
        for unit in self.units(plan):
            parts[unit.kind] += float(np.max(self.noises.get(unit, np.zeros(1))))
        return parts["weights"] / (sum(parts.values()) or 1.0)

    def units(self, plan: QuantPlan) -> list[Unit]:
        """The roundings of a plan."""
        return [*_tensor_units(plan, self.tensors), *_weight_units(plan, self.constants)]

    def layers(self, plan: QuantPlan) -> list[LayerSensitivity]:
        """Every operation a plan rounds something of, in the order of the graph."""
        rounded = {unit: self.noises[unit] for unit in self.units(plan) if unit in self.noises}
        touched = {*plan.quantized_ops, *plan.dynamic_ops}
        touched |= {name for name, ours in self.constants.items() if any(one in plan.stored for one in ours)}
        found = []
        for name, op_type in self.operations.items():
            weights = [noise for unit, noise in rounded.items() if unit.kind == "weights" and unit.name == name]
            names = self.tensors[name] if name not in plan.dynamic_ops else self.tensors[name][:1]
            around = [n for unit, n in rounded.items() if unit.kind == "activation" and unit.name in names]
            around = around if name in (*plan.quantized_ops, *plan.dynamic_ops) else []
            if name in touched and (weights or around):
                both = _decibels(sum((*weights, *around), np.zeros(1)))
                parts = [_decibels(sum(part, np.zeros(1))) if part else None for part in (weights, around)]
                found.append(LayerSensitivity(name, op_type, both, *parts))
        return found


def _decibels(noise: np.ndarray) -> float:
    worst = float(np.max(noise, initial=0.0))
    return math.inf if worst <= 0 else -10 * math.log10(worst)


def sensitivity(
    graph: ir.Model,
    plans: Iterable[QuantPlan],
    samples: Sequence[Feeds],
    *,
    max_units: int = MAX_UNITS,
    threads: int | None = 1,
) -> Sensitivity:
    """Measures every rounding of some plans of one graph, on the graph itself, in ONNX Runtime's float arithmetic.

    One file is written and opened once, and asked ``(min(roundings, max_units) + 1) x samples`` times.

    Args:
        graph: The cleaned hub graph the plans are of.
        plans: For all formats; a rounding two of them share is measured once.
        samples: A few typical feeds, 3 to 8.
        max_units: Roundings tried one at a time; of more, those of the narrowest ranges and the fewest
            multiplications are tried together, neighbors with neighbors.
        threads: Threads the engine may use.

    Raises:
        InputError: There is no sample.
    """
    if not samples:
        raise InputError("there is no sample to measure sensitivity on", hint="give calibration data")
    forms = _forms(graph, list(plans))
    numbers = _numbered(graph, forms, max_units)
    switched, switch = with_switch(graph, {form: numbers[unit] for unit, form in forms.items()})
    by_number: dict[int, list[Unit]] = {}
    for unit, number in numbers.items():
        by_number.setdefault(number, []).append(unit)
    with tempfile.TemporaryDirectory(prefix="edgekit-sensitivity-") as folder:
        path = Path(folder) / "switched.onnx"
        save(switched, path)
        del switched
        engine = RUNTIMES.get("onnx").open(path, EngineOptions(threads=threads))
        with Session(engine, runtime="onnx") as session:
            measured = _measure(session, switch, samples, tuple(by_number))
    return Sensitivity(
        noises={unit: measured[number] / len(by_number[number]) for unit, number in numbers.items()},
        samples=len(samples),
        together=tuple(unit for unit, number in numbers.items() if len(by_number[number]) > 1),
        tensors={node.name or "": _floats(node) for node in graph.graph},
        operations={node.name or "": node.op_type for node in graph.graph},
        constants=_constants(graph),
    )


def _floats(node: ir.Node) -> tuple[str, ...]:
    return tuple(value.name for value in (*node.inputs, *node.outputs) if value is not None and value.name)


def _constants(graph: ir.Model) -> dict[str, tuple[str, ...]]:
    known = graph.graph.initializers
    return {
        node.name or "": tuple(v.name for v in node.inputs if v is not None and v.name and v.name in known)
        for node in graph.graph
    }


def _tensor_unit(name: str, params: QuantParams) -> Unit:
    return Unit("activation", name, "16" if "16" in params.dtype else "8")


def _tensor_units(plan: QuantPlan, tensors: Mapping[str, tuple[str, ...]]) -> list[Unit]:
    fixed = [_tensor_unit(name, params) for name, params in plan.activations.items()]
    called = dict.fromkeys(Unit("activation", tensors[name][0], "call") for name in plan.dynamic_ops)
    return [*fixed, *called]


def _weight_units(plan: QuantPlan, constants: Mapping[str, tuple[str, ...]]) -> list[Unit]:
    quantized = set(plan.quantized_ops)
    units = []
    for operation, names in constants.items():
        known: Mapping[str, Any] = plan.weights if operation in quantized else plan.stored
        if rounded := [known[name] for name in names if name in known]:
            units.append(Unit("weights", operation, "4" if isinstance(rounded[0], GroupedWeight) else "8"))
    return units


def _forms(graph: ir.Model, plans: Sequence[QuantPlan]) -> dict[Unit, RoundedTensor | RoundedWeights]:
    """Every rounding of the plans once, in the order of the graph; what is for all readers of a tensor comes first."""
    forms: dict[Unit, RoundedTensor | RoundedWeights] = {}
    for plan in plans:
        quantized, dynamic = set(plan.quantized_ops), set(plan.dynamic_ops)
        units = {unit.name: unit for unit in _weight_units(plan, _constants(graph))}
        for node in graph.graph:
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.name and value.name in plan.activations:
                    form = RoundedTensor(value.name, plan.activations[value.name], _readers(value, quantized))
                    forms.setdefault(_tensor_unit(value.name, plan.activations[value.name]), form)
            first = node.inputs[0] if node.inputs else None
            if node.name in dynamic and first is not None and first.name:
                form = RoundedTensor(first.name, None, frozenset(u.name or "" for u, _ in first.uses()) & dynamic)
                forms.setdefault(Unit("activation", first.name, "call"), form)
            if node.name in units and units[node.name] not in forms:
                known: Mapping[str, Any] = plan.weights if node.name in quantized else plan.stored
                forms[units[node.name]] = RoundedWeights(node.name, _floats_of(node, known))
    return forms


def _readers(value: ir.Value, quantized: Collection[str]) -> frozenset[str] | None:
    """Who reads it rounded: all where a quantized operation gives it, as `to_qdq` has it."""
    producer = value.producer()
    if producer is not None and producer.name in quantized:
        return None
    return frozenset(node.name or "" for node, _ in value.uses()) & frozenset(quantized)


def _floats_of(node: ir.Node, known: Mapping[str, Any]) -> dict[int, np.ndarray]:
    """The numbers its rounded constants stand for, by their place among its inputs."""
    arrays = {}
    for place, value in enumerate(node.inputs):
        rounded = known.get(value.name or "") if value is not None else None
        if isinstance(rounded, GroupedWeight):
            arrays[place] = rounded.dequantize()
        elif rounded is not None:
            arrays[place] = rounded.params.dequantize(rounded.values)
    return arrays


def _numbered(graph: ir.Model, forms: Mapping[Unit, RoundedTensor | RoundedWeights], max_units: int) -> dict[Unit, int]:
    """A number for each rounding: of its own for those that may matter most, shared by neighbors for the others."""
    if len(forms) <= max_units:
        return {unit: number for number, unit in enumerate(forms)}
    macs = {cost.name: float(cost.macs or 0) for cost in costs(graph)}
    most = max(macs.values(), default=0.0) or 1.0
    spans = {u: f.params.scale[0] for u, f in forms.items() if isinstance(f, RoundedTensor) and f.params is not None}
    widest = max(spans.values(), default=0.0) or 1.0
    weight = {unit: spans.get(unit, 0.0) / widest + macs.get(unit.name, 0.0) / most for unit in forms}
    alone = set(sorted(forms, key=lambda unit: -weight[unit])[: max_units // 2])
    others = [unit for unit in forms if unit not in alone]
    blocks = max_units - len(alone)
    numbers = {unit: index * blocks // len(others) for index, unit in enumerate(others)}
    return {**numbers, **{unit: blocks + index for index, unit in enumerate(u for u in forms if u in alone)}}


def _measure(session: Session, switch: str, samples: Sequence[Feeds], numbers: Iterable[int]) -> dict[int, np.ndarray]:
    """For each number of the switch the noise it brings to each output, as a share of the output's power."""

    def ask(feeds: Feeds, number: int) -> list[np.ndarray]:
        answer = session.run({**feeds, switch: np.array(number, "int64")})
        return [np.asarray(array, "float64") for array in answer.values()]

    noise = dict.fromkeys(numbers, np.zeros(len(session.signature.outputs)))
    power = np.zeros(len(session.signature.outputs))
    for feeds in samples:
        exact = ask(feeds, NONE)
        power = power + [float(np.nansum(np.square(array))) for array in exact]
        for number in noise:
            noise[number] = noise[number] + list(map(_difference, exact, ask(feeds, number)))
    return {number: found / np.maximum(power, 1e-30) for number, found in noise.items()}


def _difference(exact: np.ndarray, rounded: np.ndarray) -> float:
    """Power of the difference; that of the signal where the shape itself is another, as of a list of boxes."""
    if exact.shape != rounded.shape:
        return float(np.nansum(np.square(exact)))
    finite = np.isfinite(exact) & np.isfinite(rounded)
    return float(np.square(exact[finite] - rounded[finite]).sum())
