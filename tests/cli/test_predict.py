"""`edgekit predict`: what it takes, what it writes, and what it does about one bad input among many."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.bundle import BundleWriter, Golden
from edgekit.processing import Processing
from edgekit.report.drawing import draw_map, draw_places
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec
from tests.cli.conftest import Typed, write_bundle

Type = Callable[..., Typed]

SIZE = 8
PICTURE = TensorSpec("x", "float32", (1, SIZE, SIZE, 3))
SEEN = ({"op": "decode_image"}, {"op": "letterbox"}, {"op": "normalize"})
ANCHOR = {"op": "decode_anchors", "anchors": [[0.5, 0.5, 0.5, 0.5]], "sizes": "exponential"}
"""Of zeros it makes a box from 1/4 to 3/4, of which the net is half sure."""


def bundle(path: Path, inputs: Any, outputs: Any, input: TensorSpec, *specs: TensorSpec, labels: Any = ()) -> Path:
    """A bundle of the null engine, which answers zeros."""
    signature = Signature((input,), specs)
    zeros = [{s.name: np.zeros(s.shape, s.dtype) for s in some} for some in ((input,), specs)]
    with BundleWriter(path) as writer:
        file = write_null(writer.stage / "m.null.json", signature)
        facts = {"tolerance": {spec.name: 0.5 for spec in specs}}
        writer.add(name="null-fp32", format="null", precision="fp32", files=[file], facts=facts)
        writer.commit(
            name="n", signature=signature, processing=Processing({"x": inputs}, outputs, labels).to_json(),
            target="host", golden=Golden((zeros[0],), (zeros[1],)), statistics={}, provenance={},
        )  # fmt: skip
    return path


def finder(path: Path, **arguments: Any) -> Path:
    outputs = (ANCHOR, {"op": "detections", **arguments})
    specs = TensorSpec("boxes", "float32", (1, 1, 4)), TensorSpec("scores", "float32", (1, 1, 1))
    return bundle(path, SEEN, outputs, PICTURE, *specs, labels=("cat",))


def reader(path: Path) -> Path:
    steps = ({"op": "tokenize_bytes", "length": 8},)
    spec = TensorSpec("x", "int64", (1, 8))
    return bundle(path, steps, ({"op": "argmax"},), spec, TensorSpec("y", "float32", (1, 2)), labels=("no", "yes"))


def photo(path: Path, width: int = 40, height: int = 20) -> Path:
    Image.new("RGB", (width, height), (200, 100, 50)).save(path)
    return path


def shown(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.asarray(opened)


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as opened:
        return dict(opened)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def say(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Puts `content` where the command reads stdin."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def answers(out: str) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = json.loads(out)["answers"]
    return found


# --- what it takes ---------------------------------------------------------------------------------------------------


def test_a_folder_is_every_file_in_it_by_name(typed: Type, here: Path) -> None:
    model = finder(here / "f.edge")
    (here / "in" / "deeper").mkdir(parents=True)
    for name in ("b.png", "a.png", "c.jpg", ".hidden.png", "deeper/d.png"):
        photo(here / "in" / name)
    code, out, _ = typed("predict", model, "in", "--json")
    assert code == 0
    assert [one["input"] for one in answers(out)] == ["in/a.png", "in/b.png", "in/c.jpg"]
    (here / "empty").mkdir()
    code, out, err = typed("predict", model, "empty")
    assert (code, out) == (3, "")
    assert "the folder empty holds no files" in err


def test_texts_are_typed_or_in_files(typed: Type, here: Path) -> None:
    model = reader(here / "t.edge")
    (here / "t.txt").write_text("in a file", encoding="utf-8")
    code, out, _ = typed("predict", model, "a text", "t.txt", "x" * 5000, "--json")
    assert code == 0
    assert [one["input"] for one in answers(out)] == ["a text", "t.txt", "x" * 5000]
    assert {one["answer"]["label"] for one in answers(out)} == {"no"}


def test_what_is_no_file_is_a_text_only_for_a_model_of_texts(typed: Type, here: Path) -> None:
    code, out, err = typed("predict", finder(here / "f.edge"), "a text")
    assert (code, out) == (3, "")
    assert "a text" in err


def test_stdin_is_a_picture_a_text_or_tensors(typed: Type, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, photo(here / "p.png").read_bytes())
    assert typed("predict", finder(here / "f.edge"), "-").code == 0
    say(monkeypatch, "grün\n".encode())
    code, out, _ = typed("predict", reader(here / "t.edge"), "-", "--json")
    assert (code, answers(out)[0]["input"]) == (0, "-")
    say(monkeypatch, b"\xff\xfe")
    code, _, err = typed("predict", here / "t.edge", "-")
    assert code == 3
    assert "stdin is no text" in err
    tensors = io.BytesIO()
    np.savez(tensors, x=np.ones((1, 4), "float32"))
    say(monkeypatch, tensors.getvalue())
    code, out, _ = typed("predict", write_bundle(here / "n.edge"), "-", "--json")
    assert answers(out)[0]["answer"] == {"y": [[0.0, 0.0]]}


@pytest.mark.parametrize("threshold", [0.25, 0.9])
def test_tensors_for_a_model_of_pictures_are_answered_and_nothing_is_drawn(
    typed: Type, here: Path, monkeypatch: pytest.MonkeyPatch, threshold: float
) -> None:
    tensors = io.BytesIO()
    np.savez(tensors, x=np.zeros(PICTURE.shape, "float32"))
    say(monkeypatch, tensors.getvalue())
    code, out, _ = typed("predict", finder(here / "f.edge", threshold=threshold), "-", "-o", "out", "--json")
    assert code == 0
    written = json.loads((here / "out" / "stdin.json").read_text())["answer"]
    assert len(written) == len(answers(out)[0]["answer"]) == (threshold < 0.5)


def test_an_empty_text_is_a_text_and_not_the_folder_one_is_in(typed: Type, here: Path) -> None:
    code, out, _ = typed("predict", reader(here / "t.edge"), "", "--json")
    assert code == 0
    assert [one["input"] for one in answers(out)] == [""]


# --- one bad input among many ----------------------------------------------------------------------------------------


def test_a_bad_input_is_named_the_others_are_answered_and_the_code_says_so(typed: Type, here: Path) -> None:
    model = finder(here / "f.edge")
    photo(here / "a.png")
    (here / "b.png").write_bytes(b"no picture")
    photo(here / "c.png")
    code, out, err = typed("predict", model, "a.png", "b.png", "c.png", "-o", "out")
    assert code == 3
    assert err.startswith("edgekit: error: 1 of 3 inputs could not be answered: b.png cannot be read as an image")
    assert err.count("\n") == 2
    assert out.count("cat") == 2
    assert "b.png cannot be read" in out
    assert sorted(path.name for path in (here / "out").iterdir()) == ["a.png", "c.png"]
    code, out, _ = typed("predict", model, "a.png", "b.png", "c.png", "--json")
    first, wrong, last = answers(out)
    assert code == 3
    assert len(first["answer"]) == len(last["answer"]) == 1
    assert wrong["answer"] is None
    assert "b.png cannot be read as an image" in wrong["error"]["message"]
    assert wrong["error"]["hint"]


def test_where_nothing_is_answered_nothing_is_printed(typed: Type, here: Path) -> None:
    code, out, err = typed("predict", finder(here / "f.edge"), "a.png", "b.png")
    assert (code, out) == (3, "")
    assert "2 of 2 inputs could not be answered" in err


# --- what it writes --------------------------------------------------------------------------------------------------


def test_boxes_are_drawn_into_the_picture_itself(typed: Type, here: Path) -> None:
    photo(here / "a.png")
    code, out, _ = typed("predict", finder(here / "f.edge"), "a.png", "-o", "out", "--json")
    (one,) = answers(out)
    assert code == 0
    assert Path(one["file"]) == here / "out" / "a.png"
    # The net saw 8 x 4 pixels of the picture in the middle of 8 x 8: half of that is all of its height.
    np.testing.assert_allclose(one["answer"][0]["box"], [0.25, 0.0, 0.75, 1.0], atol=1e-6)
    drawn = shown(here / "out" / "a.png")
    assert drawn.shape == (20, 40, 3)
    is_changed = (drawn != (200, 100, 50)).any(axis=2)
    assert is_changed[15, 10]
    assert is_changed[15, 30]
    assert not is_changed[15, [5, 20, 38]].any()


def test_points_and_pixels_are_drawn_where_they_are(here: Path) -> None:
    blank = Image.new("RGB", (400, 200))
    entries = [{"label": "nose", "score": 0.5, "point": [0.5, 0.5]}, {"label": "chin", "point_px": [300.0, 150.0]}]
    drawn = np.asarray(draw_places(blank, entries))
    assert drawn[100, 200].any()
    assert drawn[150, 300].any()
    assert not drawn[50, 50].any()
    region = {"score": 0.9, "points_px": [[10, 10], [90, 20], [90, 60], [10, 50]], "box_px": [10, 10, 90, 60]}
    outlined = np.asarray(draw_places(blank, [region]))
    assert outlined[15, 50].any()
    assert not outlined[10, 60].any()  # the turned rectangle, not the upright one around it
    assert not np.asarray(blank).any()
    crossed = {"label": "cat", "box_px": [90, 60, 10, 20]}  # a net may give corners the other way round
    assert np.asarray(draw_places(blank, [crossed]))[40, 10].any()
    eyes = {"label": "eyes", "points": [[0.5, 0.5], [0.6, 0.5]]}
    assert np.asarray(draw_places(blank, [eyes]))[100, [200, 240]].any(axis=1).all()


def test_every_class_but_the_first_has_a_color_of_its_own() -> None:
    picture = np.full((4, 6, 3), 100, np.uint8)
    drawn = draw_map(picture, np.array([[0, 1, 2]]))
    np.testing.assert_array_equal(drawn[:, :2], 100)
    assert len({tuple(drawn[0, column].tolist()) for column in (0, 2, 4)}) == 3


def test_masks_made_pictures_arrays_and_labels_are_written_as_what_they_are(typed: Type, here: Path) -> None:
    photo(here / "a.png")
    flat = TensorSpec("y", "float32", (1, SIZE, SIZE, 1))
    mask = bundle(here / "m.edge", SEEN, ({"op": "mask", "threshold": -1},), PICTURE, flat)
    assert typed("predict", mask, "a.png", "-o", "mask").code == 0
    assert (shown(here / "mask" / "a.png") != (200, 100, 50)).any(axis=2).all()
    made = TensorSpec("y", "float32", (1, SIZE, SIZE, 3))
    painter = bundle(here / "p.edge", SEEN, ({"op": "picture", "size": "picture"},), PICTURE, made)
    assert typed("predict", painter, "a.png", "-o", "made").code == 0
    assert not shown(here / "made" / "a.png").any()
    assert shown(here / "made" / "a.png").shape[:2] == (20, 40)
    vector = bundle(here / "v.edge", SEEN, ({"op": "mean_rows"},), PICTURE, TensorSpec("y", "float32", (1, 5)))
    assert typed("predict", vector, "a.png", "-o", "vector").code == 0
    assert arrays(here / "vector" / "a.npz")["answer"].tolist() == [0.0] * 5
    np.save(here / "x.npy", np.zeros((1, 4), "float32"))
    assert typed("predict", write_bundle(here / "n.edge"), "x.npy", "-o", "raw").code == 0
    assert arrays(here / "raw" / "x.npz")["y"].shape == (1, 2)
    assert typed("predict", reader(here / "t.edge"), "one", "two", "-o", "labels").code == 0
    assert sorted(path.name for path in (here / "labels").iterdir()) == ["text-2.json", "text.json"]
    assert json.loads((here / "labels" / "text.json").read_text())["answer"]["label"] == "no"


def test_nothing_is_overwritten_unless_forced(typed: Type, here: Path) -> None:
    model = finder(here / "f.edge")
    photo(here / "a.png")
    (here / "out").mkdir()
    (here / "out" / "a.png").write_bytes(b"mine")
    code, out, err = typed("predict", model, "a.png", "-o", "out")
    assert (code, out) == (3, "")
    assert "--force" in err
    assert (here / "out" / "a.png").read_bytes() == b"mine"
    assert typed("predict", model, "a.png", "-o", "out", "--force").code == 0
    assert [path.name for path in (here / "out").iterdir()] == ["a.png"]
    assert shown(here / "out" / "a.png").shape[:2] == (20, 40)
    code, _, err = typed("predict", model, "a.png", "-o", "a.png")
    assert code == 3
    assert "a.png is a file" in err


def test_inputs_of_one_name_are_told_apart(typed: Type, here: Path) -> None:
    for folder in ("one", "two"):
        (here / folder).mkdir()
        photo(here / folder / "a.png")
    assert typed("predict", finder(here / "f.edge"), "one", "two", "-o", "out").code == 0
    assert sorted(path.name for path in (here / "out").iterdir()) == ["a-2.png", "a.png"]


def test_people_see_a_row_for_everything_found_and_that_nothing_was(typed: Type, here: Path) -> None:
    photo(here / "a.png")
    out = typed("predict", finder(here / "f.edge", unit="pixels"), "a.png").out
    assert "10 0 30 20" in out
    assert "0.5000" in out
    assert "nothing" in typed("predict", finder(here / "g.edge", threshold=0.9), "a.png").out
