"""What the tests of families run in children: a family in a framework's forms, each saved, loaded and asked again."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.family import find_size
from edgekit.feeds import load_feeds
from edgekit.making import find_model
from edgekit.making.child import save_exported, save_keras, save_saved_model, save_torchscript
from edgekit.making.forms import leave_for_child
from edgekit.network import Network, starting_weights


def torch_forms(name: str, feeds: str, answers: str, folder: str) -> dict[str, float]:
    """The largest difference from `answers` of the module, the exported program and the TorchScript file."""
    import torch

    from edgekit.network.torch_form import to_torch

    torch.set_num_threads(1)
    model, given = _given(name, folder)
    exported, traced = str(Path(folder, "model.pt2")), str(Path(folder, "model.pt"))
    save_exported(given, "{}", exported)
    save_torchscript(given, "{}", traced)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # TorchScript is old, and still asked for
        forms = {
            "module": to_torch(model.network, model.weights.arrays),
            "pt2": torch.export.load(exported).module(),
            "pt": torch.jit.load(traced),
        }

    def run(form: Any, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = [torch.from_numpy(np.ascontiguousarray(feed[tensor.name])) for tensor in model.network.inputs]
        with torch.inference_mode():
            found = form(*given)
        several = found if isinstance(found, tuple) else (found,)
        return {name: one.numpy() for name, one in zip(model.network.outputs, several, strict=True)}

    return {form: _worst(forms[form], run, feeds, answers) for form in forms}


def keras_forms(name: str, feeds: str, answers: str, folder: str) -> dict[str, float]:
    """The same of the .keras file and the SavedModel, both loaded without code of ours."""
    import keras
    import tensorflow as tf

    model, given = _given(name, folder)
    keras_file, saved = str(Path(folder, "model.keras")), str(Path(folder, "saved_model"))
    save_keras(given, "{}", keras_file)
    save_saved_model(given, "{}", saved)
    loaded = tf.saved_model.load(saved)
    forms = {"keras": keras.models.load_model(keras_file), "saved_model": loaded.serve}
    network = model.network

    def run(form: Any, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = form([_turned(network, feed[tensor.name], tensor.is_spatial, 1, -1) for tensor in network.inputs])
        outputs = network.outputs.items()
        return {name: _turned(network, found[name].numpy(), tensor.is_spatial, -1, 1) for name, tensor in outputs}

    return {form: _worst(forms[form], run, feeds, answers) for form in forms}


def published_forms(name: str, framework: str) -> dict[str, list[int]]:
    """Shapes of what the published size answers to one sample of zeros, in one framework, with drawn weights."""
    family, size = find_size(name)
    network = family.network(size)
    weights = starting_weights(network)
    sizes = {"batch": 1, **{dim: 4 for spec in network.signature().inputs for dim in spec.shape if dim != "batch"}}
    specs = network.signature(channels_last=framework == "keras").inputs
    feeds = [
        np.zeros([dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape], spec.dtype) for spec in specs
    ]
    if framework == "keras":
        from edgekit.network.keras_form import to_keras

        return {name: list(array.shape) for name, array in to_keras(network, weights)(feeds).items()}
    import torch

    from edgekit.network.torch_form import to_torch

    with torch.inference_mode():
        found = to_torch(network, weights)(*map(torch.from_numpy, feeds))
    several = found if isinstance(found, tuple) else (found,)
    return {name: list(one.shape) for name, one in zip(network.outputs, several, strict=True)}


def _given(name: str, folder: str) -> tuple[Any, str]:
    model = find_model(name)
    leave_for_child(model.network, model.weights.arrays, Path(folder))
    return model, folder


def _turned(network: Network, array: np.ndarray, is_spatial: bool, source: int, target: int) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, source, target)) if is_spatial else array


def _worst(form: Any, run: Any, feeds: str, answers: str) -> float:
    worst = 0.0
    for feed, answer in zip(load_feeds(Path(feeds)), load_feeds(Path(answers)), strict=True):
        found = run(form, feed)
        assert found.keys() == answer.keys(), json.dumps([sorted(found), sorted(answer)])
        for name, want in answer.items():
            assert found[name].shape == want.shape, f"{name}: {found[name].shape}, not {want.shape}"
            worst = max(worst, float(np.abs(found[name] - want).max()) / max(1.0, float(np.abs(want).max())))
    return worst
