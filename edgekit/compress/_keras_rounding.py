"""Rounding put into the layers of a Keras model while it is tuned, with gradients that pass through it.

A layer's call is wrapped for the time being, so that models in models are no special case; what calls what is watched
in one run. See `edgekit.compress.fake_quant_torch` for where the arithmetic is from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edgekit.compress._rounding_places import FOLDED, MULTIPLYING, Step, require_matches, rounded_tensors
from edgekit.compress._tuning import MOMENTUM
from edgekit.errors import UnsupportedError
from edgekit.recipe import DYNAMIC, STATIC, WEIGHT_ONLY, Recipe

__all__ = ["Rounding", "rounding_of"]

_MIN_SPAN = 1e-6

_OP_TYPES = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D"), "Conv"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "Conv"),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), "ConvTranspose"),
    **dict.fromkeys(("Dense", "EinsumDense"), "MatMul"),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), "LSTM"),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "MaxPooling3D"), "MaxPool"),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D", "AveragePooling3D"), "AveragePool"),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D"), "GlobalAveragePool"),
    **dict.fromkeys(("BatchNormalization", "Dropout", "SpatialDropout1D", "SpatialDropout2D"), FOLDED),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D", "Pad"), "Pad"),
    **dict.fromkeys(("Permute", "Transpose"), "Transpose"),
    **dict.fromkeys(("Cropping1D", "Cropping2D", "GetItem"), "Slice"),
    **dict.fromkeys(("Concatenate", "Concat"), "Concat"),
    **dict.fromkeys(("Multiply", "Mul"), "Mul"),
    **dict.fromkeys(("Subtract", "Sub"), "Sub"),
    **{name: name for name in ("Add", "Reshape", "Flatten", "Squeeze", "Split")},
    "ExpandDims": "Unsqueeze",
    "Embedding": "Gather",
    "ReLU": "Relu",
    "Relu": "Relu",
    "Relu6": "Relu",
    "LeakyReLU": "LeakyRelu",
    "PReLU": "PRelu",
}
"""Class of a layer or operation of Keras -> operation of ONNX."""

_ACTIVATIONS = {
    "relu": "Relu",
    "relu6": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hard_swish": "HardSwish",
    "linear": FOLDED,
}
"""What an ``Activation`` layer is."""

_WEIGHTS: dict[str, tuple[tuple[str, tuple[int, ...], int], ...]] = {
    "Conv": (("kernel", (-1,), -2), ("pointwise_kernel", (-1,), -2), ("depthwise_kernel", (-2, -1), 0)),
    "ConvTranspose": (("kernel", (-2,), -1),),
    "MatMul": (("kernel", (-1,), 0),),
    "LSTM": (("kernel", (-1,), 0), ("recurrent_kernel", (-1,), 0)),
    "Gather": (("embeddings", (0,), -1),),
}
"""Attributes of a layer that hold its weights, with their axes of output channels and the axis of the sum."""


@dataclass
class _Range:
    """A tensor's range, and the rounding within it."""

    bits: int
    is_watching: bool = False
    is_rounding: bool = False
    variables: Any = None

    def __call__(self, tensor: Any) -> Any:
        import tensorflow as tf

        if self.is_watching:
            self._watch(tf.stop_gradient(tf.reduce_min(tensor)), tf.stop_gradient(tf.reduce_max(tensor)))
        return _rounded(tensor, self.variables[0], self.variables[1], self.bits) if self.is_rounding else tensor

    def _watch(self, low: Any, high: Any) -> None:
        import tensorflow as tf

        if self.variables is None:
            self.variables = tf.Variable(low, trainable=False), tf.Variable(high, trainable=False)
            return
        known = self.variables
        if self.is_rounding:
            moved = [MOMENTUM * one + (1 - MOMENTUM) * other for one, other in zip(known, (low, high), strict=True)]
        else:
            moved = [tf.minimum(known[0], low), tf.maximum(known[1], high)]
        for variable, value in zip(known, moved, strict=True):
            variable.assign(value)


def _rounded(tensor: Any, low: Any, high: Any, bits: int) -> Any:
    import tensorflow as tf

    low, high = tf.minimum(tf.convert_to_tensor(low), 0.0), tf.maximum(tf.convert_to_tensor(high), 0.0)
    high = tf.maximum(high, low + _MIN_SPAN)
    return tf.quantization.fake_quant_with_min_max_vars(tensor, low, high, num_bits=bits)


