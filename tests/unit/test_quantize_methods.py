"""Rounding, clipping and bias correction on weights and moments whose right answer is known; no engine."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgekit import graph as hub
from edgekit.errors import InputError, UnsupportedError
from edgekit.quantize.clipping import best_reach, clip_groups, clip_weight
from edgekit.quantize.correcting import correct_biases, mean_shifts
from edgekit.quantize.learned_rounding import adaround, round_adaround
from edgekit.quantize.moments import Moments
from edgekit.quantize.plan import GroupedWeight, QuantizedWeight
from edgekit.quantize.rounding import descend, gptq, round_gptq, steady
from edgekit.quantize.rows import Grid, SecondMoment, as_rows, from_rows, put_rows, read_grid, squared_error
from edgekit.quantize.solver import quantize_groups, quantize_weight
from edgekit.spec import QuantParams
from tests.unit.networks import from_text

Rounded = QuantizedWeight | GroupedWeight
LAYERS = {
    "Conv": ("y = Conv(x, w)", (6, 8, 3, 3), 1),
    "grouped Conv": ("y = Conv<group=2>(x, w)", (6, 4, 3, 3), 2),
    "depthwise Conv": ("y = Conv<group=8>(x, w)", (8, 1, 3, 3), 8),
    "ConvTranspose": ("y = ConvTranspose<group=2, strides=[2,2]>(x, w)", (8, 3, 2, 2), 2),
    "MatMul": ("y = MatMul(x, w)", (8, 40), 1),
    "Gemm": ("y = Gemm(x, w)", (8, 40), 1),
    "transposed Gemm": ("y = Gemm<transB=1>(x, w)", (40, 8), 1),
}
SHAPES = {"MatMul": ('float["batch",8] x', "float[a,b] y"), "Gemm": ('float["batch",8] x', "float[a,b] y")}


def layer(body: str, weight: np.ndarray, **others: np.ndarray) -> tuple[ir.Model, ir.Node]:
    """A cleaned graph of one layer, and the layer."""
    inputs, outputs = next(
        (SHAPES[name] for name in SHAPES if name in body), ('float["batch",8,6,6] x', "float[a,b,c,d] y")
    )
    model = hub.clean(from_text(body, inputs=inputs, outputs=outputs, w=weight, **others))
    return model, next(node for node in model.graph if node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"))


def correlated(groups: int, columns: int, seed: int = 0) -> SecondMoment:
    """Second moments of numbers that go together and are not 0 on average, as those behind a Relu."""
    rng = np.random.default_rng(seed)
    x = np.abs(
        rng.normal(0, 1, (groups, 400, 3)) @ rng.normal(0, 1, (groups, 3, columns)) + rng.normal(0, 0.2, columns)
    )
    return ((x.transpose(0, 2, 1) @ x / 400).astype("float32"),)


def error_of(node: ir.Node, weight: np.ndarray, rounded: Rounded, second: SecondMoment) -> float:
    real = rounded.dequantize() if isinstance(rounded, GroupedWeight) else rounded.params.dequantize(rounded.values)
    return float(squared_error(as_rows(node, real.astype("float64") - weight), second).sum())


@pytest.fixture(params=LAYERS)
def case(request: pytest.FixtureRequest) -> tuple[ir.Node, np.ndarray, SecondMoment]:
    body, shape, groups = LAYERS[request.param]
    weight = np.random.default_rng(3).normal(0, 1, shape).astype("float32")
    _, node = layer(body, weight)
    return node, weight, correlated(groups, as_rows(node, weight).shape[2])


def channel_axis(node: ir.Node) -> int:
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}.get(node.op_type, 0 if "transB" in node.attributes else 1)


def test_rows_go_there_and_back(case: tuple[ir.Node, np.ndarray, SecondMoment]) -> None:
    node, weight, second = case
    rows = as_rows(node, weight)
    assert rows.shape[0] == second[0].shape[0]
    assert np.array_equal(from_rows(node, rows, weight.shape), weight)


ROUND: dict[str, Callable[..., Rounded]] = {"gptq": round_gptq, "adaround": round_adaround}


@pytest.mark.parametrize("method", ROUND)
def test_rounding_lowers_the_error_of_the_output_and_keeps_the_scales(
    method: str, case: tuple[ir.Node, np.ndarray, SecondMoment]
) -> None:
    node, weight, second = case
    nearest = quantize_weight(weight, channel_axis(node))
    better = ROUND[method](node, weight, nearest, second)
    assert better.params == nearest.params  # type: ignore[union-attr]
    assert better.values.dtype == nearest.values.dtype
    assert better.values.shape == nearest.values.shape
    assert int(better.values.min()) >= -127
    assert error_of(node, weight, better, second) < 0.6 * error_of(node, weight, nearest, second)
    assert np.array_equal(ROUND[method](node, weight, nearest, second).values, better.values)


@pytest.mark.parametrize("method", ROUND)
@pytest.mark.parametrize("symmetric", [False, True])
def test_four_bits_in_groups_are_rounded_too(method: str, symmetric: bool) -> None:
    weight = np.random.default_rng(4).normal(0, 1, (40, 12)).astype("float32")
    _, node = layer("y = MatMul(x, w)", weight[:8])
    second = correlated(1, 40)
    nearest = quantize_groups(weight, 0, 16, symmetric=symmetric)
    better = ROUND[method](node, weight, nearest, second)
    assert isinstance(better, GroupedWeight)
    assert better.scale is nearest.scale
    assert better.values.min() >= (1 if symmetric else 0)
    assert better.values.max() <= 15
    assert error_of(node, weight, better, second) < 0.6 * error_of(node, weight, nearest, second)


def test_inputs_that_do_not_go_together_leave_the_nearest() -> None:
    weight = np.random.default_rng(5).normal(0, 1, (8, 6)).astype("float32")
    _, node = layer("y = MatMul(x, w)", weight)
    nearest = quantize_weight(weight, 1)
    apart = (np.diag(np.linspace(1, 2, 8)).astype("float32")[None],)
    assert np.array_equal(round_gptq(node, weight, nearest, apart).values, nearest.values)
    assert np.array_equal(round_adaround(node, weight, nearest, apart).values, nearest.values)


def test_columns_nothing_ever_comes_through_are_rounded_to_the_nearest() -> None:
    weight = np.random.default_rng(5).normal(0, 1, (8, 6)).astype("float32")
    _, node = layer("y = MatMul(x, w)", weight)
    nearest = quantize_weight(weight, 1)
    silent = (np.zeros((1, 8, 8), "float32"),)
    assert np.array_equal(round_gptq(node, weight, nearest, silent).values, nearest.values)
    assert np.array_equal(round_adaround(node, weight, nearest, silent).values, nearest.values)


def whole_numbers(shape: tuple[int, ...]) -> Grid:
    return Grid(np.ones(shape), np.zeros(shape), -8, 7)


def test_no_single_change_is_better_than_where_descending_ends_and_few_are_overlooked() -> None:
    rng = np.random.default_rng(6)
    rows = rng.normal(0, 2, (1, 5, 6))
    second, grid = steady(correlated(1, 6)[0]), whole_numbers((1, 5, 6))

    def error(integers: np.ndarray) -> np.ndarray:
        return np.asarray(squared_error(integers - rows, (second,))[0])

    found = descend(rows, gptq(rows, second, grid), second, grid)
    for column, step in itertools.product(range(6), (-1, 1)):
        changed = found.copy()
        changed[..., column] = np.clip(changed[..., column] + step, -8, 7)
        assert (error(changed) >= error(found) - 1e-9).all()
    floor = np.floor(rows)
    corners = [np.clip(floor + np.array(up), -8, 7) for up in itertools.product((0.0, 1.0), repeat=6)]
    best = np.min([error(corner) for corner in corners], axis=0)
    assert error(found).sum() < 1.6 * best.sum() < error(np.rint(rows)).sum()


def test_descending_never_raises_the_error() -> None:
    rng = np.random.default_rng(7)
    rows, second, grid = rng.normal(0, 2, (2, 9, 300)), steady(correlated(2, 300)[0]), whole_numbers((2, 9, 300))
    errors = [np.asarray(squared_error(np.rint(rows) - rows, (second,)))]
    for sweeps in (1, 2, 4):
        found = descend(rows, np.clip(np.rint(rows), -8, 7), second, grid, sweeps=sweeps)
        errors.append(np.asarray(squared_error(found - rows, (second,))))
    assert all((after <= before + 1e-9).all() for before, after in itertools.pairwise(errors))
    assert (errors[1] < errors[0]).all()


def test_blocks_of_columns_change_nothing_but_the_speed() -> None:
    rng = np.random.default_rng(8)
    rows, second, grid = rng.normal(0, 2, (1, 4, 50)), steady(correlated(1, 50)[0]), whole_numbers((1, 4, 50))
    assert np.array_equal(gptq(rows, second, grid, block=7), gptq(rows, second, grid, block=64))


def test_an_unknown_order_is_refused() -> None:
    grid = whole_numbers((1, 1, 2))
    with pytest.raises(UnsupportedError, match="no order 'best'"):
        gptq(np.zeros((1, 1, 2)), np.eye(2)[None], grid, order="best")


def test_very_many_columns_come_in_runs() -> None:
    weight = np.random.default_rng(9).normal(0, 1, (30, 6)).astype("float32")
    _, node = layer("y = MatMul(x, w)", weight[:8])
    second = (*correlated(1, 20), *correlated(1, 10, seed=1))
    nearest = quantize_weight(weight, 1)
    better = round_gptq(node, weight, nearest, second)
    assert error_of(node, weight, better, second) < error_of(node, weight, nearest, second)


def test_moments_of_another_layer_are_an_input_error() -> None:
    weight = np.ones((8, 6), "float32")
    _, node = layer("y = MatMul(x, w)", weight)
    with pytest.raises(InputError, match=r"\[9\] columns do not fit a weight of 8"):
        round_gptq(node, weight, quantize_weight(weight, 1), correlated(1, 9))


def test_adaround_goes_to_one_of_two_neighbors_only() -> None:
    rng = np.random.default_rng(10)
    rows, second, grid = rng.normal(0, 2, (1, 6, 20)), steady(correlated(1, 20)[0]), whole_numbers((1, 6, 20))
    found = adaround(rows, second, grid)
    assert set(np.unique(found - np.clip(np.floor(rows), -8, 7))) <= {0.0, 1.0}
    assert (squared_error(found - rows, (second,)) <= squared_error(np.rint(rows) - rows, (second,))).all()


def test_a_grid_is_that_of_the_params() -> None:
    weight = np.random.default_rng(11).normal(0, 1, (8, 6)).astype("float32")
    _, node = layer("y = MatMul(x, w)", weight)
    nearest = quantize_weight(weight, 1)
    grid = read_grid(node, nearest)
    assert np.array_equal(put_rows(node, nearest, grid.nearest(as_rows(node, weight))).values, nearest.values)


def test_an_asymmetric_grid_uses_all_its_integers() -> None:
    params = QuantParams("uint8", (0.5,), (3,))
    _, node = layer("y = MatMul(x, w)", np.ones((8, 6), "float32"))
    grid = read_grid(node, QuantizedWeight(params, np.zeros((8, 6), "uint8")))
    assert (grid.low, grid.high) == (0, 255)
    assert grid.real(grid.nearest(np.full((1, 6, 8), -1.5)))[0, 0, 0] == -1.5


def test_an_outlier_is_cut_off_where_the_others_gain_more() -> None:
    weight = np.random.default_rng(12).normal(0, 1, (2, 4000))
    weight[1, 0] = 6.0
    reach = best_reach(weight, 0, 4)
    assert reach[1] < 4
    assert best_reach(np.array([[-7.0, 3.0, 0.0, 7.0]]), 0, 4) == 7.0


@pytest.mark.parametrize("axis", [0, 1, None])
def test_a_clipped_weight_ends_with_a_smaller_error(axis: int | None) -> None:
    weight = np.random.default_rng(13).standard_t(3, (5, 400)).astype("float32")

    def error(clipped: np.ndarray) -> float:
        reach = np.abs(clipped).max(axis=None if axis is None else 1 - axis, keepdims=True) / 7
        return float(np.square(np.rint(clipped / reach) * reach - weight).sum())

    assert error(clip_weight(weight, axis, 4)) < 0.97 * error(weight)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_clipped_groups_end_with_a_smaller_error(axis: int, symmetric: bool) -> None:
    weight = np.random.default_rng(14).standard_t(3, (70, 90)).astype("float32")
    clipped = clip_groups(weight, axis, 32, symmetric=symmetric)
    errors = [
        float(np.square(quantize_groups(array, axis, 32, symmetric=symmetric).dequantize() - weight).sum())
        for array in (weight, clipped)
    ]
    assert clipped.shape == weight.shape
    assert errors[1] < 0.97 * errors[0]


def test_weights_of_zeros_have_a_reach_of_zero() -> None:
    assert np.array_equal(best_reach(np.zeros((3, 4)), 0, 8), np.zeros(3))
    assert np.array_equal(clip_groups(np.zeros((3, 4), "float32"), 1, 3), np.zeros((3, 4)))


def test_shifts_are_the_error_times_the_mean(case: tuple[ir.Node, np.ndarray, SecondMoment]) -> None:
    node, weight, _ = case
    rows = as_rows(node, weight)
    means = np.random.default_rng(15).normal(1, 1, (rows.shape[0], rows.shape[2]))
    rounded = quantize_weight(weight, channel_axis(node))
    assert isinstance(node.graph, ir.Graph)
    graph = ir.Model(node.graph, ir_version=8)
    moments = Moments({}, {node.name or "": means}, {}, 1)
    (shift,) = mean_shifts(graph, {"w": rounded}, moments).values()
    error = as_rows(node, rounded.params.dequantize(rounded.values).astype("float64") - weight)
    exact = np.stack([error[group] @ means[group] for group in range(len(means))])
    if node.op_type == "ConvTranspose":  # each of the 2 x 2 kernel positions meets a quarter of the outputs
        exact = exact.reshape(len(means), 4, -1).mean(axis=1)
    assert shift == pytest.approx(exact.reshape(-1))


BIASES = {
    "its own": ("y = Gemm<transB=1>(x, w, b)", "float[a,b] y", 1),
    "none yet": ("y = Gemm<transB=1>(x, w)", "float[a,b] y", 1),
    "an Add behind": ("m = MatMul(x, v) y = Add(m, b)", "float[a,b] y", 1),
    "an Add before": ("m = MatMul(x, v) y = Add(b, m)", "float[a,b] y", 1),
}


@pytest.mark.parametrize("which", BIASES)
def test_a_bias_takes_in_the_mean_error(which: str) -> None:
    body, outputs, _ = BIASES[which]
    rng = np.random.default_rng(16)
    weight, bias, x = (rng.normal(1, 1, shape).astype("float32") for shape in ((6, 8), (6,), (50, 8)))
    used = {"w": weight} if "w" in body else {"v": np.ascontiguousarray(weight.T)}
    used |= {"b": bias} if "b)" in body or "(b" in body else {}
    model = hub.clean(from_text(body, inputs='float["batch",8] x', outputs=outputs, **used))
    node = next(node for node in model.graph if node.op_type in ("Gemm", "MatMul"))
    name, array = node.inputs[1].name, node.inputs[1].const_value.numpy()  # type: ignore[union-attr]
    rounded = quantize_weight(array, channel_axis(node))
    coarse = replace(rounded, values=(rounded.values // 16 * 16).astype("int8"))
    moments = Moments({}, {node.name or "": x.mean(axis=0, keepdims=True)}, {}, 50)
    corrected = correct_biases(model, {name or "": coarse}, moments)
    old = bias if "b" in used else np.zeros(6)
    real = as_rows(node, coarse.params.dequantize(coarse.values))[0]
    wanted = x.mean(axis=0) @ weight.T + old
    assert corrected.without == ()
    assert x.mean(axis=0) @ real.T + corrected.biases[node.name or ""] == pytest.approx(wanted, rel=1e-4)
    assert "b" not in model.graph.initializers or np.array_equal(
        model.graph.initializers["b"].const_value.numpy(),  # type: ignore[union-attr]
        bias,
    )


def test_a_product_nothing_is_added_to_is_named() -> None:
    weight = np.random.default_rng(17).normal(0, 1, (8, 6)).astype("float32")
    model, node = layer("y = MatMul(x, w)", weight)
    moments = Moments({}, {node.name or "": np.ones((1, 8))}, {}, 1)
    corrected = correct_biases(model, {"w": quantize_weight(weight, 1)}, moments)
    assert corrected.without == (node.name,)
    assert corrected.biases == {}


def test_a_bias_that_two_share_is_corrected_for_each() -> None:
    rng = np.random.default_rng(18)
    weights = {name: rng.normal(1, 1, (8, 8, 1, 1)).astype("float32") for name in "wv"}
    body = "a = Conv(x, w, b) r = Relu(a) y = Conv(r, v, b)"
    model = hub.clean(from_text(body, b=np.ones(8, "float32"), **weights))
    nodes = [node for node in model.graph if node.op_type == "Conv"]
    moments = Moments({}, {node.name or "": np.ones((1, 8)) for node in nodes}, {}, 1)
    rounded = {name: quantize_weight(array, 0) for name, array in weights.items()}
    corrected = correct_biases(model, rounded, moments)
    shifts = mean_shifts(model, rounded, moments)
    for node in nodes:
        assert corrected.biases[node.name or ""] == pytest.approx(1 - shifts[node.name or ""], rel=1e-5)
