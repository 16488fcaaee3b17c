"""Metrics of pictures: how alike two of them are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.decoding import open_picture
from edgekit.errors import InputError
from edgekit.metrics import Metric, Truth, single_array
from edgekit.metrics.sums import Row, mean_of
from edgekit.processing.resampling import resize_image

__all__ = ["PSNR", "SSIM", "structural_similarity"]

_PEAK = 255.0
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


def _likeness(compare: Callable[[np.ndarray, np.ndarray], float]) -> Row:
    """`compare` of pictures [height, width, channels] in 0..255, float64."""

    def row(answer: Any, truth: Truth) -> tuple[float]:
        found = np.asarray(single_array(answer), np.float64)
        if found.ndim != 3 or found.shape[2] not in (1, 3):
            raise InputError(f"a picture is [height, width, 1 or 3], not {list(found.shape)}")
        return (compare(found, _target(truth["target"], found.shape)),)

    return row


def _target(truth: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The picture an answer of `shape` is to look like, gray or colored as that is, resized where it must be."""
    if isinstance(truth, str | Path):
        pixels = np.asarray(open_picture(truth).convert("L" if shape[2] == 1 else "RGB"))
        pixels = pixels[..., None] if shape[2] == 1 else pixels
    else:
        pixels = np.asarray(truth)
    if pixels.ndim != 3 or pixels.shape[2] != shape[2]:
        raise InputError(f"the target {list(pixels.shape)} is not like the answer {list(shape)}")
    same = pixels if pixels.shape == shape else resize_image(pixels, shape[0], shape[1], "bilinear")
    return np.asarray(same, np.float64)


def _peak_ratio(found: np.ndarray, target: np.ndarray) -> float:
    error = float(np.mean(np.square(found - target)))
    return float("inf") if error == 0 else float(10 * np.log10(_PEAK**2 / error))


def structural_similarity(found: np.ndarray, target: np.ndarray) -> float:
    """SSIM of two pictures [height, width, channels] in 0..255: mean over pixels and channels, -1..1.

    Windows are Gaussian, 11 x 11 of standard deviation 1.5, and lie whole within the picture; the constants are 0.01
    and 0.03 (Z. Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004).
    """
    if min(found.shape[:2]) < _WINDOW:
        raise InputError(f"a picture of {found.shape[1]} x {found.shape[0]} is smaller than SSIM's window of {_WINDOW}")
    rows, columns = _smoothing(found.shape[0]), _smoothing(found.shape[1])

    def blur(picture: np.ndarray) -> np.ndarray:
        return np.einsum("ih,hwc,jw->ijc", rows, picture, columns, optimize=True)

    mean_a, mean_b = blur(found), blur(target)
    variance_a, variance_b = blur(found * found) - mean_a**2, blur(target * target) - mean_b**2
    covariance = blur(found * target) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return float((likeness / ((mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2))).mean())


def _smoothing(size: int) -> np.ndarray:
    """[size - 10, size]: each row weights the pixels under the window at one place."""
    weights = np.exp(-0.5 * ((np.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) ** 2)
    matrix = np.zeros((size - _WINDOW + 1, size))
    for offset, weight in enumerate(weights / weights.sum()):
        np.fill_diagonal(matrix[:, offset:], weight)
    return matrix


_PICTURE = 'what the step "picture" gives'

PSNR = Metric(
    "psnr",
    "peak signal-to-noise ratio, dB, mean over pictures",
    True,
    ("target",),
    _PICTURE,
    mean_of(_likeness(_peak_ratio)),
    is_share=False,
)
SSIM = Metric(
    "ssim",
    "structural similarity, mean over pictures",
    True,
    ("target",),
    _PICTURE,
    mean_of(_likeness(structural_similarity)),
)
