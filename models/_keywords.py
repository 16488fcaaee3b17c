"""What the keyword spotters share: how a second of sound comes in, and what they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.processing import ANY_INPUT, Processing

__all__ = ["COEFFICIENTS", "FIRST_SECOND", "KEYWORDS", "RATE_HZ", "TABLE", "keyword_processing"]

KEYWORDS = ("silence", "unknown", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
"""The twelve classes of Speech Commands that keyword spotters are compared on (Warden 2018, arXiv:1804.03209)."""

COEFFICIENTS = 10
"""Cepstral coefficients of a frame."""

TABLE = "Zhang et al. 2017, arXiv:1711.07128, the table of the best networks by size; its operations are 2 x MACs"

RATE_HZ = 16000


_SECOND: tuple[dict[str, Any], ...] = (
    {"op": "decode_wav", "rate_hz": RATE_HZ},
    {"op": "mono"},
    {"op": "resample", "rate_hz": RATE_HZ},
    {"op": "pad_or_cut", "length": RATE_HZ},
)
FIRST_SECOND = Processing({ANY_INPUT: _SECOND})
"""From a sound to its first second, [samples]."""


def keyword_processing(
    *,
    hop_ms: float = 20.0,
    high_hz: float = 4000.0,
    is_picture: bool = False,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Processing:
    """From a sound to the best five keywords for its first second.

    Args:
        hop_ms: From one frame of 40 ms to the next.
        high_hz: Highest frequency that is listened to; 4,000 is the paper's.
        is_picture: Whether the net takes [frames, coefficients] as a picture of one channel.
        mean: Of each coefficient, taken away; none leaves them as they are.
        std: Of each coefficient, divided by.
    """
    further: tuple[dict[str, Any], ...] = ({"op": "normalize", "mean": [*mean], "std": [*std]},) if mean else ()
    further += ({"op": "expand", "axis": -1}, {"op": "layout"}) if is_picture else ()
    steps: tuple[dict[str, Any], ...] = (
        *_SECOND,
        {"op": "mfcc", "rate_hz": RATE_HZ, "coefficients": COEFFICIENTS, "hop_ms": hop_ms, "high_hz": high_hz},
        *further,
    )
    answer: tuple[dict[str, Any], ...] = (
        {"op": "select", "name": "logits"},
        {"op": "softmax"},
        {"op": "top_k", "k": 5},
    )
    return Processing({ANY_INPUT: steps}, answer, KEYWORDS)
