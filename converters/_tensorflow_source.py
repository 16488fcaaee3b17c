"""A source model that lives in a TensorFlow child: starting it, asking it, and what it needs to be installed."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from edgekit.converter import Feeds, SourceModel
from edgekit.errors import InputError
from edgekit.registry import Probe, installed
from edgekit.spec import Signature
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
    stage.mkdir(parents=True, exist_ok=True)
    worker = Worker("tensorflow", env=ENVIRONMENT)
    try:
        found = worker.call(f"{CHILD}:{opener}", path=str(path.resolve()), stage=str(stage.resolve()))
    except BaseException:
        worker.kill()
        worker.close()
        raise
    signature = Signature.from_json(found["signature"])
    return SourceModel(
        kind=kind,
        path=path,
        signature=signature,
        run=functools.partial(_run, worker, signature),
        exports={name: Path(place) for name, place in found["exports"].items()},
        hub_error=found["hub_error"],
        worker=worker,
        versions=found["versions"],
        notes=found["notes"],
    )


def _run(worker: Worker, signature: Signature, feeds: Feeds) -> dict[str, np.ndarray]:
    names = [spec.name for spec in signature.inputs]
    if set(feeds) != set(names):
        raise InputError(f"feeds are {sorted(feeds)}", hint=f"inputs: {names}")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        given, answered = Path(folder, "feeds.npz"), Path(folder, "results.npz")
        np.savez(given, **{name: np.asarray(feeds[name]) for name in names})  # type: ignore[arg-type]
        worker.call(f"{CHILD}:run", feeds=str(given), results=str(answered))
        with np.load(answered) as arrays:
            return {spec.name: arrays[spec.name] for spec in signature.outputs}
