"""Steps on pictures: whatever holds one -> an array [height, width, channels] in 0..255 -> the shape a model wants.

Pillow is needed to read files only; a device that feeds arrays needs NumPy alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.decoding import open_picture
from edgekit.errors import ArtifactError, InputError
from edgekit.processing.resampling import FILTERS, resize_image
from edgekit.processing.steps import Apply, StepContext, integers, number, one_of
from edgekit.spec import TensorSpec
from edgekit.validation import is_masked

__all__ = [
    *("center_crop", "color", "crop", "decode_image", "image_of", "input_size"),
    *("layout", "resize", "swap_channels", "targets_layout"),
]

_CHANNELS = {"L": 1, "RGB": 3}
_GRAY_WEIGHTS = (19595, 38470, 7471)
"""ITU-R BT.601 luma in units of 2**-16, as Pillow has it."""

_ARRAY_HINT = "an image array is [height, width], [height, width, 1] or [height, width, 3], uint8 or float in 0..255"


def decode_image(*, mode: str = "RGB") -> Apply:
    """A path, bytes, Pillow image or array -> [height, width, channels] of `mode` ``"L"`` (gray) or ``"RGB"``.

    Files are turned upright by their EXIF orientation; an alpha channel is dropped.
    """
    mode = one_of("mode", mode, _CHANNELS)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        if isinstance(value, np.ndarray):
            return begun(_to_color(_checked_pixels(value), mode), context)
        is_picture = hasattr(value, "getbands") and hasattr(value, "convert")
        if not (is_picture or isinstance(value, str | Path | bytes | bytearray | memoryview)):
            raise InputError(
                f"a {type(value).__name__} is not an image", hint=f"pass a path, bytes or array; {_ARRAY_HINT}"
            )
        pixels = np.asarray(open_picture(value).convert(mode))
        return begun(pixels if mode == "RGB" else pixels[..., None], context)

    def begun(pixels: np.ndarray, context: StepContext) -> np.ndarray:
        context.track.begin(pixels.shape[1], pixels.shape[0])
        return pixels

    return apply


def _checked_pixels(array: np.ndarray) -> np.ndarray:
    """`array` as [height, width, 1 or 3], uint8 or float32, or an InputError that says what it should have been."""
    if is_masked(array):
        raise InputError("the image is a masked array", hint="fill it first: x.filled(0)")
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        hint = "drop the alpha channel: x[..., :3]" if array.ndim == 3 and array.shape[2] == 4 else _ARRAY_HINT
        if array.ndim == 4:
            hint = "one image at a time; tensors that are ready go in as a dict by input name"
        raise InputError(f"an array of shape {list(array.shape)} is not an image", hint=hint)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind != "f":
        raise InputError(f"an array of {array.dtype} is not an image", hint=_ARRAY_HINT)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0.0 and high <= 255.0):
        raise InputError(f"pixels run from {low:g} to {high:g}, not within 0..255", hint=_ARRAY_HINT)
    if 0.0 < high <= 1.0:
        raise InputError(f"pixels run from {low:g} to {high:g}: scaled to 0..1 already?", hint="pass x * 255")
    return pixels.astype(np.float32)


def _to_color(pixels: np.ndarray, mode: str) -> np.ndarray:
    if pixels.shape[2] == _CHANNELS[mode]:
        return pixels
    if mode == "RGB":
        return np.repeat(pixels, 3, axis=2)
    if pixels.dtype == np.uint8:
        total = pixels.astype(np.uint32) @ np.array(_GRAY_WEIGHTS, np.uint32)
        return ((total + 0x8000) >> 16).astype(np.uint8)[..., None]
    return (pixels @ (np.array(_GRAY_WEIGHTS, np.float32) / 65536))[..., None]


def color(*, mode: str) -> Apply:
    """Converts between ``"RGB"`` and ``"L"`` (gray, ITU-R BT.601)."""
    mode = one_of("mode", mode, _CHANNELS)
    return lambda value, context: _to_color(image_of(value, "color"), mode)


def crop(*, box: Any) -> Apply:
    """Cuts out `box`: left, top, right, bottom in pixels, the last two exclusive."""
    left, top, right, bottom = integers("box", box, count=4, least=0)
    if right <= left or bottom <= top:
        raise ArtifactError(f"the box {box} is empty", hint="it is left, top, right, bottom")

    def apply(value: Any, context: StepContext) -> np.ndarray:
        pixels = image_of(value, "crop")
        if right > pixels.shape[1] or bottom > pixels.shape[0]:
            raise InputError(f"the box {box} does not lie within {pixels.shape[1]} x {pixels.shape[0]} pixels")
        context.track.cut(left, top, right - left, bottom - top)
        return pixels[top:bottom, left:right]

    return apply


def center_crop(*, fraction: Any) -> Apply:
    """Cuts out the square in the middle whose side is `fraction` of the shorter side."""
    part = number("fraction", fraction, above=0.0, most=1.0)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        pixels = image_of(value, "center_crop")
        height, width = pixels.shape[:2]
        side = max(1, int(min(height, width) * part))
        top, left = (height - side) // 2, (width - side) // 2
        context.track.cut(left, top, side, side)
        return pixels[top : top + side, left : left + side]

    return apply


def resize(*, size: Any = None, filter: str = "bilinear") -> Apply:
    """Resamples to `size`, height and width; to the input's own where it is not given, and what is open stays.

    ``"bilinear"`` and ``"bicubic"`` smooth when they shrink, uint8 pixels as Pillow does, bit for bit; ``"linear"``
    does not, as OpenCV's INTER_LINEAR; ``"nearest"`` is Pillow's.
    """
    fixed = None if size is None else integers("size", size, count=2, least=1)
    filter = one_of("filter", filter, FILTERS)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        pixels = image_of(value, "resize")
        height, width = fixed or (own or kept for own, kept in zip(input_size(context), pixels.shape[:2], strict=True))
        context.track.resized(width, height)
        return resize_image(pixels, height, width, filter)

    return apply


def input_size(context: StepContext) -> tuple[int | None, int | None]:
    """Height and width of the picture the input takes, None for one that is open."""
    spec = context.spec
    if spec is None or len(spec.shape) < 3:
        return None, None
    dims = spec.shape[-3:]
    said = (spec.layout or "").lstrip("N")
    is_first = said == "CHW" or (said != "HWC" and dims[0] in (1, 3) and dims[2] not in (1, 3))
    height, width = dims[1:] if is_first else dims[:2]
    return height if isinstance(height, int) else None, width if isinstance(width, int) else None


def swap_channels() -> Apply:
    """Red, green, blue -> blue, green, red, for nets that were trained on what OpenCV reads."""
    return lambda value, context: np.ascontiguousarray(image_of(value, "swap_channels")[..., ::-1])


def layout(*, to: str | None = None) -> Apply:
    """Brings [height, width, channels] into the order `to`, ``"HWC"`` or ``"CHW"``; the signature's when not given."""
    fixed = one_of("to", to, ("HWC", "CHW")) if to is not None else None

    def apply(value: Any, context: StepContext) -> np.ndarray:
        pixels = image_of(value, "layout")
        order = fixed or (targets_layout(context.spec, pixels.shape) if context.spec else "HWC")
        return pixels if order == "HWC" else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    return apply


