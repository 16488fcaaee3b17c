"""Fine-tuning of a Keras model in the user's process: distillation from what it was, in float or under rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from edgekit.compress._keras_rounding import rounding_of
from edgekit.compress._tuning import CALIBRATION_BATCHES, MAX_GRADIENT_NORM, WATCHED_SHARE, Tuning, endless
from edgekit.errors import InputError, UnsupportedError

__all__ = ["finetune_keras"]

_TEMPERATURE = 2.0
"""Of scores compared as probabilities (Hinton et al. 2015)."""


def finetune_keras(model: Any, data: Iterable[Any], tuning: Tuning) -> Any:
    """See `edgekit.compress.finetune`."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise UnsupportedError(
            f"a Keras model on the {keras.backend.backend()} backend", hint="set KERAS_BACKEND=tensorflow"
        )
    twin = _copy_of(model, tuning.seed)
    first = _inputs(tuning.split(next(endless(data)))[0])
    try:
        model(first, training=False)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the model cannot be called with a batch of the data: {error}",
            hint="without a loss a batch is inputs alone; with one, a pair of inputs and targets",
        ) from error
    run = _Run(model, twin, endless(data), tuning)
    if tuning.recipe is None:
        run.learn("in float", is_training=True)
        return twin
    with rounding_of(twin, first, tuning.recipe, tuning.followers) as rounding:
        rounding.set(watching=True, rounding=False)
        for batch in islice(run.batches, CALIBRATION_BATCHES):
            twin(_inputs(tuning.split(batch)[0]), training=False)
        tuning.say(f"rounding {rounding.num_weights} weights and {len(rounding.ranges)} activations")

        def set_watching(watching: bool) -> None:
            rounding.set(watching=watching, rounding=True)

        run.learn("under rounding", is_training=False, set_watching=set_watching)
    return twin


def _copy_of(model: Any, seed: int) -> Any:
    import keras

    try:
        twin = keras.models.clone_model(model)
    except (ValueError, NotImplementedError) as error:
        raise UnsupportedError(
            f"{type(model).__name__} cannot be copied: {error}", hint="build it with Keras's functional interface"
        ) from error
    twin.set_weights(model.get_weights())
    for i, (mine, theirs) in enumerate(zip(twin._flatten_layers(), model._flatten_layers(), strict=True)):
        mine.trainable = theirs.trainable
        generator = getattr(mine, "seed_generator", None)
        if generator is not None:
            generator.state.assign([seed, i])
    return twin


def _inputs(inputs: Any) -> Any:
    """What a model is called with: arrays made tensors, several in a list."""
    import tensorflow as tf

    if isinstance(inputs, Mapping):
        return {name: tf.convert_to_tensor(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return [tf.convert_to_tensor(value) for value in inputs]
    return tf.convert_to_tensor(inputs)


@dataclass
class _Run:
    """A model being tuned.

    Attributes:
        model: As it was given.
        twin: What is tuned.
    """

    model: Any
    twin: Any
    batches: Iterator[Any]
    tuning: Tuning

    def learn(
        self, what: str, *, is_training: bool, set_watching: Callable[[bool], None] = lambda watching: None
    ) -> None:
        """Trains the twin.

        Args:
            is_training: Whether batch normalizations learn statistics and dropouts drop.
            set_watching: Called before what follows is traced anew.
        """
        import keras
        import tensorflow as tf

        tuning, variables = self.tuning, list(self.twin.trainable_variables)
        optimizer = keras.optimizers.Adam(tuning.learning_rate)
        optimizer.build(variables)
        masks = self._masks(variables)

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def update(inputs: Any, targets: Any, wanted: Any, is_watching: bool) -> Any:
            set_watching(is_watching)
            with tf.GradientTape() as tape:
                loss = self._loss(self.twin(inputs, training=is_training), targets, wanted)
            gradients = tape.gradient(
                loss, [variable.value for variable in variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            optimizer.apply(tf.clip_by_global_norm(gradients, MAX_GRADIENT_NORM)[0], variables)
            for variable, mask in masks:
                variable.assign(variable.value * mask)
            return loss

        for step in range(tuning.steps):
            optimizer.learning_rate.assign(tuning.rate(step, tuning.steps))
            batch, targets = tuning.split(next(self.batches))
            inputs = _inputs(batch)
            given = None if targets is None else _inputs(targets)
            loss = update(inputs, given, self._wanted(inputs), step < WATCHED_SHARE * tuning.steps)
            tuning.report(what, step, tuning.steps, float(loss))

    def _masks(self, variables: Sequence[Any]) -> list[tuple[Any, Any]]:
        import tensorflow as tf

        if not self.tuning.keep_zeros:
            return []
        found = [(one, tf.cast(one.value != 0, one.dtype)) for one in variables if len(one.shape) > 1]
        return [(one, mask) for one, mask in found if 0 < float(tf.reduce_mean(mask)) < 1]

    def _wanted(self, inputs: Any) -> Any:
        if not self.tuning.distillation_weight:
            return None
        if self.tuning.teacher is None:
            return self.model(inputs, training=False)
        return self.tuning.teacher(inputs)

    def _loss(self, answers: Any, targets: Any, wanted: Any) -> Any:
        total: Any = 0.0
        if wanted is not None:
            total = self.tuning.distillation_weight * _distance(answers, wanted, self.tuning.distillation)
        return total if self.tuning.loss is None else total + self.tuning.loss(answers, targets)


def _distance(answers: Any, wanted: Any, kind: str) -> Any:
    """How far the float answers are from those wanted: a mean over all of them."""
    import tensorflow as tf

    pairs = list(zip(tf.nest.flatten(answers), tf.nest.flatten(wanted), strict=True))
    pairs = [(got, tf.stop_gradient(want)) for got, want in pairs if got.dtype.is_floating]
    if not pairs or any(not got.shape.is_compatible_with(want.shape) for got, want in pairs):
        shapes = [(got.shape.as_list(), want.shape.as_list()) for got, want in pairs]
        raise InputError(f"the teacher's answers are not like the model's: {shapes}", hint="give another teacher")
    total: Any = 0.0
    for got, want in pairs:
        if kind == "kl":
            logs, aims = (tf.nn.log_softmax(scores / _TEMPERATURE) for scores in (got, want))
            rows = tf.reduce_sum(tf.exp(aims) * (aims - logs), -1)
            total = total + _TEMPERATURE**2 * tf.reduce_mean(rows)
        else:
            spread = tf.maximum(tf.math.reduce_variance(want), 1e-12)
            total = total + tf.reduce_mean(tf.square(got - want)) / spread
    return total / len(pairs)
