"""Music transcription: which of the 88 piano keys sound when, from windows of two seconds of sound."""

from __future__ import annotations

from edgekit.card import Card, SourceFile
from edgekit.processing import ANY_INPUT, Processing

__all__ = ["CARD"]

_RATE_HZ = 22050
_ROW_SAMPLES = 256
_WINDOW_SAMPLES = 43844
_HOP_ROWS = 141
"""Windows begin a whole number of rows apart, so that rows of neighbors fall on one another: 172 rows, 31 shared."""
_TRIM_ROWS = 15
_MIN_NOTE_ROWS = 11
"""The package's own shortest note: 127.7 ms."""

_TONES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_KEYS = tuple(f"{_TONES[midi % 12]}{midi // 12 - 1}" for midi in range(21, 109))

_PROCESSING = Processing(
    inputs={
        ANY_INPUT: (
            {"op": "decode_wav", "rate_hz": _RATE_HZ},
            {"op": "mono"},
            {"op": "resample", "rate_hz": _RATE_HZ},
            {"op": "frame", "length": _WINDOW_SAMPLES, "hop": _HOP_ROWS * _ROW_SAMPLES},
            {"op": "expand", "axis": -1},
        )
    },
    outputs=(
        {"op": "select", "name": ["note", "StatefulPartitionedCall:1"]},
        {"op": "join_frames", "hop": _HOP_ROWS, "trim": _TRIM_ROWS},
        {"op": "events", "threshold": 0.5, "row_ms": 1000 * _ROW_SAMPLES / _RATE_HZ, "min_rows": _MIN_NOTE_ROWS},
    ),
    labels=_KEYS,
)

_FOLDER = "basic_pitch/saved_models/icassp_2022"

CARD = Card(
    name="basic-pitch",
    title="music transcription (basic-pitch)",
    task="note detection",
    package="basic-pitch==0.4.0",
    files=(
        SourceFile(f"{_FOLDER}/nmp", "eaa25c91c431c91100c416a2c018663f4c635f28fa19529c4ff5e14c18aa29c9"),
        SourceFile(f"{_FOLDER}/nmp.onnx", "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"),
        SourceFile(f"{_FOLDER}/nmp.tflite", "3db297d54af8e01c6e5618245c956b1d71b6a2b978cb2dedb527173186552676"),
    ),
    license="Apache-2.0",
    processing=_PROCESSING,
    metrics={"note mean": "0.113652 on the synthetic chord of MIDI 60, 64, 67 described in tests/unit/test_models.py"},
    notes=(
        "The answer is the note map above a threshold; the onset and contour maps are left to callers of `run`.",
        "The package's own front end puts 3,840 zeros before the sound; here the first window begins with it.",
    ),
)
