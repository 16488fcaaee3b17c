"""What sets formats of one recipe apart, by plans worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import edgekit.graph as hub
from edgekit.conversion.comparing import FormatFile, explain_formats
from edgekit.conversion.reports import ConversionReport, VariantReport
from edgekit.plan import Plan
from edgekit.quantize import QuantPlan, make_quant_plan, observe
from edgekit.quantize.plan import QuantizedWeight
from edgekit.quantize.sensitivity import sensitivity
from edgekit.recipe import Recipe, Rule
from edgekit.report.conversion_view import view
from edgekit.report.text import render
from edgekit.spec import QuantParams
from edgekit.target import Target
from tests.unit.networks import from_text

INT8 = Recipe.named("w8a8")
RNG = np.random.default_rng(8)
ONNX = Target.named("generic-x86").placements["onnx"]
FEEDS = [{"x": RNG.normal(0, 1, (1, 4, 8, 8)).astype("float32")} for _ in range(4)]


@pytest.fixture(scope="module")
def graph() -> ir.Model:
    weights = {name: RNG.normal(0, 0.3, (8, size, 3, 3)).astype("float32") for name, size in (("w", 4), ("v", 8))}
    body = "a = Conv<pads=[1,1,1,1]>(x, w) r = Relu(a) y = Conv(r, v)"
    return hub.clean(from_text(body, inputs="float[1,4,8,8] x", outputs="float[1,8,6,6] y", **weights))


@pytest.fixture(scope="module")
def plan(graph: ir.Model) -> QuantPlan:
    return make_quant_plan(graph, ONNX, INT8, observe(graph, FEEDS))


def told(mine: dict[str, Any], best: dict[str, Any], recipe: Recipe = INT8) -> list[str]:
    """What is said of `mine`, two decibels behind."""
    files = [FormatFile("mine-w8a8", "w8a8", **{"recipe": recipe, "sqnr_db": 20.0, **mine}),
             FormatFile("best-w8a8", "w8a8", **{"recipe": recipe, "sqnr_db": 22.0, **best})]  # fmt: skip
    found = explain_formats(files)
    assert list(found) == ["mine-w8a8"]
    head, *reasons = found["mine-w8a8"]
    assert head == "20.0 dB against the source, where best-w8a8 has 22.0 dB"
    return reasons


def test_formats_within_a_decibel_are_not_explained(graph: ir.Model, plan: QuantPlan) -> None:
    files = [FormatFile(f"{name}-w8a8", "w8a8", INT8, decibels) for name, decibels in (("a", 20.0), ("b", 20.9))]
    assert explain_formats(files) == {}
    other_recipe = FormatFile("c-w8", "w8", Recipe.named("w8"), 40.0)
    assert explain_formats([*files, other_recipe]) == {}
    exact = Recipe.named("fp32")
    floats = [FormatFile("a-fp32", "fp32", exact, 140.0), FormatFile("b-fp32", "fp32", exact, math.inf)]
    assert explain_formats(floats) == {}


def test_equal_plans_leave_the_kernels(graph: ir.Model, plan: QuantPlan) -> None:
    made = {"graph": graph, "plan": plan}
    kernels = "what differs is how their engines compute"
    assert told(made, made) == [f"the plans of both round the same to the same numbers: {kernels}"]
    assert told({}, {}, Recipe.named("fp16")) == [f"the plans of both round nothing to integers: {kernels}"]


def test_types_that_stand_for_the_same_numbers_are_no_difference(graph: ir.Model, plan: QuantPlan) -> None:
    shifted = {n: QuantParams("int8", p.scale, (p.zero_point[0] - 128,)) for n, p in plan.activations.items()}
    reasons = told({"graph": graph, "plan": replace(plan, activations=shifted)}, {"graph": graph, "plan": plan})
    assert reasons[0].startswith("the plans of both round the same")


def test_an_operation_that_is_float_in_one_is_named_with_its_share_and_why(graph: ir.Model, plan: QuantPlan) -> None:
    last = graph.graph[-1].name or ""
    why = "so narrow a convolution is faster in float here"
    fewer = replace(plan, quantized_ops=plan.quantized_ops[:-1], float_ops={last: why})
    (reason,) = told({"graph": graph, "plan": fewer}, {"graph": graph, "plan": plan})
    macs = 8 * 8 * 9 * 36, 8 * 4 * 9 * 64
    share = macs[0] / sum(macs)
    assert reason == f"1 operation, {share:.1%} of the multiplications, fp32 here and w8a8 in best-w8a8 ({why}): {last}"


def test_tensors_only_one_rounds_and_wider_steps_are_named(graph: ir.Model, plan: QuantPlan) -> None:
    first, second, last = plan.activations
    fewer = replace(plan, activations={name: plan.activations[name] for name in (first, second)})
    reasons = told({"graph": graph, "plan": plan}, {"graph": graph, "plan": fewer})
    assert reasons == [f"1 tensor rounded here and float in best-w8a8: {last}"]
    reasons = told({"graph": graph, "plan": fewer}, {"graph": graph, "plan": plan})
    assert reasons == [f"1 tensor float here and rounded in best-w8a8: {last}"]
    params = plan.activations[second]
    wider = {**plan.activations, second: replace(params, scale=(params.scale[0] * 4,))}
    reasons = told({"graph": graph, "plan": replace(plan, activations=wider)}, {"graph": graph, "plan": plan})
    assert reasons == [f"1 tensor rounded in other steps than in best-w8a8, so many times as wide: {second} (x4)"]


def test_weights_of_other_numbers_are_named(graph: ir.Model, plan: QuantPlan) -> None:
    name, weight = next(iter(plan.weights.items()))
    moved = {**plan.weights, name: QuantizedWeight(weight.params, weight.values[::-1])}
    reasons = told({"graph": graph, "plan": replace(plan, weights=moved)}, {"graph": graph, "plan": plan})
    assert reasons == [f"1 weight rounded to other numbers than in best-w8a8: {name}"]


def test_noise_is_told_where_it_was_measured(graph: ir.Model, plan: QuantPlan) -> None:
    only_weights = replace(plan, activations={}, weights={}, quantized_ops=(), stored=dict(plan.weights))
    measured = sensitivity(graph, [plan, only_weights], FEEDS[:2])
    reasons = told({"graph": graph, "plan": plan, "sensitivity": measured},
                   {"graph": graph, "plan": only_weights, "sensitivity": measured})  # fmt: skip
    ours, theirs = measured.predict_db(plan), measured.predict_db(only_weights)
    assert ours < theirs
    added = f"its roundings add up to {ours:.1f} dB, those of best-w8a8 to {theirs:.1f} dB"
    assert reasons[-1] == f"measured one at a time on 2 samples, {added}"
    assert "2 operations, 100.0% of the multiplications, w8a8 here and w8 in best-w8a8: " in reasons[0]
    assert reasons[0].count(" dB rounded alone)") == 2
    assert reasons[1].startswith("3 tensors rounded here and float in best-w8a8, ")
    assert " dB together: " in reasons[1]


def test_what_the_engines_ran_in_integers_is_told_where_it_differs(graph: ir.Model, plan: QuantPlan) -> None:
    made = {"graph": graph, "plan": plan}
    reasons = told({**made, "int8_macs_share": 0.5}, {**made, "int8_macs_share": 1.0})
    assert reasons[0] == "its engine runs 50.0% of the multiplications in integers, that of best-w8a8 100.0%"
    assert reasons[1].startswith("the plans of both round the same")


def test_other_recipes_of_a_search_and_vendors_roads_are_named(graph: ir.Model, plan: QuantPlan) -> None:
    made = {"graph": graph, "plan": plan}
    found = INT8.with_rule(Rule("fp32", name="a", reason="12.0 dB by its rounding alone"))
    again = INT8.with_rule(Rule("fp32", name="a", reason="14.0 dB by its rounding alone"))
    reasons = told({**made, "recipe": replace(found, rounding="gptq")}, {**made, "recipe": again})
    assert reasons == ["the search found another recipe for it, of other rounding"]
    (reason,) = told(made, {"road": "ai-edge-torch"})
    assert reason == "best-w8a8 was made by ai-edge-torch, which decides by itself what is rounded"


def test_the_report_shows_it() -> None:
    plan = Plan("net.onnx", "onnx", Target.named("generic-x86"), ())
    variants = [VariantReport("onnx-w8a8", "onnx", "w8a8", "w8a8", "written", apart=("20.0 dB", "because"))]
    shown = render(view(ConversionReport(plan, None, tuple(variants)), "x.edge"))
    assert "More than 1 dB behind another format of the recipe" in shown
    assert "onnx w8a8: 20.0 dB; because" in shown
