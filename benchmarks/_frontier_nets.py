"""The ten nets of the frontier: models of edgekit's families with weights of a seed, and inputs for them.

What nobody trained answers nothing, but costs what a trained net costs. Batch norms get the statistics of a batch that
went through, as training would have given them: without, what 50 layers add up grows until 8 bits say nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edgekit.network import Network

SEED = 0
SAMPLES = 16
_SETTLING = 4
"""Samples in the batch that batch norms take their statistics from."""


@dataclass(frozen=True)
class Net:
    """A net of the frontier.

    Attributes:
        model: Its name for edgekit.
        mmacs: Millions of multiply-accumulates of one call, as the published table of the frontier has them.
        minutes: What all of it takes at most on 2 free cores of an x86-64; the announcement adds these up.
        sizes: A number for each size the model leaves open, but for the batch.
    """

    model: str
    mmacs: float
    minutes: float
    sizes: Mapping[str, int] = field(default_factory=dict)


NETS = {
    "mobilenet_v2": Net("mobilenet-v2:1.0", 301, 3.0),
    "resnet50": Net("resnet:50", 3858, 4.0),
    "effnet_lite0": Net("efficientnet-lite:lite0", 385, 3.0),
    "yolov8n": Net("yolo:v8-nano", 1093, 3.5),
    "unet": Net("unet:16", 3034, 3.5),
    "bert_small": Net("bert:small", 1678, 3.5, {"steps": 128}),
    "wavenet": Net("wavenet:filter", 2622, 4.0, {"samples": 16000}),
    "lstm_kws": Net("lstm:2x128", 21, 2.0, {"steps": 98}),
    "dscnn_kws": Net("ds-cnn:mlperf-tiny", 2.7, 2.0),
    "ad_autoencoder": Net("autoencoder:mlperf-tiny", 0.26, 2.0),
}


def network_of(net: Net) -> Network:
    from edgekit.family import find_size

    family, size = find_size(net.model)
    return family.network(size)


def feeds_of(
    network: Network, sizes: Mapping[str, int], rows: int = SAMPLES, seed: int = SEED
) -> dict[str, np.ndarray]:
    """Numbers by chance, a sample a row: normal ones; of integers words, a mask of ones and types of zeros."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, np.ndarray] = {}
    for spec in network.signature().inputs:
        shape = (rows, *(dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape[1:]))
        if spec.dtype.startswith("float"):
            feeds[spec.name] = generator.standard_normal(shape).astype(spec.dtype)
        else:
            low, high = (1, 2) if "mask" in spec.name else (0, 1) if "type" in spec.name else (1, 30000)
            feeds[spec.name] = generator.integers(low, high, shape).astype(spec.dtype)
    return feeds


def settled_weights(network: Network, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Starting weights of the seed; batch norms with the statistics of what `feeds` become on their way."""
    from edgekit.network import starting_weights

    weights = starting_weights(network, SEED)
    if "batch_norm" not in network.ops:
        return weights
    import torch

    from edgekit.network.torch_form import to_torch, torch_weights

    module = to_torch(network, weights)
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.momentum = 1.0
            part.train()
    with torch.inference_mode():
        module(*(torch.from_numpy(feeds[name][:_SETTLING]) for name in module.input_names))
    return torch_weights(module, network)


def make_net(name: str, folder: str) -> dict[str, Any]:
    """Writes ``source.onnx`` of fixed sizes, and inputs for it, of which each sample is a row.

    Returns:
        ``source``; ``samples`` to calibrate on; ``batches``, the same, each a batch of one; ``unseen`` ones to judge
        by; and ``outputs``: the standard deviation of what each says.
    """
    from edgekit.graph import bind_dimensions, save
    from edgekit.graph import load as load_graph
    from edgekit.network.onnx_form import save_onnx

    net, place = NETS[name], Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    network = network_of(net)
    feeds = feeds_of(network, net.sizes)
    opened = save_onnx(network, settled_weights(network, feeds), place / "open.onnx", force=True)
    path, samples, batches, unseen = (
        place / name for name in ("source.onnx", "samples.npz", "batches.npz", "unseen.npz")
    )
    save(bind_dimensions(load_graph(opened), {**net.sizes, "batch": 1}), path)
    opened.unlink()
    np.savez(samples, **feeds)  # type: ignore[arg-type]
    np.savez(batches, **{name: array[:, None] for name, array in feeds.items()})  # type: ignore[arg-type]
    np.savez(unseen, **feeds_of(network, net.sizes, seed=SEED + 1))  # type: ignore[arg-type]
    found = {"source": path, "samples": samples, "batches": batches, "unseen": unseen}
    return {**{name: str(file) for name, file in found.items()}, "outputs": _spread(path, feeds)}


def _spread(path: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, float]:
    from edgekit.loading import load

    session = load(path, runtime="onnx", threads=1)
    answers = [session.run({name: array[row : row + 1] for name, array in feeds.items()}) for row in range(2)]
    return {name: float(np.std([answer[name] for answer in answers])) for name in answers[0]}
