"""The catalogue's test signals."""

from __future__ import annotations

import numpy as np

NOTE_RATE_HZ = 22050


def chord(samples: int = 43844) -> np.ndarray:
    """The catalogue's test signal: MIDI 60, 64 and 67, four harmonics each, decaying from where they set in."""
    time_s = np.arange(samples) / NOTE_RATE_HZ
    sound = np.zeros(samples)
    for midi, start_s, end_s in ((60, 0.1, 0.9), (64, 0.5, 1.3), (67, 1.0, 1.9)):
        on = (time_s >= start_s) & (time_s < end_s)
        for harmonic in range(1, 5):
            wave = np.sin(2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * harmonic * time_s[on]) / harmonic
            sound[on] += 0.2 * wave * np.exp(-2 * (time_s[on] - start_s))
    return sound.astype(np.float32)
