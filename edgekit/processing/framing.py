"""Steps that bring a picture to a net's size without changing its proportions: resize, then fill up what is left."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.image import image_of, input_size
from edgekit.processing.resampling import FILTERS, resize_image
from edgekit.processing.steps import Apply, StepContext, integers, number, one_of, truth

__all__ = ["fit_height", "letterbox", "resize_shorter"]

_ROUNDINGS: dict[str, Callable[[float], int]] = {"nearest": round, "up": math.ceil, "down": math.floor}


def letterbox(
    *,
    size: Any = None,
    fill: Any = 0,
    place: str = "center",
    filter: str = "bilinear",
    rounding: str = "nearest",
    enlarge: Any = True,
) -> Apply:
    """The whole picture as large as fits into `size`, height and width, and `fill` around it.

    Boxes and points of the answer are brought back to the picture by the steps after the model.

    Args:
        size: Height and width; those of the input where it is not given.
        fill: What is put around it, in the scale of the pixels; with a fraction pixels become float32.
        place: ``"center"``, or ``"corner"`` for the upper left one.
        filter: As of `resize`.
        rounding: Of the shorter side: ``"nearest"``, ``"down"`` or ``"up"``.
        enlarge: Whether a picture that is smaller grows.
    """
    fixed = None if size is None else integers("size", size, count=2, least=1)
    filler = number("fill", fill)
    is_centered = one_of("place", place, ("center", "corner")) == "center"
    filter, rounded = one_of("filter", filter, FILTERS), _ROUNDINGS[one_of("rounding", rounding, _ROUNDINGS)]
    may_grow = truth("enlarge", enlarge)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        pixels = image_of(value, "letterbox")
        height, width = fixed or input_size(context)
        if height is None or width is None:
            raise InputError("the input takes pictures of any size", hint='give "letterbox" its argument "size"')
        scale = min(height / pixels.shape[0], width / pixels.shape[1])
        scale = scale if may_grow else min(scale, 1.0)
        inner = [max(1, min(rounded(round(side * scale, 6)), most)) for side, most in
                 ((pixels.shape[0], height), (pixels.shape[1], width))]  # fmt: skip
        top, left = ((height - inner[0]) // 2, (width - inner[1]) // 2) if is_centered else (0, 0)
        return _framed(pixels, (inner[0], inner[1]), (top, left), (height, width), filler, filter, context)

    return apply


def fit_height(
    *, height: Any = None, least_width: Any = 1, fill: Any = 0, filter: str = "bilinear", rounding: str = "up"
) -> Apply:
    """A line of text at `height`, as wide as its proportions ask for, and `fill` at its right.

    The width is that of the input; where that is open, it is what the picture needs, and at least `least_width`. A
    picture that is too wide for the input is squeezed.

    Args:
        height: Of the input where it is not given.
        least_width: In pixels.
        fill: In the scale of the pixels; with a fraction pixels become float32.
        filter: As of `resize`.
        rounding: Of the width: ``"up"``, ``"nearest"`` or ``"down"``.
    """
    fixed = None if height is None else integers("height", height, count=1, least=1)[0]
    (least,) = integers("least_width", least_width, count=1, least=1)
    filler, filter = number("fill", fill), one_of("filter", filter, FILTERS)
    rounded = _ROUNDINGS[one_of("rounding", rounding, _ROUNDINGS)]

    def apply(value: Any, context: StepContext) -> np.ndarray:
        pixels = image_of(value, "fit_height")
        own_height, own_width = input_size(context)
        tall = fixed or own_height
        if tall is None:
            raise InputError("the input takes pictures of any height", hint='give "fit_height" its argument "height"')
        needed = max(1, rounded(round(tall * pixels.shape[1] / pixels.shape[0], 6)))
        wide = own_width or max(needed, least)
        return _framed(pixels, (tall, min(needed, wide)), (0, 0), (tall, wide), filler, filter, context)

    return apply


def resize_shorter(*, least: Any, most: Any = None, multiple: Any = 1, filter: str = "bilinear") -> Apply:
    """Enlarges a picture whose shorter side is below `least` to it; both sides become multiples of `multiple`.

    Where the longer side would be above `most`, the picture becomes as large as that allows. Where the input's size is
    fixed it is resized to that, as `resize` does.
    """
    (shortest,) = integers("least", least, count=1, least=1)
    (unit,) = integers("multiple", multiple, count=1, least=1)
    if shortest < unit:
        raise ArtifactError(f"least must be at least the multiple {unit}, not {shortest}")
    longest = math.inf if most is None else integers("most", most, count=1, least=shortest)[0]
    filter = one_of("filter", filter, FILTERS)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        pixels = image_of(value, "resize_shorter")
        ratio = min(max(1.0, shortest / min(pixels.shape[:2])), longest / max(pixels.shape[:2]))
        sides = [max(unit, round(int(round(side * ratio, 6)) / unit) * unit) for side in pixels.shape[:2]]
        sides = [own or side for own, side in zip(input_size(context), sides, strict=True)]
        context.track.resized(sides[1], sides[0])
        return resize_image(pixels, sides[0], sides[1], filter)

    return apply


def _framed(
    pixels: np.ndarray,
    inner: tuple[int, int],
    corner: tuple[int, int],
    outer: tuple[int, int],
    fill: float,
    filter: str,
    context: StepContext,
) -> np.ndarray:
    """`pixels` resized to `inner`, put with its upper left at `corner` of `outer`; all are height, width or y, x."""
    resized = resize_image(pixels, *inner, filter)
    is_whole = fill == int(fill) and 0 <= fill <= 255
    held = np.full((*outer, pixels.shape[2]), fill, resized.dtype if is_whole else np.float32)
    held[corner[0] : corner[0] + inner[0], corner[1] : corner[1] + inner[1]] = resized
    context.track.resized(inner[1], inner[0])
    context.track.cut(-corner[1], -corner[0], outer[1], outer[0])
    return held
