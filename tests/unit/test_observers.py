"""Histograms and what is solved from them, against the values themselves; what calibration data tells of itself."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from edgekit.conversion.calibration import CalibrationData
from edgekit.errors import InputError, UnsupportedError
from edgekit.processing import Processing
from edgekit.quantize.histograms import BINS, SOLVERS, TAIL, Histogram, Range
from edgekit.quantize.observers import OBSERVERS, Seen, Statistics, observe
from edgekit.quantize.solver import activation_params
from edgekit.samples import read_samples
from edgekit.spec import Signature, TensorSpec
from tests.unit.networks import from_text

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
GAUSS = RNG.normal(0, 1, 100_000).astype("f4")

values = arrays.arrays(
    "float32",
    st.integers(1, 60),
    elements=st.floats(-8, 8, width=32) | st.floats(allow_nan=False, allow_infinity=False, width=32),
)


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def state(histogram: Histogram) -> tuple[object, ...]:
    return histogram.counts.tolist(), histogram.first, histogram.exponent, histogram.zeros


def solved(observer: str, array: np.ndarray, *, symmetric: bool = False, levels: int = 256) -> Range:
    seen = Range(float(array.min()), float(array.max()))
    return SOLVERS[observer](histogram_of(array), seen, levels, symmetric)


def error(array: np.ndarray, span: Range, *, symmetric: bool = False) -> float:
    params = activation_params(span, "int8", symmetric=symmetric)
    return float(np.mean(np.square(params.dequantize(params.quantize(array)) - array, dtype="f8")))


# --- histograms -------------------------------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None)
@given(array=values)
def test_every_value_is_counted_in_the_bin_it_lies_in(array: np.ndarray) -> None:
    histogram = histogram_of(array)
    exact = [math.floor(float(value) / histogram.width) - histogram.first for value in array]
    assert Counter(exact) == {int(bin): int(histogram.counts[bin]) for bin in np.flatnonzero(histogram.counts)}
    assert histogram.total == array.size
    assert histogram.zeros == (array == 0).sum()
    assert histogram.edges[0] <= array.min() < histogram.edges[1]
    assert histogram.edges[0] % histogram.width == 0


@settings(derandomize=True, deadline=None)
@given(array=values, cuts=st.lists(st.integers(0, 60), max_size=4), seed=st.integers(0, 9))
def test_a_histogram_depends_on_the_values_alone(array: np.ndarray, cuts: list[int], seed: int) -> None:
    """Not on their order, nor on how they are dealt out to calls or to histograms that become one."""
    whole = state(histogram_of(array))
    mixed = np.array_split(np.random.default_rng(seed).permutation(array), sorted(cuts))
    assert state(histogram_of(*mixed)) == whole
    merged = Histogram()
    for part in mixed:
        merged |= histogram_of(part)
    assert state(merged) == whole


def test_a_growing_range_doubles_the_width_and_loses_no_count() -> None:
    histogram = histogram_of(np.linspace(0, 0.999, 1000, dtype="f4"))
    before = histogram.exponent, histogram.counts.copy()
    histogram.add(np.array([1.5], "f4"))
    assert histogram.exponent == before[0] + 1
    np.testing.assert_array_equal(histogram.counts[: BINS // 2], before[1].reshape(-1, 2).sum(axis=1))
    assert histogram.counts[BINS // 2 :].sum() == 1
    histogram.add(np.array([-1e6], "f4"))
    assert histogram.total == 1002


def test_more_than_half_of_the_bins_are_in_use_whatever_the_range() -> None:
    for scale in (1e-20, 0.3, 1.0, 7.7, 1e20):
        for shift in (0, 1, -1, 5):
            array = (RNG.uniform(-1, 1, 50_000) + shift).astype("f4") * np.float32(scale)
            used = np.flatnonzero(histogram_of(array).counts)
            assert BINS / 2 - 1 <= used[-1] - used[0] + 1 <= BINS


@pytest.mark.parametrize("value", [0.0, 1.0, -3.4e38, 1e-38])
def test_a_constant_is_one_bin(value: float) -> None:
    histogram = histogram_of(np.full(7, value, "f4"))
    value = float(np.float32(value))
    assert histogram.counts.max() == histogram.total == 7
    for observer, solve in SOLVERS.items():
        assert solve(histogram, Range(value, value), 256, False) == Range(value, value), observer


def test_no_values_change_nothing() -> None:
    assert state(histogram_of(np.zeros((0, 3), "f4"), GAUSS)) == state(histogram_of(GAUSS))
    assert state(Histogram() | histogram_of(GAUSS)) == state(histogram_of(GAUSS))


# --- solvers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("observer", sorted(SOLVERS))
def test_one_outlier_is_clipped(observer: str, symmetric: bool) -> None:
    span = solved(observer, np.append(GAUSS, np.float32(30)), symmetric=symmetric)
    # What weighs an outlier by its square goes farther for it than what asks how many there are.
    assert 3 < span.high < (28 if observer == "mse" else 8)
    assert -4.6 < span.low < -2.9


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    "array",
    [
        GAUSS,
        np.append(GAUSS, np.float32(50)),
        np.append(GAUSS, np.full(3, -9, "f4")),
        np.maximum(GAUSS, 0),
        np.clip(GAUSS * 4, 0, 6),
        RNG.laplace(0, 1, 100_000).astype("f4"),
        GAUSS / (1 + np.exp(-GAUSS)),
        RNG.uniform(-1, 3, 100_000).astype("f4"),
        RNG.lognormal(0, 2, 100_000).astype("f4"),
        np.where(RNG.random(100_000) < 0.9, 0, GAUSS).astype("f4"),
    ],
    ids=["gauss", "outlier", "low outliers", "relu", "relu6", "laplace", "silu", "uniform", "lognormal", "sparse"],
)
def test_mse_is_as_good_as_trying_every_range(array: np.ndarray, symmetric: bool) -> None:
    low, high = min(float(array.min()), 0), max(float(array.max()), 0)
    reach = max(-low, high)
    tried = [Range(max(low, -reach * f), min(high, reach * f)) for f in np.geomspace(1, 0.02, 60)]
    best = min(error(array, span, symmetric=symmetric) for span in tried)
    assert error(array, solved("mse", array, symmetric=symmetric), symmetric=symmetric) <= best * 1.02


def test_fewer_levels_are_clipped_more() -> None:
    highs = [solved("mse", GAUSS, levels=levels).high for levels in (16, 64, 256, 65536)]
    assert highs == sorted(highs)
    assert highs[0] < 3 < highs[-1]
    assert highs[-1] == pytest.approx(GAUSS.max(), rel=0.1)


def test_percentile_leaves_out_no_more_than_it_says() -> None:
    for array in (GAUSS, np.maximum(GAUSS, 0), RNG.laplace(0, 1, 50_000).astype("f4"), GAUSS[:50]):
        span = solved("percentile", array)
        assert np.mean(array < span.low) <= TAIL
        assert np.mean(array > span.high) <= TAIL
    exact = np.quantile(GAUSS, [TAIL, 1 - TAIL])
    assert (span := solved("percentile", GAUSS)).low == pytest.approx(exact[0], abs=0.01)
    assert span.high == pytest.approx(exact[1], abs=0.01)


@pytest.mark.parametrize("observer", sorted(SOLVERS))
def test_what_fills_its_range_keeps_it(observer: str) -> None:
    for array in (RNG.uniform(-1, 3, 100_000).astype("f4"), np.clip(GAUSS * 4, 0, 6)):
        span = solved(observer, array)
        assert span.low == pytest.approx(array.min(), abs=0.02)
        assert span.high == pytest.approx(array.max(), abs=0.02)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(array=values, symmetric=st.booleans(), levels=st.sampled_from([16, 256, 65536]))
def test_no_solver_goes_beyond_what_was_seen(array: np.ndarray, symmetric: bool, levels: int) -> None:
    for observer in SOLVERS:
        span = solved(observer, array, symmetric=symmetric, levels=levels)
        assert array.min() <= span.low <= array.max(), observer
        assert array.min() <= span.high <= array.max(), observer
        assert span.low <= span.high or min(span.low, 0) <= max(span.high, 0), observer


def test_entropy_does_not_count_the_zeros_that_relu_makes() -> None:
    positive = np.abs(np.append(GAUSS, np.float32(30)))
    with_zeros = np.concatenate([positive, np.zeros(10**6, "f4")])
    assert solved("entropy", with_zeros).high == solved("entropy", positive).high < 8


# --- statistics -------------------------------------------------------------------------------------------------------


def statistics(observer: str, **tensors: np.ndarray) -> Statistics:
    seen = {}
    for name, array in tensors.items():
        extremes = Range(float(array.min()), float(array.max()))
        seen[name] = Seen(extremes, Range(-1.0, 1.0), histogram_of(array) if observer in SOLVERS else None)
    return Statistics({name: one.extremes for name, one in seen.items()}, 1, observer, seen)


def test_one_observation_answers_for_every_observer() -> None:
    seen = statistics("mse", a=np.append(GAUSS, np.float32(30)), b=np.maximum(GAUSS, 0))
    highs = {observer: seen.ranges_by(observer)["a"].high for observer in OBSERVERS}
    assert highs["min-max"] == 30
    assert highs["moving-average"] == 1
    assert len(set(highs.values())) == 5
    assert all(seen.ranges_by(observer)["b"].low <= 0 for observer in OBSERVERS)


def test_tensors_that_share_parameters_get_one_range_from_all_their_values() -> None:
    a, b = GAUSS[:50_000], GAUSS[50_000:] * np.float32(0.1)
    seen = statistics("entropy", a=a, b=b)
    for observer in SOLVERS:
        assert seen.range_of(["a", "b"], observer) == solved(observer, np.concatenate([a, b]))
    assert seen.range_of(["a", "b"], "min-max").high == a.max()


def test_what_was_not_gathered_is_an_input_error() -> None:
    bare = Statistics({"a": Range(-1, 2), "b": Range(0, 5)}, 3)
    assert bare.range_of(["a", "b"], "min-max") == Range(-1, 5)
    with pytest.raises(InputError, match=r"gathered for 'min-max' cannot answer 'mse'.*observer='mse'"):
        bare.ranges_by("mse")
    with pytest.raises(InputError, match="cannot answer 'entropy'"):
        statistics("moving-average", a=GAUSS).ranges_by("entropy")


def test_an_unknown_observer_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnsupportedError, match=r"no observer 'kl'.*min-max, moving-average, percentile, entropy, mse"):
        statistics("mse", a=GAUSS).ranges_by("kl")
    with pytest.raises(UnsupportedError, match="no observer 'kl'"):
        observe(from_text("y = Relu(x)"), [], observer="kl")


# --- memory -----------------------------------------------------------------------------------------------------------

_PEAKS = """
import sys
import numpy as np
from edgekit.graph import clean
from edgekit.measuring.resident import peak_rss_bytes
from edgekit.quantize.observers import observe
from tests.unit.networks import residual_network

