"""DS-CNN: a keyword spotter of depthwise-separable convolutions over cepstral coefficients (arXiv:1711.07128)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.family import Batch, Family, Feeds, Paper, Size, Training
from edgekit.models._classification import class_targets, cross_entropy
from edgekit.models._keywords import COEFFICIENTS, FIRST_SECOND, KEYWORDS, RATE_HZ, TABLE, keyword_processing
from edgekit.network import Network, Tensor
from edgekit.samples import Samples
from edgekit.spec import Signature, TensorSpec

__all__ = ["FAMILY", "build"]

_FRAMES = 49
_MAX_SHIFT = 5
_NOISE = 0.3
_VOICES = 5
_SPEEDS = (0.82, 1.22)
_MAX_MOVE = 1600
_NOISE_DB = (8.0, 30.0)
"""By which the noise is below the sound."""


def build(
    name: str,
    *,
    filters: int,
    blocks: int,
    classes: int,
    stride: Sequence[int] = (2, 1),
    block_stride: int = 2,
    dropout: Sequence[float] = (0.0, 0.0),
) -> Network:
    """[batch, 1, 49, 10] of cepstral coefficients over time -> logits.

    Args:
        name: Of the network.
        filters: Channels, the same throughout.
        blocks: How often a 3 x 3 depthwise and a 1 x 1 convolution follow each other.
        classes: Words to tell apart.
        stride: Of the first convolution, in time and frequency.
        block_stride: Of the first depthwise convolution.
        dropout: After the first convolution, and before the mean.
    """
    net = Network(name)
    x = net.input("mfcc", ["batch", 1, _FRAMES, COEFFICIENTS], is_spatial=True)
    x = _normalized(net, net.conv(x, "conv", filters, (10, 4), stride=stride), "conv_bn")
    if dropout[0]:
        x = net.dropout(x, dropout[0])
    for index in range(blocks):
        block = f"blocks.{index}"
        x = net.depthwise(x, f"{block}.depthwise", 3, stride=1 if index else block_stride, bias=True)
        x = _normalized(net, x, f"{block}.depthwise_bn")
        x = _normalized(net, net.conv(x, f"{block}.pointwise", filters, 1), f"{block}.pointwise_bn")
    if dropout[1]:
        x = net.dropout(x, dropout[1])
    net.output(net.dense(net.global_avg_pool(x), "fc", classes), "logits")
    return net


def _normalized(net: Network, x: Tensor, name: str) -> Tensor:
    return net.relu(net.batch_norm(x, name, epsilon=1e-3))


_SPEECH_COMMANDS = keyword_processing(is_picture=True)


def _hello_edge(filters: int, blocks: int, operations: float, **settings: Any) -> Size:
    """A size of the paper; `operations` as its table has them, to two or three digits."""
    paper = Paper(TABLE, macs=round(operations / 2), tolerance=0.02)
    return Size({"filters": filters, "blocks": blocks, "classes": len(KEYWORDS), **settings}, _SPEECH_COMMANDS, paper)


_MLPERF: Mapping[str, Any] = {"stride": (2, 2), "block_stride": 1, "dropout": (0.2, 0.4)}

_WORDS = keyword_processing(
    is_picture=True,
    high_hz=7600.0,
    mean=(-2.2, 3.8, 1.4, 0.9, -0.1, 0.2, 0.3, 0.2, 0.2, 0.2),
    std=(9.8, 4.5, 1.8, 2.0, 2.1, 1.7, 1.5, 1.4, 1.2, 1.1),
)
"""Mean and deviation of each coefficient over the data set `words`."""


def _many_voices(samples: Samples, signature: Signature) -> Iterator[Feeds]:
    """Each sound as it is and `_VOICES` times as another voice would say it, each elsewhere and in further noise."""
    generator = np.random.default_rng(0)
    second = Signature((TensorSpec("sound", "float32", ("batch", RATE_HZ)),), ())
    for sample in samples:
        sound = FIRST_SECOND.before(sample.value, second)["sound"][0]
        said = [sound, *(_spoken_anew(sound, generator) for _ in range(_VOICES))]
        yield {"mfcc": np.concatenate([_WORDS.before(one, signature)["mfcc"] for one in said])}


def _spoken_anew(sound: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Faster and higher or slower and lower, moved by up to a tenth of a second, in noise that may fall with frequency.

    To play a voice at another speed also moves its formants, as a vocal tract of another length does (Ko et al., Audio
    Augmentation for Speech Recognition, Interspeech 2015).
    """
    place = np.arange(len(sound))
    center = len(sound) / 2
    heard = (place - center) * generator.uniform(*_SPEEDS) + center + generator.integers(-_MAX_MOVE, _MAX_MOVE + 1)
    said = np.interp(heard, place, sound)
    outside = (heard < 0) | (heard > place[-1])
    said[outside] = generator.normal(0, np.quantile(np.abs(sound), 0.3), int(outside.sum()))
    slope = np.maximum(np.fft.rfftfreq(len(sound), 1 / RATE_HZ), 40.0) ** generator.uniform(0, 1)
    noise = np.fft.irfft(np.fft.rfft(generator.normal(size=len(sound))) / slope, len(sound))
    level = said.std() / noise.std() * 10 ** (-generator.uniform(*_NOISE_DB) / 20)
    return (said + level * noise).astype(np.float32)


def _varied(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Every word a little earlier or later, and noise on every coefficient."""
    x = feeds["mfcc"][:, 0]
    shift = generator.integers(-_MAX_SHIFT, _MAX_SHIFT + 1, (len(x), 1))
    frame = np.clip(np.arange(_FRAMES) + shift, 0, _FRAMES - 1)
    moved = x[np.arange(len(x))[:, None], frame]
    return {"mfcc": (moved + generator.normal(0, _NOISE, moved.shape))[:, None].astype(np.float32)}, targets


FAMILY = Family(
    name="ds-cnn",
    title="DS-CNN keyword spotter",
    task="keyword spotting",
    paper="Zhang et al. 2017, arXiv:1711.07128",
    frameworks=("torch", "keras", "onnx"),
    build=build,
    sizes={
        "tiny": Size({"filters": 64, "blocks": 4, "classes": len(KEYWORDS), **_MLPERF}),
        "mlperf-tiny": Size(
            {"filters": 64, "blocks": 4, "classes": len(KEYWORDS), **_MLPERF},
            _SPEECH_COMMANDS,
            Paper(
                "MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597), keyword_spotting/keras_model.py of "
                "mlcommons/tiny: 24,908 numbers as Keras counts, of which 1,152 are running statistics",
                parameters=23_756,
                tolerance=0.0,
            ),
        ),
        "hello-edge-s": _hello_edge(64, 4, 5.4e6, stride=(2, 2), block_stride=1),
        "hello-edge-m": _hello_edge(172, 4, 19.8e6),
        "hello-edge-l": _hello_edge(276, 5, 56.9e6),
    },
    published="mlperf-tiny",
    processing=_WORDS,
    data="words",
    metric="top1",
    score=0.962,
    tolerance=0.02,
    training=Training(
        cross_entropy,
        class_targets,
        epochs=25,
        batch_size=64,
        learning_rate=5e-3,
        augment=_varied,
        feeds=_many_voices,
    ),
    notes=(
        "The sizes hello-edge-* have norms with a gain, which the paper's lack; folding does away with it.",
        "MLPerf Tiny's implementation takes the mean over the first 24 of 25 frames, this one over all.",
    ),
)
