"""``edgekit compare`` and the gates of ``edgekit profile``: exit codes, forms, and what is refused before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Typed, write_bundle
from tests.contract.sample_models import dense, two_inputs

Type = Callable[..., Typed]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(dense().SerializeToString())
    return tmp_path / "net.onnx"


def test_compare_answers_in_every_form(typed: Type, net: Path, tmp_path: Path) -> None:
    code, out, _ = typed("compare", net, f"{net}@openvino", "--no-latency", "-o", tmp_path / "c.md")
    assert code == 0
    assert "Outputs on random feeds" in out
    assert "Layer by layer" in out
    assert (tmp_path / "c.md").read_text().startswith("# ")
    code, out, _ = typed("compare", net, net, "--no-latency", "--no-layers", "--json")
    found = json.loads(out)
    assert (code, found["schema"], found["version"]) == (0, "edgekit.comparison", 1)
    assert found["agreements"][0]["outputs"][0]["max_abs"] == 0
    assert (found["layers"], found["latencies"]) == (None, None)


def test_compare_times_as_long_as_it_may(typed: Type, net: Path) -> None:
    code, out, _ = typed("compare", net, net, "--max-time", 0, "--threads", 1, "--no-layers", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["latencies"]["pairs"] == 1
    assert found["latencies"]["rounds"] == 16
    assert found["latencies"]["verdict"] in ("faster", "slower", "same", "unclear")
    assert found["first"]["percentiles_us"]["p50"] > 0


def test_a_gate_that_fails_is_exit_code_one_after_the_answer(typed: Type, net: Path) -> None:
    arguments = ("compare", net, net, "--no-latency", "--no-layers")
    assert typed(*arguments, "--fail-if", "sqnr<20", "--fail-if", "max>0.001").code == 0
    code, out, err = typed(*arguments, "--fail-if", "size>10B")
    assert code == 1
    assert "Gates" in out
    assert "size>10B failed for net.onnx" in err
    # What nothing was measured of is no failure, unless that is what is wanted.
    assert typed(*arguments, "--fail-if", "p50>1ms").code == 0
    assert typed(*arguments, "--fail-if", "p50>1ms", "--strict").code == 1


@pytest.mark.parametrize("gate", ["p50", "p50>5%", "speed>1", "sqnr<-3dB", "p50>3"])
def test_what_is_no_gate_is_wrong_usage(typed: Type, net: Path, gate: str) -> None:
    code, out, err = typed("compare", net, net, "--fail-if", gate)
    assert (code, out) == (2, "")
    assert gate in err


def test_what_cannot_be_compared_is_said(typed: Type, net: Path, tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(two_inputs().SerializeToString())
    code, out, err = typed("compare", net, tmp_path / "other.onnx")
    assert (code, out) == (4, "")
    assert "do not take the same inputs" in err
    assert typed("compare", net, tmp_path / "no.onnx").code == 3
    (tmp_path / "c.json").write_text("mine")
    assert typed("compare", net, net, "-o", tmp_path / "c.json").code == 3


def test_compare_takes_data_and_variants(typed: Type, net: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(30, 6)).astype("float32"))
    code, out, _ = typed(
        "compare", net, net, "--data", tmp_path / "rows.npy", "--num-samples", 7, "--no-latency", "--json"
    )
    assert code == 0
    assert json.loads(out)["agreements"][0]["samples"] == 7
    bundle = write_bundle(tmp_path / "n.edge")
    code, out, _ = typed("compare", bundle, f"{bundle}#null-fp32", "--no-latency")
    assert code == 0
    assert "does not show what it computes on the way" in out
    assert typed("compare", bundle, f"{bundle}#tflite-fp32", "--no-latency").code == 4


def test_a_profile_is_held_against_an_earlier_one(typed: Type, null_bundle: Path, tmp_path: Path) -> None:
    profile = ("profile", null_bundle, "--rounds", 6, "--max-time", 0.2)
    old = tmp_path / "old.json"
    assert typed(*profile, "-o", old).code == 0
    code, out, _ = typed(*profile, "--baseline", old, "--fail-if", "size>+1%", "--fail-if", "p50>1s")
    assert code == 0
    assert f"Against {old}" in out
    assert "it is the same file" in out
    found = json.loads(old.read_text())
    found["measurements"][0]["size_bytes"] = 1
    old.write_text(json.dumps(found))
    code, out, err = typed(*profile, "--baseline", old, "--fail-if", "size>+1%", "--json")
    assert code == 1
    assert json.loads(out)["gating"]["gates"][0]["verdict"] == "failed"
    assert "size>+1% failed for null-fp32 on null" in err


def test_a_baseline_is_checked_before_anything_is_measured(typed: Type, null_bundle: Path, tmp_path: Path) -> None:
    code, out, err = typed("profile", null_bundle, "--fail-if", "p50>+5%")
    assert (code, out) == (2, "")
    assert "--baseline" in err
    (tmp_path / "c.json").write_text("{}")
    (tmp_path / "cut.json").write_text('{"schema": "edgekit.profile", "version": 1, "meas')
    for place in (tmp_path / "no.json", tmp_path / "c.json", tmp_path / "cut.json"):
        assert typed("profile", null_bundle, "--baseline", place)[:2] == (3, "")
