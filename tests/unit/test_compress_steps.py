"""Steps of a recipe: what is wrong with them is said, and what they did is counted."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgekit.compress import METHODS, compress, read_steps
from edgekit.errors import InputError, UnsupportedError
from edgekit.feeds import random_feeds
from edgekit.graph import clean, signature, weight_bytes
from edgekit.graph.walking import constant
from edgekit.recipe import Recipe
from tests.unit.networks import from_text, recurrent_network, residual_network

STEPS: dict[str, dict[str, Any]] = {
    "prune-magnitude": {"sparsity": 0.5},
    "prune-n-m": {"keep": 2, "of": 4},
    "prune-channels": {"macs": 0.5},
    "cluster": {"bits": 4},
    "factorize": {"max_error": 0.5},
}


@pytest.fixture(scope="module")
def graph() -> ir.Model:
    return clean(residual_network())


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"method": "magic"}, "step 1: there is no method 'magic', only prune-magnitude"),
        ({}, "there is no method None"),
        ({"method": "prune-channels"}, "'macs' is missing"),
        ({"method": "prune-channels", "macs": "half"}, "'macs' is a number, not 'half'"),
        ({"method": "prune-channels", "macs": True}, "'macs' is a number, not True"),
        ({"method": "prune-channels", "macs": 0.5, "mac": 0.5}, "there is no 'mac', only macs"),
        ({"method": "prune-channels", "macs": 0.5, "feeds": []}, "there is no 'feeds'"),
        ({"method": "cluster", "bits": 4.0}, "'bits' is a whole number, not 4.0"),
        ({"method": "cluster", "skip": "head"}, "'skip' is a list of texts, not 'head'"),
        ({"method": "cluster", "per": 3}, "'per' is a text, not 3"),
        ({"method": "prune-n-m", "keep": None}, "'keep' is a whole number, not None"),
    ],
)
def test_what_is_wrong_with_a_step_is_said(step: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        read_steps([step])
    assert said in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UnsupportedError) as caught:
        read_steps([{"method": "magic"}, {"method": "cluster", "bit": 4, "per": 1}])
    assert len(caught.value.offenders) == 3


def test_a_value_out_of_range_names_the_step(graph: ir.Model) -> None:
    with pytest.raises(UnsupportedError, match="step 2, prune-channels: 'macs' is a number above 0") as caught:
        compress(graph, [{"method": "prune-n-m"}, {"method": "prune-channels", "macs": 2}])
    assert caught.value.message.startswith("step 2, prune-channels")


def test_every_method_can_be_read_and_has_no_more_than_plain_parameters() -> None:
    assert set(STEPS) == set(METHODS)
    steps = json.loads(json.dumps([{"method": name, **given} for name, given in STEPS.items()]))
    assert [step.method for step in read_steps(steps)] == list(STEPS)


def test_steps_of_a_recipe_are_taken_as_they_are(graph: ir.Model) -> None:
    recipe = Recipe("small", "fp32", compress=({"method": "cluster", "bits": 2}, {"method": "prune-n-m"}))
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    _, effects = compress(graph, again.compress)
    assert [effect.method for effect in effects] == ["cluster", "prune-n-m"]


@pytest.mark.parametrize("method", STEPS)
def test_an_effect_says_what_happened(graph: ir.Model, method: str) -> None:
    written = ir.to_proto(graph).SerializeToString(deterministic=True)
    model, (effect,) = compress(graph, [{"method": method, **STEPS[method]}])
    assert ir.to_proto(graph).SerializeToString(deterministic=True) == written
    assert effect.parameters == STEPS[method]
    assert effect.weight_bytes_before == weight_bytes(graph)
    assert effect.weight_bytes_after == weight_bytes(model)
    assert effect.gzip_bytes_after < effect.gzip_bytes_before
    assert effect.palette_gzip_bytes_after <= 1.1 * effect.gzip_bytes_after
    assert {node.name for node in graph.graph} <= {node.name for node in model.graph}
    assert set(effect.operations) <= {node.name for node in graph.graph}
    assert 0 < effect.max_weight_error < 1
    is_cheaper = method in ("prune-channels", "factorize")
    assert (effect.macs_after < effect.macs_before) is is_cheaper
    assert json.loads(json.dumps(effect.to_json()))["method"] == method


def test_no_effect_is_an_effect(graph: ir.Model) -> None:
    _, (effect,) = compress(graph, [{"method": "factorize", "max_error": 0.001}])
    assert effect.operations == ()
    assert effect.max_weight_error == 0
    assert effect.macs_after == effect.macs_before
    assert effect.gzip_bytes_after == effect.gzip_bytes_before


def test_four_bits_are_more_than_six_times_smaller_behind_gzip(graph: ir.Model) -> None:
    _, (plain,) = compress(graph, [{"method": "cluster", "bits": 4}])
    assert plain.weight_bytes_before / plain.palette_gzip_bytes_after > 6
    _, (asked,) = compress(graph, [{"method": "cluster", "bits": 4, "times_smaller": 6.5}])
    assert asked.weight_bytes_before / asked.gzip_bytes_after > 6
    assert asked.max_weight_error > plain.max_weight_error


def test_steps_build_on_one_another(graph: ir.Model) -> None:
    steps = [{"method": "prune-channels", "macs": 0.6}, {"method": "prune-magnitude", "sparsity": 0.5},
             {"method": "cluster", "bits": 3}]  # fmt: skip
    model, effects = compress(graph, steps)
    for before, after in pairwise(effects):
        assert before.weight_bytes_after == after.weight_bytes_before
        assert before.macs_after == after.macs_before
    weights = [node.inputs[1] for node in model.graph if node.op_type == "Conv" and node.inputs[1].shape[1] > 1]
    arrays = [constant(weight) for weight in weights]
    assert all(len(np.unique(array)) <= 8 for array in arrays)
    assert sum(int((array == 0).sum()) for array in arrays) > 0.45 * sum(array.size for array in arrays)


def test_feeds_go_to_the_methods_that_look_at_them(graph: ir.Model) -> None:
    steps = [{"method": "prune-channels", "macs": 0.7, "importance": "activation"}]
    feeds = random_feeds(signature(graph), count=2)
    _, (effect,) = compress(graph, steps, feeds=feeds)
    assert effect.macs_after <= 0.7 * effect.macs_before
    with pytest.raises(InputError, match="step 1, prune-channels"):
        compress(graph, steps)


def test_nothing_to_do_is_no_error() -> None:
    model, effects = compress(recurrent_network(), [])
    assert effects == []
    assert len(model.graph) == 2


def test_nodes_without_a_name_are_told_apart() -> None:
    weights = {name: np.random.default_rng(1).normal(0, 1, (8, 8, 1, 1)).astype("float32") for name in ("w", "v")}
    _, (effect,) = compress(from_text("a = Conv(x, w) y = Conv(a, v)", **weights), [{"method": "cluster", "bits": 2}])
    assert len(set(effect.operations)) == 2
