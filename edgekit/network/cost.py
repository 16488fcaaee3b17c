"""What one sample costs: multiply-accumulates, counted from the record's shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.network.record import Layer, Record, Tensor

__all__ = ["count_macs"]


def count_macs(network: Record, sizes: Mapping[str, int] | None = None) -> int:
    """Multiply-accumulates of products with weights and of attention's, for a batch of one.

    Args:
        network: What to count.
        sizes: Values of symbolic sizes other than the batch, such as ``{"steps": 128}``.

    Raises UnsupportedError where a size is symbolic and not given.
    """
    known = {"batch": 1, **(sizes or {})}
    return sum(_COUNTS[layer.op](layer, known) for layer in network.layers if layer.op in _COUNTS)


def _numbers(tensor: Tensor, known: Mapping[str, int]) -> int:
    """How many numbers a tensor holds."""
    total = 1
    for dim in tensor.shape:
        if not isinstance(dim, int) and dim not in known:
            raise UnsupportedError(f"the size {dim!r} is needed to count operations")
        total *= dim if isinstance(dim, int) else known[dim]
    return total


def _conv(layer: Layer, known: Mapping[str, int]) -> int:
    weight = layer.params["weight"].shape
    return _numbers(layer.output, known) * int(np.prod(weight[1:]))


def _conv_transpose(layer: Layer, known: Mapping[str, int]) -> int:
    weight = layer.params["weight"].shape
    return _numbers(layer.inputs[0], known) * int(np.prod(weight[1:]))


def _dense(layer: Layer, known: Mapping[str, int]) -> int:
    return _numbers(layer.output, known) * layer.params["weight"].shape[1]


def _recurrent(layer: Layer, known: Mapping[str, int]) -> int:
    steps = _numbers(layer.inputs[0], known) // layer.inputs[0].channels
    return steps * sum(param.size for part, param in layer.params.items() if part.startswith("weight"))


def _attention(layer: Layer, known: Mapping[str, int]) -> int:
    x = layer.inputs[0]
    steps = _numbers(x, known) // x.channels
    return steps * _projections(layer) + 2 * steps * steps * x.channels


def _cached_attention(layer: Layer, known: Mapping[str, int]) -> int:
    x, keys = layer.inputs[0], layer.inputs[1]
    steps = _numbers(x, known) // x.channels
    return steps * _projections(layer) + 2 * steps * keys.size(2) * x.channels


def _projections(layer: Layer) -> int:
    return sum(param.size for part, param in layer.params.items() if part.endswith("weight"))


_COUNTS: Mapping[str, Callable[[Layer, Mapping[str, int]], int]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "dense": _dense,
    "lstm": _recurrent,
    "gru": _recurrent,
    "attention": _attention,
    "cached_attention": _cached_attention,
}
