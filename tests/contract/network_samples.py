"""A tiny network for every op of the record and every option that changes arithmetic, with weights and feeds."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.network import AttentionNames, Cache, Network, Tensor
from edgekit.network.weightless import ACTIVATIONS

__all__ = ["CASES", "SIZES", "build", "feeds_of", "keras_answers", "weights_of"]

SIZES = ({"batch": 1, "steps": 4}, {"batch": 3, "steps": 7})
"""What symbolic sizes are in the feeds."""

LIMIT = 9
"""Ids are below it."""

Build = Callable[[Network], Tensor | dict[str, Tensor]]

NAMES = AttentionNames("q", "self.k", "self.v", "o")


def _image(net: Network, channels: int = 4, size: tuple[int, ...] = (8, 6)) -> Tensor:
    return net.input("image", ("batch", channels, *size), is_spatial=True)


def _signal(net: Network, channels: int = 4, size: int = 9) -> Tensor:
    return net.input("signal", ("batch", channels, size), is_spatial=True)


def _steps(net: Network, width: int = 6, steps: int | str = "steps") -> Tensor:
    return net.input("x", ("batch", steps, width))


def _flat(net: Network, width: int = 6) -> Tensor:
    return net.input("x", ("batch", width))


def _tied(net: Network) -> Tensor:
    """The table of the embedding is the matrix of the last layer as well, as in GPT-2."""
    rows = net.embedding(net.input("ids", ("batch", "steps"), "int64"), "table", LIMIT, 6)
    shared = net.layers[-1].params["weight"]
    return net.add("dense", [rows], (*rows.shape[:-1], LIMIT), name="head", params={"weight": shared})


def _cached(key_heads: int) -> Build:
    def build(net: Network) -> dict[str, Tensor]:
        x = net.input("x", ("batch", "steps", 16))
        keys, values = (net.input(name, ("batch", key_heads, 12, 4)) for name in ("old_keys", "old_values"))
        positions = net.input("positions", ("steps",), "int64")
        cache = Cache(keys, values, positions)
        settings = {"heads": 4, "key_heads": key_heads, "rotary_base": 100.0}
        given = net.cached_attention(x, "attention", NAMES, cache, **settings)
        return dict(zip(("y", "keys", "values"), given, strict=True))

    return build


def _several(net: Network) -> dict[str, Tensor]:
    """One tensor under two names, an input that is an output, an output inside, a layer named as an output is."""
    x = _flat(net)
    inner = net.dense(x, "y", 5)
    again = net.dropout(inner, 0.5)
    return {"same": x, "inner": inner, "twice": again, "y": net.relu(inner)}


def _inverted_residual(net: Network) -> Tensor:
    x = _image(net, 8)
    y = net.activation(net.batch_norm(net.conv(x, "expand", 16, 1, bias=False), "bn1"), "relu6")
    y = net.activation(net.batch_norm(net.depthwise(y, "depth", 3), "bn2", epsilon=1e-3), "hard_swish")
    gate = net.to_spatial(net.activation(net.dense(net.global_avg_pool(y), "gate", 16), "sigmoid"), (1, 1))
    return net.sum(x, net.batch_norm(net.conv(net.product(y, gate), "project", 8, 1, bias=False), "bn3"))


def _activation(kind: str) -> Build:
    return lambda net: net.activation(net.affine(_flat(net), 3.0), kind)


CASES: dict[str, Build] = {
    "conv": lambda net: net.conv(_image(net), "c", 5, 3),
    "conv strided, odd and even sizes": lambda net: net.conv(_image(net, size=(7, 6)), "c", 5, 3, stride=2),
    "conv of another kernel each way": lambda net: net.conv(_image(net), "c", 5, (1, 4), stride=(2, 1), bias=False),
    "conv dilated": lambda net: net.conv(_image(net), "c", 5, 3, dilation=2),
    "conv padded by numbers": lambda net: net.conv(_image(net), "c", 5, 3, stride=2, padding=1),
    "conv without padding": lambda net: net.conv(_image(net), "c", 5, 4, stride=4, padding=0),
    "conv in groups": lambda net: net.conv(_image(net), "c", 6, 3, groups=2),
    "depthwise": lambda net: net.depthwise(_image(net), "c", 3),
    "depthwise strided": lambda net: net.depthwise(_image(net), "c", 5, stride=2, bias=True),
    "depthwise padded by numbers": lambda net: net.depthwise(_image(net), "c", 3, stride=2, padding=1),
    "depthwise dilated": lambda net: net.conv(_image(net), "c", 4, 3, groups=4, dilation=2),
    "depthwise multiplied": lambda net: net.conv(_image(net), "c", 8, 3, groups=4),
    "depthwise of a signal": lambda net: net.depthwise(_signal(net), "c", 3),
    "conv of a signal": lambda net: net.conv(_signal(net), "c", 5, 4, stride=2),
    "conv causal": lambda net: net.conv(_signal(net), "c", 5, 3, dilation=2, padding="causal"),
    "conv causal and strided": lambda net: net.conv(_signal(net), "c", 5, 3, stride=2, padding="causal"),
    "conv of an open size": lambda net: net.conv(
        net.input("x", ("batch", 3, "steps"), is_spatial=True), "c", 5, 3, padding="causal"
    ),
    "conv_transpose": lambda net: net.conv_transpose(_image(net), "c", 5, 4, stride=2),
    "conv_transpose without overlap": lambda net: net.conv_transpose(_image(net), "c", 5, 2, stride=2, bias=False),
    "conv_transpose of a signal": lambda net: net.conv_transpose(_signal(net), "c", 5, 8, stride=4),
    "dense": lambda net: net.dense(_flat(net), "d", 5),
    "dense without bias": lambda net: net.dense(_flat(net), "d", 5, bias=False),
    "dense of steps": lambda net: net.dense(_steps(net), "d", 5),
    "dense of steps without bias": lambda net: net.dense(_steps(net), "d", 5, bias=False),
    "dense tied": _tied,
    "batch_norm": lambda net: net.batch_norm(_image(net), "n", epsilon=1e-2),
    "batch_norm of a signal": lambda net: net.batch_norm(_signal(net), "n"),
    "batch_norm of features": lambda net: net.batch_norm(_flat(net), "n"),
    "batch_norm of steps": lambda net: net.batch_norm(_steps(net), "n"),
    "layer_norm": lambda net: net.layer_norm(_steps(net), "n", epsilon=1e-2),
    "layer_norm of features": lambda net: net.layer_norm(_flat(net), "n"),
    "rms_norm": lambda net: net.rms_norm(_steps(net), "n", epsilon=1e-2),
    "group_norm": lambda net: net.group_norm(_image(net), "n", 2, epsilon=1e-2),
    "group_norm of a signal": lambda net: net.group_norm(_signal(net), "n", 2),
    "group_norm of an open size": lambda net: net.group_norm(
        net.input("x", ("batch", 4, "steps"), is_spatial=True), "n", 2
    ),
    "group_norm of one": lambda net: net.group_norm(_image(net), "n", 1),
    "embedding": lambda net: net.embedding(net.input("ids", ("batch", "steps"), "int64"), "e", LIMIT, 5),
    "embedding of one": lambda net: net.embedding(net.input("ids", ("batch",), "int64"), "e", LIMIT, 5),
    "add_positions": lambda net: net.add_positions(_steps(net), "p", 8),
    "add_positions to fewer": lambda net: net.add_positions(_steps(net, steps=5), "p", 8),
    "add_positions to all": lambda net: net.add_positions(_steps(net, steps=5), "p", 5),
    "lstm": lambda net: net.lstm(_steps(net), "r", 5),
    "lstm last": lambda net: net.lstm(_steps(net), "r", 5, sequences=False),
    "lstm both ways": lambda net: net.lstm(_steps(net), "r", 5, bidirectional=True),
    "lstm both ways, last": lambda net: net.lstm(_steps(net), "r", 5, sequences=False, bidirectional=True),
    "gru": lambda net: net.gru(_steps(net), "r", 5),
    "gru last": lambda net: net.gru(_steps(net), "r", 5, sequences=False),
    "gru both ways": lambda net: net.gru(_steps(net), "r", 5, bidirectional=True),
    "gru both ways, last": lambda net: net.gru(_steps(net), "r", 5, sequences=False, bidirectional=True),
    "attention": lambda net: net.attention(_steps(net), "a", NAMES, heads=2),
    "attention without bias": lambda net: net.attention(_steps(net), "a", NAMES, heads=3, bias=False),
    "attention masked": lambda net: net.attention(
        _steps(net), "a", NAMES, heads=2, mask=net.input("mask", ("batch", "steps"), "int64")
    ),
    "cached_attention": _cached(4),
    "cached_attention of shared keys": _cached(2),
    "cached_attention of one key": _cached(1),
    **{f"activation {kind}": _activation(kind) for kind in ACTIVATIONS},
    "leaky_relu of a slope": lambda net: net.activation(_flat(net), "leaky_relu", slope=0.3),
    "softmax": lambda net: net.softmax(_steps(net)),
    "softmax of channels": lambda net: net.softmax(_image(net)),
    "dropout": lambda net: net.dropout(_flat(net), 0.5),
    "sum": lambda net: net.sum(_image(net), net.input("other", ("batch", 4, 8, 6), is_spatial=True)),
    "sum spread": lambda net: net.sum(_image(net), net.input("other", ("batch", 4, 1, 1), is_spatial=True)),
    "product": lambda net: net.product(_flat(net), net.input("other", ("batch", 6))),
    "product spread": lambda net: net.product(
        net.to_spatial(net.global_avg_pool(_image(net)), (1, 1)),
        net.input("other", ("batch", 4, 3, 2), is_spatial=True),
    ),
    "product of steps spread": lambda net: net.product(_steps(net), net.input("other", ("batch", 1, 6))),
    "affine": lambda net: net.affine(_image(net), 2.0, -1.0),
    "affine neutral": lambda net: net.affine(_flat(net)),
    "affine scale": lambda net: net.affine(_flat(net), 0.5),
    "affine offset": lambda net: net.affine(_image(net), offset=0.5),
    "affine of arrays": lambda net: net.affine(_steps(net), np.arange(6) / 3, np.arange(6) - 2.0),
    "concat": lambda net: net.concat([_flat(net), net.input("other", ("batch", 3))]),
    "concat of channels": lambda net: net.concat(
        [_image(net), net.input("other", ("batch", 2, 8, 6), is_spatial=True)]
    ),
    "concat of steps": lambda net: net.concat([_steps(net, steps=3), net.input("other", ("batch", 2, 6))], axis=1),
    "slice": lambda net: net.slice(_steps(net), 1, 4),
    "slice to the last but one": lambda net: net.slice(_flat(net), 0, -1),
    "slice of channels": lambda net: net.slice(_image(net), 1, 3),
    "slice of steps": lambda net: net.slice(_steps(net, steps=5), 1, 3, axis=1),
    "max_pool": lambda net: net.max_pool(_image(net), 2),
    "max_pool padded": lambda net: net.max_pool(_image(net), 3, stride=2, padding=1),
    "max_pool same": lambda net: net.max_pool(_image(net, size=(7, 6)), 3, stride=2, padding="same"),
    "max_pool of a signal": lambda net: net.max_pool(_signal(net), 2),
    "avg_pool": lambda net: net.avg_pool(_image(net), 2),
    "avg_pool overlapping": lambda net: net.avg_pool(_image(net), 3, stride=2),
    "avg_pool of a signal": lambda net: net.avg_pool(_signal(net), 3),
    "global_avg_pool": lambda net: net.global_avg_pool(_image(net)),
    "global_avg_pool of a signal": lambda net: net.global_avg_pool(_signal(net)),
    "mean_steps": lambda net: net.mean_steps(_steps(net)),
    "masked_mean": lambda net: net.masked_mean(_steps(net), net.input("mask", ("batch", "steps"), "int64")),
    "unit_length": lambda net: net.unit_length(_steps(net)),
    "unit_length of channels": lambda net: net.unit_length(_image(net)),
    "unit_length of features": lambda net: net.unit_length(_flat(net)),
    "upsample nearest": lambda net: net.upsample(_image(net), 3),
    "upsample bilinear": lambda net: net.upsample(_image(net), 2, mode="bilinear"),
    "upsample of a signal": lambda net: net.upsample(_signal(net), 2),
    "space_to_depth": lambda net: net.space_to_depth(_image(net)),
    "pad": lambda net: net.pad(_image(net), ((1, 2), (0, 3))),
    "pad of a signal": lambda net: net.pad(_signal(net), ((2, 1),)),
    "crop": lambda net: net.crop(_image(net), ((1, 2), (0, 3))),
    "crop of a signal": lambda net: net.crop(_signal(net), ((2, 0),)),
    "to_steps": lambda net: net.to_steps(_image(net)),
    "to_steps of a signal": lambda net: net.to_steps(_signal(net)),
    "to_spatial": lambda net: net.to_spatial(_steps(net, steps=12), (3, 4)),
    "to_spatial of a signal": lambda net: net.to_spatial(_steps(net, steps=12), (12,)),
    "to_spatial of features": lambda net: net.to_spatial(_flat(net), (1, 1)),
    "to_spatial of features, a signal": lambda net: net.to_spatial(_flat(net), (1,)),
    "step": lambda net: net.step(_steps(net), 2),
    "step last": lambda net: net.step(_steps(net), -1),
    "reshape": lambda net: net.reshape(_flat(net, 12), (3, 4)),
    "reshape to features": lambda net: net.reshape(_steps(net, steps=5), (30,)),
    "reshape of steps": lambda net: net.reshape(_steps(net, steps=4), (2, 2, 6)),
    "several outputs": _several,
    "inverted residual": _inverted_residual,
}


def build(case: str) -> Network:
    """The network of a case; its outputs are ``y`` or what the case names."""
    network = Network("sample")
    given = CASES[case](network)
    for name, tensor in (given if isinstance(given, dict) else {"y": given}).items():
        state_of = f"old_{name}" if f"old_{name}" in {x.name for x in network.inputs} else None
        network.output(tensor, name, state_of=state_of)
    return network


def weights_of(network: Network, seed: int = 7) -> dict[str, np.ndarray]:
    """Weights that no rule of starting gives: nothing is zero, one, or the same for two channels."""
    generator = np.random.default_rng(seed)
    return {
        name: (0.5 + generator.random(param.shape) if "var" in name else generator.standard_normal(param.shape) * 0.4)
        .astype("float32")
        for name, param in network.params.items()
    }  # fmt: skip


def feeds_of(network: Network, sizes: dict[str, int], seed: int = 5) -> dict[str, np.ndarray]:
    """Seeded feeds: ids below `LIMIT`, masks that hide some but never the first, places from the third on."""
    generator = np.random.default_rng(seed)
    feeds = {}
    for spec in network.signature().inputs:
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape]
        if spec.name == "positions":
            array = np.arange(2, 2 + shape[0])
        elif spec.name == "mask":
            array = generator.integers(0, 2, shape)
            array[:, 0] = 1
        elif spec.dtype == "int64":
            array = generator.integers(0, LIMIT, shape)
        else:
            array = generator.standard_normal(shape)
        feeds[spec.name] = array.astype(spec.dtype)
    return feeds


def keras_answers(place: str) -> dict[str, str]:
    """In a child with TensorFlow: each case's answers into ``NUMBER-SIZE.npz``; gives what went wrong, by case."""
    wrong = {}
    for number, case in enumerate(CASES):
        try:
            _answer(case, Path(place), number)
        except Exception as error:  # noqa: BLE001 - told to the test of this case
            wrong[case] = "".join(traceback.format_exception_only(error)) + traceback.format_exc()[-1500:]
    return wrong


def _answer(case: str, place: Path, number: int) -> None:
    from edgekit.network.keras_form import to_keras

    network = build(case)
    model = to_keras(network, weights_of(network))
    spatial = {tensor.name for tensor in network.inputs if tensor.is_spatial}
    for index, sizes in enumerate(SIZES):
        feeds = feeds_of(network, sizes)
        turned = {name: np.moveaxis(array, 1, -1) if name in spatial else array for name, array in feeds.items()}
        answer: Any = model(turned, training=False)
        if not isinstance(answer, dict):
            many = answer if isinstance(answer, list | tuple) else [answer]
            answer = dict(zip(network.outputs, many, strict=True))
        arrays = {name: np.asarray(value) for name, value in answer.items()}
        for name, tensor in network.outputs.items():
            if tensor.is_spatial:
                arrays[name] = np.moveaxis(arrays[name], -1, 1)
        np.savez(place / f"{number}-{index}.npz", **arrays)