def stream():
    rng = np.random.default_rng(0)
    for number in range(1024):
        if number == 64:
            print(peak_rss_bytes())
        yield {"image": rng.normal(0, 1 + number / 100, (1, 3, 32, 32)).astype("f4")}

statistics = observe(clean(residual_network()), stream(), observer=sys.argv[1])
for observer in sys.argv[1:]:
    assert len(statistics.ranges_by(observer)) > 10
print(peak_rss_bytes(), statistics.samples)
"""


@pytest.mark.parametrize("observers", [OBSERVERS[:2], OBSERVERS[2:]], ids=["extremes", "histograms"])
def test_peak_memory_does_not_grow_with_the_samples(observers: tuple[str, ...]) -> None:
    """A sample's activations are 1 MB: a thousandth of them kept would be seen."""
    ran = subprocess.run(
        [sys.executable, "-c", _PEAKS, *observers], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    after_64, after_1024, samples = map(int, ran.stdout.split())
    assert samples == 1024
    assert after_1024 < after_64 * 1.05


# --- what the data looks like -----------------------------------------------------------------------------------------

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 4, 5)),), (TensorSpec("y", "float32", ("batch", 2)),))


def notes_on(folder: Path, data: np.ndarray) -> list[str]:
    np.save(folder / "x.npy", data)
    return CalibrationData.gather(SIGNATURE, None, Processing.identity(), read_samples(folder / "x.npy")).notes


