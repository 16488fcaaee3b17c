"""Outliers of activations moved into the weights that multiply them, without changing what the net computes.

Source: Xiao, Lin, Seznec, Wu, Demouth, Han, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large
Language Models" (ICML 2023). All products that read one tensor share its factors: channel `j` is divided by
``peak_j ** alpha / weight_j ** (1 - alpha)``, and the rows of the weights are multiplied by it.

The division goes into what makes the tensor, if that is exact: the scale and bias of a normalization, or the channels
and the bias of another product. Others that read the tensor, such as the sum around a block, get it multiplied back by
one more Mul. A tensor whose maker cannot be divided, behind a Gelu for example, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import InputError
from edgekit.graph.walking import constant, copy_of, fresh_name, initializer, value_names
from edgekit.quantize.moments import Moments
from edgekit.quantize.rows import as_rows, from_rows, has_rows

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["smooth"]

_PRODUCTS = ("MatMul", "Gemm")
_NORMS = {"LayerNormalization": (1, 2), "RMSNormalization": (1,)}
"""The places of what multiplies and of what is added."""

_CLOSE = 1e-3
"""Factors this near to 1 are left out."""


@dataclass(frozen=True)
class _Divisor:
    """A constant that a tensor's channels are divided by way of.

    Attributes:
        node: Reads it.
        place: Its place among the inputs.
        is_weight: Whether it is the weight of a product, whose outputs are the channels.
    """

    node: ir.Node
    place: int
    is_weight: bool = False


def smooth(graph: ir.Model, moments: Moments, alpha: float) -> ir.Model:
    """A copy of a cleaned graph whose products read flatter tensors; it differs by float rounding only.

    Args:
        graph: A cleaned hub graph, normalizations recognized.
        moments: What `gather` found on it; only the peaks count.
        alpha: How much moves: 0 nothing but what evens out the weights, 1 all of the activations' range.

    Raises:
        InputError: `alpha` is not within 0 and 1.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"the share that is moved is between 0 and 1, not {alpha}")
    model = copy_of(graph)
    taken = value_names(model.graph) | {node.name or "" for node in model.graph}
    for value in [value for node in model.graph for value in node.outputs]:
        peak = moments.peaks.get(value.name or "")
        readers = _products(value)
        divisors = _divisors(value)
        if peak is None or not readers or not divisors or not _own_weights(readers):
            continue
        factor = _factor(peak, readers, alpha)
        if (factor != 1).any():
            _restore_for_others(model.graph, value, readers, factor, taken)
            for divisor in divisors:
                _divide(model.graph, divisor, factor, taken)
            for node in readers:
                _multiply(model.graph, node, factor)
    return model


def _products(value: ir.Value) -> list[ir.Node]:
    """The products of the value and a constant matrix."""
    users = [user for user, place in value.uses() if place == 0 and user.op_type in _PRODUCTS]
    return [user for user in users if has_rows(user)]


def _own_weights(readers: list[ir.Node]) -> bool:
    """Whether nobody else reads the weights."""
    weights = [node.inputs[1] for node in readers]
    return all(weight is not None and len(weight.uses()) == 1 and not weight.is_graph_output() for weight in weights)


def _divisors(value: ir.Value) -> list[_Divisor]:
    """The constants to divide so that the value is divided; none where that is not exact."""
    node = value.producer()
    if node is None or node.domain != "":
        return []
    if node.op_type in _NORMS:
        places = [
            place for place in _NORMS[node.op_type] if len(node.inputs) > place and node.inputs[place] is not None
        ]
        is_plain = all(_is_vector(node.inputs[place]) for place in places) and len(node.outputs) == 1
        return [_Divisor(node, place) for place in places] if is_plain and 1 in places else []
    if node.op_type in _PRODUCTS:
        return list(_of_product(node))
    if node.op_type in ("Add", "Mul"):
        return list(_of_line(node))
    return []


