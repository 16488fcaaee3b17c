"""The Keras form: a functional model of Keras's own layers, channels last, that loads without code of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, UnavailableError, UnsupportedError
from edgekit.network.keras_weights import is_depthwise, to_keras_weights
from edgekit.network.record import Layer, Record, Tensor
from edgekit.network.sizes import same_pads

__all__ = ["to_keras"]


def to_keras(network: Record, weights: Mapping[str, np.ndarray] | None = None) -> Any:
    """A ``keras.Model`` that takes the inputs by name and gives the outputs by name.

    Spatial tensors are channels last. Without `weights`, those Keras starts from.

    Raises:
        UnavailableError: Keras is not installed.
        UnsupportedError: Keras has no layers for some of the ops; all of them are listed.
        ArtifactError: `weights` lack one, or one has another shape.
    """
    try:
        import keras
    except ImportError as error:
        raise UnavailableError("Keras is not installed", hint="pip install 'edgekit-ml[tensorflow]'") from error
    if missing := [op for op in network.ops if op not in _OPS]:
        raise UnsupportedError(f"{network.name} has no Keras form", offenders=missing)
    form = _Form(keras)
    for spec in network.signature(channels_last=True).inputs:
        shape = [dim if isinstance(dim, int) else None for dim in spec.shape[1:]]
        form.values[spec.name] = keras.Input(shape, name=spec.name, dtype=spec.dtype)
    inputs = [form.values[tensor.name] for tensor in network.inputs]
    for layer in network.layers:
        form.values[layer.output.name] = _OPS[layer.op](form, layer, *(form.values[t.name] for t in layer.inputs))
    outputs = {name: form.values[tensor.name] for name, tensor in network.outputs.items()}
    model = keras.Model(inputs, outputs, name=network.name)
    if weights is not None:
        load_weights(model, network, weights)
    return model


def load_weights(model: Any, network: Record, weights: Mapping[str, np.ndarray]) -> None:
    """Puts `weights`, in PyTorch's layout, into a model that `to_keras` made of `network`. Raises ArtifactError."""
    for name, param in network.params.items():
        if name not in weights or tuple(weights[name].shape) != param.shape:
            got = f"has shape {list(weights[name].shape)}" if name in weights else "is missing"
            raise ArtifactError(f"weight {name} {got}; {network.name} wants {list(param.shape)}")
    for layer in network.layers:
        if layer.params:
            own = {part: weights[param.name] for part, param in layer.params.items()}
            model.get_layer(keras_name(layer)).set_weights(to_keras_weights(layer, own))


def keras_name(layer: Layer) -> str:
    """What a layer is called in Keras: TensorFlow exports no name that begins with an underscore."""
    return layer.name.lstrip("_")


class _Form:
    """What is built: Keras, and the symbolic tensor of each tensor."""

    def __init__(self, keras: Any) -> None:
        self.keras = keras
        self.layers = keras.layers
        self.ops = keras.ops
        self.values: dict[str, Any] = {}

    def pad(self, x: Any, pads: Sequence[tuple[int, int]], name: str) -> Any:
        if len(pads) == 1:
            return self.layers.ZeroPadding1D(pads[0], name=name)(x)
        return self.layers.ZeroPadding2D(tuple(pads), name=name)(x)


def _axis(tensor: Tensor, axis: int) -> int:
    """Where an axis of the record is with channels last."""
    if not tensor.is_spatial or axis == 0:
        return axis
    return len(tensor.shape) - 1 if axis == 1 else axis - 1


def _padded(form: _Form, layer: Layer, x: Any) -> tuple[Any, str]:
    """The input and the word for Keras's padding, after zeros by a layer of their own where no word says it."""
    options, size = layer.options, layer.inputs[0].shape[2:]
    pads, dilation = options["pads"], options.get("dilation", 1)
    if not any(map(sum, pads)):
        return x, "valid"
    spans = list(zip(size, options["kernel"], options["stride"], strict=True))
    fixed = all(isinstance(dim, int) or stride == 1 for dim, _, stride in spans)
    if fixed and pads == tuple(same_pads(dim, kernel, stride, dilation) for dim, kernel, stride in spans):
        return x, "same"
    if len(pads) == 1 and pads[0] == ((options["kernel"][0] - 1) * dilation, 0) and layer.op == "conv":
        return x, "causal"
    return form.pad(x, pads, f"{keras_name(layer)}.pad"), "valid"


