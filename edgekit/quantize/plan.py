"""A quantization plan: which tensors become integers and by which parameters. Plain data; writers render it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.spec import QuantParams

__all__ = ["GroupedWeight", "QuantPlan", "QuantizedWeight"]


@dataclass(frozen=True)
class QuantizedWeight:
    """A constant's rounded integers and what they stand for."""

    params: QuantParams
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class GroupedWeight:
    """A constant as integers of 4 bits, each `block` neighbors along `axis` with a scale and a zero point of their own.

    Attributes:
        values: uint8 numbers 0 to 15, of the constant's shape.
        scale: float32, of the constant's shape but for `axis`, where there is one for each block; the last block may
            be shorter.
        zero_point: uint8 numbers 0 to 15, of the shape of `scale`; 8 everywhere where it is symmetric.
        axis: The axis the blocks run along: that of the sum, not of the output channels.
        block: Numbers that share a scale.
    """

    values: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    block: int

    def dequantize(self) -> np.ndarray:
        """The float32 numbers the integers stand for."""
        scale, zero = (self.spread(array) for array in (self.scale, self.zero_point))
        return (self.values.astype("float32") - zero.astype("float32")) * scale

    def spread(self, array: np.ndarray) -> np.ndarray:
        """One number a block as one number an element."""
        spread = np.repeat(array, self.block, axis=self.axis)
        return np.take(spread, range(self.values.shape[self.axis]), axis=self.axis)


@dataclass(frozen=True)
class QuantPlan:
    """What becomes integer, for one format on one target.

    Attributes:
        activations: Parameters by the name of the hub's tensor.
        weights: Integers and parameters by the name of the hub's initializer.
        quantized_ops: Names of the operations that are to run in integers of ranges known beforehand.
        stored: Integers by the name of the hub's initializer that operations compute with in float or dynamically.
        halves: Names of the hub's initializers that are stored in half precision and computed with in float.
        dynamic_ops: Names of operations, each with a weight in `stored`, whose activations become integers by the
            range each call shows.
        float_ops: Names of the operations with weights or products that compute in float, and why; those whose
            weights are in `stored` too.
    """

    activations: Mapping[str, QuantParams] = field(default_factory=dict)
    weights: Mapping[str, QuantizedWeight] = field(default_factory=dict)
    quantized_ops: tuple[str, ...] = ()
    stored: Mapping[str, QuantizedWeight | GroupedWeight] = field(default_factory=dict)
    halves: tuple[str, ...] = ()
    dynamic_ops: tuple[str, ...] = ()
    float_ops: Mapping[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What stays float and why, a line for each reason."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.float_ops.items():
            reasons.setdefault(reason, []).append(name)
        return [
            f"{len(names)} of the operations stay float, {reason}: {names[0]}" + (", ..." if len(names) > 1 else "")
            for reason, names in reasons.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything but the rounded integers, for printing and comparing."""
        return {
            "activations": {name: params.to_json() for name, params in self.activations.items()},
            "weights": {name: weight.params.to_json() for name, weight in self.weights.items()},
            "quantized_ops": list(self.quantized_ops),
            "stored": {name: _form(weight) for name, weight in self.stored.items()},
            "halves": list(self.halves),
            "dynamic_ops": list(self.dynamic_ops),
            "float_ops": dict(self.float_ops),
        }


def _form(weight: QuantizedWeight | GroupedWeight) -> dict[str, Any]:
    if isinstance(weight, GroupedWeight):
        return {"dtype": "uint4", "axis": weight.axis, "block": weight.block}
    return weight.params.to_json()
