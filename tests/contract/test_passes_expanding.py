"""Operations replaced by what they are made of, and int64 by int32, through the shipped battery."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit.graph.cleaning import clean
from edgekit.graph.expanding import expand_functions, has_body
from edgekit.graph.narrowing import narrow_integers
from edgekit.graph.shapes import infer_shapes
from edgekit.graph.walking import dtype_name, walk
from edgekit.testing.pass_contract import PassContract
from tests.unit.networks import from_text

RNG = np.random.default_rng(7)
GAIN = RNG.uniform(0.5, 2, 16).astype("float32")
LARGER = {"test_the_graph_is_never_larger": "a body has more nodes than the operation it defines"}
BORDERS = {"test_the_graph_is_never_larger": "a Cast stands where a narrow tensor meets an input or an output"}


class TestExpandFunctions(PassContract):
    change = staticmethod(lambda model: expand_functions(model, keep=()))
    tolerance = 1e-5
    gaps = LARGER

    @staticmethod
    def sample() -> ir.Model:
        body = """a = Gelu(x) b = LayerNormalization<axis=-1>(a, g) c = Softmax(b) d = Clip(c, low)
            e = HardSwish(d) y = Elu<alpha=0.5>(e)"""
        return from_text(body, opset=20, g=GAIN, low=np.float32(0.01))


class TestExpandFunctionsOfAnOldOpset(PassContract):
    """Softplus and ReduceMean's new form are of opset 18: the body is not older, so the model is raised."""

    change = staticmethod(lambda model: expand_functions(model, keep={"Relu"}))
    tolerance = 1e-5
    gaps = LARGER
    sample = staticmethod(lambda: from_text("a = Softplus(x) b = ReduceMean<axes=[1]>(a) y = Relu(b)", opset=13))


class TestExpandFunctionsInBodies(PassContract):
    change = staticmethod(lambda model: expand_functions(model, keep=()))
    tolerance = 1e-5
    gaps = LARGER

    @staticmethod
    def sample() -> ir.Model:
        text = """<ir_version: 8, opset_import: ["" : 18]> m (float[2,4] x, bool yes) => (float[2,4] y) {
            y = If(yes) <then_branch = a () => (float[2,4] t) { s = Mish(x) t = LeakyRelu(s) },
                         else_branch = b () => (float[2,4] e) { e = Selu(x) }>
        }"""
        return ir.from_proto(onnx.parser.parse_model(text))


def kinds(model: ir.Model) -> set[str]:
    return {node.op_type for node, _ in walk(model.graph)}


def test_what_is_kept_stays_and_nothing_else_with_a_body_does() -> None:
    found = kinds(expand_functions(TestExpandFunctions.sample(), keep={"Clip", "Softmax"}))
    assert {kind for kind in found if has_body(kind, 20)} == {"Clip", "Softmax"}


def test_constants_inside_bodies_are_computed() -> None:
    model = expand_functions(from_text("y = Gelu(x)", opset=20), keep=())
    assert not kinds(model) & {"Constant", "CastLike", "Cast", "Sqrt"}


FUNCTIONS = sorted(
    {
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if schema.domain == "" and has_body(schema.name, 23) and len(schema.inputs) == 1
    }
    - {"Bernoulli", "DynamicQuantizeLinear"}
)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bodies_are_found_at_every_opset(name: str) -> None:
    for opset in range(max(18, onnx.defs.get_schema(name, 23).since_version), 24):
        is_window = name.endswith("Window")
        options: dict[str, Any] = {"inputs": "int32 x", "outputs": "float[a] y"} if is_window else {}
        model = expand_functions(from_text(f"y = {name}(x)", opset=opset, **options), keep=())
        assert name not in kinds(model), opset
        onnx.checker.check_model(ir.to_proto(model), full_check=True)


class TestNarrowIntegers(PassContract):
    """Tokens looked up, masks, sizes, and the place of the largest of the answers, which is public."""

    change = staticmethod(narrow_integers)
    gaps = BORDERS

    @staticmethod
    def sample() -> ir.Model:
        return infer_shapes(
            from_text(
                "s = Shape(x) n = Gather(s, one) r = Range(zero, n, one_more) c = Cast<to=1>(r)"
                " e = Add(x, c) m = ArgMax<axis=1, keepdims=1>(e) y = Add(m, offset)",
                inputs="float[2,6] x",
                outputs="int64[a,b] y",
                one=np.array(1),
                zero=np.array(0),
                one_more=np.array(1),
                offset=np.array([7]),
            )
        )


class TestNarrowLookups(PassContract):
    change = staticmethod(narrow_integers)

    @staticmethod
    def sample() -> ir.Model:
        return infer_shapes(
            from_text(
                "i = Cast<to=7>(x) a = Gather(t, i) g = Greater(x, nought) b = Cast<to=7>(g) n = Mul(b, high)"
                " m = Min(n, high) k = Sub(m, low) h = Gather(t, k) y = Add(a, h)",
                inputs='float["batch",3] x',
                outputs="float[a,b,c] y",
                low=np.array(1),
                high=np.array(4),
                nought=np.float32(0),
                t=GAIN.reshape(8, 2),
            )
        )


def test_what_may_not_fit_or_must_be_int64_stays() -> None:
    body = "w = Mul(x, large) v = Add(w, x) q = Mul(n, n) y = Reshape(v, q)"
    options = {"inputs": "int64[4] x", "outputs": "int64[a,b] y", "large": np.array(2**40), "n": np.array([2, 1])}
    model = infer_shapes(from_text(body, **options))
    narrowed = narrow_integers(model)
    assert {dtype_name(node.outputs[0]) for node in narrowed.graph} == {"int64"}
    assert [node.op_type for node in narrowed.graph] == ["Mul", "Add", "Mul", "Reshape"]


def test_an_input_is_cast_once_however_many_read_it() -> None:
    body = "a = Gather(t, i) b = Gather(u, i) y = Add(a, b)"
    model = from_text(body, inputs="int64[3] i", outputs="float[a,b] y", t=GAIN.reshape(8, 2), u=GAIN.reshape(8, 2) + 1)
    narrowed = narrow_integers(clean(model))
    assert [node.op_type for node in narrowed.graph] == ["Cast", "Gather", "Gather", "Add"]
    assert [dtype_name(value) for value in narrowed.graph.inputs] == ["int64"]
