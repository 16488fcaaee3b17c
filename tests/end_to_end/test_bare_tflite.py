"""MediaPipe's vision files, loaded bare: all that can run do, with their known answers; the others say why and where.

Reference figures are the catalogue's: float files, NHWC, inputs scaled as MediaPipe does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgekit
from edgekit.errors import UnsupportedError
from tests.assets import asset

MODULES = "mediapipe/modules"
RUNS = {
    "selfie_segmentation/selfie_segmentation": (256, [(1, 256, 256, 1)]),
    "face_detection/face_detection_short_range": (128, [(1, 896, 16), (1, 896, 1)]),
    "face_detection/face_detection_full_range_sparse": (192, [(1, 2304, 16), (1, 2304, 1)]),
    "palm_detection/palm_detection_full": (192, [(1, 2016, 18), (1, 2016, 1)]),
    "palm_detection/palm_detection_lite": (192, [(1, 2016, 18), (1, 2016, 1)]),
    "hand_landmark/hand_landmark_full": (224, [(1, 63), (1, 1), (1, 1), (1, 63)]),
    "pose_detection/pose_detection": (224, [(1, 2254, 12), (1, 2254, 1)]),
    "pose_landmark/pose_landmark_full": (256, [(1, 195), (1, 1), (1, 256, 256, 1), (1, 64, 64, 39), (1, 117)]),
    "face_landmark/face_landmark": (192, [(1, 1, 1, 1404), (1, 1, 1, 1)]),
    "iris_landmark/iris_landmark": (64, [(1, 213), (1, 15)]),
}
# Logits of the mask reach 2000, sums of large terms that cancel; 5e-4 was measured.
TOLERANCES = {"pose_landmark/pose_landmark_full": 1e-3}
SELFIE = "selfie_segmentation/selfie_segmentation"
FACE = "face_detection/face_detection_short_range"


def model(name: str) -> Path:
    return asset("mediapipe", f"{MODULES}/{name}.tflite")


def astronaut(size: int) -> np.ndarray:
    """The picture at `size` x `size`, bilinear, as uint8."""
    with Image.open(asset("scikit-image", "skimage/data/astronaut.png")) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def run(name: str, picture: np.ndarray, runtime: str | None = None) -> dict[str, np.ndarray]:
    with edgekit.load(model(name), runtime=runtime, threads=1) as session:
        (spec,) = session.signature.inputs
        return session.run({spec.name: picture[None].astype("float32")})


@pytest.mark.parametrize("name", RUNS)
def test_loads_bare_and_runs(name: str) -> None:
    size, shapes = RUNS[name]
    with edgekit.load(model(name)) as session:
        assert session.runtime == "tflite"
        assert [spec.shape for spec in session.signature.inputs] == [(1, size, size, 3)]
        assert [spec.shape for spec in session.signature.outputs] == shapes
        answer = session.run({session.signature.inputs[0].name: astronaut(size)[None].astype("float32") / 255})
    assert [array.shape for array in answer.values()] == shapes
    assert all(np.isfinite(array).all() for array in answer.values())
    assert any(np.ptp(array) > 0 for array in answer.values())


def test_segmentation_of_the_astronaut() -> None:
    (mask,) = run(SELFIE, astronaut(256) / 255).values()
    assert mask.mean() == pytest.approx(0.540422, abs=2e-4)
    assert mask.std() == pytest.approx(0.483332, abs=2e-4)
    assert (mask > 0.5).mean() == pytest.approx(0.5454, abs=2e-4)


def best_face(answer: dict[str, np.ndarray]) -> tuple[float, np.ndarray]:
    """The best score and its box (left, top, width, height) in pixels of the 512-pixel picture."""
    centers = [
        np.stack(np.meshgrid(*[(np.arange(grid) + 0.5) / grid] * 2), axis=-1).reshape(-1, 2).repeat(anchors, axis=0)
        for grid, anchors in ((16, 2), (8, 6))
    ]
    scores = 1 / (1 + np.exp(-answer["classificators"][0, :, 0].astype("float64")))
    best = int(scores.argmax())
    offset, size = answer["regressors"][0, best, :2] / 128, answer["regressors"][0, best, 2:4] / 128
    corner = np.concatenate(centers)[best] + offset - size / 2
    return float(scores[best]), 512 * np.concatenate([corner, size])


@pytest.mark.parametrize("runtime", [None, "openvino"])
def test_face_of_the_astronaut(runtime: str | None) -> None:
    score, box = best_face(run(FACE, astronaut(128) / 127.5 - 1, runtime))
    assert score == pytest.approx(0.9209, abs=1e-3)
    np.testing.assert_allclose(box, [179.2, 81.9, 94.6, 94.6], atol=0.3)


@pytest.mark.parametrize("name", sorted(set(RUNS) - {SELFIE}))
def test_both_engines_agree(name: str) -> None:
    picture = astronaut(RUNS[name][0]) / 255
    tflite, openvino = run(name, picture), run(name, picture, "openvino")
    assert list(tflite) == list(openvino)
    limit = TOLERANCES.get(name, 1e-4)
    for output, array in tflite.items():
        assert np.abs(openvino[output] - array).max() <= limit * max(np.ptp(array), np.abs(array).max())


def test_an_operation_one_engine_lacks_names_the_engine_that_has_it() -> None:
    with pytest.raises(UnsupportedError) as refusal:
        edgekit.load(model(SELFIE), runtime="openvino")
    assert refusal.value.offenders == ("Convolution2DTransposeBias",)
    assert "the tflite runtime opens it" in refusal.value.hint
    assert refusal.value.exit_code == 4


def test_an_operation_no_engine_has_says_so() -> None:
    with pytest.raises(UnsupportedError) as refusal:
        edgekit.load(model("face_landmark/face_landmark_with_attention"))
    assert "Landmarks2TransformMatrix" in refusal.value.offenders
    assert "no installed engine opens it" in refusal.value.hint
    assert "openvino" in refusal.value.hint
