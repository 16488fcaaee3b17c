"""Steps from an output that is a picture, or scores for each pixel, to the picture and to the classes of its pixels.

Files of one and the same net have channels first or last, as their format wants; these steps take either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.geometry import place
from edgekit.processing.results import as_scores, logistic, without_batch
from edgekit.processing.steps import Apply, StepContext, number, one_of

__all__ = ["class_map", "mask", "picture"]

_ORDERS = ("HWC", "CHW")
_SIZES = ("output", "picture")


def class_map(*, layout: str | None = None, size: str = "output") -> Apply:
    """Scores for each pixel -> the index of the best class for each, [height][width] in lists.

    Args:
        layout: ``"HWC"`` or ``"CHW"``, how the output lies after its batch; by default the axis that is as long as
            there are labels has the classes.
        size: ``"output"`` for a map of the output's size, ``"picture"`` for one of the picture's own: scores are
            resampled bilinearly before the best is taken, and what the net did not see is class 0.
    """
    order = one_of("layout", layout, _ORDERS) if layout is not None else None
    size = one_of("size", size, _SIZES)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        scores = _image(value, "class_map")
        found = order or _order(scores.shape, (len(context.labels),), "class_map")
        upright = _sized(scores if found == "HWC" else scores.transpose(1, 2, 0), size, context, "class_map")
        best: np.ndarray = upright.argmax(axis=2)
        return best

    return apply


def mask(*, threshold: Any = 0.5, activation: str = "none", layout: str | None = None, size: str = "output") -> Apply:
    """A score for each pixel -> 1 where it is above `threshold` and 0 elsewhere, [height][width] in lists.

    Args:
        threshold: See above.
        activation: ``"sigmoid"`` where the scores are logits.
        layout: As of `class_map`; by default the axis of 1 is left out.
        size: As of `class_map`.
    """
    level = number("threshold", threshold)
    is_logits = one_of("activation", activation, ("none", "sigmoid")) == "sigmoid"
    order = one_of("layout", layout, _ORDERS) if layout is not None else None
    size = one_of("size", size, _SIZES)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        scores = _image(value, "mask")
        found = order or _order(scores.shape, (1,), "mask")
        upright = scores if found == "HWC" else scores.transpose(1, 2, 0)
        if upright.shape[2] != 1:
            raise InputError(f"mask wants one score for each pixel, not {upright.shape[2]}", hint='"class_map"?')
        likely = _sized(logistic(upright) if is_logits else upright, size, context, "mask")
        return np.asarray(likely[..., 0] > level).astype(np.uint8)

    return apply


def _sized(values: np.ndarray, size: str, context: StepContext, op: str) -> np.ndarray:
    """`values` [height, width, channels], over the picture's own pixels if `size` says so."""
    if size == "output":
        return values
    if context.track.geometry is None:
        raise InputError(
            f"the step {op!r} knows of no picture", hint='begin the steps of its input with "decode_image"'
        )
    return place(np.asarray(values, np.float32), context.track.geometry, "bilinear")


def picture(
    *, scale: Any = 1 / 255, mean: Any = 0.0, std: Any = 1.0, layout: str | None = None, size: str = "output"
) -> Apply:
    """An output that is a picture -> uint8 [height, width, channels] in 0..255, as lists.

    The arguments are those of the step `normalize` that it undoes: ``(y * std + mean) / scale``, rounded and clipped.

    Args:
        scale: What pixels of 0..255 were multiplied by.
        mean: What was taken off then.
        std: What it was divided by then.
        layout: ``"HWC"`` or ``"CHW"``; by default the axis of 1 or 3 has the channels.
        size: ``"output"``, or ``"picture"`` for one as large as that which went in; what the net did not see is black.
    """
    order = one_of("layout", layout, _ORDERS) if layout is not None else None
    size = one_of("size", size, _SIZES)
    factor, deviation = number("scale", scale, above=0.0), number("std", std, above=0.0)
    center = number("mean", mean)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        output = _image(value, "picture")
        found = order or _order(output.shape, (1, 3), "picture")
        pixels = (output.astype(np.float32) * deviation + center) / factor
        if not np.isfinite(pixels).all():
            raise InputError("the picture holds NaN or infinity")
        upright = pixels if found == "HWC" else pixels.transpose(1, 2, 0)
        return np.clip(np.rint(_sized(upright, size, context, "picture")), 0, 255).astype(np.uint8)

    return apply


def _image(value: Any, op: str) -> np.ndarray:
    array = as_scores(value, op)
    array = without_batch(array) if array.ndim == 4 else array
    if array.ndim != 3:
        raise InputError(f"the step {op!r} wants the output of one picture, not {list(array.shape)}")
    return array


def _order(shape: tuple[int, ...], channels: tuple[int, ...], op: str) -> str:
    """``"HWC"`` or ``"CHW"``: whether the last or the first axis is as long as channels may be many."""
    fitting = [order for order in _ORDERS if shape[order.index("C")] in channels]
    if len(fitting) != 1:
        said = "either axis may have" if fitting else "no axis has"
        raise ArtifactError(
            f"{said} the channels of an output {list(shape)}", hint=f'give the step "{op}" its argument "layout"'
        )
    return fitting[0]
