"""Data sets: one's own, checked; the named ones, whole, the same every time, and true."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.datasets import Dataset, DatasetRecipe, hum, languages, open_dataset, prose, tones, words, write_dataset
from edgekit.datasets import edges2shapes as pairs
from edgekit.datasets.drawing import KINDS, Shape, place_shapes
from edgekit.datasets.files import stratified
from edgekit.datasets.scenes import SIDE, draw_scene
from edgekit.decoding import read_wav
from edgekit.errors import ArtifactError, InputError, UnavailableError, UnsupportedError
from edgekit.packages import PackageFile, package_file
from edgekit.registry import DATASETS
from tests import assets

COUNTS = {
    "mnist": (3800, 200, 1000),
    "digits": (1337, 100, 360),
    "mnist-photo": (3800, 200, 1000),
    "breast-cancer": (427, None, 142),
    "wine": (134, None, 44),
    "japanese-vowels": (270, None, 370),
    "scenes": (1200, 64, 300),
    "scenes-masks": (1200, 64, 300),
    "edges2shapes": (1000, 64, 200),
    "tones": (200, 20, 40),
    "hum": (128, 16, 80),
    "words": (1300, 72, 288),
    "languages": (1702, 132, 360),
    "prose": (2633, 168, 382),
}
"""Samples for training, calibration and test; None where training data serves as calibration data."""


def content(folder: Path) -> dict[str, str]:
    """Hash of every file by its name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


# --- the named ones ---------------------------------------------------------------------------------------------------


def test_every_named_one_has_its_counts_here() -> None:
    assert DATASETS.names() == list(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_it_is_what_its_recipe_says(name: str) -> None:
    dataset: Dataset = assets.dataset(name)
    recipe: DatasetRecipe = DATASETS.get(name)
    assert (dataset.name, dataset.task, dataset.labels) == (name, recipe.task, recipe.labels)
    assert (dataset.license, dataset.seed) == (recipe.license, 0)
    assert dataset.source.startswith(recipe.source)
    assert recipe.title
    train, calibration, test = COUNTS[name]
    assert len(dataset.samples("train")) == train
    assert len(dataset.samples("test")) == test
    assert len(dataset.samples("calibration")) == (calibration or train)
    assert ("calibration" in dataset.splits) == (calibration is not None)
    size_bytes = sum(path.stat().st_size for path in dataset.folder.rglob("*") if path.is_file())
    assert size_bytes < 30e6


@pytest.mark.parametrize("name", COUNTS)
def test_no_sample_is_in_two_splits(name: str) -> None:
    dataset: Dataset = assets.dataset(name)
    seen: dict[str, str] = {}
    for split in dataset.splits:
        for sample in dataset.samples(split):
            value = sample.value
            if isinstance(value, dict):
                (value,) = value.values()
            data = value.read_bytes() if isinstance(value, Path) else repr(np.asarray(value).tolist()).lower().encode()
            key = hashlib.sha256(data).hexdigest()
            assert seen.setdefault(key, split) == split, sample.name


@pytest.mark.parametrize("name", ["mnist", "wine", "tones", "languages"])
def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(name: str, tmp_path: Path) -> None:
    dataset: Dataset = assets.dataset(name)
    again = write_dataset(name, tmp_path / "again")
    assert content(again.folder) == content(dataset.folder), "raise the recipe's version when what it writes changes"
    if name != "mnist":
        other = write_dataset(name, tmp_path / "other", seed=1)
        assert other.seed == 1
        whole, changed = content(again.folder), content(other.folder)
        assert [file for file in whole if file.startswith("test") and changed.get(file) != whole[file]]


def test_every_class_has_its_share_in_each_split() -> None:
    for name in ("mnist", "digits", "mnist-photo", "wine", "breast-cancer"):
        dataset: Dataset = assets.dataset(name)
        counts = {split: Counter(s.label for s in dataset.samples(split)) for split in dataset.splits}
        whole = sum(counts.values(), Counter())
        for count in counts.values():
            for label in dataset.labels:
                share = whole[label] / whole.total() * count.total()
                assert abs(count[label] - share) <= 2, (name, label)


def test_stratified_parts_are_disjoint_and_whole() -> None:
    classes = np.array([0] * 70 + [1] * 30)
    parts = stratified(classes, {"train": 0, "calibration": 10, "test": 20}, seed=3)
    assert {name: len(part) for name, part in parts.items()} == {"calibration": 10, "test": 20, "train": 70}
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(100))
    assert [int((classes[parts[name]] == 1).sum()) for name in ("calibration", "test", "train")] == [3, 6, 21]