def _of_product(node: ir.Node) -> Iterator[_Divisor]:
    if has_rows(node) and _own_weights([node]):
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None or _is_vector(bias):
            yield _Divisor(node, 1, is_weight=True)
            if bias is not None:
                yield _Divisor(node, 2)


def _of_line(node: ir.Node) -> Iterator[_Divisor]:
    """Of a sum or product with a vector: both what is added and what it is added to."""
    place = next((place for place in (0, 1) if _is_vector(node.inputs[place])), None)
    if place is None:
        return
    source = node.inputs[1 - place]
    if node.op_type == "Mul":
        yield _Divisor(node, place)
        return
    is_private = source is not None and len(source.uses()) == 1 and not source.is_graph_output()
    before = _divisors(source) if is_private and source is not None else []
    if before:
        yield _Divisor(node, place)
        yield from before


def _is_vector(value: ir.Value | None) -> bool:
    """Whether a value is one constant number a channel, or one for all."""
    array = constant(value)
    return array is not None and array.dtype == np.float32 and array.ndim <= 1


def _factor(peak: np.ndarray, readers: list[ir.Node], alpha: float) -> np.ndarray:
    """What each channel is divided by; 1 where either side is zero."""
    weights = [np.abs(as_rows(node, _weight(node))[0]).max(axis=0) for node in readers]
    largest = np.max(weights, axis=0).astype("float64")
    both = (peak > 0) & (largest > 0)
    activation, weight = np.where(both, peak, 1.0), np.where(both, largest, 1.0)
    factor: np.ndarray = activation**alpha / weight ** (1 - alpha)
    return np.where(both & (np.abs(factor - 1) >= _CLOSE), factor, 1.0)


def _weight(node: ir.Node) -> np.ndarray:
    weight = constant(node.inputs[1])
    assert weight is not None
    return weight


def _restore_for_others(
    graph: ir.Graph, value: ir.Value, readers: list[ir.Node], factor: np.ndarray, taken: set[str]
) -> None:
    import onnx_ir as ir

    others = [(user, place) for user, place in value.uses() if user not in readers]
    if not others and not value.is_graph_output():
        return
    maker = value.producer()
    assert maker is not None
    back = initializer(graph, fresh_name(taken, f"{value.name}_smoothing"), factor.astype("float32"))
    name = fresh_name(taken, f"{value.name}_restored")
    node = ir.node("Mul", [value, back], name=name, num_outputs=1)
    restored = node.outputs[0]
    restored.name, restored.shape, restored.type = name, value.shape, value.type
    graph.insert_after(maker, node)
    for user, place in others:
        user.replace_input_with(place, restored)
    if value.is_graph_output():
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = restored
        value.name, restored.name = fresh_name(taken, f"{value.name}_smooth"), value.name


def _divide(graph: ir.Graph, divisor: _Divisor, factor: np.ndarray, taken: set[str]) -> None:
    value = divisor.node.inputs[divisor.place]
    array = constant(value)
    assert array is not None
    assert value is not None
    if divisor.is_weight:
        rows = as_rows(divisor.node, array) / factor[None, :, None]
        divided = from_rows(divisor.node, rows, array.shape)
    else:
        divided = np.broadcast_to(array, factor.shape) / factor
    name = fresh_name(taken, f"{value.name}_smooth")
    divisor.node.replace_input_with(divisor.place, initializer(graph, name, divided.astype("float32")))
    _forget_unread(graph, value)


def _multiply(graph: ir.Graph, node: ir.Node, factor: np.ndarray) -> None:
    import onnx_ir as ir

    value, array = node.inputs[1], _weight(node)
    assert value is not None
    rows = as_rows(node, array) * factor
    scaled = from_rows(node, rows, array.shape).astype("float32")
    value.const_value = ir.tensor(np.ascontiguousarray(scaled), name=value.name)


def _forget_unread(graph: ir.Graph, value: ir.Value) -> None:
    if not value.uses() and not value.is_graph_output():
        graph.initializers.pop(value.name or "", None)
