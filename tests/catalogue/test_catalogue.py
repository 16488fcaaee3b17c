"""Real trained models to every format: nothing is worse than the committed outcomes, which are as promised."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.assets import FetchError
from tests.catalogue import results
from tests.catalogue.figures import Figure
from tests.catalogue.running import FORMATS, run_source
from tests.catalogue.sources import SOURCES, Source

ROOT = Path(__file__).resolve().parents[2]


def marked(source: Source) -> Any:
    return pytest.param(source, id=source.id, marks=[pytest.mark.slow] if source.is_heavy else [])


@pytest.mark.parametrize("source", [marked(source) for source in SOURCES])
def test_nothing_is_worse_than_committed(source: Source) -> None:
    try:
        found = {source.id: run_source(source)}
    except FetchError as error:
        if os.environ.get("EDGEKIT_OFFLINE") == "1":
            pytest.skip(f"EDGEKIT_OFFLINE=1 and the asset is not in the cache: {error}")
        raise
    assert not results.fell(results.read(), found)


def test_every_source_has_an_outcome_in_every_format() -> None:
    stored = results.read()
    assert list(stored) == [source.id for source in SOURCES]
    assert {source.id.partition("-")[0] for source in SOURCES} == {f"D{number}" for number in range(1, 13)}
    for outcome in stored.values():
        assert tuple(outcome["formats"]) == FORMATS


def test_every_file_is_within_the_limit_and_reproduces_its_figures_or_is_refused_with_reasons() -> None:
    for id, outcome in results.read().items():
        for format, one in outcome["formats"].items():
            where = f"{id} {format}"
            assert one["status"] in ("written", "refused"), where
            if one["status"] == "refused":
                assert len(one["reason"]) > 20, where
                continue
            if not is_quantized(outcome):
                assert one["parity"] <= results.LIMIT * (10 if id in results.UNSTEADY else 1), where
            assert all(figure["holds"] for figure in one["figures"]), where


def is_quantized(outcome: dict[str, Any]) -> bool:
    return "int8" in outcome["title"]


def test_strings_are_refused_with_every_reason_at_once() -> None:
    for one in results.read()["D6"]["formats"].values():
        assert one["status"] == "refused"
        for part in ("input 'inputs'", "output 'classes'", "StringNGrams", "StringSplit", "HashTableV2"):
            assert part in one["reason"]


# --- what counts as worse --------------------------------------------------------------------------------------------

FILE = {
    "status": "written",
    "road": "onnx -> hub -> tflite",
    "parity": 2e-6,
    "size_bytes": 1000,
    "figures": [{"what": "mean", "want": 0.5, "got": 0.5, "holds": True}],
}
REFUSAL = {"status": "refused", "reason": "TFLite cannot hold operations of this model: Foo (a)"}


def found(outcome: dict[str, Any]) -> dict[str, Any]:
    return {"D0": {"title": "a model", "formats": {"tflite": outcome}}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parity": 5e-4}, "parity 5.0e-04 instead of 2.0e-06"),
        ({"size_bytes": 1200}, "1200 bytes instead of 1000"),
        ({"figures": [{"what": "mean", "want": 0.5, "got": 0.4, "holds": False}]}, "mean is 0.4, not 0.5"),
        ({"figures": []}, "mean is no longer asked for"),
        (REFUSAL, "refused: TFLite cannot hold"),
        ({"status": "broken", "reason": "KeyError: 'x'"}, "broken: KeyError"),
    ],
)
def test_worse_is_said(change: dict[str, Any], said: str) -> None:
    (line,) = results.fell(found(FILE), found({**FILE, **change}))
    assert line.startswith("D0 tflite: ")
    assert said in line


def test_no_worse_is_another_road_noise_within_the_limit_or_a_file_where_there_was_none() -> None:
    other = {**FILE, "road": "as it is", "parity": 9e-5, "size_bytes": 1050}
    assert not results.fell(found(FILE), found(other))
    assert not results.fell(found(REFUSAL), found(FILE))
    assert not results.fell(found(REFUSAL), found(REFUSAL))
    assert not results.fell({}, found(FILE))
    assert results.fell(found(REFUSAL), found({"status": "broken", "reason": "KeyError: 'x'"}))


def test_an_update_keeps_the_sources_that_were_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_FILE", tmp_path / "results.json")
    one, other = found(FILE)["D0"], found(REFUSAL)["D0"]
    results.write({"D9-predict": one, "D2-onnx": one})
    results.write({"D9-predict": copy.deepcopy(other)})
    assert results.read() == {"D2-onnx": one, "D9-predict": other}
    assert list(results.read()) == ["D2-onnx", "D9-predict"]


def test_a_figure_holds_within_its_tolerance_and_never_for_nan() -> None:
    assert Figure("mean", 0.5, 0.5005, 0.001).holds
    assert not Figure("mean", 0.5, 0.5015, 0.001).holds
    assert not Figure("mean", 0.5, float("nan"), 0.001).holds


def test_the_command_runs_one_source_and_prints_one_document() -> None:
    words = [sys.executable, "-m", "tests.catalogue", "--only", "D3-16k", "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == ["D3-16k"]
