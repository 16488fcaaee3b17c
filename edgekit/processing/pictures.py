"""Steps from an output that is a picture, or scores for each pixel, to the picture and to the classes of its pixels.

Files of one and the same net have channels first or last, as their format wants; these steps take either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.results import as_scores, without_batch
from edgekit.processing.steps import Apply, StepContext, number, one_of

__all__ = ["class_map", "picture"]

_ORDERS = ("HWC", "CHW")


def class_map(*, layout: str | None = None) -> Apply:
    """Scores for each pixel -> the index of the best class for each, [height][width] in lists.

    Args:
        layout: ``"HWC"`` or ``"CHW"``, how the output lies after its batch; by default the axis that is as long as
            there are labels has the classes.
    """
    order = one_of("layout", layout, _ORDERS) if layout is not None else None

    def apply(value: Any, context: StepContext) -> np.ndarray:
        scores = _image(value, "class_map")
        found = order or _order(scores.shape, (len(context.labels),), "class_map")
        best: np.ndarray = scores.argmax(axis=2 if found == "HWC" else 0)
        return best

    return apply


def picture(*, scale: Any = 1 / 255, mean: Any = 0.0, std: Any = 1.0, layout: str | None = None) -> Apply:
    """An output that is a picture -> uint8 [height, width, channels] in 0..255, as lists.

    The arguments are those of the step `normalize` that it undoes: ``(y * std + mean) / scale``, rounded and clipped.

    Args:
        scale: What pixels of 0..255 were multiplied by.
        mean: What was taken off then.
        std: What it was divided by then.
        layout: ``"HWC"`` or ``"CHW"``; by default the axis of 1 or 3 has the channels.
    """
    order = one_of("layout", layout, _ORDERS) if layout is not None else None
    factor, deviation = number("scale", scale, above=0.0), number("std", std, above=0.0)
    center = number("mean", mean)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        output = _image(value, "picture")
        found = order or _order(output.shape, (1, 3), "picture")
        pixels = (output.astype(np.float32) * deviation + center) / factor
        if not np.isfinite(pixels).all():
            raise InputError("the picture holds NaN or infinity")
        upright = pixels if found == "HWC" else pixels.transpose(1, 2, 0)
        return np.clip(np.rint(upright), 0, 255).astype(np.uint8)

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
