"""PP-OCRv4, which reads text in three steps: where lines are, which way up each is, and what it says."""

from __future__ import annotations

from pathlib import Path

from edgekit.about import onnx_metadata
from edgekit.card import Card, SourceFile
from edgekit.errors import ArtifactError
from edgekit.processing import ANY_INPUT, Processing

__all__ = ["TEXT_DETECTION", "TEXT_DIRECTION", "TEXT_RECOGNITION", "characters"]

_PACKAGE, _LICENSE = "rapidocr-onnxruntime==1.4.4", "Apache-2.0"
_MIDDLE = {"op": "normalize", "scale": 1 / 127.5, "mean": 1.0}
_READ = ({"op": "decode_image"}, {"op": "swap_channels"})
"""Trained on pictures as OpenCV reads them, blue first."""


def characters(path: Path) -> tuple[str, ...]:
    """What the recognizer at `path` can read, by index: none at all, those its file lists, and the space."""
    listed = onnx_metadata(path).get("character")
    if listed is None:
        raise ArtifactError(f"{path} does not list its characters", hint="a copy from the package does")
    return ("", *listed.split("\n"), " ")


def _line(width: int) -> dict[str, object]:
    return {"op": "fit_height", "height": 48, "least_width": width, "fill": 127.5, "filter": "linear"}


TEXT_DETECTION = Card(
    name="text-detection",
    title="where text is in a picture (PP-OCRv4, DBNet)",
    task="text detection",
    package=_PACKAGE,
    files=(
        SourceFile(
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        ),
    ),
    license=_LICENSE,
    processing=Processing(
        {
            ANY_INPUT: (
                *_READ,
                {"op": "resize_shorter", "least": 736, "most": 2000, "multiple": 32, "filter": "linear"},
                *(_MIDDLE, {"op": "layout"}),
            )
        },
        ({"op": "text_regions"},),
    ),
    metrics={"lines": "the 5 on scikit-image's page that the package finds, corners within a pixel"},
    notes=("--input-shape fixes its size: 1,3,736,1280 for pictures of about that shape.",),
)

TEXT_RECOGNITION = Card(
    name="text-recognition",
    title="what a line of text says, Chinese and Latin (PP-OCRv4)",
    task="text recognition",
    package=_PACKAGE,
    files=(
        SourceFile(
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
            "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        ),
    ),
    license=_LICENSE,
    processing=Processing({ANY_INPUT: (*_READ, _line(320), _MIDDLE, {"op": "layout"})}, ({"op": "ctc_text"},)),
    metrics={"text": "a line of scikit-image's page, all letters right, at 0.931"},
    notes=("Wants a line alone. --input-shape fixes its width: 1,3,48,640.",),
    read_labels=characters,
)

TEXT_DIRECTION = Card(
    name="text-direction",
    title="whether a line of text is upside down (PP-OCR)",
    task="image classification",
    package=_PACKAGE,
    files=(
        SourceFile(
            "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        ),
    ),
    license=_LICENSE,
    processing=Processing(
        {ANY_INPUT: (*_READ, _line(192), _MIDDLE, {"op": "layout"})}, ({"op": "argmax"},), ("0", "180")
    ),
    metrics={"direction": "right for a line of scikit-image's page, upright and turned"},
    notes=("Wants a line alone. --input-shape fixes its size: 1,3,48,192.",),
)
