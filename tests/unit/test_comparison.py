"""Two models held against each other: their outputs, what they compute on the way, and their gates, on real engines."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edgekit
from edgekit.comparison import Comparison
from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.measuring import pairs
from edgekit.measuring.agreement import Tally, measure_agreement
from edgekit.measuring.layerwise import nearest, paired
from edgekit.measuring.pairs import LOOKS, Contestant, Duel, hold_duel
from edgekit.measuring.records import Candidate
from edgekit.measuring.sides import parse_side
from edgekit.measuring.statistics import PAIRS_TO_TELL
from edgekit.registry import RUNTIMES
from edgekit.report import markdown, text
from edgekit.report.comparison_view import view
from edgekit.report.json import render
from edgekit.runtime import EngineOptions
from tests.contract.sample_models import dense, tflite_dense, tflite_int8, tflite_two_inputs, two_inputs

RNG = np.random.default_rng(3)


def write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def changed(model: onnx.ModelProto, name: str, by: Callable[[np.ndarray], np.ndarray]) -> onnx.ModelProto:
    """The model with other numbers in one of its constants."""
    for constant in model.graph.initializer:
        if constant.name == name:
            constant.CopyFrom(numpy_helper.from_array(by(numpy_helper.to_array(constant)), name))
    return model


def compared(first: Path | str, second: Path | str, **options: Any) -> Comparison:
    return edgekit.compare(first, second, latency=False, **options)


# -- outputs -----------------------------------------------------------------------------------------------------


def test_a_tally_is_what_the_whole_arrays_give() -> None:
    pairs = [(RNG.normal(size=(2, 5)), RNG.normal(size=(2, 5))) for _ in range(7)]
    tally = Tally()
    for want, have in pairs:
        tally.add(want, have)
    want, have = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    found = tally.result("a", "b")
    assert found.max_abs == np.abs(want - have).max()
    assert found.range == pytest.approx(np.ptp(want))
    assert found.sqnr_db == pytest.approx(10 * np.log10((want**2).sum() / ((want - have) ** 2).sum()))
    assert found.cosine == pytest.approx((want * have).sum() / np.linalg.norm(want) / np.linalg.norm(have))
    assert found.top1_agreement == np.mean(want.argmax(-1) == have.argmax(-1))


def test_what_is_no_number_in_one_only_is_no_agreement() -> None:
    tally = Tally()
    tally.add(np.array([1.0, 2.0, np.nan]), np.array([1.0, np.inf, np.nan]))
    found = tally.result("a", "a")
    assert (found.not_finite, found.sqnr_db, found.max_abs) == (1, -math.inf, 0.0)
    signs = Tally()
    signs.add(np.array([1.0, np.inf, -np.inf, np.inf]), np.array([1.0, -np.inf, -np.inf, np.nan]))
    assert (signs.not_finite, signs.sqnr_db) == (2, -math.inf)
    equal = Tally()
    equal.add(np.zeros(3), np.zeros(3))
    assert (equal.sqnr_db, equal.cosine) == (math.inf, 1.0)


def test_an_answer_is_held_against_its_own_kind_whatever_it_is_called() -> None:
    def first(feed: Any) -> dict[str, np.ndarray]:
        return {"boxes": feed["x"], "scores": feed["x"] * 3}

    def second(feed: Any) -> dict[str, np.ndarray]:
        return {"out:0": feed["x"] * 3, "out:1": feed["x"]}

    found = measure_agreement([{"x": RNG.normal(size=4)} for _ in range(5)], first, second, data="d")
    assert {one.name: one.other_name for one in found.outputs} == {"boxes": "out:1", "scores": "out:0"}
    assert found.worst.sqnr_db == math.inf
    assert found.samples == 5
    with pytest.raises(UnsupportedError, match="do not give the same outputs"):
        measure_agreement([{"x": np.zeros(4)}], first, lambda feed: {"y": np.zeros(3)}, data="d")


def test_a_file_is_equal_to_itself_and_to_its_like_in_another_format(tmp_path: Path) -> None:
    one = write(tmp_path / "a.onnx", dense())
    (tmp_path / "b.tflite").write_bytes(tflite_dense())
    same = compared(one, one)
    assert [output.sqnr_db for output in same.agreements[0].outputs] == [math.inf]
    assert same.layers is not None
    assert same.layers.begins_at == ""
    other = compared(one, tmp_path / "b.tflite")
    assert other.agreements[0].worst.sqnr_db > 120
    assert other.agreements[0].worst.top1_agreement == 1.0


def test_where_a_difference_begins_is_told(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", two_inputs())
    b = write(tmp_path / "b.onnx", changed(two_inputs(), "bias", lambda bias: bias + np.float32(0.25)))
    found = compared(a, b)
    assert found.layers is not None
    assert [layer.name for layer in found.layers.layers] == ["conv", "relu", "features", "mean"]
    assert found.layers.begins_at == "conv"
    assert compared(a, write(tmp_path / "c.onnx", two_inputs())).layers.begins_at == ""  # type: ignore[union-attr]


def test_tensors_of_other_layouts_and_with_fused_activations_are_matched_by_their_numbers(tmp_path: Path) -> None:
    """TFLite's `conv` is NHWC and has the activation in it; the ONNX file's is NCHW and has not."""
    a, b = write(tmp_path / "a.onnx", two_inputs()), tmp_path / "b.tflite"
    b.write_bytes(tflite_two_inputs())
    feed = {"image": RNG.normal(size=(1, 3, 8, 8)).astype("float32"), "gain": np.ones((1, 4, 1, 1), "float32")}
    moved = {name: array.transpose(0, 2, 3, 1) for name, array in feed.items()}
    ours, _ = RUNTIMES.get("onnx").tensors(a, EngineOptions(), [feed])
    theirs, note = RUNTIMES.get("tflite").tensors(b, EngineOptions(), [moved])
    assert "XNNPACK" in note
    assert list(ours) == ["conv", "relu", "features", "mean"]
    assert list(theirs) == ["conv", "features", "mean"]
    found = nearest("conv", ours["conv"], theirs, ours)
    assert found is not None
    assert found.after == "relu"
    assert found.sqnr_db > 100
    assert nearest("relu", ours["relu"], theirs, ours) is None


def test_integers_are_shown_as_the_numbers_they_stand_for(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(tflite_int8())
    feed = {"image": RNG.normal(size=(1, 8, 8, 3)).astype("float32")}
    found, _ = RUNTIMES.get("tflite").tensors(tmp_path / "a.tflite", EngineOptions(), [feed])
    with edgekit.load(tmp_path / "a.tflite") as session:
        answer = session.run(feed)["features"]
    (features,) = found["features"]
    assert features.dtype == np.float32
    assert np.abs(features - answer).max() <= 0.251  # one step: XNNPACK may round a tie the other way


def test_a_namesake_is_never_a_tensor_that_is_there_by_itself() -> None:
    one, two = [np.ones((1, 4))], [np.full((1, 4), 2.0)]
    theirs = {"sum_1": one, "sum_12": two, "sum_1/int8": two, "summary": one}
    assert nearest("sum_12", two, theirs, ["sum_1", "sum_12"]).other_name == "sum_12"  # type: ignore[union-attr]
    assert nearest("sum", one, {"sum_1": one, "sum_2": two}, ["sum", "sum_1"]).other_name == "sum_2"  # type: ignore[union-attr]
    assert nearest("sum", one, {"summary": one}, ["sum"]) is None
    assert nearest("sum", one, {"sum": [np.ones((1, 5))]}, ["sum"]) is None


def test_a_tensor_is_found_by_the_name_of_the_operation_that_gives_it() -> None:
    """TensorFlow and PyTorch name a tensor after its operation, and TFLite files have the operation's name itself."""
    one, two = [RNG.normal(size=(1, 4, 4, 3))], [RNG.normal(size=(1, 6, 6, 3))]
    near = [one[0] + 1e-7]
    assert nearest("conv:0", one, {"conv": near}, ["conv:0"]).other_name == "conv"  # type: ignore[union-attr]
    assert nearest("conv", one, {"conv_output_0": near}, ["conv"]).other_name == "conv_output_0"  # type: ignore[union-attr]
    assert nearest("conv:1", one, {"conv": near}, ["conv:0", "conv:1"]) is None
    noise = [RNG.normal(size=(1, 4, 4, 3))]
    padded = {"conv": noise, "conv_1": near}
    assert nearest("conv:0", one, padded, ["conv:0"]).other_name == "conv_1"  # type: ignore[union-attr]
    pairs = {pair.name: pair.other_name for pair in paired({"conv": noise, "conv_1": near, "x": two}, {"conv:0": one})}
    assert pairs == {"conv_1": "conv:0"}


