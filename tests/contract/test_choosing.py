"""The choice among real engines: one small net in every format, each objective measured in processes of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.choosing import OBJECTIVES
from edgekit.variants import check_golden

FORMATS = ("onnx", "openvino", "tflite")
LESS_IS_BETTER = {"memory": "peak_rss_bytes", "startup": "total_ms", "cpu-time": "cpu_us"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("choosing") / "resnet.edge"
    edgekit.convert("resnet:tiny", path, target="generic-x86", precision=("fp32",), format=FORMATS)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "objective",
    [
        objective if objective in ("latency", "memory") else pytest.param(objective, marks=pytest.mark.slow)
        for objective in OBJECTIVES  # the slow ones start a dozen processes, and use the same code with other figures
    ],
)
def test_every_engine_is_measured_and_the_best_is_taken(bundle: Path, cache: Path, objective: str) -> None:
    with edgekit.load(bundle, runtime="auto", objective=objective, threads=1) as session:
        choice = session.choice
        assert choice is not None
        assert (choice.how, choice.runtime, choice.objective) == ("measured", session.runtime, objective)
        contenders = [choice.taken, *choice.others]
        assert {one.runtime for one in contenders} == set(FORMATS)
        assert all(one.figures and one.status in ("usable", "hopeless") for one in contenders)
        usable = [one.figures for one in contenders if one.status == "usable"]
        if objective == "throughput":
            assert choice.figures["calls_per_s"] * 1.04 >= max(figures["calls_per_s"] for figures in usable)
        elif objective == "latency":
            scores = [figures["p50_us"] + max(figures["p50_us"], figures["p95_us"]) for figures in usable]
            assert scores[0] <= 1.04 * min(scores)
        else:
            figure = LESS_IS_BETTER[objective]
            assert choice.figures[figure] <= 1.04 * min(figures[figure] for figures in usable)
        if objective == "memory":  # OpenVINO alone takes more than the others do with a net this small
            assert choice.others[-1].runtime == "openvino"
        assert session.artifact is not None
        checks = check_golden(edgekit.Bundle.open(bundle), session.artifact, session)
        assert all(worst <= limit for worst, limit in checks.values())


def test_the_second_load_starts_no_process(bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.zeros((1, 1, 28, 28), "float32")
    with edgekit.load(bundle, runtime="auto", variant="tflite-fp32") as session:
        answer = session.run({"image": x})["logits"]
    monkeypatch.setattr("subprocess.Popen", None)
    with edgekit.load(bundle, runtime="auto", variant="tflite-fp32") as session:
        assert session.choice is not None
        assert session.choice.how == "remembered"
        np.testing.assert_array_equal(session.run({"image": x})["logits"], answer)