@dataclass
class Rounding:
    """What rounds while a model is tuned.

    Attributes:
        ranges: Of activations.
        num_weights: How many weights are rounded.
        calls: What was called in the run that was watched, in order.
    """

    ranges: list[_Range] = field(default_factory=list)
    num_weights: int = 0
    calls: list[_Call] = field(default_factory=list)
    reads: list[dict[int, Callable[[Any], Any]]] = field(default_factory=list)
    weights: dict[int, list[tuple[Any, Callable[[Any], Any]]]] = field(default_factory=dict)
    count: int = 0

    def set(self, *, watching: bool, rounding: bool) -> None:
        """Whether ranges move with what passes, and whether what passes is rounded."""
        for one in self.ranges:
            one.is_watching, one.is_rounding = watching, rounding


@dataclass(frozen=True)
class _Call:
    """One call of a layer: the float tensors it took, by their place among all it took, and those it gave."""

    layer: Any
    taken: dict[int, Any]
    given: list[Any]


@contextlib.contextmanager
def rounding_of(model: Any, first: Any, recipe: Recipe, followers: frozenset[str]) -> Iterator[Rounding]:
    """Within it, the model rounds where `recipe` will have integers, as far as its ``ranges`` are set to.

    Args:
        first: Inputs to watch one run with.

    Raises:
        UnsupportedError: The recipe rounds nothing in it, or a rule matches no layer.
    """
    rounding = Rounding()
    layers = list({id(layer): layer for layer in _leaves(model)}.values())
    with _wrapped(layers, lambda layer, call: _watching(rounding, layer, call)):
        model(first, training=False)
    _decide(rounding, recipe, followers)
    with (
        _wrapped([model], lambda layer, call: _counting(rounding, call)),
        _wrapped(layers, lambda layer, call: _rounding(rounding, layer, call)),
    ):
        yield rounding


def _leaves(part: Any) -> Iterator[Any]:
    """Layers and operations that are called for their own sake."""
    children = [*getattr(part, "operations", []), *getattr(part, "_layers", [])]
    if not children or type(part).__name__ in ("LSTM", "GRU", "SimpleRNN"):
        if type(part).__name__ != "InputLayer":
            yield part
        return
    for child in children:
        yield from _leaves(child)


@contextlib.contextmanager
def _wrapped(layers: list[Any], wrap: Callable[[Any, Any], Any]) -> Iterator[None]:
    """With the ``call`` of each layer in another; past Keras's own bookkeeping of what is set on a layer."""
    before = [(layer, vars(layer).get("call")) for layer in layers]
    for layer in layers:
        object.__setattr__(layer, "call", wrap(layer, layer.call))
    try:
        yield
    finally:
        for layer, call in before:
            if call is None:
                object.__delattr__(layer, "call")
            else:
                object.__setattr__(layer, "call", call)


def _counting(rounding: Rounding, call: Any) -> Any:
    def counted(*args: Any, **kwargs: Any) -> Any:
        rounding.count = 0
        return call(*args, **kwargs)

    return counted


def _is_float(value: Any) -> bool:
    import tensorflow as tf

    return isinstance(value, tf.Tensor) and value.dtype.is_floating


def _watching(rounding: Rounding, layer: Any, call: Any) -> Any:
    import tensorflow as tf

    def watched(*args: Any, **kwargs: Any) -> Any:
        given = call(*args, **kwargs)
        taken = {i: value for i, value in enumerate(tf.nest.flatten((args, kwargs))) if _is_float(value)}
        rounding.calls.append(_Call(layer, taken, [value for value in tf.nest.flatten(given) if _is_float(value)]))
        return given

    return watched


def _rounding(rounding: Rounding, layer: Any, call: Any) -> Any:
    import keras
    import tensorflow as tf

    def rounded(*args: Any, **kwargs: Any) -> Any:
        reads = rounding.reads[rounding.count]
        rounding.count += 1
        flat = [reads[i](value) if i in reads else value for i, value in enumerate(tf.nest.flatten((args, kwargs)))]
        args, kwargs = tf.nest.pack_sequence_as((args, kwargs), flat)
        weights = rounding.weights.get(id(layer))
        if not weights:
            return call(*args, **kwargs)
        with keras.StatelessScope(state_mapping=[(variable, to(variable.value)) for variable, to in weights]):
            return call(*args, **kwargs)

    return rounded


