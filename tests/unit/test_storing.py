"""Which weights are stored in few bits, in which form, and what is said of those that are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgekit import graph as hub
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight
from edgekit.quantize.storing import Stored, is_plain_product, store
from edgekit.recipe import Recipe, Rule
from edgekit.target import Target
from tests.unit.networks import from_text

ONNX = Target.named("generic-x86").placements["onnx"]
WHOLE = replace(ONNX, four_bits="channel")
RNG = np.random.default_rng(2)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype("float32")


def network(body: str, inputs: str = "float[4,32] x", outputs: str = "float[a,b] y", **weights: np.ndarray) -> ir.Model:
    return hub.clean(from_text(body, inputs=inputs, outputs=outputs, opset=20, **weights))


def stored(model: ir.Model, precision: str, *rules: Rule, placement: object = ONNX) -> Stored:
    recipe = Recipe.named(precision)
    for rule in rules:
        recipe = recipe.with_rule(rule)
    return store(model, placement, recipe)  # type: ignore[arg-type]


AXES = {
    "MatMul": ("y = MatMul(x, w)", (32, 8), 1),
    "Gemm": ("y = Gemm(x, w)", (32, 8), 1),
    "transposed Gemm": ("y = Gemm<transB=1>(x, w)", (8, 32), 0),
}


@pytest.mark.parametrize("case", AXES)
def test_scales_run_along_the_output_channels(case: str) -> None:
    body, shape, axis = AXES[case]
    found = stored(network(body, w=numbers(*shape)), "w8").weights["w"]
    assert isinstance(found, QuantizedWeight)
    assert found.params.axis == axis
    assert len(found.params.scale) == 8


@pytest.mark.parametrize("case", AXES)
def test_groups_run_along_the_sum(case: str) -> None:
    body, shape, axis = AXES[case]
    weight = numbers(*shape)
    model = network(body, w=weight)
    found, whole = (stored(model, "w4g32", placement=place).weights["w"] for place in (ONNX, WHOLE))
    assert isinstance(found, GroupedWeight)
    assert isinstance(whole, GroupedWeight)
    assert found.axis == whole.axis == 1 - axis
    assert (found.block, whole.block) == (32, 32)
    assert set(whole.zero_point.flat) == {8}
    assert found.dequantize() == pytest.approx(weight, abs=float(found.scale.max()))
    assert whole.dequantize() == pytest.approx(weight, abs=float(whole.scale.max()))


def test_what_is_no_plain_product_has_8_bits_beside_products_of_4() -> None:
    body = "a = Gemm<alpha=2.0>(x, v) b = MatMul(a, w) y = Gather<axis=1>(b, i)"
    found = stored(network(body, v=numbers(32, 16), w=numbers(16, 8), i=np.array([0, 2])), "w4g32")
    assert isinstance(found.weights["v"], QuantizedWeight)
    assert isinstance(found.weights["w"], GroupedWeight)
    assert found.floats == {"Gemm_0": "its weights stored as w8", "MatMul_0": "its weights stored as w4g32"}


def test_of_two_readers_of_a_weight_the_first_decides_and_the_other_computes_in_float() -> None:
    body = "e = Gather(w, i) a = MatMul(x, w) y = Add(a, e)"
    model = network(body, inputs="float[4,32] x, int64[4] i", w=numbers(32, 32))
    found = stored(model, "w8a8-dynamic")
    weight = found.weights["w"]
    assert isinstance(weight, QuantizedWeight)
    assert weight.params.axis == 0
    assert found.dynamic_ops == ()
    assert set(found.floats) == {"Gather_0", "MatMul_0"}
    product = next(node for node in model.graph if node.op_type == "MatMul")
    assert not is_plain_product(product, weight)
    assert is_plain_product(product, replace(weight, params=replace(weight.params, axis=1)))


def test_products_of_more_than_matrices_do_not_round_what_they_take() -> None:
    found = stored(network("y = MatMul(x, w)", inputs="float[2,4,32] x", outputs="float[a,b,c] y",
                           w=numbers(2, 32, 8)), "w8a8-dynamic")  # fmt: skip
    assert found.dynamic_ops == ()
    assert found.floats == {"MatMul_0": "its weights stored as w8"}


@pytest.mark.parametrize(
    ("precision", "size", "names"),
    [("w8", 6, {"r"}), ("w8", 16, {"w", "r"}), ("w8a8-dynamic", 6, {"w", "r"})],
)
def test_a_small_input_matrix_of_a_float_lstm_stays_whole(precision: str, size: int, names: set[str]) -> None:
    body = "a, h, c = LSTM<hidden_size=24>(x, w, r) y = Squeeze(h, zero)"
    weights = {"w": numbers(1, 96, size), "r": numbers(1, 96, 24), "zero": np.array([0])}
    found = stored(network(body, inputs=f"float[5,2,{size}] x", **weights), precision)
    assert set(found.weights) == names
    assert found.dynamic_ops == (("LSTM_0",) if precision == "w8a8-dynamic" else ())


def test_each_operation_left_as_it_is_has_its_own_reason() -> None:
    body = "q = DequantizeLinear(i, s) a = MatMul(x, q) b = MatMul(a, few) t = Transpose(b) y = MatMul(t, b)"
    model = network(body, i=numbers(32, 8).astype("int8"), s=np.float32(0.1), few=numbers(8, 4))
    found = stored(model, "w8")
    assert found.weights == {}
    assert found.kept == {
        "MatMul_0": "quantized already in the source",
        "MatMul_1": "its weights are too few to gain",
        "MatMul_2": "its second operand is not constant",
    }


def test_a_rule_leaves_an_operation_out() -> None:
    model = network("a = MatMul(x, v) y = MatMul(a, w)", v=numbers(32, 16), w=numbers(16, 8))
    found = stored(model, "w8a8-dynamic", Rule("fp32", name="MatMul_0"), Rule("w8", name="MatMul_1"))
    assert set(found.weights) == {"w"}
    assert found.dynamic_ops == ()


def test_a_format_without_a_form_says_so() -> None:
    model = network("y = MatMul(x, w)", w=numbers(32, 8))
    nothing = replace(ONNX, dynamic=(), stored=(), stored_in_4_bits=())
    found = stored(model, "w8a8-dynamic", placement=nothing)
    assert found.weights == {}
    assert found.kept == {"MatMul_0": "MatMul has no form here whose weights are stored in few bits"}


def test_a_rule_stores_in_half_precision_what_another_keeps_small() -> None:
    model = network("h = MatMul(x, w) y = MatMul(h, v)", w=numbers(32, 24), v=numbers(24, 9))
    first = next(node.name for node in model.graph) or ""
    found = stored(model, "w8", Rule("fp16", name=first))
    assert (found.halves, list(found.weights)) == (("w",), ["v"])
    assert found.floats[first] == "its weights stored as fp16"
