"""What fine-tuning is told, alike for every framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from edgekit.errors import InputError
from edgekit.recipe import Recipe

__all__ = ["CALIBRATION_BATCHES", "MAX_GRADIENT_NORM", "MOMENTUM", "WATCHED_SHARE", "Tuning", "endless"]

MAX_GRADIENT_NORM = 1.0
"""Longer gradients are shortened to this Euclidean norm (Pascanu et al. 2013, arXiv:1211.5063)."""

CALIBRATION_BATCHES = 8
"""Batches whose extremes are the ranges of activations to start with."""

MOMENTUM = 0.99
"""Share of what is known of a range in what it becomes after a batch (Jacob et al. 2018, section 3.1)."""

WATCHED_SHARE = 0.8
"""Share of the steps after which ranges stay as they are, so that the weights settle on them."""

_WARM_UP = 0.05


@dataclass(frozen=True)
class Tuning:
    """Settings of one fine-tuning; see `edgekit.compress.finetune`."""

    recipe: Recipe | None
    followers: frozenset[str]
    teacher: Any
    loss: Callable[[Any, Any], Any] | None
    distillation: Literal["mse", "kl"]
    distillation_weight: float
    steps: int
    learning_rate: float
    keep_zeros: bool
    seed: int
    say: Callable[[str], None]

    def rate(self, step: int, steps: int) -> float:
        """Rises linearly, then falls as half a cosine to zero (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
        share = (step + 1) / (steps + 1)
        if share < _WARM_UP:
            return self.learning_rate * share / _WARM_UP
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (share - _WARM_UP) / (1 - _WARM_UP)))

    def split(self, batch: Any) -> tuple[Any, Any]:
        """Inputs and targets of a batch; without a loss it is inputs alone. Raises InputError."""
        if self.loss is None:
            return batch, None
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise InputError("a batch is no pair of inputs and targets", hint="with a loss it has to be one")
        return batch[0], batch[1]

    def report(self, what: str, step: int, steps: int, loss: float) -> None:
        """Says how it goes at every tenth of the way, and that it goes nowhere. Raises InputError for a loss of NaN."""
        if not math.isfinite(loss):
            raise InputError(
                f"the loss became {loss} in step {step + 1}",
                hint="are the data prepared as the model expects them? a smaller learning rate may help too",
            )
        if (step + 1) % max(1, steps // 10) == 0:
            self.say(f"{what}: step {step + 1}/{steps}  loss {loss:.5f}")


def endless(data: Iterable[Any]) -> Iterator[Any]:
    """Its batches, over and over. Raises InputError where there are none, or none the second time."""
    while True:
        batch = None
        for batch in data:
            yield batch
        if batch is None:
            raise InputError("the data give no batch", hint="a list or a DataLoader can be gone through again")
