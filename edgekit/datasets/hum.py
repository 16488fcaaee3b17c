"""The hum of a rotating machine, whole or damaged: learn what is normal, and hear what is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.datasets.files import write_wav
from edgekit.datasets.recipe import DatasetRecipe

__all__ = ["DAMAGES", "RATE_HZ", "RECIPE", "SECONDS", "draw_hum"]

RATE_HZ = 16000
SECONDS = 2
SIZES = {"train": 128, "calibration": 16, "test": 40}
"""Sounds of the whole machine in each split; the test has as many of the damaged one."""

_COUNT = RATE_HZ * SECONDS
_TIME = np.arange(_COUNT) / RATE_HZ
_HARMONICS = np.arange(1, 25)
_MESH = 17
"""Teeth of the gear, so the harmonic it is loud at."""


@dataclass(frozen=True)
class _Run:
    """How the machine runs in one recording: shaft angle in radians and load in 0.4..1, each [samples]."""

    angle: np.ndarray
    load: np.ndarray


def draw_hum(generator: np.random.Generator, damage: str = "") -> np.ndarray:
    """Two seconds in -1..1, float64 [samples], of a machine that is whole or has one of `DAMAGES`, slight or severe."""
    severity = generator.uniform(0.15, 1.0)
    load = 0.7 + 0.25 * _wander(generator, 1.5)
    speed_hz = generator.uniform(24.2, 25.2) - 0.4 * load
    run = _Run(2 * np.pi * np.cumsum(speed_hz) / RATE_HZ, load)
    strengths = _HARMONICS**-0.8 * (1 + 0.5 * np.sin(2.4 * _HARMONICS))
    sound = (strengths[:, None] * np.sin(_HARMONICS[:, None] * run.angle + _HARMONICS[:, None] ** 2)).sum(axis=0)
    sound += load * _mesh(run, severity if damage == "gear" else 0.0, 0.4 * severity if damage == "belt" else 0.0)
    sound += generator.uniform(0.10, 0.16) * _colored(generator, 600.0)
    if damage in _ADDED:
        sound += _ADDED[damage](generator, run, severity)
    sound += generator.normal(0, 0.02, _COUNT)
    return 0.12 * 10 ** (generator.uniform(-2, 2) / 20) * sound


def _mesh(run: _Run, wear: float, slip: float) -> np.ndarray:
    """The gear: a tone with a side band for each turn of the shaft; `wear` makes those loud, `slip` moves the tone."""
    turns = _MESH + slip
    tone = 0.5 * np.sin(turns * run.angle) + 0.25 * np.sin(2 * turns * run.angle + 1.0)
    return tone * (1 + (0.1 + 0.9 * wear) * np.sin(run.angle)) * (1 + 0.5 * wear)


def _clicks(generator: np.random.Generator, run: _Run, severity: float) -> np.ndarray:
    """A cracked bearing: 3.57 times a turn a ball strikes, and the housing rings at 3.1 kHz."""
    strikes = np.flatnonzero(np.diff(np.floor(3.57 * run.angle / (2 * np.pi)))) + generator.integers(-16, 16)
    train = np.zeros(_COUNT)
    train[np.clip(strikes, 0, _COUNT - 1)] = generator.uniform(0.6, 1.0, len(strikes))
    ringing = np.exp(-_TIME[:400] * 600) * np.sin(2 * np.pi * 3100 * _TIME[:400])
    return 0.2 * severity * np.convolve(train, ringing)[:_COUNT]


def _rub(generator: np.random.Generator, run: _Run, severity: float) -> np.ndarray:
    """Something touches the shaft for part of each turn: bursts of hiss."""
    touching = np.clip(np.sin(run.angle) - 0.3, 0, None)
    return 0.08 * severity * touching * np.diff(generator.normal(size=_COUNT + 1))


_ADDED: dict[str, Callable[[np.random.Generator, _Run, float], np.ndarray]] = {"bearing": _clicks, "rub": _rub}
DAMAGES = ("bearing", "gear", "belt", "rub")


def _wander(generator: np.random.Generator, rate_hz: float) -> np.ndarray:
    """A slow change within -1..1 that goes through a random value about `rate_hz` times a second."""
    points = generator.uniform(-1, 1, round(SECONDS * rate_hz) + 2)
    return np.interp(_TIME * rate_hz, np.arange(len(points)), points)


def _colored(generator: np.random.Generator, corner_hz: float) -> np.ndarray:
    """Noise of deviation 1 that falls off above `corner_hz`, as air in a duct."""
    spectrum = np.fft.rfft(generator.normal(size=_COUNT))
    frequency = np.fft.rfftfreq(_COUNT, 1 / RATE_HZ)
    noise = np.fft.irfft(spectrum / (1 + (frequency / corner_hz) ** 2), _COUNT)
    return noise / noise.std()


def _write(folder: Path, seed: int) -> None:
    for number, (split, size) in enumerate(SIZES.items()):
        generator = np.random.default_rng((seed, number))
        for index in range(size):
            write_wav(folder / split / "normal" / f"{index:04}.wav", draw_hum(generator), RATE_HZ)
    generator = np.random.default_rng((seed, len(SIZES)))
    for index in range(SIZES["test"]):
        damage = DAMAGES[index % len(DAMAGES)]
        sound = draw_hum(generator, damage)
        write_wav(folder / "test" / "anomaly" / f"{index:04}-{damage}.wav", sound, RATE_HZ)


RECIPE = DatasetRecipe(
    name="hum",
    title="a machine's hum, two seconds at 16 kHz, whole in training and also damaged in the test",
    task="anomaly detection",
    license="Apache-2.0",
    source="drawn by edgekit",
    write=_write,
    labels=("normal", "anomaly"),
)
