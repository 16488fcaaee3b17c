"""Families of sequences and sound, against the same nets of a framework's own layers, and the figures published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from edgekit.datasets import open_dataset
from edgekit.family import Family
from edgekit.models.autoencoder import FAMILY as AUTOENCODER
from edgekit.models.ds_cnn import FAMILY as DS_CNN
from edgekit.models.recurrent import GRU, LSTM
from edgekit.models.wavenet import FAMILY as WAVENET
from edgekit.models.wavenet import classes_of, receptive_field
from edgekit.network import Network, count_macs, starting_weights
from edgekit.network.torch_form import to_torch
from edgekit.registry import METRICS
from edgekit.training.step import run_of

FAMILIES = (LSTM, GRU, DS_CNN, AUTOENCODER, WAVENET)
PUBLISHED = [
    pytest.param(family, size, id=f"{family.name}:{size}")
    for family in FAMILIES
    for size, setting in family.sizes.items()
    if setting.paper is not None
]
BASE_BYTES = 1000
"""The paper's KB: with 1,024 none of its figures comes out."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights none of which is at a neutral value, such as a bias of zero."""
    generator = np.random.default_rng(seed)
    weights = starting_weights(network, seed)
    for name, array in weights.items():
        if array.ndim == 1:
            weights[name] = array + generator.uniform(0.05, 0.3, array.shape).astype(np.float32)
    return weights


@pytest.mark.parametrize(("family", "size"), PUBLISHED)
def test_published_figures(family: Family, size: str) -> None:
    paper = family.size(size).paper
    assert paper is not None
    assert paper.parameters or paper.macs
    network = family.network(size)
    if paper.parameters is not None:
        assert network.num_params == pytest.approx(paper.parameters, rel=paper.tolerance)
    if paper.macs is not None:
        assert count_macs(network, paper.sizes) == pytest.approx(paper.macs, rel=paper.tolerance)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_tiny_fits_in_the_wheel(family: Family) -> None:
    assert sum(param.size for param in family.network().params.values()) * 4 < 300_000