def test_mnist_is_the_digits_of_the_package() -> None:
    dataset: Dataset = assets.dataset("mnist")
    sample = next(iter(dataset.samples("train")))
    assert pixels(sample.value).shape == (28, 28)
    assert pixels(sample.value).dtype == np.uint8
    colored = next(iter(assets.dataset("mnist-photo").samples("test")))
    assert pixels(colored.value).shape == (32, 32, 3)
    small = [pixels(sample.value) for sample in assets.dataset("digits").samples("test", limit=20)]
    assert small[0].shape == (8, 8)
    assert max(picture.max() for picture in small) == 255


def test_tables_and_sequences_are_what_their_packages_hold() -> None:
    samples = list(assets.dataset("wine").samples("test"))
    (file,) = DATASETS.get("wine").needs
    with package_file(file).open(encoding="utf-8") as lines:
        table = list(csv.reader(lines))
    names = table[0][2:]
    rows = {np.array(row[:-1], np.float32).tobytes(): names[int(row[-1])] for row in table[1:]}
    assert all(rows[sample.value["features"].tobytes()] == sample.label for sample in samples)
    sequence = next(iter(assets.dataset("japanese-vowels").samples("train")))
    assert sequence.label == "1"
    assert sequence.value["sequence"].shape == (25, 12)
    np.testing.assert_allclose(sequence.value["sequence"][:2, 0], [1.860936, 1.906684], rtol=1e-6)
    np.testing.assert_allclose(sequence.value["sequence"][0, 1], -0.207383, rtol=1e-6)


# --- drawn scenes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_boxes_enclose_what_the_mask_has(seed: int) -> None:
    picture, mask, boxes = draw_scene(np.random.default_rng(seed))
    assert picture.shape == (SIDE, SIDE, 3)
    assert 1 <= len(boxes) <= 4
    claimed = np.zeros_like(mask, bool)
    for box in boxes:
        x0, y0, x1, y1 = (round(value * SIDE) for value in box["box"])
        inside = mask[y0:y1, x0:x1] == KINDS.index(box["label"]) + 1
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.any()
        claimed[y0:y1, x0:x1] |= inside
    np.testing.assert_array_equal(claimed, mask > 0)
    again = draw_scene(np.random.default_rng(seed))
    np.testing.assert_array_equal(picture, again[0])


def test_shapes_are_of_the_size_they_say_and_do_not_touch() -> None:
    """Areas of the regular polygon in a circle of radius r: n / 2 r^2 sin(2 pi / n)."""
    for kind, area in (("circle", np.pi), ("square", 2.0), ("triangle", 0.75 * 3**0.5)):
        inside = Shape(kind, 50.0, 48.0, 30.0, 0.7).distance(96) < 0
        assert inside.sum() == pytest.approx(area * 900, rel=0.01)
        rows, columns = np.nonzero(inside)
        assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((50, 48), abs=0.3)
    for seed in range(50):
        shapes = place_shapes(np.random.default_rng(seed), 96, 4, (9, 24), gap=2)
        masks = [shape.distance(96) < 0 for shape in shapes]
        assert sum(mask.astype(int) for mask in masks).max() == 1
        for shape in shapes:
            assert shape.radius <= min(shape.x, shape.y)
            assert max(shape.x, shape.y) <= 96 - shape.radius


