"""Fourier transforms as products with constant matrices, and the windows and filters that go with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.converters.tflite.builder import Builder
from edgekit.converters.tflite.model import Tensor
from edgekit.converters.tflite.ops.products import dense
from edgekit.converters.tflite.table import Node, Unlowerable, lowers

__all__: list[str] = []

_MOST_BYTES = 64 << 20
"""The largest matrix that stands for a transform."""


def _basis(size: int, bins: int, sign: int, given: int) -> np.ndarray:
    """[bins, given, 2]: cosine and sine of 2 pi k n / size, k n reduced first, which keeps all digits."""
    steps = np.outer(np.arange(bins), np.arange(given)) % size
    angles = sign * 2 * np.pi * steps / size
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def _transform(size: int, given: int, parts: int, *, inverse: bool, onesided: bool) -> np.ndarray:
    """[bins, outs, given, parts]: what each real or imaginary part of the input adds to each of the output.

    Args:
        size: Length of the transform.
        given: How many elements there are; zeros are thought behind them.
        parts: 1 for a real input, 2 for a complex one.
        inverse: Backwards, divided by `size`.
        onesided: Only the first half of the spectrum is given, or backwards, is taken and the other mirrored.
    """
    half = size // 2 + 1
    bins = half if onesided and not inverse else size
    rows = bins * (1 if inverse and onesided else 2)
    if rows * given * parts * 4 > _MOST_BYTES:
        raise Unlowerable(f"a transform of length {size}")
    cos, sin = np.moveaxis(_basis(size, bins, 1 if inverse else -1, given), -1, 0)
    if inverse and onesided:
        # The mirrored half doubles all but the first bin and, of an even length, the middle one.
        twice = np.full(given, 2.0)
        twice[0] = 1
        if size % 2 == 0 and given > size // 2:
            twice[size // 2] = 1
        twice[half:] = 0
        matrix = np.stack([cos * twice, -sin * twice], -1)[:, None]
    else:
        matrix = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    return matrix[..., :parts] / (size if inverse else 1)


@lowers("DFT")
def dft(b: Builder, node: Node) -> Tensor:
    x = node.input(0)
    if node.opset >= 20:
        axis = int(node.known(2, "the axis").reshape(-1)[0]) if node.has(2) else -2
    else:
        axis = node.integer("axis", 1)
    axis %= x.rank
    inverse, onesided = bool(node.integer("inverse")), bool(node.integer("onesided"))
    if -1 in x.shape or axis == x.rank - 1:
        raise Unlowerable(f"a transform along axis {axis} of {list(x.shape)}")
    size = x.shape[axis] if not (inverse and onesided) else 2 * (x.shape[axis] - 1)
    if node.has(1):
        size = int(node.known(1, "the length").reshape(-1)[0])
    given, parts = min(x.shape[axis], size), x.shape[-1]
    matrix = _transform(size, given, parts, inverse=inverse, onesided=onesided)
    bins, outs = matrix.shape[:2]
    others = [i for i in range(x.rank - 1) if i != axis]
    order = [*others, axis, x.rank - 1]
    moved = b.transpose(b.slice(x, [0] * x.rank, [given if i == axis else n for i, n in enumerate(x.shape)]), order)
    rows = b.reshape(moved, [*(x.shape[i] for i in others), given * parts])
    weight = b.const(matrix.reshape(bins * outs, given * parts).astype("float32"))
    found = b.reshape(_rows_of(b, rows, weight), [*(x.shape[i] for i in others), bins, outs])
    return b.transpose(found, [order.index(i) for i in range(x.rank)])


def _rows_of(b: Builder, x: Tensor, weight: Tensor) -> Tensor:
    """The product for all rows of a tensor of whatever rank."""
    return dense(b, b.reshape(x, [-1, x.shape[-1]]), weight)


@lowers("STFT")
def stft(b: Builder, node: Node) -> Tensor:
    """A convolution whose kernels are the windowed waves: frames are never made. A window not known yet needs them."""
    signal, step = node.input(0), int(node.known(1, "the step between frames").reshape(-1)[0])
    if -1 in signal.shape:
        raise Unlowerable("a signal whose length is only known when the model runs")
    x = signal if signal.rank == 3 else b.reshape(signal, [*signal.shape, 1])
    batch, length, parts = x.shape
    if node.has(3):
        size = int(node.known(3, "the length of a frame").reshape(-1)[0])
    else:
        size = node.input(2).shape[0] if node.has(2) else length
    count = (length - size) // step + 1
    onesided = bool(node.integer("onesided", 1))
    matrix = _transform(size, size, parts, inverse=False, onesided=onesided)
    bins = matrix.shape[0]
    window = node.constant(2)
    if node.has(2) and window is None:
        places = np.arange(count)[:, None] * step + np.arange(size)
        frames = b.gather(x, b.ints(places), 1)
        rows = b.reshape(b.mul(frames, b.reshape(node.input(2), [size, 1])), [-1, size * parts])
        weight = b.const(matrix.reshape(bins * 2, size * parts).astype("float32"))
        return b.reshape(dense(b, rows, weight), [batch, count, bins, 2])
    shaped = matrix * (np.ones(size) if window is None else window.astype("float64"))[:, None]
    kernel = b.const(shaped.reshape(bins * 2, 1, size, parts).astype("float32"))
    found = b.op(
        "CONV_2D", [b.reshape(x, [batch, 1, length, parts]), kernel, b.const(np.zeros(bins * 2, "float32"))],
        [batch, 1, count, bins * 2], padding="VALID", strideH=1, strideW=step, dilationHFactor=1, dilationWFactor=1,
        fusedActivationFunction="NONE",
    )  # fmt: skip
    return b.reshape(found, [batch, count, bins, 2])


_WINDOWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "HannWindow": lambda turn: np.sin(turn / 2) ** 2,
    "HammingWindow": lambda turn: 25 / 46 - 21 / 46 * np.cos(turn),
    "BlackmanWindow": lambda turn: 0.42 - 0.5 * np.cos(turn) + 0.08 * np.cos(2 * turn),
}
"""By the angle that goes once around in a window."""


@lowers(*_WINDOWS)
def window(b: Builder, node: Node) -> Tensor:
    size = int(node.known(0, "the size of the window").reshape(-1)[0])
    period = size if node.integer("periodic", 1) else size - 1
    turn = 2 * np.pi * np.arange(size) / max(period, 1)
    return b.const(_WINDOWS[node.op](turn).astype(node.dtype))


@lowers("MelWeightMatrix")
def mel_weight_matrix(b: Builder, node: Node) -> Tensor:
    """Triangles over the bins of a spectrum whose corners are evenly spaced on the mel scale, as ONNX defines it."""
    mels, size, rate, low, high = (node.known(i, "a size or an edge").reshape(-1)[0].item() for i in range(5))
    edges = 2595 * np.log10(1 + np.array([low, high]) / 700)
    places = edges[0] + np.arange(mels + 2) * (edges[1] - edges[0]) / (mels + 2)
    corners = ((size + 1) * 700 * (10 ** (places / 2595) - 1) // rate).astype(int)
    matrix = np.zeros((size // 2 + 1, mels))
    bins = np.arange(size // 2 + 1)
    for i, (left, center, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        rising, falling = (bins >= left) & (bins <= center), (bins >= center) & (bins < right)
        matrix[rising, i] = (bins[rising] - left) / (center - left) if center > left else 1
        if right > center:
            matrix[falling, i] = (right - bins[falling]) / (right - center)
    return b.const(matrix.astype(node.dtype))
