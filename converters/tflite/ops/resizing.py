"""Resize: by TFLite's own operation where that reads the same pixels, else by a matrix or by indices for each axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.windows import by_planes, picture, unpicture
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_FLAGS = ((False, False), (False, True), (True, False))
"""What TFLite's operations can be told: whether corners are aligned, whether pixels have their center at a half."""

_NEAREST = {"float32", "int8", "uint8"}
"""Types of RESIZE_NEAREST_NEIGHBOR."""


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized.

    Attributes:
        before: Its size.
        after: Its size then.
        scale: By which factor pixels lie apart.
        start: Where the region to resize begins, as a share of the axis.
        end: Where it ends.
    """

    before: int
    after: int
    scale: float
    start: float = 0
    end: float = 1


@lowers("Resize")
def resize(b: Builder, node: Node) -> Tensor:
    x, axes = node.input(0), _axes(node)
    mode, transform = node.text("mode", "nearest"), node.text("coordinate_transformation_mode", "half_pixel")
    centers = {place: _coordinates(axis, transform) for place, axis in axes.items()}
    if mode == "nearest":
        rule = node.text("nearest_mode", "round_prefer_floor")
        found = _pick(b, x, axes, {place: _nearest(at, rule, axes[place]) for place, at in centers.items()})
    elif x.dtype != "float32" or mode not in ("linear", "cubic"):
        raise Unlowerable(f"mode {mode} of {x.dtype}")
    else:
        found = _mix(b, x, axes, {place: _matrix(node, axis, centers[place]) for place, axis in axes.items()})
    if transform == "tf_crop_and_resize":
        return _extrapolated(b, found, axes, centers, node.real("extrapolation_value"))
    return found


def _axes(node: Node) -> dict[int, _Axis]:
    """The axes that change, by their place."""
    x = node.input(0)
    places = [axis % x.rank for axis in node.integers("axes", range(x.rank))]
    scales, sizes, roi = (
        _numbers(node, index, what) for index, what in ((2, "the scale"), (3, "the size"), (1, "the region"))
    )
    if any(x.shape[place] < 0 for place in places):
        raise Unlowerable("a size only known when the model runs")
    before = np.array([x.shape[place] for place in places], "float32")
    if sizes is not None:
        after, factors = sizes.astype(int), (sizes / before).astype("float32")
        policy = node.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factors[:] = factors.min() if policy == "not_larger" else factors.max()
            after = np.floor(factors * before + np.float32(0.5)).astype(int)
    elif scales is not None:
        factors = scales.astype("float32")
        after = np.array([node.shape[place] for place in places])
        after = np.where(after < 0, np.floor(before * factors), after).astype(int)
    else:
        raise Unlowerable("neither scales nor sizes")
    is_cropped = node.text("coordinate_transformation_mode") == "tf_crop_and_resize"
    if is_cropped and roi is None:
        raise Unlowerable("a region is missing")
    starts, ends = np.split(roi, 2) if is_cropped and roi is not None else (before * 0, before * 0 + 1)
    found = {
        place: _Axis(x.shape[place], int(after[i]), float(factors[i]), float(starts[i]), float(ends[i]))
        for i, place in enumerate(places)
    }
    return {place: axis for place, axis in found.items() if axis != _Axis(axis.before, axis.before, 1.0)}


def _numbers(node: Node, index: int, what: str) -> np.ndarray | None:
    """A constant input; None where it is left out or has no elements, which means the same."""
    if not node.has(index) or node.input(index).size == 0:
        return None
    return node.known(index, what)


def _coordinates(axis: _Axis, transform: str) -> np.ndarray:
    """Where in the original each pixel of the result has its center, in float32 as ONNX Runtime computes it."""
    place, scale = np.arange(axis.after, dtype="float32"), np.float32(axis.scale)
    half, last = np.float32(0.5), np.float32(axis.before - 1)
    if transform == "asymmetric":
        return place / scale
    if transform == "align_corners":
        return place * last / np.float32(axis.after - 1) if axis.after > 1 else place * 0
    if transform == "pytorch_half_pixel" and axis.after == 1:
        return place * 0
    if transform in ("half_pixel", "pytorch_half_pixel"):
        return (place + half) / scale - half
    if transform == "half_pixel_symmetric":
        offset = axis.before / 2 * (1 - axis.after / (axis.scale * axis.before))
        return np.float32(offset) + (place + half) / scale - half
    if transform == "tf_crop_and_resize":
        start, end = np.float32(axis.start), np.float32(axis.end)
        if axis.after == 1:
            return place + half * (start + end) * last
        return start * last + place * (end - start) * last / np.float32(axis.after - 1)
    raise Unlowerable(f"coordinate_transformation_mode {transform}")


def _extrapolated(
    b: Builder, x: Tensor, axes: Mapping[int, _Axis], centers: Mapping[int, np.ndarray], value: float
) -> Tensor:
    """`x` with `value` for all pixels whose center lies outside of the original."""
    outside = np.zeros([1] * x.rank, bool)
    for place, at in centers.items():
        beyond = (at < 0) | (at > axes[place].before - 1)
        outside = outside | beyond.reshape([-1 if i == place else 1 for i in range(x.rank)])
    if not outside.any():
        return x
    return b.where(b.const(outside), b.const(np.asarray(value, x.dtype)), x)


# --- nearest -----------------------------------------------------------------------------------------------------


def _nearest(at: np.ndarray, rule: str, axis: _Axis) -> np.ndarray:
    rules: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
        "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    if rule not in rules:
        raise Unlowerable(f"nearest_mode {rule}")
    return np.clip(rules[rule](at), 0, axis.before - 1).astype("int32")


def _pick(b: Builder, x: Tensor, axes: Mapping[int, _Axis], indices: Mapping[int, np.ndarray]) -> Tensor:
    def is_native(axis: _Axis, place: int, flags: tuple[bool, bool]) -> bool:
        return bool((_native_indices(axis, *flags) == indices[place]).all())

    found = _native(b, x, "RESIZE_NEAREST_NEIGHBOR", axes, is_native) if x.dtype in _NEAREST else None
    if found is None:
        found = x
        for place, wanted in indices.items():
            found = b.gather(found, b.ints(wanted), place)
    return found


def _native_indices(axis: _Axis, is_aligned: bool, is_centered: bool) -> np.ndarray:
    place, half = np.arange(axis.after, dtype="float32"), np.float32(0.5 if is_centered else 0)
    at = (place + half) * _native_scale(axis, is_aligned)
    return np.clip(np.floor(at + np.float32(0.5)) if is_aligned else np.floor(at), 0, axis.before - 1)


def _native_scale(axis: _Axis, is_aligned: bool) -> np.float32:
    if is_aligned and axis.after > 1:
        return np.float32(axis.before - 1) / np.float32(axis.after - 1)
    return np.float32(axis.before) / np.float32(axis.after)


# --- linear and cubic --------------------------------------------------------------------------------------------


def _matrix(node: Node, axis: _Axis, at: np.ndarray) -> np.ndarray:
    """The weights of an axis' pixels in each pixel of the result: [after, before]."""
    is_cubic, shrink = node.text("mode") == "cubic", 1.0
    if node.integer("antialias"):
        shrink = min(axis.scale, 1.0)
    reach = int(np.ceil((2 if is_cubic else 1) / shrink))
    places = np.floor(at).astype(int)[:, None] + np.arange(-reach, reach + 1)
    distance = np.abs(places - at[:, None].astype("float64")) * shrink
    weights = _cubic(distance, node.real("cubic_coeff_a", -0.75)) if is_cubic else np.maximum(1 - distance, 0)
    if node.integer("exclude_outside"):
        weights = weights * ((places >= 0) & (places < axis.before))
    if node.integer("exclude_outside") or node.integer("antialias"):
        weights = weights / weights.sum(1, keepdims=True)
    found = np.zeros((axis.after, axis.before))
    np.add.at(found, (np.arange(axis.after)[:, None], np.clip(places, 0, axis.before - 1)), weights)
    return found


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel: Cubic convolution interpolation for digital image processing, 1981, equation 4."""
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0))


def _mix(b: Builder, x: Tensor, axes: Mapping[int, _Axis], matrices: Mapping[int, np.ndarray]) -> Tensor:
    def is_native(axis: _Axis, place: int, flags: tuple[bool, bool]) -> bool:
        # Positions are computed in float32, here and there in another order.
        tolerance = 1e-6 * (1 + max(axis.before, axis.after))
        return bool(np.allclose(_native_matrix(axis, *flags), matrices[place], rtol=0, atol=tolerance))

    return _native(b, x, "RESIZE_BILINEAR", axes, is_native) or _multiplied(b, x, matrices)


def _native_matrix(axis: _Axis, is_aligned: bool, is_centered: bool) -> np.ndarray:
    place, half = np.arange(axis.after, dtype="float32"), np.float32(0.5 if is_centered else 0)
    at = np.clip((place + half) * _native_scale(axis, is_aligned) - half, 0, axis.before - 1)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(axis.before)), 0)


def _multiplied(b: Builder, x: Tensor, matrices: Mapping[int, np.ndarray]) -> Tensor:
    """Each axis in turn is put last and multiplied by its matrix."""
    order = list(range(x.rank))
    for place in sorted(matrices, reverse=True):
        where = order.index(place)
        swap = [*range(x.rank)]
        swap[where], swap[-1] = swap[-1], swap[where]
        x, order = b.transpose(x, swap), [order[i] for i in swap]
        weight = b.const(matrices[place], "float32")
        x = b.op(
            "FULLY_CONNECTED", [x, weight, None], [*x.shape[:-1], weight.shape[0]], keepNumDims=True,
            weightsFormat="DEFAULT", fusedActivationFunction="NONE",
        )  # fmt: skip
    return b.transpose(x, [order.index(place) for place in range(x.rank)])


# --- TFLite's own ------------------------------------------------------------------------------------------------


def _native(
    b: Builder,
    x: Tensor,
    code: str,
    axes: Mapping[int, _Axis],
    fits: Callable[[_Axis, int, tuple[bool, bool]], bool],
) -> Tensor | None:
    """Resized by the operation `code`, in 3-D the planes first and then the depth; None where it cannot do it."""
    if not 3 <= x.rank <= 5 or any(place < 2 for place in axes) or -1 in x.shape:
        return None
    known = {place: axes.get(place, _Axis(x.shape[place], x.shape[place], 1.0)) for place in range(2, x.rank)}

    def flags_of(places: Sequence[int]) -> tuple[bool, bool] | None:
        resized = [place for place in places if place in axes]
        return next((flags for flags in _FLAGS if all(fits(known[place], place, flags) for place in resized)), None)

    def resized(flags: tuple[bool, bool], last: Tensor, height: int, width: int) -> Tensor:
        shape, (is_aligned, is_centered) = [last.shape[0], height, width, last.shape[3]], flags
        if shape == list(last.shape):
            return last
        given = [last, b.ints([height, width])]
        return b.op(code, given, shape, alignCorners=is_aligned, halfPixelCenters=is_centered)

    plane, depth = flags_of(range(x.rank - 2 if x.rank > 3 else 2, x.rank)), flags_of([2])
    if plane is None or depth is None:
        return None
    sizes = [known[place].after for place in range(2, x.rank)]
    if x.rank == 5:
        return by_planes(
            b,
            x,
            lambda last: resized(plane, last, *sizes[1:]),
            lambda last: resized(depth, last, sizes[0], last.shape[2]),
        )
    return unpicture(b, resized(plane, picture(b, x), *([1, *sizes] if x.rank == 3 else sizes)), x.rank)
