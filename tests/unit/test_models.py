"""The cards' figures and hashes, held against the real files."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.card import Card, content_sha256, find_card
from edgekit.processing import Processing
from edgekit.registry import MODELS
from edgekit.spec import Signature, TensorSpec
from tests.assets import asset
from tests.signals import NOTE_RATE_HZ, chord

CARDS: dict[str, Card] = dict(MODELS)

FACE_BOX = (170, 60, 280, 190)


def litert(path: Path) -> Any:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


@pytest.fixture(scope="module")
def sleep_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the Keras files that the package keeps in archives."""
    folder = tmp_path_factory.mktemp("sleep")
    for name in ("ws-gru-mesa", "wrn-gru-mesa", "wrn-gru-mesa-weighted"):
        with zipfile.ZipFile(asset("sleepecg", f"sleepecg/classifiers/{name}.zip")) as archive:
            (folder / f"{name}.keras").write_bytes(archive.read("classifier.keras"))
    return folder


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_whole(name: str) -> None:
    card = CARDS[name]
    assert card.name == name
    assert "==" in card.package
    assert card.title
    assert card.task
    assert card.license
    assert card.metrics
    assert len(set(card.sha256s)) == len(card.files)
    for file in card.files:
        specific = card.for_content(file.sha256)
        assert specific is not None
        assert Processing.from_json(specific.processing.to_json()) == specific.processing
    assert card.for_content("0" * 64) is None


@pytest.mark.parametrize("name", CARDS)
def test_hashes_are_those_of_the_real_files(name: str) -> None:
    card = CARDS[name]
    package = card.package.partition("==")[0]
    for file in card.files:
        archive, _, member = file.path.partition("!")
        path = asset(package, archive)
        if member:
            with zipfile.ZipFile(path) as opened:
                assert hashlib.sha256(opened.read(member)).hexdigest() == file.sha256
        else:
            assert content_sha256(path) == file.sha256
            assert (found := find_card(path)) is not None
            assert found.name == name


def test_models_nobody_knows_have_no_card(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"something else")
    for path in (tmp_path / "model.onnx", tmp_path / "none.onnx", tmp_path):
        assert find_card(path) is None


def test_twins_of_a_family_keep_their_own_labels(sleep_models: Path) -> None:
    labels = {path.stem: card.labels for path in sleep_models.iterdir() if (card := find_card(path)) is not None}
    assert labels == {
        "ws-gru-mesa": ("undefined", "sleep", "wake"),
        "wrn-gru-mesa": ("undefined", "nrem", "rem", "wake"),
        "wrn-gru-mesa-weighted": ("undefined", "nrem", "rem", "wake"),
    }


# --- D11 --------------------------------------------------------------------------------------------------------------

FACE = Signature(
    (TensorSpec("serving_default_input_1:0", "float32", (1, 64, 64, 1)),), (TensorSpec("y", "float32", (1, 7)),)
)


def test_emotion_feeds_equal_pillows() -> None:
    with Image.open(asset("scikit-image", "skimage/data/astronaut.png")) as photo:
        face = photo.crop(FACE_BOX)
    gray = np.asarray(face.convert("L").resize((64, 64), Image.Resampling.BICUBIC), np.float64)
    (feed,) = CARDS["emotion"].processing.before(np.asarray(face), FACE).values()
    np.testing.assert_allclose(feed[0, ..., 0], (gray / 255 - 0.5) * 2, atol=1e-6)


def test_the_astronaut_is_happy() -> None:
    """By the package's own quantized twin, whose agreement with the Keras source the catalogue puts at 0.0344."""
    interpreter = litert(asset("fer", "fer/data/emotion_model_quantized.tflite"))

    def run(feeds: Any) -> dict[str, np.ndarray]:
        (feed,) = feeds.values()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], feed)
        interpreter.invoke()
        return {"y": interpreter.get_tensor(interpreter.get_output_details()[0]["index"])}

    with Image.open(asset("scikit-image", "skimage/data/astronaut.png")) as photo:
        answer = CARDS["emotion"].processing.answer(photo.crop(FACE_BOX), run, FACE)
    assert [answer[0]["label"], len(answer)] == ["happy", 7]
    assert answer[0]["score"] == pytest.approx(0.99903, abs=0.0344)
    assert sum(item["score"] for item in answer) == pytest.approx(1, abs=1e-5)


