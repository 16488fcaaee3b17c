"""The user's data: every sample once, in order, again and again; what cannot be read is left out by name."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import InputError
from edgekit.processing import Processing
from edgekit.samples import Samples, check_feeds, feeds_of, read_samples
from edgekit.spec import Signature, StatePair, TensorSpec
from tests.unit.test_processing import windows
from tests.unit.test_processing_media import wav


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Six pictures in two class folders."""
    for index in range(3):
        picture(tmp_path / "animals" / "cat" / f"{index}.png", index)
        picture(tmp_path / "animals" / "dog" / f"{index}.JPG", 10 + index)
    return tmp_path / "animals"


def names(samples: Samples) -> list[str]:
    return [sample.name for sample in samples]


def test_a_folder_of_pictures_is_read_in_order_with_its_labels(animals: Path) -> None:
    samples = read_samples(animals)
    assert (
        names(samples)
        == names(samples)
        == [
            *("cat/0.png", "cat/1.png", "cat/2.png"),
            *("dog/0.JPG", "dog/1.JPG", "dog/2.JPG"),
        ]
    )
    assert len(samples) == 6
    assert [sample.label for sample in samples] == ["cat"] * 3 + ["dog"] * 3
    assert samples.skipped == ()
    assert next(sample.value for sample in samples) == animals / "cat" / "0.png"


def test_what_cannot_be_read_is_skipped_by_name(animals: Path) -> None:
    whole = (animals / "cat" / "0.png").read_bytes()
    (animals / "cat" / "half.png").write_bytes(whole[: len(whole) // 2])
    (animals / "dog" / "empty.npy").touch()
    (animals / "dog" / "empty.wav").touch()
    (animals / "README.txt").write_text("cats and dogs")
    (animals / ".hidden").write_text("left alone")
    np.save(animals / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    samples = read_samples(animals)
    assert len(samples) == 6
    reasons = dict(samples.skipped)
    assert list(reasons) == ["README.txt", "cat/half.png", "dog/empty.npy", "dog/empty.wav", "pickled.npy"]
    assert all(reasons.values())
    assert "can hold code" in reasons["pickled.npy"]


def test_limit_draws_by_seed_and_fills_up_for_the_unreadable(animals: Path) -> None:
    drawn = {seed: names(read_samples(animals, limit=3, seed=seed)) for seed in range(8)}
    assert all(len(chosen) == 3 and chosen == sorted(chosen) for chosen in drawn.values())
    assert len({tuple(chosen) for chosen in drawn.values()}) > 1
    assert drawn[0] == names(read_samples(animals, limit=3))
    (animals / "cat" / "0.png").write_bytes(b"")
    for seed in range(8):
        assert len(read_samples(animals, limit=5, seed=seed)) == 5
    assert len(read_samples(animals, limit=50)) == 5
    with pytest.raises(InputError, match="cannot take 0"):
        read_samples(animals, limit=0)


def test_the_hash_tells_content_from_place(animals: Path, tmp_path: Path) -> None:
    first = read_samples(animals).sha256
    moved = animals.rename(tmp_path / "elsewhere")
    assert read_samples(moved).sha256 == first
    assert read_samples(moved, limit=2).sha256 != first
    picture(moved / "cat" / "0.png", seed=99)
    assert read_samples(moved).sha256 != first


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.touch()])
def test_nothing_at_all_is_an_input_error(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "data")
    with pytest.raises(InputError) as caught:
        read_samples(tmp_path / "data")
    assert ".npz" in caught.value.hint


def test_a_folder_of_nothing_but_broken_files_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.txt").touch()
    with pytest.raises(InputError, match=r"none of the 2 files .* a\.png"):
        read_samples(tmp_path)


def test_a_single_picture_or_sound(tmp_path: Path) -> None:
    samples = read_samples(picture(tmp_path / "x.png"))
    assert [(s.name, s.value, s.label) for s in samples] == [("x.png", tmp_path / "x.png", None)]
    (tmp_path / "x.wav").write_bytes(wav(np.ones((30, 1), "<i2"), 8000))
    assert len(read_samples(tmp_path / "x.wav")) == 1
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"x\.wav"):
        read_samples(tmp_path / "x.wav")


