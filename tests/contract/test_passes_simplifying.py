"""The passes that take out what changes nothing, and that settle shapes, through the shipped battery."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from edgekit.graph import absorbing, reshaping, simplifying
from edgekit.graph.cleaning import remove_dead
from edgekit.graph.shapes import infer_shapes
from edgekit.testing.pass_contract import PassContract
from tests.unit.networks import from_text

RNG = np.random.default_rng(5)
KERNEL = RNG.normal(0, 1, (6, 8, 3, 3)).astype("float32")
CHANNELS = RNG.uniform(0.5, 2, (6, 1, 1)).astype("float32")
FLAT = {"inputs": 'float["batch",12] x'}


def sample(body: str, **options: object) -> staticmethod[[], ir.Model]:
    return staticmethod(lambda: infer_shapes(from_text(body, **options)))  # type: ignore[arg-type]


class TestFoldScales(PassContract):
    change = staticmethod(absorbing.fold_scales)
    tolerance = 1e-5
    sample = sample(
        "c = Conv(x, w) d = Mul(k, c) e = Add(d, k) f = Sub(e, two) y = Div(f, two)",
        w=KERNEL,
        k=CHANNELS,
        two=np.float32(2),
    )


class TestFoldScalesIntoConvTranspose(PassContract):
    """Its channels are those of a group, group by group; the reference evaluator has no groups there."""

    change = staticmethod(absorbing.fold_scales)
    tolerance = 1e-5
    oracle = "onnx"
    sample = sample(
        "c = ConvTranspose<group=2>(x, w, b) d = Mul(c, k) y = Add(d, k)",
        w=RNG.normal(0, 1, (8, 3, 2, 2)).astype("float32"),
        b=CHANNELS.reshape(-1),
        k=CHANNELS,
    )


class TestFoldScalesIntoGemm(PassContract):
    change = staticmethod(absorbing.fold_scales)
    tolerance = 1e-5
    sample = sample(
        "g = Gemm<alpha=0.5, beta=3.0, transB=1>(x, w, b) h = Mul(g, k) y = Add(h, k)",
        outputs="float[a,b] y",
        w=RNG.normal(0, 1, (6, 12)).astype("float32"),
        b=RNG.normal(0, 1, (1, 6)).astype("float32"),
        k=CHANNELS.reshape(-1),
        **FLAT,
    )


class TestFoldScalesIntoMatMul(PassContract):
    change = staticmethod(absorbing.fold_scales)
    tolerance = 1e-5
    sample = sample(
        "p = MatMul(x, w) q = Mul(p, k) y = Add(q, k)",
        w=RNG.normal(0, 1, (16, 6)).astype("float32"),
        k=CHANNELS.reshape(-1),
    )


class TestResolveBranches(PassContract):
    change = staticmethod(simplifying.resolve_branches)

    @staticmethod
    def sample() -> ir.Model:
        text = """<ir_version: 8, opset_import: ["" : 17]> m (float[1,4] x) => (float[1,4] y) {
            z = If(yes) <then_branch = a () => (float[1,4] t) { s = Relu(x) t = Add(s, two) },
                         else_branch = b () => (float[1,4] e) { e = Neg(x) }>
            y = If(no) <then_branch = c () => (float[1,4] u) { u = Neg(z) },
                        else_branch = d () => (float[1,4] v) { v = Abs(z) }>
        }"""
        model = onnx.parser.parse_model(text)
        for name, array in {"two": np.float32(2), "yes": np.array(True), "no": np.array([False])}.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return ir.from_proto(model)


class TestRemoveNoOps(PassContract):
    change = staticmethod(simplifying.remove_no_ops)
    sample = sample(
        "a = Reshape(x, shape) b = Transpose<perm=[0,1,2,3]>(a) c = Cast<to=1>(b) d = Slice(c, zero, far, one)"
        " e = Concat<axis=1>(d) f = Mul(e, unit) g = Where(yes, f, nought) h = Max(g, g) i = Add(nought, h)"
        " j = Expand(i, ones) y = Relu(j)",
        inputs="float[2,8,4,4] x",
        shape=np.array([0, 8, -1, 4]),
        zero=np.array([0]),
        one=np.array([1]),
        far=np.array([2**63 - 1]),
        unit=np.ones((1, 1, 1), "float32"),
        nought=np.float32(0),
        yes=np.array(True),
        ones=np.ones(4, "int64"),
    )


class TestShareConstants(PassContract):
    change = staticmethod(simplifying.share_constants)
    sample = sample("a = Add(x, p) b = Mul(a, q) y = Add(b, r)", p=np.float32(2), q=np.float32(2), r=np.float32(3))


class TestMergeDuplicates(PassContract):
    change = staticmethod(simplifying.merge_duplicates)
    sample = sample("a = Relu(x) b = Relu(x) c = Neg(a) d = Neg(b) y = Mul(c, d)")


class TestFoldDimensions(PassContract):
    """Products of known sizes, one of which stands beside an unknown one."""

    change = staticmethod(reshaping.fold_dimensions)
    sample = sample(
        "s = Shape(x) c = Gather(s, one) h = Slice(s, two, four) p = ReduceProd(h) q = Mul(c, p)"
        " u = Concat<axis=0>(minus, q) y = Reshape(x, u)",
        outputs="float[a,b] y",
        one=np.array([1]),
        two=np.array([2]),
        four=np.array([4]),
        minus=np.array([-1]),
    )


class TestSettleReshapes(PassContract):
    """The form of tf2onnx: batch and heads as one number, and back."""

    change = staticmethod(lambda model: remove_dead(reshaping.settle_reshapes(model)))
    sample = sample(
        "s = Shape(x) h = Gather(s, first) p = ReduceProd(h) t = Concat<axis=0>(p, minus, width)"
        " a = Reshape(x, t) r = Relu(a) u = Concat<axis=0>(h, sides) y = Reshape(r, u)",
        first=np.array([0, 1]),
        minus=np.array([-1]),
        width=np.array([16]),
        sides=np.array([16, 16]),
    )


class TestMergeReshapes(PassContract):
    change = staticmethod(reshaping.merge_reshapes)
    sample = sample(
        "a = Flatten(x) b = Unsqueeze(a, one) c = Squeeze(b, one) y = Reshape(c, shape)",
        outputs="float[a,b,c] y",
        one=np.array([1]),
        shape=np.array([0, 64, 32]),
    )


class TestMergeTransposes(PassContract):
    change = staticmethod(reshaping.merge_transposes)
    sample = sample("a = Transpose<perm=[0,2,3,1]>(x) b = Transpose(a) y = Relu(b)")


class TestCancelTransposes(PassContract):
    change = staticmethod(reshaping.cancel_transposes)
    sample = sample(
        "a = Transpose<perm=[0,2,3,1]>(x) b = Pow(a, three) c = Mul(k, b) y = Transpose<perm=[0,3,1,2]>(c)",
        three=np.float32(3),
        k=np.float32(0.1),
    )


class TestMergeCasts(PassContract):
    change = staticmethod(reshaping.merge_casts)
    sample = sample("g = Greater(x, zero) a = Cast<to=7>(g) y = Cast<to=1>(a)", zero=np.float32(0))