def test_scenes_and_masks_are_the_same_pictures() -> None:
    boxes, masks = (list(assets.dataset(name).samples("test", limit=10)) for name in ("scenes", "scenes-masks"))
    for one, other in zip(boxes, masks, strict=True):
        np.testing.assert_array_equal(pixels(one.value), pixels(other.value))
        np.testing.assert_array_equal(pixels(one.truth["mask"]), pixels(other.truth["mask"]))
        found = {KINDS[index - 1] for index in np.unique(pixels(one.truth["mask"])) if index}
        assert found == {box["label"] for box in one.truth["boxes"]}
        assert other.truth.keys() == {"mask"}


def test_what_a_line_drawing_stands_for_follows_from_it() -> None:
    """Each kind has its color, where and however it is drawn; and the lines are its border."""
    for seed in range(10):
        lines, picture = pairs.draw_pair(np.random.default_rng(seed))
        shapes = place_shapes(np.random.default_rng(seed), pairs.SIDE, 3, pairs.RADII, gap=6)
        for shape in shapes:
            distance = shape.distance(pairs.SIDE)
            rim = picture[(distance < -1) & (distance > -3)].mean(axis=0)
            assert rim.argmax() == {"circle": 0, "square": 2, "triangle": 1}[shape.kind]
            assert lines[np.abs(distance) < 0.2].max(initial=0) < 128
        assert (lines == lines[..., :1]).all()
        far = np.min([shape.distance(pairs.SIDE) for shape in shapes], axis=0) > 12
        assert (picture[far] == [237, 230, 209]).all()


# --- sound and text ---------------------------------------------------------------------------------------------------


def test_sounds_have_the_rate_and_length_they_should() -> None:
    for name, rate_hz, seconds in (("tones", tones.RATE_HZ, 1), ("hum", hum.RATE_HZ, 2), ("words", words.RATE_HZ, 1)):
        for sample in assets.dataset(name).samples("test", limit=10):
            audio = read_wav(sample.value)
            assert (audio.rate_hz, audio.samples.shape) == (rate_hz, (rate_hz * seconds, 1))
            assert 0.001 < np.abs(audio.samples).max() <= 1
    for draw in (tones.draw_tune, hum.draw_hum):
        np.testing.assert_array_equal(draw(np.random.default_rng(5)), draw(np.random.default_rng(5)))


def test_damage_adds_what_it_says() -> None:
    """Of severe damage: power around where the ringing is, beside the gear's tone, and where there is hiss."""
    power: dict[str, np.ndarray] = {}
    for damage in ("", *hum.DAMAGES):
        draws = [hum.draw_hum(np.random.default_rng((7, seed)), damage) for seed in range(6)]
        power[damage] = np.mean([np.abs(np.fft.rfft(draw / draw.std())) ** 2 for draw in draws], axis=0)
    frequency = np.fft.rfftfreq(hum.RATE_HZ * hum.SECONDS, 1 / hum.RATE_HZ)
    for damage, low, high in (("bearing", 2900, 3300), ("rub", 6000, 8000)):
        band = (frequency > low) & (frequency < high)
        assert power[damage][band].sum() > 1.2 * power[""][band].sum()
    assert np.abs(np.log(power["gear"][700:900].sum() / power[""][700:900].sum())) > 0.05
    assert np.abs(hum.draw_hum(np.random.default_rng(0))).max() < 1


def test_who_speaks_in_the_test_speaks_nowhere_else() -> None:
    speakers = {split: {voice.split("+")[1] for voice in voices} for split, voices in words.VOICES.items()}
    assert not speakers["train"] & speakers["test"]
    counts = Counter(sample.label for sample in assets.dataset("words").samples("test"))
    assert counts == dict.fromkeys(words.LABELS, 24)
    assert "eSpeak NG" in assets.dataset("words").source


def test_without_the_speaker_the_hint_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError) as caught:
        write_dataset("words", tmp_path / "words")
    assert caught.value.hint == "apt-get install espeak-ng"
    assert not (tmp_path / "words").exists()


