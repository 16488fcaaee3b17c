"""Weights that share few values: k-means in one dimension, and palettes to store the result by.

The values are found by Lloyd's algorithm ("Least squares quantization in PCM", 1982) with, where a size is asked for,
a price on rare values ("Entropy-constrained vector quantization", Chou, Lookabaugh and Gray, 1989): a value that is
used more often costs fewer bits behind gzip. "Deep Compression", Han et al., 2016, for the use of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgekit.compress.weights import Changed, Weight, relative_error, require, set_weight, weights_of
from edgekit.graph.files import raise_opset
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import copy_of, fresh_name, initializer, value_names

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["cluster", "find_values", "pack_halves", "palette_of", "store_palettes"]

_ROUNDS = 300
_SETTLED = 1e-9
_PRICES = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16)
"""Of a bit, in variances of the weight."""
_SAMPLE = 4096
_HALF = 16
_OPSET = 21
"""The first whose tensors may have elements of 4 bits."""


def cluster(
    graph: ir.Model,
    *,
    bits: int = 4,
    per: str = "tensor",
    times_smaller: float | None = None,
    skip: Sequence[str] = (),
) -> Changed:
    """A copy whose weights take at most ``2 ** bits`` values each, zeros staying zeros where a share of them is.

    Args:
        graph: A hub graph; it is not changed.
        bits: 1 to 8.
        per: ``"tensor"``: all of a weight shares the values; ``"channel"``: every slice of its first axis has its own.
        times_smaller: How much smaller the weights are to be, stored as float32 behind zlib of level 6, than they were
            as they were; rare values are given up for it as far as is needed. None takes the least error. Stored as
            palettes (`store_palettes`) the weights are smaller than that anyway.
        skip: Patterns for names of operations whose weights stay.

    Raises:
        UnsupportedError: A parameter is out of range, a pattern matches nothing, or no such clusters are small enough.
    """
    require(1 <= bits <= 8, "bits", "1 to 8", bits)
    require(per in ("tensor", "channel"), "per", "'tensor' or 'channel'", per)
    require(times_smaller is None or times_smaller > 1, "times_smaller", "above 1", times_smaller)
    model = copy_of(graph)
    weights = weights_of(model, skip)
    arrays = [_clustered(weight, bits, per, 0.0) for weight in weights]
    if times_smaller is not None:
        arrays = _small_enough(weights, arrays, bits, per, times_smaller)
    errors: dict[str, float] = {}
    for weight, array in zip(weights, arrays, strict=True):
        if array is not weight.array:
            set_weight(weight.value, array)
            errors[weight.node] = max(errors.get(weight.node, 0.0), relative_error(weight.array, array))
    return model, errors


def _small_enough(
    weights: list[Weight], arrays: list[np.ndarray], bits: int, per: str, times_smaller: float
) -> list[np.ndarray]:
    raw = sum(weight.array.nbytes for weight in weights)
    reached = 0.0
    for price in _PRICES:
        found = arrays if price == 0 else [_clustered(weight, bits, per, price) for weight in weights]
        reached = raw / max(1, sum(len(zlib.compress(array.tobytes(), 6)) for array in found))
        if reached >= times_smaller:
            return found
    require(False, "times_smaller", f"at most {reached:.1f} for {bits} bits of these weights", times_smaller)
    return arrays


def _clustered(weight: Weight, bits: int, per: str, price: float) -> np.ndarray:
    """The weight with few values; the very same array where it has few enough already."""
    rows = weight.array.reshape(len(weight.array) if per == "channel" else 1, -1)
    done = [_nearest(row, bits, price) for row in rows]
    if all(new is old for new, old in zip(done, rows, strict=True)):
        return weight.array
    return np.stack(done).reshape(weight.array.shape)


def _nearest(row: np.ndarray, bits: int, price: float) -> np.ndarray:
    count = 2**bits
    if len(np.unique(row[:_SAMPLE])) <= count and len(np.unique(row)) <= count:
        return row
    # Weights pruned before are to stay so: where zeros are common they keep one of the values for themselves.
    zeros = row == 0
    if np.count_nonzero(zeros) * count < row.size:
        return _assigned(row, count, price)
    result = np.zeros_like(row)
    result[~zeros] = _assigned(row[~zeros], count - 1, price)
    return result


def _assigned(numbers: np.ndarray, count: int, price: float) -> np.ndarray:
    values, edges = find_values(numbers, count, price)
    return values[np.searchsorted(edges, numbers)]


def find_values(numbers: np.ndarray, count: int, price: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` values near to `numbers`, ascending float32, and the edges between those that take them.

    Args:
        numbers: Of one axis.
        count: 1 or more.
        price: What a bit of the code of a value costs, in variances of `numbers`; 0 asks for least squares.
    """
    ordered = np.sort(numbers).astype("float64")
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    cost = price * float(ordered.var())
    # Between the quantiles, which crowd where numbers are many, and even steps, which reach the rare large ones.
    even = np.linspace(ordered[0], ordered[-1], count)
    values = (np.quantile(ordered, (np.arange(count) + 0.5) / count) + even) / 2
    bits, last = np.zeros(count), np.inf
    edges = np.empty(0)
    for _ in range(_ROUNDS):
        edges = _edges(values, bits * cost)
        places = np.concatenate([[0], np.searchsorted(ordered, edges), [ordered.size]])
        counts = np.diff(places)
        used = counts > 0
        values = (np.diff(sums[places])[used]) / counts[used]
        bits = -np.log2(counts[used] / ordered.size)
        # Less is better: the variance that the values explain, less what their bits cost.
        score = float(-(counts[used] * values**2).sum() + cost * (counts[used] * bits).sum())
        if abs(last - score) <= _SETTLED * max(abs(score), 1e-30) and used.all():
            break
        last = score
    rounded = np.unique(values.astype("float32"))
    if len(rounded) == len(values):
        return rounded, _edges(values, bits * cost).astype("float32")
    return rounded, _edges(rounded.astype("float64"), np.zeros(len(rounded))).astype("float32")


