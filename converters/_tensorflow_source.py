"""A source model that lives in a TensorFlow child: starting it, asking it, and what it needs to be installed."""

from __future__ import annotations

import functools
from pathlib import Path

from edgekit.converter import SourceModel
from edgekit.converters._in_child import open_in_child
from edgekit.registry import Probe, installed
from edgekit.worker import Worker

__all__ = ["CHILD", "ENVIRONMENT", "open_source", "probe"]

CHILD = "edgekit.converters._tensorflow_child"

ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "TF_USE_LEGACY_KERAS": "0",
    # Asked for by name: without oneDNN, TensorFlow's long convolutions are off by 3e-4 of the range (basic-pitch's
    # filter bank, against ONNX Runtime and LiteRT), with it by 1e-6. It is the default on x86 only.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # Sets of names are walked while graphs are written: the same order gives the same bytes.
    "PYTHONHASHSEED": "0",
}


@functools.cache
def probe() -> Probe:
    """Whether TensorFlow, Keras and tf2onnx are installed; they are not imported, for that takes seconds."""
    versions = installed("tensorflow-cpu", "tensorflow", "keras", "tf2onnx")
    tensorflow = versions.get("tensorflow-cpu") or versions.get("tensorflow")
    missing = [] if tensorflow else ["tensorflow"]
    missing += [name for name in ("keras", "tf2onnx") if name not in versions]
    if missing:
        return Probe(False, reason=f"{', '.join(missing)} not installed", extra="tensorflow")
    text = f"tensorflow {tensorflow}, keras {versions['keras']}, tf2onnx {versions['tf2onnx']}"
    return Probe(True, version=text, extra="tensorflow")


def open_source(kind: str, opener: str, path: Path, stage: Path) -> SourceModel:
    """Opens `path` by the child's function `opener` and leaves its exports under `stage`."""
    probe().require(f"the {kind} converter")
    worker = Worker("tensorflow", env=ENVIRONMENT)
    return open_in_child(kind, worker, f"{CHILD}:{opener}", f"{CHILD}:run", path, stage)
