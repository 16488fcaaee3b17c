"""Silero VAD: whether somebody speaks, 32 ms by 32 ms, by an LSTM whose state goes from call to call."""

from __future__ import annotations

from edgekit.card import Card, SourceFile
from edgekit.processing import Processing
from edgekit.spec import StatePair

__all__ = ["CARD"]

_RATE_HZ = 16000
_AT_ITS_RATE = Processing({"sr": ({"op": "constant", "value": _RATE_HZ},)})
"""For files that want to be told the rate."""


def _file(
    name: str, sha256: str, processing: Processing | None = None, state: tuple[StatePair, ...] | None = None
) -> SourceFile:
    return SourceFile(f"silero_vad/data/silero_vad{name}.onnx", sha256, processing, state)


CARD = Card(
    name="silero-vad",
    title="whether somebody speaks (Silero VAD)",
    task="voice activity detection",
    package="silero-vad==6.2.3",
    files=(
        _file("", "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3", _AT_ITS_RATE),
        _file("_16k_op15", "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49", _AT_ITS_RATE),
        _file("_op18_ifless", "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28", _AT_ITS_RATE),
        _file("_openvino_16k", "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87"),
        _file("_half", "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769"),
        _file(
            "_16k_sequence",
            "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
            state=(StatePair("h", "hn"), StatePair("c", "cn")),
        ),
    ),
    license="MIT",
    processing=Processing.identity(),
    state=(StatePair("state", "stateN"),),
    metrics={"mean": "0.926092 over the 221 frames of the Debian clip librivox 0870, all files but the half one"},
    notes=(
        "A call takes 576 samples at 16 kHz: the last 64 of what was before, and 512 new ones.",
        "model.stateful() carries the state from call to call.",
        "The file _16k_sequence takes any number of such frames in one call.",
    ),
)
