"""The record: shapes, names, costs, and starting weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.network import AttentionNames, Cache, Network, Param, Tensor, count_macs, starting_weights
from edgekit.network.weightless import ACTIVATIONS
from edgekit.spec import StatePair

NAMES = AttentionNames("q", "k", "v", "o")


def image(network: Network, channels: int = 3, size: tuple[int, ...] = (9, 8)) -> Tensor:
    return network.input("image", ("batch", channels, *size), is_spatial=True)


@pytest.mark.parametrize(
    ("settings", "shape", "pads"),
    [
        ({"kernel": 3}, (9, 8), ((1, 1), (1, 1))),
        ({"kernel": 2}, (9, 8), ((0, 1), (0, 1))),
        ({"kernel": 3, "stride": 2}, (5, 4), ((1, 1), (0, 1))),
        ({"kernel": 3, "dilation": 2}, (9, 8), ((2, 2), (2, 2))),
        ({"kernel": (1, 5), "stride": (3, 1)}, (3, 8), ((0, 0), (2, 2))),
        ({"kernel": 3, "stride": 2, "padding": 1}, (5, 4), ((1, 1), (1, 1))),
        ({"kernel": 4, "stride": 4, "padding": 0}, (2, 2), ((0, 0), (0, 0))),
    ],
)
def test_sizes_of_convolutions(
    settings: dict[str, Any], shape: tuple[int, ...], pads: tuple[tuple[int, int], ...]
) -> None:
    network = Network("n")
    y = network.conv(image(network), "c", 5, **settings)
    assert y.shape == ("batch", 5, *shape)
    assert y.is_spatial
    assert network.layers[-1].options["pads"] == pads


def test_a_causal_convolution_looks_back_only() -> None:
    network = Network("n")
    y = network.conv(image(network, size=(10,)), "c", 5, 3, dilation=4, padding="causal")
    assert (y.shape, network.layers[-1].options["pads"]) == (("batch", 5, 10), ((8, 0),))


def test_an_open_size_stays_open_or_is_refused() -> None:
    network = Network("n")
    x = network.input("x", ("batch", 3, "steps"), is_spatial=True)
    assert network.conv(x, "same", 5, 3).shape == ("batch", 5, "steps")
    with pytest.raises(UnsupportedError, match="fixed size"):
        network.conv(x, "strided", 5, 3, stride=2)
    with pytest.raises(UnsupportedError, match="steps"):
        network.conv(x, "shrinking", 5, 3, padding=0)
    with pytest.raises(UnsupportedError, match="no fixed size along axis 2"):
        network.upsample(x)


def test_shapes_of_what_owns_weights() -> None:
    network = Network("n")
    x = image(network)
    assert network.conv_transpose(x, "t", 5, 4, stride=2).shape == ("batch", 5, 18, 16)
    steps = network.input("x", ("batch", "steps", 6))
    assert network.dense(steps, "d", 4).shape == ("batch", "steps", 4)
    assert network.lstm(steps, "l1", 5).shape == ("batch", "steps", 5)
    assert network.lstm(steps, "l2", 5, sequences=False, bidirectional=True).shape == ("batch", 10)
    assert network.gru(steps, "g", 5, bidirectional=True).shape == ("batch", "steps", 10)
    ids = network.input("ids", ("batch", "steps"), "int64")
    rows = network.embedding(ids, "e", 7, 6)
    assert (rows.shape, rows.dtype) == (("batch", "steps", 6), "float32")
    assert network.attention(rows, "a", NAMES, heads=2).shape == rows.shape


def test_shapes_of_what_owns_none() -> None:
    network = Network("n")
    x = image(network, 4, (8, 6))
    assert network.max_pool(x, 3, stride=2, padding="same").shape == ("batch", 4, 4, 3)
    assert network.avg_pool(x, 3, stride=2).shape == ("batch", 4, 3, 2)
    assert network.upsample(x, 3).shape == ("batch", 4, 24, 18)
    assert network.pad(x, ((1, 2), (0, 3))).shape == ("batch", 4, 11, 9)
    assert network.crop(x, ((1, 2), (0, 3))).shape == ("batch", 4, 5, 3)
    assert network.concat([x, x]).shape == ("batch", 8, 8, 6)
    assert network.slice(x, 1, -1).shape == ("batch", 2, 8, 6)
    assert network.space_to_depth(x).shape == ("batch", 16, 4, 3)
    pooled = network.global_avg_pool(x)
    assert (pooled.shape, pooled.is_spatial) == (("batch", 4), False)
    steps = network.to_steps(x)
    assert (steps.shape, steps.is_spatial) == (("batch", 48, 4), False)
    back = network.to_spatial(steps, (8, 6))
    assert (back.shape, back.is_spatial) == (x.shape, True)
    assert network.step(steps, -1).shape == network.mean_steps(steps).shape == ("batch", 4)
    assert network.reshape(steps, (12, 16)).shape == ("batch", 12, 16)


def test_what_is_spread_takes_the_larger_size() -> None:
    network = Network("n")
    x = image(network, 4, (8, 6))
    gate = network.to_spatial(network.global_avg_pool(x), (1, 1))
    assert network.product(x, gate).shape == network.product(gate, x).shape == x.shape
    with pytest.raises(UnsupportedError, match="do not go together"):
        network.sum(x, network.global_avg_pool(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda net, x: net.activation(x, "swoosh"),
        lambda net, x: net.reshape(x, (216,)),
        lambda net, x: net.affine(x, np.ones(3)),
        lambda net, x: net.conv_transpose(x, "t", 4, 3, stride=2),
        lambda net, x: net.conv_transpose(x, "t", 4, 1, stride=2),
        lambda net, x: net.upsample(net.input("signal", ("batch", 3, 8), is_spatial=True), mode="bilinear"),
    ],
)
def test_what_has_no_twin_in_every_framework_is_refused(make: Callable[[Network, Tensor], Tensor]) -> None:
    network = Network("n")
    x = image(network)
    with pytest.raises(UnsupportedError):
        make(network, x)


def test_names_are_unique() -> None:
    network = Network("n")
    x = network.input("x", ("batch", 3))
    y = network.dense(x, "d", 4)
    with pytest.raises(ValueError, match="'d' already"):
        network.dense(x, "d", 4)
    with pytest.raises(ValueError, match="'x' already"):
        network.input("x", ("batch", 3))
    network.output(y, "y")
    with pytest.raises(ValueError, match="'y' already"):
        network.output(y, "y")


def test_layers_without_a_name_get_one_each() -> None:
    network = Network("n")
    x = network.input("x", ("batch", 3))
    for kind in ACTIVATIONS:
        x = network.activation(x, kind)
    assert len({layer.name for layer in network.layers}) == len(ACTIVATIONS)
    assert network.ops == ["activation"]


def test_a_signature_says_names_layouts_and_state() -> None:
    network = Network("n")
    x = image(network)
    memory = network.input("memory", ("batch", 5))
    network.output(network.conv(x, "c", 2, 3), "map")
    network.output(network.relu(memory), "new_memory", state_of="memory")
    signature = network.signature()
    assert [(spec.name, spec.shape) for spec in signature.inputs] == [
        ("image", ("batch", 3, 9, 8)),
        ("memory", ("batch", 5)),
    ]
    assert signature.output("map").shape == ("batch", 2, 9, 8)
    assert signature.state == (StatePair("memory", "new_memory"),)
    turned = network.signature(channels_last=True)
    assert turned.input("image").shape == ("batch", 9, 8, 3)
    assert turned.output("map").shape == ("batch", 9, 8, 2)
    assert turned.input("memory").shape == ("batch", 5)


def test_weights_have_pytorchs_names_layouts_and_order() -> None:
    network = Network("n")
    x = network.batch_norm(network.conv(image(network), "stem.0", 4, 3, groups=1), "stem.1")
    x = network.dense(network.global_avg_pool(network.depthwise(x, "deep", 5)), "fc", 2)
    network.output(x, "y")
    assert {name: param.shape for name, param in network.params.items()} == {
        "stem.0.weight": (4, 3, 3, 3),
        "stem.0.bias": (4,),
        "stem.1.weight": (4,),
        "stem.1.bias": (4,),
        "stem.1.running_mean": (4,),
        "stem.1.running_var": (4,),
        "deep.weight": (4, 1, 5, 5),
        "fc.weight": (2, 4),
        "fc.bias": (2,),
    }
    assert network.num_params == 108 + 4 + 4 + 4 + 100 + 8 + 2  # running statistics are not trained
    assert list(starting_weights(network)) == list(network.params)


def test_weights_of_recurrent_layers_and_attention() -> None:
    network = Network("n")
    x = network.input("x", ("batch", "steps", 6))
    network.attention(network.gru(x, "g", 3, bidirectional=True), "a", NAMES, heads=2)
    shapes = {name: param.shape for name, param in network.params.items()}
    assert shapes["g.weight_ih_l0_reverse"] == (9, 6)
    assert shapes["g.bias_hh_l0"] == (9,)
    assert {name for name in shapes if not name.startswith("g.")} == {
        f"{part}.{kind}" for part in "qkvo" for kind in ("weight", "bias")
    }


def test_a_shared_weight_counts_once() -> None:
    network = Network("n")
    rows = network.embedding(network.input("ids", ("batch", "steps"), "int64"), "table", 9, 4)
    shared = network.layers[-1].params["weight"]
    network.add("dense", [rows], ("batch", "steps", 9), name="head", params={"weight": shared})
    assert network.num_params == 36
    assert count_macs(network, {"steps": 5}) == 5 * 36  # looking up costs nothing


def test_costs_by_hand() -> None:
    network = Network("n")
    x = image(network, 4, (8, 6))
    y = network.conv(x, "c", 6, 3, stride=2, groups=2)
    assert count_macs(network) == (4 * 3 * 6) * (2 * 9)
    before = count_macs(network)
    y = network.conv_transpose(y, "t", 5, 4, stride=2)
    assert count_macs(network) - before == (4 * 3 * 6) * (5 * 16)
    before = count_macs(network)
    network.dense(network.global_avg_pool(y), "d", 7)
    assert count_macs(network) - before == 35


def test_costs_of_sequences_need_their_length() -> None:
    network = Network("n")
    x = network.input("x", ("batch", "steps", 8))
    network.lstm(x, "l", 3, bidirectional=True)
    network.attention(x, "a", NAMES, heads=2)
    with pytest.raises(UnsupportedError, match="steps"):
        count_macs(network)
    lstm, attention = 5 * 2 * (12 * 8 + 12 * 3), 5 * 4 * 64 + 2 * 5 * 5 * 8
    assert count_macs(network, {"steps": 5}) == lstm + attention


def test_the_cost_of_a_cache_is_all_of_it() -> None:
    network = Network("n")
    x = network.input("x", ("batch", "steps", 16))
    keys, values = (network.input(name, ("batch", 2, 12, 4)) for name in ("keys", "values"))
    cache = Cache(keys, values, network.input("positions", ("steps",), "int64"))
    given = network.cached_attention(x, "a", NAMES, cache, heads=4, key_heads=2, rotary_base=100.0)
    assert [tensor.shape for tensor in given] == [x.shape, keys.shape, values.shape]
    assert network.params["k.weight"].shape == (8, 16)
    assert count_macs(network, {"steps": 3}) == 3 * (2 * 16 * 16 + 2 * 8 * 16) + 2 * 3 * 12 * 16


def _drawn(start: str, shape: tuple[int, ...], seed: int = 0, name: str = "w") -> np.ndarray:
    network = Network("n")
    x = network.input("x", ("batch", 3))
    network.add("dense", [x], ("batch", 3), name="d", params={"weight": Param(name, shape, start)})
    return starting_weights(network, seed)[name]


@pytest.mark.parametrize(
    ("start", "shape", "deviation", "limit"),
    [
        ("he", (64, 32, 3, 3), math.sqrt(2 / (64 * 9)), None),
        ("glorot", (64, 320), math.sqrt(6 / 384) / math.sqrt(3), math.sqrt(6 / 384)),
        ("recurrent:25", (100, 200), 0.2 / math.sqrt(3), 0.2),
        ("normal:0.02", (100, 200), 0.02, None),
    ],
)
def test_starting_weights_spread_as_their_rule_says(
    start: str, shape: tuple[int, ...], deviation: float, limit: float | None
) -> None:
    drawn = _drawn(start, shape)
    assert (drawn.shape, drawn.dtype) == (shape, np.float32)
    assert drawn.std() == pytest.approx(deviation, rel=0.03)
    assert abs(drawn.mean()) < deviation / 20
    if limit is not None:
        assert 0.95 * limit < np.abs(drawn).max() <= limit


def test_constant_starts() -> None:
    assert (_drawn("zeros", (3,)) == 0).all()
    assert (_drawn("ones", (3,)) == 1).all()
    assert (_drawn("value:-2.5", (3,)) == -2.5).all()
    with pytest.raises(ValueError, match="no rule"):
        _drawn("magic", (3,))


def test_starting_weights_depend_on_seed_and_name_only() -> None:
    first = _drawn("he", (8, 8))
    np.testing.assert_array_equal(first, _drawn("he", (8, 8)))
    assert not np.array_equal(first, _drawn("he", (8, 8), seed=1))
    assert not np.array_equal(first, _drawn("he", (8, 8), name="v"))
    np.testing.assert_allclose(first[0, :2], FIRST, rtol=1e-5)


FIRST = (-0.1168419, 0.1611395)
"""Of seed 0: NumPy keeps its streams, and so must the rules."""
