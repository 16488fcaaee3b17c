"""Every road by ONNX's own node tests: nothing falls below the baseline, and nothing is written that is wrong."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgekit.cli.group import GROUP
from edgekit.converters.onnx import read_graph
from edgekit.errors import ConversionError, UnavailableError
from edgekit.ops import coverage, how_much
from tests.ops import baseline
from tests.ops.cases import DISPUTED, NAMES, data_folder, load_case, ops_of
from tests.ops.roads import ROADS
from tests.ops.score import CLASSES, classify, fell, passes, summarize
from tests.ops.worker import Verdict, run_road

GOALS = {  # share of the undisputed tests right strictly, and leniently; operations whole
    "onnx": (0.990, 0.990, 160),
    "openvino": (0.951, 0.951, 150),
    "tflite": (0.880, 0.920, 120),
    "tflite-onnx": (0.920, 0.920, 150),
}
HONEST = {"strict", "lenient", "refused"}


@pytest.fixture(scope="module")
def data() -> Path:
    try:
        return data_folder()
    except UnavailableError as error:
        if os.environ.get("EDGEKIT_OFFLINE") == "1":
            pytest.skip(f"EDGEKIT_OFFLINE=1 and the node tests are not in the cache: {error}")
        raise


@pytest.fixture(scope="module", params=ROADS)
def judged(request: pytest.FixtureRequest, data: Path) -> tuple[str, dict[str, Verdict]]:
    """A road's name, and its verdict on every test."""
    return request.param, run_road(request.param, data, NAMES)


def test_nothing_falls_below_the_baseline(judged: tuple[str, dict[str, Verdict]]) -> None:
    road, found = judged
    kinds = {name: kind for name, (kind, _) in found.items()}
    dropped = fell(baseline.read()[road], kinds, NAMES)
    assert not dropped, {name: (how, found[name][1]) for name, how in dropped.items()}


def test_what_cannot_be_written_right_is_refused(judged: tuple[str, dict[str, Verdict]]) -> None:
    """A file that runs and is wrong, or does not run, or a crash: none. Disputed tests may differ, not fail."""
    road, found = judged
    allowed = {name: HONEST | ({"wrong"} if name in DISPUTED else set()) for name in found}
    bad = {name: verdict for name, verdict in found.items() if verdict[0] not in allowed[name]}
    assert not bad, road


def test_enough_is_right(judged: tuple[str, dict[str, Verdict]], data: Path) -> None:
    road, found = judged
    score = summarize({name: kind for name, (kind, _) in found.items()}, ops_of(data))
    strict, lenient, whole = GOALS[road]
    assert score.strict / score.undisputed >= strict
    assert score.lenient / score.undisputed >= lenient
    assert score.whole >= whole


def test_the_table_that_ships_says_what_the_baseline_says(data: Path) -> None:
    stored = baseline.read()
    assert set(stored) == set(ROADS)
    assert all(set(found) == set(NAMES) for found in stored.values())
    assert coverage() == json.loads(json.dumps(baseline.table(stored, ops_of(data))))


def test_the_list_is_the_one_that_was_decided(data: Path) -> None:
    assert (len(NAMES), len(set(NAMES)), len(DISPUTED)) == (888, 888, 16)
    assert len(set(ops_of(data).values())) == 168


def test_frozen_inputs_are_constants_and_fed_no_more(data: Path) -> None:
    cases = [load_case(data, name) for name in NAMES]
    frozen = [case for case in cases if case.model.graph.initializer]
    assert len(frozen) == 355
    for case in cases:
        assert [value.name for value in case.model.graph.input] == list(case.feeds)
        assert not {tensor.name for tensor in case.model.graph.initializer} & set(case.feeds)


def test_raising_the_opset_must_not_change_what_a_model_takes(data: Path) -> None:
    """Scan of opset 8 has a batch axis, which ONNX's version converter takes away."""
    with pytest.raises(ConversionError, match="initial has 1 dimensions instead of 2"):
        read_graph(data / "test_scan_sum" / "model.onnx")


def dying_judge(road: str, data: str, name: str, freezes: bool) -> Verdict:
    """Called in a child: dies of what some engines die of."""
    if name == "second":
        os.kill(os.getpid(), signal.SIGABRT)
    return "strict", f"{road} {name} in {os.getpid()}"


def test_a_crash_is_a_class_and_the_next_case_gets_a_new_process(tmp_path: Path) -> None:
    names = ["first", "second", "third"]
    found = run_road("onnx", tmp_path, names, jobs=1, judged_by="tests.ops.test_ops:dying_judge")
    assert [found[name][0] for name in names] == ["strict", "crash", "strict"]
    assert "SIGABRT" in found["second"][1]
    assert found["first"][1].split()[-1] != found["third"][1].split()[-1]