def targets_layout(spec: TensorSpec, shape: tuple[int, ...]) -> str:
    """``"HWC"`` or ``"CHW"``: the order in which an image of `shape` [height, width, channels] fits `spec`."""
    said = (spec.layout or "").lstrip("N")
    if said in ("HWC", "CHW"):
        return said
    height, width, channels = shape
    want = spec.shape[-3:]
    orders = {"HWC": (height, width, channels), "CHW": (channels, height, width)}
    fitting = [order for order, dims in orders.items() if TensorSpec("", spec.dtype, want).accepts_shape(dims)]
    if len(fitting) == 2:  # where sizes are free, the channels are what is fixed
        fitting = [order for order in fitting if want[order.index("C")] == channels] or fitting
    if len(fitting) != 1:
        problem = "in either order" if fitting else "in no order"
        raise InputError(
            f"an image of {height} x {width} x {channels} fits input {spec.name!r} {list(spec.shape)} {problem}",
            hint='give the step "layout" its argument "to"' if fitting else "resize it first",
        )
    return fitting[0]


def image_of(value: Any, op: str) -> np.ndarray:
    """`value`, checked to be [height, width, channels]; an InputError naming the step `op` otherwise."""
    if isinstance(value, np.ndarray) and value.ndim == 3:
        return value
    raise InputError(f"the step {op!r} wants an image [height, width, channels]", hint='begin with "decode_image"')
