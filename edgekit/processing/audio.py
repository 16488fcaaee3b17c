"""Steps on sound: whatever holds one -> samples at the rate a model wants -> windows of the length it wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.decoding import Audio, read_wav
from edgekit.errors import InputError
from edgekit.processing.resampling import resample_signal
from edgekit.processing.steps import Apply, StepContext, integers

__all__ = ["decode_wav", "frame", "mono", "resample"]

_HINT = "pass a .wav path or its bytes, an array [samples] or [samples, channels], or (rate, array)"


def decode_wav(*, rate_hz: Any) -> Apply:
    """A path or bytes of a .wav file, an array, or a pair (rate, array) -> sound with its rate.

    An array is float of full scale -1..1, or int16, [samples] or [samples, channels]; one that comes without its rate
    counts as taken at `rate_hz`.
    """
    (assumed_hz,) = integers("rate_hz", rate_hz, count=1, least=1)

    def apply(value: Any, context: StepContext) -> Audio:
        if isinstance(value, str | Path | bytes | bytearray | memoryview):
            return read_wav(value)
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int | np.integer) and value[0] > 0:
            return Audio(_checked_samples(value[1]), int(value[0]))
        return Audio(_checked_samples(value), assumed_hz)

    return apply


def _checked_samples(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise InputError(f"a {type(value).__name__} is not a sound", hint=_HINT)
    samples = value[:, None] if value.ndim == 1 else value
    if (
        samples.ndim != 2
        or samples.shape[1] == 0
        or samples.dtype not in (np.int16, np.float16, np.float32, np.float64)
    ):
        raise InputError(f"an array of {value.dtype} {list(value.shape)} is not a sound", hint=_HINT)
    if samples.shape[1] > max(samples.shape[0], 2):
        raise InputError(f"{samples.shape[1]} channels of {samples.shape[0]} samples?", hint="transpose it: x.T")
    if samples.dtype == np.int16:
        return samples / np.float32(1 << 15)
    if not np.isfinite(samples).all():
        raise InputError("the sound holds NaN or infinity")
    return samples.astype(np.float32)


def mono() -> Apply:
    """The mean of all channels."""

    def apply(value: Any, context: StepContext) -> Audio:
        audio = _audio(value, "mono")
        return Audio(audio.samples.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32), audio.rate_hz)

    return apply


def resample(*, rate_hz: Any) -> Apply:
    """Sound at any rate -> float32 [samples] at `rate_hz`; it must be mono."""
    (wanted_hz,) = integers("rate_hz", rate_hz, count=1, least=1)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        audio = _audio(value, "resample")
        if audio.samples.shape[1] != 1:
            raise InputError(
                f"the sound has {audio.samples.shape[1]} channels", hint='put the step "mono" before "resample"'
            )
        return resample_signal(audio.samples[:, 0], audio.rate_hz, wanted_hz).astype(np.float32)

    return apply


def frame(*, length: Any, hop: Any = None) -> Apply:
    """[samples] -> [windows, length], a window every `hop` samples (`length` if not given) until all is covered.

    The last window is filled up with zeros. Sound no longer than a window gives one.
    """
    (size,) = integers("length", length, count=1, least=1)
    (stride,) = integers("hop", length if hop is None else hop, count=1, least=1)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        if not isinstance(value, np.ndarray) or value.ndim != 1:
            raise InputError('the step "frame" wants [samples]', hint='put "mono" and "resample" before it')
        if not value.size:
            raise InputError("the sound is empty")
        count = 1 + max(0, -(-(len(value) - size) // stride))
        padded = np.pad(value, (0, max(0, (count - 1) * stride + size - len(value))))
        return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, size)[::stride][:count])

    return apply


def _audio(value: Any, op: str) -> Audio:
    if isinstance(value, Audio):
        return value
    raise InputError(f"the step {op!r} wants a sound", hint='begin with "decode_wav"')
