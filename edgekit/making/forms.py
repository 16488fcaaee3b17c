"""The forms a network can be written in, chosen by the output's suffix, each with what it needs."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.about import ABOUT
from edgekit.errors import InputError, UnsupportedError
from edgekit.network import Network
from edgekit.staging import Stage, already_there, publish, put_folder, real_path, require_replaceable, writing
from edgekit.weights import write_weights
from edgekit.worker import Worker

__all__ = ["FORMS", "Form", "check_output", "form_of", "leave_for_child", "sizes_exported", "write_form"]

_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True)
class Form:
    """One way to write a network.

    Attributes:
        name: In words.
        framework: Of a family's `frameworks`; empty for the weights alone.
        write: Writes it to a path, given the network, its weights, and what is known of it.
        is_folder: Whether it is a folder.
        notes: What the user should know of a network written so.
    """

    name: str
    framework: str
    write: Callable[[Network, Mapping[str, np.ndarray], Mapping[str, Any], Path], None]
    is_folder: bool = False
    notes: Callable[[Network], tuple[str, ...]] = lambda network: ()


def form_of(output: Path) -> Form:
    """The form `output` is to have, by its suffix. Raises UnsupportedError."""
    suffix = output.suffix.lower()
    if suffix not in FORMS:
        known = ", ".join(name for name in FORMS if name)
        raise UnsupportedError(f"cannot write a model as {output.name}", hint=f"{known}, or a folder without a suffix")
    return FORMS[suffix]


def check_output(output: Path, *, force: bool) -> Form:
    """The form of an output that may be written. Raises InputError where something is in the way."""
    form = form_of(output)
    if not form.is_folder:
        require_replaceable(real_path(output), force=force)
    elif output.exists() or output.is_symlink():
        if not force:
            raise already_there(output)
        if not (output / "saved_model.pb").is_file():
            raise InputError(f"{output} is not a SavedModel, so it is not replaced by one", hint="give another name")
    return form


def write_form(
    form: Form,
    network: Network,
    weights: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
    output: Path,
    *,
    force: bool,
) -> Path:
    """Writes it whole or not at all, and gives where."""
    destination = real_path(output)
    with Stage(destination) as stage, writing(output):
        staged = stage.work / destination.name
        form.write(network, weights, about, staged)
        if not form.is_folder:
            publish(staged, destination, force=force)
            return destination
        if force and destination.is_dir():
            destination.rename(stage.work / "old")
        if not put_folder(staged, destination):
            raise already_there(output)
    return destination


def _write_weights(network: Network, weights: Mapping[str, np.ndarray], about: Mapping[str, Any], path: Path) -> None:
    facts = {"model": about["model"], **about["weights"]}
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in sorted(facts.items())}
    write_weights(path, {name: weights[name] for name in network.params}, metadata=metadata)


def _write_onnx(network: Network, weights: Mapping[str, np.ndarray], about: Mapping[str, Any], path: Path) -> None:
    from edgekit.network.onnx_form import save_onnx

    save_onnx(network, weights, path, metadata={ABOUT: json.dumps(about)})


def _in_child(function: str, framework: str) -> Callable[..., None]:
    """A writer that runs in a process of its own: the framework never enters the caller's."""

    def write(network: Network, weights: Mapping[str, np.ndarray], about: Mapping[str, Any], path: Path) -> None:
        given = path.with_name("given")
        given.mkdir()
        leave_for_child(network, weights, given)
        with Worker(framework, env=_ENVIRONMENT) as worker:
            worker.call(f"edgekit.making.child:{function}", given=str(given), about=json.dumps(about), path=str(path))
        shutil.rmtree(given)

    return write


def leave_for_child(network: Network, weights: Mapping[str, np.ndarray], folder: Path) -> None:
    """Puts what a child is to write into `folder`."""
    np.savez(folder / "weights.npz", **{name: weights[name] for name in network.params})  # type: ignore[arg-type]
    # Of our own making and read by our own child, within a folder nobody else writes to.
    (folder / "network.pickle").write_bytes(pickle.dumps(network))


def sizes_exported(network: Network) -> dict[str, int]:
    """Symbolic sizes that a ``torch.export`` program fixes, and at what. Raises UnsupportedError where nobody says."""
    steps = {layer.inputs[0].shape[1] for layer in network.layers if layer.op in ("lstm", "gru")}
    names = [dim for dim in steps if isinstance(dim, str)]
    if unknown := [dim for dim in names if dim not in network.typical]:
        raise UnsupportedError("PyTorch exports recurrent layers for one number of steps", offenders=unknown)
    return {dim: network.typical[dim] for dim in names}


def _exported_notes(network: Network) -> tuple[str, ...]:
    fixed = sizes_exported(network).items()
    return tuple(f"PyTorch exports recurrent layers for one number of steps: {dim} is {size}" for dim, size in fixed)


_SAVED_MODEL = Form("SavedModel folder", "keras", _in_child("save_saved_model", "Keras"), is_folder=True)

FORMS: Mapping[str, Form] = {
    ".keras": Form("Keras file", "keras", _in_child("save_keras", "Keras")),
    ".h5": Form("Keras HDF5 file", "keras", _in_child("save_keras", "Keras")),
    "": _SAVED_MODEL,
    ".savedmodel": _SAVED_MODEL,
    ".pt2": Form("exported PyTorch program", "torch", _in_child("save_exported", "PyTorch"), notes=_exported_notes),
    ".pt": Form("TorchScript file", "torch", _in_child("save_torchscript", "PyTorch")),
    ".onnx": Form("ONNX file", "onnx", _write_onnx),
    ".safetensors": Form("weights alone", "", _write_weights),
}
"""Suffix -> form."""