def _decide(rounding: Rounding, recipe: Recipe, followers: frozenset[str]) -> None:
    """Which of the tensors of the run are rounded, and which weights."""
    steps = [step for call in rounding.calls for step in _steps(call, recipe)]
    require_matches(recipe, steps)
    bits = 16 if "w8a16" in recipe.precisions else 8
    ranges = {tensor: _Range(bits) for tensor in rounded_tensors(steps, followers, recipe)}
    rounding.ranges = list(ranges.values())
    for call in rounding.calls:
        reads: dict[int, Any] = {i: ranges[id(value)] for i, value in call.taken.items() if id(value) in ranges}
        op_type = _op_type(call.layer)
        precision = recipe.precision_of(call.layer.name, op_type)
        found = _weights(call.layer, op_type)
        if precision in DYNAMIC and op_type == "MatMul" and found:
            reads = dict.fromkeys(list(call.taken)[:1], _round_by_itself)
        rounding.reads.append(reads)
        if found and precision in (*STATIC, *DYNAMIC, *WEIGHT_ONLY):
            block = WEIGHT_ONLY.get(precision) if op_type == "MatMul" else None
            rounding.weights[id(call.layer)] = [(one, _to(axes, axis, block)) for one, axes, axis in found]
    rounding.calls.clear()
    rounding.num_weights = sum(map(len, rounding.weights.values()))
    if not rounding.num_weights:
        raise UnsupportedError(f"recipe {recipe.name!r} would round nothing here", hint="leave the recipe out")


def _steps(call: _Call, recipe: Recipe) -> Iterator[Step]:
    op_type, name = _op_type(call.layer), call.layer.name
    inputs = tuple(map(id, call.taken.values()))
    has_weights = bool(_weights(call.layer, op_type))
    if op_type in (*MULTIPLYING, "LSTM") and not has_weights:
        op_type = ""
    for value in call.given:
        if id(value) in inputs:  # a dropout that drops nothing gives what it took
            continue
        precision = recipe.precision_of(name, op_type) if has_weights else ""
        yield Step(name, op_type, inputs[:1] if has_weights else inputs, id(value), precision)


def _op_type(layer: Any) -> str:
    kind = type(layer).__name__
    if kind == "Activation":
        return _ACTIVATIONS.get(getattr(layer.activation, "__name__", ""), "")
    if kind == "ReLU" and (layer.negative_slope or layer.threshold):
        return ""
    return _OP_TYPES.get(kind, "")


def _weights(layer: Any, op_type: str) -> list[tuple[Any, tuple[int, ...], int]]:
    """Variables of the layer, with their axes of output channels and the axis of the sum."""
    holder = getattr(layer, "cell", layer)
    found = []
    for attribute, axes, summed in _WEIGHTS.get(op_type, ()):
        variable = getattr(holder, attribute, None)
        if variable is not None and len(variable.shape) > 1:
            if type(layer).__name__.startswith("Depthwise"):
                axes = (-2, -1)
            if type(layer).__name__ == "EinsumDense":
                letters, out = layer.equation.split(",")[1].split("->")
                axes = tuple(i for i, letter in enumerate(letters) if letter in out)
            found.append((variable, axes, summed))
    return found


def _round_by_itself(tensor: Any) -> Any:
    import tensorflow as tf

    return _rounded(tensor, tf.stop_gradient(tf.reduce_min(tensor)), tf.stop_gradient(tf.reduce_max(tensor)), 8)


def _to(axes: tuple[int, ...], summed: int, block: int | None) -> Callable[[Any], Any]:
    """Rounds a weight to 8 symmetric bits per index of `axes`, or to 4 bits per `block` along the axis of the sum."""
    import tensorflow as tf

    def rounded(weight: Any) -> Any:
        value = tf.stop_gradient(tf.convert_to_tensor(weight))
        if block is not None and len(weight.shape) == 2:
            return weight + (_round_groups(value, summed, block) - value)
        others = [axis for axis in range(len(weight.shape)) if axis not in {a % len(weight.shape) for a in axes}]
        scale = tf.maximum(tf.reduce_max(tf.abs(value), others, keepdims=True), _MIN_SPAN) / 127
        return weight + (tf.round(value / scale) * scale - value)

    return rounded


def _round_groups(value: Any, axis: int, block: int) -> Any:
    """As `edgekit.quantize.solver.quantize_groups` rounds, asymmetric; of a matrix."""
    import tensorflow as tf

    rows = tf.transpose(value) if axis == 0 else value
    count, size = rows.shape
    groups = tf.reshape(tf.pad(rows, [[0, 0], [0, -size % block]]), (count, -1, block))
    low = tf.minimum(tf.reduce_min(groups, -1, keepdims=True), 0.0)
    high = tf.maximum(tf.reduce_max(groups, -1, keepdims=True), 0.0)
    scale = tf.maximum(high - low, _MIN_SPAN) / 15
    zero = tf.clip_by_value(tf.round(-low / scale), 0, 15)
    rounded = (tf.clip_by_value(tf.round(groups / scale) + zero, 0, 15) - zero) * scale
    rows = tf.reshape(rounded, (count, -1))[:, :size]
    return tf.transpose(rows) if axis == 0 else rows
