"""Fine-tuning: what was lost by rounding or by leaving channels out, won back with the user's data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from edgekit.compress._rounding_places import followers_of
from edgekit.compress._tuning import Tuning
from edgekit.errors import InputError, UnsupportedError
from edgekit.recipe import Recipe
from edgekit.target import Target

if TYPE_CHECKING:
    from edgekit.compress._torch_shrinking import Channels

__all__ = ["finetune"]

_LEARNING_RATE = 1e-3
_ROUNDED_LEARNING_RATE = 5e-4


def finetune(
    model: Any,
    data: Iterable[Any],
    *,
    recipe: Recipe | str | None = None,
    channels: Channels | None = None,
    target: Target | str = "host",
    teacher: Callable[..., Any] | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    distillation: Literal["mse", "kl"] = "mse",
    distillation_weight: float = 1.0,
    steps: int = 500,
    learning_rate: float | None = None,
    keep_zeros: bool = False,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Any:
    """A tuned copy of a model in memory, to be converted like the model itself; the model stays as it is.

    With `recipe` it learns under the rounding it will be quantized with: weights and activations pass through
    quantization and back, and gradients pass as if nothing had been rounded (straight-through; Bengio et al. 2013,
    arXiv:1308.3432; Jacob et al. 2018, arXiv:1712.05877). Weights are rounded per channel by their extremes;
    activations per tensor, by extremes of the first batches that move with those to come, and are fixed for the last
    fifth of the steps. Batch normalizations keep their statistics, as they have them when they are folded. What comes
    back has plain float weights: quantize it with the same recipe.

    With `channels` the model is first made smaller, and learns in float, batch normalizations with it; with `recipe`
    too, half of the steps each.

    Without a `loss` it needs no labels: it learns to answer as the teacher does (distillation; Hinton et al. 2015,
    arXiv:1503.02531).

    Args:
        model: A ``torch.nn.Module`` on the CPU that ``torch.export`` can export, or a Keras model (TensorFlow backend).
        data: Batches that can be gone through more than once, such as a list or a DataLoader. A batch is what the
            model is called with: a tensor or array, a tuple of them, or a dict by name. With `loss`, a pair of that
            and the targets.
        recipe: What it is to be quantized by, or its name; None to learn in float. Its rules match layers by their
            names in the model.
        channels: The channels that stay (`ChannelPlan`, or anything with its ``kept``); PyTorch only.
        target: Whose integer kernels decide which activations are rounded.
        teacher: What is asked for the right answers: called as the model is. By default the model as it was given.
        loss: From outputs, as the model gives them, and targets to a scalar; added to the distillation.
        distillation: ``"mse"``, the squared difference as a share of the variance of the teacher's answers, for any
            float outputs; ``"kl"``, of class scores before softmax, along the last axis.
        distillation_weight: What the distillation counts beside the loss; 0 leaves it out.
        steps: Batches to learn from.
        learning_rate: Of Adam at its highest; by default 1e-3, and 5e-4 under rounding.
        keep_zeros: Weights that are exactly zero stay so, as in a pruned model.
        seed: Of all that is random; the order of the data is theirs.
        say: Called with a line at every tenth of the way.

    Returns:
        A model of the same class with the same signature.

    Raises:
        InputError: The data give no batches, do not fit the model, or the loss becomes infinite.
        UnsupportedError: It is no model of PyTorch or Keras, it cannot be exported, the recipe rounds nothing in it, a
            rule matches no layer, or the channels do not fit it.
    """
    if steps < 1 or distillation_weight < 0 or (loss is None and distillation_weight == 0):
        raise InputError("there is nothing to learn", hint="give steps of at least 1, and a loss or a distillation")
    if distillation not in ("mse", "kl"):
        raise InputError(f"there is no distillation {distillation!r}", hint="mse or kl")
    chosen = Recipe.named(recipe) if isinstance(recipe, str) else recipe
    device = Target.named(target) if isinstance(target, str) else target
    rate = learning_rate or (_LEARNING_RATE if chosen is None else _ROUNDED_LEARNING_RATE)
    tuning = Tuning(
        recipe=chosen,
        followers=followers_of(device),
        teacher=teacher,
        loss=loss,
        distillation=distillation,
        distillation_weight=distillation_weight,
        steps=steps,
        learning_rate=rate,
        keep_zeros=keep_zeros,
        seed=seed,
        say=say or (lambda line: None),
    )
    return _tune(model, data, tuning, channels)


def _tune(model: Any, data: Iterable[Any], tuning: Tuning, channels: Channels | None) -> Any:
    """By whose model it is; no framework is imported to ask."""
    bases = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}
    if ("torch", "Module") in bases:
        from edgekit.compress._torch_finetune import finetune_torch

        return finetune_torch(model, data, tuning, None if channels is None else channels.kept)
    if ("keras", "Model") in bases:
        from edgekit.compress._keras_finetune import finetune_keras

        if channels is not None:
            raise UnsupportedError("channels of a Keras model", hint="prune channels of its hub graph, or in PyTorch")
        return finetune_keras(model, data, tuning)
    raise UnsupportedError(
        f"a {type(model).__name__} cannot be fine-tuned", hint="give a PyTorch module or Keras model"
    )
