"""Denoising diffusion: a U-Net that tells the noise in a picture, and so draws pictures out of noise alone.

Ho, Jain and Abbeel 2020, arXiv:2006.11239. Weights are named as by Hugging Face's diffusers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.family import Batch, Family, Feeds, Paper, Run, Size, Training
from edgekit.metrics import Metric
from edgekit.models._sampler import TIMES, add_noise, sample
from edgekit.network import AttentionNames, Network, Tensor
from edgekit.processing import Processing
from edgekit.registry import METRICS
from edgekit.samples import Samples
from edgekit.spec import Signature

__all__ = ["FAMILY", "build", "pictures", "sample"]

_SLOWEST = 10_000.0
"""Ratio of the fastest to the slowest wave that tells the time."""


def build(
    name: str,
    *,
    channels: int,
    size: int,
    widths: Sequence[int],
    blocks: int,
    attention_at: Sequence[int],
    groups: int,
    time_width: int | None = None,
    dropout: float = 0.0,
) -> Network:
    """The U-Net that tells the noise in a picture (Ho et al. 2020, arXiv:2006.11239).

    Inputs are ``noisy`` [batch, channels, size, size] and ``time`` float32 [batch, 1], the step from 0 on; the output
    is ``noise``.

    Args:
        name: Of the network.
        channels: Of the picture.
        size: Of the picture, in pixels.
        widths: Channels at each resolution, each half of the one before.
        blocks: Residual blocks at each resolution on the way down; one more on the way up.
        attention_at: Resolutions, in pixels, with attention after each block.
        groups: Of the group norms.
        time_width: Features of the time; by default four times the first of `widths`, as published.
        dropout: Share left out while training.
    """
    net = Network(name)
    noisy = net.input("noisy", ["batch", channels, size, size], is_spatial=True)
    time = net.input("time", ["batch", 1])
    rendering = _Blocks(
        net, _embed_time(net, time, widths[0], time_width or 4 * widths[0]), groups, dropout, attention_at
    )
    x = net.conv(noisy, "conv_in", widths[0], 3)
    skips = rendering.down(x, widths, blocks)
    x = skips[-1]
    x = rendering.residual(x, "mid_block.resnets.0", widths[-1])
    x = rendering.attention(x, "mid_block.attentions.0")
    x = rendering.residual(x, "mid_block.resnets.1", widths[-1])
    for level, width in enumerate(reversed(widths)):
        prefix = f"up_blocks.{level}"
        for index in range(blocks + 1):
            x = rendering.block(net.concat([x, skips.pop()]), prefix, index, width)
        if level < len(widths) - 1:
            x = net.conv(net.upsample(x), f"{prefix}.upsamplers.0.conv", width, 3)
    x = net.activation(rendering.norm(x, "conv_norm_out"), "silu")
    net.output(net.conv(x, "conv_out", channels, 3, start="zeros"), "noise")
    return net


def _embed_time(net: Network, time: Tensor, width: int, inner: int) -> Tensor:
    """Sines and cosines of the time, from fast to slow, through two dense layers and an activation."""
    half = width // 2
    frequencies = np.exp(-math.log(_SLOWEST) * np.arange(half) / (half - 1))
    turns = net.affine(time, frequencies)
    waves = net.concat([net.activation(turns, "sin"), net.activation(turns, "cos")])
    x = net.activation(net.dense(waves, "time_embedding.linear_1", inner), "silu")
    return net.activation(net.dense(x, "time_embedding.linear_2", inner), "silu")


class _Blocks:
    """What the U-Net is made of."""

    def __init__(self, net: Network, time: Tensor, groups: int, dropout: float, at: Sequence[int]) -> None:
        self.net = net
        self.attention_at = at
        self.time = time
        self.groups = groups
        self.dropout = dropout

    def norm(self, x: Tensor, name: str) -> Tensor:
        return self.net.group_norm(x, name, self.groups, epsilon=1e-6)

    def down(self, x: Tensor, widths: Sequence[int], blocks: int) -> list[Tensor]:
        """From `x` to the smallest size; every tensor on the way, for the way up."""
        passed = [x]
        for level, width in enumerate(widths):
            prefix = f"down_blocks.{level}"
            for index in range(blocks):
                passed.append(self.block(passed[-1], prefix, index, width))
            if level < len(widths) - 1:
                passed.append(self.net.conv(passed[-1], f"{prefix}.downsamplers.0.conv", width, 3, stride=2))
        return passed

    def block(self, x: Tensor, prefix: str, index: int, width: int) -> Tensor:
        """A residual block, and attention where there is to be some."""
        x = self.residual(x, f"{prefix}.resnets.{index}", width)
        return self.attention(x, f"{prefix}.attentions.{index}") if x.size(2) in self.attention_at else x

    def residual(self, x: Tensor, name: str, width: int) -> Tensor:
        net = self.net
        inner = net.conv(net.activation(self.norm(x, f"{name}.norm1"), "silu"), f"{name}.conv1", width, 3)
        time = net.dense(self.time, f"{name}.time_emb_proj", width)
        inner = net.sum(inner, net.to_spatial(time, (1, 1)))
        inner = net.dropout(net.activation(self.norm(inner, f"{name}.norm2"), "silu"), self.dropout)
        # Starting as the identity, as published: the last convolution begins with zeros.
        inner = net.conv(inner, f"{name}.conv2", width, 3, start="zeros")
        return net.sum(x if x.channels == width else net.conv(x, f"{name}.conv_shortcut", width, 1), inner)

    def attention(self, x: Tensor, name: str) -> Tensor:
        net = self.net
        names = AttentionNames(f"{name}.to_q", f"{name}.to_k", f"{name}.to_v", f"{name}.to_out.0")
        found = net.attention(net.to_steps(self.norm(x, f"{name}.group_norm")), f"{name}.attention", names, heads=1)
        return net.sum(x, net.to_spatial(found, x.shape[2:]))


# --- Data -------------------------------------------------------------------------------------------------------------

_COPIES = 16
"""Of each picture in an epoch of training, every one with a noise of its own."""

_JUDGED_STEPS = 25
"""Calls of the net for each picture it is judged by."""


def _processing(size: int, mode: str) -> Processing:
    """A picture as the net draws them: in -1..1. `time` is not in it: a sampler gives it."""
    steps: tuple[dict[str, Any], ...] = (
        {"op": "decode_image", "mode": mode},
        {"op": "resize", "size": [size, size]},
        {"op": "normalize", "mean": 127.5, "std": 127.5},
        {"op": "layout"},
    )
    return Processing({"noisy": steps})


def pictures(samples: Samples, signature: Signature) -> Iterator[np.ndarray]:
    """Every sample as a batch of one picture, in -1..1."""
    shape = next(spec.shape for spec in signature.inputs if spec.name == "noisy")
    channels, size = (shape[1], shape[2]) if shape[2] == shape[3] else (shape[3], shape[1])
    processing = _processing(int(size), "L" if channels == 1 else "RGB")
    time = np.zeros((1, 1), np.float32)
    for each in samples:
        yield processing.before({"noisy": each.value, "time": time}, signature)["noisy"]


def _feeds(samples: Samples, signature: Signature) -> Iterator[Feeds]:
    """Every picture at a time of its own, evenly spread over all of them, with the noise of that time."""
    generator = np.random.default_rng(0)
    for index, picture in enumerate(pictures(samples, signature)):
        time = np.array([index * _STRIDE % TIMES])
        noisy = add_noise(picture, generator.standard_normal(picture.shape), time)
        yield {"noisy": noisy, "time": time[:, None].astype(np.float32)}


_STRIDE = 619
"""Has no divisor in common with `TIMES` and is near its golden section: any number of multiples is spread evenly."""


def _clean_feeds(samples: Samples, signature: Signature) -> Iterator[Feeds]:
    """Every picture without noise, so many times as it is to be seen in an epoch; `_add_noise` does the rest."""
    for picture in pictures(samples, signature):
        yield {"noisy": np.repeat(picture, _COPIES, axis=0), "time": np.zeros((_COPIES, 1), np.float32)}


def _add_noise(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Each picture at a time drawn for it; the noise is what is to be told."""
    pictures = feeds["noisy"]
    # One time from each of as many equal parts: all times in every batch, and so less chance in the loss.
    times = ((np.arange(len(pictures)) + generator.random(len(pictures))) / len(pictures) * TIMES).astype(np.int64)
    times = generator.permutation(times)
    noise = generator.standard_normal(pictures.shape).astype(np.float32)
    return (
        {"noisy": add_noise(pictures, noise, times), "time": times[:, None].astype(np.float32)},
        {"noise": noise},
    )


