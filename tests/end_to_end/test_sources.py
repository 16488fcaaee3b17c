"""Real trained models read by their converters: the catalogue's figures, every road in fp32, and honest refusals."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.converter import Feeds, RoadRequest, SourceModel
from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.parity import compare
from edgekit.registry import CONVERTERS, RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.spec import Signature
from edgekit.target import Target
from tests.assets import asset
from tests.contract import tensorflow_samples
from tests.signals import chord

PARITY = 1e-4


def read(converter: str, path: Path, folder: Path) -> Iterator[SourceModel]:
    source = CONVERTERS.get(converter).read(path, folder)
    yield source
    source.close()


def to_tflite(source: SourceModel, path: Path, precision: str = "fp32", calibration: tuple[Feeds, ...] = ()) -> Session:
    road = CONVERTERS.get("tflite").roads[0]
    written = road.drive(source, RoadRequest(precision, Target.named("host"), path, lambda: calibration))
    return opened(written.files[0], "tflite", source.signature)


def opened(path: Path, runtime: str, signature: Signature) -> Session:
    model = RUNTIMES.get(runtime).open(path, EngineOptions(threads=1))
    return Session(model, runtime=runtime, signature=signature)


def parity(source: SourceModel, session: Session, feeds: list[dict[str, np.ndarray]]) -> float:
    with session:
        got = [session.run(feed) for feed in feeds]
    return compare([source.run(feed) for feed in feeds], got, data="test").relative


# --- D10: two bidirectional GRUs, an open number of steps ------------------------------------------------------------

SLEEP = {
    "ws-gru-mesa": (0.01076, 0.47105, 0.51819),
    "wrn-gru-mesa": (0.00024, 0.12325, 0.02231, 0.8542),
}


@pytest.fixture(scope="module", params=list(SLEEP))
def sleep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceModel]:
    folder = tmp_path_factory.mktemp(request.param)
    with zipfile.ZipFile(asset("sleepecg", f"sleepecg/classifiers/{request.param}.zip")) as archive:
        path = Path(archive.extract("classifier.keras", folder))
    for source in read("keras", path, folder / "stage"):
        source.notes.append(request.param)
        yield source


def steps(*shape: int) -> dict[str, np.ndarray]:
    return {"input_layer": np.random.RandomState(0).randn(*shape, 36).astype("float32")}


def test_sleep_stages_are_the_catalogues(sleep: SourceModel) -> None:
    assert sleep.signature.inputs[0].shape == ("batch", "time", 36)
    first = sleep.run(steps(1, 60))["dense_1"][0, 0]
    np.testing.assert_allclose(first, SLEEP[sleep.notes[-1]], atol=6e-6)


def test_sleep_stages_take_any_number_of_steps_on_every_road(sleep: SourceModel, tmp_path: Path) -> None:
    single = [steps(1, 60), steps(1, 7), steps(1, 133)]
    single[0]["input_layer"][:, 40:] = -1  # the value that Masking skips
    assert parity(sleep, opened(sleep.exports["hub"], "onnx", sleep.signature), [*single, steps(3, 21)]) <= PARITY
    assert parity(sleep, to_tflite(sleep, tmp_path / "model.tflite"), single) <= PARITY


def test_int8_of_a_loop_is_refused_before_anything_is_written(sleep: SourceModel, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="WHILE") as caught:
        to_tflite(sleep, tmp_path / "model.tflite", "w8a8", (steps(1, 60),))
    assert "Tensor data is null" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert sleep.run(steps(1, 5))  # the child is as well as before


# --- D11: a convolutional net in HDF5 --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emotion(emotion_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceModel]:
    yield from read("keras", emotion_model, tmp_path_factory.mktemp("emotion"))


def prepared(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Grey values 0 to 255 of any size, as the model wants them."""
    from PIL import Image

    grey = Image.fromarray(np.rint(pixels).astype("uint8")).resize((64, 64), Image.Resampling.BICUBIC)
    return {"input_1": ((np.asarray(grey, dtype="float32") / 255 - 0.5) * 2)[None, ..., None]}


@pytest.fixture(scope="module")
def evaluation(faces: Path) -> list[dict[str, np.ndarray]]:
    from PIL import Image

    return [prepared(np.asarray(Image.open(path).convert("L"))) for path in sorted(faces.glob("*.png"))]


@pytest.fixture(scope="module")
def calibration(evaluation: list[dict[str, np.ndarray]]) -> tuple[dict[str, np.ndarray], ...]:
    """None of the pictures judged by: the subset's 100 pictures of no face, and the faces in the mirror."""
    others = np.load(asset("scikit-image", "skimage/data/lfw_subset.npy"))[100:]
    mirrored = [{"input_1": np.ascontiguousarray(feed["input_1"][:, :, ::-1])} for feed in evaluation]
    return (*(prepared(np.clip(pixels, 0, 1) * 255) for pixels in others), *mirrored)


