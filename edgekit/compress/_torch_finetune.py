"""Fine-tuning of a PyTorch module: distillation from the module it was, in float and under rounding."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from edgekit.compress._torch_graph import arguments, copy_of, evaluating, exported
from edgekit.compress._torch_shrinking import Kept, shrink
from edgekit.compress._tuning import CALIBRATION_BATCHES, MAX_GRADIENT_NORM, WATCHED_SHARE, Tuning, endless
from edgekit.compress.fake_quant_torch import put_rounding
from edgekit.errors import InputError
from edgekit.recipe import Recipe

__all__ = ["finetune_torch", "tune_rounded"]

_TEMPERATURE = 2.0
"""Of scores compared as probabilities (Hinton et al. 2015)."""


def finetune_torch(module: Any, data: Iterable[Any], tuning: Tuning, kept: Kept | None) -> Any:
    """See `edgekit.compress.finetune`."""
    import torch

    twin = copy_of(module)
    given = arguments(tuning.split(next(endless(data)))[0])
    _require_callable(module, given)
    if kept is not None:
        shrink(twin, kept, given)
    in_float = tuning.steps if tuning.recipe is None else tuning.steps // 2 if kept is not None else 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(tuning.seed)
        run = _Run(module, twin, endless(data), tuning)
        if in_float:
            twin.train()
            run.learn(twin, in_float, "in float")
        if tuning.recipe is not None:
            tune_rounded(run, given, tuning.recipe, tuning.steps - in_float)
    return twin.train(module.training)


def tune_rounded(run: _Run, given: Any, recipe: Recipe, steps: int) -> Any:
    """Tunes under rounding, and gives the graph module that rounds as it did at the end."""
    import torch

    graph = exported(run.twin, given)
    rounding = put_rounding(graph, recipe, run.tuning.followers)
    rounding.set(watching=True, rounding=False)
    with torch.no_grad():
        for batch in islice(run.batches, CALIBRATION_BATCHES):
            args, kwargs = arguments(run.tuning.split(batch)[0])
            graph(*args, **kwargs)
    run.tuning.say(f"rounding {rounding.num_weights} weights and {len(rounding.ranges)} activations")

    def before(step: int) -> None:
        rounding.set(watching=step < WATCHED_SHARE * steps, rounding=True)

    run.learn(graph, steps, "under rounding", before)
    rounding.set(watching=False, rounding=True)
    return graph


@dataclass
class _Run:
    """What both parts share.

    Attributes:
        module: As it was given.
        twin: What is tuned.
    """

    module: Any
    twin: Any
    batches: Iterator[Any]
    tuning: Tuning

    def learn(self, forward: Any, steps: int, what: str, before: Callable[[int], None] = lambda step: None) -> None:
        """Trains the twin's parameters by what `forward`, which has the same, answers."""
        import torch

        parameters = [parameter for parameter in self.twin.parameters() if parameter.requires_grad]
        masks = self._masks(parameters)
        optimizer = torch.optim.Adam(parameters, lr=self.tuning.learning_rate)
        for step in range(steps):
            before(step)
            for group in optimizer.param_groups:
                group["lr"] = self.tuning.rate(step, steps)
            optimizer.zero_grad()
            loss = self._loss(forward, next(self.batches))
            self.tuning.report(what, step, steps, float(loss.detach()))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
            optimizer.step()
            with torch.no_grad():
                for parameter, mask in masks:
                    parameter.mul_(mask)

    def _masks(self, parameters: list[Any]) -> list[tuple[Any, Any]]:
        if not self.tuning.keep_zeros:
            return []
        found = [(parameter, (parameter != 0).to(parameter.dtype)) for parameter in parameters if parameter.ndim > 1]
        return [(parameter, mask.detach()) for parameter, mask in found if 0 < mask.sum() < mask.numel()]

    def _loss(self, forward: Any, batch: Any) -> Any:
        import torch

        inputs, targets = self.tuning.split(batch)
        args, kwargs = arguments(inputs)
        answers = forward(*args, **kwargs)
        total: Any = 0.0
        if self.tuning.distillation_weight:
            with torch.no_grad(), self._asking():
                wanted = self.teacher(*args, **kwargs)
            total = self.tuning.distillation_weight * _distance(answers, wanted, self.tuning.distillation)
        return total if self.tuning.loss is None else total + self.tuning.loss(answers, targets)

    @cached_property
    def teacher(self) -> Callable[..., Any]:
        return self.module if self.tuning.teacher is None else self.tuning.teacher

    def _asking(self) -> contextlib.AbstractContextManager[None]:
        return evaluating(self.teacher) if hasattr(self.teacher, "modules") else contextlib.nullcontext()


def _distance(answers: Any, wanted: Any, kind: str) -> Any:
    """How far the float answers are from those wanted: a mean over all of them."""
    import torch
    from torch.nn import functional
    from torch.utils import _pytree as pytree

    pairs = list(zip(_floats(pytree.tree_leaves(answers)), _floats(pytree.tree_leaves(wanted)), strict=True))
    if not pairs or any(one.shape != other.shape for one, other in pairs):
        shapes = [(list(one.shape), list(other.shape)) for one, other in pairs]
        raise InputError(f"the teacher's answers are not like the model's: {shapes}", hint="give another teacher")
    total: Any = 0.0
    for got, want in pairs:
        if kind == "kl":
            logs, aim = functional.log_softmax(got / _TEMPERATURE, -1), functional.softmax(want / _TEMPERATURE, -1)
            total = total + _TEMPERATURE**2 * functional.kl_div(logs, aim, reduction="none").sum(-1).mean()
        else:
            spread = torch.clamp(((want - want.mean()) ** 2).mean(), min=1e-12)
            total = total + ((got - want) ** 2).mean() / spread
    return total / len(pairs)


def _floats(leaves: list[Any]) -> list[Any]:
    import torch

    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


def _require_callable(module: Any, given: Any) -> None:
    import torch

    try:
        with evaluating(module), torch.no_grad():
            module(*given[0], **given[1])
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"{type(module).__name__} cannot be called with a batch of the data: {error}",
            hint="without a loss a batch is inputs alone; with one, a pair of inputs and targets",
        ) from error