def test_catalogs_are_read_without_what_is_doubtful_or_obsolete() -> None:
    catalog = """
msgid ""
msgstr "Language: de\\n"

#, python-format
msgctxt "button"
msgid "one %(name)s"
msgid_plural "many %(name)s"
msgstr[0] "ein "
"\\"%(name)s\\""
msgstr[1] "viele %(name)s"

#, fuzzy
msgid "maybe"
msgstr "vielleicht"

#~ msgid "old"
#~ msgstr "alt"

msgid "open"
msgstr ""
"""
    (message,) = languages.read_catalog(catalog)
    assert (message.english, message.translated) == ("one %(name)s", 'ein "%(name)s"')


def test_messages_have_neither_placeholders_nor_markup() -> None:
    texts = [sample.value for sample in assets.dataset("languages").samples("train")]
    assert not [text for text in texts if "%(" in text or "</" in text or "\n" in text]


def test_texts_are_whole_messages_until_they_are_long_enough() -> None:
    messages = ["a" * 30, "b" * 20, "c" * 30, "d" * 70, "left out"]
    assert list(languages._joined(messages)) == [". ".join(messages[:3]), messages[3]]
    for split in ("train", "calibration", "test"):
        samples = assets.dataset("languages").samples(split)
        assert all(60 <= len(each.value) <= 59 + len(". ") + 120 for each in samples)
        shares = [sum(each.label == label for each in samples) / len(samples) for label in languages.LABELS]
        assert all(0.05 < share < 0.12 for share in shares), shares


def test_paragraphs_are_the_plain_sentences_of_docstrings() -> None:
    code = '''
def f(x):
    """Give the value of `x` as it was before anybody had touched it.

    Parameters
    ----------
    x : float
        The value that is given back, which may be any number there is,
        however large.

    References
    ----------
    A. Nobody, Journal of a Paper That Was Never Written by Anyone at All, 1998.

    >>> f(3)
    """
'''
    assert list(prose.paragraphs(code)) == [
        "Give the value of x as it was before anybody had touched it.",
        "The value that is given back, which may be any number there is, however large.",
    ]


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_named_one_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    said: list[str] = []
    first = open_dataset("tones", say=said.append)
    assert said == ["writing the data set tones"]
    assert open_dataset("tones", say=said.append) == first
    assert len(said) == 1
    assert first.folder.is_relative_to(tmp_path)


def test_two_processes_may_write_the_same_one_at_once(tmp_path: Path) -> None:
    code = "from edgekit.datasets import open_dataset; print(len(open_dataset('tones').samples('train')))"
    environment = {"EDGEKIT_CACHE": str(tmp_path), "PATH": ""}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    for run in runs:
        answer, errors = run.communicate(timeout=120)
        assert (answer.strip(), errors) == ("200", "")
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["tones-1"]


def test_writing_replaces_a_data_set_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "tones"
    written = write_dataset("tones", folder)
    assert written.folder == folder
    with pytest.raises(InputError, match="exists already"):
        write_dataset("tones", folder)
    before = content(folder)
    (folder / "more.txt").touch()
    write_dataset("tones", folder, force=True)
    assert content(folder) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(InputError, match="is not a data set"):
        write_dataset("tones", tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "letter.txt").exists()
    with pytest.raises(UnsupportedError, match="no data set named 'tunes'"):
        write_dataset("tunes", tmp_path / "x")


def test_a_recipe_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, seed: int) -> None:
        (folder / "half").touch()
        raise ArtifactError("broken")

    recipe = DatasetRecipe("tones", "", "", "", "", fail)
    monkeypatch.setitem(DATASETS._loaded, "tones", recipe)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ArtifactError, match="broken"):
        open_dataset("tones")
    with pytest.raises(ArtifactError, match="broken"):
        write_dataset("tones", tmp_path / "tones")
    assert [path.name for path in tmp_path.rglob("*")] == ["cache", "datasets"]
    missing = PackageFile("no-such-package", "1.0", "x", "0" * 64)
    monkeypatch.setitem(DATASETS._loaded, "tones", DatasetRecipe("tones", "", "", "", "", fail, needs=(missing,)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UnavailableError, match="no-such-package"):
        open_dataset("tones")


# --- one's own --------------------------------------------------------------------------------------------------------


def own(folder: Path, text: str) -> Path:
    """A data set of two pictures a split, described by `text`."""
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4)).save(folder / split / label / "x.png")
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")
    return folder


