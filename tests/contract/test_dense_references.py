"""YOLOX, U-Net and pix2pix held against plain PyTorch modules, and against what is published."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from edgekit.datasets import open_dataset
from edgekit.errors import UnsupportedError
from edgekit.family import Family
from edgekit.metrics.images import structural_similarity
from edgekit.models import pix2pix, unet, yolo
from edgekit.network import Network, count_macs, starting_weights
from edgekit.network.torch_form import to_torch
from edgekit.scoring import score
from edgekit.training.step import run_of
from tests.contract import plain_modules as plain
from tests.contract.plain_yolo_v8 import YoloV8

torch = pytest.importorskip("torch")
nn = torch.nn

FAMILIES = {"yolo": yolo.FAMILY, "unet": unet.FAMILY, "pix2pix": pix2pix.FAMILY}
SIZES = [(name, size) for name, family in FAMILIES.items() for size in family.sizes]


@pytest.mark.parametrize(("name", "size"), [pair for pair in SIZES if FAMILIES[pair[0]].sizes[pair[1]].paper])
def test_a_published_size_has_the_published_figures(name: str, size: str) -> None:
    paper, network = FAMILIES[name].sizes[size].paper, FAMILIES[name].network(size)
    assert paper is not None
    assert paper.parameters is not None
    assert network.num_params == pytest.approx(paper.parameters, rel=paper.tolerance, abs=0)
    if paper.macs is not None:
        assert count_macs(network) == pytest.approx(paper.macs, rel=paper.tolerance)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_tiny_size_is_tiny(name: str) -> None:
    family = FAMILIES[name]
    assert family.network("tiny").num_params <= 75_000
    assert family.tiny_weights.stat().st_size <= 300 * 1024


def agree(network: Network, reference: Any, *shape: int, tolerance: float = 1e-5) -> None:
    """The reference's weights fit the network by name, and both answer alike."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in reference.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.ndim == 1:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2 + name.endswith("weight"))
    state = {name: tensor for name, tensor in reference.state_dict().items() if "num_batches" not in name}
    assert set(state) == set(network.params)
    module = to_torch(network, {name: tensor.numpy() for name, tensor in state.items()})
    x = torch.rand(shape, generator=generator) * 2 - 1
    with torch.inference_mode():
        found, expected = module(x), reference.eval()(x)
    for mine, theirs in zip(*(each if isinstance(each, tuple) else (each,) for each in (found, expected)), strict=True):
        assert mine.shape == theirs.shape
        assert float(theirs.std()) > 1e-3, "the reference answers nothing worth comparing"
        torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance * float(theirs.abs().max()))


