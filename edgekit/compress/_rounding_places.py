"""Where arithmetic in integers would round, in a network of any framework written down as steps.

The same answer as `edgekit.quantize.placing` gives for a hub graph, as far as all formats of a target agree on it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from edgekit.errors import UnsupportedError
from edgekit.recipe import STATIC, Recipe
from edgekit.target import Target

__all__ = ["FOLDED", "MULTIPLYING", "Step", "followers_of", "require_matches", "rounded_tensors"]

MULTIPLYING = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operations whose products with a weight are computed in integers."""

FOLDED = "Folded"
"""What is part of the operation before it once the network is converted: a batch normalization, a dropout, a copy."""

_MOVING = (
    *("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Resize"),
    *("DepthToSpace", "SpaceToDepth", "Gather", "Pad"),
)
_TAKEN_IN = ("Relu", "Clip", FOLDED)


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: What rules of a recipe match: of an operation with weights the layer's name.
        op_type: As ONNX calls it; empty for what has no integer kernel anywhere.
        inputs: Keys of the float tensors it computes on that are not constant; of a product with a weight one.
        output: Key of the tensor it gives.
        precision: What the recipe makes of an operation with a weight; empty for one without.
    """

    name: str
    op_type: str
    inputs: tuple[Hashable, ...]
    output: Hashable
    precision: str = ""

    @property
    def is_anchor(self) -> bool:
        """Whether it multiplies in integers of ranges known beforehand."""
        return self.op_type in MULTIPLYING and self.precision in STATIC


def followers_of(target: Target) -> frozenset[str]:
    """Operations that some format of the target computes in integers when what feeds them already is."""
    return frozenset(op_type for placement in target.placements.values() for op_type in placement.followers)


def require_matches(recipe: Recipe, steps: Iterable[Step]) -> None:
    """Raises UnsupportedError where a rule of the recipe matches none of the operations."""
    known = [(step.name, step.op_type) for step in steps if step.op_type]
    idle = [rule for rule in recipe.rules if not any(rule.matches(*names) for names in known)]
    if idle:
        layers = ", ".join(name for name, _ in known[:5])
        raise UnsupportedError(
            f"recipe {recipe.name!r} has rules that match no layer",
            offenders=[f"name {rule.name!r}, type {rule.op_type!r}" for rule in idle],
            hint=f"layers are named as in the model: {layers}, ...",
        )


def rounded_tensors(steps: Sequence[Step], followers: frozenset[str], recipe: Recipe) -> tuple[Hashable, ...]:
    """The tensors that become integers, in the order they are read.

    Those are what is multiplied, and what additions and their like take on the way from one product to the next. What
    was only moved keeps the parameters of what it was moved from. A chain that leads to no other product stays float.

    Args:
        steps: In the order they are computed.
        followers: Operations with an integer kernel beside those that multiply.
    """
    producers = {step.output: step for step in steps}

    def source(tensor: Hashable) -> Hashable:
        while (step := producers.get(tensor)) is not None and step.op_type in _MOVING and step.inputs:
            tensor = step.inputs[0]
        return tensor

    def may_follow(step: Step) -> bool:
        rule = recipe.decide(step.name, step.op_type)
        is_wanted = rule is None or rule.precision in STATIC
        return is_wanted and not step.precision and (step.op_type in followers or step.op_type in _TAKEN_IN)

    anchors = [step for step in steps if step.is_anchor]
    integer = {source(step.inputs[0]) for step in anchors}
    chain: list[Step] = []
    for step in steps:
        reached = bool(step.inputs) and all(tensor in integer or source(tensor) in integer for tensor in step.inputs)
        if step.is_anchor or (reached and may_follow(step)):
            integer.add(step.output)
            chain.append(step)
    leading = {step.inputs[0] for step in anchors}
    for step in reversed(chain):
        if step.output in leading and not step.is_anchor:
            leading.update(step.inputs)
    found: dict[Hashable, None] = {}
    for step in chain:
        if step.is_anchor:
            found.setdefault(source(step.inputs[0]))
        elif step.output in leading and step.op_type not in (*_TAKEN_IN, *_MOVING):
            found.update(dict.fromkeys(map(source, step.inputs)))
    return tuple(found)
