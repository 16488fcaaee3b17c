"""One update of a net's weights: the usual one, and what a family's own step is asked for.

A family whose training is more than one loss gives its own by `Training.make_step`: a callable from feeds and targets,
both PyTorch tensors by name, to figures by name. It may have ``state_dict`` and ``load_state_dict``, without which a
run cannot be resumed, and ``at(share)``, which is called before each update with the share of all updates done.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgekit.family import Batch, Run, Training
from edgekit.training.material import Material

__all__ = ["MAX_GRADIENT_NORM", "WARM_UP", "Supervised", "call", "learning_rate_at", "mean_loss", "run_of", "tensors"]

WARM_UP = 0.05
"""Share of all updates in which the learning rate rises."""

MAX_GRADIENT_NORM = 1.0
"""Longer gradients are shortened to this Euclidean norm (Pascanu et al. 2013, arXiv:1211.5063)."""

_JUDGED_ROWS = 64


def learning_rate_at(share: float, highest: float) -> float:
    """Rises linearly to `highest`, then falls as half a cosine to zero (Loshchilov and Hutter 2017, arXiv:1608.03983).

    Args:
        share: Of all updates, those already done, 0 to 1.
        highest: What it reaches.
    """
    if share < WARM_UP:
        return highest * (share / WARM_UP * 0.99 + 0.01)
    return highest * 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


class Supervised:
    """AdamW on the family's loss (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

    def __init__(self, module: Any, training: Training) -> None:
        import torch

        self._module = module
        self._training = training
        parameters = list(module.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=training.learning_rate)
        self._clip = torch.nn.utils.clip_grad_norm_

    def at(self, share: float) -> None:
        """Sets the learning rate for the next update."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate_at(share, self._training.learning_rate)

    def __call__(self, feeds: Batch, targets: Batch) -> dict[str, float]:
        self._optimizer.zero_grad()
        loss = self._training.loss(call(self._module, feeds), targets)
        loss.backward()
        self._clip(self._module.parameters(), MAX_GRADIENT_NORM)
        self._optimizer.step()
        return {"loss": float(loss.detach())}

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self._optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._optimizer.load_state_dict(state)


def call(module: Any, feeds: Mapping[str, Any]) -> Batch:
    """The outputs, by name, of a module that `to_torch` made, for tensors by input name."""
    outputs = module(*(feeds[name] for name in module.input_names))
    return dict(zip(module.output_names, outputs if isinstance(outputs, tuple) else (outputs,), strict=True))


def tensors(arrays: Mapping[str, Any]) -> Batch:
    """Arrays as tensors, by name."""
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def run_of(module: Any) -> Run:
    """The module as an engine: evaluation mode, no gradients, arrays in and out."""
    import torch

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        was_training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                return {name: tensor.numpy() for name, tensor in call(module, tensors(feeds)).items()}
        finally:
            module.train(was_training)

    return run


def mean_loss(loss: Callable[[Batch, Batch], Any], run: Run, material: Material) -> float:
    """The loss over all rows of `material`, as `run` answers them."""
    import torch

    total = 0.0
    for feeds, targets in material.in_order(_JUDGED_ROWS):
        with torch.inference_mode():
            found = loss(tensors(run(feeds)), tensors(targets))
        total += float(found) * len(next(iter(targets.values())))
    return total / len(material)
