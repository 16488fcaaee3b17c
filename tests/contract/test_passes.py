"""Every pass that cleans a hub graph, through the shipped battery."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgekit.graph import absorbing, cleaning, folding, naming
from edgekit.graph.cleaning import clean
from edgekit.graph.shapes import infer_shapes
from edgekit.testing.pass_contract import PassContract
from tests.unit.networks import from_text, residual_network

RNG = np.random.default_rng(3)
KERNEL = RNG.normal(0, 1, (8, 8, 3, 3)).astype("float32")


def _vector(seed: int, low: float = -1.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, low + 2, 8).astype("float32")


def batch_norm(bias: str = "") -> ir.Model:
    body = f"c = Conv(x, w{bias}) y = BatchNormalization<epsilon=0.01>(c, g, b, m, v)"
    offset = {"o": _vector(5)} if bias else {}
    return from_text(body, w=KERNEL, g=_vector(1), b=_vector(2), m=_vector(3), v=_vector(4, 0.1), **offset)


class TestClean(PassContract):
    """All passes in their order, on a network with most of what they look for."""

    change = staticmethod(clean)
    sample = staticmethod(residual_network)
    tolerance = 1e-5


class TestFoldBatchNorms(PassContract):
    change = staticmethod(absorbing.fold_batch_norms)
    sample = staticmethod(lambda: batch_norm(", o"))
    tolerance = 1e-5


class TestFoldBatchNormsWithoutBias(PassContract):
    change = staticmethod(absorbing.fold_batch_norms)
    sample = staticmethod(batch_norm)
    tolerance = 1e-5


class TestFoldPads(PassContract):
    change = staticmethod(folding.fold_pads)

    @staticmethod
    def sample() -> ir.Model:
        amounts = np.array([0, 0, 1, 2, 0, 0, 0, 1])
        return from_text("p = Pad(x, amounts) y = Conv<pads=[1,0,0,1]>(p, w)", w=KERNEL, amounts=amounts)


class TestFoldBiases(PassContract):
    change = staticmethod(folding.fold_biases)
    tolerance = 1e-5

    @staticmethod
    def sample() -> ir.Model:
        weights = RNG.normal(0, 1, (8, 5)).astype("float32")
        model = from_text(
            "p = MatMul(x, w) y = Add(b, p)",
            inputs='float["batch",8] x',
            outputs="float[a,b] y",
            w=weights,
            b=RNG.normal(0, 1, 5).astype("float32"),
        )
        return infer_shapes(model)


class TestFoldConstants(PassContract):
    """A shape is computed from constants and from the known part of the input."""

    change = staticmethod(folding.fold_constants)

    @staticmethod
    def sample() -> ir.Model:
        model = from_text(
            "s = Shape(k) t = Slice(s, one, three) u = Concat<axis=0>(minus, t) v = Reshape(x, u) y = Mul(v, two)",
            inputs='float["batch",6] x',
            outputs="float[a,b,c] y",
            k=np.zeros((1, 2, 3), "float32"),
            one=np.array([1]),
            three=np.array([3]),
            minus=np.array([-1]),
            two=np.float32(2),
        )
        return infer_shapes(model)


class TestLiftConstants(PassContract):
    change = staticmethod(cleaning.lift_constants)
    sample = staticmethod(lambda: from_text("two = Constant<value = float {2.0}>() y = Mul(x, two)"))


class TestRemoveIdentities(PassContract):
    change = staticmethod(cleaning.remove_identities)

    @staticmethod
    def sample() -> ir.Model:
        return from_text("a = Identity(x) b, mask = Dropout(a) c = Relu(b) y = Identity(c)")


class TestRemoveDead(PassContract):
    change = staticmethod(cleaning.remove_dead)
    sample = staticmethod(lambda: from_text("dead = Relu(x) y = Conv(x, w)", w=KERNEL, unread=KERNEL))


class TestInlineFunctions(PassContract):
    change = staticmethod(cleaning.inline_functions)
    added_bytes = 0

    @staticmethod
    def sample() -> ir.Model:
        text = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        m (float["batch",4] x) => (float["batch",4] y) { y = own.twice(x) }
        <domain: "own", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }"""
        return ir.from_proto(onnx.parser.parse_model(text))


class TestNameEverything(PassContract):
    change = staticmethod(naming.name_everything)

    @staticmethod
    def sample() -> ir.Model:
        model = from_text("a = Relu(x) b = Relu(a) y = Neg(b)")
        first, second, _ = model.graph
        first.name = second.name = "same"
        return model


class TestNameSymbols(PassContract):
    change = staticmethod(naming.name_symbols)
    sample = staticmethod(lambda: from_text("y = Relu(x)", inputs='float["unk__7",8,4,4] x'))