def test_npy_rows_are_samples(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((10, 4, 5))
    np.save(tmp_path / "x.npy", data)
    samples = read_samples(tmp_path / "x.npy")
    for _ in range(2):
        np.testing.assert_array_equal([sample.value for sample in samples], data)
    chosen = read_samples(tmp_path / "x.npy", limit=4, seed=3)
    rows = [int(name) for name in names(chosen)]
    assert len(rows) == len(chosen) == 4
    assert rows == sorted(rows)
    np.testing.assert_array_equal([sample.value for sample in chosen], data[rows])
    assert chosen.sha256 != samples.sha256


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_rows_are_samples_by_input_name(tmp_path: Path, save: Any) -> None:
    rng = np.random.default_rng(0)
    ids, mask, labels = rng.integers(0, 9, (10, 7)), rng.random((10, 7, 2)).astype("f4"), np.array(list("abcdefghij"))
    save(tmp_path / "x.npz", ids=ids, mask=mask, labels=labels)
    samples = read_samples(tmp_path / "x.npz", limit=6, seed=1)
    for _ in range(2):
        rows = [int(name) for name in names(samples)]
        assert [sample.label for sample in samples] == labels[rows].tolist()
        assert all(sample.value.keys() == {"ids", "mask"} for sample in samples)
        np.testing.assert_array_equal([sample.value["ids"] for sample in samples], ids[rows])
        np.testing.assert_array_equal([sample.value["mask"] for sample in samples], mask[rows])
    save(tmp_path / "bare.npz", ids)
    np.testing.assert_array_equal([sample.value for sample in read_samples(tmp_path / "bare.npz")], ids)


def test_a_folder_of_arrays_holds_a_sample_per_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    np.savez(tmp_path / "b.npz", x=np.ones(3), y=np.zeros(2))
    np.save(tmp_path / "c.npy", np.zeros((0, 4)))
    samples = read_samples(tmp_path)
    first, second = samples
    assert first.value.shape == (3, 4)
    assert second.value.keys() == {"x", "y"}
    assert samples.skipped == (("c.npy", "an empty array"),)


def damage(path: Path, place: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[place : place + len(content)] = content
    path.write_bytes(whole)


def broken_arrays(folder: Path) -> Iterator[Path]:
    np.save(folder / "truncated.npy", np.ones((100, 100)))
    (folder / "truncated.npy").write_bytes((folder / "truncated.npy").read_bytes()[:5000])
    np.savez(folder / "truncated.npz", x=np.ones((100, 100)))
    (folder / "truncated.npz").write_bytes((folder / "truncated.npz").read_bytes()[:5000])
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(folder / "pickled.npz", x=np.array([{}], dtype=object))
    np.savez(folder / "uneven.npz", x=np.ones(3), y=np.ones(4))
    np.savez(folder / "none.npz")
    np.save(folder / "scalar.npy", np.float32(3))
    np.save(folder / "nobody.npy", np.ones((0, 3)))
    (folder / "text.npy").write_text("not an array")
    (folder / "text.npz").write_text("not an archive")
    with zipfile.ZipFile(folder / "zip.npz", "w") as archive:
        archive.writestr("x.npy", b"not an array")
    np.savez_compressed(folder / "deflated.npz", x=np.random.default_rng(0).random((20, 30)).round(2))
    damage(folder / "deflated.npz", 60, b"\xff" * 40)
    np.save(folder / "header.npy", np.ones((20, 30)))
    damage(folder / "header.npy", 20, b"(((")
    np.savez(folder / "packed.npz", x=np.ones(3))
    damage(folder / "packed.npz", (folder / "packed.npz").read_bytes().index(b"PK\x01\x02") + 10, b"\x63")
    with (folder / "zip.npy").open("wb") as file:
        np.savez(file, x=np.ones(3))
    yield from sorted(folder.iterdir())


def test_files_of_arrays_that_are_not_are_refused(tmp_path: Path) -> None:
    broken = list(broken_arrays(tmp_path))
    assert len(broken) == 15
    for path in broken:
        with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
            list(read_samples(path))


def test_arrays_of_any_damage_are_left_out_of_a_folder_by_name(tmp_path: Path) -> None:
    broken = [path for path in broken_arrays(tmp_path) if path.stem in ("deflated", "header", "packed", "truncated")]
    for path in set(tmp_path.iterdir()) - set(broken):
        path.unlink()
    np.save(tmp_path / "whole.npy", np.ones(3))
    assert [name for name, _ in read_samples(tmp_path).skipped] == [path.name for path in broken]


def test_a_member_that_ends_early_is_an_input_error_when_it_is_reached(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((100, 100)))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", (tmp_path / "x.npy").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"ends within row"):
        list(read_samples(tmp_path / "x.npz"))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_files_of_arrays_are_read_in_constant_memory(tmp_path: Path, suffix: str) -> None:
    data = np.ones((200, 50_000), np.float32)  # 40 MB
    path = tmp_path / f"x.{suffix}"
    np.save(path, data) if suffix == "npy" else np.savez(path, x=data)
    del data
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_samples(path)) == 200
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4e6


# --- labels.jsonl -----------------------------------------------------------------------------------------------------

BOX = {"label": "cat", "box": [0.1, 0.2, 0.5, 1]}


def listing(folder: Path, *records: Any) -> Path:
    """A folder with two pictures, a mask in a folder of its own, and the listing `records`."""
    for index, name in enumerate(("a.png", "b.png", "masks/a.png")):
        picture(folder / name, index)
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / "labels.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_listing_gives_what_it_lists_with_its_truths(tmp_path: Path) -> None:
    folder = listing(
        tmp_path,
        {"file": "b.png", "boxes": [BOX], "mask": "masks/a.png"},
        "",
        {"text": "hällo", "label": "en"},
        {"file": "a.png", "target": "b.png", "label": "cat"},
    )
    first, second, third = samples = list(read_samples(folder))
    assert [sample.name for sample in samples] == ["b.png", "line 3", "a.png"]
    assert [sample.value for sample in samples] == [folder / "b.png", "hällo", folder / "a.png"]
    assert [sample.label for sample in samples] == [None, "en", "cat"]
    assert first.truth == {"boxes": [{"label": "cat", "box": [0.1, 0.2, 0.5, 1.0]}], "mask": folder / "masks" / "a.png"}
    assert second.truth == {"label": "en"}
    assert third.truth == {"target": folder / "b.png", "label": "cat"}


def test_other_data_has_its_label_as_truth(animals: Path, tmp_path: Path) -> None:
    assert [sample.truth for sample in read_samples(animals)] == [{"label": "cat"}] * 3 + [{"label": "dog"}] * 3
    assert [sample.truth for sample in read_samples(animals / "cat")] == [{}] * 3
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2)), labels=np.array([1, 0, 1]))
    assert [s.truth for s in read_samples(tmp_path / "x.npz")] == [{"label": "1"}, {"label": "0"}, {"label": "1"}]
    named = read_samples(tmp_path / "x.npz", labels=["cat", "dog"])
    assert [(s.label, s.truth) for s in named][:2] == [("dog", {"label": "dog"}), ("cat", {"label": "cat"})]


