"""The session over engines that are not there: checks, turns, conversions, ownership."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.runtime import Session
from edgekit.spec import QuantParams, Signature, TensorSpec

X = TensorSpec("x", "float32", (1, 3))
Y = TensorSpec("y", "float32", (1, 3))
Q = QuantParams("int8", (0.5,), (10,))


class Model:
    """What an engine would have opened: gives back what `compute` says."""

    precision = "fp32"

    def __init__(
        self,
        compute: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]] = lambda arrays: [arrays[0] * 2],
        inputs: tuple[TensorSpec, ...] = (X,),
        outputs: tuple[TensorSpec, ...] = (Y,),
        lends_outputs: bool = False,
    ) -> None:
        self.inputs, self.outputs, self.lends_outputs = inputs, outputs, lends_outputs
        self.seen: list[Sequence[np.ndarray]] = []
        self.closed = 0
        self._compute = compute

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self.seen.append(arrays)
        return self._compute(arrays)

    def close(self) -> None:
        self.closed += 1


def session(model: Model, **arguments: Any) -> Session:
    return Session(model, runtime="made-up", **arguments)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


def test_runs() -> None:
    answer = session(Model()).run({"x": ones(1, 3)})
    np.testing.assert_array_equal(answer["y"], 2 * ones(1, 3))


def test_several_outputs_are_named_in_order() -> None:
    model = Model(lambda a: [a[0], a[0] + 1], outputs=(Y, TensorSpec("z", "float32", (1, 3))))
    assert list(session(model).run({"x": ones(1, 3)})) == ["y", "z"]


def test_an_engine_that_gives_too_few_outputs_is_found_out() -> None:
    model = Model(lambda a: [a[0]], outputs=(Y, TensorSpec("z", "float32", (1, 3))))
    with pytest.raises(ArtifactError, match="shorter"):
        session(model).run({"x": ones(1, 3)})


def test_feeds_are_given_in_the_engines_order() -> None:
    specs = (TensorSpec("a", "float32", (1,)), TensorSpec("b", "float32", (2,)))
    model = Model(lambda a: [a[0]], inputs=specs)
    session(model).run({"b": ones(2), "a": ones(1)})
    assert [array.shape for array in model.seen[0]] == [(1,), (2,)]


def test_renamed_inputs_and_outputs() -> None:
    ours = Signature((TensorSpec("image", "float32", (1, 3)),), (TensorSpec("scores", "float32", (1, 3)),))
    renamed = session(Model(), signature=ours, input_names={"image": "x"}, output_names={"scores": "y"})
    assert list(renamed.run({"image": ones(1, 3)})) == ["scores"]
    with pytest.raises(InputError, match="image"):
        renamed.run({"x": ones(1, 3)})


def test_a_signature_of_another_model_is_refused() -> None:
    ours = Signature((TensorSpec("image", "float32", (1, 3)),), (Y,))
    with pytest.raises(ArtifactError, match="image"):
        session(Model(), signature=ours)


# --- messages ---


@pytest.mark.parametrize(
    ("feed", "said", "hint"),
    [
        (np.ones((1, 3)), "wants float32, got float64", "x.astype('float32')"),
        (ones(3), r"wants shape \[1, 3\], got \[3\]", "x[None]"),
        (ones(1, 4), r"wants shape \[1, 3\], got \[1, 4\]", ""),
        ([[1, 2, 3]], "is a list, not an array", "np.asarray(x, dtype='float32')"),
        (np.ma.masked_array(ones(1, 3)), "masked", "filled"),
        (None, "NoneType", "np.asarray"),
    ],
)
def test_a_refusal_says_what_was_wanted(feed: Any, said: str, hint: str) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        session(Model()).run({"x": feed})
    assert hint in refusal.value.hint
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize(("got", "order"), [((1, 3, 8, 9), (0, 2, 3, 1)), ((1, 9, 8, 3), None)])
def test_a_picture_in_the_other_layout_gets_a_hint(got: tuple[int, ...], order: tuple[int, ...] | None) -> None:
    model = Model(inputs=(TensorSpec("x", "float32", (1, 8, 9, 3)),))
    with pytest.raises(InputError) as refusal:
        session(model).run({"x": ones(*got)})
    assert (f"x.transpose{order}" in refusal.value.hint) == (order is not None)


def test_all_wrong_names_are_listed_at_once() -> None:
    model = Model(inputs=(X, TensorSpec("w", "float32", (1,))))
    with pytest.raises(InputError, match=r"missing \['w'\], unknown \['a', 'b'\]"):
        session(model).run({"x": ones(1, 3), "a": ones(1), "b": ones(1)})


def test_nothing_reaches_the_engine_when_one_feed_is_wrong() -> None:
    model = Model(inputs=(X, TensorSpec("w", "float32", (1,))))
    with pytest.raises(InputError, match="'w'"):
        session(model).run({"x": ones(1, 3), "w": ones(2)})
    assert model.seen == []


def test_what_the_engine_raises_is_typed() -> None:
    def fail(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        raise RuntimeError("vendor says\nmany things")

    with pytest.raises(ArtifactError, match=r"made-up failed .* RuntimeError: vendor says$"):
        session(Model(fail)).run({"x": ones(1, 3)})
    opened = session(Model(fail, inputs=(TensorSpec("x", "float32", ("n", 3)),)))
    with pytest.raises(InputError, match=r"cannot run these sizes, x \[5, 3\]: RuntimeError: vendor says"):
        opened.run({"x": ones(5, 3)})


def test_our_own_errors_pass_through() -> None:
    def fail(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        raise UnsupportedError("no such thing")

    with pytest.raises(UnsupportedError, match="no such thing"):
        session(Model(fail)).run({"x": ones(1, 3)})


# --- open sizes ---


def test_open_sizes_change_from_call_to_call() -> None:
    opened = session(
        Model(inputs=(TensorSpec("x", "float32", ("n", 3)),), outputs=(TensorSpec("y", "float32", ("n", 3)),))
    )
    for size in (1, 4, 4, 0, 2):
        assert opened.run({"x": ones(size, 3)})["y"].shape == (size, 3)
    for shape in ((4, 2), (3,), (1, 4, 3)):
        with pytest.raises(InputError, match="wants shape"):
            opened.run({"x": ones(*shape)})


# --- real numbers and integers ---


def quantized(**arguments: Any) -> tuple[Model, Session]:
    spec = {"dtype": "int8", "quant": Q}
    model = Model(
        lambda a: [a[0]],
        inputs=(TensorSpec("x", shape=(1, 3), **spec),),
        outputs=(TensorSpec("y", shape=(1, 3), **spec),),
    )
    return model, session(model, **arguments)


def test_real_numbers_become_integers_and_back() -> None:
    model, opened = quantized()
    assert opened.signature.inputs[0].dtype == "float32"
    answer = opened.run({"x": np.array([[0, 1.26, -1000]], "float32")})["y"]
    assert model.seen[0][0].tolist() == [[10, 13, -128]]
    assert answer.dtype == np.float32
    assert answer.tolist() == [[0, 1.5, -69]]


def test_integers_as_they_are() -> None:
    _, opened = quantized(integer_io=True)
    assert opened.signature.inputs[0].quant == Q
    feed = np.array([[-128, 0, 127]], "int8")
    np.testing.assert_array_equal(opened.run({"x": feed})["y"], feed)
    with pytest.raises(InputError, match="int8"):
        opened.run({"x": ones(1, 3)})


def test_not_a_number_has_no_integer() -> None:
    _, opened = quantized()
    with pytest.raises(InputError, match="NaN"):
        opened.run({"x": np.array([[0, np.nan, 0]], "float32")})
    assert opened.run({"x": np.array([[0, np.inf, -np.inf]], "float32")})["y"].tolist() == [[0, 58.5, -69]]


@given(st.lists(st.floats(-69, 58.5, width=32), min_size=3, max_size=3))
def test_the_way_there_and_back_costs_half_a_step(values: list[float]) -> None:
    _, opened = quantized()
    feed = np.array([values], "float32")
    assert np.abs(opened.run({"x": feed})["y"] - feed).max() <= 0.25 + 1e-5


# --- what a signature declares in another width ---


def declared(ours: str, engine: str) -> tuple[Model, Session]:
    def spec(name: str, dtype: str) -> TensorSpec:
        return TensorSpec(name, dtype, (1, 3))

    model = Model(lambda a: [a[0]], inputs=(spec("x", engine),), outputs=(spec("y", engine),))
    return model, session(model, signature=Signature((spec("x", ours),), (spec("y", ours),)))


@pytest.mark.parametrize(
    ("ours", "engine"),
    [("int64", "int32"), ("int32", "int64"), ("int8", "int32"), ("uint8", "int32"), ("float16", "float32")],
)
def test_numbers_are_given_in_the_files_width_and_come_back_in_the_signatures(ours: str, engine: str) -> None:
    model, opened = declared(ours, engine)
    feed = np.array([[1, 0, 127]], ours)
    answer = opened.run({"x": feed})["y"]
    assert model.seen[0][0].dtype == engine
    assert answer.dtype == ours
    np.testing.assert_array_equal(answer, feed)
    with pytest.raises(InputError, match=f"wants {ours}"):
        opened.run({"x": feed.astype(engine)})


def test_an_integer_the_file_has_no_room_for_is_refused() -> None:
    model, opened = declared("int64", "int32")
    with pytest.raises(InputError, match="'x' holds integers that int32 has not"):
        opened.run({"x": np.array([[0, 0, 2**31]])})
    assert model.seen == []
    _, narrow = declared("int8", "int32")
    with pytest.raises(InputError, match="wants int8"):
        narrow.run({"x": np.array([[300, 0, 0]], "int32")})


def test_an_answer_the_signature_has_no_room_for_is_an_error() -> None:
    wide = TensorSpec("y", "int32", (1, 3))
    model = Model(lambda a: [np.full((1, 3), 300, "int32")], outputs=(wide,))
    opened = session(model, signature=Signature((X,), (TensorSpec("y", "int8", (1, 3)),)))
    with pytest.raises(ArtifactError, match="'y' holds integers that int8 has not"):
        opened.run({"x": ones(1, 3)})


@pytest.mark.parametrize(("ours", "engine"), [("float32", "int32"), ("bool", "uint8"), ("uint16", "bfloat16")])
def test_another_kind_of_number_than_the_files_is_no_signature_of_it(ours: str, engine: str) -> None:
    with pytest.raises(ArtifactError, match=f"is {ours} in the signature and {engine} in the file"):
        declared(ours, engine)


# --- finite ---


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_on_request(bad: float) -> None:
    feed = np.array([[0, bad, 0]], "float32")
    assert session(Model(lambda a: [a[0]])).run({"x": feed})
    with pytest.raises(InputError, match="NaN or infinity"):
        session(Model(), check_finite=True).run({"x": feed})


def test_integers_are_finite() -> None:
    model = Model(lambda a: [a[0]], inputs=(TensorSpec("x", "int64", (1,)),), outputs=(TensorSpec("y", "int64", (1,)),))
    assert session(model, check_finite=True).run({"x": np.array([2**62])})["y"] == 2**62


# --- memory ---


def test_lent_outputs_are_copied_unless_asked_not_to() -> None:
    buffer = ones(1, 3)

    def compute(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        buffer[...] = arrays[0]
        return [buffer]

    opened = session(Model(compute, lends_outputs=True))
    kept = opened.run({"x": ones(1, 3)})["y"]
    lent = opened.run({"x": 5 * ones(1, 3)}, copy=False)["y"]
    assert kept.max() == 1
    assert lent is buffer


# --- threads and closing ---


def test_calls_take_turns() -> None:
    inside = 0
    most = 0

    def compute(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        inside -= 1
        return [arrays[0]]

    opened = session(Model(compute))
    threads = [threading.Thread(target=lambda: [opened.run({"x": ones(1, 3)}) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_closing_waits_for_the_call_under_way() -> None:
    started, finished = threading.Event(), []

    def compute(arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        started.set()
        time.sleep(0.02)
        finished.append(True)
        return [arrays[0]]

    opened = session(Model(compute))
    thread = threading.Thread(target=opened.run, args=({"x": ones(1, 3)},))
    thread.start()
    started.wait()
    opened.close()
    assert finished
    thread.join()


def test_closing() -> None:
    model = Model()
    with session(model) as opened:
        opened.run({"x": ones(1, 3)})
    opened.close()
    assert model.closed == 1
    for feeds in ({"x": ones(1, 3)}, {}):
        with pytest.raises(InputError, match="closed"):
            opened.run(feeds)
