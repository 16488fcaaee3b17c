"""Little tunes of plucked harmonic tones: sound that a generative net can learn to go on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.datasets.files import write_wav
from edgekit.datasets.recipe import DatasetRecipe

__all__ = ["RATE_HZ", "RECIPE", "draw_tune"]

RATE_HZ = 8000
SIZES = {"train": 200, "calibration": 20, "test": 40}

_STEPS = (0, 2, 4, 7, 9, 12, 14, 16, 19, 21, 24)
"""A pentatonic scale over two octaves, in semitones: any two of its tones go together."""
_LOWEST_HZ = 220.0
_HARMONICS = np.arange(1, 6)


def draw_tune(generator: np.random.Generator) -> np.ndarray:
    """A second of tones in -1..1, float64 [RATE_HZ]. Each begins when the one before is still fading."""
    total = np.zeros(RATE_HZ)
    darkness = generator.uniform(0.8, 2.0)
    start = 0
    while start < RATE_HZ:
        left = (RATE_HZ - start) / RATE_HZ
        pitch_hz = _LOWEST_HZ * 2 ** (generator.choice(_STEPS) / 12)
        total[start:] += generator.uniform(0.5, 1.0) * _tone(pitch_hz, left, darkness, generator.uniform(3, 9))
        start += round(RATE_HZ * generator.choice([0.125, 0.25, 0.25, 0.375]))
    total += generator.normal(0, generator.uniform(0.001, 0.01), RATE_HZ)
    return generator.uniform(0.4, 0.9) * total / np.abs(total).max()


def _tone(pitch_hz: float, seconds: float, darkness: float, decay_per_s: float) -> np.ndarray:
    """Harmonics of `pitch_hz`, weaker the higher, with an attack of 5 ms and an exponential decay."""
    time = np.arange(round(RATE_HZ * seconds)) / RATE_HZ
    strengths = _HARMONICS**-darkness * (_HARMONICS * pitch_hz < 0.45 * RATE_HZ)
    waves = np.sin(2 * np.pi * pitch_hz * _HARMONICS[:, None] * time)
    return (strengths @ waves) * np.minimum(time / 0.005, 1) * np.exp(-decay_per_s * time)


def _write(folder: Path, seed: int) -> None:
    for number, (split, size) in enumerate(SIZES.items()):
        generator = np.random.default_rng((seed, number))
        for index in range(size):
            write_wav(folder / split / f"{index:04}.wav", draw_tune(generator), RATE_HZ)


RECIPE = DatasetRecipe(
    name="tones",
    title="one-second tunes of harmonic tones, 8 kHz",
    task="audio generation",
    license="Apache-2.0",
    source="drawn by edgekit",
    write=_write,
)