def test_usual_data_gets_no_note(tmp_path: Path) -> None:
    assert notes_on(tmp_path, RNG.normal(0, 1, (40, 4, 5)).astype("f4")) == []


def test_few_samples_are_noted(tmp_path: Path) -> None:
    (note,) = notes_on(tmp_path, RNG.normal(0, 1, (31, 4, 5)).astype("f4"))
    assert "only 31 calibration samples" in note


def test_the_same_sample_again_and_again_is_noted(tmp_path: Path) -> None:
    one = RNG.normal(0, 1, (1, 4, 5)).astype("f4")
    assert "all 40 calibration samples are one and the same" in notes_on(tmp_path, np.repeat(one, 40, axis=0))[0]
    ten = RNG.normal(0, 1, (10, 4, 5)).astype("f4")
    assert "30 of 40 calibration samples repeat others" in notes_on(tmp_path, np.tile(ten, (4, 1, 1)))[0]
    assert notes_on(tmp_path, np.concatenate([RNG.normal(0, 1, (30, 4, 5)).astype("f4"), ten, ten[:5]])) == []


def test_inputs_of_unlikely_size_are_noted(tmp_path: Path) -> None:
    usual = RNG.normal(0, 1, (40, 4, 5))
    (note,) = notes_on(tmp_path, (usual * 30_000).astype("f4"))
    assert "input 'x' reaches 1" in note
    (note,) = notes_on(tmp_path, (1e-3 + usual * 1e-7).astype("f4"))
    assert "input 'x' hardly varies" in note
    assert notes_on(tmp_path, (usual * 1e-4).astype("f4")) == []


