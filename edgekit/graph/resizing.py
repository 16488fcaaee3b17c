"""Resize by tables: every form of ONNX's Resize on known sizes is a gather or a product with a constant, axis by axis.

Coordinates and filters: https://onnx.ai/onnx/operators/onnx__Resize.html; the cubic is that of R. Keys, "Cubic
convolution interpolation for digital image processing" (1981).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.graph.walking import constant, int_attribute, static_shape

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgekit.graph.legalizing import Nodes

__all__ = ["AxisTable", "resize_by_tables", "resize_tables"]


@dataclass(frozen=True)
class AxisTable:
    """How one axis is resized.

    Attributes:
        axis: Which, counted from the front.
        places: For mode ``nearest``, int64[out]: the element each result is taken from; else None.
        weights: For ``linear`` and ``cubic``, float64[out, in], rows that sum to 1; else None.
        outside: bool[out]: results that lie outside the input and are the extrapolation value; None where none do.
        length: in, the size there was.
    """

    axis: int
    places: np.ndarray | None
    weights: np.ndarray | None
    outside: np.ndarray | None
    length: int

    @property
    def changes(self) -> bool:
        """Whether the axis is any different afterwards."""
        if self.outside is not None:
            return True
        if self.places is not None:
            return not np.array_equal(self.places, np.arange(self.length))
        same = np.eye(self.length)
        return self.weights is None or self.weights.shape != same.shape or not np.allclose(self.weights, same, 0, 1e-12)


def resize_tables(node: ir.Node) -> list[AxisTable] | None:
    """The tables of those axes a Resize changes, in order; None when sizes are only known in a run."""
    shape = static_shape(node.inputs[0])
    targets = None if shape is None else _targets(node, shape)
    if shape is None or targets is None:
        return None
    tables = [_table(node, axis, shape[axis], *target) for axis, target in sorted(targets.items())]
    return [table for table in tables if table.changes]


def resize_by_tables(node: ir.Node, new: Nodes) -> Sequence[ir.Value] | None:
    """A Resize of known sizes becomes Gather or MatMul by constants, whatever its coordinates, filter and edges."""
    tables, value = resize_tables(node), node.inputs[0]
    if tables is None or value is None or value.dtype is None or value.shape is None:
        return None
    kind, dims = value.dtype.numpy(), len(value.shape)
    if kind.kind != "f" and any(table.weights is not None for table in tables):
        return None
    result: ir.Value = value
    for table in tables:
        if table.places is not None:
            result = new("Gather", result, new.constant(table.places), axis=table.axis)
        elif table.weights is not None:
            result = _product(result, table.weights.astype(kind), table.axis, dims, new)
    outside = [(table.axis, table.outside) for table in tables if table.outside is not None]
    if outside:
        masks = [np.expand_dims(mask, [i for i in range(dims) if i != axis]) for axis, mask in outside]
        fill = new.constant(node.attributes.get_float("extrapolation_value", 0.0), kind.name)
        result = new("Where", new.constant(np.logical_or.reduce(np.broadcast_arrays(*masks)), "bool"), fill, result)
    return [result]


def _product(value: ir.Value, weights: np.ndarray, axis: int, dims: int, new: Nodes) -> ir.Value:
    if axis == dims - 2:
        return new("MatMul", new.constant(weights, weights.dtype.name), value)
    factor = new.constant(weights.T, weights.dtype.name)
    if axis == dims - 1:
        return new("MatMul", value, factor)
    order = list(range(dims))
    order[axis], order[-1] = order[-1], order[axis]
    return new("Transpose", new("MatMul", new("Transpose", value, perm=order), factor), perm=order)


def _targets(node: ir.Node, shape: tuple[int, ...]) -> dict[int, tuple[int, float, float, float]] | None:
    """By axis: the size wanted, the scale, and where the region of interest starts and ends."""
    given = [*node.inputs, None, None, None][1:4]
    roi, scales, sizes = (constant(value) for value in given)
    if any(value is not None and array is None for value, array in zip(given, (roi, scales, sizes), strict=True)):
        return None
    axes = [axis % len(shape) for axis in node.attributes.get_ints("axes", []) or range(len(shape))]
    lengths = [shape[axis] for axis in axes]
    if sizes is not None and sizes.size:
        wanted, factors = _by_sizes(node, lengths, [int(size) for size in sizes])
    elif scales is not None and scales.size:
        factors = [float(scale) for scale in scales]
        wanted = [math.floor(length * scale) for length, scale in zip(lengths, factors, strict=True)]
    else:
        return None
    crop = [0.0] * len(axes) + [1.0] * len(axes) if roi is None or not roi.size else [float(edge) for edge in roi]
    return {
        axis: (wanted[i], factors[i], crop[i], crop[len(axes) + i]) for i, axis in enumerate(axes)
    }  # fmt: skip


def _by_sizes(node: ir.Node, lengths: list[int], sizes: list[int]) -> tuple[list[int], list[float]]:
    ratios = [size / length for size, length in zip(sizes, lengths, strict=True)]
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return sizes, ratios
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [math.floor(ratio * length + 0.5) for length in lengths], [ratio] * len(lengths)


def _table(node: ir.Node, axis: int, length: int, size: int, scale: float, start: float, end: float) -> AxisTable:
    how = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") or ""
    where = _coordinates(how, length, size, scale, start, end)
    outside = (where < 0) | (where > length - 1) if how == "tf_crop_and_resize" else np.zeros(size, bool)
    mode = node.attributes.get_string("mode", "nearest")
    mask = outside if outside.any() else None
    if mode == "nearest":
        places = _nearest(where, node.attributes.get_string("nearest_mode", "round_prefer_floor") or "", length)
        return AxisTable(axis, places, None, mask, length)
    a = node.attributes.get_float("cubic_coeff_a", -0.75) if mode == "cubic" else None
    stretch = min(scale, 1.0) if int_attribute(node, "antialias", 0) else 1.0
    weights = _weights(where, length, stretch, a, bool(int_attribute(node, "exclude_outside", 0)))
    return AxisTable(axis, None, weights, mask, length)


def _coordinates(how: str, length: int, size: int, scale: float, start: float, end: float) -> np.ndarray:
    """Where each of `size` results lies among the `length` elements, as float64[size]."""
    x = np.arange(size, dtype="float64")
    if how == "asymmetric":
        return x / scale
    if how == "align_corners":
        return x * (length - 1) / (size - 1) if size > 1 else x
    if how == "tf_crop_and_resize":
        if size == 1:
            return x + 0.5 * (start + end) * (length - 1)
        return start * (length - 1) + x * (end - start) * (length - 1) / (size - 1)
    if how == "pytorch_half_pixel" and size == 1:
        return x
    shift = length / 2 * (1 - size / (scale * length)) if how == "half_pixel_symmetric" else 0.0
    return shift + (x + 0.5) / scale - 0.5


def _nearest(where: np.ndarray, mode: str, length: int) -> np.ndarray:
    # A hair's breadth of rounding must not decide what lies exactly between two elements.
    where = np.round(where, 6)
    places = {
        "floor": np.floor(where),
        "ceil": np.ceil(where),
        "round_prefer_ceil": np.floor(where + 0.5),
        "round_prefer_floor": np.ceil(where - 0.5),
    }[mode]
    return np.clip(places, 0, length - 1).astype("int64")


def _weights(where: np.ndarray, length: int, stretch: float, a: float | None, excludes: bool) -> np.ndarray:
    """float64[out, in]: what each element counts; `a` is the cubic's coefficient, None for linear."""
    reach = math.ceil((1 if a is None else 2) / stretch)
    taps = np.floor(where)[:, None] + np.arange(-reach, reach + 2)
    distance = np.abs(taps - where[:, None]) * stretch
    counts = np.clip(1 - distance, 0, None) if a is None else _cubic(distance, a)
    if excludes:
        counts[(taps < 0) | (taps > length - 1)] = 0
    counts /= counts.sum(1, keepdims=True)
    weights = np.zeros((len(where), length))
    np.add.at(weights, (np.arange(len(where))[:, None], np.clip(taps, 0, length - 1).astype("int64")), counts)
    return weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
