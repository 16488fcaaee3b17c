"""What every rounding alone does, what follows from it, and the policy a graph has."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import edgekit.graph as hub
from edgekit.errors import ArtifactError, InputError
from edgekit.graph import save
from edgekit.quantize import QuantPlan, Statistics, make_quant_plan, observe, to_qdq
from edgekit.quantize.excluding import in_steps, rank_exclusions, without
from edgekit.quantize.layers import layers_of
from edgekit.quantize.policies import front_of, kind_of, policy_for
from edgekit.quantize.sensitivity import Sensitivity, Unit, sensitivity
from edgekit.quantize.switching import NONE, with_switch
from edgekit.recipe import Recipe, Rule
from edgekit.registry import RUNTIMES
from edgekit.report.layers_view import layers_view
from edgekit.report.markdown import render
from edgekit.runtime import EngineOptions, Session
from edgekit.target import Target
from tests.unit.networks import from_text, recurrent_network, residual_network

INT8, DYNAMIC, W4 = (Recipe.named(name) for name in ("w8a8", "w8a8-dynamic", "w4g32"))
PLACEMENTS = Target.named("generic-x86").placements
RNG = np.random.default_rng(0)


def answers(model: ir.Model, folder: Path, feeds: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    save(model, folder / "asked.onnx")
    with Session(RUNTIMES.get("onnx").open(folder / "asked.onnx", EngineOptions(threads=1)), runtime="onnx") as session:
        return [np.concatenate([a.ravel() for a in session.run(feed).values()]).astype("float64") for feed in feeds]


def decibels(exact: list[np.ndarray], rounded: list[np.ndarray]) -> float:
    noise = sum(float(np.square(a - b).sum()) for a, b in zip(exact, rounded, strict=True))
    return 10 * math.log10(sum(float(np.square(a).sum()) for a in exact) / noise) if noise else math.inf


class Net:
    """The residual network, what was seen of it, and its plans and sensitivity."""

    def __init__(self) -> None:
        self.graph = hub.clean(residual_network())
        (name,) = (value.name for value in self.graph.graph.inputs)
        shape = [int(d) if isinstance(d, int) else 1 for d in self.graph.graph.inputs[0].shape or ()]
        self.feeds = [{name or "": RNG.normal(0, 1, shape).astype("float32")} for _ in range(4)]
        self.statistics: Statistics = observe(self.graph, self.feeds)
        self.plans: Mapping[str, QuantPlan] = {
            format: make_quant_plan(self.graph, placement, INT8, self.statistics)
            for format, placement in PLACEMENTS.items()
        }
        self.found: Sensitivity = sensitivity(self.graph, self.plans.values(), self.feeds)


@pytest.fixture(scope="module")
def net() -> Net:
    return Net()


def test_with_the_switch_off_the_graph_answers_as_it_did(net: Net, tmp_path: Path) -> None:
    from edgekit.quantize.sensitivity import _forms

    forms = _forms(net.graph, list(net.plans.values()))
    switched, switch = with_switch(net.graph, {form: index for index, form in enumerate(forms.values())})
    off = [{**feed, switch: np.array(NONE, "int64")} for feed in net.feeds]
    exact, same = answers(net.graph, tmp_path, net.feeds), answers(switched, tmp_path, off)
    for one, other in zip(exact, same, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_rounding_alone_is_what_the_qdq_form_of_it_alone_does(net: Net, tmp_path: Path) -> None:
    plan = net.plans["onnx"]
    exact = answers(net.graph, tmp_path, net.feeds)
    anchors = [name for name in plan.quantized_ops if Unit("weights", name, "8") in net.found.noises]
    assert len(anchors) >= 5
    for name in anchors:
        weights = {one: plan.weights[one] for one in net.found.constants[name] if one in plan.weights}
        alone = QuantPlan(weights=weights, quantized_ops=(name,))
        real = decibels(exact, answers(to_qdq(net.graph, alone), tmp_path, net.feeds))
        assert net.found.predict_db(alone) == pytest.approx(real, abs=1.0), name
    for name, params in list(plan.activations.items()):
        alone = QuantPlan(activations={name: params}, quantized_ops=plan.quantized_ops)
        real = decibels(exact, answers(to_qdq(net.graph, alone), tmp_path, net.feeds))
        assert -10 * math.log10(net.found.noises[Unit("activation", name, "8")].max()) == pytest.approx(real, abs=0.3)


@pytest.mark.parametrize("format", PLACEMENTS)
def test_noises_add_up_to_what_a_plan_does(net: Net, tmp_path: Path, format: str) -> None:
    plan = net.plans[format]
    real = decibels(answers(net.graph, tmp_path, net.feeds), answers(to_qdq(net.graph, plan), tmp_path, net.feeds))
    assert net.found.predict_db(plan) == pytest.approx(real, abs=3)
    assert 0.0 < net.found.weights_share(plan) < 1.0


def test_a_layer_with_a_wild_weight_leaves_first() -> None:
    """One number of a kernel is 300 times as large, and there is one scale for all of them: the others drown."""
    w = RNG.normal(0, 1, (8, 8, 3, 3)).astype("float32")
    wild = w.copy()
    wild[3, 2, 1, 1] = 300.0
    body = "a = Conv<pads=[1,1,1,1]>(x, w) r = Relu(a) b = Conv(r, wild) t = Tanh(b) y = Conv(t, w)"
    graph = hub.clean(from_text(body, w=w, wild=wild))
    feeds = [{"x": RNG.normal(0, 1, (1, 8, 16, 16)).astype("float32")} for _ in range(3)]
    placement = replace(PLACEMENTS["onnx"], per_channel=False)
    plan = make_quant_plan(graph, placement, INT8, observe(graph, feeds))
    found = sensitivity(graph, [plan], feeds)
    (first, *_) = rank_exclusions(graph, plan, found, placement, min_share=0.0)
    assert first.name == "Conv_1"
    assert first.precision == "fp16", "its weights are the trouble, so they may not stay in 8 bits"
    assert min(found.layers(plan), key=lambda layer: layer.sqnr_db).name == "Conv_1"
    assert found.weights_share(plan) > 0.6


def test_exclusions_better_the_prediction_and_keep_the_multiplications_they_are_told_to(net: Net) -> None:
    plan, placement = net.plans["onnx"], PLACEMENTS["onnx"]
    ranked = rank_exclusions(net.graph, plan, net.found, placement, min_share=0.6)
    assert ranked
    assert all(one.kept_share >= 0.6 for one in ranked)
    predicted = [one.predicted_db for one in ranked]
    assert predicted == sorted(predicted)
    steps = in_steps(ranked, net.found.predict_db(plan))
    assert [one for step in steps for one in step] == ranked
    assert len(steps) <= len(ranked)
    recipe = without(INT8, ranked)
    changed = make_quant_plan(net.graph, placement, recipe, net.statistics)
    assert not {one.name for one in ranked} & set(changed.quantized_ops)
    assert net.found.predict_db(changed) > net.found.predict_db(plan)


def test_more_roundings_than_may_be_tried_are_tried_together(net: Net) -> None:
    some = sensitivity(net.graph, net.plans.values(), net.feeds[:3], max_units=10)
    assert set(some.noises) == set(net.found.noises)
    assert 0 < len(some.together) < len(some.noises)
    assert not net.found.together
    assert some.predict_db(net.plans["onnx"]) == pytest.approx(net.found.predict_db(net.plans["onnx"]), abs=3)


def test_recurrent_layers_of_the_range_of_each_call_are_measured() -> None:
    w, r = (RNG.normal(0, 0.3, (1, 64, size)).astype("float32") for size in (12, 16))
    body = "a, h, c = LSTM<hidden_size=16>(x, w, r) y = Squeeze(a, one)"
    text = {"inputs": "float[5,1,12] x", "outputs": "float[s,b,h] y"}
    graph = hub.clean(from_text(body, **text, w=w, r=r, one=np.array([1])))
    feeds = [{"x": RNG.normal(0, 1, (5, 1, 12)).astype("float32")} for _ in range(3)]
    plans = [make_quant_plan(graph, PLACEMENTS["onnx"], recipe) for recipe in (DYNAMIC, Recipe.named("w8"))]
    found = sensitivity(graph, plans, feeds)
    dynamic, small = (found.predict_db(plan) for plan in plans)
    assert 15 < dynamic < small < 80
    (layer,) = (layer for layer in found.layers(plans[0]) if layer.op_type == "LSTM")
    assert layer.activations_db is not None
    assert layer.weights_db is not None


def test_sensitivity_wants_samples(net: Net) -> None:
    with pytest.raises(InputError, match="no sample"):
        sensitivity(net.graph, net.plans.values(), [])


W = {"w": RNG.normal(0, 1, (8, 8, 3, 3)).astype("float32"), "d": RNG.normal(0, 1, (16, 16)).astype("float32")}
AUDIO = RNG.normal(0, 1, (16, 1, 128)).astype("float32")
IMAGE = {"inputs": "float[1,8,16,16] x", "outputs": "float[a,b,c,d] y"}
ROWS = {"inputs": "float[1,16] x", "outputs": "float[a,b] y"}
KINDS = {
    "cnn": ("y = Conv(x, w)", IMAGE),
    "dense": ("h = MatMul(x, d) r = Relu(h) y = MatMul(r, d)", ROWS),
    "transformer": (
        "q = MatMul(x, d) k = MatMul(x, d) t = Transpose<perm=[0,2,1]>(k) s = MatMul(q, t) p = Softmax(s)"
        " v = MatMul(x, d) y = MatMul(p, v)",
        {"inputs": "float[1,4,16] x", "outputs": "float[a,b,c] y"},
    ),
    "instance-norm": (
        "a = Conv(x, w) b = InstanceNormalization(a, o, o) c = InstanceNormalization(b, o, o)"
        " y = InstanceNormalization(c, o, o)",
        IMAGE,
    ),
    "audio": ("y = Conv<strides=[64]>(x, audio)", {"inputs": "float[1,1,4096] x", "outputs": "float[a,b,c] y"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_net_is_known_by_what_it_multiplies(kind: str) -> None:
    body, options = KINDS[kind]
    weights = {**W, "audio": AUDIO, "o": np.ones(8, "float32")}
    used = {name: array for name, array in weights.items() if f" {name})" in body or f" {name}," in body}
    graph = hub.clean(from_text(body, **options, **used))
    assert kind_of(graph) == kind
    policy = policy_for(graph)
    assert policy.candidates
    assert policy.last[-1].precision == "w8"


def test_a_net_of_lstms_is_recurrent_and_its_first_layer_gets_a_rule() -> None:
    graph = hub.clean(recurrent_network())
    assert kind_of(graph) == "recurrent"
    rules = [recipe.rules for recipe in policy_for(graph).candidates]
    assert [[rule.precision for rule in some] for some in rules] == [[], ["w8"], ["fp32"]]


def test_fixed_kernels_on_raw_audio_stay_float_by_exact_names() -> None:
    body = "[stft] y = Conv<strides=[64]>(x, audio)"
    graph = hub.clean(
        from_text(body.removeprefix("[stft] "), inputs="float[1,1,4096] x", outputs="float[a,b,c] y", audio=AUDIO)
    )
    (node,) = graph.graph
    node.name = "front[0]*"
    assert front_of(graph) == ("front[0]*",)
    (rule,) = policy_for(graph).candidates[0].rules
    assert rule.matches("front[0]*", "Conv")
    assert not rule.matches("front0x", "Conv")


def test_every_policy_gives_its_evidence_and_recipes_that_survive_json() -> None:
    data = json.loads((Path(hub.__file__).parent.parent / "quantize" / "policies.json").read_text())
    graph = hub.clean(residual_network())
    for kind, policy in data["kinds"].items():
        assert any(character.isdigit() for character in policy["why"]), kind
        made = policy_for(graph, kind)
        for recipe in (*made.candidates, *made.last):
            assert Recipe.from_json(recipe.to_json()) == recipe
            assert recipe.description
    assert not any(recipe.precision == "w8a8" and recipe.smooth is None
                   for recipe in policy_for(graph, "transformer").candidates), "never plain static"  # fmt: skip
    with pytest.raises(ArtifactError, match="no policy"):
        policy_for(graph, "perceptron")


def test_layers_are_shown_side_by_side(net: Net) -> None:
    everywhere = set.intersection(*(set(plan.quantized_ops) for plan in net.plans.values()))
    name = next(node.name for node in net.graph.graph if node.op_type == "Conv" and node.name in everywhere)
    recipe = INT8.with_rule(Rule("fp32", name=name or "", reason="said so"))
    plans = {**net.plans, "onnx": make_quant_plan(net.graph, PLACEMENTS["onnx"], recipe, net.statistics)}
    rows = json.loads(json.dumps(layers_of(net.graph, plans, net.found)))
    assert sum(row["macs_share"] for row in rows) == pytest.approx(1.0, abs=1e-3)
    first = next(row for row in rows if row["name"] == recipe.rules[0].name)
    assert first["plans"]["onnx"] == {"precision": "fp32", "weights_sqnr_db": None, "why": "said so"}
    assert first["plans"]["tflite"]["precision"] == "w8a8"
    assert first["plans"]["tflite"]["weights_sqnr_db"] > 30
    parts = (first["weights_sensitivity_db"], first["activations_sensitivity_db"])  # None for no noise at all
    assert first["sensitivity_db"] <= min(part for part in parts if part is not None)
    text = render(layers_view("net.edge", rows))
    assert "| openvino" in text.replace("| `openvino`", "| openvino")
    assert "said so" in text


def test_layers_of_four_bits_say_so() -> None:
    d = RNG.normal(0, 1, (64, 64)).astype("float32")
    graph = hub.clean(from_text("y = MatMul(x, d)", inputs="float[1,64] x", outputs="float[a,b] y", d=d))
    plan = make_quant_plan(graph, PLACEMENTS["onnx"], W4)
    found = sensitivity(graph, [plan], [{"x": RNG.normal(0, 1, (1, 64)).astype("float32")}])
    (row,) = layers_of(graph, {"onnx-w4g32": plan}, found)
    assert row["plans"]["onnx-w4g32"]["precision"] == "w4g32"
    assert row["sensitivity_db"] == pytest.approx(row["plans"]["onnx-w4g32"]["weights_sqnr_db"], abs=3)
