"""Fixed random feeds and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.feeds import load_feeds, random_feeds, save_feeds
from edgekit.spec import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(
        TensorSpec("x", "float32", ("batch", "time", 3)),
        TensorSpec("ids", "int64", (1, 5)),
        TensorSpec("mask", "bool", (2,)),
    ),
    outputs=(TensorSpec("y", "float32", (1,)),),
)


def test_feeds_match_the_signature_and_move_open_sizes() -> None:
    first, second = random_feeds(SIGNATURE, count=2, seed=3)
    assert first["x"].shape == (1, 24, 3)
    assert second["x"].shape == (1, 40, 3)
    for spec in SIGNATURE.inputs:
        assert first[spec.name].dtype == spec.dtype
        assert spec.accepts_shape(first[spec.name].shape)


def test_a_size_that_comes_first_only_once_is_no_batch() -> None:
    tokens, positions = TensorSpec("tokens", "int64", ("batch", "steps")), TensorSpec("positions", "int64", ("steps",))
    (feeds,) = random_feeds(Signature((positions, tokens), ()), count=1, batch=3)
    assert (feeds["tokens"].shape, feeds["positions"].shape) == ((3, 24), (24,))


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    one, again, other = (random_feeds(SIGNATURE, count=1, seed=s)[0]["x"] for s in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_strings_are_refused_by_name() -> None:
    text = Signature((TensorSpec("text", "string", (1,)),), ())
    with pytest.raises(UnsupportedError, match="text"):
        random_feeds(text, count=1)


def test_a_file_of_feeds_gives_them_back_in_order(tmp_path: Path) -> None:
    feeds = random_feeds(SIGNATURE, count=11)
    save_feeds(tmp_path / "feeds.npz", feeds)
    back = load_feeds(tmp_path / "feeds.npz")
    assert len(back) == 11
    for a, b in zip(feeds, back, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
