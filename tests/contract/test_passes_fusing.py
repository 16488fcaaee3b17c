"""The passes that recognize one operation in several, through the shipped battery."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.graph import activations, fusing, scaled_norms
from edgekit.graph.cleaning import clean
from edgekit.graph.fusing import FUSED_OPSET, fuse
from edgekit.graph.shapes import infer_shapes
from edgekit.testing.pass_contract import PassContract
from tests.unit.networks import from_text, residual_network

ROOT_TWO, TANH_SCALE = np.float32(2**0.5), np.float32((2 / np.pi) ** 0.5)
NUMBERS = {
    "half": np.float32(0.5),
    "one": np.float32(1),
    "two": np.float32(2),
    "three": np.float32(3),
    "six": np.float32(6),
    "zero": np.float32(0),
    "root": ROOT_TWO,
    "inverse": 1 / ROOT_TWO,
    "minus": -1 / ROOT_TWO,
    "scale": TANH_SCALE,
    "cube": np.float32(0.044715),
    "sixth": np.float32(1 / 6),
    "fifth": np.float32(0.2),
    "epsilon": np.float32(1e-3),
    "tiny": np.float32(1e-12),
    "huge": np.float32(1e12),
    "last": np.array([-1]),
}
RNG = np.random.default_rng(6)


def sample(body: str, **options: Any) -> ir.Model:
    """A model of that body in the fused opset, with those of the `NUMBERS` it names."""
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    used = {name: array for name, array in NUMBERS.items() if name in words}
    return infer_shapes(from_text(body, opset=FUSED_OPSET, **used, **options))


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


FORMS = {
    # how tf2onnx, PyTorch's exporters, JAX and hand-written code order it
    "Gelu, x/2 first": ("d = Div(x, root) e = Erf(d) a = Add(e, one) h = Mul(x, half) y = Mul(h, a)", ["Gelu"]),
    "Gelu, half last": ("d = Div(x, root) e = Erf(d) a = Add(e, one) h = Mul(x, a) y = Mul(h, half)", ["Gelu"]),
    "Gelu, half inside": ("d = Mul(inverse, x) e = Erf(d) a = Add(one, e) h = Mul(half, a) y = Mul(x, h)", ["Gelu"]),
    "Gelu, halves added": ("d = Mul(x, inverse) e = Erf(d) a = Mul(e, half) h = Add(a, half) y = Mul(h, x)", ["Gelu"]),
    "Gelu, divided by two": ("d = Div(x, root) e = Erf(d) a = Add(e, one) h = Mul(x, a) y = Div(h, two)", ["Gelu"]),
    "Gelu, by erfc": ("n = Mul(x, minus) e = Erf(n) a = Sub(one, e) h = Mul(x, half) y = Mul(h, a)", ["Gelu"]),
    "Gelu, tanh": (
        "p = Pow(x, three) c = Mul(p, cube) s = Add(x, c) m = Mul(s, scale) t = Tanh(m) a = Add(t, one)"
        " h = Mul(x, half) y = Mul(h, a)",
        ["Gelu"],
    ),
    "Gelu, tanh of x(1 + cx^2)": (
        "q = Mul(x, x) c = Mul(cube, q) s = Add(one, c) r = Mul(x, scale) m = Mul(r, s) t = Tanh(m)"
        " a = Add(one, t) b = Mul(half, a) y = Mul(x, b)",
        ["Gelu"],
    ),
    "HardSigmoid": ("a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)", ["HardSigmoid"]),
    "HardSigmoid, later": ("a = Mul(x, fifth) b = Add(a, half) m = Max(b, zero) y = Min(m, one)", ["HardSigmoid"]),
    "HardSwish": ("a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Mul(m, sixth)", ["HardSwish"]),
    "HardSwish, Relu6 of two": (
        "a = Add(x, three) r = Relu(a) c = Min(r, six) d = Div(c, six) y = Mul(x, d)", ["HardSwish"],
    ),
    "HardSwish, HardSigmoid": ("h = HardSigmoid<alpha=0.16666667>(x) y = Mul(h, x)", ["HardSwish"]),
    "Relu6": ("r = Relu(x) y = Min(r, six)", ["Clip"]),
    "Softplus": ("e = Exp(x) a = Add(e, one) y = Log(a)", ["Softplus"]),
    "Softplus, stable": (
        "b = Abs(x) n = Neg(b) e = Exp(n) a = Add(e, one) l = Log(a) r = Relu(x) y = Add(r, l)", ["Softplus"],
    ),
    "Mish": ("s = Softplus(x) t = Tanh(s) y = Mul(x, t)", ["Mish"]),
    "SiLU stays": ("s = Sigmoid(x) y = Mul(x, s)", ["Sigmoid", "Mul"]),
    "LayerNormalization": (
        "m = ReduceMean(x, last) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, last) a = Add(v, epsilon)"
        " s = Sqrt(a) n = Div(d, s) g = Mul(n, gain) y = Add(g, offset)",
        ["LayerNormalization"],
    ),
    "LayerNormalization, by a root below": (
        "m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) a = Add(v, epsilon)"
        " s = Sqrt(a) r = Reciprocal(s) n = Mul(d, r) y = Mul(gain, n)",
        ["LayerNormalization"],
    ),
    "LayerNormalization, as a line": (
        "m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) a = Add(v, epsilon)"
        " s = Sqrt(a) r = Reciprocal(s) g = Mul(r, gain) p = Mul(x, g) w = Mul(m, g) o = Sub(offset, w) y = Add(p, o)",
        ["LayerNormalization"],
    ),
    "LayerNormalization, as Keras's line": (
        "m = ReduceMean(x, last) i = Neg(m) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) a = Add(v, epsilon)"
        " s = Sqrt(a) r = Reciprocal(s) g = Mul(r, gain) p = Mul(x, g) w = Mul(i, g) o = Add(w, offset) y = Add(p, o)",
        ["LayerNormalization"],
    ),
    "RMSNormalization": (
        "q = Mul(x, x) v = ReduceMean(q, last) a = Add(v, epsilon) s = Sqrt(a) n = Div(x, s) y = Mul(n, gain)",
        ["RMSNormalization"],
    ),
    "LpNormalization, PyTorch": (
        "n = ReduceL2(x, last) c = Clip(n, tiny) y = Div(x, c)", ["LpNormalization"],
    ),
    "LpNormalization, TensorFlow": (
        "q = Mul(x, x) v = ReduceSum(q, last) s = Sqrt(v) r = Reciprocal(s) c = Min(r, huge) y = Mul(x, c)",
        ["LpNormalization"],
    ),
}  # fmt: skip
VECTORS = {"gain": RNG.uniform(0.5, 2, 16).astype("float32"), "offset": RNG.normal(0, 1, 16).astype("float32")}


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_is_recognized(form: str) -> None:
    body, expected = FORMS[form]
    assert kinds(fuse(sample(body, **{name: array for name, array in VECTORS.items() if name in body}))) == expected


class Fusing(PassContract):
    """`fuse` as a whole on one form after the other."""

    __test__ = False
    change = staticmethod(fuse)
    tolerance = 2e-5


def _of(form: str) -> type[Fusing]:
    body, _ = FORMS[form]
    vectors = {name: array for name, array in VECTORS.items() if name in body}
    make = staticmethod(lambda: sample(body, **vectors))
    return type(f"Test{form.title().replace(' ', '')}", (Fusing,), {"sample": make, "__test__": True})


globals().update({f"TestFuse{place}": _of(form) for place, form in enumerate(FORMS) if "stays" not in form})


class TestFuseAtOnce(PassContract):
    """A whole network, whose opset is raised."""

    change = staticmethod(fuse)
    sample = staticmethod(lambda: clean(residual_network()))
    tolerance = 1e-5


class TestFuseGelu(PassContract):
    change = staticmethod(activations.fuse_gelu)
    sample = staticmethod(lambda: sample(FORMS["Gelu, x/2 first"][0]))
    tolerance = 1e-5


class TestFuseScales(PassContract):
    """Behind each of the normalizations, scales first and scales last."""

    change = staticmethod(scaled_norms.fuse_scales)
    tolerance = 1e-5

    @staticmethod
    def sample() -> ir.Model:
        channels = RNG.normal(0, 1, (8, 1, 1)).astype("float32")
        return sample(
            "n = GroupNormalization<num_groups=2>(x, w, b) p = Mul(n, c) q = Add(c, p)"
            " m = InstanceNormalization(q, w, b) r = Add(m, two) s = Mul(r, c)"
            " l = LayerNormalization<axis=-2>(s, k) t = Mul(l, gain) y = Add(t, gain)",
            w=np.ones(8, "float32"),
            b=np.zeros(8, "float32"),
            c=channels,
            k=RNG.normal(0, 1, (16, 16)).astype("float32"),
            gain=VECTORS["gain"],
        )


class TestFuseGroupNorm(PassContract):
    change = staticmethod(scaled_norms.fuse_group_norm)
    tolerance = 1e-5

    @staticmethod
    def sample() -> ir.Model:
        body = "r = Reshape(x, groups) n = InstanceNormalization(r, w, b) s = Reshape(n, whole) y = Relu(s)"
        shapes = {"groups": np.array([0, 4, -1]), "whole": np.array([0, 8, 16, 16])}
        return sample(body, w=VECTORS["gain"][:4], b=VECTORS["offset"][:4], **shapes)


def test_group_norm_leaves_no_reshape() -> None:
    assert kinds(fuse(TestFuseGroupNorm.sample())) == ["GroupNormalization", "Relu"]


REARRANGED = {
    "DepthToSpace DCR": ([-1, 2, 2, 2, 16, 16], [0, 3, 4, 1, 5, 2], [-1, 2, 32, 32]),
    "DepthToSpace CRD": ([-1, 2, 2, 2, 16, 16], [0, 1, 4, 2, 5, 3], [-1, 2, 32, 32]),
    "SpaceToDepth ": ([-1, 8, 8, 2, 8, 2], [0, 3, 5, 1, 2, 4], [-1, 32, 8, 8]),
}


def rearranged(form: str) -> ir.Model:
    split, order, whole = REARRANGED[form]
    body = f"a = Reshape(x, split) b = Transpose<perm={order}>(a) y = Reshape(b, whole)"
    return sample(body, split=np.array(split), whole=np.array(whole))


class TestDepthToSpace(PassContract):
    change = staticmethod(fusing.fuse_rearrangements)
    sample = staticmethod(lambda: rearranged("DepthToSpace CRD"))


class TestDepthToSpaceByColumns(PassContract):
    change = staticmethod(fusing.fuse_rearrangements)
    sample = staticmethod(lambda: rearranged("DepthToSpace DCR"))


class TestSpaceToDepth(PassContract):
    change = staticmethod(fusing.fuse_rearrangements)
    sample = staticmethod(lambda: rearranged("SpaceToDepth "))


@pytest.mark.parametrize("form", REARRANGED)
def test_blocks_that_move_are_one_operation(form: str) -> None:
    (node,) = fuse(rearranged(form)).graph
    mode = node.attributes.get_string("mode", "") if "mode" in node.attributes else ""
    assert f"{node.op_type} {mode}" == form


NOT_QUITE = {
    "another constant": "d = Div(x, root) e = Erf(d) a = Add(e, one) h = Mul(x, sixth) y = Mul(h, a)",
    "another argument": "d = Mul(x, half) e = Erf(d) a = Add(e, one) h = Mul(x, half) y = Mul(h, a)",
    "another slope": "a = Add(x, two) c = Clip(a, zero, six) m = Mul(x, c) y = Mul(m, sixth)",
    "the variance of something else": (
        "m = ReduceMean(x, last) d = Sub(x, m) z = Relu(x) q = Mul(z, z) v = ReduceMean(q, last) a = Add(v, epsilon)"
        " s = Sqrt(a) y = Div(d, s)"
    ),
    "a limit that matters": "n = ReduceL2(x, last) c = Clip(n, half) y = Div(x, c)",
}


@pytest.mark.parametrize("case", NOT_QUITE)
def test_what_only_looks_like_one_stays(case: str) -> None:
    model = sample(NOT_QUITE[case])
    assert kinds(fuse(model)) == kinds(model)