def _loss(outputs: Batch, targets: Batch) -> Any:
    from torch.nn.functional import mse_loss

    return mse_loss(outputs["noise"], targets["noise"])


def _judge(run: Run, samples: Samples, signature: Signature) -> float:
    """Frechet distance of as many drawn pictures from the samples."""
    real = [picture[0] for picture in pictures(samples, signature)]
    rows = signature.inputs[0].shape[0]
    batch = rows if isinstance(rows, int) else 64
    drawn = sample(run, len(real), _JUDGED_STEPS, 0, shape=real[0].shape, batch=batch)
    metric: Metric = METRICS.get(FAMILY.metric)
    return metric.compute(list(drawn), [{"target": picture} for picture in real])


# --- The family -------------------------------------------------------------------------------------------------------

_TINY: Mapping[str, Any] = {
    **{"channels": 1, "size": 8, "widths": (16, 16), "blocks": 1},
    **{"attention_at": (4,), "groups": 4, "time_width": 56},
}
_CIFAR10: Mapping[str, Any] = {
    **{"channels": 3, "size": 32, "widths": (128, 256, 256, 256), "blocks": 2},
    **{"attention_at": (16,), "groups": 32, "dropout": 0.1},
}

FAMILY = Family(
    name="diffusion",
    title="DDPM, a U-Net that draws pictures out of noise",
    task="image generation",
    paper="Ho et al. 2020, arXiv:2006.11239",
    frameworks=("torch", "keras", "onnx"),
    build=build,
    sizes={
        "tiny": Size(_TINY),
        "cifar10": Size(
            _CIFAR10,
            _processing(32, "RGB"),
            Paper("the paper's appendix B: 35.7 million parameters for CIFAR10", 35_700_000, tolerance=0.002),
        ),
    },
    published="cifar10",
    processing=_processing(8, "L"),
    data="digits",
    metric="frechet",
    score=0.962,
    tolerance=0.25,
    training=Training(
        _loss,
        None,
        epochs=20,
        batch_size=64,
        learning_rate=4e-3,
        weight_decay=0.0,
        augment=_add_noise,
        feeds=_clean_feeds,
    ),
    feeds=_feeds,
    judge=_judge,
    notes=(
        "`edgekit.models.diffusion.sample` draws with it, on any engine: DDIM or ancestral sampling.",
        "The Frechet distance is of pixels: two sets of 360 real digits are about 0.65 apart.",
    ),
)
