"""State carried from call to call: what a model remembers, of whom, and from when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgekit
from edgekit.bundle import Bundle
from edgekit.card import Card, SourceFile, find_card
from edgekit.conversion.remembering import declare_state
from edgekit.converter import SourceModel
from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.models.silero_vad import CARD as SILERO
from edgekit.processing import Processing
from edgekit.runtime import Session
from edgekit.spec import Signature, StatePair, TensorSpec
from tests.assets import asset
from tests.catalogue import sequences

X, Y = TensorSpec("x", "float32", ("n", 2)), TensorSpec("y", "float32", ("n", 2))
HIDDEN, NEXT = TensorSpec("h", "float32", (1, "n", 2)), TensorSpec("h_next", "float32", (1, "n", 2))
STEPS, STEPS_NEXT = TensorSpec("steps", "int64", ()), TensorSpec("steps_next", "int64", ())
PAIRS = (StatePair("h", "h_next"), StatePair("steps", "steps_next"))


class Sum:
    """y = all x so far, and how many there were; refuses numbers below zero."""

    precision, lends_outputs, state = "fp32", False, PAIRS
    inputs, outputs = (X, HIDDEN, STEPS), (Y, NEXT, STEPS_NEXT)

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        x, hidden, steps = arrays
        if (x < 0).any():
            raise ValueError("below zero")
        return [x + hidden[0], x + hidden, steps + 1]

    def close(self) -> None:
        return None


def model(processing: Processing | None = None) -> Session:
    return Session(Sum(), runtime="made-up", processing=processing)


def x(*values: float) -> np.ndarray:
    return np.repeat(np.float32(values)[:, None], 2, axis=1)


def test_state_is_carried_and_begins_with_zeros() -> None:
    with model().stateful() as stateful:
        assert stateful.state == {}
        assert [float(stateful.run({"x": x(1)})["y"][0, 0]) for _ in range(3)] == [1, 2, 3]
        assert list(stateful.run({"x": x(1)})) == ["y"]
        assert stateful.state["steps"] == 4
        stateful.reset()
        assert stateful.run({"x": x(5)})["y"].tolist() == [[5, 5]]
        assert stateful.state["steps"] == 1


def test_a_state_can_be_kept_and_taken_up_again() -> None:
    first, second = model().stateful(), model().stateful()
    first.run({"x": x(3)})
    kept = first.state
    first.run({"x": x(4)})
    second.reset(kept)
    assert second.run({"x": x(4)})["y"].tolist() == [[7, 7]]
    kept["h"][:] = 100  # the caller's own
    assert second.run({"x": x(0)})["y"].tolist() == [[7, 7]]
    assert second.state["steps"] == 3


def test_part_of_a_state_may_be_given() -> None:
    stateful = model().stateful()
    stateful.reset({"steps": np.array(41)})
    assert stateful.run({"x": x(1)})["y"].tolist() == [[1, 1]]
    assert stateful.state["steps"] == 42


def test_an_open_batch_of_the_state_is_that_of_the_first_feeds() -> None:
    stateful = model().stateful()
    stateful.run({"x": x(1, 2, 3)})
    assert stateful.run({"x": x(1, 1, 1)})["y"].tolist() == [[2, 2], [3, 3], [4, 4]]
    assert stateful.state["h"].shape == (1, 3, 2)


def test_streams_on_one_session_do_not_mix() -> None:
    session = model()
    streams = [session.stateful() for _ in range(4)]

    def drive(index: int) -> list[float]:
        return [float(streams[index].predict({"x": x(index)})["y"][0, 0]) for _ in range(100)]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(drive, range(4)))
    assert found == [[float(index * step) for step in range(1, 101)] for index in range(4)]


def test_one_stream_in_several_hands_counts_every_call() -> None:
    stateful = model().stateful()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: stateful.run({"x": x(1)}), range(200)))
    assert stateful.state["steps"] == 200


@pytest.mark.parametrize(
    ("feed", "error"), [(x(-1), InputError), (np.ones((1, 3), "float32"), InputError), ("x", InputError)]
)
def test_a_call_that_fails_leaves_the_state_as_it_was(feed: Any, error: type[Exception]) -> None:
    for processing in (None, Processing.identity()):
        stateful = model(processing).stateful()
        stateful.predict(x(5))
        before = stateful.state
        with pytest.raises(error):
            stateful.predict(feed)
        assert stateful.state["steps"] == before["steps"] == 1
        assert stateful.predict(x(1))["y"].tolist() == [[6, 6]]


def test_an_answer_that_cannot_be_made_leaves_the_state_as_it_was() -> None:
    steps = Processing({}, ({"op": "select", "name": "y"}, {"op": "top_k", "k": 1}), ("a", "b", "c"))
    stateful = model(steps).stateful()
    for _ in range(2):
        with pytest.raises((InputError, ArtifactError)):  # three labels for two scores
            stateful.predict(x(1))
        assert stateful.state == {}


def test_windows_of_a_sound_go_through_in_turn() -> None:
    steps = Processing(
        {"x": ({"op": "decode_wav", "rate_hz": 8000}, {"op": "mono"}, {"op": "resample", "rate_hz": 8000},
               {"op": "frame", "length": 2})},
        ({"op": "select", "name": "y"},),
    )  # fmt: skip
    stateful = model(steps).stateful()
    sound = np.float32([0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    np.testing.assert_allclose(stateful.predict(sound), x(0.1, 0.3, 0.6), rtol=1e-6)
    assert stateful.state["steps"] == 3
    np.testing.assert_allclose(stateful.predict(sound[:2]), x(0.7), rtol=1e-6)


def test_masks_are_brought_back_to_the_picture_as_by_the_session() -> None:
    """Nets that watch a film remember too; their pictures are padded and their masks cut."""
    pixels = TensorSpec("x", "float32", (1, 4, 4, 3)), TensorSpec("n", "int64", ())
    masks = TensorSpec("mask", "float32", (1, 4, 4, 1)), TensorSpec("n_next", "int64", ())
    engine = Sum()
    engine.inputs, engine.outputs, engine.state = pixels, masks, (StatePair("n", "n_next"),)  # type: ignore[assignment]
    engine.run = lambda arrays: [arrays[0][..., :1], arrays[1] + 1]  # type: ignore[method-assign]
    steps = Processing(
        {"x": ({"op": "decode_image"}, {"op": "letterbox", "size": [4, 4]}, {"op": "normalize", "scale": 1 / 255})},
        ({"op": "select", "name": "mask"}, {"op": "mask", "size": "picture"}),
        ("background", "person"),
    )
    session = Session(engine, runtime="made-up", processing=steps)
    picture = np.zeros((8, 16, 3), "uint8")
    picture[:, 8:] = 255
    stateful = session.stateful()
    for _ in range(2):
        assert repr(stateful.predict(picture)) == repr(session.predict(picture))
    assert stateful.state["n"] == 2


def test_windows_give_every_answer_also_those_without_dimensions() -> None:
    engine = Sum()
    engine.outputs = (TensorSpec("y", "float32", ()), NEXT, STEPS_NEXT)
    engine.run = lambda arrays: [arrays[0].sum(), arrays[0] + arrays[1], arrays[2] + 1]  # type: ignore[method-assign]
    framed = Processing({"x": ({"op": "frame", "length": 2},)}, ({"op": "select", "name": "y"},))
    stateful = Session(engine, runtime="made-up", processing=framed).stateful()
    assert stateful.predict(np.float32([1, 1, 2, 2, 3, 3])) == [2, 4, 6]


def test_one_output_may_be_the_state_of_two_inputs() -> None:
    engine = Sum()
    engine.inputs = (X, HIDDEN, replace(HIDDEN, name="g"))  # type: ignore[assignment]
    engine.outputs, engine.state = (Y, NEXT), ()  # type: ignore[assignment]
    engine.run = lambda arrays: [arrays[1][0] + arrays[2][0], arrays[0] + arrays[1]]  # type: ignore[method-assign]
    session = Session(engine, runtime="made-up")
    stateful = session.stateful({"h": "h_next", "g": "h_next"})
    assert [float(stateful.run({"x": x(1)})["y"][0, 0]) for _ in range(3)] == [0, 2, 4]


def test_the_state_is_not_the_callers_to_feed() -> None:
    stateful = model().stateful()
    feeds = {"x": x(1), "h": np.zeros((1, 1, 2), "float32")}
    for act in (stateful.run, stateful.predict):
        with pytest.raises(InputError, match=r"the state \['h'\] is carried") as refusal:
            act(feeds)
        assert "reset" in refusal.value.hint
    with pytest.raises(InputError, match="no state"):
        stateful.reset({"x": x(1)})


def test_a_model_that_says_nothing_of_state_is_told_its_pairs() -> None:
    session = Session(Sum(), runtime="made-up", signature=Signature(Sum.inputs, Sum.outputs))
    with pytest.raises(UnsupportedError, match="does not say that it has a state") as refusal:
        session.stateful()
    assert "stateful({" in refusal.value.hint
    stateful = session.stateful({"h": "h_next", "steps": "steps_next"})
    stateful.predict(x(1))
    assert stateful.predict(x(1))["y"].tolist() == [[2, 2]]
    with pytest.raises(InputError, match="no such input and output: 'h': 'nothing'"):
        session.stateful({"h": "nothing"})


def test_leaving_the_block_lets_the_state_go_and_the_model_stays_open() -> None:
    session = model()
    with session.stateful() as stateful:
        stateful.predict(x(1))
    assert stateful.state == {}
    assert session.stateful().predict(x(2))["y"].tolist() == [[2, 2]]


# --- Silero: its files do not say what they remember, its card does ---


@pytest.fixture(scope="module", autouse=True)
def card() -> Iterator[Card]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgekit.card.MODELS", [(SILERO.name, SILERO)])
        yield SILERO


def silero_file(name: str) -> Path:
    return asset("silero-vad", f"silero_vad/data/silero_vad{name}.onnx")


@pytest.fixture(scope="module")
def silero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue's D3 of fixed sizes, converted to every format."""
    path = tmp_path_factory.mktemp("silero") / "vad.edge"
    edgekit.convert(silero_file("_openvino_16k"), path, format=("tflite", "onnx", "openvino"), precision="fp32")
    return path


