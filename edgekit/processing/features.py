"""Steps on sound that compute what a net is fed: spectra on the mel scale, companded samples, neighbors in time."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.mel import filled, htk_mel
from edgekit.processing.steps import Apply, StepContext, integers, number, one_of

__all__ = ["log_mel", "mfcc", "mu_law", "window_context"]


def log_mel(
    *,
    rate_hz: Any,
    window_ms: Any = 25.0,
    hop_ms: Any = 10.0,
    bins: Any = 40,
    low_hz: Any = 20.0,
    high_hz: Any = None,
    fft: Any = None,
    floor: Any = 1e-10,
) -> Apply:
    """[samples] at `rate_hz` -> float32 [frames, bins], the natural logarithm of the energy in each band.

    A frame begins every `hop_ms` and lies whole within the sound: nothing is padded, and there are
    ``1 + (samples - window) // hop`` of them. Each is weighted by a periodic Hann window, transformed by a Fourier
    transform of `fft` points (the next power of two if not given), squared, and summed by triangles that reach from
    the center of one band to those of its neighbors. Centers are evenly spaced between `low_hz` and `high_hz` (half
    the rate if not given) on the mel scale ``2595 log10(1 + f / 700)``, and so are the sides of the triangles (S. Young
    et al., The HTK Book, 3.4, section 5.4). What is below `floor` counts as `floor`.
    """
    spectrum = _Spectrum(rate_hz, window_ms, hop_ms, bins, low_hz, high_hz, fft, floor)
    return lambda value, context: spectrum.of(value, "log_mel").astype(np.float32)


def mfcc(
    *,
    rate_hz: Any,
    coefficients: Any = 10,
    window_ms: Any = 40.0,
    hop_ms: Any = 20.0,
    bins: Any = 40,
    low_hz: Any = 20.0,
    high_hz: Any = 4000.0,
    fft: Any = None,
    floor: Any = 1e-10,
) -> Apply:
    """[samples] at `rate_hz` -> float32 [frames, coefficients], the first cosine coefficients of `log_mel`'s bands.

    The transform is the orthonormal DCT-II over the bands (S. Davis, P. Mermelstein, Comparison of Parametric
    Representations for Monosyllabic Word Recognition, 1980). The defaults are those of keyword spotters: 49 frames of
    10 coefficients from a second of sound (Y. Zhang et al., Hello Edge, arXiv 1711.07128).
    """
    spectrum = _Spectrum(rate_hz, window_ms, hop_ms, bins, low_hz, high_hz, fft, floor)
    (count,) = integers("coefficients", coefficients, count=1, least=1)
    if count > spectrum.bins:
        raise ArtifactError(f"coefficients must be at most the {spectrum.bins} bins, not {count}")
    basis = _cosines(spectrum.bins, count)
    return lambda value, context: (spectrum.of(value, "mfcc") @ basis).astype(np.float32)


class _Spectrum:
    """The arguments of a mel spectrum, checked, and the window and triangles they stand for."""

    def __init__(
        self, rate_hz: Any, window_ms: Any, hop_ms: Any, bins: Any, low_hz: Any, high_hz: Any, fft: Any, floor: Any
    ) -> None:
        (rate,) = integers("rate_hz", rate_hz, count=1, least=1)
        (self.bins,) = integers("bins", bins, count=1, least=1)
        self._window = _samples("window_ms", window_ms, rate)
        self._hop = _samples("hop_ms", hop_ms, rate)
        default = 1 << (self._window - 1).bit_length()
        (self._fft,) = integers("fft", default if fft is None else fft, count=1, least=self._window)
        self._floor = number("floor", floor, above=0.0)
        low = number("low_hz", low_hz, least=0.0)
        high = number("high_hz", rate / 2 if high_hz is None else high_hz, above=low, most=rate / 2)
        self._taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self._window) / self._window)
        self._triangles = _triangles(np.fft.rfftfreq(self._fft, 1 / rate), self.bins, low, high)

    def of(self, value: Any, op: str) -> np.ndarray:
        """float64 [..., frames, bins] of `value` [..., samples]."""
        if not isinstance(value, np.ndarray) or value.ndim == 0 or value.dtype.kind != "f":
            raise InputError(f"the step {op!r} wants [samples]", hint='put "mono" and "resample" before it')
        if value.shape[-1] < self._window:
            raise InputError(
                f"{value.shape[-1]} samples are less than one window of {self._window}",
                hint='put "pad_or_cut" before it',
            )
        frames = np.lib.stride_tricks.sliding_window_view(value, self._window, axis=-1)[..., :: self._hop, :]
        power = np.abs(np.fft.rfft(frames * self._taper, self._fft)) ** 2
        return np.asarray(np.log(np.maximum(power @ self._triangles, self._floor)))


def _samples(name: str, milliseconds: Any, rate_hz: int) -> int:
    count = round(number(name, milliseconds, above=0.0) * rate_hz / 1000)
    if count < 1:
        raise ArtifactError(f"{name} of {milliseconds!r} is less than a sample at {rate_hz} Hz")
    return count


def _triangles(frequencies_hz: np.ndarray, bins: int, low_hz: float, high_hz: float) -> np.ndarray:
    """[frequencies, bins]: how much of each frequency a band takes in."""
    edges = np.linspace(htk_mel(low_hz), htk_mel(high_hz), bins + 2)
    mels = htk_mel(frequencies_hz)[:, None]
    rising = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    return filled(np.maximum(0.0, np.minimum(rising, falling)))


def _cosines(size: int, count: int) -> np.ndarray:
    """[size, count]: the first `count` basis vectors of the orthonormal DCT-II."""
    position, order = np.arange(size)[:, None] + 0.5, np.arange(count)
    basis: np.ndarray = np.cos(np.pi * position * order / size) * np.sqrt(2.0 / size)
    basis[:, 0] = np.sqrt(1.0 / size)
    return basis


def mu_law(*, to: str = "classes", mu: Any = 255) -> Apply:
    """[samples] in -1..1 -> companded ``sign(x) ln(1 + mu |x|) / ln(1 + mu)``; what is beyond is clipped.

    The curve is that of ITU-T G.711; as classes, int64 of 0..`mu`, it is how WaveNet reads and writes sound (A. van
    den Oord et al., WaveNet, arXiv 1609.03499, section 2.2). Silence is class ``(mu + 1) / 2``.

    Args:
        to: ``"classes"``, or ``"float"`` for float32 in -1..1.
        mu: Classes less one.
    """
    (levels,) = integers("mu", mu, count=1, least=1)
    to = one_of("to", to, ("classes", "float"))

    def apply(value: Any, context: StepContext) -> np.ndarray:
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not np.isfinite(value).all():
            raise InputError('the step "mu_law" wants finite [samples]', hint='put "mono" and "resample" before it')
        clipped = np.clip(value.astype(np.float64), -1.0, 1.0)
        companded = np.sign(clipped) * np.log1p(levels * np.abs(clipped)) / np.log1p(levels)
        if to == "float":
            return companded.astype(np.float32)
        return np.floor((companded + 1.0) / 2.0 * levels + 0.5).astype(np.int64)

    return apply


def window_context(*, frames: Any) -> Apply:
    """[time, features] -> [time - frames + 1, frames * features]: each row with those that follow it, in a row.

    Every window is a sample for the net, as those of `frame` are.
    """
    (count,) = integers("frames", frames, count=1, least=1)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "biuf":
            raise InputError('the step "window_context" wants [time, features]', hint='put "log_mel" before it')
        if len(value) < count:
            raise InputError(f"{len(value)} frames are less than the {count} of a window", hint="a longer sound")
        windows = np.lib.stride_tricks.sliding_window_view(value, count, axis=0)
        return np.ascontiguousarray(windows.swapaxes(1, 2)).reshape(len(windows), -1)

    return apply
