"""Pix2pix: a picture made into another, by a generator that a discriminator of patches has judged while it learned.

Isola, Zhu, Zhou and Efros 2017, arXiv:1611.07004. Weights are named as by the authors' PyTorch implementation,
junyanz/pytorch-CycleGAN-and-pix2pix, where each level of the generator lies within the one above it. The paper
normalizes by the statistics of the very picture it is given; here it is the running ones, so that the answer is the
same whatever else is in the batch, and an engine can fold the normalization into the convolution before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.family import Batch, Family, Paper, Size, Training
from edgekit.processing import ANY_INPUT, Processing

if TYPE_CHECKING:
    from edgekit.network import Network, Tensor

__all__ = ["FAMILY", "build_discriminator"]

_TINY = 64
"""Height and width of the tiny size's pictures, and of the targets it is trained on."""

_START = "normal:0.02"
"""Weights before training, as in the paper."""


def build(
    name: str,
    *,
    width: int,
    depth: int,
    widest: int = 8,
    dropouts: int = 3,
    image_size: Sequence[int] = (256, 256),
    channels: int = 3,
    colors: int = 3,
) -> Network:
    """The generator: "image" [batch, channels, height, width] -> "picture" [batch, colors, height, width], in -1..1.

    Args:
        name: Of the network.
        width: Channels at half the size; each level down has twice as many.
        depth: Levels down; height and width are divisible by ``2 ** depth``.
        widest: Levels have at most so many times `width`.
        dropouts: Levels next to the innermost that leave out half of their numbers while training.
        image_size: Height and width.
        channels: Of the picture given.
        colors: Of the picture made.
    """
    from edgekit.network import Network

    net = Network(name)
    x = net.input("image", ("batch", channels, *image_size), is_spatial=True)
    filters = [width * min(2**level, widest) for level in range(depth)]
    prefixes = _prefixes(depth)
    levels = []
    for level, prefix in enumerate(prefixes):
        x = _down(net, x, prefix, filters[level], is_outer=level == 0, is_inner=level == depth - 1)
        levels.append(x)
    for level in reversed(range(1, depth)):
        x = _up(net, x, prefixes[level], filters[level - 1], 3 if level == depth - 1 else 5)
        if depth - 1 - dropouts <= level < depth - 1:
            x = net.dropout(x, 0.5)
        x = net.concat([levels[level - 1], x])
    x = net.conv_transpose(net.relu(x), f"{prefixes[0]}.3", colors, 4, stride=2)
    net.output(net.activation(x, "tanh"), "picture")
    return net


def _prefixes(depth: int) -> list[str]:
    """Where each level's layers are: a list within the list of the level above, at its place 1 or 3."""
    return ["model.model" + "".join(f".{3 if above else 1}.model" for above in range(level)) for level in range(depth)]


def _down(net: Network, x: Tensor, prefix: str, filters: int, *, is_outer: bool, is_inner: bool) -> Tensor:
    """Half the size; the outermost takes the picture as it is, and neither end is normalized."""
    if is_outer:
        return net.conv(x, f"{prefix}.0", filters, 4, stride=2, padding=1, bias=False, start=_START)
    x = net.activation(x, "leaky_relu", slope=0.2)
    x = net.conv(x, f"{prefix}.1", filters, 4, stride=2, padding=1, bias=False, start=_START)
    return x if is_inner else net.batch_norm(x, f"{prefix}.2")


def _up(net: Network, x: Tensor, prefix: str, filters: int, place: int) -> Tensor:
    """Twice the size, from `place` in the level's list on."""
    x = net.conv_transpose(net.relu(x), f"{prefix}.{place}", filters, 4, stride=2, bias=False)
    return net.batch_norm(x, f"{prefix}.{place + 1}")


def build_discriminator(
    name: str, *, width: int = 64, depth: int = 3, image_size: Sequence[int] = (256, 256), channels: int = 6
) -> Network:
    """The discriminator: "pair" [batch, channels, *image_size], both pictures -> "logits" [batch, 1, rows, columns].

    Each logit says whether one patch of the second picture is real, seen beside the first (PatchGAN).

    Args:
        name: Of the network.
        width: Channels of the first convolution; each further one has twice as many, at most eight times `width`.
        depth: Convolutions that halve; 3 make patches of 70 x 70 pixels, 2 of 34 x 34, 1 of 16 x 16.
        image_size: Height and width.
        channels: Of both pictures together.
    """
    from edgekit.network import Network

    net = Network(name)
    x = net.input("pair", ("batch", channels, *image_size), is_spatial=True)
    x = net.conv(x, "model.0", width, 4, stride=2, padding=1, start=_START)
    x = net.activation(x, "leaky_relu", slope=0.2)
    place = 2
    for level in range(1, depth + 1):
        stride = 2 if level < depth else 1
        filters = width * min(2**level, 8)
        x = net.conv(x, f"model.{place}", filters, 4, stride=stride, padding=1, bias=False, start=_START)
        x = net.activation(net.batch_norm(x, f"model.{place + 1}"), "leaky_relu", slope=0.2)
        place += 3
    net.output(net.conv(x, f"model.{place}", 1, 4, padding=1, start=_START), "logits")
    return net


_L1_WEIGHT = 100.0
"""How much nearness to the target counts beside what the discriminator says, as in the paper."""


