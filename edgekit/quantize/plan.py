"""A quantization plan: which tensors become integers and by which parameters. Plain data; writers render it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.spec import QuantParams

__all__ = ["QuantPlan", "QuantizedWeight"]


@dataclass(frozen=True)
class QuantizedWeight:
    """A constant's rounded integers and what they stand for."""

    params: QuantParams
    values: np.ndarray


@dataclass(frozen=True)
class QuantPlan:
    """What becomes integer, for one format on one target.

    Attributes:
        activations: Parameters by the name of the hub's tensor.
        weights: Integers and parameters by the name of the hub's initializer.
        quantized_ops: Names of the operations that are to run in integers.
        float_ops: Names of the operations with weights or products that stay float, and why.
    """

    activations: Mapping[str, QuantParams] = field(default_factory=dict)
    weights: Mapping[str, QuantizedWeight] = field(default_factory=dict)
    quantized_ops: tuple[str, ...] = ()
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
            "float_ops": dict(self.float_ops),
        }