WHOLE = "train: train\ntest: test\nlabels: [cat, dog]\n"


def test_ones_own_needs_three_keys(tmp_path: Path) -> None:
    folder = own(tmp_path / "pets", WHOLE)
    for source in (folder, str(folder), folder / "dataset.yaml"):
        dataset = open_dataset(source)
        assert (dataset.name, dataset.folder, dataset.labels) == ("pets", folder, ("cat", "dog"))
        assert (dataset.task, dataset.license, dataset.source, dataset.seed) == ("", "", "", None)
        assert dataset.splits == {"train": folder / "train", "test": folder / "test"}
    assert [sample.label for sample in dataset.samples("test")] == ["cat", "dog"]
    assert dataset.samples("calibration").path == folder / "train"
    assert len(dataset.samples("train", limit=1, seed=3)) == 1
    with pytest.raises(InputError, match=r"no split 'tets'.*did you mean 'test'"):
        dataset.samples("tets")
    assert open_dataset(own(folder, WHOLE.replace("cat, dog", "0, 1"))).labels == ("0", "1")
    assert open_dataset(own(folder, WHOLE.replace("[cat, dog]", "[]"))).labels == ()


def test_a_path_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own(tmp_path / "tones", WHOLE)
    assert open_dataset(Path("tones")).labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no keys"),
        ("- a\n", "has no keys"),
        ("a: [", "cannot be read"),
        (f"{WHOLE}tran: x\n", "unknown key 'tran'.*did you mean 'train'"),
        (f"{WHOLE}3: x\n", "unknown key 3"),
        (f"{WHOLE}schema: other\n", "'other'"),
        (f"{WHOLE}version: 2\n", "version 2"),
        (f"{WHOLE}seed: x\n", "seed is 'x'"),
        (f"{WHOLE}name: 3\n", "name is 3"),
        ("labels: []\n", "has no train, test"),
        ("train: train\ntest: test\n", "has no labels"),
        (WHOLE.replace("test: test", "test: tset"), "there is no .*tset"),
        (WHOLE.replace("test: test", "test: [test]"), "not a text"),
        (WHOLE.replace("[cat, dog]", "cat"), "not a list"),
        (WHOLE.replace("[cat, dog]", "[yes, no]"), 'True is not a text.*"yes"'),
        (WHOLE.replace("[cat, dog]", "[cat, cat]"), "cat more than once"),
    ],
)
def test_a_wrong_description_is_an_input_error(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"dataset\.yaml(?s:.*){said}"):
        open_dataset(own(tmp_path, text))


def test_what_is_no_data_set_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data set 'mnits'.*did you mean 'mnist'"):
        open_dataset("mnits")
    with pytest.raises(InputError, match=r"has no dataset\.yaml"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match=r"there is no .*x\.yaml"):
        open_dataset(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="cannot be read"):
        open_dataset(tmp_path / "x.yaml")


def test_without_yaml_the_hint_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UnavailableError, match=r"edgekit-ml\[models\]"):
        open_dataset(own(tmp_path, WHOLE))


def test_labels_in_a_description_are_quoted(tmp_path: Path) -> None:
    """Else YAML makes truth values of the words yes, no, on and off."""
    text = (assets.dataset("words").folder / "dataset.yaml").read_text(encoding="utf-8")
    line: Any = next(line for line in text.splitlines() if line.startswith("labels: "))
    assert json.loads(line.removeprefix("labels: ")) == list(words.LABELS)
