"""Statistics of a graph on calibration data, by a real engine."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from edgekit import graph as hub
from edgekit.errors import InputError
from edgekit.quantize import Range, observe
from tests.unit.networks import from_text

RNG = np.random.default_rng(6)
WEIGHT = RNG.normal(0, 1, (3, 8, 1, 1)).astype("float32")


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return hub.clean(from_text("a = Conv(x, w) r = Relu(a) y = Log(r)", w=WEIGHT))


@pytest.fixture(scope="module")
def linear() -> ir.Model:
    return hub.clean(from_text("a = Conv(x, w) y = Relu(a)", w=WEIGHT))


def samples(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0, 1 + i, (1, 8, 16, 16)).astype("float32")} for i in range(count)]


def test_the_true_extremes_of_all_samples_are_found(linear: ir.Model) -> None:
    feeds = samples(4)
    seen = observe(linear, feeds)
    exact = [np.einsum("oc,nchw->nohw", WEIGHT[:, :, 0, 0], feed["x"]) for feed in feeds]
    assert seen.samples == 4
    assert seen.ranges["x"] == Range(min(float(f["x"].min()) for f in feeds), max(float(f["x"].max()) for f in feeds))
    assert seen.ranges["a"].low == pytest.approx(min(e.min() for e in exact), rel=1e-5)
    assert seen.ranges["y"] == Range(0.0, pytest.approx(max(e.max() for e in exact), rel=1e-5))


def test_samples_are_taken_one_at_a_time_and_let_go(linear: ir.Model) -> None:
    given: list[weakref.ref[np.ndarray]] = []

    def stream() -> Iterator[dict[str, np.ndarray]]:
        for seed in range(6):
            array = np.random.default_rng(seed).normal(0, 1, (1, 8, 16, 16)).astype("float32")
            given.append(weakref.ref(array))
            yield {"x": array}
            del array
            assert sum(seen() is not None for seen in given) <= 1, "an earlier sample is still held"

    assert observe(linear, stream()).samples == 6
    assert len(given) == 6


def test_only_what_is_wanted_is_observed(linear: ir.Model) -> None:
    assert set(observe(linear, samples(1), wanted={"a"}).ranges) >= {"a"}
    assert "y" not in observe(linear, samples(1), wanted={"a"}).ranges


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_in_a_sample_are_an_input_error(bad: float, linear: ir.Model) -> None:
    feeds = samples(3)
    feeds[2]["x"][0, 0, 0, 0] = bad
    with pytest.raises(InputError, match="NaN or infinity"):
        observe(linear, feeds)


def test_a_sample_that_leads_to_infinity_is_named_with_the_tensor(network: ir.Model) -> None:
    with pytest.raises(InputError, match="calibration sample 1 makes tensor 'y' NaN or infinite"):
        observe(network, samples(1))


def test_no_sample_at_all_is_an_input_error(linear: ir.Model) -> None:
    with pytest.raises(InputError, match="holds no sample"):
        observe(linear, [])


def test_an_empty_sample_is_an_input_error(linear: ir.Model) -> None:
    with pytest.raises(InputError, match="sample 1: input 'x' is empty"):
        observe(linear, [{"x": np.zeros((0, 8, 16, 16), "float32")}])


def test_constant_data_are_an_input_error(linear: ir.Model) -> None:
    with pytest.raises(InputError, match="x is always 0"):
        observe(linear, [{"x": np.zeros((1, 8, 16, 16), "float32")}] * 3)


def test_a_sample_of_another_shape_is_an_input_error(linear: ir.Model) -> None:
    with pytest.raises(InputError, match="shape"):
        observe(linear, [{"x": np.zeros((1, 3, 16, 16), "float32")}])
