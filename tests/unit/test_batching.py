"""Several inputs at once answer as each does alone, however the model takes its batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgekit import graph as hub
from edgekit.batching import is_batch
from edgekit.converters.tflite.lowering import lower
from edgekit.converters.tflite.writing import write_model
from edgekit.errors import InputError
from edgekit.opening import detect_format, open_session
from edgekit.processing import Processing
from edgekit.runtime import EngineOptions, Session
from edgekit.spec import Signature, StatePair, TensorSpec
from tests.contract.tflite_ops.against import normal, text_model

DENSE = "(float[ROWS,6] x) => (float[ROWS,5] y) { p = MatMul(x, w) y = Tanh(p) }"
DYNAMIC = """(float[n,6] x) => (float[n,5] y) {
    q, s, z = DynamicQuantizeLinear(x)
    i = MatMulInteger(q, w, z)
    f = Cast<to = 1>(i)
    y = Mul(f, s)
}"""
ROWS = {"open": "n", "one": "1", "four": "4"}


def dense(folder: Path, rows: str, runtime: str, processing: Processing | None = None) -> Session:
    return opened(folder, text_model(DENSE.replace("ROWS", ROWS[rows]), w=normal(6, 5)), runtime, processing)


def opened(folder: Path, model: ir.Model, runtime: str = "onnx", processing: Processing | None = None) -> Session:
    if runtime == "tflite":
        path = folder / "net.tflite"
        write_model(lower(hub.infer_shapes(model)), path)
    else:
        path = folder / "net.onnx"
        ir.save(model, path)
    return open_session(path, detect_format(path), runtime, EngineOptions(threads=1), processing=processing)[1]


class Counting:
    """A model in numpy: y = 2 x, and how many rows each call had."""

    precision, lends_outputs = "fp32", False

    def __init__(self, rows: int | str, state: tuple[StatePair, ...] = ()) -> None:
        self.inputs, self.outputs = (TensorSpec("x", "float32", (rows, 3)),), (TensorSpec("y", "float32", (rows, 3)),)
        self.state = state
        self.calls: list[int] = []

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self.calls.append(len(arrays[0]))
        return [arrays[0] * 2]

    def close(self) -> None:
        return None


def assert_equal(found: list[Any], want: list[Any]) -> None:
    assert len(found) == len(want)
    for got, right in zip(found, want, strict=True):
        assert got.keys() == right.keys()
        for name in right:
            assert got[name].shape == right[name].shape
            np.testing.assert_allclose(got[name], right[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "tflite"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_an_open_batch(runtime: str, count: int, tmp_path: Path) -> None:
    values = [normal(1, 6, seed=seed) for seed in range(count)]
    model = dense(tmp_path, "one" if runtime == "tflite" else "open", runtime)  # our .tflite files have a batch of 1
    assert_equal(model.predict(values), [model.predict(value) for value in values])


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "tflite"])
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_fixed_batch_is_filled_up_and_cut(runtime: str, count: int, tmp_path: Path) -> None:
    values = [normal(1, 6, seed=seed) for seed in range(count)]
    right = [dense(tmp_path, "one", "onnx").predict(value) for value in values]
    with dense(tmp_path, "four", runtime) as model:
        assert_equal(model.predict(values), right)
        assert_equal(model.predict([values[0]] * 3), [right[0]] * 3)
        with pytest.raises(InputError, match=r"wants shape \[4, 6\], got \[1, 6\]"):
            model.predict(values[0])


def test_rows_go_together_in_powers_of_two_once_it_is_known_that_they_may() -> None:
    engine = Counting("n")
    model = Session(engine, runtime="made-up")
    values = [np.full((1, 3), index, "float32") for index in range(13)]
    assert_equal(model.predict(values), [{"y": 2 * value} for value in values])
    assert engine.calls == [1, 2, 8, 4, 1]  # the first two find out
    engine.calls.clear()
    assert_equal(model.predict([*values, np.ones((3, 3), "float32")])[-1:], [{"y": np.full((3, 3), 2, "float32")}])
    assert engine.calls == [16]


def test_what_is_large_does_not_go_together_beyond_measure() -> None:
    engine = Counting("n")
    engine.inputs = engine.outputs = (TensorSpec("x", "float32", ("n", 1 << 18)),)
    model = Session(engine, runtime="made-up")
    model.predict([np.full((1, 1 << 18), index, "float32") for index in range(5)])
    assert engine.calls == [1, 2, 2, 2, 1]


def test_no_inputs_are_no_answers() -> None:
    engine = Counting("n")
    assert Session(engine, runtime="made-up").predict([]) == []
    assert engine.calls == []


def test_the_same_input_many_times() -> None:
    engine = Counting("n")
    model = Session(engine, runtime="made-up")
    assert_equal(model.predict([np.ones((1, 3), "float32")] * 3), [{"y": np.full((1, 3), 2, "float32")}] * 3)
    assert engine.calls == [1, 2, 2, 1]  # the row larger and turned around is tried beside it
    model = Session(engine := Counting("n"), runtime="made-up")
    model.predict([np.zeros((1, 3), "float32")] * 3)
    assert engine.calls == [1, 1, 1]  # zeros do not tell whether others would change them


def test_a_first_dimension_that_is_no_batch_is_found_out(tmp_path: Path) -> None:
    """The steps of a sequence: their mean is taken from each."""
    model = opened(
        tmp_path,
        text_model("(float[n,3] x) => (float[n,3] y) { m = ReduceMean<keepdims = 1>(x, zero) y = Sub(x, m) }",
                   zero=np.array([0])),
    )  # fmt: skip
    values = [normal(4, 3, seed=1), normal(4, 3, seed=2), normal(2, 3, seed=3)]
    assert_equal(model.predict(values), [model.predict(value) for value in values])


def test_a_fixed_first_dimension_that_is_no_batch_is_not_filled_up(tmp_path: Path) -> None:
    text = "(float[4,3] x) => (float[4,3] y) { m = ReduceMean<keepdims = 1>(x, zero) y = Sub(x, m) }"
    model = opened(tmp_path, text_model(text, zero=np.array([0])))
    values = [normal(4, 3, seed=1), normal(4, 3, seed=2)]
    assert_equal(model.predict(values), [model.predict(value) for value in values])
    with pytest.raises(InputError, match="takes 4 rows at once and mixes them, got 1"):
        model.predict([normal(1, 3)])


def test_ranges_taken_from_the_whole_batch_are_found_out(tmp_path: Path) -> None:
    """Dynamic quantization: beside a large row a small one would be rounded to nothing."""
    weights = np.random.default_rng(0).integers(0, 100, (6, 5)).astype("uint8")
    model = opened(tmp_path, text_model(DYNAMIC, w=weights))
    values = [normal(1, 6, seed=1), 1000 * normal(1, 6, seed=2), normal(1, 6, seed=3)]
    alone = [model.predict(value)["y"] for value in values]
    for got, want in zip(model.predict(values), alone, strict=True):
        np.testing.assert_array_equal(got["y"], want)


@pytest.mark.parametrize("sizes", [(1000, 1, 1), (1, 1, 1), (0.001, 1000)])
def test_ranges_of_the_whole_batch_are_found_out_whichever_row_is_first(
    sizes: tuple[float, ...], tmp_path: Path
) -> None:
    """A first row of the widest range, or rows that are all the same, answer alike beside the others."""
    model = opened(tmp_path, text_model(DYNAMIC, w=np.random.default_rng(0).integers(0, 100, (6, 5)).astype("uint8")))
    values = [size * normal(1, 6, seed=0) for size in sizes] + [1e-3 * normal(1, 6, seed=3), 10 * normal(1, 6, seed=4)]
    model.predict(values[: len(sizes)])  # what is found out here is believed later
    alone = [model.predict(value)["y"] for value in values]
    for got, want in zip(model.predict(values), alone, strict=True):
        np.testing.assert_array_equal(got["y"], want)


def test_inputs_without_a_row_go_their_own_way() -> None:
    for rows in ("n", 4):
        engine = Counting(rows)
        model = Session(engine, runtime="made-up")
        model.predict([np.full((1, 3), index, "float32") for index in range(3)])
        empty = np.zeros((0, 3), "float32")
        if rows == "n":
            assert [answer["y"].shape for answer in model.predict([empty, empty])] == [(0, 3)] * 2
            assert [len(answer["y"]) for answer in model.predict([empty, np.ones((2, 3), "float32")])] == [0, 2]
        else:
            with pytest.raises(InputError, match=r"input 0 of the batch: .*wants shape \[4, 3\], got \[0, 3\]"):
                model.predict([empty])


def test_inputs_named_in_another_order_go_by_their_names() -> None:
    engine = Counting("n")
    engine.inputs = tuple(TensorSpec(name, "float32", ("n", name)) for name in "ab")
    engine.run = lambda arrays: [arrays[0].sum(axis=1, keepdims=True) + arrays[1].sum(axis=1, keepdims=True)]  # type: ignore[method-assign]
    model = Session(engine, runtime="made-up")
    short, long = normal(1, 2), normal(1, 3)
    values = [{"a": short, "b": long}, {"b": short, "a": long}, {"b": long, "a": 2 * short}]
    assert_equal(model.predict(values), [model.predict(value) for value in values])


def test_an_output_without_a_row_for_each_is_found_out(tmp_path: Path) -> None:
    model = opened(
        tmp_path,
        text_model("(float[n,3] x) => (float[m,2] y) { g = NonZero(x) t = Transpose(g) y = Cast<to = 1>(t) }"),
    )
    values = [np.float32([[1, 0, 2]]), np.float32([[0, 5, 0]]), np.float32([[1, 2, 3]])]
    assert_equal(model.predict(values), [model.predict(value) for value in values])


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_several_inputs_and_outputs(runtime: str, tmp_path: Path) -> None:
    text = """(float[n,2,3] a, float[n,3] b) => (float[n,2,3] y, float[n,3] z) {
        c = Unsqueeze(b, one) y = Mul(a, c) z = Neg(b) }"""
    model = opened(tmp_path, text_model(text, one=np.array([1])), runtime)
    values = [{"a": normal(1, 2, 3, seed=seed), "b": normal(1, 3, seed=seed)} for seed in range(5)]
    assert_equal(model.predict(values), [model.predict(value) for value in values])
    with pytest.raises(InputError, match="input 1 of the batch: the model has 2 inputs"):
        model.predict([values[0], normal(1, 2, 3)])


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_inputs_of_several_sizes_go_with_their_likes(runtime: str, tmp_path: Path) -> None:
    text = "(float[n,steps,2] x) => (float[n,2] y) { y = ReduceSum<keepdims = 0>(x, one) }"
    model = opened(tmp_path, text_model(text, one=np.array([1])), runtime)
    values = [normal(1, steps, 2, seed=steps) for steps in (3, 5, 3, 4, 5, 3)]
    assert_equal(model.predict(values), [model.predict(value) for value in values])


def test_a_model_with_a_state_takes_them_in_turn() -> None:
    engine = Counting("n")
    engine.inputs = (*engine.inputs, TensorSpec("state", "float32", ("n", 3)))
    engine.outputs = (*engine.outputs, TensorSpec("new", "float32", ("n", 3)))
    engine.run = lambda arrays: [arrays[0], arrays[1] + 1]  # type: ignore[method-assign]
    model = Session(
        engine, runtime="made-up", signature=Signature(engine.inputs, engine.outputs, (StatePair("state", "new"),)),
        processing=Processing.identity(),
    )  # fmt: skip
    values = [np.full((1, 3), index, "float32") for index in range(3)]
    assert_equal(model.predict(values), [model.predict(value) for value in values])


# --- with processing ---


@pytest.mark.parametrize("rows", ["open", "one", "four"])
def test_processing_makes_feeds_and_answers_of_each(rows: str, tmp_path: Path) -> None:
    steps = Processing(
        {"x": ({"op": "normalize", "mean": 1, "std": 2},)},
        (
            {"op": "select", "name": "y"},
            {"op": "top_k", "k": 2},
        ),
        ("a", "b", "c", "d", "e"),
    )
    values = [normal(6, seed=seed) for seed in range(6)]
    right = [dense(tmp_path, "one", "onnx", steps).predict(value) for value in values]
    model = dense(tmp_path, rows, "onnx", steps)
    found = model.predict(values)
    assert [[one["label"] for one in answer] for answer in found] == [[o["label"] for o in a] for a in right]
    assert model.predict(tuple(values)) == found


@pytest.mark.parametrize("rows", ["open", "one", "four"])
def test_sounds_of_several_windows(rows: str, tmp_path: Path) -> None:
    steps = Processing(
        {
            "x": (
                {"op": "decode_wav", "rate_hz": 8000},
                {"op": "mono"},
                {"op": "resample", "rate_hz": 8000},
                {"op": "frame", "length": 6},
            )
        }
    )
    sounds: list[Any] = [normal(count, seed=count) for count in (6, 20, 33)]
    sounds.append((8000, normal(12, seed=4)))
    right = [dense(tmp_path, "one", "onnx", steps).predict(sound) for sound in sounds]
    assert_equal(dense(tmp_path, rows, "onnx", steps).predict(sounds), right)


def test_a_sound_with_its_rate_is_one_input(tmp_path: Path) -> None:
    sound = (8000, normal(12))
    assert not is_batch(sound)
    assert is_batch([sound])
    assert is_batch((sound, sound))
    assert is_batch((normal(1, 6), normal(1, 6)))


# --- what is refused ---


@pytest.mark.parametrize("value", [[1.0, 2.0], [[1, 2], [3, 4]], [np.float32(1)], [None], [True], (1, 2, 3)])
def test_nested_numbers_are_no_batch(value: Any, tmp_path: Path) -> None:
    for processing in (None, Processing.identity()):
        with pytest.raises(InputError, match="a list is several inputs") as refusal:
            dense(tmp_path, "open", "onnx", processing).predict(value)
        assert "np.asarray" in refusal.value.hint


@pytest.mark.parametrize("processing", [None, Processing.identity()])
@pytest.mark.parametrize("wrong", [normal(1, 7), "face.png", np.ones((1, 6), "complex64"), {"z": normal(1, 6)}])
@pytest.mark.parametrize("rows", ["open", "one", "four"])
def test_the_one_that_is_wrong_is_named(wrong: Any, rows: str, processing: Processing | None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="input 2 of the batch: "):
        dense(tmp_path, rows, "onnx", processing).predict([normal(1, 6), normal(1, 6, seed=1), wrong])


def test_each_answer_is_the_callers_own() -> None:
    model = Session(Counting("n"), runtime="made-up")
    first, second = model.predict([np.ones((1, 3), "float32"), np.zeros((1, 3), "float32")])
    first["y"][:] = 7
    assert not second["y"].any()
