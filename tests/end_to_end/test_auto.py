"""`--max-drop` from the command line: a recipe searched for on real files, told in the bundle, and remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import edgekit
from edgekit.cli.group import GROUP
from edgekit.errors import ArtifactError, InputError

WORDS = ["convert", "resnet:tiny", "--target", "generic-x86", "--format", "onnx", "--precision", "int8"]


def run(*words: str) -> Result:
    return CliRunner().invoke(GROUP, list(words), prog_name="edgekit", catch_exceptions=False)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgekit.conversion.wish.cache_folder", lambda: folder / "cache")
        return folder, run(*WORDS, "--max-drop", "0.5", "-o", str(folder / "net.edge"), "--json")


def test_the_file_keeps_what_was_asked_for_and_says_what_it_is(searched: tuple[Path, Result]) -> None:
    folder, result = searched
    assert result.exit_code == 0, result.output
    (variant,) = json.loads(result.stdout)["variants"]
    assert (variant["recipe"], variant["precision"], variant["status"]) == ("auto", "w8a8", "written")
    assert variant["accuracy"]["source_value"] - variant["accuracy"]["value"] <= 0.005 + 1e-9
    assert variant["int8_macs_share"] > 0.9
    bundle = edgekit.Bundle.open(folder / "net.edge")
    found = bundle.provenance["searches"]["onnx-auto"]
    assert found["trials"][-1]["outcome"]["value"] >= found["trials"][-1]["outcome"]["source_value"] - 0.005
    assert bundle.variants[0].facts["recipe"]["precision"] == "w8a8"


def test_layers_are_shown_with_their_share(searched: tuple[Path, Result]) -> None:
    folder, _ = searched
    shown = run("inspect", str(folder / "net.edge"), "--layers")
    assert shown.exit_code == 0
    assert "onnx-auto" in shown.stdout
    layers = edgekit.inspect(folder / "net.edge").required_layers()
    assert sum(layer["macs_share"] or 0 for layer in layers) == pytest.approx(1, abs=1e-3)
    assert all(layer["plans"]["onnx-auto"]["precision"] == "w8a8" for layer in layers if layer["op_type"] == "Conv")


def test_trials_of_before_are_not_made_again(searched: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = searched
    monkeypatch.setattr("edgekit.conversion.wish.cache_folder", lambda: folder / "cache")
    (journal,) = (folder / "cache" / "searches").iterdir()
    before = journal.read_bytes()
    again = run(*WORDS, "--max-drop", "0.5", "-o", str(folder / "again.edge"), "--json")
    assert again.exit_code == 0
    assert journal.read_bytes() == before, "no trial was added"
    assert (folder / "again.edge" / "edgekit.json").read_bytes() == (folder / "net.edge" / "edgekit.json").read_bytes()


def test_words_of_a_search_without_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--max-drop is for int8"):
        edgekit.convert("resnet:tiny", tmp_path / "net.edge", precision="fp32", max_drop=1)
    with pytest.raises(InputError, match="no percentage"):
        edgekit.convert("resnet:tiny", tmp_path / "net.edge", target="web", precision="int8", max_drop="half")
    assert not (tmp_path / "net.edge").exists()


def test_a_bundle_of_floats_says_nothing_of_layers(tmp_path: Path) -> None:
    edgekit.convert("feed-forward:tiny", tmp_path / "net.edge", target="generic-x86", format="onnx")
    with pytest.raises(ArtifactError, match="says nothing of its layers"):
        run("inspect", str(tmp_path / "net.edge"), "--layers")
