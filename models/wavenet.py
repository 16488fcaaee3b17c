"""WaveNet: the next sample of a sound from those before it, by causal dilated convolutions (arXiv:1609.03499)."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.family import Batch, Family, Paper, Run, Size, Training
from edgekit.metrics import Metric
from edgekit.network import Network, Tensor
from edgekit.processing import ANY_INPUT, Processing
from edgekit.registry import METRICS
from edgekit.samples import Samples
from edgekit.spec import Signature

__all__ = ["CLASSES", "FAMILY", "build", "classes_of", "receptive_field"]

CLASSES = 256
"""Levels of a companded sample, 8 bits of ITU-T G.711's curve."""


def build(
    name: str,
    *,
    blocks: int,
    layers: int,
    residual: int,
    gated: int,
    skip: int,
    end: int,
    first_kernel: int = 1,
    kernel: int = 2,
    said: int = CLASSES,
) -> Network:
    """[batch, samples, 1] of companded levels in -1..1 -> logits [batch, samples, 256] of the sample after each.

    A level is one number and not one of 256 channels: the same information in a 256th of the memory, and the same
    signature whether a framework has channels first or last.

    Args:
        name: Of the network.
        blocks: How often the dilations 1, 2, 4 ... begin anew.
        layers: Of a block; the last has a dilation of ``2 ** (layers - 1)``.
        residual: Channels handed from layer to layer.
        gated: Channels within a layer, ``tanh(filter) * sigmoid(gate)``.
        skip: Channels that every layer adds to the answer.
        end: Channels of the answer before its last layer.
        first_kernel: Samples the first convolution sees.
        kernel: Samples a dilated convolution sees.
        said: Numbers said of each sample: the logits, or one where the net is a filter of sound.
    """
    net = Network(name)
    x = net.to_spatial(net.input("levels", ["batch", "samples", 1]), ["samples"])
    x = net.conv(x, "start_conv", residual, first_kernel, padding="causal", start="glorot")
    skips: list[Tensor] = []
    for index in range(blocks * layers):
        dilated = {"dilation": 2 ** (index % layers), "padding": "causal", "start": "glorot"}
        wave = net.activation(net.conv(x, f"filter_convs.{index}", gated, kernel, **dilated), "tanh")
        gate = net.activation(net.conv(x, f"gate_convs.{index}", gated, kernel, **dilated), "sigmoid")
        inner = net.product(wave, gate)
        one = net.conv(inner, f"skip_convs.{index}", skip, 1)
        skips.append(net.sum(skips[-1], one) if skips else one)
        if index < blocks * layers - 1:
            x = net.sum(x, net.conv(inner, f"residual_convs.{index}", residual, 1, start="glorot"))
    x = net.relu(net.conv(net.relu(skips[-1]), "end_conv_1", end, 1))
    net.output(net.to_steps(net.conv(x, "end_conv_2", said, 1, start="glorot")), "logits")
    return net


def receptive_field(*, blocks: int, layers: int, first_kernel: int = 1, kernel: int = 2, **_: int) -> int:
    """How many samples an answer depends on."""
    return first_kernel + blocks * (2**layers - 1) * (kernel - 1)


def classes_of(levels: np.ndarray) -> np.ndarray:
    """int64 classes of levels in -1..1, the opposite of what the processing makes of classes."""
    return np.rint((levels + 1.0) * ((CLASSES - 1) / 2)).astype(np.int64)


_RATE_HZ = 8000
_SAMPLES = 2048
"""Of a sound, in an update of training."""

_PROCESSING = Processing(
    {
        ANY_INPUT: (
            {"op": "decode_wav", "rate_hz": _RATE_HZ},
            {"op": "mono"},
            {"op": "resample", "rate_hz": _RATE_HZ},
            {"op": "mu_law", "to": "classes"},
            {"op": "normalize", "scale": 2 / (CLASSES - 1), "mean": 1.0},
            {"op": "expand", "axis": -1},
        )
    }
)


def _loss(outputs: Batch, targets: Batch) -> Any:
    from torch.nn.functional import cross_entropy

    levels = targets["levels"][:, 1:, 0]
    classes = ((levels + 1.0) * ((CLASSES - 1) / 2)).round().long()
    return cross_entropy(outputs["logits"][:, :-1].flatten(0, 1), classes.flatten())


def _cut(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Of every sound as many samples, from anywhere in it; the whole of shorter ones."""
    levels = feeds["levels"]
    count = min(_SAMPLES, levels.shape[1])
    starts = generator.integers(levels.shape[1] - count + 1, size=(len(levels), 1))
    cut = levels[np.arange(len(levels))[:, None], starts + np.arange(count)]
    return {"levels": cut}, {"levels": cut}


def _judge(run: Run, samples: Samples, signature: Signature) -> float:
    """Bits per sample: what is needed to say each sample but the first, told all before it."""
    answers = []
    for sample in samples:
        feeds = _PROCESSING.before(sample.value, signature)
        logits = np.asarray(run(feeds)["logits"], np.float64)[0, :-1]
        classes = classes_of(feeds["levels"][0, 1:, 0])
        logits -= logits.max(axis=-1, keepdims=True)
        said = logits[np.arange(len(classes)), classes] - np.log(np.exp(logits).sum(axis=-1))
        answers.append({"nats": -float(said.sum()), "tokens": len(classes)})
    metric: Metric = METRICS.get(FAMILY.metric)
    return metric.compute(answers, [sample.truth for sample in samples])


_TINY = {"blocks": 1, "layers": 8, "residual": 24, "gated": 24, "skip": 48, "end": 64, "first_kernel": 2}
_PUBLISHED = {"blocks": 3, "layers": 10, "residual": 32, "gated": 32, "skip": 1024, "end": 512}

FAMILY = Family(
    name="wavenet",
    title="WaveNet, a generator of sound",
    task="audio generation",
    paper="van den Oord et al. 2016, arXiv:1609.03499",
    frameworks=("torch", "keras", "onnx"),
    build=build,
    sizes={
        "tiny": Size(_TINY),
        "published": Size(
            _PUBLISHED,
            None,
            Paper(
                "counted from the layers in WaveNet_demo.ipynb of vincentherrmann/pytorch-wavenet, of which "
                "1,056, after the last layer, lead nowhere and are left out here",
                parameters=1_826_432,
                tolerance=0.001,
            ),
        ),
        "filter": Size(
            {"blocks": 2, "layers": 10, "residual": 32, "gated": 32, "skip": 32, "end": 32, "kernel": 3, "said": 1}
        ),
    },
    published="published",
    processing=_PROCESSING,
    data="tones",
    metric="bits-per-token",
    score=4.395,
    tolerance=0.1,
    training=Training(_loss, None, epochs=24, batch_size=8, learning_rate=6e-3, weight_decay=0.0, augment=_cut),
    judge=_judge,
    notes=(
        "The paper gives dilations (1, 2, 4, ..., 512, again and again; each block sees 1,024 samples) and classes, "
        "but neither widths nor a count of parameters: the published size has those of a well-known implementation.",
        "A token, in the metric's name, is a sample.",
    ),
)
