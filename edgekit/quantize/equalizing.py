"""Channels between consecutive layers brought to like ranges, without data and without changing what the net computes.

A layer followed by something that scales with its input, as Relu does, can give each channel divided by a factor that
the next layer multiplies back. Factors are such that a channel's largest weight is the same on both sides, found by
going over all pairs until none changes. Source: Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization
Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.1.

It evens out the ranges of activations, and of weights where a scale serves several input channels. A Relu6 does not
scale with its input, so nothing moves across it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.walking import constant, copy_of, fresh_name, initializer, rank, value_names
from edgekit.quantize.rows import as_rows, from_rows, has_rows

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["equalize"]

_ELEMENTWISE = ("Relu", "LeakyRelu", "PRelu", "Clip", "Identity", "Dropout")
_SPATIAL = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Pad", "Squeeze", "Flatten", "Reshape")
"""Operations each channel of which scales with its input, at least under the conditions of `_keeps_scale`; the latter
where the second axis is that of the channels."""

_CLOSE = 1e-3
"""Factors this near to 1 are left out: the pair is even."""

_ROUNDS = 1000


@dataclass(eq=False)
class _Layer:
    """A layer and the factors found so far.

    Attributes:
        node: A Conv, MatMul or Gemm.
        peaks: Largest magnitude for each pair of channels: float64 [groups, outputs, inputs], both of a group.
        given: What its outputs are divided by, [groups, outputs, 1].
        read: What its inputs are multiplied by, [groups, 1, inputs].
    """

    node: ir.Node
    peaks: np.ndarray
    given: np.ndarray
    read: np.ndarray

    @classmethod
    def of(cls, node: ir.Node) -> _Layer:
        peaks = np.abs(_by_channel(node, _weight(node))).max(axis=3)
        groups, outputs, inputs = peaks.shape
        return cls(node, peaks, np.ones((groups, outputs, 1)), np.ones((groups, 1, inputs)))

    @property
    def is_changed(self) -> bool:
        return bool((self.given != 1).any() or (self.read != 1).any())

    def largest(self, axis: int) -> np.ndarray:
        """The largest weight as it is now of each input (axis 1) or output (axis 2)."""
        found: np.ndarray = (self.peaks / self.given * self.read).max(axis=axis)
        return found.reshape(-1)

    def scale(self) -> None:
        """Puts the factors into the weight."""
        value, weight = self.node.inputs[1], _weight(self.node)
        assert value is not None
        scaled = _by_channel(self.node, weight) / self.given[..., None] * self.read[..., None]
        _put(value, from_rows(self.node, scaled.reshape(*scaled.shape[:2], -1), weight.shape))


@dataclass(frozen=True)
class _Pair:
    """Two layers with nothing between them that does not scale with its input.

    Attributes:
        first: Gives the channels.
        adder: Adds the bias: the layer itself, or an Add behind a MatMul.
        place: The bias among the inputs of the adder.
        second: Reads the channels.
    """

    first: ir.Node
    adder: ir.Node
    place: int
    second: ir.Node


def equalize(graph: ir.Model) -> ir.Model:
    """A copy of a cleaned graph with evened ranges; what it computes differs by float rounding only.

    Weights that several operations read, and channels that are zero on either side, stay as they are.
    """
    model = copy_of(graph)
    pairs = [pair for node in model.graph if (pair := _pair(node)) is not None]
    layers = {node: _Layer.of(node) for pair in pairs for node in (pair.first, pair.second)}
    for _ in range(_ROUNDS):
        if not sum(_even_out(layers[pair.first], layers[pair.second]) for pair in pairs):
            break
    taken = value_names(model.graph)
    for pair in pairs:
        _divide_bias(model.graph, pair, layers[pair.first].given.reshape(-1), taken)
    for layer in layers.values():
        if layer.is_changed:
            layer.scale()
    return model


def _even_out(first: _Layer, second: _Layer) -> bool:
    """Moves factors between two layers; whether there were any worth moving."""
    made, taken = first.largest(2), second.largest(1)
    both = (made > 0) & (taken > 0)
    factor = np.sqrt(np.where(both, made, 1.0) / np.where(both, taken, 1.0))
    factor[np.abs(factor - 1) < _CLOSE] = 1.0
    first.given *= factor.reshape(first.given.shape)
    second.read *= factor.reshape(second.read.shape)
    return bool((factor != 1).any())


def _weight(node: ir.Node) -> np.ndarray:
    weight = constant(node.inputs[1])
    assert weight is not None
    return weight


def _by_channel(node: ir.Node, weight: np.ndarray) -> np.ndarray:
    """The weight as float64 [groups, outputs of a group, inputs of a group, kernel positions]."""
    rows = as_rows(node, weight).astype("float64")
    inputs = weight.shape[1] if node.op_type == "Conv" else rows.shape[2]
    return rows.reshape(*rows.shape[:2], inputs, -1)


def _pair(node: ir.Node) -> _Pair | None:
    """The pair a layer is the first of, if it is."""
    if not _is_movable(node):
        return None
    adder, place, value = node, 2, node.outputs[0]
    reader = _only_reader(value)
    if node.op_type == "MatMul" and reader is not None and (found := _bias_of(reader, value)) is not None:
        adder, place, value = reader, found, reader.outputs[0]
        reader = _only_reader(value)
    while reader is not None and _keeps_scale(reader, value, is_image=node.op_type == "Conv"):
        value = reader.outputs[0]
        reader = _only_reader(value)
    if reader is None or reader.inputs[0] is not value or not _is_movable(reader):
        return None
    is_same = reader.op_type == "Conv" if node.op_type == "Conv" else reader.op_type != "Conv"
    if not (is_same or (node.op_type == "Conv" and rank(value) == 2)):
        return None  # the channels are on another axis
    bias = constant(adder.inputs[place]) if len(adder.inputs) > place else None
    outputs, inputs = _Layer.of(node).given.size, _Layer.of(reader).read.size
    return _Pair(node, adder, place, reader) if outputs == inputs and (bias is None or bias.size == outputs) else None


def _only_reader(value: ir.Value) -> ir.Node | None:
    readers = [user for user, _ in value.uses()]
    maker = value.producer()
    is_alone = len(readers) == 1 and not value.is_graph_output()
    return readers[0] if is_alone and maker is not None and readers[0].graph is maker.graph else None


def _is_movable(node: ir.Node) -> bool:
    """Whether its weight is its own and its bias constant."""
    if not has_rows(node) or node.op_type == "ConvTranspose":
        return False
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    is_own = weight is not None and len(weight.uses()) == 1 and not weight.is_graph_output()
    return is_own and (bias is None or constant(bias) is not None)


def _bias_of(node: ir.Node, value: ir.Value) -> int | None:
    """The place of the vector an Add adds to a value."""
    if node.op_type != "Add" or node.domain != "":
        return None
    place = 1 if node.inputs[0] is value else 0
    array = constant(node.inputs[place])
    return place if array is not None and array.ndim == 1 else None


def _keeps_scale(node: ir.Node, value: ir.Value, *, is_image: bool) -> bool:
    """Whether each of its output channels is multiplied by a positive factor when the input channel is."""
    if node.domain != "" or node.inputs[0] is not value or len(node.outputs) > 1:
        return False
    if node.op_type not in (_ELEMENTWISE + _SPATIAL if is_image else _ELEMENTWISE):
        return False
    if node.op_type == "PRelu":
        return constant(node.inputs[1]) is not None
    if node.op_type == "Clip":
        return _clips_at_zero_only(node)
    if node.op_type == "Pad":
        return _pads_channels_alike(node, value)
    if node.op_type in ("Squeeze", "Flatten", "Reshape"):
        before, after = list(value.shape or ()), list(node.outputs[0].shape or ())
        is_flat = len(before) > 2 and all(dim == 1 for dim in before[2:])
        return is_flat and len(after) == 2 and isinstance(before[1], int) and after[1] == before[1]
    return True


def _clips_at_zero_only(node: ir.Node) -> bool:
    low, high = (constant(node.inputs[i]) if len(node.inputs) > i else None for i in (1, 2))
    is_open = len(node.inputs) < 3 or node.inputs[2] is None or (high is not None and bool(np.isposinf(high).all()))
    return low is not None and not low.any() and is_open


def _pads_channels_alike(node: ir.Node, value: ir.Value) -> bool:
    """Not with a number that would have to be scaled too, and not by more channels."""
    before, after = list(value.shape or ()), list(node.outputs[0].shape or ())
    fill = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    is_zero = node.attributes.get_string("mode", "constant") != "constant" or (fill is not None and not fill.any())
    return is_zero and len(before) > 2 and before[1:2] == after[1:2] and isinstance(before[1], int)


def _divide_bias(graph: ir.Graph, pair: _Pair, factor: np.ndarray, taken: set[str]) -> None:
    value = pair.adder.inputs[pair.place] if len(pair.adder.inputs) > pair.place else None
    array = constant(value)
    if value is None or array is None or (factor == 1).all():
        return
    scaled = (array.astype("float64") / factor.reshape(array.shape)).astype("float32")
    if len(value.uses()) == 1 and not value.is_graph_output():
        _put(value, scaled)
    else:
        name = fresh_name(taken, f"{value.name}_even")
        pair.adder.replace_input_with(pair.place, initializer(graph, name, scaled))


def _put(value: ir.Value, array: np.ndarray) -> None:
    import onnx_ir as ir

    value.const_value = ir.tensor(np.ascontiguousarray(array, "float32"), name=value.name)
