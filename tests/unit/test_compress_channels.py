"""Channels: which stand or fall together, and that what is left computes what it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from edgekit.compress import ChannelPlan, apply_channels, cut_arrays, plan_channels, prune_channels
from edgekit.compress.coupling import couple
from edgekit.compress.importance import channel_powers
from edgekit.compress.weights import set_weight
from edgekit.errors import InputError, UnsupportedError
from edgekit.feeds import random_feeds
from edgekit.graph import clean, copy_of, costs, infer_shapes, save, signature
from edgekit.graph.walking import constant
from edgekit.making import find_model
from edgekit.named_files import file_of
from tests.unit.networks import from_text, recurrent_network, residual_network

RNG = np.random.default_rng(0)
CONV_IN = 'float["n",4,8,8] x'


def w(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype("float32")


NETS: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "a chain with biases and a prelu": (
        "a = Conv<pads=[1,1,1,1]>(x, a_w, a_b) r = PRelu(a, slope) y = Conv(r, z_w)",
        {"a_w": w(12, 4, 3, 3), "a_b": w(12), "slope": np.abs(w(12, 1, 1)), "z_w": w(3, 12, 1, 1)},
    ),
    "a residual with batch norms": (
        "a = Conv(x, a_w) n = BatchNormalization(a, g, b, m, v) r = Relu(n) c = Conv<pads=[1,1,1,1]>(r, c_w) "
        "s = Add(c, r) t = Relu(s) y = Conv(t, z_w)",
        {"a_w": w(12, 4, 1, 1), "g": w(12), "b": w(12), "m": w(12), "v": np.abs(w(12)) + 1, "c_w": w(12, 12, 3, 3),
         "z_w": w(3, 12, 1, 1)},
    ),
    "a depthwise convolution with a multiplier": (
        "a = Conv(x, a_w) d = Conv<group=10>(a, d_w, d_b) y = Conv(d, z_w)",
        {"a_w": w(10, 4, 1, 1), "d_w": w(20, 1, 3, 3), "d_b": w(20), "z_w": w(3, 20, 1, 1)},
    ),
    "a grouped convolution": (
        "a = Conv(x, a_w) d = Conv<group=3>(a, d_w) y = Conv(d, z_w)",
        {"a_w": w(12, 4, 1, 1), "d_w": w(18, 4, 3, 3), "z_w": w(3, 18, 1, 1)},
    ),
    "a concat that is split, sliced and joined again": (
        "a = Conv(x, a_w) b = Conv(x, b_w) j = Concat<axis=1>(a, b) p, q = Split<axis=1>(j, sizes) "
        "s = Slice(j, start, stop, axis) k = Concat<axis=1>(q, p, s) y = Conv(k, z_w)",
        {"a_w": w(8, 4, 1, 1), "b_w": w(6, 4, 1, 1), "sizes": np.array([5, 9]), "start": np.array([-11]),
         "stop": np.array([12]), "axis": np.array([1]), "z_w": w(3, 23, 1, 1)},
    ),
    "squeeze and excitation": (
        "a = Conv(x, a_w) m = GlobalAveragePool(a) e = Conv(m, e_w, e_b) f = Relu(e) h = Conv(f, h_w) s = Sigmoid(h) "
        "t = Mul(a, s) y = Conv(t, z_w)",
        {"a_w": w(12, 4, 1, 1), "e_w": w(6, 12, 1, 1), "e_b": w(6), "h_w": w(12, 6, 1, 1), "z_w": w(3, 12, 1, 1)},
    ),
    "a transposed convolution and a resize": (
        "a = Conv(x, a_w) u = ConvTranspose<strides=[2,2]>(a, u_w, u_b) r = Resize<mode=\"nearest\">(u, , , sizes) "
        "y = Conv(r, z_w)",
        {"a_w": w(8, 4, 1, 1), "u_w": w(8, 10, 2, 2), "u_b": w(10), "sizes": np.array([1, 10, 32, 32]),
         "z_w": w(3, 10, 1, 1)},
    ),
}  # fmt: skip


def net(name: str) -> ir.Model:
    body, weights = NETS[name]
    batch = "1" if "Resize" in body else '"n"'
    return infer_shapes(from_text(body, inputs=f"float[{batch},4,8,8] x", **weights))


def dense_net(kind: str) -> ir.Model:
    """A convolution whose channels are flattened for a dense layer, in the order of Keras or of PyTorch."""
    turn = "t = Transpose<perm=[0,2,3,1]>(r)" if kind == "channels last" else "t = Identity(r)"
    flat = "f = Reshape(t, shape)" if kind == "reshape" else "f = Flatten(t)"
    body = f"a = Conv(x, a_w) r = Relu(a) {turn} {flat} h = Gemm<transB=1>(f, h_w, h_b) i = Relu(h) y = MatMul(i, z_w)"
    weights = {"a_w": w(6, 4, 3, 3), "h_w": w(16, 216), "h_b": w(16), "z_w": w(16, 5)}
    shape = {"shape": np.array([-1, 216])} if kind == "reshape" else {}
    return infer_shapes(from_text(body, inputs=CONV_IN, outputs="float[n,c] y", **weights, **shape))


def answers(model: ir.Model, seed: int = 5) -> list[np.ndarray]:
    proto = ir.to_proto(copy_of(model))
    onnx.checker.check_model(proto, full_check=True)
    (feeds,) = random_feeds(signature(model), count=1, seed=seed)
    return ReferenceEvaluator(proto).run(None, feeds)


def silenced(model: ir.Model, plan: ChannelPlan) -> ir.Model:
    """The graph with the slices that read what the plan leaves out set to zero: nothing is lost by leaving it out."""
    quiet = copy_of(model)
    for node in quiet.graph:
        axis = {"Conv": 1, "ConvTranspose": 0, "MatMul": 0}.get(node.op_type)
        if node.op_type == "Gemm":
            axis = 1 if node.attributes.get_int("transB", 0) else 0
        name = node.inputs[1].name if axis is not None else None
        if name in plan.kept and axis in plan.kept[name]:
            array = np.moveaxis(constant(node.inputs[1]).copy(), axis, 0)
            array[np.delete(np.arange(len(array)), plan.kept[name][axis])] = 0
            set_weight(node.inputs[1], np.moveaxis(array, 0, axis))
    return quiet


def require_equal(before: ir.Model, plan: ChannelPlan) -> ir.Model:
    after = apply_channels(before, plan)
    expected, got = answers(silenced(before, plan)), answers(after)
    assert any(not np.allclose(a, b) for a, b in zip(answers(before), expected, strict=True)), "nothing was silenced"
    for a, b in zip(expected, got, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * np.abs(a).max())
    return after


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("share", [0.75, 0.4])
def test_what_is_left_computes_as_if_the_others_were_silent(name: str, share: float) -> None:
    before = net(name)
    plan = plan_channels(before, macs=share)
    assert plan.macs_after <= share * plan.macs_before
    after = require_equal(before, plan)
    assert sum(cost.macs or 0 for cost in costs(after)) == plan.macs_after
    assert sum(cost.macs or 0 for cost in costs(before)) == plan.macs_before


@pytest.mark.parametrize("kind", ["channels first", "channels last", "reshape"])
def test_a_channel_goes_with_all_its_places_behind_a_flatten(kind: str) -> None:
    before = dense_net(kind)
    plan = plan_channels(before, macs=0.6)
    require_equal(before, plan)
    kept = np.zeros(216, bool)
    kept[list(plan.kept["h_w"][1])] = True
    places = kept.reshape(36, 6).T if kind == "channels last" else kept.reshape(6, 36)
    assert np.all(places.all(axis=1) == places.any(axis=1))
    assert tuple(np.flatnonzero(places[:, 0])) == plan.kept["a_w"][0]


@given(st.integers(0, 2**31), st.floats(0.2, 0.95), st.sampled_from([1, 2, 4]))
@settings(max_examples=15, deadline=None)
def test_a_net_whose_pruned_channels_are_zero_answers_the_same(seed: int, share: float, multiple: int) -> None:
    before = clean(residual_network(seed % 7))
    plan = plan_channels(before, macs=share, multiple=multiple, at_least=0.1)
    quiet = silenced(before, plan)
    after = apply_channels(quiet, plan)
    assert plan.macs_after <= share * plan.macs_before
    np.testing.assert_allclose(answers(after)[0], answers(quiet)[0], rtol=1e-3, atol=1e-6)


def test_attention_loses_whole_heads() -> None:
    body = (
        "q0 = MatMul(x, q_w) q1 = Reshape(q0, heads) q = Transpose<perm=[0,2,1,3]>(q1) "
        "k0 = MatMul(x, k_w) k1 = Reshape(k0, heads) k = Transpose<perm=[0,2,3,1]>(k1) "
        "v0 = MatMul(x, v_w) v1 = Reshape(v0, heads) v = Transpose<perm=[0,2,1,3]>(v1) "
        "s = MatMul(q, k) p = Softmax<axis=-1>(s) c = MatMul(p, v) d = Transpose<perm=[0,2,1,3]>(c) "
        "e = Reshape(d, flat) y = MatMul(e, o_w)"
    )
    weights = {name: w(12, 24) for name in ("q_w", "k_w", "v_w")} | {"o_w": w(24, 12)}
    shapes = {"heads": np.array([0, 0, 6, 4]), "flat": np.array([0, 0, 24])}
    options = {"inputs": "float[2,5,12] x", "outputs": "float[a,b,c] y"}
    before = infer_shapes(from_text(body, **options, **weights, **shapes))
    plan = plan_channels(before, macs=0.6)
    kept = np.asarray(plan.kept["o_w"][0])
    assert len(kept) % 4 == 0
    assert 0 < len(kept) < 24
    assert set(kept // 4) == set(kept[::4] // 4)
    assert all(plan.kept[name][1] == plan.kept["o_w"][0] for name in ("q_w", "k_w", "v_w"))
    require_equal(before, plan)


def test_names_stay_and_the_argument_does() -> None:
    before = clean(residual_network())
    written = ir.to_proto(before).SerializeToString(deterministic=True)
    after, errors = prune_channels(before, macs=0.5)
    assert ir.to_proto(before).SerializeToString(deterministic=True) == written
    assert [node.name for node in after.graph] == [node.name for node in before.graph]
    assert [v.name for v in (*after.graph.inputs, *after.graph.outputs)] == ["image", "scores"]
    assert [v.shape for v in after.graph.outputs] == [v.shape for v in before.graph.outputs]
    assert set(errors) == {node.name for node in before.graph if node.op_type in ("Conv", "Gemm")}
    assert all(0 < error < 1 for error in errors.values())


def test_layers_keep_multiples_and_a_share() -> None:
    before = clean(residual_network())
    plan = plan_channels(before, macs=0.5, multiple=8, at_least=0.5)
    for node in before.graph:
        name = node.inputs[1].name if node.op_type == "Conv" else ""
        if name in plan.kept and 0 in plan.kept[name]:
            count, all_of_them = len(plan.kept[name][0]), node.inputs[1].shape[0]
            assert count % 8 == 0
            assert count >= all_of_them / 2


def test_a_skipped_operation_keeps_its_channels() -> None:
    before = clean(residual_network())
    last = [node for node in before.graph if node.op_type == "Conv"][-1]
    weights = [value.name for value in last.inputs[1:]]
    assert set(weights) <= set(plan_channels(before, macs=0.9).kept)
    plan = plan_channels(before, macs=0.9, skip=[last.name])
    assert set(weights).isdisjoint(plan.kept)
    require_equal(before, plan)


def test_channels_with_the_smallest_weights_go() -> None:
    before = net("a chain with biases and a prelu")
    array = constant(before.graph.initializers["a_w"]).copy()
    array[[2, 7]] *= 1e-3
    set_weight(before.graph.initializers["a_w"], array)
    reading = constant(before.graph.initializers["z_w"]).copy()
    reading[:, [2, 7]] *= 1e-3
    set_weight(before.graph.initializers["z_w"], reading)
    plan = plan_channels(before, macs=0.84, multiple=1)
    assert plan.kept["a_w"][0] == (0, 1, 3, 4, 5, 6, 8, 9, 10, 11)


def test_what_hardly_ever_speaks_goes_first_by_activation() -> None:
    body = "a = Conv(x, a_w, a_b) r = Relu(a) y = Conv(r, z_w)"
    bias = np.zeros(12, "float32")
    bias[[1, 4]] = -100  # large weights, but the relu hears nothing of them
    weights = {"a_w": w(12, 4, 1, 1) * 3, "a_b": bias, "z_w": w(3, 12, 1, 1)}
    before = infer_shapes(from_text(body, inputs=CONV_IN, **weights))
    feeds = random_feeds(signature(before), count=3, seed=1)
    plan = plan_channels(before, macs=0.84, multiple=1, importance="activation", feeds=feeds)
    assert {1, 4}.isdisjoint(plan.kept["a_w"][0])
    np.testing.assert_allclose(answers(apply_channels(before, plan))[0], answers(before)[0], rtol=1e-5)
    powers = channel_powers(before, feeds)
    np.testing.assert_allclose(powers["x"], np.mean([np.square(f["x"]).mean((0, 2, 3)) for f in feeds], axis=0))
    with pytest.raises(InputError, match="samples"):
        plan_channels(before, macs=0.84, importance="activation")


def test_a_graph_without_channels_to_spare_says_what_is_left() -> None:
    with pytest.raises(UnsupportedError, match="100%"):
        plan_channels(infer_shapes(recurrent_network()), macs=0.5)
    with pytest.raises(UnsupportedError, match="ask for more than"):
        plan_channels(net("a grouped convolution"), macs=0.05, at_least=0.9)


def test_inputs_and_outputs_of_the_graph_keep_all_channels() -> None:
    before = net("a chain with biases and a prelu")
    coupling = couple(before)
    assert coupling.kept[coupling.of(before.graph.inputs[0], 1)].all()
    assert coupling.kept[coupling.of(before.graph.outputs[0], 1)].all()
    assert not coupling.kept[coupling.of(before.graph.initializers["slope"], 0)].any()


def test_a_plan_of_another_graph_is_refused() -> None:
    before = net("a residual with batch norms")
    plan = plan_channels(before, macs=0.5)
    with pytest.raises(UnsupportedError, match="another graph"):
        apply_channels(net("squeeze and excitation"), plan)
    half = {name: axes for name, axes in plan.kept.items() if name != "c_w"}
    with pytest.raises(UnsupportedError, match="c_w"):
        apply_channels(before, ChannelPlan(half, plan.shapes, 0, 0))
    with pytest.raises(UnsupportedError, match="z_w, axis 0"):
        apply_channels(before, ChannelPlan({**plan.kept, "z_w": {0: (0, 1)}}, plan.shapes, 0, 0))


def test_a_plan_survives_json() -> None:
    plan = plan_channels(net("a residual with batch norms"), macs=0.5)
    assert ChannelPlan.from_json(plan.to_json()) == plan


def test_a_plan_of_our_own_nets_cuts_the_weights_of_pytorch(tmp_path: Path) -> None:
    from edgekit.graph import load

    model = find_model("resnet:tiny")
    arrays = dict(model.weights.arrays)
    before = load(file_of("resnet:tiny"))
    plan = plan_channels(before, macs=0.5)
    after = apply_channels(before, plan)
    cut = cut_arrays(arrays, plan)
    for name, value in after.graph.initializers.items():
        if name in cut:
            np.testing.assert_array_equal(constant(value), cut[name])
    assert {"conv1.weight", "bn1.running_var", "layer3.0.downsample.1.bias", "fc.weight"} <= set(plan.kept)
    assert save(after, tmp_path / "small.onnx")
    with pytest.raises(UnsupportedError, match=r"fc\.weight"):
        cut_arrays({**arrays, "fc.weight": arrays["fc.weight"].T}, plan)


def test_the_largest_multiple_that_does_is_taken_by_itself() -> None:
    wide, narrow = clean(residual_network()), net("a chain with biases and a prelu")
    assert plan_channels(wide, macs=0.5) == plan_channels(wide, macs=0.5, multiple=8)
    assert plan_channels(narrow, macs=0.4) == plan_channels(narrow, macs=0.4, multiple=4)
    with pytest.raises(UnsupportedError, match="67%"):
        plan_channels(narrow, macs=0.4, multiple=8)
