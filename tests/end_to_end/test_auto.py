"""`--max-drop` from the command line: a recipe searched for on real files, told in the bundle, and remembered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from click.testing import CliRunner, Result

import edgekit
from edgekit.cli.group import GROUP
from edgekit.errors import ArtifactError, InputError
from tests.unit.networks import from_text

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


# --- a bar nobody reaches, and a search that is killed ----------------------------------------------------------------


@dataclass(frozen=True)
class Unmet:
    """A conversion of a dense net whose integers are asked for 90 dB, typed in a folder with a cache of its own."""

    folder: Path

    def words(self, *more: str) -> list[str]:
        words = ["convert", str(self.folder / "net.onnx"), "--calibration-data", str(self.folder / "x.npy")]
        words += ["--processing", "none", "--target", "generic-x86", "--format", "onnx", "--precision", "fp32,int8"]
        return [
            sys.executable,
            "-m",
            "edgekit",
            *words,
            *(more or ("--min-sqnr", "90")),
            "-o",
            str(self.folder / "net.edge"),
        ]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "EDGEKIT_CACHE": str(self.folder / "cache")}

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.words(*more), env=self.environment(), capture_output=True, text=True)

    @property
    def trials(self) -> list[dict[str, Any]]:
        """Those in the journal, but for a line that is being written."""
        whole = b"".join(p.read_bytes() for p in self.folder.glob("cache/searches/*.jsonl")).rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    @classmethod
    def of(cls, folder: Path) -> Unmet:
        rng = np.random.default_rng(4)
        body = "a = Gemm(x, w, b) r = Relu(a) c = Gemm(r, v) s = Relu(c) y = Gemm(s, u)"
        shapes = {"w": (24, 96), "b": (96,), "v": (96, 96), "u": (96, 8)}
        weights = {name: rng.normal(0, 0.2, shape).astype("float32") for name, shape in shapes.items()}
        ir.save(from_text(body, inputs="float[1,24] x", outputs="float[1,8] y", **weights), folder / "net.onnx")
        np.save(folder / "x.npy", rng.normal(0, 1, (40, 24)).astype("float32"))
        return cls(folder)


@pytest.fixture(scope="module")
def unmet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Unmet, subprocess.CompletedProcess[str]]:
    conversion = Unmet.of(tmp_path_factory.mktemp("unmet"))
    return conversion, conversion.run()


def test_a_bar_nobody_reaches_is_answered_by_1_and_what_is_in_the_way(
    unmet: tuple[Unmet, subprocess.CompletedProcess[str]],
) -> None:
    conversion, done = unmet
    assert done.returncode == 1, done.stderr
    assert "no file could be made in auto" in done.stderr
    assert "nearest is " in done.stdout
    assert "dB against the source, and 90 dB are wanted" in done.stdout
    assert "most sensitive: " in done.stdout
    bundle = edgekit.Bundle.open(conversion.folder / "net.edge")
    bundle.verify()
    assert [artifact.name for artifact in bundle.variants] == ["onnx-fp32"]
    found = bundle.provenance["searches"]["onnx-auto"]
    assert found["recipe"] is None
    assert found["in_the_way"][0].startswith("nearest is ")
    assert len(found["trials"]) == len(conversion.trials) > 4
    assert found["budget"] == {"max_trials": 32, "max_seconds": 900.0}


def test_the_cost_is_said_before_the_first_trial(unmet: tuple[Unmet, subprocess.CompletedProcess[str]]) -> None:
    lines = unmet[1].stderr.splitlines()
    (cost,) = (number for number, line in enumerate(lines) if "at most 32 files are tried" in line)
    first = next(number for number, line in enumerate(lines) if "trial 1, " in line)
    assert next(number for number, line in enumerate(lines) if "onnx-fp32: " in line) < cost < first
    assert "of them known from before" not in lines[cost]


def test_a_search_that_was_killed_goes_on_where_it_was(
    unmet: tuple[Unmet, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    killed = Unmet.of(tmp_path)
    with subprocess.Popen(
        killed.words(), env=killed.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        while len(killed.trials) < 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "net.edge").exists()
    before = killed.trials
    whole = unmet[0].trials
    assert before == whole[: len(before)]
    assert len(before) < len(whole)
    again = killed.run()
    assert again.returncode == 1, again.stderr
    assert f"{len(before)} of them known from before" in again.stderr
    assert sum(f"trial {number}, " in again.stderr for number in range(1, 99)) == len(whole) - len(before)
    assert killed.trials == whole
    found, wanted = (edgekit.Bundle.open(one.folder / "net.edge").provenance for one in (killed, unmet[0]))
    assert found["searches"] == wanted["searches"]


def test_decibels_and_agreement_are_asked_for_together(unmet: tuple[Unmet, subprocess.CompletedProcess[str]]) -> None:
    data = str(unmet[0].folder / "x.npy")
    asked = ("--eval-data", data, "--metric", "agreement", "--max-drop", "5", "--min-sqnr", "37", "--force", "--json")
    done = unmet[0].run(*asked)
    assert done.returncode == 0, done.stderr
    variant = next(one for one in json.loads(done.stdout)["variants"] if one["recipe"] == "auto")
    assert variant["parity"]["sqnr_db"] >= 37
    assert variant["estimate"]["trials"] == 32
    trials = edgekit.Bundle.open(unmet[0].folder / "net.edge").provenance["searches"]["onnx-auto"]["trials"]
    failed, held = trials[0]["outcome"], trials[-1]["outcome"]
    assert failed["agreement"] >= 0.95, "agreement alone would have been content with it"
    assert failed["sqnr_db"] < 37
    assert held["agreement"] >= 0.95


def test_a_drop_of_5_percent_is_what_a_model_by_name_is_held_to(tmp_path: Path) -> None:
    options: dict[str, Any] = {"target": "generic-x86", "format": "onnx", "precision": "int8"}
    report = edgekit.convert("feed-forward:tiny", tmp_path / "net.edge", min_sqnr_db=25, max_drop=5, **options)
    (variant,) = report.variants
    assert variant.accuracy is not None
    assert variant.accuracy.allowed == pytest.approx(0.05)
    assert variant.parity is not None
    assert variant.parity["sqnr_db"] >= 25


# --- formats of one recipe that are not alike -------------------------------------------------------------------------


def test_a_format_that_is_behind_another_is_explained_by_its_plan(tmp_path: Path) -> None:
    """TFLite's product gives integers, and a rare large output makes their steps wide; ONNX Runtime's gives floats."""
    rng = np.random.default_rng(6)
    weight = rng.normal(0, 0.1, (96, 64)).astype("float32")
    samples = rng.uniform(-1, 1, (48, 96)).astype("float32")
    samples[::16] = np.sign(weight[:, :3].T)
    model = from_text("y = MatMul(x, w)", inputs="float[1,96] x", outputs="float[1,64] y", w=weight)
    ir.save(model, tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", samples)
    words = [
        "convert",
        str(tmp_path / "net.onnx"),
        "--calibration-data",
        str(tmp_path / "x.npy"),
        "--processing",
        "none",
    ]
    words += [
        "--target",
        "generic-x86",
        "--format",
        "tflite,onnx",
        "--precision",
        "w8a8",
        "-o",
        str(tmp_path / "n.edge"),
    ]
    shown = run(*words)
    assert shown.exit_code == 0, shown.output
    explained = shown.stdout.partition("More than 1 dB behind another format of the recipe")[2]
    assert explained.lstrip().startswith("- tflite w8a8: ")
    assert "1 tensor rounded here and float in onnx-w8a8: y" in " ".join(explained.split())
    bundle = edgekit.Bundle.open(tmp_path / "n.edge")
    assert list(bundle.provenance["apart"]) == ["tflite-w8a8"]
    found = {artifact.name: artifact.facts["parity"]["sqnr_db"] for artifact in bundle.variants}
    assert found["onnx-w8a8"] > found["tflite-w8a8"] + 1
    head, *reasons = bundle.provenance["apart"]["tflite-w8a8"]
    assert head.startswith(f"{found['tflite-w8a8']:.1f} dB against the source, where onnx-w8a8 has ")
    assert reasons == ["1 tensor rounded here and float in onnx-w8a8: y"]
