"""What raises the accuracy of integers, by a real engine: moments, equalizing, smoothing, rounding, correcting."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgekit import graph as hub
from edgekit.errors import InputError
from edgekit.feeds import random_feeds
from edgekit.graph.walking import constant
from edgekit.network.onnx_form import to_onnx
from edgekit.quantize import make_quant_plan, observe, to_qdq
from edgekit.quantize import moments as moments_module
from edgekit.quantize.correcting import correct_biases
from edgekit.quantize.equalizing import equalize
from edgekit.quantize.learned_rounding import round_adaround
from edgekit.quantize.moments import Moments, gather
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight, QuantPlan
from edgekit.quantize.planning import round_weights
from edgekit.quantize.rounding import round_gptq
from edgekit.quantize.rows import as_rows, squared_error
from edgekit.quantize.smoothing import smooth
from edgekit.quantize.solver import quantize_weight
from edgekit.recipe import Recipe
from edgekit.registry import FAMILIES, RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.samples import feeds_of
from edgekit.target import Target
from edgekit.testing.pass_contract import PassContract
from edgekit.weights import read_weights
from tests import assets
from tests.unit.networks import from_text

Feeds = dict[str, np.ndarray]
RNG = np.random.default_rng(20)
INT8 = Recipe.named("w8a8")
ONNX = Target.named("generic-x86").placements["onnx"]


def normal(*shape: int) -> np.ndarray:
    """Weights whose channels differ much in range, on both sides."""
    drawn = RNG.normal(0, 0.3, shape) * np.exp(RNG.normal(0, 1.2, (shape[0], *(1,) * (len(shape) - 1))))
    return (
        drawn * (np.exp(RNG.normal(0, 1.2, (1, shape[1], *(1,) * (len(shape) - 2)))) if len(shape) > 1 else 1)
    ).astype("float32")


def answers(model: ir.Model, feeds: list[Feeds], folder: Path) -> dict[str, np.ndarray]:
    hub.save(hub.copy_of(model), folder / "run.onnx")
    with Session(RUNTIMES.get("onnx").open(folder / "run.onnx", EngineOptions(threads=1)), runtime="onnx") as session:
        found = [session.run(feed) for feed in feeds]
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def sqnr(wanted: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> float:
    (name,) = wanted
    signal = wanted[name].astype("float64")
    return float(10 * np.log10(np.square(signal).sum() / np.square(signal - got[name]).sum()))


# --- moments ---------------------------------------------------------------------------------------------------------

IMAGE = 'float["batch",4,9,8] x'
OPERATIONS = {
    "Conv": ("y = Conv<pads=[1,0,1,2], strides=[2,1], dilations=[1,2]>(x, w)", (6, 4, 3, 2), IMAGE),
    "Conv, padded alike": ('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', (6, 4, 3, 3), IMAGE),
    "Conv, padded above": ('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)', (6, 4, 2, 2), IMAGE),
    "Conv, unpadded": ('y = Conv<auto_pad="VALID">(x, w)', (6, 4, 3, 3), IMAGE),
    "depthwise Conv": ("y = Conv<group=4, pads=[1,1,1,1]>(x, w)", (8, 1, 3, 3), IMAGE),
    "Conv of a line": ("y = Conv<pads=[1,1]>(x, w)", (6, 4, 3), 'float["batch",4,9] x'),
    "MatMul": ("y = MatMul(x, w)", (8, 5), 'float["batch",3,8] x'),
    "Gemm": ("y = Gemm<transB=1>(x, w)", (5, 8), 'float["batch",8] x'),
}


@pytest.mark.parametrize("which", OPERATIONS)
def test_moments_are_those_of_what_the_engine_multiplies(which: str, tmp_path: Path) -> None:
    """For any rows R: the mean of the output is R m, and the mean of its square is R H R^T."""
    body, shape, inputs = OPERATIONS[which]
    weight = RNG.normal(0, 1, shape).astype("float32")
    outputs = {4: "float[a,b,c,d] y", 3: "float[a,b,c] y"}.get(
        len(shape), "float[a,b,c] y" if "MatMul" in which else "float[a,b] y"
    )
    model = hub.clean(from_text(body, inputs=inputs, outputs=outputs, w=weight))
    sizes = [2, *(int(size) for size in inputs.split("[")[1].split("]")[0].split(",")[1:])]
    feeds = [{"x": RNG.normal(0.5, 1, sizes).astype("float32")} for _ in range(3)]
    found, (node,) = gather(model, feeds), model.graph
    got = answers(model, feeds, tmp_path)["y"].astype("float64")
    channels = 1 if node.op_type == "Conv" else -1
    exact = np.moveaxis(got, channels, 0).reshape(got.shape[channels], -1)
    rows = as_rows(node, weight).astype("float64")
    means = np.einsum("grk,gk->gr", rows, found.means[node.name or ""]).reshape(-1)
    assert means == pytest.approx(exact.mean(axis=1), rel=1e-4, abs=1e-5)
    squares = squared_error(rows, found.products[node.name or ""]).reshape(-1)
    assert squares == pytest.approx(np.square(exact).mean(axis=1), rel=1e-4)
    others = tuple(i for i in range(feeds[0]["x"].ndim) if i != channels % feeds[0]["x"].ndim)
    assert np.array_equal(found.peaks["x"], np.max([np.abs(feed["x"]).max(axis=others) for feed in feeds], axis=0))
    assert found.samples == 3


CHAIN = {"w": normal(8, 8, 3, 3), "v": normal(8, 8, 1, 1)}


@pytest.fixture(scope="module")
def chain() -> ir.Model:
    return hub.clean(from_text("a = Conv<pads=[1,1,1,1]>(x, w) r = Relu(a) y = Conv(r, v)", **CHAIN))


def samples(count: int, size: int = 16) -> Iterator[Feeds]:
    for number in range(count):
        yield {"x": np.random.default_rng(number).normal(0, 1, (1, 8, size, size)).astype("float32")}


def test_only_a_part_of_many_positions_counts_and_always_the_same(chain: ir.Model, monkeypatch: Any) -> None:
    name = "Conv_0"
    whole, again = gather(chain, samples(4)), gather(chain, samples(4))
    monkeypatch.setattr(moments_module, "POSITIONS", 64)
    part = gather(chain, samples(4))
    assert np.array_equal(whole.products[name][0], again.products[name][0])
    assert not np.array_equal(whole.products[name][0], part.products[name][0])
    assert np.trace(part.products[name][0][0]) == pytest.approx(np.trace(whole.products[name][0][0]), rel=0.1)


def test_long_sums_come_in_runs_and_big_nets_in_portions(chain: ir.Model, monkeypatch: Any) -> None:
    whole = gather(chain, samples(2))
    monkeypatch.setattr(moments_module, "MAX_COLUMNS", 50)
    monkeypatch.setattr(moments_module, "_TAPPED_ELEMENTS", 1)
    parts = gather(chain, samples(2))
    (moment,) = whole.products["Conv_0"]
    assert [run.shape for run in parts.products["Conv_0"]] == [(1, 50, 50), (1, 22, 22)]
    assert parts.products["Conv_0"][1] == pytest.approx(moment[:, 50:, 50:], rel=1e-5, abs=1e-6)
    assert parts.means["Conv_1"] == pytest.approx(whole.means["Conv_1"])


def test_samples_are_let_go_and_only_what_is_wanted_is_kept(chain: ir.Model) -> None:
    given: list[weakref.ref[np.ndarray]] = []

    def stream() -> Iterator[Feeds]:
        for feed in samples(5):
            given.append(weakref.ref(feed["x"]))
            yield feed
            del feed
            assert sum(seen() is not None for seen in given) <= 1, "an earlier sample is still held"

    found = gather(chain, stream(), {"Conv_1"}, products=False)
    assert len(given) == found.samples == 5
    assert set(found.means) == {"Conv_1"}
    assert set(found.peaks) == {"r"} if "r" in found.peaks else len(found.peaks) == 1
    assert found.products == {}


def test_no_sample_is_an_input_error(chain: ir.Model) -> None:
    with pytest.raises(InputError, match="holds no sample"):
        gather(chain, [])


def test_a_sample_that_leads_to_infinity_is_an_input_error() -> None:
    model = hub.clean(from_text("l = Log(x) y = Conv(l, w)", w=CHAIN["w"]))
    with pytest.raises(InputError, match="sample 1 makes tensor 'l' NaN or infinite"):
        gather(model, samples(1))


# --- equalizing ------------------------------------------------------------------------------------------------------


def even(body: str, **options: Any) -> Any:
    return staticmethod(lambda: hub.clean(from_text(body, **options)))


class TestEqualize(PassContract):
    """Dense, depthwise and grouped convolutions, through all that scales with its input."""

    change = staticmethod(equalize)
    tolerance = 1e-5
    sample = even(
        "a = Conv<pads=[1,1,1,1]>(x, w, o) r = Relu(a) b = Conv<group=8>(r, d, i) l = LeakyRelu(b)"
        " c = Conv<group=2>(l, g) m = MaxPool<kernel_shape=[2,2]>(c) e = Conv(m, v) p = PRelu(e, s)"
        " q = Pad(p, amounts) f = Conv(q, u) k = Clip(f, zero) h = GlobalAveragePool(k) t = Flatten(h)"
        " y = Gemm(t, z, n)",
        outputs="float[a,b] y",
        o=normal(8),
        i=normal(8),
        d=normal(8, 1, 3, 3),
        g=normal(8, 4, 1, 1),
        u=normal(8, 8, 2, 2),
        s=np.full((8, 1, 1), 0.2, "float32"),
        amounts=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        zero=np.float32(0),
        z=normal(8, 5),
        n=normal(5),
        **CHAIN,
    )

    def test_every_channel_is_even_on_both_sides(self, before: ir.Model, after: ir.Model) -> None:
        def spread(model: ir.Model) -> float:
            arrays = [constant(node.inputs[1]) for node in model.graph if node.op_type == "Conv"]
            first, second = np.abs(arrays[0]).max(axis=(1, 2, 3)), np.abs(arrays[1]).max(axis=(1, 2, 3))  # type: ignore[arg-type]
            return float(np.abs(np.log(first / second)).max())

        assert spread(after) < 0.01 < spread(before)


class TestEqualizeMatrices(PassContract):
    change = staticmethod(equalize)
    tolerance = 1e-5
    sample = even(
        "a = MatMul(x, w) b = Add(o, a) r = Relu(b) c = Gemm<transB=1>(r, v, i) d = LeakyRelu(c) y = MatMul(d, u)",
        inputs='float["batch",8] x',
        outputs="float[a,b] y",
        w=normal(8, 8),
        v=normal(8, 8),
        u=normal(8, 8),
        o=normal(8),
        i=normal(8),
    )


def test_a_bias_two_layers_share_is_divided_for_each(tmp_path: Path) -> None:
    body = "a = Conv(x, w, o) r = Relu(a) b = Conv(r, v, o) l = Relu(b) y = Conv(l, u)"
    model = hub.clean(from_text(body, o=normal(8), u=normal(8, 8, 1, 1), **CHAIN))
    feeds = list(samples(2))
    wanted, got = (answers(graph, feeds, tmp_path)["y"] for graph in (model, equalize(model)))
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


UNEVEN = {
    "Relu6 does not scale": "a = Conv(x, w) r = Clip(a, zero, six) y = Conv(r, v)",
    "a sum in between": "a = Conv(x, w) s = Add(a, x1) y = Conv(s, v)",
    "read elsewhere too": "a = Conv(x, u) r = Relu(a) b = Conv(r, v) y = Add(b, r)",
    "a sigmoid": "a = Conv(x, w) s = Sigmoid(a) y = Conv(s, v)",
    "one weight in two places": "a = Conv(x, u) r = Relu(a) y = Conv(r, u)",
    "channels on another axis": "a = Conv(x, u) r = Relu(a) y = MatMul(r, k)",
    "padded with a number": "a = Conv(x, w) p = Pad(a, amounts, six) y = Conv(p, v)",
}


@pytest.mark.parametrize("why", UNEVEN)
def test_what_does_not_scale_is_left_alone(why: str) -> None:
    words = set(UNEVEN[why].replace("(", " ").replace(")", " ").replace(",", " ").split())
    known = {
        **CHAIN,
        "u": normal(8, 8, 1, 1),
        "k": normal(16, 16),
        "x1": np.float32(1),
        "zero": np.float32(0),
        "six": np.float32(6),
        "amounts": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }
    model = hub.clean(from_text(UNEVEN[why], **{name: array for name, array in known.items() if name in words}))
    # a constant sum is folded into the layer's bias unless the layer is read elsewhere, so that one is evened
    evened = equalize(model)
    changed = any(
        not np.array_equal(constant(value), constant(evened.graph.initializers[name]))  # type: ignore[arg-type]
        for name, value in model.graph.initializers.items()
    )
    assert changed == (why == "a sum in between")


# --- smoothing -------------------------------------------------------------------------------------------------------

STEPS = {"inputs": 'float["batch",6,8] x', "outputs": "float[a,b,c] y"}
VECTOR = {"g": np.exp(RNG.normal(0, 1, 8)).astype("float32"), "b": normal(8)}


def smoothed(model: ir.Model, alpha: float = 0.6) -> ir.Model:
    feeds = [dict(feed) for feed in random_feeds(hub.signature(model), count=4, seed=3)]
    return smooth(model, gather(model, feeds, products=False), alpha)


class TestSmooth(PassContract):
    """A block that normalizes first: all that read the normalization are products."""

    change = staticmethod(smoothed)
    tolerance = 1e-5
    sample = even(
        "n = LayerNormalization<axis=-1>(x, g, b) q = MatMul(n, w) k = MatMul(n, v) s = Mul(q, k) y = Add(s, x)",
        w=normal(8, 8),
        v=normal(8, 8),
        **VECTOR,
        **STEPS,
    )


class TestSmoothBehindAProduct(PassContract):
    change = staticmethod(smoothed)
    tolerance = 1e-5
    sample = even(
        "a = MatMul(x, w) n = Add(a, b) y = MatMul(n, v)", w=normal(8, 8), v=normal(8, 8), b=VECTOR["b"], **STEPS
    )


class TestSmoothBehindALine(PassContract):
    """A normalization nobody has recognized ends in a scale and a bias."""

    change = staticmethod(smoothed)
    tolerance = 1e-5
    sample = even("t = Tanh(x) m = Mul(t, g) n = Add(b, m) y = MatMul(n, v)", v=normal(8, 8), **VECTOR, **STEPS)


def test_a_sum_around_the_block_gets_back_what_was_divided(tmp_path: Path) -> None:
    body = "n = LayerNormalization<axis=-1>(x, g, b) q = MatMul(n, w) y = Add(q, n)"
    model = hub.clean(from_text(body, w=normal(8, 8), **VECTOR, **STEPS))
    flat = smoothed(model, 1.0)
    feeds = [dict(feed) for feed in random_feeds(hub.signature(model), count=4, seed=3)]
    assert [node.op_type for node in flat.graph].count("Mul") == 1
    assert answers(flat, feeds, tmp_path)["y"] == pytest.approx(
        answers(model, feeds, tmp_path)["y"], rel=1e-4, abs=1e-4
    )
    peaks = [gather(graph, feeds, products=False).peaks["n"] for graph in (model, flat)]
    assert peaks[0].std() > 0.3
    assert peaks[1] == pytest.approx(np.ones(8), rel=1e-4)


def test_what_cannot_be_divided_is_left_alone() -> None:
    body = "a = MatMul(x, w) e = Tanh(a) y = MatMul(e, v)"
    model = hub.clean(from_text(body, w=normal(8, 8), v=normal(8, 8), **STEPS))
    flat = smoothed(model)
    assert [node.op_type for node in flat.graph] == ["MatMul", "Tanh", "MatMul"]
    assert all(
        np.array_equal(constant(value), constant(flat.graph.initializers[name]))  # type: ignore[arg-type]
        for name, value in model.graph.initializers.items()
    )


def test_a_share_beyond_one_is_an_input_error(chain: ir.Model) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        smooth(chain, Moments({}, {}, {}, 1), 1.5)


# --- real layers -----------------------------------------------------------------------------------------------------


@functools.cache
def trained(name: str) -> tuple[ir.Model, tuple[Feeds, ...], tuple[Feeds, ...]]:
    """A trained tiny net, data to calibrate on, and others."""
    family = FAMILIES.get(name)
    net = family.network()
    model = hub.clean(ir.from_proto(to_onnx(net, read_weights(family.tiny_weights))))
    data, signature = assets.dataset(family.data), hub.signature(model)

    def feeds(split: str, count: int) -> tuple[Feeds, ...]:
        drawn = data.samples(split, limit=count)
        found = family.feeds(drawn, signature) if family.feeds else feeds_of(drawn, family.processing, signature)
        return tuple(found)

    return model, feeds("calibration", 50), feeds("test", 60)


def rounded_by(method: Any, model: ir.Model, plan: QuantPlan, found: Moments) -> QuantPlan:
    weights = dict(plan.weights)
    for node in model.graph:
        weight = node.inputs[1] if node.name in found.products else None
        if weight is not None and weight.name in weights:
            array = constant(weight)
            assert array is not None
            weights[weight.name] = method(node, array, weights[weight.name], found.products[node.name or ""])
    return replace(plan, weights=weights)


@pytest.mark.parametrize("name", ["efficientnet-lite", "bert"])
def test_every_real_layer_gives_less_error_on_data_rounding_has_not_seen(name: str) -> None:
    model, calibration, unseen = trained(name)
    found, judged = gather(model, calibration), gather(model, unseen)
    better = dict.fromkeys(("gptq", "adaround"), 0.0)
    layers = 0
    for node in model.graph:
        if node.name not in found.products:
            continue
        array = constant(node.inputs[1])
        assert array is not None
        axis = 0 if node.op_type == "Conv" else 1
        nearest = quantize_weight(array, axis) if node.op_type != "Gemm" else None
        if nearest is None:
            continue
        layers += 1

        def error(rounded: QuantizedWeight, node: ir.Node = node, array: np.ndarray = array) -> float:
            real = rounded.params.dequantize(rounded.values).astype("float64")
            return float(squared_error(as_rows(node, real - array), judged.products[node.name or ""]).sum())

        for label, method in (("gptq", round_gptq), ("adaround", round_adaround)):
            after = error(method(node, array, nearest, found.products[node.name]))
            assert after < error(nearest), (label, node.name)
            better[label] += 10 * np.log10(error(nearest) / after)
    assert layers >= 8
    assert min(better.values()) / layers > 1.5, "dB a layer"


@pytest.mark.parametrize("name", ["efficientnet-lite", "mobilenet-v2", "bert"])
def test_a_whole_net_of_integers_comes_nearer_to_its_source(name: str, tmp_path: Path) -> None:
    model, calibration, unseen = trained(name)
    plan = make_quant_plan(model, ONNX, INT8, observe(model, calibration))
    found = gather(model, calibration)
    better = rounded_by(round_gptq, model, plan, found)
    wanted = answers(model, list(unseen), tmp_path)
    nearest, rounded = (sqnr(wanted, answers(to_qdq(model, one), list(unseen), tmp_path)) for one in (plan, better))
    assert rounded > nearest


def test_correcting_biases_takes_the_mean_shift_of_a_real_net_away(tmp_path: Path) -> None:
    model, calibration, _ = trained("efficientnet-lite")
    plan = make_quant_plan(model, ONNX, INT8, observe(model, calibration))
    coarse = {
        name: replace(weight, values=(weight.values // 16 * 16).astype("int8")) if weight.params.axis == 0 else weight
        for name, weight in plan.weights.items()
    }
    node = next(node for node in model.graph if node.op_type == "Conv")
    found = gather(model, calibration, {node.name or ""})
    corrected = correct_biases(model, coarse, found)
    assert set(corrected.biases) == {node.name}
    assert corrected.without == ()

    def mean(graph: ir.Model, rounded: QuantizedWeight | None) -> np.ndarray:
        tapped = hub.copy_of(graph)
        layer = tapped.graph.node(node.name or "")
        weight = layer.inputs[1]
        if rounded is not None and weight is not None:
            weight.const_value = ir.tensor(rounded.params.dequantize(rounded.values))
        tapped.graph.outputs.append(layer.outputs[0])
        return answers(tapped, list(calibration), tmp_path)[node.outputs[0].name or ""].mean(axis=(0, 2, 3))

    first = coarse[node.inputs[1].name or ""]  # type: ignore[union-attr]
    exact, shifted, cured = mean(model, None), mean(model, first), mean(corrected.graph, first)
    assert np.abs(cured - exact).max() < 0.05 * np.abs(shifted - exact).max()


@pytest.mark.parametrize("op_type", ["LSTM", "GRU"])
def test_weights_of_recurrent_layers_are_rounded_for_what_they_give(op_type: str, tmp_path: Path) -> None:
    """Both of them, and in both directions: the second multiplies what the layer remembers."""
    rng, gates = np.random.default_rng(0), {"LSTM": 4, "GRU": 3}[op_type]
    model = hub.clean(
        from_text(
            f'h = {op_type}<hidden_size=16, direction="bidirectional">(x, w, r) y = ReduceSum(h, two)',
            inputs='float["steps","batch",24] x',
            outputs="float[a,b,c,d] y",
            w=rng.normal(0, 0.5, (2, gates * 16, 24)).astype("float32"),
            r=rng.normal(0, 0.5, (2, gates * 16, 16)).astype("float32"),
            two=np.array([1]),
        )
    )
    mix = rng.normal(0, 1, (4, 24))
    samples: list[Feeds] = [{"x": (rng.normal(0, 1, (20, 2, 4)) @ mix).astype("float32")} for _ in range(24)]
    plan = make_quant_plan(model, ONNX, Recipe.named("w8"))
    plan = replace(plan, stored={n: _coarser(model.graph.initializers[n], w) for n, w in plan.stored.items()})
    better = round_weights(model, plan, gather(model, samples), "gptq")
    assert all(not np.array_equal(plan.stored[n].values, better.stored[n].values) for n in plan.stored)
    wanted = answers(model, samples, tmp_path)
    plain, rounded = (answers(to_qdq(model, one, stored=True), samples, tmp_path) for one in (plan, better))
    assert sqnr(wanted, rounded) > sqnr(wanted, plain) + 1.5


def _coarser(value: ir.Value, weight: QuantizedWeight | GroupedWeight) -> QuantizedWeight:
    """Sixteen times coarser steps, so that rounding shows."""
    assert isinstance(weight, QuantizedWeight)
    params = replace(weight.params, scale=tuple(16 * scale for scale in weight.params.scale))
    array = constant(value)
    assert array is not None
    return QuantizedWeight(params, params.quantize(array))
