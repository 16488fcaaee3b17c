"""Rounding up or down learned per weight, against the error of what the layer gives.

Source: Nagel, Amjad, van Baalen, Louizos, Blankevoort, "Up or Down? Adaptive Rounding for Post-Training Quantization"
(ICML 2020): a rectified sigmoid for each weight, a penalty that drives it to 0 or 1, and Adam (Kingma, Ba, 2015). The
error is the quadratic form of second moments, so that learning needs no sample and no engine.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgekit.quantize.plan import GroupedWeight, QuantizedWeight
from edgekit.quantize.rounding import round_by
from edgekit.quantize.rows import Grid, SecondMoment

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["adaround", "round_adaround"]

_LOW, _HIGH = -0.1, 1.1
"""What the sigmoid is stretched to, so that 0 and 1 are reached."""

_PENALTY = 0.02
"""Weight of the penalty a column, where rounding to the nearest has an error of 1 a column."""

_WARM = 0.2
"""Share of the steps before the penalty sets in."""

_SHARP, _FLAT = 20.0, 2.0
"""Exponent of the penalty when it sets in, which spares what is undecided, and at the end."""

_EXACT = 1e-30
"""Rows with a smaller error have nothing to learn."""

_RATE = 0.02
_MOMENTUM, _SQUARES = 0.9, 0.999
STEPS = 500

Rounded = TypeVar("Rounded", QuantizedWeight, GroupedWeight)


def round_adaround(
    node: ir.Node, weight: np.ndarray, quantized: Rounded, second: SecondMoment, *, steps: int = STEPS
) -> Rounded:
    """The same scales and zero points with integers that lower the error of what the operation gives.

    Args:
        node: The operation that multiplies by the weight.
        weight: The float numbers, of the weight's shape.
        quantized: The weight rounded to the nearest.
        second: `Moments.products` of the operation.
        steps: How long to learn.

    Raises:
        InputError: The second moment is of another operation.
    """
    return round_by(partial(adaround, steps=steps), node, weight, quantized, second)


def adaround(rows: np.ndarray, second: np.ndarray, grid: Grid, *, steps: int = STEPS) -> np.ndarray:
    """Integers next to each number, above or below; for a row learning does not serve, the nearest.

    Args:
        rows: float64 [groups, outputs, columns].
        second: Positive definite, float64 [groups, columns, columns].
        grid: What the numbers may become, of the shape of `rows`.
        steps: How long to learn.
    """
    nearest = grid.nearest(rows)
    below = np.floor(rows / grid.scale) + grid.zero
    up = _learned(rows, second, grid, below, steps)
    found = np.clip(below + up, grid.low, grid.high)
    worse = _error(grid.real(found) - rows, second) > _error(grid.real(nearest) - rows, second)
    return np.where(worse[..., None], nearest, found)


def _error(error: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.einsum("grk,grk->gr", error @ second, error)


def _learned(rows: np.ndarray, second: np.ndarray, grid: Grid, below: np.ndarray, steps: int) -> np.ndarray:
    """Whether each weight goes up, by Adam on the soft answer."""
    start = _error(grid.real(grid.nearest(rows)) - rows, second)[..., None]
    scale, hessian = grid.scale.astype("float32"), second.astype("float32")
    gain = (rows.shape[-1] / np.where(start > _EXACT, start, np.inf)).astype("float32")
    floor = ((below - grid.zero) * grid.scale - rows).astype("float32")
    share = np.clip(-floor / scale, 0.01, 0.99)  # where between below and above each number lies
    chance = (share - _LOW) / (_HIGH - _LOW)
    logit = np.log(chance / (1 - chance))
    mean, square = np.zeros_like(logit), np.zeros_like(logit)
    for step in range(steps):
        sigmoid = 1 / (1 + np.exp(-logit))
        soft = np.clip(sigmoid * (_HIGH - _LOW) + _LOW, 0, 1)
        slope = 2 * gain * ((floor + scale * soft) @ hessian) * scale
        done = (step / steps - _WARM) / (1 - _WARM)
        if done > 0:
            exponent = _FLAT + (_SHARP - _FLAT) * 0.5 * (1 + np.cos(np.pi * done))
            away = 2 * soft - 1
            slope -= _PENALTY * 2 * exponent * np.sign(away) * np.abs(away) ** (exponent - 1)
        slope *= (_HIGH - _LOW) * sigmoid * (1 - sigmoid) * ((soft > 0) & (soft < 1))
        mean = _MOMENTUM * mean + (1 - _MOMENTUM) * slope
        square = _SQUARES * square + (1 - _SQUARES) * slope * slope
        unbiased = mean / (1 - _MOMENTUM ** (step + 1))
        logit -= _RATE * unbiased / (np.sqrt(square / (1 - _SQUARES ** (step + 1))) + 1e-8)
    return logit >= 0
