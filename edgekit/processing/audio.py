"""Steps on sound: whatever holds one -> samples at the rate a model wants -> windows of the length it wants."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.decoding import Audio, read_wav
from edgekit.errors import InputError
from edgekit.processing.resampling import resample_signal
from edgekit.processing.steps import Apply, StepContext, integers, number, truth
from edgekit.validation import is_masked

__all__ = ["decode_wav", "frame", "mono", "normalize_volume", "pad_to_windows", "resample"]

_MOST_STEPS = 50_000
"""Of both rates over their greatest common divisor: the filter between them has twenty times as many taps."""

_MOST_STRETCH = 64
"""Samples for one: a file of a few bytes may say it was taken once a second."""

_HINT = "pass a .wav path or its bytes, an array [samples] or [samples, channels], or (rate, array)"


def decode_wav(*, rate_hz: Any) -> Apply:
    """A path or bytes of a .wav file, an array, or a pair (rate, array) -> sound with its rate.

    An array is float of full scale -1..1, or int16, [samples] or [samples, channels]; one that comes without its rate
    counts as taken at `rate_hz`.
    """
    (assumed_hz,) = integers("rate_hz", rate_hz, count=1, least=1)

    def apply(value: Any, context: StepContext) -> Audio:
        if isinstance(value, str | Path | bytes | bytearray | memoryview):
            audio = read_wav(value)
            if not np.isfinite(audio.samples).all():
                raise InputError("the sound holds NaN or infinity")
            return audio
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int | np.integer) and value[0] > 0:
            return Audio(_checked_samples(value[1]), int(value[0]))
        return Audio(_checked_samples(value), assumed_hz)

    return apply


def _checked_samples(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or is_masked(value):
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
    """Sound at another rate -> float32 [samples] at `rate_hz`; it must be mono.

    What would take memory beyond all measure is an InputError: less than a 64th of that rate, or rates that go together
    so badly that their ratio in lowest terms has a number above 50,000.
    """
    (wanted_hz,) = integers("rate_hz", rate_hz, count=1, least=1)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        audio = _audio(value, "resample")
        if audio.samples.shape[1] != 1:
            raise InputError(
                f"the sound has {audio.samples.shape[1]} channels", hint='put the step "mono" before "resample"'
            )
        common = math.gcd(audio.rate_hz, wanted_hz)
        is_odd = max(audio.rate_hz, wanted_hz) // common > _MOST_STEPS
        if is_odd or wanted_hz > _MOST_STRETCH * audio.rate_hz:
            raise InputError(f"a sound at {audio.rate_hz} Hz cannot be brought to {wanted_hz} Hz", hint="is it right?")
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


def normalize_volume(*, dbfs: Any, only_up: Any = False) -> Apply:
    """[samples] -> the same as loud as `dbfs`: decibels of the root of the mean square, 0 for full scale.

    Args:
        dbfs: See above; below 0 as a rule.
        only_up: Leaves what is louder as it is. Silence stays silence.
    """
    target, is_upward = number("dbfs", dbfs), truth("only_up", only_up)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        samples = _samples(value, "normalize_volume")
        loudness = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        if not loudness:
            return samples
        change_db = target - 20 * float(np.log10(loudness))
        if change_db < 0 and is_upward:
            return samples
        return (samples * 10 ** (change_db / 20)).astype(np.float32)

    return apply


def pad_to_windows(*, length: Any, hop: Any, least_share: Any = 0.0) -> Apply:
    """[samples] -> the same filled up with zeros, so that whole windows of `length`, one every `hop`, cover it.

    Args:
        length: Samples in a window.
        hop: Samples from one window to the next.
        least_share: A last window of which the sound fills less than this is done without, if it is not the only one.
    """
    (size,) = integers("length", length, count=1, least=1)
    (stride,) = integers("hop", hop, count=1, least=1)
    least = number("least_share", least_share, most=1.0)

    def apply(value: Any, context: StepContext) -> np.ndarray:
        samples = _samples(value, "pad_to_windows")
        count = 1 + max(0, -(-(len(samples) - size) // stride))
        if count > 1 and (len(samples) - (count - 1) * stride) / size < least:
            count -= 1
        return np.pad(samples, (0, max(0, (count - 1) * stride + size - len(samples))))

    return apply


def _samples(value: Any, op: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind != "f":
        raise InputError(f"the step {op!r} wants [samples]", hint='put "mono" and "resample" before it')
    if not value.size:
        raise InputError("the sound is empty")
    return value


def _audio(value: Any, op: str) -> Audio:
    if isinstance(value, Audio):
        return value
    raise InputError(f"the step {op!r} wants a sound", hint='begin with "decode_wav"')
