"""Calibration data of every kind as feeds; and bad data, which never calibrate silently. No model is converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.conversion.calibration import CalibrationData
from edgekit.conversion.offered import read_offered
from edgekit.errors import InputError
from edgekit.processing import Processing
from edgekit.spec import Signature, TensorSpec
from tests.unit.test_processing_media import wav

RNG = np.random.default_rng(3)
PLANAR = Signature((TensorSpec("x", "float32", ("batch", 3, 8, 8)),), ())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    return tmp_path


def gathered(
    data: Any, processing: Processing | str | None = None, signature: Signature = PLANAR, limit: int | None = None
) -> CalibrationData:
    return CalibrationData.gather(signature, None, processing, read_offered(data, limit=limit))


def tensors(count: int = 40) -> list[np.ndarray]:
    return [RNG.normal(0, 1, (3, 8, 8)).astype("f4") for _ in range(count)]


def pictures(folder: Path, count: int = 36) -> None:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype="u1")).save(folder / f"{index:02}.png")


# --- kinds ------------------------------------------------------------------------------------------------------------


def test_values_of_python_are_the_same_data_whatever_holds_them(here: Path) -> None:
    arrays = tensors()
    for index, array in enumerate(arrays):
        np.save(f"{index}.npy", array)
    found = {
        "array": gathered(np.stack(arrays)),
        "list of arrays": gathered(arrays),
        "list of dicts": gathered([{"x": array} for array in arrays]),
        "arrays by name": gathered({"x": np.stack(arrays)}),
        "generator": gathered(array for array in arrays),
        "paths of arrays": gathered([Path(f"{index}.npy") for index in range(len(arrays))]),
    }
    for kind, data in found.items():
        assert data.provenance() == {"sha256": data.identity, "samples": 40}, kind
        assert data.notes == [], kind
        assert len(data.held_out) == 8, kind
        kept = [array for place, array in enumerate(arrays) if place % 5]
        for _ in range(2):
            np.testing.assert_array_equal([feed["x"][0] for feed in data.calibration()], kept, err_msg=kind)
    assert len({data.identity for data in found.values()}) == 1
    assert gathered(arrays[::-1]).identity != found["array"].identity


def test_raw_values_go_through_the_processing(here: Path) -> None:
    pictures(here / "d")
    paths = sorted((here / "d").iterdir())
    opened = (Image.open(path) for path in paths)
    found = [gathered(data, "image-01") for data in (list(map(str, paths)), opened, "d")]
    assert len({data.identity for data in found}) == 1
    feed = found[0].held_out[0]["x"]
    assert feed.shape == (1, 3, 8, 8)
    assert 0 <= feed.min() < feed.max() <= 1


def test_of_what_has_no_end_no_more_is_taken_than_wanted() -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield from tensors(1)

    assert gathered(endless(), limit=12).count == taken == 12


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "holds no samples"),
        (iter(()), "holds no samples"),
        (3, "a int is no calibration data"),
        (b"abc", "a bytes is no calibration data"),
        ({"x": np.ones((3, 3, 8, 8)), "z": np.ones((4, 2))}, "x has 3, z has 4"),
        ({"x": [np.ones(3), np.ones(4)]}, "for 'x' make no array: .*inhomogeneous"),
        (np.float32(3), "one number"),
        ([np.ones((3, 8, 7), "f4")], r"sample 0: input 'x' wants shape"),
        ([(np.ones((3, 8, 8), "f4"), 7)], r"sample 0: input 'x' got a tuple"),
        (["no picture"], r"sample 0: input 'x' got a str.*--processing"),
        ((lambda: None for _ in range(2)), r"sample 0 of .*a function, cannot be kept"),
    ],
)
def test_values_of_python_that_are_no_samples_are_refused(data: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"(?s){said}"):
        gathered(data)


def test_lines_of_a_text_and_a_folder_of_texts(here: Path) -> None:
    texts = [f"line {index} of many" for index in range(40)]
    (here / "lines.txt").write_text("\n\n".join(texts) + "\n")
    for index, text in enumerate(texts):
        (here / "d" / f"{index:02}.txt").write_text(text)
    ids = Signature((TensorSpec("ids", "int64", ("batch", 12)),), ())
    bytewise = Processing({"ids": ({"op": "tokenize_bytes", "length": 12},)})
    found = [gathered(data, bytewise, ids) for data in ("lines.txt", "d", texts)]
    assert [data.count for data in found] == [40] * 3
    assert len({data.identity for data in found}) == 1


def test_sounds_go_through_the_processing(here: Path) -> None:
    steps = ({"op": "decode_wav", "rate_hz": 8000}, {"op": "mono"}, {"op": "resample", "rate_hz": 8000},
             {"op": "pad_or_cut", "length": 192}, {"op": "reshape", "shape": [3, 8, 8]})  # fmt: skip
    for index in range(12):
        (here / "d" / f"{index}.wav").write_bytes(wav(RNG.integers(-9999, 9999, (200, 1)).astype("<i2"), 8000))
    for data in ("d", "random:12"):
        assert gathered(data, Processing({"x": steps})).count == 12


# --- noise ------------------------------------------------------------------------------------------------------------


def test_noise_is_marked_and_other_data_is_not() -> None:
    noise = gathered("random:40")
    assert noise.provenance() == {
        "sha256": noise.identity, "samples": 40, "synthetic": True, "drawn": (noise.provenance() or {})["drawn"]
    }  # fmt: skip
    assert noise.description == "8 samples of noise held out from calibration"
    assert "calibrated on RANDOM numbers" in noise.notes[0]
    assert "synthetic" not in (gathered(tensors()).provenance() or {})


def test_a_folder_named_random_is_told_apart(here: Path) -> None:
    (here / "random").mkdir()
    np.save(here / "random" / "0.npy", tensors(1)[0])
    with pytest.raises(InputError) as caught:
        gathered("random")
    assert caught.value.hint == "./random is the file or folder; random:64 is noise"
    for data in ("./random", Path("random")):
        assert (gathered(data).provenance() or {})["samples"] == 1
    assert (gathered("random:10").provenance() or {})["synthetic"]
    with pytest.raises(InputError, match="does not say how many"):
        gathered("random:many")


# --- bad data ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """Data, and what is to be said of them: an error names the file; what is used all the same has a note."""

    make: Callable[[Path], object]
    error: str = ""
    note: str = ""
    processing: str = ""


def arrays(count: int = 40, **others: Any) -> Callable[[Path], None]:
    """A folder of usual arrays, but for `others` by name."""

    def make(folder: Path) -> None:
        for index, array in enumerate(tensors(count)):
            np.save(folder / f"{index:02}.npy", array)
        for name, other in others.items():
            np.save(folder / f"{name}.npy", other)

    return make


def every(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for index, array in enumerate(tensors()):
            np.save(folder / f"{index:02}.npy", change(array))

    return make


def both(*makers: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for maker in makers:
            maker(folder)

    return make


def with_nan(value: float) -> np.ndarray:
    array = tensors(1)[0]
    array[1, 2, 3] = value
    return array


BAD = {
    "wrong shape": Bad(arrays(odd=np.ones((3, 8, 9), "f4")), error="odd.npy: input 'x' wants shape"),
    "wrong dtype": Bad(arrays(odd=np.full((3, 8, 8), "a")), error="odd.npy: input 'x' wants float32"),
    "complex": Bad(every(lambda a: a.astype("c8")), error="00.npy: input 'x' wants float32"),
    "nan": Bad(arrays(odd=with_nan(np.nan)), error="odd.npy: input 'x' holds NaN or infinity"),
    "infinity": Bad(arrays(odd=with_nan(np.inf)), error="odd.npy: input 'x' holds NaN or infinity"),
    "names of no input": Bad(lambda d: np.savez(d / "odd.npz", q=np.ones((3, 8, 8))), error="odd.npz: values are for"),
    "empty folder": Bad(lambda d: None, error="none of the 0 files"),
    "one corrupt of many": Bad(
        both(arrays(), lambda d: (d / "odd.npy").write_bytes(b"\x93NUMPY")), note="skipped odd.npy:"
    ),
    "all corrupt": Bad(lambda d: [(d / f"{i}.npy").touch() for i in range(3)], error="none of the 3 files"),
    "constant": Bad(every(np.zeros_like), error="input 'x' is 0 throughout all 40 samples"),
    "blank samples": Bad(every(lambda a: np.full_like(a, a[0, 0, 0])), note="one number throughout 40 of 40 samples"),
    "too few": Bad(arrays(3), note="only 3 calibration samples"),
    "all the same": Bad(every(lambda a: np.arange(192, dtype="f4").reshape(3, 8, 8)), note="are one and the same"),
    "too large": Bad(every(lambda a: a * 1e5), note="input 'x' reaches"),
    "hardly varying": Bad(every(lambda a: 1 + a * np.float32(1e-7)), note="input 'x' hardly varies"),
    "pixels not scaled": Bad(every(lambda a: np.rint(np.abs(a) * 50)), note="whole numbers up to"),
    "scaled twice": Bad(
        lambda d: np.savez(d.parent / "d.npz", x=RNG.random((40, 1, 3, 8, 8), "f4") / 255),
        note="and its processing gives 0 to 1",
        processing="image-01",
    ),
    "not scaled": Bad(
        lambda d: np.savez(d.parent / "d.npz", x=RNG.random((40, 1, 3, 8, 8), "f4") * 255),
        note="and its processing gives 0 to 1",
        processing="image-01",
    ),
    "two kinds": Bad(
        both(arrays(), lambda d: pictures(d / "sub", 2)),
        error="arrays (40, the first 00.npy) and images (2, the first sub/00.png)",
    ),
    "a text beside": Bad(both(arrays(), lambda d: (d / "README.txt").write_text("hello")), note="skipped README.txt:"),
    "pictures for a model that takes arrays": Bad(pictures, error="00.png: input 'x' got a"),
    "arrays for a model that takes pictures": Bad(arrays(), error="00.npy: ", processing="image-01"),
    "a text that is none": Bad(lambda d: (d / "a.txt").write_bytes(b"\xff\xfe\x00"), error="a.txt"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_an_error_or_a_note_by_name(here: Path, name: str) -> None:
    bad = BAD[name]
    (here / "d" / "sub").mkdir(exist_ok=True)
    bad.make(here / "d")
    data = "d.npz" if (here / "d.npz").exists() else "d"
    if bad.error:
        with pytest.raises(InputError) as caught:
            gathered(data, bad.processing or None)
        assert bad.error in str(caught.value)
    else:
        found = gathered(data, bad.processing or None)
        assert found.samples is not None
        skipped = [f"skipped {path}: {why}" for path, why in found.samples.skipped]
        assert any(bad.note in line for line in [*found.notes, *skipped]), found.notes
