"""MediaPipe's nets that look at people: detectors of faces, palms and bodies, their landmarks, and who is in front.

Sizes, anchors, ranges and thresholds are those of the graphs in the package. Landmark nets want what a detector found,
cut out and upright.
"""

from __future__ import annotations

from typing import Any

from edgekit.card import Card, SourceFile
from edgekit.processing import ANY_INPUT, Processing

__all__ = ["FACE_DETECTION", "FACE_LANDMARKS", "HAND_LANDMARKS", "PALM_DETECTION", "POSE_DETECTION", "POSE_LANDMARKS"]
__all__ += ["SELFIE_SEGMENTATION"]

_PACKAGE, _LICENSE = "mediapipe==0.10.14", "Apache-2.0"

_FINGERS = ("index", "middle", "ring", "little")
_HAND = (
    *("wrist", "thumb cmc", "thumb mcp", "thumb ip", "thumb tip"),
    *(f"{finger} {joint}" for finger in _FINGERS for joint in ("mcp", "pip", "dip", "tip")),
)
_ARM, _LEG = ("shoulder", "elbow", "wrist", "little", "index", "thumb"), ("hip", "knee", "ankle", "heel", "toes")
_POSE = (
    *("nose", "left eye inner", "left eye", "left eye outer", "right eye inner", "right eye", "right eye outer"),
    *("left ear", "right ear", "mouth left", "mouth right"),
    *(f"{side} {joint}" for joint in (*_ARM, *_LEG) for side in ("left", "right")),
)


def _sees(size: int, low: float = 0.0, *, is_whole: bool = True) -> dict[str, Any]:
    """The picture letterboxed, or stretched where `is_whole` is not asked for, with values from `low` to 1."""
    fit = {"op": "letterbox", "size": [size, size]} if is_whole else {"op": "resize", "size": [size, size]}
    scale = {"scale": 1 / 255} if low == 0 else {"scale": 1 / 127.5, "mean": 1.0}
    return {ANY_INPUT: ({"op": "decode_image"}, fit, {"op": "normalize", **scale}, {"op": "layout"})}


def _finds(boxes: str, scores: str, size: int, grids: list[list[int]], points: int) -> tuple[dict[str, Any], ...]:
    anchors = {"op": "decode_anchors", "boxes": boxes, "scores": scores, "scales": size, "grids": grids}
    return {**anchors, "points": points}, {"op": "detections", "form": "xyxy", "threshold": 0.5, "iou": 0.3}


def _file(path: str, sha256: str) -> SourceFile:
    return SourceFile(f"mediapipe/modules/{path}.tflite", sha256)


FACE_DETECTION = Card(
    name="face-detection",
    title="faces nearby, with six points of each (BlazeFace, short range)",
    task="object detection",
    package=_PACKAGE,
    files=(
        _file(
            "face_detection/face_detection_short_range",
            "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        ),
    ),
    license=_LICENSE,
    processing=Processing(
        _sees(128, -1), _finds("regressors", "classificators", 128, [[16, 16, 2], [8, 8, 6]], 6), ("face",)
    ),
    metrics={"score": "0.9209 for the face of scikit-image's astronaut, box 179.2, 81.9, 94.6 x 94.6 of 512 pixels"},
    notes=("The points are the right eye, left eye, nose, mouth, right ear and left ear, as seen by the one shown.",),
)

PALM_DETECTION = Card(
    name="palm-detection",
    title="palms of hands, with seven points of each (BlazePalm)",
    task="object detection",
    package=_PACKAGE,
    files=(
        _file("palm_detection/palm_detection_full", "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54"),
        _file("palm_detection/palm_detection_lite", "e9a4aaddf90dda56a87235303cf00e4c2d3fb28725f68fd88772997dac905c18"),
    ),
    license=_LICENSE,
    processing=Processing(_sees(192), _finds("Identity", "Identity_1", 192, [[24, 24, 2], [12, 12, 6]], 7), ("palm",)),
    metrics={"palms": "none in scikit-image's coffee"},
)

POSE_DETECTION = Card(
    name="pose-detection",
    title="people, with the points that say how they stand (BlazePose's detector)",
    task="object detection",
    package=_PACKAGE,
    files=(_file("pose_detection/pose_detection", "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c"),),
    license=_LICENSE,
    processing=Processing(
        _sees(224, -1),
        _finds("Identity", "Identity_1", 224, [[28, 28, 2], [14, 14, 2], [7, 7, 6]], 4),
        ("person",),
    ),
    metrics={"people": "one in scikit-image's astronaut"},
    notes=("The box is of the face; the points are the middle of the hips, a point around the body, and two more.",),
)

HAND_LANDMARKS = Card(
    name="hand-landmarks",
    title="21 points of a hand",
    task="landmarks",
    package=_PACKAGE,
    files=(
        _file("hand_landmark/hand_landmark_full", "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3"),
    ),
    license=_LICENSE,
    processing=Processing(
        _sees(224),
        ({"op": "landmarks", "name": "Identity", "size": [224, 224], "presence": "Identity_1"},),
        _HAND,
    ),
    metrics={"parity": "2e-6 of the range of its outputs in every format"},
    notes=("Wants a hand alone, upright: find and cut it out first, by palm-detection.",),
)

POSE_LANDMARKS = Card(
    name="pose-landmarks",
    title="33 points of a body (BlazePose)",
    task="landmarks",
    package=_PACKAGE,
    files=(
        _file("pose_landmark/pose_landmark_full", "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"),
    ),
    license=_LICENSE,
    processing=Processing(
        _sees(256),
        (
            {
                **{"op": "landmarks", "name": "Identity", "size": [256, 256], "values": 5, "count": 33},
                **{"visible": 3, "visible_activation": "sigmoid", "presence": "Identity_1"},
            },
        ),
        _POSE,
    ),
    metrics={"nose": "within the face of scikit-image's astronaut"},
    notes=("Wants a person alone, upright: find and cut one out first, by pose-detection.",),
)

FACE_LANDMARKS = Card(
    name="face-landmarks",
    title="468 points of a face",
    task="landmarks",
    package=_PACKAGE,
    files=(_file("face_landmark/face_landmark", "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814"),),
    license=_LICENSE,
    processing=Processing(
        _sees(192),
        (
            {
                **{"op": "landmarks", "name": "conv2d_21", "size": [192, 192]},
                **{"presence": "conv2d_31", "presence_activation": "sigmoid"},
            },
        ),
    ),
    metrics={"presence": "above 0.9 for the face of scikit-image's astronaut"},
    notes=("Wants a face alone, upright: find and cut it out first, by face-detection.",),
)

SELFIE_SEGMENTATION = Card(
    name="selfie-segmentation",
    title="who is in front of the camera, pixel by pixel",
    task="segmentation",
    package=_PACKAGE,
    files=(
        _file(
            "selfie_segmentation/selfie_segmentation",
            "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        ),
    ),
    license=_LICENSE,
    processing=Processing(_sees(256, is_whole=False), ({"op": "mask", "size": "picture"},), ("background", "person")),
    metrics={"share": "0.5454 of the pixels of scikit-image's astronaut, at 256 x 256"},
)