# --- D1 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [("N", 3, 224, 224), (1, 224, 224, 3)])
def test_efficientnet_feeds_equal_pillows(shape: tuple[int | str, ...]) -> None:
    """Against Pillow's crop and its resize, one axis a call: see `resize_image`."""
    wanted = Signature((TensorSpec("x", "float32", shape),), ())
    paths = sorted(asset("foolbox", "foolbox/data").glob("imagenet_*.jpg"))
    assert len(paths) == 20
    for path in paths:
        with Image.open(path) as photo:
            color = photo.convert("RGB")
        side = int(min(color.size) * 0.875)
        left, top = (color.width - side) // 2, (color.height - side) // 2
        square = color.crop((left, top, left + side, top + side))
        small = square.resize((224, side), Image.Resampling.BICUBIC).resize((224, 224), Image.Resampling.BICUBIC)
        expected = (np.asarray(small, np.float32) - 127) / 128
        feed = CARDS["efficientnet-lite0"].processing.before(path, wanted)["x"][0]
        np.testing.assert_array_equal(feed if shape[-1] == 3 else feed.transpose(1, 2, 0), expected)


# --- D10 --------------------------------------------------------------------------------------------------------------


def test_sleep_stages_are_named_epoch_by_epoch() -> None:
    features = np.random.RandomState(0).randn(60, 36)
    features[3, 4] = np.nan
    wanted = Signature((TensorSpec("x", "float32", ("N", "T", 36)),), ())
    processing = CARDS["sleep-stages"].processing
    feed = processing.before(features, wanted)["x"]
    assert feed.shape == (1, 60, 36)
    assert feed[0, 3, 4] == -1
    scores = np.array([[[0.00024, 0.12325, 0.02231, 0.8542], [0.1, 0.6, 0.2, 0.1]]], np.float32)
    assert [epoch["label"] for epoch in processing.after({"y": scores})] == ["wake", "nrem"]


# --- D2 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notes() -> Any:
    """Runs basic-pitch's ONNX file through onnxruntime; also its signature."""
    onnxruntime = pytest.importorskip("onnxruntime")
    path = asset("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    wanted = Signature((TensorSpec(session.get_inputs()[0].name, "float32", ("N", 43844, 1)),), ())
    return (lambda feeds: dict(zip(names, session.run(None, dict(feeds)), strict=True))), wanted


def test_the_chord_gives_the_catalogues_figures(notes: Any) -> None:
    run, wanted = notes
    feeds = CARDS["basic-pitch"].processing.before(chord(), wanted)
    note = run(feeds)["StatefulPartitionedCall:1"]
    assert note.shape == (1, 172, 88)
    assert note.mean() == pytest.approx(0.113652, abs=2e-6)
    assert note.std() == pytest.approx(0.080072, abs=2e-6)
    assert note.max() == pytest.approx(0.859273, abs=5e-6)


def test_the_chord_is_heard_whatever_its_rate_and_length(notes: Any) -> None:
    """Its three notes at 44.1 kHz in stereo, after five seconds of silence: a later window, the same notes."""
    run, wanted = notes
    processing = CARDS["basic-pitch"].processing
    first = processing.answer(chord(), run, wanted)
    assert {event["label"] for event in first} >= {"C4", "E4", "G4"}
    start_ms = {event["label"]: event["start_ms"] for event in first}
    assert start_ms["C4"] == pytest.approx(100, abs=60)
    assert start_ms["E4"] == pytest.approx(500, abs=60)
    assert start_ms["G4"] == pytest.approx(1000, abs=60)

    late = np.concatenate([np.zeros(5 * NOTE_RATE_HZ, np.float32), chord()])
    doubled = np.interp(np.arange(2 * len(late)) / 2, np.arange(len(late)), late)
    moved = processing.answer((2 * NOTE_RATE_HZ, np.stack([doubled, doubled], axis=1)), run, wanted)
    for label, start in start_ms.items():
        if label in ("C4", "E4", "G4"):
            found = next(event["start_ms"] for event in moved if event["label"] == label)
            assert found == pytest.approx(5000 + start, abs=40)


def test_twins_answer_alike_though_their_outputs_have_other_names(notes: Any) -> None:
    run, wanted = notes
    processing = CARDS["basic-pitch"].processing
    outputs = run(processing.before(chord(), wanted))
    twin = {"contour": outputs["StatefulPartitionedCall:0"], "note": outputs["StatefulPartitionedCall:1"]}
    assert processing.after(twin) == processing.after(outputs)