class TestRecurrent:
    """`rnn` and `fc` are PyTorch's own, under PyTorch's own names."""

    @pytest.mark.parametrize("bidirectional", [False, True])
    @pytest.mark.parametrize("steps", [1, 7, 25])
    @pytest.mark.parametrize(("family", "cell"), [(LSTM, torch.nn.LSTM), (GRU, torch.nn.GRU)], ids=["lstm", "gru"])
    def test_equals_torch(self, family: Family, cell: Any, steps: int, bidirectional: bool) -> None:
        network = family.network(bidirectional=bidirectional)
        weights = drawn(network)
        plain = torch.nn.ModuleDict(
            {
                "rnn": cell(12, 64, batch_first=True, bidirectional=bidirectional),
                "fc": torch.nn.Linear(128 if bidirectional else 64, 9),
            }
        )
        plain.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        x = torch.randn(3, steps, 12, generator=torch.Generator().manual_seed(steps))
        with torch.inference_mode():
            sequence, _ = plain["rnn"](x)
            last = sequence[:, -1]
            if bidirectional:
                last = torch.cat([sequence[:, -1, :64], sequence[:, 0, 64:]], 1)
            torch.testing.assert_close(to_torch(network, weights)(x), plain["fc"](last), rtol=1e-5, atol=1e-6)

    def test_layers_are_stacked_as_torch_stacks_them(self) -> None:
        network = LSTM.network("2x128", steps=20)
        weights = drawn(network)
        plain = torch.nn.LSTM(40, 128, num_layers=2, batch_first=True)
        stacked = {
            f"{part}_l{layer}": torch.from_numpy(weights[f"{name}.{part}_l0"])
            for layer, name in enumerate(("below.0", "rnn"))
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        plain.load_state_dict(stacked)
        x = torch.randn(2, 20, 40, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            last = plain(x)[0][:, -1]
            wanted = torch.nn.functional.linear(
                last, *(torch.from_numpy(weights[f"fc.{p}"]) for p in ("weight", "bias"))
            )
            torch.testing.assert_close(to_torch(network, weights)(x), wanted, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("family", "size", "memory_kb"),
        [
            (LSTM, "hello-edge-s", 63.3),
            (LSTM, "hello-edge-m", 196.5),
            (LSTM, "hello-edge-l", 494.5),
            (GRU, "hello-edge-s", 78.8),
            (GRU, "hello-edge-m", 200.0),
            (GRU, "hello-edge-l", 499.7),
        ],
        ids=lambda value: getattr(value, "name", value),
    )
    def test_memory_of_hello_edge(self, family: Family, size: str, memory_kb: float) -> None:
        """arXiv:1711.07128, table of the best networks: 8 bits for each weight, for the input, and a step's gates."""
        network, paper = family.network(size), family.size(size).paper
        assert paper is not None
        gates = network.params["rnn.bias_hh_l0"].size
        features = network.inputs[0].channels
        memory = network.num_params - gates + paper.sizes["steps"] * features + gates
        assert round(memory / BASE_BYTES, 1) == memory_kb


class TestDsCnn:
    @pytest.mark.parametrize(
        ("size", "memory_kb"), [("hello-edge-s", 38.6), ("hello-edge-m", 189.2), ("hello-edge-l", 497.6)]
    )
    def test_memory_of_hello_edge(self, size: str, memory_kb: float) -> None:
        """arXiv:1711.07128: 8 bits for each weight, norms folded, and for the largest two maps at a time."""
        network = DS_CNN.network(size)
        folded = sum(p.size for layer in network.layers if layer.op != "batch_norm" for p in layer.params.values())
        maps = [
            sum(int(np.prod(tensor.shape[1:])) for tensor in (*layer.inputs, layer.output))
            for layer in network.layers
            if layer.op == "conv"
        ]
        assert round((folded + max(maps)) / BASE_BYTES, 1) == memory_kb

    def test_equals_the_reference_of_mlperf_tiny(self) -> None:
        """Layers as keyword_spotting/keras_model.py of mlcommons/tiny lists them, but for the mean over all frames."""
        keras = pytest.importorskip("keras")
        from edgekit.network.keras_form import to_keras

        layers = keras.layers
        x = inputs = keras.Input((49, 10, 1))
        for kernel, stride in [((10, 4), 2), *[(3, 1), (1, 1)] * 4]:
            make = layers.DepthwiseConv2D if kernel == 3 else lambda size, **more: layers.Conv2D(64, size, **more)
            x = make(kernel, strides=stride, padding="same")(x)
            x = layers.Activation("relu")(layers.BatchNormalization()(x))
        plain = keras.Model(inputs, layers.Dense(12)(layers.GlobalAveragePooling2D()(x)))
        network = DS_CNN.network("mlperf-tiny")
        twin = to_keras(network, drawn(network))
        assert plain.count_params() == twin.count_params() == 24_908
        assert sum(int(np.prod(w.shape)) for w in twin.non_trainable_weights) == 1_152
        assert network.num_params == 24_908 - 1_152
        plain.set_weights(twin.get_weights())
        x = np.random.default_rng(1).standard_normal((2, 49, 10, 1)).astype(np.float32)
        np.testing.assert_allclose(one(twin([x])), one(plain(x)), rtol=1e-5, atol=1e-5)


def one(outputs: Any) -> np.ndarray:
    return np.asarray(next(iter(outputs.values())) if isinstance(outputs, dict) else outputs)


def test_autoencoder_equals_the_reference_of_mlperf_tiny() -> None:
    """Layers as anomaly_detection/keras_model.py of mlcommons/tiny lists them."""
    keras = pytest.importorskip("keras")
    from edgekit.network.keras_form import to_keras

    layers = keras.layers
    x = inputs = keras.Input((640,))
    for width in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = layers.Activation("relu")(layers.BatchNormalization()(layers.Dense(width)(x)))
    plain = keras.Model(inputs, layers.Dense(640)(x))
    network = AUTOENCODER.network("mlperf-tiny")
    twin = to_keras(network, drawn(network))
    assert plain.count_params() == twin.count_params() == 269_992
    assert count_macs(network) == 2 * 640 * 128 + 6 * 128 * 128 + 2 * 128 * 8
    plain.set_weights(twin.get_weights())
    x = np.random.default_rng(2).standard_normal((3, 640)).astype(np.float32)
    np.testing.assert_allclose(one(twin([x])), one(plain(x)), rtol=1e-5, atol=1e-5)


class PlainWaveNet(torch.nn.Module):
    """As section 2 of arXiv:1609.03499 has it: figure 4, with dilated convolutions cut at the front."""

    def __init__(
        self, blocks: int, layers: int, residual: int, gated: int, skip: int, end: int, first_kernel: int,
        kernel: int = 2, said: int = 256,
    ):  # fmt: skip
        super().__init__()
        conv = torch.nn.Conv1d
        self.dilations = [2**layer for _ in range(blocks) for layer in range(layers)]
        self.start_conv = conv(1, residual, first_kernel)
        self.filter_convs = torch.nn.ModuleList(conv(residual, gated, kernel, dilation=d) for d in self.dilations)
        self.gate_convs = torch.nn.ModuleList(conv(residual, gated, kernel, dilation=d) for d in self.dilations)
        self.residual_convs = torch.nn.ModuleList(conv(gated, residual, 1) for _ in self.dilations)
        self.skip_convs = torch.nn.ModuleList(conv(gated, skip, 1) for _ in self.dilations)
        self.end_conv_1, self.end_conv_2 = conv(skip, end, 1), conv(end, said, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def before(x: torch.Tensor, reach: int) -> torch.Tensor:
            return torch.cat([torch.zeros(*x.shape[:2], reach, dtype=x.dtype), x], 2)

        x = self.start_conv(before(x.transpose(1, 2), self.start_conv.kernel_size[0] - 1))
        total: Any = 0
        for index, dilation in enumerate(self.dilations):
            past = before(x, dilation * (self.filter_convs[index].kernel_size[0] - 1))
            inner = torch.tanh(self.filter_convs[index](past)) * torch.sigmoid(self.gate_convs[index](past))
            total = total + self.skip_convs[index](inner)
            x = x + self.residual_convs[index](inner)
        return self.end_conv_2(torch.relu(self.end_conv_1(torch.relu(total)))).transpose(1, 2)


class TestWaveNet:
    @pytest.mark.parametrize("size", list(WAVENET.sizes))
    def test_equals_the_same_in_plain_torch(self, size: str) -> None:
        network = WAVENET.network(size)
        weights = drawn(network)
        plain = PlainWaveNet(**{"first_kernel": 1, **WAVENET.size(size).settings})
        unused = {name for name in plain.state_dict() if name not in weights}
        last = len(plain.dilations) - 1
        assert unused == {f"residual_convs.{last}.weight", f"residual_convs.{last}.bias"}
        plain.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()}, strict=False)
        x = torch.rand(2, 150, 1, generator=torch.Generator().manual_seed(3)) * 2 - 1
        with torch.inference_mode():
            torch.testing.assert_close(to_torch(network, weights)(x), plain(x), rtol=1e-4, atol=1e-4)

    def test_published_count_is_of_the_implementation_named(self) -> None:
        paper = WAVENET.size("published").paper
        assert paper is not None
        plain = PlainWaveNet(**WAVENET.size("published").settings, first_kernel=1)
        assert sum(parameter.numel() for parameter in plain.parameters()) == paper.parameters

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"blocks": 1, "layers": 10, "first_kernel": 1}, 1024),  # section 2.1: a block 1, 2, 4, ..., 512
            ({"blocks": 3, "layers": 10, "first_kernel": 1}, 3070),
            (WAVENET.size("tiny").settings, 257),
            ({"blocks": 2, "layers": 6, "first_kernel": 1, "kernel": 3, "said": 1}, 253),
        ],
        ids=["one block", "published", "tiny", "three samples"],
    )
    def test_depends_on_the_receptive_field_and_nothing_else(self, settings: dict[str, int], field: int) -> None:
        narrow = {**settings, "residual": 4, "gated": 4, "skip": 4, "end": 4}
        network = WAVENET.build("narrow", **narrow)
        assert receptive_field(**narrow) == field
        module = to_torch(network, drawn(network)).double()
        x = torch.rand(1, field + 40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        place = field + 19

        def answers(changed: int) -> torch.Tensor:
            other = x.clone()
            other[0, changed] -= 0.5
            with torch.inference_mode():
                return module(other)[0]

        with torch.inference_mode():
            before = module(x)[0]
        first = place - field + 1
        assert torch.equal(answers(place + 1)[: place + 1], before[: place + 1]), "the future has an influence"
        assert not torch.equal(answers(place)[place], before[place])
        assert torch.equal(answers(first - 1)[place], before[place]), "the field is larger"
        # What the first of them contributes may be lost in rounding after thirty layers, but its slope is not zero.
        slopes = torch.autograd.grad(module(x.requires_grad_())[0, place].sum(), x)[0][0, :, 0]
        assert slopes.nonzero().flatten().tolist() == list(range(first, place + 1))

    def test_shipped_weights_know_what_comes_next(self) -> None:
        """Far more than how often each class occurs, or each difference from the sample before."""
        network = WAVENET.network()
        module = to_torch(network, load_file(WAVENET.tiny_weights))
        samples, signature = open_dataset("tones").samples("test", limit=4), network.signature()
        feeds = [WAVENET.processing.before(sample.value, signature)["levels"][0, :, 0] for sample in samples]
        classes = [classes_of(levels) for levels in feeds]
        assert WAVENET.judge is not None
        bits = WAVENET.judge(run_of(module), samples, signature)
        assert bits < entropy_bits(np.concatenate(classes)) - 2
        assert bits < entropy_bits(np.concatenate([np.diff(of_one) for of_one in classes])) - 1


def entropy_bits(values: np.ndarray) -> float:
    _, counts = np.unique(values, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def test_autoencoder_hears_more_than_how_far_a_sound_is_from_the_mean() -> None:
    """Neither loudness nor the distance from the mean of all that is normal tells the damaged machine apart as well."""
    network, data = AUTOENCODER.network(), open_dataset("hum")
    signature, processing = network.signature(), AUTOENCODER.processing
    run = run_of(to_torch(network, load_file(AUTOENCODER.tiny_weights)))
    normal = [processing.batches(s.value, signature)[0]["frames"] for s in data.samples("train", limit=20)]
    mean = np.concatenate(normal).mean(axis=0)
    found: dict[str, list[Any]] = {"net": [], "loudness": [], "distance": []}
    truths = []
    for sample in data.samples("test"):
        frames = processing.batches(sample.value, signature)[0]
        found["net"].append(processing.after(run(frames), frames))
        found["loudness"].append(float(frames["frames"].mean()))
        found["distance"].append(float(np.square(frames["frames"] - mean).mean()))
        truths.append(sample.truth)
    area = {name: METRICS.get("auc").compute(answers, truths, data.labels) for name, answers in found.items()}
    assert area["net"] == pytest.approx(AUTOENCODER.score, abs=AUTOENCODER.tolerance)
    assert area["net"] > max(area["loudness"], area["distance"]) + 0.1
