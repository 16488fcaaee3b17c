"""Operations replaced by what they are made of, through the shipped battery."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgekit.graph.expanding import expand_functions, has_body
from edgekit.graph.walking import walk
from edgekit.testing.pass_contract import PassContract
from tests.unit.networks import from_text

RNG = np.random.default_rng(7)
GAIN = RNG.uniform(0.5, 2, 16).astype("float32")
LARGER = {"test_the_graph_is_never_larger": "a body has more nodes than the operation it defines"}


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
