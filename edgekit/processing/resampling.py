"""Resampling in NumPy alone: images as Pillow does it, bit for bit where pixels are uint8, and signals as SciPy does.

Image filters are separable, so a picture is resized by two matrix products, along the width and then along the height.
The matrices are nearly all zeros; they are kept as blocks of rows, and remembered by their sizes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import lru_cache

import numpy as np

__all__ = ["FILTERS", "resample_signal", "resize_image"]

_IS_ALONE = "1" in (os.environ.get("OPENBLAS_NUM_THREADS"), os.environ.get("OMP_NUM_THREADS"))
_PIECE = 2**62 if _IS_ALONE else 2**18
"""Multiplications in one product: OpenBLAS takes more than one thread from here on, where nobody has told it not to."""

_BLOCK_ROWS = 32
_FRACTION_BITS = 22
"""Pillow rounds 8-bit coefficients to this many bits, which leaves headroom for 255 times their sum in 32 bits."""

_KAISER_BETA = 5.0
_HALF_WIDTH = 10
"""SciPy's defaults for resample_poly: a Kaiser window of beta 5 and ten zero crossings on each side."""

_CHUNK_TAPS = 1 << 21
"""Products held at once: a rate much higher than the wanted one has many for each sample."""


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5 (IEEE Trans. ASSP 29(6), 1981)."""
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "linear": (_triangle, 1.0),
}

FILTERS = ("nearest", *_KERNELS)

_PLAIN = "linear"
"""Looks at the two nearest pixels however much it shrinks, as OpenCV's INTER_LINEAR; it is rounded once, at the end."""

_Blocks = tuple[tuple[slice, slice, np.ndarray], ...]


@lru_cache(maxsize=64)
def _coefficients(size_in: int, size_out: int, filter: str, in_steps: bool) -> _Blocks:
    """Blocks (rows out, rows in, weights) of the matrix from `size_in` pixels to `size_out`.

    The kernel is widened by the scale when shrinking, so that every source pixel counts (antialiasing; that of `_PLAIN`
    is not), cut off at the border and normalized to sum one. With `in_steps` weights are integers in units of
    ``2 ** -_FRACTION_BITS``.
    """
    kernel, support = _KERNELS[filter]
    scale = size_in / size_out
    stretch = 1.0 if filter == _PLAIN else max(scale, 1.0)
    center = (np.arange(size_out) + 0.5) * scale
    first = np.maximum(np.trunc(center - support * stretch + 0.5), 0).astype(int)
    last = np.minimum(np.trunc(center + support * stretch + 0.5), size_in).astype(int)
    blocks = []
    for start in range(0, size_out, _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, size_out))
        columns = slice(int(first[rows].min()), int(last[rows].max()))
        pixel = np.arange(columns.start, columns.stop)
        weights = kernel((pixel - center[rows, None] + 0.5) / stretch)
        weights = weights * ((pixel >= first[rows, None]) & (pixel < last[rows, None]))
        weights /= weights.sum(axis=1, keepdims=True)
        if in_steps:
            weights = np.trunc(weights * (1 << _FRACTION_BITS) + np.copysign(0.5, weights))
        weights.setflags(write=False)
        blocks.append((rows, columns, weights))
    return tuple(blocks)


def _resize_first_axis(image: np.ndarray, size: int, filter: str) -> np.ndarray:
    """`image` with its first axis resampled to `size`; uint8 stays uint8, anything else gives float32."""
    if image.shape[0] == size:
        return image
    is_bytes = image.dtype == np.uint8
    result = np.empty((size, *image.shape[1:]), np.uint8 if is_bytes else np.float32)
    for rows, columns, weights in _coefficients(image.shape[0], size, filter, is_bytes):
        # Sums of integers below 2**53 are exact in float64 in any order, so this equals Pillow's integer loop.
        total = _product(weights, image[columns].reshape(len(weights[0]), -1))
        if is_bytes:
            total = np.clip(np.floor((total + (1 << (_FRACTION_BITS - 1))) / (1 << _FRACTION_BITS)), 0, 255)
        result[rows] = total.reshape(-1, *image.shape[1:])
    return result


