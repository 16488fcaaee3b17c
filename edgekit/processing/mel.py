"""Spectra on the mel scale as the packages of speech and music compute them, and windows of their rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, InputError
from edgekit.processing.steps import Apply, StepContext, integers, number, one_of, truth

__all__ = ["filled", "frame_rows", "htk_mel", "mel"]

_SLANEY_BREAK_HZ, _SLANEY_STEP_HZ = 1000.0, 200.0 / 3
_SLANEY_LOG_STEP = np.log(6.4) / 27
"""M. Slaney, Auditory Toolbox, 1998: bands are evenly spaced up to 1 kHz, and 27 of them make a factor of 6.4 above."""

_LOGARITHMS = {"natural": 1.0, "10": 1 / np.log(10), "db": 10 / np.log(10)}
_PADDINGS = {"zeros": "constant", "reflect": "reflect"}


def mel(
    *,
    rate_hz: Any,
    window: Any,
    hop: Any,
    fft: Any = None,
    bins: Any = 128,
    low_hz: Any = 0.0,
    high_hz: Any = None,
    power: Any = 2.0,
    scale: str = "slaney",
    is_area_one: Any = True,
    is_centered: Any = True,
    padding: str = "zeros",
    log: str = "none",
    floor: Any = 1e-10,
) -> Apply:
    """[samples] -> float32 [frames, bins]: the spectrum of each frame, summed by triangles on the mel scale.

    With the defaults it is what librosa's ``feature.melspectrogram`` gives, the axes exchanged. Triangles have straight
    sides in Hz, from the center of one band to those of its neighbors.

    Args:
        rate_hz: Samples a second.
        window: Samples in a frame, which a periodic Hann window weights.
        hop: Samples from one frame to the next.
        fft: Points of the Fourier transform, in whose middle the window stands; `window` where it is not given.
        bins: Bands.
        low_hz: Where the first begins.
        high_hz: Where the last ends; half the rate where it is not given.
        power: Of the magnitudes: 2 for energy, 1 for magnitude.
        scale: ``"slaney"``, or ``"htk"``: ``2595 log10(1 + f / 700)``.
        is_area_one: Divides each triangle by half its width in Hz.
        is_centered: The first frame's middle is the first sample, and what is missing at both ends is padded.
        padding: ``"zeros"`` or ``"reflect"``.
        log: ``"none"``, ``"natural"``, ``"10"``, or ``"db"``, ten times that.
        floor: What is below counts as this, before the logarithm.
    """
    (rate,) = integers("rate_hz", rate_hz, count=1, least=1)
    (size,) = integers("window", window, count=1, least=2)
    (stride,) = integers("hop", hop, count=1, least=1)
    (points,) = integers("fft", size if fft is None else fft, count=1, least=size)
    (count,) = integers("bins", bins, count=1, least=1)
    low = number("low_hz", low_hz, least=0.0)
    high = number("high_hz", rate / 2 if high_hz is None else high_hz, above=low, most=rate / 2)
    exponent, least = number("power", power, above=0.0), number("floor", floor, above=0.0)
    scale, log = one_of("scale", scale, ("slaney", "htk")), one_of("log", log, ("none", *_LOGARITHMS))
    around = points // 2 if truth("is_centered", is_centered) else 0
    frames = _Frames(size, stride, points, around, _PADDINGS[one_of("padding", padding, _PADDINGS)])
    bands = _bands(np.fft.rfftfreq(points, 1 / rate), count, low, high, scale, truth("is_area_one", is_area_one))

    def apply(value: Any, context: StepContext) -> np.ndarray:
        energy = np.abs(np.fft.rfft(frames.of(_sound(value)))) ** exponent @ bands
        if log != "none":
            energy = np.log(np.maximum(energy, least)) * _LOGARITHMS[log]
        return energy.astype(np.float32)

    return apply


class _Frames:
    """How a sound is cut into frames of `points`, in whose middle a Hann window of `size` stands."""

    def __init__(self, size: int, stride: int, points: int, around: int, mode: Any) -> None:
        self._stride, self._points, self._around, self._mode = stride, points, around, mode
        self._taper = np.zeros(points)
        start = (points - size) // 2
        self._taper[start : start + size] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)

    def of(self, samples: np.ndarray) -> np.ndarray:
        """float64 [frames, points]."""
        least = self._around + 1 if self._mode == "reflect" else 0
        if len(samples) < max(least, self._points - 2 * self._around):
            raise InputError(f"{len(samples)} samples are less than a frame of {self._points}", hint="a longer sound")
        padded = np.pad(samples.astype(np.float64), self._around, mode=self._mode)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self._points)[:: self._stride]
        return np.asarray(frames * self._taper)


def _sound(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind != "f":
        raise InputError('the step "mel" wants [samples]', hint='put "mono" and "resample" before it')
    if not value.size:
        raise InputError("the sound is empty")
    return value


def _bands(
    frequencies_hz: np.ndarray, bins: int, low_hz: float, high_hz: float, scale: str, is_area_one: bool
) -> np.ndarray:
    """[frequencies, bins]: how much of each frequency a band takes in."""
    to_mel, to_hz = (_slaney_mel, _slaney_hz) if scale == "slaney" else (htk_mel, _htk_hz)
    ends = to_mel(np.array([low_hz, high_hz]))
    edges = to_hz(np.linspace(ends[0], ends[1], bins + 2))
    rising = (frequencies_hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies_hz[:, None]) / (edges[2:] - edges[1:-1])
    weights = filled(np.maximum(0.0, np.minimum(rising, falling)))
    return weights * (2.0 / (edges[2:] - edges[:-2])) if is_area_one else weights


def filled(weights: np.ndarray) -> np.ndarray:
    """`weights` [frequencies, bins]; an ArtifactError where a band takes in nothing at all."""
    if empty := int((weights.max(axis=0) <= 0).sum()):
        raise ArtifactError(
            f"{empty} of {weights.shape[1]} bins are so narrow that no frequency falls into them",
            hint="a larger fft, or less bins",
        )
    return weights


def _slaney_mel(frequency_hz: np.ndarray) -> np.ndarray:
    above = np.log(np.maximum(frequency_hz, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return np.asarray(np.minimum(frequency_hz, _SLANEY_BREAK_HZ) / _SLANEY_STEP_HZ + above)


def _slaney_hz(mels: np.ndarray) -> np.ndarray:
    turn = _SLANEY_BREAK_HZ / _SLANEY_STEP_HZ
    return np.asarray(np.minimum(mels, turn) * _SLANEY_STEP_HZ * np.exp(np.maximum(mels - turn, 0) * _SLANEY_LOG_STEP))


def htk_mel(frequency_hz: np.ndarray | float) -> np.ndarray:
    return np.asarray(2595.0 * np.log10(1.0 + frequency_hz / 700.0))


def _htk_hz(mels: np.ndarray) -> np.ndarray:
    return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))


def frame_rows(*, length: Any, hop: Any) -> Apply:
    """[rows, ...] -> [windows, length, ...], a window every `hop` rows; rows after the last whole window are left out.

    Every window is a sample for the net, as those of `frame` are.
    """
    (size,) = integers("length", length, count=1, least=1)
    (stride,) = integers("hop", hop, count=1, least=1)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        if not isinstance(value, np.ndarray) or value.ndim < 2 or value.dtype.kind not in "biuf":
            raise InputError('the step "frame_rows" wants [rows, ...]', hint='put "mel" before it')
        if len(value) < size:
            raise InputError(f"{len(value)} rows are less than the {size} of a window", hint='"pad_to_windows"')
        windows = np.lib.stride_tricks.sliding_window_view(value, size, axis=0)[::stride]
        return np.ascontiguousarray(np.moveaxis(windows, -1, 1))

    return apply
