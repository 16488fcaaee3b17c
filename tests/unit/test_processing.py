"""Processing as data: strict about what it takes, and the same after a trip through JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.processing import PRESETS, Processing
from edgekit.processing.steps import STEPS
from edgekit.spec import Signature, StatePair, TensorSpec


def signature(*shape: int | str, dtype: str = "float32", name: str = "x") -> Signature:
    return Signature((TensorSpec(name, dtype, shape),), (TensorSpec("y", "float32", ("N", 3)),))


def image_steps(*steps: dict[str, Any], mode: str = "RGB") -> Processing:
    return Processing({"*": ({"op": "decode_image", "mode": mode}, *steps)})


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def one(processing: Processing, value: Any, *shape: int | str, dtype: str = "float32") -> np.ndarray:
    return processing.before(value, signature(*shape, dtype=dtype))["x"]


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_array_steps() -> None:
    steps = (
        {"op": "replace_nonfinite", "value": -1},
        {"op": "pad", "length": 4, "axis": 0, "value": 7},
        {"op": "expand", "axis": -1},
        {"op": "reshape", "shape": [2, -1]},
        {"op": "cast", "dtype": "int8"},
    )
    array = one(Processing({"x": steps}), np.array([1.5, np.nan, 300.0]), 1, 2, 2, dtype="int8")
    assert array.tolist() == [[[2, -1], [127, 7]]]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_casting_saturates_at_the_ends_of_a_range(dtype: str, kind: str) -> None:
    limits = np.iinfo(dtype)
    array = np.array([-np.inf, -3e38 if kind != "float16" else -6e4, 1.5, np.inf], kind)
    cast = one(Processing({"x": ({"op": "cast", "dtype": dtype},)}), array, 4, dtype=dtype)
    assert cast.tolist() == [limits.min, max(limits.min, int(array[1])), 2, limits.max]


def test_casting_integers_saturates_and_nan_is_none() -> None:
    steps = Processing({"x": ({"op": "cast", "dtype": "int8"},)})
    assert one(steps, np.array([0, 127, 255], np.uint8), 3, dtype="int8").tolist() == [0, 127, 127]
    assert one(steps, np.array([-(2**40), 2**40]), 2, dtype="int8").tolist() == [-128, 127]
    with pytest.raises(InputError, match="NaN cannot be cast to int8"):
        one(steps, np.array([np.nan]), 1, dtype="int8")


def test_integers_are_not_padded_with_what_they_cannot_hold() -> None:
    padded = Processing({"x": ({"op": "replace_nonfinite", "value": -1.5}, {"op": "pad", "length": 2, "value": -1})})
    assert one(padded, np.array([7]), 2, dtype="int64").tolist() == [7, -1]
    with pytest.raises(InputError, match="uint8 cannot hold the -1"):
        one(padded, np.array([7], np.uint8), 2, dtype="uint8")


@pytest.mark.parametrize(
    ("step", "value"),
    [
        ({"op": "pad", "length": 2}, np.zeros(3)),
        ({"op": "pad", "length": 2, "axis": 1}, np.zeros(1)),
        ({"op": "reshape", "shape": [4]}, np.zeros(3)),
        ({"op": "expand", "axis": 3}, np.zeros(3)),
        ({"op": "normalize", "mean": [1, 2]}, np.zeros(3)),
        ({"op": "normalize"}, "text"),
        ({"op": "resize", "size": [2, 2]}, np.zeros(3)),
        ({"op": "resample", "rate_hz": 5}, np.zeros(3)),
        ({"op": "frame", "length": 5}, np.zeros((3, 3))),
    ],
)
def test_a_step_names_itself_when_a_value_does_not_suit(step: dict[str, Any], value: Any) -> None:
    with pytest.raises(InputError):
        one(Processing({"x": (step,)}), value, 1, 3)


# --- feeds ------------------------------------------------------------------------------------------------------------


def test_identity_passes_arrays_through_and_adds_what_is_missing() -> None:
    wanted = signature("N", 4)
    ready = {"x": np.ones((2, 4), np.float32)}
    assert Processing.identity().before(ready, wanted)["x"] is ready["x"]
    assert one(Processing.identity(), ready["x"], "N", 4) is ready["x"]
    assert one(Processing.identity(), np.arange(4), "N", 4).dtype == np.float32
    assert one(Processing.identity(), np.arange(4), "N", 4).shape == (1, 4)
    outputs = {"y": np.zeros((1, 3), np.float32)}
    assert Processing.identity().after(outputs) == outputs


def test_ready_feeds_pass_untouched_by_any_processing() -> None:
    ready = {"x": np.full((1, 4, 4, 3), -3.0, np.float32)}
    assert image_steps({"op": "normalize"}).before(ready, signature(1, 4, 4, 3))["x"] is ready["x"]


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (np.zeros(5, np.float32), "float32", r"wants shape \[N, 4\], got \[5\]"),
        (np.zeros((0, 4), np.float32), "float32", "wants shape"),
        (np.zeros(4, np.float32), "int32", "wants int32, got float32"),
        (np.full(4, 2**40), "int32", "wants int32, got int64"),
        (np.full(4, -1), "uint8", "wants uint8, got int64"),
        (np.full(4, 1e300), "float32", "numbers beyond its range"),
        (np.full(4, 70000), "float16", "numbers beyond its range"),
        (np.zeros(4, np.uint8), "bfloat16", "wants bfloat16, got uint8"),
        (np.zeros(4, np.complex64), "float32", "got complex64"),
        (np.array(["a"] * 4), "float32", "got <U1"),
        (np.ma.masked_array(np.zeros(4)), "float32", "not an array"),
        ([1.0, 2.0, 3.0, 4.0], "float32", "got a list"),
        ("face.png", "float32", "got a str"),
        ({"z": np.zeros(4)}, "float32", "the inputs are"),
        ({}, "float32", "the inputs are"),
    ],
)
def test_what_cannot_become_the_feed_is_refused(value: Any, dtype: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        one(Processing.identity(), value, "N", 4, dtype=dtype)


def test_byte_order_and_width_are_brought_to_the_signatures() -> None:
    swapped = one(Processing.identity(), np.arange(4, dtype=">f4"), 1, 4)
    assert swapped.dtype.isnative
    assert swapped.tolist() == [[0, 1, 2, 3]]
    assert one(Processing.identity(), np.array([1, 2, 3, 200]), 1, 4, dtype="uint8").dtype == np.uint8


def test_several_inputs_are_given_by_name_and_state_starts_at_zero() -> None:
    wanted = Signature(
        (TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "int64", (1, 3)), TensorSpec("h", "float32", (2, "N", 5))),
        (),
        (StatePair("h", "h_out"),),
    )
    processing = Processing({"a": ({"op": "normalize", "scale": 2},)})
    feeds = processing.before({"a": np.ones(2), "b": np.arange(3)}, wanted)
    assert {name: array.shape for name, array in feeds.items()} == {"a": (1, 2), "b": (1, 3), "h": (2, 1, 5)}
    assert feeds["a"].tolist() == [[2, 2]]
    assert not feeds["h"].any()
    with pytest.raises(InputError, match="2 inputs") as caught:
        processing.before(np.ones(2), wanted)
    assert "['a', 'b']" in caught.value.hint
    with pytest.raises(InputError, match="the inputs are"):
        processing.before({"a": np.ones(2)}, wanted)


def windows(batch: int | str) -> tuple[Processing, Signature]:
    steps = ({"op": "decode_wav", "rate_hz": 10}, {"op": "mono"}, {"op": "resample", "rate_hz": 10})
    processing = Processing({"*": (*steps, {"op": "frame", "length": 4})}, ({"op": "threshold", "at": 0.5},))
    return processing, Signature((TensorSpec("x", "float32", (batch, 4)),), (TensorSpec("y", "float32", (batch, 4)),))


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_long_sound_is_answered_whatever_the_batch(batch: int | str) -> None:
    processing, wanted = windows(batch)
    calls = []

    def run(feeds: Any) -> dict[str, np.ndarray]:
        calls.append(feeds["x"].shape)
        return {"y": feeds["x"]}

    sound = np.array([0, 0.9] * 5, np.float32)
    answer = processing.answer(sound, run, wanted)
    assert np.ravel(answer).tolist() == [*[False, True] * 5, False, False]
    assert calls == ([(1, 4)] * 3 if batch == 1 else [(3, 4)])
    assert [feeds["x"].shape for feeds in processing.batches(sound, wanted, rows=1)] == [(1, 4)] * 3


def test_more_windows_than_the_batch_is_an_error_that_says_what_to_do() -> None:
    processing, wanted = windows(1)
    with pytest.raises(InputError, match="3 rows") as caught:
        processing.before(np.zeros(10, np.float32), wanted)
    assert "answer" in caught.value.hint


# --- answers ----------------------------------------------------------------------------------------------------------


def answer(array: np.ndarray, *steps: dict[str, Any], labels: tuple[str, ...] = ()) -> Any:
    result = Processing(outputs=steps, labels=labels).after({"y": array})
    json.dumps(result, allow_nan=False)
    return result


def test_top_k_gives_labels_best_first() -> None:
    scores = np.array([[0.1, 0.5, 0.4]], np.float32)
    best = answer(scores, {"op": "top_k", "k": 2}, labels=("cat", "dog", "cow"))
    assert [(item["label"], item["index"]) for item in best] == [("dog", 1), ("cow", 2)]
    assert best[0]["score"] == pytest.approx(0.5)
    assert [item["label"] for item in answer(scores, {"op": "top_k"})] == ["class 1", "class 2", "class 0"]
    with pytest.raises(ArtifactError, match="2 labels for 3 scores"):
        answer(scores, {"op": "top_k"}, labels=("cat", "dog"))


def test_argmax_answers_for_every_step_of_a_sequence() -> None:
    scores = np.random.default_rng(0).random((1, 5, 3)).astype(np.float32)
    answers = answer(scores, {"op": "argmax"}, labels=("a", "b", "c"))
    assert [item["index"] for item in answers] == scores[0].argmax(-1).tolist()
    assert answer(scores[:, 0], {"op": "argmax"})["index"] == int(scores[0, 0].argmax())
    assert answer(np.zeros((1, 0, 3), np.float32), {"op": "argmax"}) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20))
def test_softmax_and_sigmoid_are_probabilities(logits: list[float]) -> None:
    array = np.array([logits], np.float32)
    soft = np.array(answer(array, {"op": "softmax"}))
    assert soft.sum() == pytest.approx(1, abs=1e-5)
    assert (np.argsort(soft[0], kind="stable")[-1] == np.argmax(array)) or soft.max() == soft[0, np.argmax(array)]
    sigmoid = np.array(answer(array, {"op": "sigmoid"}))
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-np.clip(array.astype(float), -500, 500))), atol=1e-6)


def test_select_takes_the_first_name_that_is_there() -> None:
    outputs = {"b": np.array([1.0]), "c": np.array([2.0])}
    assert Processing(outputs=({"op": "select", "name": ["a", "c"]},)).after(outputs) == [2.0]
    with pytest.raises(InputError, match="no output 'a'"):
        Processing(outputs=({"op": "select", "name": "a"},)).after(outputs)
    with pytest.raises(InputError, match="wants one output"):
        Processing(outputs=({"op": "softmax"},)).after(outputs)


def test_overlapping_windows_are_joined_without_their_seams() -> None:
    rows = np.arange(30.0)[:, None] * [1, 10]
    frames = np.stack([rows[start : start + 10] for start in (0, 7, 14)])
    assert answer(frames, {"op": "join_frames", "hop": 7, "trim": 2}) == rows[:24].tolist()
    assert answer(frames[:1], {"op": "join_frames", "hop": 7, "trim": 2}) == rows[:10].tolist()
    with pytest.raises(InputError, match="do not overlap"):
        answer(frames, {"op": "join_frames", "hop": 9, "trim": 2})


def test_events_are_runs_above_the_threshold() -> None:
    scores = np.zeros((10, 2), np.float32)
    scores[2:5, 0], scores[1:3, 1], scores[9, 1] = 0.8, 0.6, 0.9
    found = answer(scores, {"op": "events", "row_ms": 100, "min_rows": 2}, labels=("A", "B"))
    assert [(event["label"], event["start_ms"], event["end_ms"]) for event in found] == [
        ("B", 100, 300),
        ("A", 200, 500),
    ]
    assert found[1]["score"] == pytest.approx(0.8)
    assert len(answer(scores, {"op": "events", "row_ms": 100})) == 3


# --- data -------------------------------------------------------------------------------------------------------------

FULL = Processing(
    inputs={
        "image": (
            {"op": "decode_image", "mode": "L"},
            {"op": "resize", "size": (64, 32), "filter": "bicubic"},
            {"op": "normalize", "scale": 1 / 255, "mean": (0.5,), "std": 0.25},
            {"op": "layout"},
        ),
        "*": ({"op": "cast", "dtype": "int8"},),
    },
    outputs=({"op": "softmax"}, {"op": "top_k", "k": 3}),
    labels=("a", "b"),
)


def test_json_gives_back_the_same_processing(tmp_path: Path) -> None:
    text = json.dumps(FULL.to_json(), allow_nan=False)
    assert Processing.from_json(json.loads(text)) == FULL
    (tmp_path / "p.json").write_text(text)
    assert Processing.named(str(tmp_path / "p.json"), signature(1)) == FULL
    assert Processing.from_json({}) == Processing.identity()
    assert Processing.from_json(Processing.identity().to_json()) == Processing.identity()


def changed(**changes: Any) -> dict[str, Any]:
    return {**FULL.to_json(), **changes}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (changed(outputs=[{"op": "explode"}]), "no op 'explode'"),
        (changed(outputs=[{"op": "top_k", "depth": 3}]), "'top_k' has no argument 'depth'"),
        (changed(outputs=[{"op": "select"}]), "needs the argument 'name'"),
        (changed(outputs=[{"k": 3}]), "has no op"),
        (changed(outputs=["softmax"]), "has no op"),
        (changed(outputs={"op": "softmax"}), "not a list"),
        (changed(outputs=None), "not a list"),
        (changed(outputs=[{"op": "top_k", "k": 0}]), "k must be at least 1"),
        (changed(outputs=[{"op": "top_k", "k": {"a": 1}}]), "holds an object"),
        (changed(outputs=[{"op": "events", "row_ms": 0}]), "row_ms must be above 0"),
        (changed(inputs={"x": [{"op": "resize", "size": [3]}]}), "step 1 of input 'x': 'resize': size must be 2"),
        (changed(inputs={"x": [{"op": "resize", "size": [3, 3], "filter": "lanczos"}]}), "'lanczos'"),
        (changed(inputs={"x": [{"op": "decode_image", "mode": "CMYK"}]}), "'CMYK'"),
        (changed(inputs={"x": [{"op": "normalize", "std": 0}]}), "std must be positive"),
        (changed(inputs={"x": [{"op": "normalize", "mean": [1, 2], "std": [1, 2, 3]}]}), "2 means but 3"),
        (changed(inputs={"x": [{"op": "crop", "box": [5, 5, 5, 9]}]}), "empty"),
        (changed(inputs={"x": [{"op": "center_crop", "fraction": 1.5}]}), "at most 1"),
        (changed(inputs={"x": [{"op": "cast", "dtype": "string"}]}), "'string'"),
        (changed(inputs={"x": [{"op": "reshape", "shape": [-1, -1]}]}), "only one size"),
        (changed(inputs=[1]), "map names to steps"),
        (changed(labels="abc"), "list of names"),
        (changed(labels=[1, 2]), "list of names"),
        (changed(labels=None), "list of names"),
        (changed(version=2), "version 1"),
        (changed(schema="other"), "schema 'other'"),
        (changed(surprise=1), "surprise"),
        ([], "JSON object"),
    ],
)
def test_what_is_wrong_in_a_processing_is_named_at_once(data: Any, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        Processing.from_json(data)


@pytest.mark.parametrize("content", ["", "{", '{"schema": 1}', "[1]"])
def test_a_file_that_is_no_processing_is_an_artifact_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(ArtifactError):
        Processing.named(str(tmp_path / "p.json"), signature(1))
    with pytest.raises(ArtifactError, match=r"none\.json"):
        Processing.named(str(tmp_path / "none.json"), signature(1))


def test_every_registered_step_is_there_and_documented() -> None:
    for name, maker in STEPS:
        assert maker.__doc__, name
        assert maker.__name__ == name


@pytest.mark.parametrize("shape", [(1, 16, 24, 3), (1, 3, 16, 24), ("N", 16, 24, 3), ("N", 3, "H", "W")])
@pytest.mark.parametrize(
    ("name", "low", "high"), [("image-01", 0.0, 1.0), ("image-11", -1.0, 1.0), ("image-imagenet", -2.1179, 2.64)]
)
def test_presets_scale_and_lay_out_pictures(name: str, low: float, high: float, shape: Any) -> None:
    wanted = signature(*shape)
    processing = Processing.named(name, wanted)
    for level, expected in ((0, low), (255, high)):
        feeds = processing.before(np.full((40, 40, 3), level, np.uint8), wanted)
        reached = feeds["x"].min() if level == 0 else feeds["x"].max()
        assert reached == pytest.approx(expected, abs=1e-3)
        assert wanted.inputs[0].accepts_shape(feeds["x"].shape)
    assert Processing.from_json(processing.to_json()) == processing


def test_presets_that_do_not_exist_or_do_not_suit_are_refused() -> None:
    assert Processing.named("none", signature(1)) == Processing.identity()
    with pytest.raises(UnsupportedError, match="no processing named 'image-42'") as caught:
        Processing.named("image-42", signature(1, 8, 8, 3))
    assert all(name in caught.value.hint for name in PRESETS)
    with pytest.raises(UnsupportedError, match="no input is one"):
        Processing.named("image-01", signature(1, 36))
    with pytest.raises(UnsupportedError, match="gray"):
        Processing.named("image-imagenet", signature(1, 8, 8, 1))
    assert one(Processing.named("image-01", signature(1, 8, 8, 1)), noise(9, 9, 3), 1, 8, 8, 1).shape == (1, 8, 8, 1)


def test_the_same_value_gives_the_same_bytes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(50, 70, 3)).save(buffer, "JPEG")
    processing = Processing.named("image-imagenet", signature(1, 32, 32, 3))
    first, second = (one(processing, buffer.getvalue(), 1, 32, 32, 3).tobytes() for _ in range(2))
    assert first == second


def test_a_batch_of_two_takes_windows_in_pairs() -> None:
    processing, wanted = windows(2)
    assert [feeds["x"].shape for feeds in processing.batches(np.zeros(16, np.float32), wanted, rows=1)] == [(2, 4)] * 2
    with pytest.raises(InputError, match="1 rows for input 'x', which takes 2"):
        processing.batches(np.zeros(12, np.float32), wanted)


def test_ready_feeds_need_not_be_a_dict() -> None:
    ready = MappingProxyType({"x": np.full((1, 4, 4, 3), -3.0, np.float32)})
    assert image_steps({"op": "normalize"}).before(ready, signature(1, 4, 4, 3))["x"] is ready["x"]
