"""Noise in place of data: in the range the processing gives, the same for the same seed, never of a made-up size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.conversion.noise import noise_feeds, ranges_of
from edgekit.conversion.offered import read_offered
from edgekit.errors import InputError, UnsupportedError
from edgekit.processing import Processing
from edgekit.spec import Signature, StatePair, TensorSpec

PICTURE = TensorSpec("x", "float32", ("batch", 3, 8, 10))
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "##s"]


def noise(processing: Processing, *specs: TensorSpec, count: int = 20, seed: int = 0, **more: Any) -> list[Any]:
    samples = read_offered(f"random:{count}", seed=seed)
    return list(noise_feeds(processing, samples, Signature(specs, (), **more)))


@pytest.mark.parametrize(("preset", "low", "high"), [("image-01", 0, 1), ("image-11", -1, 1)])
def test_pictures_are_drawn_from_all_pixels_through_the_processing(preset: str, low: float, high: float) -> None:
    signature = Signature((PICTURE,), ())
    processing = Processing.named(preset, signature)
    feeds = noise(processing, PICTURE)
    drawn = np.stack([feed["x"] for feed in feeds])
    assert drawn.shape == (20, 1, 3, 8, 10)
    assert drawn.dtype == np.float32
    assert (drawn.min(), drawn.max()) == (pytest.approx(low), pytest.approx(high))
    assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.03)
    assert ranges_of(processing, signature) == {"x": (pytest.approx(low), pytest.approx(high))}


def test_the_same_seed_gives_the_same_noise_and_fewer_are_the_first() -> None:
    first, again, fewer, other = (
        noise(Processing(), PICTURE, count=n, seed=s) for n, s in ((4, 0), (4, 0), (2, 0), (4, 1))
    )
    np.testing.assert_equal(first, again)
    np.testing.assert_equal(first[:2], fewer)
    assert not np.array_equal(first[0]["x"], other[0]["x"])
    assert not np.array_equal(first[0]["x"], first[1]["x"])


def test_without_processing_floats_are_normal_and_integers_small() -> None:
    specs = (TensorSpec("x", "float32", (1, 4000)), TensorSpec("n", "int64", (1, 900)), TensorSpec("b", "bool", (1, 9)))
    feeds = noise(Processing(), *specs)
    drawn = np.stack([feed["x"] for feed in feeds])
    assert (drawn.mean(), drawn.std()) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    assert {int(feed["n"].min()) for feed in feeds} == {0}
    assert {int(feed["n"].max()) for feed in feeds} == {63}


def test_steps_that_begin_with_no_file_are_passed_by() -> None:
    normal = Processing({"x": ({"op": "normalize", "scale": 1 / 255},)})
    drawn = np.stack([feed["x"] for feed in noise(normal, TensorSpec("x", "float32", (1, 4000)))])
    assert drawn.std() == pytest.approx(1, abs=0.02)


def test_ids_and_mask_are_of_one_text() -> None:
    parts = {"ids": "ids", "mask": "mask"}
    wordpiece = {"op": "tokenize_wordpiece", "vocabulary": {"data": "words"}, "length": 9}
    processing = Processing(
        {name: ({**wordpiece, "what": what},) for name, what in parts.items()}, data={"words": WORDS}
    )
    ids, mask = (TensorSpec(name, "int64", (1, 9)) for name in parts)
    for feed in noise(processing, ids, mask):
        assert feed["mask"].tolist() == [[1] * 9]
        assert feed["ids"][0, 0] == 2
        assert set(feed["ids"][0, 1:-1].tolist()) <= {4, 5, 6}
    raw = Processing({"ids": ({"op": "tokenize_bytes", "length": 9},)})
    assert all((feed["ids"] > 0).all() for feed in noise(raw, ids))


def test_state_is_zero_and_a_constant_is_one() -> None:
    state, scale = TensorSpec("h", "float32", (1, 4)), TensorSpec("scale", "float32", (1,))
    processing = Processing({"scale": ({"op": "constant", "value": [2.0]},)})
    feeds = noise(processing, TensorSpec("x", "float32", (1, 4)), state, scale, state=(StatePair("h", "h_out"),))
    assert all((feed["h"] == 0).all() and feed["scale"].tolist() == [2.0] and feed["x"].std() > 0 for feed in feeds)


def test_no_size_is_made_up() -> None:
    for shape in ((1, "time", 4), ("batch", 3, "height", "width")):
        with pytest.raises(InputError, match="how large"):
            noise(Processing(), TensorSpec("x", "float32", shape))
    pictures = Processing({"x": ({"op": "decode_image"}, {"op": "layout", "to": "CHW"})})
    with pytest.raises(InputError, match="--input-shape"):
        noise(pictures, TensorSpec("x", "float32", (1, 3, "height", "width")))
    with pytest.raises(UnsupportedError, match="string"):
        noise(Processing(), TensorSpec("x", "string", (1, 2)))


@pytest.mark.parametrize("word", ["random:0", "random:-3", "random:x", "random:"])
def test_a_count_that_is_none_is_refused(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="how many samples of noise"):
        read_offered(word)


def test_how_many_are_drawn() -> None:
    assert len(read_offered("random")) == 64
    assert len(read_offered("random", limit=9)) == 9
    assert len(read_offered("random:20", limit=9)) == 9
    assert len(read_offered("random:5", limit=9)) == 5
    assert read_offered("random").is_synthetic
