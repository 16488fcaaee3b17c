"""Compression through the shipped battery of passes: exact where a method can be, bounded where it cannot."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgekit.compress import cluster, factorize, prune_magnitude, prune_n_m, store_palettes
from edgekit.compress.channels import apply_channels, plan_channels
from edgekit.compress.weights import set_weight
from edgekit.graph import clean, copy_of, infer_shapes
from edgekit.graph.walking import constant
from edgekit.testing.pass_contract import PassContract
from tests.unit.networks import from_text, residual_network

RNG = np.random.default_rng(4)


def network() -> ir.Model:
    return clean(residual_network())


def with_silent_channels() -> ir.Model:
    """The network with zeros in the slices that read half of the channels."""
    model = network()
    plan = plan_channels(model, macs=0.5)
    for node in model.graph:
        places = plan.kept.get(node.inputs[1].name or "", {}).get(1) if node.op_type in ("Conv", "Gemm") else None
        is_turned = node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)
        if is_turned:
            places = plan.kept.get(node.inputs[1].name or "", {}).get(0)
        array = constant(node.inputs[1]) if places is not None else None
        if array is not None and places is not None:
            turned = np.moveaxis(array.copy(), 0 if is_turned else 1, 0)
            turned[np.delete(np.arange(len(turned)), places)] = 0
            set_weight(node.inputs[1], np.moveaxis(turned, 0, 0 if is_turned else 1))
    return model


def of_low_rank() -> ir.Model:
    """A dense layer of rank 3 behind a convolution that is a column and a row."""
    column, row = RNG.normal(0, 1, (8 * 3, 2)), RNG.normal(0, 1, (2, 16 * 3))
    kernel = (column @ row).reshape(8, 3, 16, 3).transpose(2, 0, 1, 3)
    matrix = RNG.normal(0, 1, (32, 3)) @ RNG.normal(0, 1, (3, 16))
    arrays = {"k": kernel, "b": RNG.normal(0, 1, 16), "m": matrix, "o": RNG.normal(0, 1, 32)}
    model = from_text(
        "c = Conv<pads=[1,1,1,1], strides=[2,2]>(x, k, b) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) "
        "y = Gemm<transB=1>(f, m, o)",
        outputs='float["batch",32] y',
        **{name: np.ascontiguousarray(array, "float32") for name, array in arrays.items()},
    )
    return clean(infer_shapes(model))


class TestPruneChannels(PassContract):
    """What is removed gave nothing to anybody: the answers stay."""

    sample = staticmethod(with_silent_channels)
    tolerance = 1e-5
    gaps: ClassVar[dict[str, str]] = {
        "test_twice_is_as_once": "a plan fits the graph it was made for, and refuses another"
    }

    @staticmethod
    def change(model: ir.Model) -> ir.Model:
        return apply_channels(model, plan_channels(network(), macs=0.5))


class TestFactorize(PassContract):
    sample = staticmethod(of_low_rank)
    tolerance = 1e-5
    gaps: ClassVar[dict[str, str]] = {
        "test_the_graph_is_never_larger": "one layer becomes two, which are smaller together"
    }

    @staticmethod
    def change(model: ir.Model) -> ir.Model:
        return factorize(model, max_error=1e-3)[0]


class TestPruneMagnitude(PassContract):
    """A tenth of the weights, the smallest, has next to no part in the answers."""

    sample = staticmethod(network)
    tolerance = 0.02

    @staticmethod
    def change(model: ir.Model) -> ir.Model:
        return prune_magnitude(model, sparsity=0.1)[0]


class TestPruneThreeOfFour(PassContract):
    sample = staticmethod(network)
    tolerance = 0.3

    @staticmethod
    def change(model: ir.Model) -> ir.Model:
        return prune_n_m(model, keep=3, of=4)[0]


class TestCluster(PassContract):
    """256 values of a weight: 48 dB."""

    sample = staticmethod(network)
    tolerance = 0.02

    @staticmethod
    def change(model: ir.Model) -> ir.Model:
        return cluster(model, bits=8)[0]


class TestStorePalettes(PassContract):
    """Exact: only the way weights are stored changes, in bytes, so that the oracle's opset is kept."""

    sample = staticmethod(lambda: cluster(network(), bits=4)[0])
    tolerance = 0
    gaps: ClassVar[dict[str, str]] = {
        "test_the_graph_is_never_larger": "two operations put a weight together, once, when the file is opened"
    }

    @staticmethod
    def change(model: ir.Model) -> ir.Model:
        return store_palettes(copy_of(model))
