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
from edgekit.quantize.histograms import SOLVERS, Histogram
from edgekit.quantize.observers import MAX_COUNTED, OBSERVERS
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


def exact(feeds: list[dict[str, np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """All tensors of `linear` for each sample."""
    products = [np.einsum("oc,nchw->nohw", WEIGHT[:, :, 0, 0], feed["x"]) for feed in feeds]
    return {"x": [feed["x"] for feed in feeds], "a": products, "y": [np.maximum(each, 0) for each in products]}


def test_every_observer_sees_what_numpy_computes(linear: ir.Model) -> None:
    feeds = samples(5)
    seen = observe(linear, iter(feeds), observer="entropy")
    for name, arrays in exact(feeds).items():
        lows, highs = [float(a.min()) for a in arrays], [float(a.max()) for a in arrays]
        histogram = Histogram()
        for array in arrays:
            histogram.add(array)
        extremes = Range(min(lows), max(highs))
        wanted = {observer: solve(histogram, extremes, 256, False) for observer, solve in SOLVERS.items()}
        wanted |= {"min-max": extremes, "moving-average": Range(sum(lows) / 5, sum(highs) / 5)}
        for observer in OBSERVERS:
            found = seen.ranges_by(observer)[name]
            near = max(abs(extremes.low), extremes.high) / 1000  # the engine adds in another order than numpy
            assert found.low == pytest.approx(wanted[observer].low, abs=near), (name, observer)
            assert found.high == pytest.approx(wanted[observer].high, abs=near), (name, observer)
    assert seen.ranges == seen.ranges_by("entropy")
    assert seen.observer == "entropy"


def test_the_moving_average_follows_the_latest_samples(linear: ir.Model) -> None:
    feeds = [{"x": np.full((1, 8, 16, 16), 1 + (number >= 100), "f4")} for number in range(300)]
    high = observe(linear, feeds, observer="moving-average").ranges["x"].high
    assert high == pytest.approx(2 - 0.99**200)


@pytest.mark.parametrize("shape", [(1, 8, 48, 44), (1, 8, 60, 77), (3, 8, 91, 121), (1, 8, 7, 1)])
def test_of_a_large_tensor_a_part_is_counted_from_every_row_and_column(shape: tuple[int, ...]) -> None:
    names = ["n", "c", "h", "w"]
    axes = [np.arange(size, dtype="f4").reshape(np.roll([-1, 1, 1, 1], axis)) for axis, size in enumerate(shape)]
    body = " ".join(f"o{name} = Neg({name})" for name in names)
    inputs = ", ".join(f'float["n{name}","c{name}","h{name}","w{name}"] {name}' for name in names)
    model = hub.clean(from_text(body, inputs=inputs, outputs=", ".join(f"float[n,c,h,w] o{name}" for name in names)))
    feeds = {name: np.ascontiguousarray(np.broadcast_to(axis, shape)) for name, axis in zip(names, axes, strict=True)}
    seen = observe(model, [feeds], observer="percentile").seen
    for name, axis in zip(names, axes, strict=True):
        histogram = seen[name].histogram
        assert histogram is not None
        size = int(np.prod(shape))
        assert histogram.total <= MAX_COUNTED
        assert histogram.total == size or (size > MAX_COUNTED and histogram.total > MAX_COUNTED / 8)
        places, counts = np.unique(np.floor(axis / histogram.width) - histogram.first, return_counts=True)
        assert counts.max() == 1
        found = histogram.counts[places.astype(int)]
        assert found.min() > 0.8 * found.max()


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
    with pytest.raises(InputError, match="calibration sample 3: input 'x' holds NaN or infinity"):
        observe(linear, feeds)


def test_a_sample_that_leads_to_infinity_is_named_with_the_tensor(network: ir.Model) -> None:
    with pytest.raises(InputError, match="calibration sample 1 makes tensor 'y' NaN or infinite"):
        observe(network, samples(1))


@pytest.mark.parametrize("observer", ["min-max", "mse"])
def test_nan_within_a_tensor_is_found_where_the_outputs_hide_it(observer: str) -> None:
    network = hub.clean(from_text("r = Sqrt(x) b = Greater(r, one) y = Cast<to=1>(b)", one=np.float32(1)))
    good = [{"x": np.abs(feed["x"])} for feed in samples(2)]
    assert set(observe(network, good, observer=observer).ranges) == {"x", "r", "y"}
    good[1]["x"][0, 5, 6, 7] = -1
    with pytest.raises(InputError, match="calibration sample 2 makes tensor 'r' NaN or infinite"):
        observe(network, good, observer=observer)


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
    with pytest.raises(InputError, match=r"calibration sample 1: input 'x' wants shape"):
        observe(linear, [{"x": np.zeros((1, 3, 16, 16), "float32")}])