@pytest.fixture(scope="module")
def emotion_int8(
    emotion: SourceModel, calibration: tuple[Feeds, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    with to_tflite(emotion, tmp_path_factory.mktemp("int8") / "model.tflite", "w8a8", calibration) as session:
        yield session


def test_the_astronaut_is_happy(emotion: SourceModel) -> None:
    from PIL import Image

    with Image.open(asset("scikit-image", "skimage/data/astronaut.png")) as picture:
        grey = np.asarray(picture.crop((170, 60, 280, 190)).convert("L"))
    answer = emotion.run(prepared(grey))["predictions"][0]
    assert answer.argmax() == 3
    assert answer[3] == pytest.approx(0.99903, abs=1e-5)


def test_the_emotion_model_agrees_on_every_road(
    emotion: SourceModel, evaluation: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    feeds = evaluation[::10]
    assert parity(emotion, opened(emotion.exports["hub"], "onnx", emotion.signature), feeds) <= PARITY
    assert parity(emotion, to_tflite(emotion, tmp_path / "model.tflite"), feeds) <= PARITY


def test_int8_is_near_the_source(
    emotion: SourceModel, emotion_int8: Session, evaluation: list[dict[str, np.ndarray]]
) -> None:
    judged = compare([emotion.run(f) for f in evaluation], [emotion_int8.run(f) for f in evaluation], data="101 faces")
    assert judged.sqnr_db >= 20
    assert judged.top1_agreement is not None
    assert judged.top1_agreement >= 0.9


# --- D2: a SavedModel that today's loader refuses --------------------------------------------------------------------


@pytest.fixture(scope="module")
def pitch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceModel]:
    path = asset("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp")
    yield from read("tensorflow", path, tmp_path_factory.mktemp("pitch"))


def sound() -> dict[str, np.ndarray]:
    return {"input_2": chord()[None, :, None]}


def test_the_fall_back_loader_gives_the_catalogues_figures(pitch: SourceModel) -> None:
    assert any("add_slot" in note for note in pitch.notes)
    answer = pitch.run(sound())
    assert answer["note"].mean() == pytest.approx(0.113652, abs=5e-6)
    assert answer["note"].std() == pytest.approx(0.080072, abs=5e-6)
    assert answer["note"].max() == pytest.approx(0.859273, abs=5e-6)
    assert answer["onset"].mean() == pytest.approx(0.095368, abs=5e-6)
    assert answer["onset"].max() == pytest.approx(0.943924, abs=5e-6)
    assert answer["contour"].mean() == pytest.approx(0.104035, abs=5e-6)
    assert set(np.nonzero(answer["note"][0].max(axis=0) > 0.5)[0] + 21) == {60, 64, 67, 76}


def test_the_pitch_model_agrees_on_every_road_by_name(pitch: SourceModel, tmp_path: Path) -> None:
    noise = {"input_2": np.random.default_rng(2).normal(0, 0.1, (1, 43844, 1)).astype("float32")}
    both = {"input_2": np.concatenate([sound()["input_2"], noise["input_2"]])}
    assert parity(pitch, opened(pitch.exports["hub"], "onnx", pitch.signature), [sound(), both]) <= PARITY
    assert parity(pitch, to_tflite(pitch, tmp_path / "model.tflite"), [sound(), noise]) <= PARITY


# --- what must be refused, and what is merely awkward ----------------------------------------------------------------


def test_a_model_of_strings_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError) as caught:
        CONVERTERS.get("tensorflow").read(asset("guesslang", "guesslang/data/model"), tmp_path)
    assert "input 'inputs'" in caught.value.offenders
    assert "output 'classes'" in caught.value.offenders
    assert any("StringNGrams" in offender for offender in caught.value.offenders)
    assert any(o.startswith("split behind StringToHashBucketFast") for o in caught.value.offenders)
    assert "behind these splits" in caught.value.hint


def test_a_model_that_reads_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="ReadFile"):
        CONVERTERS.get("tensorflow").read(tensorflow_samples.folder() / "reads_files", tmp_path)


def test_a_zip_bomb_is_refused_at_once(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (200 << 20))
        archive.writestr("model.weights.h5", b"")
    start = time.monotonic()
    with pytest.raises(ArtifactError, match="unpacks to 200 MB"):
        CONVERTERS.get("keras").read(bomb, tmp_path / "stage")
    assert time.monotonic() - start < 10


def test_names_that_clash_or_no_format_takes_are_made_distinct(tmp_path: Path) -> None:
    """A dict of inputs, one with a blank; the same output layer twice; gelu, for which tf2onnx has no operation."""
    for source in read("keras", tensorflow_samples.folder() / "awkward.keras", tmp_path / "stage"):
        assert [spec.name for spec in source.signature.inputs] == ["left_side", "right"]
        names = [spec.name for spec in source.signature.outputs]
        assert len(set(names)) == 2
        rng = np.random.default_rng(4)
        feeds = [
            {
                "left_side": rng.normal(size=(1, 5)).astype("float32"),
                "right": rng.normal(size=(1, 7, 3)).astype("float32"),
            }
        ]
        assert parity(source, opened(source.exports["hub"], "onnx", source.signature), feeds) <= PARITY
        assert parity(source, to_tflite(source, tmp_path / "model.tflite"), feeds) <= PARITY
