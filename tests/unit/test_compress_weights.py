"""Pruning, clustering and factorizing: what exactly happens to the numbers."""

from __future__ import annotations

import zlib

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.compress import cluster, factorize, prune_magnitude, prune_n_m, store_palettes
from edgekit.compress.clustering import find_values, pack_halves, palette_of
from edgekit.compress.factorizing import split_matrix
from edgekit.compress.pruning import keep_largest
from edgekit.errors import UnsupportedError
from edgekit.graph import clean, costs, infer_shapes, walk, weight_bytes
from edgekit.graph.walking import constant
from tests.unit.networks import from_text, recurrent_network, residual_network

RNG = np.random.default_rng(0)
SEEDS = st.integers(0, 2**32 - 1)


def weights_by_name(model: ir.Model) -> dict[str, np.ndarray]:
    arrays = {name: constant(value) for name, value in model.graph.initializers.items()}
    return {name: array for name, array in arrays.items() if array is not None}


def dense(weight: np.ndarray) -> ir.Model:
    rows, columns = weight.shape
    return infer_shapes(
        from_text("y = MatMul(x, w)", inputs=f'float["n",{rows}] x', outputs=f"float[n,{columns}] y", w=weight)
    )


# --- Zeros ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_at_least_the_share_asked_for_is_zero_and_the_rest_is_as_it_was(scope: str) -> None:
    before = clean(residual_network())
    after, errors = prune_magnitude(before, sparsity=0.7, scope=scope)
    touched = {node.name: node.inputs[1].name for node in after.graph if node.name in errors}
    old, new = weights_by_name(before), weights_by_name(after)
    zeros = sum(int((new[name] == 0).sum()) for name in touched.values())
    total = sum(new[name].size for name in touched.values())
    assert 0.7 <= zeros / total < 0.71
    for name in old:
        assert np.all((new[name] == old[name]) | (new[name] == 0))
    if scope == "layer":
        assert all(0.7 <= (new[name] == 0).mean() < 0.75 for name in touched.values())


def test_zeros_are_the_smallest() -> None:
    weight = RNG.normal(0, 1, (16, 16)).astype("float32")
    after, _ = prune_magnitude(dense(weight), sparsity=0.25)
    new = weights_by_name(after)["w"]
    assert np.abs(weight[new == 0]).max() < np.abs(weight[new != 0]).min()


@given(SEEDS, st.integers(2, 8), st.data())
@settings(max_examples=30, deadline=None)
def test_of_every_m_numbers_the_n_largest_stay(seed: int, of: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, of - 1))
    array = np.random.default_rng(seed).normal(0, 1, (5, 3 * of + 1, 2)).astype("float32")
    kept = keep_largest(array, 1, keep, of)
    groups, old = (a[:, : 3 * of].reshape(5, 3, of, 2) for a in (kept, array))
    assert np.all((groups != 0).sum(axis=2) == keep)
    assert np.all((kept == array) | (kept == 0))
    lost, left = np.where(groups == 0, np.abs(old), 0).max(axis=2), np.where(groups != 0, np.abs(old), 9).min(axis=2)
    assert np.all(lost <= left)
    assert np.array_equal(kept[:, 3 * of :], array[:, 3 * of :])


def test_groups_of_a_convolution_run_along_its_input_channels() -> None:
    after, errors = prune_n_m(clean(residual_network()))
    for node in after.graph:
        if node.op_type == "Conv" and node.inputs[1].shape[1] % 4 == 0:
            array = constant(node.inputs[1])
            groups = array.reshape(len(array), -1, 4, *array.shape[2:])
            assert np.all((groups != 0).sum(axis=2) == 2)
            assert node.name in errors
    depthwise = next(node for node in after.graph if node.attributes.get_int("group", 1) > 1)
    assert depthwise.name not in errors


