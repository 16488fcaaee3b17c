"""What runs in the child that makes files of a framework: every function is called by name through a worker."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.about import ABOUT_FILE
from edgekit.errors import ArtifactError
from edgekit.making.forms import sizes_exported
from edgekit.network import Network
from edgekit.spec import Dim

__all__ = ["save_exported", "save_keras", "save_saved_model", "save_torchscript"]


def _given(folder: str) -> tuple[Network, dict[str, np.ndarray]]:
    """What the parent left for this process."""
    network = pickle.loads(Path(folder, "network.pickle").read_bytes())
    if not isinstance(network, Network):
        raise ArtifactError(f"{folder} holds no network")
    with np.load(Path(folder, "weights.npz")) as arrays:
        return network, {name: arrays[name] for name in arrays.files}


def _keras_model(given: str) -> Any:
    from edgekit.network.keras_form import to_keras

    return to_keras(*_given(given))


def save_keras(given: str, about: str, path: str) -> None:
    """A .keras or .h5 file; a .keras file is a zip, in which what is known of the model gets a member of its own."""
    model = _keras_model(given)
    with warnings.catch_warnings():
        # Keras advises against HDF5 in a warning; whoever asked for .h5 has a reason.
        warnings.filterwarnings("ignore", message=".*HDF5.*")
        model.save(path)
    if path.endswith(".keras"):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(ABOUT_FILE, about)


def save_saved_model(given: str, about: str, path: str) -> None:
    """A SavedModel folder for serving, its batch open."""
    _keras_model(given).export(path, format="tf_saved_model", verbose=False)
    extra = Path(path, "assets.extra")
    extra.mkdir(exist_ok=True)
    (extra / ABOUT_FILE).write_text(about, encoding="utf-8")


def _torch_model(given: str, *, is_exported: bool = False) -> tuple[Network, Any, tuple[Any, ...]]:
    """The network, its module, and example inputs."""
    import torch

    from edgekit.network.torch_form import to_torch

    network, weights = _given(given)
    examples = []
    fixed = sizes_exported(network) if is_exported else {}
    for spec in network.signature().inputs:
        shape = [dim if isinstance(dim, int) else fixed.get(dim, _example_size(dim)) for dim in spec.shape]
        examples.append(torch.zeros(shape, dtype=getattr(torch, spec.dtype)))
    return network, to_torch(network, weights), tuple(examples)


def _example_size(dim: Dim) -> int:
    # Never 1, which PyTorch would take for a size that can never change; and another for each name.
    return 2 + sum(str(dim).encode()) % 5


def save_exported(given: str, about: str, path: str) -> None:
    """A ``torch.export`` program in which symbolic sizes stay open, up to the positions that are learnt.

    But for the steps of recurrent layers, which PyTorch takes one by one and so fixes: see `sizes_exported`.
    """
    import torch

    network, module, examples = _torch_model(given, is_exported=True)
    most, fixed = _most(network), sizes_exported(network)
    dims: dict[str, Any] = {}
    shapes = []
    for spec in network.signature().inputs:
        names = {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str) and dim not in fixed}
        for dim in names.values():
            dims.setdefault(dim, torch.export.Dim(dim, min=1, max=most.get(dim)))
        shapes.append({axis: dims[dim] for axis, dim in names.items()})
    program = torch.export.export(module, examples, dynamic_shapes=tuple(shapes))
    torch.export.save(program, path, extra_files={ABOUT_FILE: about})


def _most(network: Network) -> dict[Dim, int]:
    """What a symbolic size can be at most: PyTorch does not export a size whose limit it has to find out itself."""
    added = [layer for layer in network.layers if layer.op == "add_positions"]
    return {layer.inputs[0].shape[1]: layer.params["weight"].shape[0] for layer in added}


def save_torchscript(given: str, about: str, path: str) -> None:
    """A TorchScript file, traced: the graph is of standard modules and has no branches to lose."""
    import torch

    _, module, examples = _torch_model(given)
    with warnings.catch_warnings():
        # PyTorch advises torch.export; whoever asked for .pt has a runtime that reads only this.
        warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
        traced = torch.jit.trace(module, examples)
        torch.jit.save(traced, path, _extra_files={ABOUT_FILE: json.dumps(json.loads(about))})