def _conv(form: _Form, layer: Layer, x: Any) -> Any:
    options, (filters, _, *kernel) = layer.options, layer.params["weight"].shape
    x, padding = _padded(form, layer, x)
    settings = {"padding": padding, "use_bias": "bias" in layer.params, "name": keras_name(layer)}
    settings |= {"strides": options["stride"], "dilation_rate": options["dilation"]}
    if is_depthwise(layer):
        return form.layers.DepthwiseConv2D(kernel, **settings)(x)
    make = {1: form.layers.Conv1D, 2: form.layers.Conv2D}[len(kernel)]
    return make(filters, kernel, groups=options["groups"], **settings)(x)


def _conv_transpose(form: _Form, layer: Layer, x: Any) -> Any:
    options, weight = layer.options, layer.params["weight"].shape
    make = {1: form.layers.Conv1DTranspose, 2: form.layers.Conv2DTranspose}[len(options["kernel"])]
    settings = {"strides": options["stride"], "padding": "same", "use_bias": "bias" in layer.params}
    return make(weight[1], options["kernel"], name=keras_name(layer), **settings)(x)


def _dense(form: _Form, layer: Layer, x: Any) -> Any:
    weight = layer.params["weight"]
    if weight.name != f"{layer.name}.weight":
        raise UnsupportedError(f"{layer.name}: a dense layer that shares another's weight has no Keras form")
    return form.layers.Dense(weight.shape[0], use_bias="bias" in layer.params, name=keras_name(layer))(x)