def test_limit_and_hash_of_a_listing(tmp_path: Path) -> None:
    texts = [{"text": f"{index}", "label": "x"} for index in range(20)]
    folder = listing(tmp_path / "a", *texts)
    drawn = {seed: names(read_samples(folder, limit=5, seed=seed)) for seed in range(4)}
    assert all(len(chosen) == 5 for chosen in drawn.values())
    assert len({tuple(chosen) for chosen in drawn.values()}) > 1
    assert drawn[0] == names(read_samples(folder, limit=5))
    digest = read_samples(folder).sha256
    assert read_samples(folder, limit=5).sha256 != digest
    assert read_samples(listing(tmp_path / "b", *texts)).sha256 == digest
    assert read_samples(listing(tmp_path / "b", *texts[:-1], {"text": "19", "label": "y"})).sha256 != digest
    masked = read_samples(listing(folder, {"file": "a.png", "mask": "masks/a.png"})).sha256
    picture(folder / "masks" / "a.png", seed=77)
    assert read_samples(folder).sha256 != masked


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{", "not JSON"),
        ([], "list where an object"),
        ({"label": "cat"}, "either a file or a text"),
        ({"file": "a.png", "text": "x"}, "either a file or a text"),
        ({"file": "a.png", "lable": "cat"}, "'lable'.*did you mean 'label'"),
        ({"file": "a.png", "label": 3}, "label 3 is not a text"),
        ({"file": "a.png", "label": "bat"}, "no label 'bat'.*did you mean 'cat'"),
        ({"file": "c.png"}, r"there is no .*c\.png"),
        ({"file": "../a.png"}, "not inside the folder"),
        ({"file": "/etc/passwd"}, "not inside the folder"),
        ({"file": 3}, "not the name of a file"),
        ({"file": "a.png", "mask": "nowhere.png"}, r"there is no .*nowhere\.png"),
        ({"file": "a.png", "target": "labels.jsonl"}, "not an image"),
        ({"text": ""}, "the text '' is not one"),
        ({"file": "a.png", "boxes": BOX}, "not a list"),
        ({"file": "a.png", "boxes": [[0, 0, 1, 1]]}, "box 0 is"),
        ({"file": "a.png", "boxes": [BOX, {"label": "cat"}]}, "box 1 is"),
        ({"file": "a.png", "boxes": [{"label": "cat", "box": [0, 0, 1]}]}, "four numbers"),
        ({"file": "a.png", "boxes": [{"label": "cat", "box": [0, 0, True, 1]}]}, "four numbers"),
        ({"file": "a.png", "boxes": [{"label": "cat", "box": [0, 0, float("nan"), 1]}]}, "four numbers"),
        ({"file": "a.png", "boxes": [{"label": "cat", "box": [10, 20, 50, 60]}]}, "outside the picture.*divide"),
        ({"file": "a.png", "boxes": [{"label": "cat", "box": [0.5, 0, 0.5, 1]}]}, "is empty"),
        ({"file": "a.png", "boxes": [{"label": "cow", "box": [0, 0, 1, 1]}]}, "no label 'cow'"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(tmp_path: Path, record: Any, said: str) -> None:
    folder = listing(tmp_path, {"file": "a.png", "label": "cat"}, record)
    with pytest.raises(InputError, match=rf"labels\.jsonl, line 2: (?s:.*){said}"):
        read_samples(folder, labels=["cat", "dog"])


def test_broken_listings_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lists no samples"):
        read_samples(listing(tmp_path, ""))
    (tmp_path / "labels.jsonl").write_bytes(b'{"text": "\xff"}')
    with pytest.raises(InputError, match="UTF-8"):
        read_samples(tmp_path)
    listing(tmp_path, {"file": "a.png"})
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"line 1: .*a\.png"):
        read_samples(tmp_path)


def test_labels_that_are_none_of_the_classes_are_refused(animals: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dog: there is no label 'dog'"):
        read_samples(animals, labels=["cat", "cow"])
    assert len(read_samples(animals, labels=["dog", "cat"])) == 6
    for labels in (np.array([0, 2]), np.array([0, -1]), np.array(["cat", "cow"])):
        np.savez(tmp_path / "x.npz", x=np.ones((2, 2)), labels=labels)
        with pytest.raises(InputError, match=r"x\.npz, sample 1: .*label"):
            list(read_samples(tmp_path / "x.npz", labels=["cat", "dog"]))


# --- feeds ------------------------------------------------------------------------------------------------------------

WANTED = Signature((TensorSpec("x", "float32", (1, 8, 9, 3)),), ())


def test_feeds_are_those_of_predict(animals: Path) -> None:
    processing = Processing.named("image-01", WANTED)
    samples = read_samples(animals)
    feeds = list(feeds_of(samples, processing, WANTED))
    assert len(feeds) == 6
    for sample, feed in zip(samples, feeds, strict=True):
        np.testing.assert_array_equal(feed["x"], processing.before(sample.value, WANTED)["x"])
    assert check_feeds(feeds_of(samples, processing, WANTED), WANTED) == 6


def test_a_sample_that_does_not_fit_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((8, 9, 3), np.float32))
    np.save(tmp_path / "b.npy", np.ones((8, 8, 3), np.float32))
    with pytest.raises(InputError, match=r"sample b\.npy: input 'x' wants shape"):
        list(feeds_of(read_samples(tmp_path), Processing.identity(), WANTED))


def test_windows_of_a_sound_are_feeds_of_their_own(tmp_path: Path) -> None:
    processing, wanted = windows("N")
    (tmp_path / "x.wav").write_bytes(wav((np.arange(10)[:, None] * 100).astype("<i2"), 10))
    feeds = list(feeds_of(read_samples(tmp_path), processing, wanted))
    assert [feed["x"].shape for feed in feeds] == [(1, 4)] * 3


def feeds(*values: float, name: str = "x", dtype: str = "float32") -> list[dict[str, np.ndarray]]:
    return [{name: np.full((1, 4), value, dtype)} for value in values]


def test_data_nobody_means_is_refused() -> None:
    wanted = Signature(
        (TensorSpec("x", "float32", (1, 4)), TensorSpec("h", "float32", (1, 4))), (), (StatePair("h", "h_out"),)
    )
    assert check_feeds(feeds(0.0, 0.0, 1.0), wanted) == 3
    assert check_feeds(feeds(0, 0, dtype="int64"), wanted) == 2  # as the segment ids of a text model
    assert check_feeds(feeds(0.0, 0.0, name="h"), wanted) == 2  # state starts at zero
    with pytest.raises(InputError, match=r"'x' is 0\.5 throughout all 2 samples"):
        check_feeds(feeds(0.5, 0.5), wanted)
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(InputError, match="sample 2: input 'x' holds NaN or infinity"):
            check_feeds(feeds(0.0, value), wanted)
    with pytest.raises(InputError, match="no samples"):
        check_feeds([], wanted)


def test_labels_are_json(animals: Path) -> None:
    json.dumps([(sample.name, sample.label) for sample in read_samples(animals)])
