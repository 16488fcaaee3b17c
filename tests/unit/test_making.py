"""Making files without a framework: which weights go in, what the file says of itself, and what is refused."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.about import ABOUT_FILE, read_about
from edgekit.card import find_card
from edgekit.errors import ArtifactError, InputError, UnavailableError, UnsupportedError
from edgekit.family import Family, Hub
from edgekit.making import find_model, make_model
from edgekit.network import starting_weights
from edgekit.weights import read_weights, write_weights
from tests.unit import toy_family

pytest.importorskip("onnx")


@pytest.fixture
def toy() -> Family:
    return toy_family.family()


def test_a_made_file_knows_which_model_it_is(toy: Family, tmp_path: Path) -> None:
    made = make_model(toy, "wide", output=tmp_path / "m.onnx", seed=3)
    about = read_about(made.path)
    assert about is not None
    assert about["model"] == "toy:wide"
    assert about["weights"]["sha256"] == made.weights["sha256"]
    card = find_card(made.path)
    assert card is not None
    assert (card.name, card.labels, card.processing) == ("toy:wide", toy_family.LABELS, toy.processing)


def test_the_same_seed_gives_the_same_bytes(toy: Family, tmp_path: Path) -> None:
    files = [make_model(toy, "wide", output=tmp_path / f"{i}.onnx", seed=i // 2).path for i in range(3)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != files[2].read_bytes()


def test_untrained_weights_are_announced(toy: Family, tmp_path: Path) -> None:
    made = make_model(toy, "wide", output=tmp_path / "m.safetensors", seed=5)
    assert "untrained: starting weights of seed 5" in made.notes[0]
    assert made.weights["is_trained"] is False
    drawn = starting_weights(toy.network("wide"), 5)
    assert all(np.array_equal(drawn[name], array) for name, array in read_weights(made.path).items())


def test_tiny_weights_that_do_not_ship_are_an_error(toy: Family, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="toy-tiny"):
        make_model(toy, output=tmp_path / "m.onnx")


def test_weights_of_another_size_are_refused_by_name(toy: Family, tmp_path: Path) -> None:
    make_model(toy, "wide", output=tmp_path / "wide.safetensors")
    with pytest.raises(ArtifactError, match=r"fc1\.weight is \[16, 4\], not \[8, 4\]"):
        make_model(toy, output=tmp_path / "m.onnx", weights=tmp_path / "wide.safetensors")
    assert not (tmp_path / "m.onnx").exists()


def test_a_file_as_a_hub_names_it_fits(toy: Family, tmp_path: Path) -> None:
    def adapt(given: Any) -> dict[str, np.ndarray]:
        return {name.replace("layer", "fc"): array for name, array in given.items()}

    known = replace(toy, hubs=(Hub("huggingface", "somebody/toy", "wide", "MIT", adapt),))
    drawn = starting_weights(toy.network("wide"), 9)
    write_weights(tmp_path / "theirs.safetensors", {name.replace("fc", "layer"): a for name, a in drawn.items()})
    model = find_model(known, "wide", weights=tmp_path / "theirs.safetensors")
    assert all(np.array_equal(drawn[name], array) for name, array in model.weights.arrays.items())


def test_weights_bring_their_own_classes(toy: Family, tmp_path: Path) -> None:
    labels = ("a", "b", "c", "d")
    network = toy.network("tiny", classes=4)
    facts = {"edgekit": "0", "labels": json.dumps(labels)}
    write_weights(tmp_path / "four.safetensors", starting_weights(network), metadata=facts)
    model = find_model(toy, weights=tmp_path / "four.safetensors")
    assert model.processing.labels == labels
    assert model.network.params["fc2.bias"].shape == (4,)
    assert not model.knows_its_data


@pytest.mark.parametrize("name", ["m.tflite", "m.xml", "m.pb"])
def test_forms_there_are_not(toy: Family, tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedError, match="cannot write a model as") as refused:
        make_model(toy, "wide", output=tmp_path / name)
    assert ".keras" in refused.value.hint


def test_a_form_the_family_has_not(toy: Family, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="toy has no keras form") as refused:
        make_model(replace(toy, frameworks=("onnx",)), "wide", output=tmp_path / "m.keras")
    assert ".onnx" in refused.value.hint


def test_nothing_is_overwritten_unasked(toy: Family, tmp_path: Path) -> None:
    place = tmp_path / "m.onnx"
    make_model(toy, "wide", output=place)
    with pytest.raises(InputError, match="exists already"):
        make_model(toy, "wide", output=place)
    make_model(toy, "wide", output=place, force=True)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="not a SavedModel"):
        make_model(toy, "wide", output=tmp_path / "folder", force=True)


def test_a_hub_the_family_does_not_know(toy: Family, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="knows no weights of size wide at keras"):
        make_model(toy, "wide", output=tmp_path / "m.onnx", weights="keras")


def test_a_hub_without_a_network(toy: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    known = replace(toy, hubs=(Hub("huggingface", "somebody/toy", "wide", "MIT"),))
    with pytest.raises(UnavailableError, match="Hugging Face did not give the weights of 'other/toy'") as refused:
        make_model(known, "wide", output=tmp_path / "m.onnx", weights="huggingface:other/toy")
    assert "--weights FILE" in refused.value.hint


def test_what_a_file_says_of_itself_must_be_sound(toy: Family, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "assets.extra" / ABOUT_FILE).write_text("{}")
    with pytest.raises(ArtifactError, match="does not know"):
        read_about(folder)
    (folder / "assets.extra" / ABOUT_FILE).write_text("{")
    with pytest.raises(ArtifactError, match="not JSON"):
        find_card(folder)


def archive(member: bytes, *, lost: bytes = b"", flipped: bytes = b"") -> bytes:
    """A zip file that says `member` of itself, with some of its bytes lost."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(ABOUT_FILE, member)
    content = bytearray(buffer.getvalue())
    for mark in filter(None, (lost, flipped)):
        content[content.find(mark) + len(mark) - 1] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        archive(b"\xff\xfe"),
        archive(b"{}", lost=b"PK\x01\x02"),
        archive(b"{}" * 9, flipped=ABOUT_FILE.encode() + b"\xab"),
    ],
)
def test_an_archive_that_is_broken_is_an_artifact_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_about(tmp_path / "m.keras")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff" * 40, b"PK\x03\x04 no zip", b"\x72\xff\xff\xff\xff\x0f"),
        *(b"\x0a" + b"\xff" * 9 + b"\x01rest", b"\x0a" + b"\xff" * 8 + b"\x7frest"),
    ],
)
def test_files_of_others_say_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_about(tmp_path / "file") is None
