"""Sleep stages from heart rate: bidirectional GRU over epochs of 30 seconds, 36 features each."""

from __future__ import annotations

from edgekit.card import Card, SourceFile
from edgekit.processing import ANY_INPUT, Processing

__all__ = ["CARD"]

_MASK = -1.0
"""What an epoch that is to be left out, or a feature that could not be computed, is replaced by."""


def _processing(labels: tuple[str, ...]) -> Processing:
    return Processing(
        inputs={ANY_INPUT: ({"op": "replace_nonfinite", "value": _MASK},)},
        outputs=({"op": "argmax"},),  # the net ends in a softmax; a best class for each epoch
        labels=labels,
    )


_WAKE_SLEEP = _processing(("undefined", "sleep", "wake"))
_WAKE_REM_NREM = _processing(("undefined", "nrem", "rem", "wake"))

CARD = Card(
    name="sleep-stages",
    title="sleep stages from heart rate (GRU)",
    task="sequence labeling",
    package="sleepecg==0.6.0",
    files=(
        SourceFile(
            "sleepecg/classifiers/ws-gru-mesa.zip!classifier.keras",
            "954160fff7c266e186ae59bfe771f91783ca3d4fe896068a89a5f6d23d02fd7d",
            _WAKE_SLEEP,
        ),
        SourceFile(
            "sleepecg/classifiers/wrn-gru-mesa.zip!classifier.keras",
            "0b392209aff8d72383de4d1fdb1e41e85ab060b65a3facb2835e262aa0f6ffd8",
        ),
        SourceFile(
            "sleepecg/classifiers/wrn-gru-mesa-weighted.zip!classifier.keras",
            "16943b96e798a66ff8575e55616ce44d876c89319bd7d81e3ebad077ac39ac74",
        ),
        SourceFile(
            "sleepecg/classifiers/ws-gru-mesa.zip",
            "316ce8c1f2740097d4e07723fab83b85c260a0a63d5a97275c16b668bfd5ea73",
            _WAKE_SLEEP,
        ),
        SourceFile(
            "sleepecg/classifiers/wrn-gru-mesa.zip",
            "5622a858c855b0090e1fbcbdc35334ea459707c830eae1a26a4375e33091e869",
        ),
        SourceFile(
            "sleepecg/classifiers/wrn-gru-mesa-weighted.zip",
            "3756efdb9143653a71e273b27b128bfcd1c1e4d60e846f11208dcb76195c6129",
        ),
    ),
    license="BSD-3-Clause",
    processing=_WAKE_REM_NREM,
    metrics={
        "ws-gru, first row": "0.01076 0.47105 0.51819 on RandomState(0).randn(1, 60, 36)",
        "wrn-gru, first row": "0.00024 0.12325 0.02231 0.8542 on RandomState(0).randn(1, 60, 36)",
    },
    notes=(
        "Features are those of `sleepecg.extract_features`, [epochs, 36]; any number of epochs.",
        "Both directions are read: a whole night at once, not epoch by epoch.",
    ),
)
