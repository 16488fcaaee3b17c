"""Published weights from where they are published: torchvision, Hugging Face, and Keras applications.

Each is asked through its own library, which keeps what it fetched. Without a network, or without the library, the error
says which model was wanted of whom, and that a file already there will do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, UnavailableError, UnsupportedError
from edgekit.family import Family, Hub
from edgekit.weights import read_weights
from edgekit.worker import Worker

__all__ = ["HUBS", "fetch_weights", "find_hub", "is_hub"]

_KERAS_CHILD = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def is_hub(text: str) -> bool:
    """Whether `text` names a hub, ``"huggingface"`` or ``"huggingface:owner/name"``, and no file."""
    return text.partition(":")[0] in HUBS


def find_hub(family: Family, size: str, text: str) -> Hub:
    """What `text` means for that size: the hub the family knows, with the model's name replaced where it says one.

    Raises:
        UnsupportedError: The family knows no weights of that size there.
    """
    kind, _, name = text.partition(":")
    known = [hub for hub in family.hubs if hub.size == size]
    for hub in known:
        if hub.kind == kind:
            return Hub(kind, name or hub.name, size, hub.license, hub.adapt)
    there = [f"{hub.kind} ({hub.size}: {hub.name})" for hub in family.hubs]
    raise UnsupportedError(
        f"{family.name} knows no weights of size {size} at {kind}",
        hint=f"it knows {', '.join(there)}" if there else "--weights FILE takes what you have",
    )


def fetch_weights(hub: Hub) -> dict[str, np.ndarray]:
    """The published weights under our names.

    Raises:
        UnavailableError: The hub's library is not installed, or the hub cannot be reached.
    """
    found = HUBS[hub.kind](hub.name)
    return hub.adapt(found) if hub.adapt is not None else {name: np.asarray(array) for name, array in found.items()}


def _unreachable(hub: str, name: str, error: Exception) -> UnavailableError:
    said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UnavailableError(
        f"{hub} did not give the weights of {name!r}: {type(error).__name__}: {said}",
        hint="try again with a network, or give a file you already have: --weights FILE (.safetensors, .pth)",
    )


def _missing(hub: str, package: str, name: str) -> UnavailableError:
    return UnavailableError(
        f"the weights of {name!r} come from {hub}, and {package} is not installed",
        hint=f"pip install {package}, or give a file you already have: --weights FILE (.safetensors, .pth)",
    )


def _from_torchvision(name: str) -> Mapping[str, Any]:
    try:
        from torchvision.models import get_model_weights
    except (ImportError, RuntimeError) as error:  # a torchvision for another PyTorch fails as it registers operators
        if isinstance(error, ModuleNotFoundError):
            raise _missing("torchvision", "torchvision", name) from error
        raise UnavailableError(
            f"the weights of {name!r} come from torchvision, which cannot be imported: {error}",
            hint="install the torchvision made for your torch, or give a file: --weights FILE",
        ) from error
    try:
        state = get_model_weights(name).DEFAULT.get_state_dict(progress=False)
    except ValueError as error:
        raise UnsupportedError(f"torchvision has no model {name!r}", hint=str(error)) from error
    except OSError as error:  # what urllib raises without a network
        raise _unreachable("torchvision", name, error) from error
    return {key: tensor.detach().cpu().numpy() for key, tensor in state.items()}


def _from_hugging_face(name: str) -> Mapping[str, Any]:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
    except ImportError as error:
        raise _missing("Hugging Face", "huggingface_hub", name) from error

    def fetch(file: str) -> Path:
        return Path(hf_hub_download(name, file))

    try:
        try:
            return read_weights(fetch("model.safetensors"))
        except EntryNotFoundError:
            index = json.loads(fetch("model.safetensors.index.json").read_text(encoding="utf-8"))
            parts = sorted(set(index["weight_map"].values()))
            return {key: array for part in parts for key, array in read_weights(fetch(part)).items()}
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _unreachable("Hugging Face", name, error) from error


def _from_keras(name: str) -> Mapping[str, Any]:
    with TemporaryDirectory(prefix="edgekit-") as folder, Worker("Keras applications", env=_KERAS_CHILD) as worker:
        path = Path(folder, "weights.npz")
        try:
            layers = worker.call("edgekit.hubs:save_keras_application", name=name, path=str(path))
        except ConversionError as error:
            raise _unreachable("keras.applications", name, error) from error
        with np.load(path) as arrays:
            return {layer: [arrays[f"{layer}/{index}"] for index in range(count)] for layer, count in layers.items()}


def save_keras_application(name: str, path: str) -> dict[str, int]:
    """Runs in the child: writes every layer's weights as ``layer/index``, and gives how many each layer has."""
    try:
        import keras
    except ImportError as error:
        raise _missing("keras.applications", "keras", name) from error
    make = getattr(keras.applications, name, None)
    if make is None:
        raise UnsupportedError(f"keras.applications has no model {name!r}")
    layers = {layer.name: layer.get_weights() for layer in make(weights="imagenet").layers}
    arrays = {f"{layer}/{index}": array for layer, own in layers.items() for index, array in enumerate(own)}
    np.savez(path, **arrays)
    return {layer: len(own) for layer, own in layers.items() if own}


HUBS: Mapping[str, Callable[[str], Mapping[str, Any]]] = {
    "torchvision": _from_torchvision,
    "huggingface": _from_hugging_face,
    "keras": _from_keras,
}
"""Kind of a hub -> from the model's name there to its weights."""