def test_tensors_whose_size_depends_on_the_numbers_are_not_taken_for_each_other() -> None:
    ours, theirs = [np.ones((2, 3)), np.ones((4, 3))], [np.ones((2, 3)), np.ones((5, 3))]
    assert nearest("found", ours, {"found": theirs}, ["found"]) is None
    assert nearest("found", ours, {"found": ours}, ["found"]).sqnr_db == math.inf  # type: ignore[union-attr]


def test_answers_that_are_no_numbers_fail_every_gate_on_their_numbers(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", dense())
    b = write(tmp_path / "b.onnx", changed(dense(), "weights", lambda w: np.full_like(w, np.nan)))
    found = compared(a, b, fail_if=["max>0.1", "relative>1%", "cosine<0.9", "sqnr<20", "size>1MB"], layers=False)
    assert [gate.verdict for gate in found.gates] == ["failed"] * 4 + ["passed"]
    assert "no finite number" in found.gates[0].reason


def test_other_inputs_are_refused_by_name(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.onnx", dense()), write(tmp_path / "b.onnx", two_inputs())
    with pytest.raises(UnsupportedError, match=r"do not take the same inputs: x: float32\[batchx6\] against image"):
        compared(a, b)


def test_the_users_data_are_what_is_compared_on(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", dense())
    b = write(tmp_path / "b.onnx", changed(dense(), "weights", lambda w: w * np.float32(1.01)))
    np.save(tmp_path / "rows.npy", RNG.normal(size=(50, 6)).astype("float32"))
    found = compared(a, b, data=tmp_path / "rows.npy", num_samples=20, layers=False)
    assert [one.samples for one in found.agreements] == [20]
    assert "rows.npy" in found.agreements[0].data
    assert 30 < found.agreements[0].worst.sqnr_db < 50
    assert found.layers is None
    with pytest.raises(InputError):
        compared(a, b, data=tmp_path / "nothing")


# -- what is named -----------------------------------------------------------------------------------------------


def test_a_place_may_name_a_variant_and_a_runtime(tmp_path: Path) -> None:
    named = parse_side("a.edge#onnx-fp32@openvino")
    assert (named.place, named.variant, named.runtime) == ("a.edge", "onnx-fp32", "openvino")
    named = parse_side("a.edge", "v", "r")
    assert (named.place, named.variant, named.runtime) == ("a.edge", "v", "r")
    odd = tmp_path / "a#b@c.onnx"
    odd.touch()
    assert parse_side(odd).place == str(odd)


def test_one_file_in_two_runtimes(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", two_inputs())
    found = compared(a, f"{a}@openvino", fail_if=["sqnr<100", "max>1e-3"])
    assert found.second.candidate is not None
    assert found.second.candidate.runtime == "openvino"
    assert [gate.verdict for gate in found.gates] == ["passed", "passed"]
    assert found.layers is not None
    assert {layer.name for layer in found.layers.layers} >= {"features", "mean"}


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", dense())
    with pytest.raises(ArtifactError, match="there is no"):
        compared(a, tmp_path / "b.onnx")
    with pytest.raises(UnsupportedError):
        compared(a, f"{a}#variant")
    (tmp_path / "c.txt").write_text("hello")
    with pytest.raises(ArtifactError, match="no bundle, model file or source model"):
        compared(a, tmp_path / "c.txt")


# -- gates and forms ---------------------------------------------------------------------------------------------


def test_gates_on_outputs_and_size(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", dense())
    b = write(tmp_path / "b.onnx", changed(dense(), "weights", lambda w: w * np.float32(1.1)))
    gates = ["sqnr<30", "cosine<0.99", "max>1e-6", "relative>50%", "top1<99%", "size>+1%", "p50>1s"]
    found = compared(a, b, fail_if=gates)
    assert {gate.gate: gate.verdict for gate in found.gates} == {
        "sqnr<30": "failed", "cosine<0.99": "passed", "max>1e-6": "failed", "relative>50%": "passed",
        "top1<99%": "passed", "size>+1%": "passed", "p50>1s": "unclear",
    }  # fmt: skip
    with pytest.raises(InputError, match="nothing here that it could change from"):
        compared(a, b, fail_if=["sqnr<-3dB"])
    with pytest.raises(InputError, match="no time to measure for"):
        compared(a, b, max_time_s=math.nan)
    with pytest.raises(InputError, match="no quantity 'cold'"):
        compared(a, b, fail_if=["cold>1s"])


def test_a_comparison_is_timed_and_written_in_every_form(tmp_path: Path) -> None:
    a = write(tmp_path / "a.onnx", dense())
    found = edgekit.compare(a, a, threads=1, max_time_s=0.0, fail_if=["p50>+900%", "p50>1s", "rss>+900%"])
    assert found.latencies is not None
    assert found.latencies.contrast.pairs == 1
    assert found.latencies.ended_by == "time"
    assert [gate.verdict for gate in found.gates] == ["passed"] * 3
    assert found.first.percentiles_us is not None
    assert found.first.percentiles_us["p50"] > 0
    document = view(found)
    for shown in (text.render(document), markdown.render(document)):
        assert "verdict" in shown
        assert "p50>+900%" in shown
        assert "Layer by layer" in shown
    assert '"schema": "edgekit.comparison"' in render(found, schema="edgekit.comparison")


def _contestant(path: Path) -> Contestant:
    candidate = Candidate(path.name, "onnx", None, None, "onnx", "", 1, "", 1, False)
    return Contestant(candidate, path, lambda signature: [{"x": np.zeros((1, 6), "float32")}])


def test_it_is_asked_whether_it_is_settled_at_few_and_fixed_times_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LOOKS[0] == PAIRS_TO_TELL
    monkeypatch.setattr(pairs, "LOOKS", (2, 3))
    side = _contestant(write(tmp_path / "a.onnx", dense()))
    asked: list[int] = []

    def is_settled(duel: Duel) -> bool:
        asked.append(len(duel.pairs))
        return True

    duel = hold_duel(side, side, is_settled=is_settled, max_time_s=math.inf)
    assert asked == [2]
    assert duel.ended_by == "settled"
    assert all(len(first) == len(second) == 16 for first, second in duel.pairs)
    assert all(rss and other for rss, other in duel.peak_rss_bytes)


def test_who_does_not_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.onnx").write_bytes(b"no model")
    with pytest.raises(ArtifactError):
        hold_duel(
            _contestant(write(tmp_path / "a.onnx", dense())),
            _contestant(tmp_path / "b.onnx"),
            is_settled=lambda duel: True,
            max_time_s=1.0,
        )


def test_a_source_model_is_compared_by_its_answers(emotion_model: Path, emotion_bundle: Path, face_image: Path) -> None:
    found = edgekit.compare(
        emotion_model, f"{emotion_bundle}#tflite-fp32", data=face_image, fail_if=["sqnr<60", "top1<100%"]
    )
    assert found.latencies is None
    assert found.layers is not None
    assert "source model" in found.layers.reason
    assert [gate.verdict for gate in found.gates] == ["passed", "passed"]
    assert any("not timed" in note for note in found.notes)


@pytest.mark.parametrize("second", ["openvino-fp16", "onnx-fp32", "tflite-fp32"])
def test_variants_of_a_bundle_layer_by_layer(emotion_bundle: Path, second: str) -> None:
    found = compared(f"{emotion_bundle}#openvino-fp32", f"{emotion_bundle}#{second}")
    assert found.layers is not None
    assert len(found.layers.layers) >= 10
    names = [layer.name for layer in found.layers.layers]
    lossy = second == "openvino-fp16"
    assert bool(found.layers.begins_at) == lossy
    assert all(layer.sqnr_db > (15 if lossy else 80) for layer in found.layers.layers), found.layers.layers
    assert found.layers.begins_at in [*names, ""]


def test_text_is_not_compared() -> None:
    with pytest.raises(UnsupportedError, match="only numbers"):
        measure_agreement(
            [{"x": np.zeros(1)}], lambda f: {"y": np.array(["a"])}, lambda f: {"y": np.array(["b"])}, data="d"
        )
