"""Models by name: made in every form, which all agree, converted with their own data, and judged by their metric."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.conversion.accuracy import Accuracy, Judge
from edgekit.conversion.given import Beside, GivenName, find_given
from edgekit.errors import ArtifactError, InputError, UnavailableError, UnsupportedError
from edgekit.family import Family, find_size
from edgekit.making import find_model, make_model
from edgekit.network.torch_form import to_torch
from edgekit.plan import HUB, Plan, PlannedVariant, Road
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS, FAMILIES
from edgekit.target import Target
from edgekit.training.step import run_of
from tests.unit import toy_family

NAME = "feed-forward"

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def toy() -> Family:
    return toy_family.family()


@pytest.fixture(scope="module")
def expected(toy: Family) -> np.ndarray:
    """What the PyTorch module itself answers to `feeds`."""
    model = find_model(toy, "wide")
    return run_of(to_torch(model.network, model.weights.arrays))({"x": feeds()})["probabilities"]


def feeds() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*:DeprecationWarning")  # .pt is old, and still asked for
@pytest.mark.parametrize("suffix", [".pt2", ".pt"])
def test_pytorch_files_answer_as_the_module(toy: Family, expected: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = make_model(toy, "wide", output=tmp_path / f"m{suffix}").path
    # A batch of 5, where another was traced: the batch must have stayed open.
    model = torch.export.load(path).module() if suffix == ".pt2" else torch.jit.load(path)
    assert np.abs(model(torch.from_numpy(feeds())).detach().numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("name", ["m.onnx", "m.keras", "m.h5", "m"])
def test_files_that_are_sources_answer_as_the_module(
    toy: Family, expected: np.ndarray, tmp_path: Path, name: str
) -> None:
    path = make_model(toy, "wide", output=tmp_path / name).path
    reader = next(c for _, c in CONVERTERS if c.reads and c.accepts(path))
    if not reader.probe().available:
        pytest.skip(reader.probe().reason)
    (tmp_path / "stage").mkdir()
    source = reader.read(path, tmp_path / "stage")
    try:
        assert [spec.name for spec in source.signature.inputs] == ["x"]
        assert source.signature.inputs[0].shape[0] == "batch"
        found = source.run({"x": feeds()})
    finally:
        source.close()
    assert list(found) == ["probabilities"]
    assert np.abs(found["probabilities"] - expected).max() < 1e-5


def test_a_name_is_converted_with_its_own_data_and_judged(tmp_path: Path) -> None:
    family, _ = find_size(NAME)
    report = edgekit.convert(NAME, tmp_path / "f.edge", format="onnx")
    assert [variant.status for variant in report.variants] == ["written"]
    accuracy = report.variants[0].accuracy
    assert accuracy is not None
    assert accuracy.metric == family.metric
    assert accuracy.source_value == pytest.approx(family.score, abs=family.tolerance)
    assert accuracy.value == accuracy.source_value
    assert report.bundle is not None
    stored = report.bundle.variants[0]
    assert stored.facts["accuracy"] == accuracy.to_json()
    assert report.bundle.provenance["source"]["name"] == f"{NAME}:tiny"
    assert report.bundle.provenance["weights"]["data"] == family.data
    assert report.bundle.provenance["calibration"]["samples"] > 0
    with edgekit.load(tmp_path / "f.edge") as session:
        sample = np.zeros(30, "float32")
        assert session.predict(sample)[0]["label"] in family.processing.labels


def test_int8_needs_no_calibration_data_of_the_users(tmp_path: Path) -> None:
    # Not for this machine, on which it would have to be faster too.
    report = edgekit.convert(NAME, tmp_path / "f.edge", target="raspberry-pi-5", format="onnx", precision="int8")
    assert report.variants[0].status == "written", report.variants[0].reason
    accuracy = report.variants[0].accuracy
    assert accuracy is not None
    assert accuracy.value >= accuracy.source_value - 0.02


def test_int8_that_loses_too_much_is_refused_with_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(self: Judge, file: Path, accepted: Any) -> Accuracy:
        return Accuracy("top1", 0.9, self.source_value, len(self.samples), "breast-cancer", True)

    monkeypatch.setattr(Judge, "judge", judge)
    with pytest.raises(UnsupportedError, match=r"top1 falls from 0\.\d+ to 0\.9000 on 142 test samples"):
        edgekit.convert(NAME, tmp_path / "f.edge", format="onnx", precision="int8")
    assert not (tmp_path / "f.edge").exists()


@pytest.mark.parametrize(
    ("value", "source", "is_higher_better", "is_refused"),
    [(0.97, 0.98, True, False), (0.95, 0.98, True, True), (30.0, 31.0, True, False), (9.0, 7.0, False, False)],
)
def test_only_shares_of_one_are_held_to_the_promise(
    value: float, source: float, is_higher_better: bool, is_refused: bool
) -> None:
    assert bool(Accuracy("m", value, source, 300, "d", is_higher_better).complaint) is is_refused


def planner(reached: dict[str, int]) -> Any:
    """Plans of three files, of which so many can be reached from each reader."""

    def plan(name: str, reader: Any) -> Plan:
        roads = [(Road("a road", "", HUB, ()),)] * reached[reader.name] + [()] * (3 - reached[reader.name])
        variants = tuple(PlannedVariant("onnx", Recipe.named("fp32"), road) for road in roads)
        return Plan(name, reader.name, Target.named("host"), variants)

    return plan


@pytest.mark.parametrize(
    ("reached", "suffix"), [({"onnx": 3, "keras": 3}, ".onnx"), ({"onnx": 2, "keras": 3}, ".keras")]
)
def test_the_form_is_the_one_that_leads_furthest(reached: dict[str, int], suffix: str) -> None:
    given = find_given(NAME, Beside(), planner(reached))
    assert isinstance(given, GivenName)
    assert given.suffix == suffix
    assert suffix in given.notes[0]


def test_a_file_of_that_name_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NAME).write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match="no model that edgekit reads"):
        edgekit.convert(NAME, tmp_path / "f.edge")


def test_what_is_no_name_takes_no_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="so it takes no --weights"):
        edgekit.convert(tmp_path / "m.onnx", tmp_path / "f.edge", weights="w.safetensors")


def test_a_size_of_other_data_needs_the_users(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="int8 needs calibration data"):
        edgekit.convert("feed-forward:s", tmp_path / "f.edge", format="onnx", precision="int8")


def test_a_name_is_loaded_inspected_and_profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    with edgekit.load(NAME, runtime="onnx") as session:
        assert session.predict(np.zeros(30, "float32"))[0]["label"] in ("malignant", "benign")
    kept = list((tmp_path / "models").iterdir())
    assert len(kept) == 1
    assert edgekit.inspect(NAME).signature.inputs[0].name == "features"
    profile = edgekit.profile(NAME, runtime="onnx", rounds=1, min_samples=1, min_time_s=0.01, cold_starts=0)
    assert profile.measurements[0].status == "measured"
    assert list((tmp_path / "models").iterdir()) == kept
    with pytest.raises(UnavailableError, match="no weights of feed-forward:l ship") as refused:
        edgekit.load("feed-forward:l")
    assert "edgekit models make" in refused.value.hint


def test_a_trained_file_of_ones_own_classes_is_converted_with_them(
    toy: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.training import train

    monkeypatch.setitem(FAMILIES._loaded, "toy", replace(toy, frameworks=("torch", "onnx")))
    monkeypatch.setattr(FAMILIES, "places", lambda: {**FAMILIES._builtin, "toy": "tests.unit.toy_family:family"})
    table = toy_family.write_table(tmp_path / "table", ("cold", "hot"))
    train("toy", data=table, output=tmp_path / "mine.onnx", epochs=1, threads=1)
    train("toy", data=table, output=tmp_path / "mine.safetensors", epochs=1, threads=1)
    edgekit.convert(tmp_path / "mine.onnx", tmp_path / "file.edge", format="onnx")
    edgekit.convert("toy", tmp_path / "name.edge", format="onnx", weights=tmp_path / "mine.safetensors")
    for bundle in ("file.edge", "name.edge"):
        with edgekit.load(tmp_path / bundle) as session:
            assert session.predict(np.zeros(4, "float32"))[0]["label"] in ("cold", "hot")
