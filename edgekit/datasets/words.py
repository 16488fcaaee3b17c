"""Spoken command words, by a speech synthesizer in many voices: the twelve classes of Speech Commands.

The classes are those of Warden 2018 (arXiv:1804.03209): ten words, any other word, and silence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from edgekit.datasets.files import write_wav
from edgekit.datasets.recipe import DatasetRecipe
from edgekit.decoding import read_wav
from edgekit.errors import UnavailableError
from edgekit.processing.resampling import resample_signal

__all__ = ["LABELS", "RATE_HZ", "RECIPE", "VOICES"]

RATE_HZ = 16000
"""Each sound has as many samples: a second."""

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
LABELS = ("silence", "unknown", *WORDS)
SIZES = {"train": 100, "calibration": 6, "test": 24}
"""Sounds of each class; of ``unknown``, which is many words, twice as many in training."""

_OTHERS = (
    *("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"),
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
)
_ACCENTS = ("en-us", "en-gb", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc")
_SPEAKERS = {
    "train": (
        *("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3", "Alicia", "Andy", "Annie", "Gene", "Lee", "Mario", "adam"),
        *("belinda", "boris", "david", "linda", "max", "michel", "paul", "rob", "steph", "travis"),
    ),
    "test": ("m6", "m7", "m8", "f4", "f5", "Michael", "ed", "aunty"),
}
VOICES = {
    split: tuple(f"{accent}+{speaker}" for accent, speaker in product(_ACCENTS, speakers))
    for split, speakers in _SPEAKERS.items()
}
"""By split; whoever speaks in the test speaks nowhere else. The calibration data is by the voices of training."""

_PROGRAM = "espeak-ng"
_HINT = "apt-get install espeak-ng"


@dataclass(frozen=True)
class _Utterance:
    """What is said, and how.

    Attributes:
        word: What.
        voice: Accent and speaker.
        words_per_minute: How fast.
        pitch: 0..99, 50 is the voice's own.
    """

    word: str
    voice: str
    words_per_minute: int
    pitch: int

    def speak(self) -> np.ndarray:
        """The word at `RATE_HZ` without the silence around it, float64 [samples], deviation 1."""
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            path = Path(folder, "word.wav")
            settings = ["-v", self.voice, "-s", str(self.words_per_minute), "-p", str(self.pitch), "-w", str(path)]
            _run(*settings, self.word)
            audio = read_wav(path)
        samples = resample_signal(audio.samples[:, 0], audio.rate_hz, RATE_HZ)
        loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
        samples = samples[loud[0] : loud[-1] + 1][:RATE_HZ]
        return samples / samples.std()


def _run(*arguments: str) -> str:
    """What the program prints. Raises UnavailableError where it is missing or fails."""
    if shutil.which(_PROGRAM) is None:
        raise UnavailableError(f"the data set words is spoken by {_PROGRAM}, which is not installed", hint=_HINT)
    run = subprocess.run([_PROGRAM, *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise UnavailableError(f"{_PROGRAM} {' '.join(arguments)} failed: {run.stderr.strip()}", hint=_HINT)
    return run.stdout


def _version() -> str:
    """Such as ``"eSpeak NG text-to-speech: 1.51"``; other versions speak a little differently."""
    return _run("--version").split("  ")[0].strip()


def _utterance(generator: np.random.Generator, label: str, index: int, voices: tuple[str, ...]) -> _Utterance:
    word = _OTHERS[index % len(_OTHERS)] if label == "unknown" else label
    voice = voices[int(generator.integers(len(voices)))]
    return _Utterance(word, voice, int(generator.integers(120, 200)), int(generator.integers(30, 71)))


def _placed(generator: np.random.Generator, speech: np.ndarray) -> np.ndarray:
    """A second of noise with the speech somewhere in it, 10 to 25 dB louder; its peak at -14 to -1 dB of full scale."""
    sound = _noise(generator)
    start = int(generator.integers(RATE_HZ - len(speech) + 1))
    sound[start : start + len(speech)] += speech * 10 ** (generator.uniform(10, 25) / 20)
    return sound / np.abs(sound).max() * 10 ** (generator.uniform(-14, -1) / 20)


def _silence(generator: np.random.Generator) -> np.ndarray:
    """A second of noise alone, at -45 to -20 dB of full scale."""
    return _noise(generator) * 10 ** (generator.uniform(-45, -20) / 20)


def _noise(generator: np.random.Generator) -> np.ndarray:
    """Hiss, or a roar whose power falls with the frequency, with or without the hum of the mains; deviation 1."""
    frequency = np.fft.rfftfreq(RATE_HZ, 1 / RATE_HZ)
    spectrum = np.fft.rfft(generator.normal(size=RATE_HZ)) / np.maximum(frequency, 40) ** generator.uniform(0, 1)
    noise = np.fft.irfft(spectrum, RATE_HZ)
    hum = np.sin(2 * np.pi * generator.choice([50, 60, 100, 120]) * np.arange(RATE_HZ) / RATE_HZ)
    noise = noise / noise.std() + generator.choice([0.0, 0.5]) * hum
    return noise / noise.std()


def _write(folder: Path, seed: int) -> None:
    for number, (split, size) in enumerate(SIZES.items()):
        generator = np.random.default_rng((seed, number))
        counts = {label: 2 * size if (split, label) == ("train", "unknown") else size for label in LABELS}
        places = [(label, index) for label in LABELS for index in range(counts[label])]
        voices = VOICES["test" if split == "test" else "train"]
        said = [_utterance(generator, label, index, voices) for label, index in places if label != "silence"]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # each waits for a process of its own
            speeches = pool.map(_Utterance.speak, said)
            for label, index in places:
                sound = _silence(generator) if label == "silence" else _placed(generator, next(speeches))
                # Eight bits are far below the noise, and half the size.
                write_wav(folder / split / label / f"{index:04}.wav", sound, RATE_HZ, bits=8)


RECIPE = DatasetRecipe(
    name="words",
    title="ten spoken words, other words and silence, a second each at 16 kHz",
    task="keyword spotting",
    license="Apache-2.0",
    source="spoken by a program under GPL-3.0-or-later, which does not extend to what it says, and put into noise",
    write=_write,
    labels=LABELS,
    tool=_version,
)