def _batch_norm(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    settings = {"momentum": 1 - options["momentum"], "epsilon": options["epsilon"]}
    return form.layers.BatchNormalization(name=keras_name(layer), **settings)(x)


def _layer_norm(form: _Form, layer: Layer, x: Any) -> Any:
    return form.layers.LayerNormalization(epsilon=layer.options["epsilon"], name=keras_name(layer))(x)


def _rms_norm(form: _Form, layer: Layer, x: Any) -> Any:
    return form.layers.RMSNormalization(epsilon=layer.options["epsilon"], name=keras_name(layer))(x)


def _group_norm(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    return form.layers.GroupNormalization(options["groups"], epsilon=options["epsilon"], name=keras_name(layer))(x)


def _embedding(form: _Form, layer: Layer, ids: Any) -> Any:
    return form.layers.Embedding(*layer.params["weight"].shape, name=keras_name(layer))(ids)


def _add_positions(form: _Form, layer: Layer, x: Any) -> Any:
    # Counting ones gives 0, 1, 2 ... for any number of steps; Keras has no range of a symbolic length.
    ones = form.ops.ones_like(x[:, :, 0], dtype="int32")
    rows = form.layers.Embedding(*layer.params["weight"].shape, name=keras_name(layer))(
        form.ops.cumsum(ones, axis=1) - 1
    )
    return form.layers.Add()([x, rows])


def _recurrent(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    make = {"lstm": form.layers.LSTM, "gru": form.layers.GRU}[layer.op]
    if not options["bidirectional"]:
        return make(options["units"], return_sequences=options["sequences"], name=keras_name(layer))(x)
    inner = make(options["units"], return_sequences=options["sequences"])
    return form.layers.Bidirectional(inner, name=keras_name(layer))(x)


def _attention(form: _Form, layer: Layer, x: Any, mask: Any = None) -> Any:
    heads, bias = layer.options["heads"], "query_bias" in layer.params
    width = layer.output.channels // heads
    attend = form.layers.MultiHeadAttention(heads, width, use_bias=bias, name=keras_name(layer))
    if mask is None:
        return attend(x, x)
    return attend(x, x, attention_mask=form.ops.expand_dims(form.ops.not_equal(mask, 0), 1))


def _activation(form: _Form, layer: Layer, x: Any) -> Any:
    kind = layer.options["kind"]
    if kind == "leaky_relu":
        return form.layers.LeakyReLU(negative_slope=layer.options["slope"], name=keras_name(layer))(x)
    if kind in ("relu", "relu6"):
        return form.layers.ReLU(max_value=6.0 if kind == "relu6" else None, name=keras_name(layer))(x)
    if kind in ("exp", "sin", "cos"):
        return getattr(form.ops, kind)(x)
    return form.layers.Activation(kind, name=keras_name(layer))(x)


def _affine(form: _Form, layer: Layer, x: Any) -> Any:
    scale, offset = layer.options["scale"], layer.options["offset"]
    if not scale.ndim and not offset.ndim:
        return form.layers.Rescaling(float(scale), float(offset), name=keras_name(layer))(x)
    x = form.ops.multiply(x, scale) if scale.ndim or float(scale) != 1.0 else x
    return form.ops.add(x, offset) if offset.ndim or float(offset) != 0.0 else x


def _slice(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    places = [slice(None)] * len(layer.output.shape)
    places[_axis(layer.inputs[0], options["axis"])] = slice(options["start"], options["stop"])
    return x[tuple(places)]


def _crop(form: _Form, layer: Layer, x: Any) -> Any:
    crops = layer.options["crops"]
    if len(crops) == 1:
        return form.layers.Cropping1D(crops[0], name=keras_name(layer))(x)
    return form.layers.Cropping2D(crops, name=keras_name(layer))(x)


def _max_pool(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    make = {1: form.layers.MaxPooling1D, 2: form.layers.MaxPooling2D}[len(options["kernel"])]
    padded, word = _padded(form, layer, x)
    if word == "valid" and any(map(sum, options["pads"])):
        # What is padded must never be the largest, which zeros are among negative numbers.
        lowest = float(np.finfo(np.float32).min)
        padded = form.ops.pad(x, ((0, 0), *options["pads"], (0, 0)), "constant", lowest)
    return make(options["kernel"], strides=options["stride"], padding=word, name=keras_name(layer))(padded)


def _avg_pool(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    make = {1: form.layers.AveragePooling1D, 2: form.layers.AveragePooling2D}[len(options["kernel"])]
    return make(options["kernel"], strides=options["stride"], name=keras_name(layer))(x)


def _global_avg_pool(form: _Form, layer: Layer, x: Any) -> Any:
    make = {3: form.layers.GlobalAveragePooling1D, 4: form.layers.GlobalAveragePooling2D}
    return make[len(layer.inputs[0].shape)](name=keras_name(layer))(x)


def _masked_mean(form: _Form, layer: Layer, x: Any, mask: Any) -> Any:
    seen = form.ops.expand_dims(form.ops.cast(form.ops.not_equal(mask, 0), "float32"), -1)
    count = form.ops.maximum(form.ops.sum(seen, axis=1), 1.0)
    return form.ops.sum(form.ops.multiply(x, seen), axis=1) / count


def _upsample(form: _Form, layer: Layer, x: Any) -> Any:
    options = layer.options
    if len(layer.output.shape) == 3:
        return form.layers.UpSampling1D(options["factor"], name=keras_name(layer))(x)
    return form.layers.UpSampling2D(options["factor"], interpolation=options["mode"], name=keras_name(layer))(x)


def _space_to_depth(form: _Form, layer: Layer, x: Any) -> Any:
    corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    return form.layers.Concatenate(name=keras_name(layer))(corners)


def _reshape(form: _Form, layer: Layer, x: Any) -> Any:
    shape = layer.output.shape
    sizes = (*shape[2:], shape[1]) if layer.output.is_spatial else shape[1:]
    return form.layers.Reshape(sizes, name=keras_name(layer))(x)


_OPS: Mapping[str, Callable[..., Any]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
    "add_positions": _add_positions,
    "lstm": _recurrent,
    "gru": _recurrent,
    "attention": _attention,
    "activation": _activation,
    "dropout": lambda form, layer, x: form.layers.Dropout(layer.options["rate"], name=keras_name(layer))(x),
    "affine": _affine,
    "sum": lambda form, layer, *xs: form.layers.Add(name=keras_name(layer))(list(xs)),
    "product": lambda form, layer, *xs: form.layers.Multiply(name=keras_name(layer))(list(xs)),
    "concat": lambda form, layer, *xs: form.layers.Concatenate(
        axis=_axis(layer.inputs[0], layer.options["axis"]), name=keras_name(layer)
    )(list(xs)),
    "softmax": lambda form, layer, x: form.layers.Softmax(name=keras_name(layer))(x),
    "slice": _slice,
    "crop": _crop,
    "pad": lambda form, layer, x: form.pad(x, layer.options["pads"], keras_name(layer)),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "mean_steps": lambda form, layer, x: form.layers.GlobalAveragePooling1D(name=keras_name(layer))(x),
    "masked_mean": _masked_mean,
    "unit_length": lambda form, layer, x: form.layers.UnitNormalization(name=keras_name(layer))(x),
    "upsample": _upsample,
    "space_to_depth": _space_to_depth,
    "to_steps": _reshape,
    "to_spatial": _reshape,
    "step": lambda form, layer, x: x[:, layer.options["index"]],
    "reshape": _reshape,
}
