"""Weights between PyTorch's layout and Keras's, layer by layer, in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.network.record import Layer

__all__ = ["from_keras_weights", "is_depthwise", "to_keras_weights"]

Weights = Mapping[str, np.ndarray]

_NORMS = {
    "batch_norm": ("weight", "bias", "running_mean", "running_var"),
    "layer_norm": ("weight", "bias"),
    "group_norm": ("weight", "bias"),
    "rms_norm": ("weight",),
    "embedding": ("weight",),
    "add_positions": ("weight",),
}
"""Weights that are the same in both, in Keras's order."""

_PARTS = ("query", "key", "value", "output")


def is_depthwise(layer: Layer) -> bool:
    """Whether a convolution is one that Keras has a layer of its own for."""
    filters, width, *kernel = layer.params["weight"].shape
    return len(kernel) == 2 and width == 1 and filters == layer.options["groups"] > 1


def to_keras_weights(layer: Layer, own: Weights) -> list[np.ndarray]:
    """What the Keras layer's ``set_weights`` takes, from the record layer's weights by part."""
    if layer.op in _NORMS:
        return [own[part] for part in _NORMS[layer.op]]
    if layer.op in ("lstm", "gru"):
        ends = ("", "_reverse") if layer.options["bidirectional"] else ("",)
        return [array for end in ends for array in _to_recurrent(layer, own, end)]
    if layer.op == "attention":
        return _to_attention(layer, own)
    turned = own["weight"].transpose(_axes(layer))
    return [turned, own["bias"]] if "bias" in own else [turned]


def from_keras_weights(layer: Layer, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The opposite: the record layer's weights by part, from the Keras layer's ``get_weights``.

    Keras's LSTM has one bias where PyTorch has two that are added: the second becomes zero.
    """
    if layer.op in _NORMS:
        return dict(zip(_NORMS[layer.op], arrays, strict=True))
    if layer.op in ("lstm", "gru"):
        ends = ("", "_reverse") if layer.options["bidirectional"] else ("",)
        own: dict[str, np.ndarray] = {}
        for index, end in enumerate(ends):
            own |= _from_recurrent(layer, arrays[3 * index : 3 * index + 3], end)
        return own
    if layer.op == "attention":
        return _from_attention(layer, arrays)
    own = {"weight": arrays[0].transpose(np.argsort(_axes(layer)))}
    return {**own, "bias": arrays[1]} if "bias" in layer.params else own


def _axes(layer: Layer) -> tuple[int, ...]:
    """How PyTorch's axes of a weight are ordered in Keras."""
    spatial = tuple(range(2, len(layer.params["weight"].shape)))
    return (*spatial, 0, 1) if layer.op == "conv" and is_depthwise(layer) else (*spatial, 1, 0)


def _gates(layer: Layer, array: np.ndarray) -> np.ndarray:
    """Gates in the other framework's order: PyTorch's GRU has reset before update; their LSTMs agree."""
    if layer.op == "lstm":
        return array
    reset, update, new = np.split(array, 3)
    return np.concatenate([update, reset, new])


def _to_recurrent(layer: Layer, own: Weights, end: str) -> list[np.ndarray]:
    kernel, recurrent = (_gates(layer, own[f"{part}{end}"]).T for part in ("weight_ih", "weight_hh"))
    biases = [_gates(layer, own[f"{part}{end}"]) for part in ("bias_ih", "bias_hh")]
    return [kernel, recurrent, np.stack(biases) if layer.op == "gru" else biases[0] + biases[1]]


def _from_recurrent(layer: Layer, arrays: Sequence[np.ndarray], end: str) -> dict[str, np.ndarray]:
    kernel, recurrent, bias = arrays
    first, second = bias if layer.op == "gru" else (bias, np.zeros_like(bias))
    parts = {"weight_ih": kernel.T, "weight_hh": recurrent.T, "bias_ih": first, "bias_hh": second}
    return {f"{part}{end}": _gates(layer, array) for part, array in parts.items()}


def _to_attention(layer: Layer, own: Weights) -> list[np.ndarray]:
    heads, width = layer.options["heads"], layer.output.channels
    arrays = []
    for part in _PARTS:
        shape = (heads, width // heads, width) if part == "output" else (width, heads, width // heads)
        arrays.append(own[f"{part}_weight"].T.reshape(shape))
        if f"{part}_bias" in own:
            arrays.append(own[f"{part}_bias"].reshape(shape[-1:] if part == "output" else shape[1:]))
    return arrays


def _from_attention(layer: Layer, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    width = layer.output.channels
    has_bias = "query_bias" in layer.params
    own: dict[str, np.ndarray] = {}
    for index, part in enumerate(_PARTS):
        own[f"{part}_weight"] = arrays[index * (1 + has_bias)].reshape(width, width).T
        if has_bias:
            own[f"{part}_bias"] = arrays[2 * index + 1].reshape(width)
    return own