class _Game:
    """An update of the discriminator, then one of the generator, by Adam with the paper's settings.

    The discriminator sees patches of 34 x 34, about as much of our small pictures as 70 x 70 is of the paper's. The
    learning rate stays for the first half and falls linearly to zero in the second, as in the authors' code. That of
    the discriminator is a fifth: on a thousand drawings it would know them by heart before the generator has learnt.
    """

    def __init__(self, module: Any, family: Family, seed: int) -> None:
        import torch

        from edgekit.network import starting_weights
        from edgekit.network.torch_form import to_torch

        channels = (
            module.get_submodule("model.model.0").in_channels + module.get_submodule("model.model.3").out_channels
        )
        record = build_discriminator("judge", width=8, depth=2, channels=channels)
        self._rates = {"maker": family.training.learning_rate, "judge": family.training.learning_rate / 5}
        self._maker, self._judge = module, to_torch(record, starting_weights(record, seed)).train()
        self._steps = {
            name: torch.optim.Adam(net.parameters(), self._rates[name], betas=(0.5, 0.999))
            for name, net in (("maker", self._maker), ("judge", self._judge))
        }

    def at(self, share: float) -> None:
        """Sets the learning rate for the next update, when `share` of all are done."""
        for name, optimizer in self._steps.items():
            for group in optimizer.param_groups:
                group["lr"] = self._rates[name] * min(1.0, 2 * (1 - share))

    def __call__(self, feeds: Batch, targets: Batch) -> dict[str, float]:
        import torch

        says = torch.nn.functional.binary_cross_entropy_with_logits
        image, target = feeds["image"], _sized(targets["picture"], feeds["image"])
        made = self._maker(image)
        real = self._judge(torch.cat([image, target], 1))
        fake = self._judge(torch.cat([image, made.detach()], 1))
        judged = 0.5 * (says(real, torch.ones_like(real)) + says(fake, torch.zeros_like(fake)))
        self._update("judge", judged)
        fooled = self._judge(torch.cat([image, made], 1))
        distance = torch.nn.functional.l1_loss(made, target)
        self._update("maker", says(fooled, torch.ones_like(fooled)) + _L1_WEIGHT * distance)
        return {"l1": float(distance.detach()), "discriminator": float(judged.detach())}

    def _update(self, name: str, loss: Any) -> None:
        self._steps[name].zero_grad()
        loss.backward()
        self._steps[name].step()

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {name: optimizer.state_dict() for name, optimizer in self._steps.items()}
        return {**state, "weights": self._judge.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._judge.load_state_dict(state["weights"])
        for name, optimizer in self._steps.items():
            optimizer.load_state_dict(state[name])


def _loss(outputs: Batch, targets: Batch) -> Any:
    """Mean distance of pixels: the part of the objective that asks no discriminator."""
    import torch

    picture = outputs["picture"]
    return torch.nn.functional.l1_loss(picture, _sized(targets["picture"], picture))


def _sized(target: Any, like: Any) -> Any:
    """`target` [batch, channels, height, width] as large as `like`."""
    import torch

    if target.shape[2:] == like.shape[2:]:
        return target
    return torch.nn.functional.interpolate(target, like.shape[2:], mode="bilinear")


def _targets(truth: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The picture to be made, [3, height, width] within -1..1, at the tiny size."""
    from edgekit.decoding import open_picture

    picture = open_picture(Path(truth["target"])).convert("RGB").resize((_TINY, _TINY), resample=2)
    return {"picture": (np.asarray(picture, np.float32) / 127.5 - 1.0).transpose(2, 0, 1)}


def _augment(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Half of the samples as in a mirror."""
    image, picture = feeds["image"].copy(), targets["picture"].copy()
    turned = generator.random(len(image)) < 0.5
    image[turned], picture[turned] = image[turned][..., ::-1], picture[turned][..., ::-1]
    return {"image": image}, {"picture": picture}


def _processing(side: int) -> Processing:
    return Processing(
        inputs={
            ANY_INPUT: (
                {"op": "decode_image", "mode": "RGB"},
                {"op": "resize", "size": [side, side]},
                {"op": "normalize", "scale": 1 / 255, "mean": 0.5, "std": 0.5},
                {"op": "layout"},
            )
        },
        outputs=({"op": "picture", "scale": 1 / 255, "mean": 0.5, "std": 0.5},),
    )


FAMILY = Family(
    name="pix2pix",
    title="pix2pix: one picture made into another, learned as a game against a discriminator",
    task="image to image",
    paper="Isola et al. 2017, arXiv:1611.07004",
    frameworks=("keras", "torch", "onnx"),
    build=build,
    sizes={
        "tiny": Size({"width": 8, "depth": 4, "widest": 4, "dropouts": 0, "image_size": (_TINY, _TINY)}),
        "256": Size(
            {"width": 64, "depth": 8, "image_size": (256, 256)},
            processing=_processing(256),
            paper=Paper(
                source="the authors' PyTorch code (junyanz/pytorch-CycleGAN-and-pix2pix), which prints 54.414 M for its"
                " generator unet_256 with batch normalization, as trained on facades",
                parameters=54_414_000,
                tolerance=0.0005,
            ),
        ),
    },
    published="256",
    processing=_processing(_TINY),
    data="edges2shapes",
    metric="ssim",
    score=0.841,
    tolerance=0.025,
    training=Training(
        loss=_loss,
        targets=_targets,
        epochs=20,
        batch_size=8,
        learning_rate=1e-3,
        augment=_augment,
        make_step=_Game,
    ),
    notes=("Targets are learnt from at 64 x 64 and enlarged for other sizes.",),
)