def test_what_is_skipped_stays_and_a_pattern_must_match() -> None:
    before = clean(residual_network())
    after, errors = prune_n_m(before, skip=["dense"])
    assert "dense" not in errors
    assert errors
    assert np.array_equal(weights_by_name(before)["matrix"], weights_by_name(after)["matrix"])
    with pytest.raises(UnsupportedError, match="nobody"):
        prune_n_m(before, skip=["nobody*"])


def test_recurrent_weights_count_too() -> None:
    _, errors = prune_magnitude(recurrent_network(), sparsity=0.5)
    assert len(errors) == 1


# --- Few values -------------------------------------------------------------------------------------------------------


@given(SEEDS, st.integers(1, 6), st.sampled_from(["tensor", "channel"]))
@settings(max_examples=25, deadline=None)
def test_no_more_values_than_the_bits_tell(seed: int, bits: int, per: str) -> None:
    weight = np.random.default_rng(seed).standard_t(3, (8, 200)).astype("float32")
    after, errors = cluster(dense(weight), bits=bits, per=per)
    new = weights_by_name(after)["w"]
    rows = new if per == "channel" else new.reshape(1, -1)
    assert all(len(np.unique(row)) <= 2**bits for row in rows)
    assert max(errors.values()) == pytest.approx(np.linalg.norm(new - weight) / np.linalg.norm(weight), rel=1e-5)


def test_sixteen_values_of_a_normal_weight_are_as_good_as_lloyd_and_max_found() -> None:
    """20.2 dB for 16 levels: Max, "Quantizing for minimum distortion", 1960, table 1."""
    numbers = RNG.normal(0, 1, 200_000).astype("float32")
    values, edges = find_values(numbers, 16)
    error = numbers - values[np.searchsorted(edges, numbers)]
    assert 10 * np.log10(1 / np.square(error).mean()) > 20.1


def test_values_that_are_there_already_are_found() -> None:
    values, _ = find_values(np.repeat(np.array([-2.0, 0.5, 3.0], "float32"), [5, 900, 4]), 3)
    assert np.allclose(values, [-2, 0.5, 3])


def test_pruned_weights_stay_zero_in_a_cluster_of_their_own() -> None:
    pruned, _ = prune_magnitude(clean(residual_network()), sparsity=0.5)
    after, _ = cluster(pruned, bits=3)
    old, new = weights_by_name(pruned), weights_by_name(after)
    assert all(np.array_equal(new[name] == 0, old[name] == 0) for name in old if old[name].ndim >= 2)
    assert len(np.unique(new["matrix"])) <= 8


def test_a_size_asked_for_is_reached_and_costs_accuracy() -> None:
    weight = RNG.normal(0, 1, (256, 256)).astype("float32")
    (plain, coarse) = (cluster(dense(weight), times_smaller=times) for times in (None, 6.5))
    sizes = [len(zlib.compress(weights_by_name(model)["w"].tobytes(), 6)) for model, _ in (plain, coarse)]
    assert weight.nbytes / sizes[0] < 6.5 <= weight.nbytes / sizes[1]
    assert max(plain[1].values()) < max(coarse[1].values())
    with pytest.raises(UnsupportedError, match="times_smaller"):
        cluster(dense(weight), times_smaller=100)


def test_palettes_make_the_file_an_eighth() -> None:
    weight = RNG.normal(0, 1, (256, 256)).astype("float32")
    few, _ = cluster(dense(weight), bits=4)
    stored = store_palettes(few)
    assert weight_bytes(stored) == 256 * 256 // 2 + 16 * 4
    assert weight_bytes(store_palettes(few, halves=False)) == 256 * 256 + 16 * 4
    assert [node.op_type for node in stored.graph] == ["Cast", "Gather", "MatMul"]
    assert weight_bytes(few) == weight.nbytes  # the argument is as it was


def test_a_palette_is_refused_where_it_saves_nothing() -> None:
    assert palette_of(RNG.normal(0, 1, (64, 64)).astype("float32")) is None
    values, places = palette_of(np.tile(np.array([[3.0, -1.0]], "float32"), (40, 3)))
    assert values.tolist() == [-1, 3]
    assert places.dtype == np.uint8
    assert pack_halves(np.array([1, 2, 15], "uint8")).tolist() == [0x21, 0x0F]


