"""Feed-forward nets: dense layers over a row of a table, or over the features of a spoken word."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.family import Family, Paper, Size, Training
from edgekit.models._classification import best_classes, class_targets, cross_entropy
from edgekit.models._keywords import COEFFICIENTS, KEYWORDS, TABLE, keyword_processing
from edgekit.network import Network
from edgekit.processing import Processing

__all__ = ["FAMILY"]


def build(name: str, *, features: Sequence[int], hidden: Sequence[int], classes: int, dropout: float = 0.0) -> Network:
    """Dense layers with ReLU between them.

    Args:
        name: Of the network.
        features: Sizes of a sample, which is laid out flat.
        hidden: Units of each hidden layer.
        classes: How many.
        dropout: Rate after each hidden layer, in training.
    """
    net = Network(name)
    x = net.input("features", ("batch", *features))
    x = net.reshape(x, (math.prod(features),)) if len(features) > 1 else x
    for index, units in enumerate(hidden, start=1):
        x = net.relu(net.dense(x, f"fc{index}", units, start="he"))
        x = net.dropout(x, dropout) if dropout else x
    net.output(net.dense(x, f"fc{len(hidden) + 1}", classes), "logits")
    return net


# --- The family -------------------------------------------------------------------------------------------------------

_MEANS = (
    *(14.14, 19.36, 92.13, 658.5, 0.09731, 0.1071, 0.09227, 0.05022, 0.1818, 0.06317),
    *(0.4135, 1.239, 2.921, 41.88, 0.007114, 0.02612, 0.03242, 0.01189, 0.02051, 0.003837),
    *(16.31, 25.83, 107.6, 890.9, 0.1335, 0.2607, 0.2778, 0.116, 0.2905, 0.08484),
)
_DEVIATIONS = (
    *(3.647, 4.377, 25.2, 369.5, 0.01438, 0.05534, 0.08389, 0.04044, 0.0287, 0.00719),
    *(0.2963, 0.5535, 2.145, 49.78, 0.003083, 0.01832, 0.03036, 0.006169, 0.008171, 0.002538),
    *(5.029, 6.266, 35.03, 601.9, 0.02299, 0.1656, 0.2144, 0.06683, 0.06318, 0.01888),
)
"""Of each measure over the training data, so that all of them weigh alike, also when they are quantized together."""

_HOP_MS = 40.0
_FRAMES = 25
"""In a second, of 40 ms each, side by side."""


def _spotter(units: int, memory_bytes: int, operations: int) -> Size:
    """A keyword spotter of three hidden layers. Its memory in the paper is a byte a weight and a byte an activation of
    the two largest layers in a row.
    """
    settings = {"features": (_FRAMES, COEFFICIENTS), "hidden": (units,) * 3, "classes": len(KEYWORDS)}
    largest = max(_FRAMES * COEFFICIENTS + units, 2 * units)
    paper = Paper(TABLE, memory_bytes - largest, operations // 2, 0.005)
    return Size(settings, keyword_processing(hop_ms=_HOP_MS), paper)


FAMILY = Family(
    name="feed-forward",
    title="Feed-forward net (multi-layer perceptron)",
    task="tabular classification",
    paper="Y. Zhang, N. Suda, L. Lai, V. Chandra, Hello Edge: Keyword Spotting on Microcontrollers, arXiv:1711.07128 "
    "(sizes S, M and L)",
    frameworks=("torch", "keras", "onnx"),
    build=build,
    sizes={
        "tiny": Size({"features": (len(_MEANS),), "hidden": (32, 16), "classes": 2, "dropout": 0.2}),
        "s": _spotter(144, 80_000, 158_800),
        "m": _spotter(256, 199_400, 397_100),
        "l": _spotter(436, 496_600, 990_200),
    },
    published="s",
    processing=Processing(
        {"features": ({"op": "normalize", "mean": _MEANS, "std": _DEVIATIONS},)},
        best_classes(2),
        ("malignant", "benign"),
    ),
    data="breast-cancer",
    metric="top1",
    score=0.965,
    tolerance=0.015,
    training=Training(
        loss=cross_entropy, targets=class_targets, epochs=40, batch_size=32, learning_rate=3e-3, weight_decay=0.1
    ),
    notes=(
        "The tiny size takes the 30 measures as they are; another table needs the setting `features` and a processing "
        "of its own.",
    ),
)
