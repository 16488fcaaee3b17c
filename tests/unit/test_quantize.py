"""Placement, plans and their QDQ form, on small graphs whose right answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from edgekit import graph as hub
from edgekit.errors import InputError, UnsupportedError
from edgekit.quantize import Placed, Range, Statistics, make_quant_plan, place, to_qdq
from edgekit.recipe import Recipe, Rule
from edgekit.target import Target
from tests.unit.networks import from_text, recurrent_network, residual_network

INT8 = Recipe.named("int8")
ONNX, OPENVINO = (Target.named("generic-x86").placements[format] for format in ("onnx", "openvino"))
RNG = np.random.default_rng(0)
WEIGHTS = {
    "w": RNG.normal(0, 1, (8, 8, 3, 3)).astype("float32"),
    "v": RNG.normal(0, 1, (8, 8, 1, 1)).astype("float32"),
    "o": RNG.normal(0, 1, 8).astype("float32"),
    "wide": RNG.normal(0, 1, (8, 16, 1, 1)).astype("float32"),
    "low": np.float32(0),
    "high": np.float32(6),
}
FIRST = "a = Conv<pads=[1,1,1,1]>(x, w, o) "


def network(body: str, **options: str) -> ir.Model:
    used = {name: array for name, array in WEIGHTS.items() if f" {name})" in body or f" {name}," in body}
    return hub.clean(from_text(body, **options, **used))


def ranges_of(model: ir.Model) -> Statistics:
    """Made-up ranges of every tensor: what counts here is where they are used."""
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return Statistics({value.name or "": Range(-1.0 - i, 2.0 + i) for i, value in enumerate(values)}, 1)


def grouped(placed: Placed) -> set[frozenset[str]]:
    return {frozenset(group) for group in placed.groups}


FUSING = {
    "an activation function is taken in": (
        FIRST + "r = Relu(a) y = Conv(r, v)",
        [{"x"}, {"r"}, {"y"}],
        {"Conv_0", "Relu_0", "Conv_1"},
    ),
    "so is a clip": (
        FIRST + "r = Clip(a, low, high) y = Conv(r, v)",
        [{"x"}, {"r"}, {"y"}],
        {"Conv_0", "Clip_0", "Conv_1"},
    ),
    "not one whose input is read elsewhere": (
        FIRST + "r = Relu(a) b = Conv(r, v) y = Add(a, b)",
        [{"x"}, {"a"}, {"r"}, {"b"}],
        {"Conv_0", "Conv_1"},
    ),
    "a sigmoid at the end stays float": (FIRST + "y = Sigmoid(a)", [{"x"}, {"a"}], {"Conv_0"}),
    "in between it does not": (
        FIRST + "s = Sigmoid(a) m = Mul(a, s) y = Conv(m, v)",
        [{"x"}, {"a"}, {"s"}, {"m"}, {"y"}],
        {"Conv_0", "Sigmoid_0", "Mul_0", "Conv_1"},
    ),
    "a pool shares its input's scale": (
        FIRST + "p = MaxPool<kernel_shape=[2,2]>(a) y = Conv(p, v)",
        [{"x"}, {"a", "p"}, {"y"}],
        {"Conv_0", "MaxPool_0", "Conv_1"},
    ),
    "an average does not": (
        FIRST + "p = AveragePool<kernel_shape=[2,2]>(a) y = Conv(p, v)",
        [{"x"}, {"a"}, {"p"}, {"y"}],
        {"Conv_0", "AveragePool_0", "Conv_1"},
    ),
    "a residual sum before a convolution": (
        FIRST + "b = Conv(a, v) s = Add(a, b) r = Relu(s) y = Conv(r, v)",
        [{"x"}, {"a"}, {"b"}, {"r"}, {"y"}],
        {"Conv_0", "Conv_1", "Add_0", "Relu_0", "Conv_2"},
    ),
    "a sum with a float branch stays float": (
        FIRST + "t = Tanh(x) s = Add(a, t) y = Conv(s, v)",
        [{"x"}, {"a"}, {"s"}, {"y"}],
        {"Conv_0", "Conv_1"},
    ),
    "a concatenation requantizes": (
        FIRST + "b = Conv(a, v) c = Concat<axis=1>(a, b) y = Conv(c, wide)",
        [{"x"}, {"a"}, {"b"}, {"c"}, {"y"}],
        {"Conv_0", "Conv_1", "Concat_0", "Conv_2"},
    ),
}


@pytest.mark.parametrize("case", FUSING)
def test_onnx_runtime_gets_parameters_around_every_operation_of_a_chain(case: str) -> None:
    body, groups, operations = FUSING[case]
    placed = place(network(body), ONNX, INT8)
    assert grouped(placed) == {frozenset(group) for group in groups}
    assert set(placed.quantized_ops) == operations


HOISTING = {
    "only inputs of products": (FIRST + "r = Relu(a) y = Conv(r, v)", [{"x"}, {"r"}]),
    "up through a pool": (FIRST + "p = MaxPool<kernel_shape=[2,2]>(a) y = Conv(p, v)", [{"x"}, {"a"}]),
    "on one grid before a concatenation": (
        FIRST + "b = Conv(a, v) c = Concat<axis=1>(a, b) y = Conv(c, wide)",
        [{"x"}, {"a", "b"}],
    ),
    "not through a sum": (FIRST + "b = Conv(a, v) s = Add(a, b) y = Conv(s, v)", [{"x"}, {"a"}, {"s"}]),
}


@pytest.mark.parametrize("case", HOISTING)
def test_openvino_gets_parameters_before_products_only(case: str) -> None:
    body, groups = HOISTING[case]
    assert grouped(place(network(body), OPENVINO, INT8)) == {frozenset(group) for group in groups}


def test_the_last_product_gives_float_to_a_softmax() -> None:
    placed = place(hub.clean(residual_network()), ONNX, INT8)
    assert "dense" in placed.quantized_ops
    assert "softmax" not in placed.quantized_ops
    assert not any("logits" in group for group in placed.groups)


def test_every_operation_with_weights_is_accounted_for() -> None:
    body = FIRST + "b = Conv(a, v) p = MatMul(b, a) y = Add(p, b)"
    placed = place(network(body), ONNX, INT8)
    assert set(placed.quantized_ops) == {"Conv_0", "Conv_1"}
    assert placed.float_ops == {"MatMul_0": "its second operand is not constant"}


@pytest.mark.parametrize("placement", [ONNX, OPENVINO], ids=["onnx", "openvino"])
def test_a_net_of_lstms_is_refused_not_written_as_float(placement: object) -> None:
    with pytest.raises(UnsupportedError, match="would quantize nothing") as caught:
        make_quant_plan(hub.clean(recurrent_network()), placement, INT8)  # type: ignore[arg-type]
    assert caught.value.offenders == ("LSTM_0: LSTM has no integer kernel here",)


def test_products_inside_bodies_stay_float_and_are_named() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> m (float["batch",4] x, bool yes) => (float["batch",4] y) {
        z = MatMul(x, w)
        y = If(yes) <then_branch = a () => (float["batch",4] t) { t = MatMul(z, w) },
                     else_branch = b () => (float["batch",4] e) { e = Identity(z) }>
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(4, dtype="float32"), "w"))
    placed = place(hub.clean(ir.from_proto(model)), ONNX, INT8)
    assert placed.quantized_ops == ("MatMul_0",)
    assert placed.float_ops == {"If_0/MatMul_1": "inside the body of 'If_0', where nothing is quantized"}


def test_the_ignored_scope_is_kept_in_float_with_its_reason() -> None:
    model = network(FIRST + "r = Relu(a) y = Conv(r, v)")
    recipe = INT8.with_rule(Rule("fp32", name="Conv_0", reason="the front end"))
    placed = place(model, ONNX, recipe)
    assert placed.float_ops == {"Conv_0": "the front end"}
    assert placed.quantized_ops == ("Conv_1",)
    assert grouped(placed) == {frozenset({"r"}), frozenset({"y"})}
    again = place(model, ONNX, recipe.with_rule(Rule("w8a8", op_type="Conv")))
    assert set(again.quantized_ops) == {"Conv_0", "Relu_0", "Conv_1"}


def test_rules_that_match_nothing_are_listed() -> None:
    recipe = INT8.with_rule(Rule("fp32", name="conv_1*")).with_rule(Rule("fp32", op_type="Convolution"))
    with pytest.raises(UnsupportedError) as caught:
        place(network(FIRST + "y = Relu(a)"), ONNX, recipe)
    assert len(caught.value.offenders) == 2
    assert "conv_1*" in str(caught.value)


def test_what_a_source_has_quantized_itself_is_left_alone() -> None:
    model = from_text("q = DequantizeLinear(i, s) y = Conv(x, q)", i=np.ones((8, 8, 1, 1), "int8"), s=np.float32(0.1))
    with pytest.raises(UnsupportedError, match="quantized already in the source"):
        make_quant_plan(hub.clean(model), ONNX, INT8)


def test_a_plan_has_parameters_for_all_that_was_placed() -> None:
    model = hub.clean(residual_network())
    plan = make_quant_plan(model, ONNX, INT8, ranges_of(model))
    placed = place(model, ONNX, INT8)
    assert set(plan.activations) == {name for group in placed.groups for name in group}
    assert set(plan.weights) == {anchor.weight for anchor in placed.anchors}
    assert {params.dtype for params in plan.activations.values()} == {"uint8"}
    assert all(weight.params.axis is not None for weight in plan.weights.values())
    assert plan.to_json() == make_quant_plan(model, ONNX, INT8, ranges_of(model)).to_json()


def test_per_tensor_weights_and_symmetric_activations_are_the_targets_choice() -> None:
    model = network(FIRST + "y = Relu(a)")
    placement = replace(ONNX, activations="int8", symmetric_activations=True, per_channel=False)
    plan = make_quant_plan(model, placement, INT8, ranges_of(model))
    assert {params.zero_point for params in plan.activations.values()} == {(0,)}
    assert [len(weight.params.scale) for weight in plan.weights.values()] == [1]


def test_activations_without_zero_points_are_signed_only_where_they_go_below_0() -> None:
    model = network(FIRST + "y = Relu(a)")
    ranges = Statistics({**ranges_of(model).ranges, "y": Range(0.0, 5.1)}, 1)
    plan = make_quant_plan(model, replace(ONNX, zero_points=False, quantize_outputs=True), INT8, ranges)
    assert {params.zero_point for params in plan.activations.values()} == {(0,)}
    assert {name: params.dtype for name, params in plan.activations.items()} == {"x": "int8", "y": "uint8"}


@pytest.mark.parametrize(("reach", "is_joined"), [(3.0, True), (40.0, False)])
def test_tensors_of_unlike_ranges_do_not_share_a_scale(reach: float, is_joined: bool) -> None:
    model = network("a = Conv(x, v) b = Conv(a, v) c = Concat<axis=1>(a, b) y = Conv(c, wide)")
    ranges = {"x": Range(-1, 1), "a": Range(-1, 1), "b": Range(-reach, reach), "c": Range(-reach, reach)}
    for placement in (OPENVINO, Target.named("generic-x86").placements["tflite"]):
        placed = place(model, replace(placement, narrow=()), INT8, ranges)
        assert ("Concat_0" in placed.quantized_ops) == is_joined
        assert any({"a", "b"} <= set(group) for group in placed.groups) == is_joined


def test_statistics_of_another_graph_are_an_input_error() -> None:
    model = network(FIRST + "y = Relu(a)")
    with pytest.raises(InputError, match="say nothing of"):
        make_quant_plan(model, ONNX, INT8, Statistics({}, 1))


def test_a_large_bias_widens_its_channels_scale() -> None:
    weights = {"w": np.full((2, 8, 1, 1), 1e-4, "float32"), "o": np.array([1e3, 0], "float32")}
    model = hub.clean(from_text("y = Conv(x, w, o)", **weights))
    plan = make_quant_plan(model, ONNX, INT8, ranges_of(model))
    scales = plan.weights["w"].params.scale
    assert scales[0] > scales[1]
    assert 1e3 / (scales[0] * plan.activations["x"].scale[0]) < 2**31


def test_a_weight_read_along_two_axes_gets_one_scale() -> None:
    body = "a = Gemm<transB=1>(x, m) b = Relu(a) y = Gemm(b, m)"
    model = hub.clean(
        from_text(
            body, inputs='float["batch",4] x', outputs="float[a,b] y", m=RNG.normal(0, 1, (4, 4)).astype("float32")
        )
    )
    plan = make_quant_plan(model, ONNX, INT8, ranges_of(model))
    assert plan.weights["m"].params.axis is None


def test_the_qdq_form_stores_integers_and_keeps_the_signature(tmp_path: Path) -> None:
    model = hub.clean(residual_network())
    quantized = to_qdq(model, make_quant_plan(model, ONNX, INT8, ranges_of(model)))
    hub.save(quantized, tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    assert hub.signature(quantized) == hub.signature(model)
    large = [t for t in onnx.load(tmp_path / "m.onnx").graph.initializer if np.prod(t.dims) > 256]
    assert {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in large} == {"INT8"}


def test_the_qdq_form_computes_what_the_plan_says(tmp_path: Path) -> None:
    """One convolution, against the same arithmetic written out."""
    weights = {"w": RNG.normal(0, 1, (3, 8, 1, 1)).astype("float32"), "o": RNG.normal(0, 1, 3).astype("float32")}
    model = hub.clean(from_text("y = Conv(x, w, o)", opset=19, **weights))  # the evaluator has no older QuantizeLinear
    plan = make_quant_plan(model, ONNX, INT8, Statistics({"x": Range(-2, 2), "y": Range(-9, 9)}, 1))
    hub.save(to_qdq(model, plan), tmp_path / "m.onnx")
    feed = RNG.uniform(-2, 2, (1, 8, 16, 16)).astype("float32")
    (got,) = ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, {"x": feed})

    seen, stored, out = plan.activations["x"], plan.weights["w"], plan.activations["y"]
    image = seen.dequantize(seen.quantize(feed))
    kernel = stored.params.dequantize(stored.values)[:, :, 0, 0]
    exact = np.einsum("oc,nchw->nohw", kernel, image) + weights["o"][None, :, None, None]
    assert got == pytest.approx(out.dequantize(out.quantize(exact)), abs=out.scale[0] * 1.001)


def test_a_plan_says_what_stays_float_a_line_for_each_reason() -> None:
    plan = make_quant_plan(
        model := network(FIRST + "b = Conv(a, v) p = MatMul(b, a) q = MatMul(p, a) y = Add(q, b)"),
        ONNX,
        INT8,
        ranges_of(model),
    )
    (line,) = plan.notes()
    assert line.startswith("2 of the operations stay float")
    assert "not constant" in line