def macs_of(module: Any, *shape: int) -> int:
    """Multiply-accumulates of the convolutions that a call makes, counted without computing anything."""
    counts: list[int] = []

    def count(layer: Any, given: Any, made: Any) -> None:
        places = given[0] if isinstance(layer, nn.ConvTranspose2d) else made
        counts.append(places.numel() // places.shape[1] * layer.weight.numel())

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        module.eval()(torch.zeros(shape, device="meta"))
    return sum(counts)


# U-Net


def test_unet_is_as_in_the_implementation_it_is_named_after() -> None:
    network = unet.FAMILY.network("64", width=4, image_size=(48, 64))
    agree(network, plain.UNet(3, 2, 4, 4, 1, True), 2, 3, 48, 64)


def test_unet_of_the_paper_crops_what_it_carries_across() -> None:
    network = unet.FAMILY.network("572", width=4, depth=2, image_size=(44, 60))
    assert network.outputs["logits"].shape == ("batch", 2, 4, 20)
    agree(network, plain.UNet(1, 2, 4, 2, 0, False), 2, 1, 44, 60)


def test_unet_of_the_paper_has_its_sizes() -> None:
    network = unet.FAMILY.network("572")
    assert network.outputs["logits"].shape == ("batch", 2, 388, 388)  # figure 1 of arXiv:1505.04597
    assert sum(layer.op in ("conv", "conv_transpose") for layer in network.layers) == 23  # its section 2
    with torch.device("meta"):
        assert count_macs(network) == macs_of(plain.UNet(1, 2, 64, 4, 0, False), 1, 1, 572, 572)


def test_unet_says_what_it_cannot_halve() -> None:
    with pytest.raises(UnsupportedError, match="25 x 25"):
        unet.FAMILY.network("tiny", image_size=(100, 100))


# Pix2pix


def test_the_generator_is_as_in_the_authors_code() -> None:
    network = pix2pix.FAMILY.network("256", width=4, depth=6, widest=4, image_size=(64, 64))
    agree(network, plain.generator([4, 8, 16, 16, 16, 16]), 2, 3, 64, 64)
    dropped = [layer for layer in network.layers if layer.op == "dropout"]
    # The three decoders next to the innermost leave numbers out while training.
    assert [layer.output.shape[2] for layer in dropped] == [4, 8, 16]


def test_the_published_generator_costs_as_much_as_the_plain_one() -> None:
    network = pix2pix.FAMILY.network("256")
    with torch.device("meta"):
        generator = plain.generator([64, 128, 256, 512, 512, 512, 512, 512])
        assert count_macs(network) == macs_of(generator, 1, 3, 256, 256)


def test_the_discriminator_is_as_in_the_authors_code() -> None:
    agree(
        pix2pix.build_discriminator("d", width=4, image_size=(64, 64)),
        plain.discriminator([4, 8, 16, 32]),
        2,
        6,
        64,
        64,
    )
    # What the authors' code prints of its "basic" discriminator.
    assert pix2pix.build_discriminator("d").num_params == pytest.approx(2_769_000, abs=500)


@pytest.mark.parametrize(("depth", "side"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_is_as_large_as_the_paper_says(depth: int, side: int) -> None:
    record = pix2pix.build_discriminator("d", width=4, depth=depth, image_size=(160, 160))
    module = to_torch(record)
    x = torch.rand(1, 6, 160, 160, requires_grad=True)
    logits = module(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = x.grad.abs().sum((0, 1))
    assert int((seen.sum(0) > 0).sum()) == int((seen.sum(1) > 0).sum()) == side


def game(seed: int = 0) -> Any:
    module = to_torch(pix2pix.FAMILY.network("tiny"), starting_weights(pix2pix.FAMILY.network("tiny"), seed)).train()
    assert pix2pix.FAMILY.training.make_step is not None
    return module, pix2pix.FAMILY.training.make_step(module, pix2pix.FAMILY, seed)


def pair() -> tuple[dict[str, Any], dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    image, picture = torch.rand((2, 4, 3, 64, 64), generator=generator) * 2 - 1
    return {"image": image}, {"picture": picture}


def test_both_players_learn() -> None:
    module, step = game()
    before = module.get_parameter("model.model.3.weight").clone()
    shown = [step(*pair()) for _ in range(12)]
    assert shown[-1]["discriminator"] < shown[0]["discriminator"]
    assert shown[-1]["l1"] < shown[0]["l1"]
    assert not torch.equal(before, module.get_parameter("model.model.3.weight"))


def test_a_game_goes_on_as_it_was_left() -> None:
    module, step = game()
    for _ in range(3):
        step(*pair())
    resumed, again = game(seed=1)
    resumed.load_state_dict(module.state_dict())
    again.load_state_dict(deepcopy(step.state_dict()))  # as a checkpoint holds it
    for each in (step, again):
        each.at(0.75)  # half of the learning rate
    assert step(*pair()) == again(*pair())
    assert step(*pair()) == again(*pair())


# YOLOX


@pytest.mark.parametrize("is_depthwise", [False, True])
def test_yolox_is_as_in_the_authors_code(is_depthwise: bool) -> None:
    settings = {"width": 0.125, "depth": 0.67, "is_depthwise": is_depthwise, "image_size": (64, 96), "classes": 5}
    reference = plain.RelativeYolo(8, 2, 5, plain.Pair if is_depthwise else plain.Conv)
    agree(yolo.FAMILY.network("s", **settings), reference, 2, 3, 64, 96, tolerance=2e-5)


def test_published_yolox_costs_as_much_as_the_plain_one() -> None:
    with torch.device("meta"):
        assert count_macs(yolo.FAMILY.network("s")) == macs_of(plain.Yolo(32, 1, 80, plain.Conv), 1, 3, 640, 640)
        assert count_macs(yolo.FAMILY.network("nano")) == macs_of(plain.Yolo(16, 1, 80, plain.Pair), 1, 3, 416, 416)


def test_yolo_v8_is_as_its_diagram_says() -> None:
    settings = {"width": 0.125, "depth": 0.67, "image_size": (64, 64), "classes": 5}
    network = yolo.FAMILY.network("v8-nano", **settings)
    agree(network, YoloV8([8, 16, 32, 64, 128], [2, 4, 4, 2], 5), 2, 3, 64, 64, tolerance=2e-5)
    with torch.device("meta"):
        nano = YoloV8([16, 32, 64, 128, 256], [1, 2, 2, 1], 80)
        convolutions = macs_of(nano, 1, 3, 320, 320)
    assert count_macs(yolo.FAMILY.network("v8-nano")) == convolutions + 2100 * 4 * 16


# What the tiny weights can do


def tiny_score(family: Family) -> float:
    from safetensors.numpy import load_file

    network = family.network("tiny")
    module = to_torch(network, load_file(family.tiny_weights))
    return score(family, run_of(module), open_dataset(family.data).samples("test"), network.signature())


@pytest.mark.parametrize(("name", "least"), [("yolo", 0.9), ("unet", 0.9)])
def test_the_tiny_weights_do_what_is_said_of_them(name: str, least: float) -> None:
    family = FAMILIES[name]
    reached = tiny_score(family)
    assert reached == pytest.approx(family.score, abs=1e-3)
    assert reached >= least


def test_pix2pix_is_nearer_to_the_target_than_what_it_is_given() -> None:
    from PIL import Image

    given = []
    for sample in open_dataset(pix2pix.FAMILY.data).samples("test"):
        pictures = (np.asarray(Image.open(path), np.float64) for path in (sample.value, sample.truth["target"]))
        given.append(structural_similarity(*pictures))
    reached, before = tiny_score(pix2pix.FAMILY), float(np.mean(given))
    assert reached == pytest.approx(pix2pix.FAMILY.score, abs=1e-3)
    assert reached >= before + 0.2, f"SSIM {reached:.3f} of what is made, {before:.3f} of what is given"
