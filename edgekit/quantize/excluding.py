"""Which operations to take out of a plan, and in which order: those whose rounding costs most for what it saves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.cost import costs
from edgekit.quantize.policies import exactly
from edgekit.recipe import HALF, Recipe, Rule

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.quantize.plan import QuantPlan
    from edgekit.quantize.sensitivity import Sensitivity, Unit
    from edgekit.target import Placement

__all__ = ["Exclusion", "in_steps", "rank_exclusions", "without"]

_FREE = 0.01
"""What an operation without multiplications counts as, as a share of them: leaving the integers is not free."""

_HARMLESS = 0.25
"""Part of an operation's noise that its weights may make for them to stay rounded when its activations do not."""


_STEP_DB = 0.5


@dataclass(frozen=True)
class Exclusion:
    """An operation to be taken out.

    Attributes:
        precision: What it becomes, in float arithmetic: ``"w8"`` with small weights, ``"fp16"`` with weights in half
            precision, ``"fp32"`` where it has none.
        kept_share: Share of all multiplications still in integers when this and all before it are out.
        predicted_db: Signal to noise of the worst output then, if what is left of the noise adds up.
        reason: Printed beside the operation.
    """

    name: str
    precision: str
    kept_share: float
    predicted_db: float
    reason: str


def without(recipe: Recipe, exclusions: Collection[Exclusion]) -> Recipe:
    """The recipe with a rule for each of these operations; those of one name win over what was said of it before."""
    for one in exclusions:
        recipe = recipe.with_rule(Rule(one.precision, name=exactly(one.name), reason=one.reason))
    return recipe


def rank_exclusions(
    graph: ir.Model, plan: QuantPlan, sensitivity: Sensitivity, placement: Placement, *, min_share: float = 0.5
) -> list[Exclusion]:
    """The operations of a plan, the one that should leave first in front, until few multiplications are left.

    Greedy: each time the operation goes whose weights and tensors bring most noise to the output that is worst off,
    for its share of the multiplications. A tensor several operations touch counts for each of them in part, and wholly
    for the last: so neighbors leave together, and the borders between integers and floats stay few.

    Args:
        graph: The graph the plan is of.
        plan: Its operations with constants, and those of several activations, can leave.
        sensitivity: Measured with this plan among others.
        placement: Says which operations can keep small weights.
        min_share: The share of the multiplications that are to stay.
    """
    field = _Field(graph, plan, sensitivity)
    ranked: list[Exclusion] = []
    kept = field.total_share
    while field.left and (best := field.worst()) is not None:
        kept -= field.shares.get(best, 0.0)
        if kept < min_share:
            break
        weights, both = field.weights(best), field.noise(best)
        is_small = field.types[best] in placement.stored and best in field.weighty
        is_harmless = is_small and weights <= _HARMLESS * both
        precision = "w8" if is_harmless else HALF if best in field.weighty else "fp32"
        field.left.remove(best)
        alone = f"{-10 * math.log10(both):.1f} dB by its rounding alone"
        ranked.append(Exclusion(best, precision, max(kept, 0.0), field.predicted_db(), alone))
    return ranked


def in_steps(ranked: Sequence[Exclusion], first_db: float) -> list[list[Exclusion]]:
    """Ranked exclusions in steps, each of as many as it takes to gain half a dB over `first_db` and the steps before.

    What gains less is not worth a trial of its own; the last step may.
    """
    steps: list[list[Exclusion]] = []
    waiting: list[Exclusion] = []
    reached = first_db
    for one in ranked:
        waiting.append(one)
        if one.predicted_db >= reached + _STEP_DB:
            steps.append(waiting)
            waiting, reached = [], one.predicted_db
    return [*steps, waiting] if waiting else steps


class _Field:
    """The operations that are left, and what each brings of noise to the output that is worst off."""

    def __init__(self, graph: ir.Model, plan: QuantPlan, sensitivity: Sensitivity) -> None:
        units = [unit for unit in sensitivity.units(plan) if unit in sensitivity.noises]
        total = sum((sensitivity.noises[unit] for unit in units), np.zeros(1))
        self._noises: Mapping[Unit, float] = {u: float(sensitivity.noises[u][int(np.argmax(total))]) for u in units}
        self.types = sensitivity.operations
        inside = {*plan.quantized_ops, *plan.dynamic_ops}
        self.weighty = {unit.name for unit in units if unit.kind == "weights"}
        self._tensors = {unit.name: unit for unit in units if unit.kind == "activation"}
        self._around = {
            name: [one for one in sensitivity.tensors[name] if one in self._tensors] if name in inside else []
            for name in self.types
        }
        self._activations = {
            node.name or "": sum(v is not None and v.name in self._tensors for v in node.inputs) for node in graph.graph
        }
        self.left = [name for name in self.types if self._may_leave(name, inside)]
        # Operations that cannot leave by themselves only pass on what others round.
        self._touching = {t: {name for name in self.left if t in self._around[name]} for t in self._tensors}
        macs = {cost.name: cost.macs or 0 for cost in costs(graph) if not cost.inside}
        whole = sum(macs.values()) or 1
        self.shares = {name: count / whole for name, count in macs.items()}
        self.total_share = sum(self.shares.get(name, 0.0) for name in {*inside, *self.weighty})

    def _may_leave(self, name: str, inside: Collection[str]) -> bool:
        return name in self.weighty or (name in inside and self._activations[name] > 1)

    def weights(self, name: str) -> float:
        return sum(noise for unit, noise in self._noises.items() if unit.kind == "weights" and unit.name == name)

    def noise(self, name: str) -> float:
        left = set(self.left)
        around = sum(self._noises[self._tensors[t]] / max(1, len(self._touching[t] & left)) for t in self._around[name])
        return self.weights(name) + around

    def predicted_db(self) -> float:
        left = set(self.left)
        tensors = [unit for name, unit in self._tensors.items() if self._touching[name] & left]
        noise = sum(self._noises[unit] for unit in tensors) + sum(map(self.weights, left))
        return -10 * math.log10(noise) if noise > 0 else math.inf

    def worst(self) -> str | None:
        """Whose leaving gains most for what it costs; None where nothing is left to gain."""
        gains = {name: self.noise(name) / (self.shares.get(name, 0.0) + _FREE) for name in self.left}
        best = max(gains, key=lambda name: gains[name])
        return best if gains[best] > 0 else None