def test_what_is_written_never_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "_BASELINE", tmp_path / "baseline.json")
    monkeypatch.setattr(baseline, "_TABLE", tmp_path / "ops.json")
    ops = {"test_abs": "Abs", "test_acos": "Acos"}
    baseline.write({"onnx": {"test_abs": "strict", "test_acos": "refused"}}, ops)
    baseline.write(
        {"onnx": {"test_abs": "wrong", "test_acos": "lenient"}, "tflite": dict.fromkeys(ops, "refused")}, ops
    )
    assert baseline.read()["onnx"] == {"test_abs": "strict", "test_acos": "lenient"}
    table = json.loads((tmp_path / "ops.json").read_text(encoding="utf-8"))
    assert table["ops"]["Abs"] == {"tests": 1, "onnx": 1, "tflite": 0}
    assert (table["formats"]["onnx"]["strict"], table["formats"]["onnx"]["right"]) == (1, 2)


def test_the_command_line_says_the_same_as_the_table() -> None:
    listed = CliRunner().invoke(GROUP, ["list", "ops", "--json"])
    items = json.loads(listed.output)["ops"]
    assert {item["name"]: {"tests": item["tests"], **item["right"]} for item in items} == coverage()["ops"]
    (row,) = [line for line in CliRunner().invoke(GROUP, ["list", "ops"]).output.splitlines() if "LSTM" in line]
    assert row.split()[:6] == ["LSTM", "4", "whole", "partly", "(3", "of"]


def test_how_much_of_an_operation_is_said_in_words() -> None:
    assert [how_much(n, 4) for n in (4, 3, 0)] == ["whole", "partly (3 of 4)", "refused"]


X = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 1000.0]], "float32")


@pytest.mark.parametrize(
    ("want", "have", "kind"),
    [
        (X, X * np.float32(1.0009), "strict"),
        (X, X * np.float32(1.01), "wrong"),
        (X, X + np.float32(0.009), "strict"),  # 1e-5 of the largest value
        (X, np.where(X == 1, 1.02, X).astype("float32"), "wrong"),
        (X, X.astype("float16"), "wrong"),
        (X.astype("float16"), X.astype("float16") * np.float16(1.004), "strict"),
        (X.astype("float16"), X, "lenient"),
        (X.astype("int64"), X.astype("int32"), "lenient"),
        (X.astype("int32"), X.astype("int64"), "wrong"),
        (np.array([1000], "int64"), np.array([1001], "int64"), "wrong"),
        (np.array([7], "uint8"), np.array([8], "uint8"), "lenient"),
        (np.array([7], "uint8"), np.array([9], "uint8"), "wrong"),
        (np.array([0], "uint8"), np.array([255], "uint8"), "wrong"),
        (np.array(2.0, "float32"), np.array([2.0], "float32"), "lenient"),
        (X, X.T, "lenient"),
        (X, X.T + 5, "wrong"),
        (X, X[:1], "wrong"),
        (np.array([np.nan, np.inf], "float32"), np.array([np.nan, np.inf], "float32"), "strict"),
        (np.array([np.nan], "float32"), np.array([0], "float32"), "wrong"),
        (np.zeros((2, 0), "float32"), np.zeros((2, 0), "float32"), "strict"),
    ],
)
def test_answers_are_classed(want: np.ndarray, have: np.ndarray, kind: str) -> None:
    assert classify({"y": want}, {"y": have})[0] == kind


def test_the_worst_output_decides_and_none_may_be_missing() -> None:
    assert classify({"a": X, "b": X}, {"a": X, "b": X.T})[0] == "lenient"
    assert classify({"a": X, "b": X}, {"a": X.T, "b": X * 2})[0] == "wrong"
    assert classify({"a": X, "b": X}, {"a": X})[0] == "wrong"


def test_disputed_tests_count_neither_for_nor_against() -> None:
    disputed = min(DISPUTED)
    score = summarize({"test_abs": "strict", "test_acos": "refused", disputed: "wrong"}, dict.fromkeys(NAMES, "Abs"))
    assert (score.tests, score.undisputed, score.strict, score.whole) == (3, 2, 1, 0)
    assert score.counts["wrong"] == 0


def test_the_baseline_may_only_rise() -> None:
    before = {"a": "refused", "b": "strict", "c": "lenient"}
    now = {"a": "wrong", "b": "strict", "c": "strict", "new": "crash"}
    assert fell(before, now, now) == {"a": "refused -> wrong"}
    disputed = min(DISPUTED)
    assert not fell({disputed: "refused"}, {disputed: "wrong"}, [disputed])
    assert fell({disputed: "wrong"}, {disputed: "crash"}, [disputed])
    assert [kind for kind in CLASSES if passes(kind)] == ["lenient", "strict"]