@pytest.mark.parametrize("runtime", ["tflite", "onnx", "openvino"])
def test_silero_hears_what_the_catalogue_says(runtime: str, silero: Path) -> None:
    sounds = (sequences.vowels(), sequences.noise())
    with edgekit.load(silero, runtime=runtime, threads=1) as session:
        streams = [session.stateful() for _ in sounds]
        heard: list[list[float]] = [[], []]
        for chunks in zip(*map(sequences.frames, sounds), strict=True):  # two microphones, in turn
            for stream, chunk, found in zip(streams, chunks, heard, strict=True):
                found.append(float(stream.predict(chunk)["output"].item()))
        speech, noise = map(np.array, heard)
        assert abs(speech.mean() - 0.584861) < 2e-5
        assert abs(speech.std() - 0.387230) < 2e-5
        assert noise.max() < 0.061
        by_hand = sequences.chances(session.run, sounds[0], has_rate=False)
        np.testing.assert_allclose(speech, by_hand, atol=1e-6)


def test_the_files_of_a_bundle_say_it_themselves(silero: Path) -> None:
    files = {artifact.format: artifact.path for artifact in Bundle.open(silero).variants}
    for runtime in ("onnx", "tflite"):
        with edgekit.load(files[runtime], runtime=runtime) as session:
            assert session.signature.state == SILERO.state