def test_nan_among_the_data_names_file_and_sample(tmp_path: Path) -> None:
    data = RNG.normal(0, 1, (40, 4, 5)).astype("f4")
    for bad in (np.nan, np.inf):
        data[6, 2, 3] = bad
        with pytest.raises(InputError, match=r"x\.npy, sample 6: input 'x' holds NaN or infinity"):
            notes_on(tmp_path, data)


def test_one_corrupt_file_among_many_is_a_named_skip(tmp_path: Path) -> None:
    for index in range(12):
        np.save(tmp_path / f"{index:02}.npy", RNG.normal(0, 1, (4, 5)).astype("f4"))
    whole = (tmp_path / "05.npy").read_bytes()
    (tmp_path / "05.npy").write_bytes(whole[:-9])
    Image.fromarray(np.zeros((4, 5), "u1")).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:40])
    samples = read_samples(tmp_path)
    assert [name for name, _ in samples.skipped] == ["05.npy", "cut.png"]
    data = CalibrationData.gather(SIGNATURE, None, Processing.identity(), samples)
    assert len(data.held_out) + sum(1 for _ in data.calibration()) == 11


def test_a_file_of_another_shape_among_many_is_named(tmp_path: Path) -> None:
    for index in range(12):
        np.save(tmp_path / f"{index:02}.npy", RNG.normal(0, 1, (4, 5 + (index == 7))).astype("f4"))
    with pytest.raises(InputError, match=r"sample 07\.npy"):
        CalibrationData.gather(SIGNATURE, None, Processing.identity(), read_samples(tmp_path))


def test_an_empty_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the 0 files"):
        read_samples(tmp_path)
