"""Statistics of a graph on calibration data, by a real engine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgekit import graph as hub
from edgekit.errors import InputError
from edgekit.quantize import Range, checkpoints, observe, observers
from edgekit.quantize.checkpoints import Checkpoint
from edgekit.quantize.histograms import SOLVERS, Histogram
from edgekit.quantize.observers import MAX_COUNTED, OBSERVERS, Statistics
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


# --- interrupted observations -----------------------------------------------------------------------------------------

_COUNT = 120
_CHILD = """
import sys
from pathlib import Path
from edgekit.quantize import checkpoints
from tests.contract.test_observers import kept, stream
checkpoints.EVERY_S = checkpoints.SHARE = 0
kept(Path(sys.argv[1]), sys.argv[2], stream(pause_s=0.02))
"""


def stream(count: int = _COUNT, pause_s: float = 0.0) -> Iterator[dict[str, np.ndarray]]:
    for number in range(count):
        time.sleep(pause_s)
        yield {"x": np.random.default_rng(number).normal(0, 1 + number / 9, (1, 8, 16, 16)).astype("f4")}


def kept(
    folder: Path, observer: str, feeds: Iterable[dict[str, np.ndarray]], said: list[str] | None = None
) -> Statistics:
    """An observation that keeps its state in `folder`."""
    graph = hub.clean(from_text("a = Conv(x, w) y = Relu(a)", w=WEIGHT))
    checkpoint = Checkpoint(folder, "the data", [].append if said is None else said.append)
    return observe(graph, feeds, observer=observer, checkpoint=checkpoint)


def killed(folder: Path, observer: str = "entropy", *, after: int = 20) -> tuple[Path, int]:
    """The file an observation leaves that is killed for good once it kept `after` samples, and how many it kept."""
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(folder), observer], cwd=Path(__file__).parents[2])
    try:
        deadline = time.monotonic() + 60
        while not (files := list(folder.glob("*.npz"))) or samples_in(files[0]) < after:
            assert child.poll() is None, "it came to its end before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    return files[0], samples_in(files[0])


def samples_in(path: Path) -> int:
    with np.load(path) as state:
        return int(state["samples"][0])


def bits(statistics: Statistics) -> object:
    """All that was seen, to the last bit."""
    return [
        (name, one.extremes, one.average, one.histogram and {k: v.tobytes() for k, v in one.histogram.state.items()})
        for name, one in statistics.seen.items()
    ]


@pytest.mark.parametrize("observer", ["moving-average", "entropy"])
def test_an_observation_killed_for_good_goes_on_and_gives_the_same_bits(
    observer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = kept(tmp_path / "other", observer, stream())
    path, before = killed(tmp_path / "kept", observer)
    ran: list[int] = []
    add = observers._Gathering.add

    def counted(gathering: observers._Gathering, results: Mapping[str, np.ndarray]) -> None:
        add(gathering, results)
        ran.append(gathering.samples)

    monkeypatch.setattr(observers._Gathering, "add", counted)
    said: list[str] = []
    resumed = kept(tmp_path / "kept", observer, stream(), said)
    assert ran == list(range(before + 1, _COUNT + 1))
    assert said == [f"going on after {before} calibration samples that were observed before"]
    assert resumed.samples == whole.samples == _COUNT
    assert bits(resumed) == bits(whole)
    assert resumed.ranges == whole.ranges
    assert not path.exists(), "what is done is not kept"


def test_a_checkpoint_that_is_damaged_or_of_something_else_is_ignored_with_a_note(tmp_path: Path) -> None:
    path, _ = killed(tmp_path, after=5)
    content, whole = path.read_bytes(), bits(kept(tmp_path / "other", "entropy", stream(30)))
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    with np.load(path) as state:
        arrays = dict(state)
    foreign = {**arrays, "key": np.array("of another observation")}
    other_shape = {**arrays, "lows": arrays["lows"][1:]}
    for bad in (b"", content[: len(content) // 2], bytes(flipped), b"no archive at all", foreign, other_shape):
        if isinstance(bad, bytes):
            path.write_bytes(bad)
        else:
            with path.open("wb") as file:
                np.savez(file, **bad)
        said: list[str] = []
        assert bits(kept(tmp_path, "entropy", stream(30), said)) == whole
        (note,) = said
        assert note.startswith("note: observing from the start")
        assert not path.exists()


def test_another_graph_observer_or_data_is_another_observation(tmp_path: Path, linear: ir.Model) -> None:
    path, _ = killed(tmp_path, after=5)
    said: list[str] = []
    kept(tmp_path, "percentile", stream(3), said)
    assert [line for line in said if line.startswith("going on")], "every observer of histograms gathers the same"
    path, _ = killed(tmp_path, after=5)
    said.clear()
    kept(tmp_path, "min-max", stream(3), said)
    observe(linear, stream(3), observer="entropy", checkpoint=Checkpoint(tmp_path, "other data", said.append))
    observe(
        hub.clean(from_text("a = Conv(x, w) y = Relu(a)", w=WEIGHT * 2)),
        stream(3),
        observer="entropy",
        checkpoint=Checkpoint(tmp_path, "the data", said.append),
    )
    assert said == []
    assert path.exists()


def test_a_disk_that_refuses_is_noted_once_and_costs_nothing_but_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY_S", 0)
    monkeypatch.setattr(checkpoints, "SHARE", 0)
    (tmp_path / "file").touch()
    said: list[str] = []
    assert kept(tmp_path / "file", "mse", stream(5), said).samples == 5
    (note,) = said
    assert note.startswith("note: a kill would lose what is observed")


def test_checkpoints_nobody_came_back_to_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("old.npz", "new.npz"):
        (tmp_path / name).touch()
    os.utime(tmp_path / "old.npz", (0, 0))
    kept(tmp_path, "min-max", stream(2))
    assert [path.name for path in tmp_path.iterdir()] == ["new.npz"]