def test_silero_that_wants_its_rate_is_told_it(tmp_path: Path) -> None:
    sizes = ("input=1,576", "state=2,1,128")
    np.savez(tmp_path / "frames.npz", input=sequences.frames(sequences.vowels())[:20, None])
    path = tmp_path / "vad.edge"
    edgekit.convert(
        silero_file("_op18_ifless"), path, format="onnx", precision="fp32", input_shape=sizes,
        calibration_data=tmp_path / "frames.npz",
    )  # fmt: skip
    with edgekit.load(path, threads=1) as session, session.stateful() as stream:
        heard = [float(stream.predict(frame)["output"].item()) for frame in sequences.frames(sequences.vowels())]
        assert abs(np.mean(heard) - 0.584861) < 2e-5
        with pytest.raises(InputError, match="shape"):
            stream.predict(np.zeros(512, "float32"))


@pytest.mark.parametrize("file", SILERO.files, ids=lambda file: Path(file.path).stem)
def test_every_file_of_silero_has_the_state_of_its_card(file: SourceFile) -> None:
    path = asset("silero-vad", file.path)
    found = find_card(path)
    assert found is not None
    nodes = onnx.load(path).graph
    for pair in found.state:
        assert pair.input in [value.name for value in nodes.input]
        assert pair.output in [value.name for value in nodes.output]
    assert ("sr" in [value.name for value in nodes.input]) == bool(found.processing.inputs)


def test_a_card_does_not_overrule_the_file_nor_name_what_is_not_there(tmp_path: Path) -> None:
    said = SourceModel("onnx", tmp_path, Signature(Sum.inputs, Sum.outputs, PAIRS), lambda feeds: {}, {})
    assert declare_state(said, [StatePair("x", "y")], tmp_path) is said
    silent = replace(said, signature=Signature(Sum.inputs, Sum.outputs))
    assert declare_state(silent, PAIRS, tmp_path).signature.state == PAIRS
    with pytest.raises(ArtifactError, match="names a state it has not: h <- hn"):
        declare_state(silent, [StatePair("h", "hn")], tmp_path)
