"""Which runtimes, converters, targets and model cards exist: a name and where to find it, imported on first use.

Built-in entries are the tables below; a package adds its own through the entry-point groups of the same names
(``edgekit.runtimes``, ``edgekit.converters``, ``edgekit.targets``, ``edgekit.models``, ``edgekit.families``,
``edgekit.datasets``, ``edgekit.metrics``, ``edgekit.devices``). Being listed promises nothing: whether a runtime works
here is answered by its `probe()`, which really tries it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from edgekit.errors import UnavailableError, UnsupportedError
from edgekit.record import Record

__all__ = ["CONVERTERS", "DEVICES", "FAMILIES", "MODELS", "RUNTIMES", "TARGETS", "Probe", "Registry", "installed"]


class Probe(Record):
    """What trying an optional part showed.

    Attributes:
        available: Whether it worked when tried.
        version: Vendor package and version, such as ``"onnxruntime 1.31.1"``; empty when it is not there.
        reason: Why it does not work here; empty when it does.
        extra: The extra that installs it.
    """

    available: bool
    version: str = ""
    reason: str = ""
    extra: str = ""

    def require(self, what: str) -> None:
        """Raises UnavailableError, with the command that installs `what`, unless it is available."""
        if not self.available:
            hint = f"pip install 'edgekit-ml[{self.extra}]'" if self.extra else ""
            raise UnavailableError(f"{what} is not available: {self.reason}", hint=hint)


_TO_FILE_NAME = str.maketrans("-.", "__")


def installed(*distributions: str) -> dict[str, str]:
    """The versions of those of these packages that are installed, in the order asked for."""
    found = {name: _version(name) for name in distributions}
    return {name: version for name, version in found.items() if version is not None}


def _version(distribution: str) -> str | None:
    """By the name of its folder, as the specification of recording installed projects has it.

    `importlib.metadata` reads the same and more, but importing it takes a tenth of a device's way to its first answer.
    """
    stem = distribution.translate(_TO_FILE_NAME).lower()
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - paths of each would take longer than all else here
        except OSError:  # zip files and folders that are not there
            continue
        for name in names:
            if name.endswith(".dist-info") and name.lower().startswith(f"{stem}-"):
                return name[len(stem) + 1 : -len(".dist-info")]
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)  # as an egg or in a zip file
    except PackageNotFoundError:
        return None


class Registry:
    """Names mapped to ``"package.module:attribute"``; the module is imported when the name is first asked for."""

    def __init__(self, group: str, noun: str, builtin: Mapping[str, str]) -> None:
        self._group = group
        self._noun = noun
        self._builtin = MappingProxyType(dict(builtin))
        self._loaded: dict[str, Any] = {}

    def places(self) -> dict[str, str]:
        """Every name with its dotted place; a built-in name cannot be taken by an installed package."""
        from importlib.metadata import entry_points

        found = {point.name: point.value for point in sorted(entry_points(group=self._group), key=lambda p: p.name)}
        return {**found, **self._builtin}

    def names(self) -> list[str]:
        """Built-in names in their own order, then those of installed packages."""
        extra = [name for name in self.places() if name not in self._builtin]
        return [*self._builtin, *extra]

    def is_builtin(self, name: str) -> bool:
        """Whether edgekit itself has it; looking among installed packages takes longer."""
        return name in self._builtin

    def get(self, name: str) -> Any:
        """The registered object. Raises UnsupportedError for a name nobody registered."""
        if name not in self._loaded:
            places = {**self._builtin} if name in self._builtin else self.places()
            if name not in places:
                known = ", ".join(self.names())
                raise UnsupportedError(f"there is no {self._noun} named {name!r}", hint=f"known: {known}")
            module, _, attribute = places[name].partition(":")
            try:
                self._loaded[name] = getattr(import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                raise UnavailableError(
                    f"the {self._noun} {name!r} at {places[name]} cannot be imported: {error}"
                ) from error
        return self._loaded[name]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """All that can be imported, by name."""
        for name in self.names():
            try:
                found = self.get(name)
            except UnavailableError:
                # A broken plugin must not take the others with it; asked for by name it says what is wrong.
                continue
            yield name, found


RUNTIMES = Registry(
    "edgekit.runtimes",
    "runtime",
    {
        "tflite": "edgekit.runtimes.tflite:ENGINE",
        "onnx": "edgekit.runtimes.onnx:ENGINE",
        "openvino": "edgekit.runtimes.openvino:ENGINE",
        "reference": "edgekit.runtimes.reference:ENGINE",
        "null": "edgekit.runtimes.null:ENGINE",
    },
)

CONVERTERS = Registry(
    "edgekit.converters",
    "converter",
    {
        "keras": "edgekit.converters.keras:CONVERTER",
        "tensorflow": "edgekit.converters.tensorflow:CONVERTER",
        "torch": "edgekit.converters.torch:CONVERTER",
        "onnx": "edgekit.converters.onnx:CONVERTER",
        "tflite": "edgekit.converters.tflite:CONVERTER",
        "openvino": "edgekit.converters.openvino:CONVERTER",
    },
)

MODELS = Registry(
    "edgekit.models",
    "model",
    {
        "basic-pitch": "edgekit.models.basic_pitch:CARD",
        "efficientnet-lite0": "edgekit.models.efficientnet_lite:CARD",
        "emotion": "edgekit.models.emotion:CARD",
        "silero-vad": "edgekit.models.silero_vad:CARD",
        "sleep-stages": "edgekit.models.sleep_stages:CARD",
        "face-detection": "edgekit.models.mediapipe:FACE_DETECTION",
        "palm-detection": "edgekit.models.mediapipe:PALM_DETECTION",
        "pose-detection": "edgekit.models.mediapipe:POSE_DETECTION",
        "hand-landmarks": "edgekit.models.mediapipe:HAND_LANDMARKS",
        "pose-landmarks": "edgekit.models.mediapipe:POSE_LANDMARKS",
        "face-landmarks": "edgekit.models.mediapipe:FACE_LANDMARKS",
        "selfie-segmentation": "edgekit.models.mediapipe:SELFIE_SEGMENTATION",
        "text-detection": "edgekit.models.pp_ocr:TEXT_DETECTION",
        "text-recognition": "edgekit.models.pp_ocr:TEXT_RECOGNITION",
        "text-direction": "edgekit.models.pp_ocr:TEXT_DIRECTION",
        "multistyle": "edgekit.models.style_transfer:MULTISTYLE",
        "style-vector": "edgekit.models.style_transfer:STYLE_VECTOR",
        "style-transform": "edgekit.models.style_transfer:STYLE_TRANSFORM",
    },
)

FAMILIES = Registry(
    "edgekit.families",
    "model family",
    {
        "resnet": "edgekit.models.resnet:FAMILY",
        "mobilenet-v2": "edgekit.models.mobilenet_v2:FAMILY",
        "efficientnet-lite": "edgekit.models.efficientnet_lite:FAMILY",
        "yolo": "edgekit.models.yolo:FAMILY",
        "unet": "edgekit.models.unet:FAMILY",
        "pix2pix": "edgekit.models.pix2pix:FAMILY",
        "bert": "edgekit.models.bert:FAMILY",
        "lstm": "edgekit.models.recurrent:LSTM",
        "gru": "edgekit.models.recurrent:GRU",
        "wavenet": "edgekit.models.wavenet:FAMILY",
        "ds-cnn": "edgekit.models.ds_cnn:FAMILY",
        "autoencoder": "edgekit.models.autoencoder:FAMILY",
        "feed-forward": "edgekit.models.feed_forward:FAMILY",
        "llm": "edgekit.models.llm:FAMILY",
        "diffusion": "edgekit.models.diffusion:FAMILY",
    },
)

DATASETS = Registry(
    "edgekit.datasets",
    "data set",
    {
        "mnist": "edgekit.datasets.digits:MNIST",
        "digits": "edgekit.datasets.digits:DIGITS",
        "mnist-photo": "edgekit.datasets.digits_on_photos:RECIPE",
        "breast-cancer": "edgekit.datasets.tables:BREAST_CANCER",
        "wine": "edgekit.datasets.tables:WINE",
        "japanese-vowels": "edgekit.datasets.japanese_vowels:RECIPE",
        "scenes": "edgekit.datasets.scenes:SCENES",
        "scenes-masks": "edgekit.datasets.scenes:MASKS",
        "edges2shapes": "edgekit.datasets.edges2shapes:RECIPE",
        "tones": "edgekit.datasets.tones:RECIPE",
        "hum": "edgekit.datasets.hum:RECIPE",
        "words": "edgekit.datasets.words:RECIPE",
        "languages": "edgekit.datasets.languages:RECIPE",
        "prose": "edgekit.datasets.prose:RECIPE",
    },
)

READERS = Registry(
    "edgekit.readers",
    "form of data",
    {  # the first that accepts reads
        "listing": "edgekit.readers.listing:READER",
        "yolo": "edgekit.readers.yolo:READER",
        "voc": "edgekit.readers.voc:READER",
        "coco": "edgekit.readers.coco:READER",
        "table": "edgekit.readers.table:READER",
        "arrays": "edgekit.readers.arrays:READER",
        "folder": "edgekit.readers.folder:READER",
    },
)

METRICS = Registry(
    "edgekit.metrics",
    "metric",
    {
        "top1": "edgekit.metrics.classification:TOP1",
        "top5": "edgekit.metrics.classification:TOP5",
        "accuracy": "edgekit.metrics.classification:ACCURACY",
        "balanced-accuracy": "edgekit.metrics.classification:BALANCED_ACCURACY",
        "precision": "edgekit.metrics.classification:PRECISION",
        "precision-micro": "edgekit.metrics.classification:PRECISION_MICRO",
        "precision-weighted": "edgekit.metrics.classification:PRECISION_WEIGHTED",
        "recall": "edgekit.metrics.classification:RECALL",
        "recall-micro": "edgekit.metrics.classification:RECALL_MICRO",
        "recall-weighted": "edgekit.metrics.classification:RECALL_WEIGHTED",
        "f1": "edgekit.metrics.classification:F1",
        "f1-micro": "edgekit.metrics.classification:F1_MICRO",
        "f1-weighted": "edgekit.metrics.classification:F1_WEIGHTED",
        "auc": "edgekit.metrics.ranking:AUC",
        "auc-pr": "edgekit.metrics.ranking:AUC_PR",
        "log-loss": "edgekit.metrics.probabilities:LOG_LOSS",
        "ece": "edgekit.metrics.probabilities:ECE",
        "map50": "edgekit.metrics.detection:MAP50",
        "map75": "edgekit.metrics.detection:MAP75",
        "map": "edgekit.metrics.detection:MAP",
        "map-small": "edgekit.metrics.detection:MAP_SMALL",
        "map-medium": "edgekit.metrics.detection:MAP_MEDIUM",
        "map-large": "edgekit.metrics.detection:MAP_LARGE",
        "map50-voc": "edgekit.metrics.detection:MAP50_VOC",
        "miou": "edgekit.metrics.masks:MIOU",
        "dice": "edgekit.metrics.masks:DICE",
        "pixel-accuracy": "edgekit.metrics.masks:PIXEL_ACCURACY",
        "psnr": "edgekit.metrics.images:PSNR",
        "ssim": "edgekit.metrics.images:SSIM",
        "cer": "edgekit.metrics.reading:CER",
        "wer": "edgekit.metrics.reading:WER",
        "rmse": "edgekit.metrics.numbers:RMSE",
        "mae": "edgekit.metrics.numbers:MAE",
        "r2": "edgekit.metrics.numbers:R2",
        "perplexity": "edgekit.metrics.numbers:PERPLEXITY",
        "bits-per-token": "edgekit.metrics.numbers:BITS_PER_TOKEN",
        "frechet": "edgekit.metrics.generation:FRECHET",
    },
)

DEVICES = Registry(
    "edgekit.devices",
    "kind of device",
    {"ssh": "edgekit.devices.ssh:access", "adb": "edgekit.devices.adb:access"},
)

TARGETS = Registry("edgekit.targets", "target", {})