def _edges(values: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Where a number costs as much with one value as with the next."""
    steps = np.maximum(np.diff(values), 1e-30)
    return np.maximum.accumulate((values[1:] + values[:-1]) / 2 + np.diff(costs) / (2 * steps))


def palette_of(array: np.ndarray, most: int = 256) -> tuple[np.ndarray, np.ndarray] | None:
    """The distinct values of an array, ascending, and for every number the place of its value (uint8).

    None where there are more values than `most`, at most 256, or where storing it so saves nothing.
    """
    flat = array.reshape(-1)
    if len(np.unique(flat[:_SAMPLE])) > most:
        return None
    values, places = np.unique(flat, return_inverse=True)
    if len(values) > most or values.nbytes + places.size >= array.nbytes:
        return None
    return values, places.reshape(array.shape).astype("uint8")


def pack_halves(places: np.ndarray) -> np.ndarray:
    """Numbers below 16 two to a byte, the first in the lower half, as ONNX and OpenVINO store them."""
    flat = np.append(places.reshape(-1), np.zeros(places.size % 2, "uint8"))
    return np.asarray(flat[::2] | flat[1::2] << 4)


def store_palettes(graph: ir.Model, *, halves: bool = True) -> ir.Model:
    """A copy whose weights of at most 256 values are stored as those values and a place in them for each number.

    A Cast and a Gather of constants put the weight together. ONNX Runtime and OpenVINO do that once, when they open the
    file; TensorFlow Lite would in every call, so this is nothing for TFLite. The last thing to do to a graph:
    quantizing looks for weights that are initializers.

    Args:
        graph: A hub graph; it is not changed.
        halves: Whether places of 16 values or fewer are stored in 4 bits; that needs opset 21, to which the graph is
            raised. Otherwise every place is a byte.

    Raises:
        ConversionError: The opset cannot be raised.
    """
    model = copy_of(graph)
    found = [(weight, palette) for weight in weights_of(model) if (palette := palette_of(weight.array)) is not None]
    found = [(weight, palette) for weight, palette in found if weight.value.graph is model.graph]
    if halves and any(len(values) <= _HALF for _, (values, _) in found):
        model = infer_shapes(raise_opset(model, _OPSET))
    taken = value_names(model.graph)
    for weight, (values, places) in found:
        _store(model, weight.value.name or "", values, places, taken, is_half=halves and len(values) <= _HALF)
    return model


def _store(
    model: ir.Model, name: str, values: np.ndarray, places: np.ndarray, taken: set[str], *, is_half: bool
) -> None:
    import onnx_ir as ir

    old = model.graph.initializers.pop(name)
    palette = initializer(model.graph, fresh_name(taken, f"{name}_palette"), values)
    kind = np.dtype("uint8")
    if is_half:
        import ml_dtypes

        kind = np.dtype(ml_dtypes.uint4)
    stored = initializer(model.graph, fresh_name(taken, f"{name}_places"), places.astype(kind))
    wide = ir.node("Cast", [stored], attributes={"to": ir.DataType.INT32}, name=fresh_name(taken, f"{name}_at"))
    row = ir.node("Gather", [palette, wide.outputs[0]], attributes={"axis": 0}, name=fresh_name(taken, f"{name}_taken"))
    wide.outputs[0].name, row.outputs[0].name = wide.name, name
    row.outputs[0].shape, row.outputs[0].type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, row.outputs[0])
    model.graph.insert_before(next(iter(model.graph)), [wide, row])