def _product(weights: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """``weights @ pixels`` in pieces too small for BLAS to start threads, which gain nothing here but take a core."""
    width = max(_PIECE // weights.size, 1)
    if pixels.shape[1] <= width:
        return weights @ pixels.astype(np.float64)
    total = np.empty((len(weights), pixels.shape[1]))
    for start in range(0, pixels.shape[1], width):
        piece = slice(start, start + width)
        np.matmul(weights, pixels[:, piece].astype(np.float64), out=total[:, piece])
    return total


def _nearest(size_in: int, size_out: int) -> np.ndarray:
    scale = size_in / size_out
    steps = np.full(size_out, scale)
    steps[0] = scale * 0.5
    # A running sum, not a product: where an output pixel falls on a border, rounding decides, and Pillow adds up.
    return np.minimum(np.cumsum(steps).astype(int), size_in - 1)


def resize_image(image: np.ndarray, height: int, width: int, filter: str) -> np.ndarray:
    """`image` [height, width, channels] resized.

    uint8 pixels come out as Pillow gives them, rounded to uint8 after each pass; others as its mode F, in float32. The
    width goes first, as in all versions of Pillow that models were trained with until now; from 13.0 on it begins with
    the height where that shrinks by more than twice as many pixels, which can change a rounding.
    """
    if filter == "nearest":
        return image[_nearest(image.shape[0], height)][:, _nearest(image.shape[1], width)]
    if filter == _PLAIN and image.dtype == np.uint8:
        return np.rint(resize_image(image.astype(np.float32), height, width, filter)).astype(np.uint8)
    turned = np.ascontiguousarray(image.transpose(1, 0, 2))
    wide = _resize_first_axis(turned, width, filter).transpose(1, 0, 2)
    return np.ascontiguousarray(_resize_first_axis(np.ascontiguousarray(wide), height, filter))


@lru_cache(maxsize=16)
def _polyphase(up: int, down: int) -> np.ndarray:
    """Low-pass filter of `resample_signal`, as [phase, tap]: taps of one phase are those that meet input samples."""
    fastest = max(up, down)
    half = _HALF_WIDTH * fastest
    taps = np.sinc(np.arange(-half, half + 1) / fastest) * np.kaiser(2 * half + 1, _KAISER_BETA)
    taps *= up / taps.sum()
    per_phase = math.ceil(len(taps) / up)
    table = np.zeros(per_phase * up)
    table[: len(taps)] = taps
    bank = table.reshape(per_phase, up).T.copy()
    bank.setflags(write=False)
    return bank


def resample_signal(signal: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """`signal` [samples] at another rate, by a Kaiser-windowed sinc, as `scipy.signal.resample_poly` does by default.

    Samples before the start and after the end count as zero. Gives ``ceil(samples * rate_out / rate_in)`` samples of
    float64.
    """
    common = math.gcd(rate_in, rate_out)
    up, down = rate_out // common, rate_in // common
    if up == down:
        return signal.astype(np.float64)
    bank = _polyphase(up, down)
    taps = bank.shape[1]
    half = _HALF_WIDTH * max(up, down)
    count = -(-len(signal) * up // down)
    padded = np.concatenate([np.zeros(taps), signal, np.zeros(taps + half // up + 1)])
    result = np.empty(count)
    chunk = max(1, _CHUNK_TAPS // taps)
    for start in range(0, count, chunk):
        position = np.arange(start, min(start + chunk, count), dtype=np.int64) * down + half
        newest = position // up + taps
        windows = padded[newest[:, None] - np.arange(taps)]
        result[start : start + len(position)] = np.einsum("mt,mt->m", windows, bank[position % up])
    return result