# --- Low rank ---------------------------------------------------------------------------------------------------------


@given(SEEDS, st.floats(0.02, 0.9))
@settings(max_examples=25, deadline=None)
def test_the_error_of_a_split_is_the_energy_of_the_tail(seed: int, allowed: float) -> None:
    matrix = np.random.default_rng(seed).normal(0, 1, (12, 9)).astype("float32")
    first, second, error = split_matrix(matrix, allowed)
    values = np.linalg.svd(matrix.astype("float64"), compute_uv=False)
    rank = first.shape[1]
    tail = float(np.sqrt((values[rank:] ** 2).sum() / (values**2).sum()))
    assert error == pytest.approx(tail, abs=1e-6)
    assert error <= allowed + 1e-6
    if rank > 1:  # one less would have been too few
        assert np.sqrt((values[rank - 1 :] ** 2).sum() / (values**2).sum()) > allowed
    assert first.shape == (12, rank)
    assert second.shape == (rank, 9)


def test_layers_of_full_rank_are_left_alone_and_said_so() -> None:
    before = clean(residual_network())
    after, errors = factorize(before, max_error=0.05)
    assert errors == {}
    assert [node.name for node in after.graph] == [node.name for node in before.graph]


@pytest.mark.parametrize(
    ("body", "shape", "pieces"),
    [
        ("y = Conv<pads=[1,2,0,1], strides=[2,1], dilations=[1,2]>(x, w)", (24, 16, 3, 3), ((3, 1), (1, 3))),
        ("y = Conv<pads=[1,1,1,1]>(x, w)", (24, 16, 3, 3), ((3, 1), (1, 3))),
        ("y = Conv(x, w)", (24, 16, 1, 1), ((1, 1), (1, 1))),
    ],
)
def test_convolutions_fall_into_the_cheapest_two(body: str, shape: tuple[int, ...], pieces: object) -> None:
    outs, ins, height, width = shape
    # Of rank 2 as a column and a row of kernels, and of a higher one as filters.
    columns, rows = RNG.normal(0, 1, (ins * height, 2)), RNG.normal(0, 1, (2, outs * width))
    kernel = (columns @ rows).reshape(ins, height, outs, width).transpose(2, 0, 1, 3).astype("float32")
    before = infer_shapes(from_text(body, inputs='float["n",16,12,12] x', w=np.ascontiguousarray(kernel)))
    after, errors = factorize(before, max_error=1e-3)
    nodes = [node for node, _ in walk(after.graph)]
    assert tuple(tuple(constant(node.inputs[1]).shape[2:]) for node in nodes) == pieces
    assert [constant(node.inputs[1]).shape[0] for node in nodes] == [2, outs]
    assert max(errors.values()) < 1e-5
    assert sum(cost.macs or 0 for cost in costs(after)) < sum(cost.macs or 0 for cost in costs(before))


# --- Wrong parameters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: prune_magnitude(m, sparsity=1.0), "sparsity"),
        (lambda m: prune_magnitude(m, sparsity=0.5, scope="all"), "scope"),
        (lambda m: prune_n_m(m, keep=4, of=4), "keep"),
        (lambda m: prune_n_m(m, keep=1, of=1), "of"),
        (lambda m: cluster(m, bits=0), "bits"),
        (lambda m: cluster(m, per="row"), "per"),
        (lambda m: factorize(m, max_error=0), "max_error"),
        (lambda m: factorize(m, max_macs=2), "max_macs"),
        (lambda m: prune_n_m(m, skip="dense"), "skip"),
    ],
)
def test_a_parameter_out_of_range_is_named(call: object, said: str) -> None:
    with pytest.raises(UnsupportedError, match=f"'{said}'"):
        call(residual_network())  # type: ignore[operator]
