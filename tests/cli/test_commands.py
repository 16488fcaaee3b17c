"""Every command on a bundle of the null engine: answers on stdout, exit codes, JSON, overwriting."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli import run
from edgekit.cli.group import ALIASES, COMMANDS, GROUP
from edgekit.errors import ConversionError
from tests.cli.conftest import Typed, write_bundle

Type = Callable[..., Typed]


def test_inspect_shows_signature_and_variants(typed: Type, null_bundle: Path) -> None:
    code, out, err = typed("inspect", null_bundle)
    assert (code, err) == (0, "")
    assert "x       float32  1x4" in out
    assert "null-fp32" in out


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        (("inspect", "BUNDLE"), "edgekit.inspection"),
        (("verify", "BUNDLE", "--runtime", "null"), "edgekit.verification"),
        (("profile", "BUNDLE", "--rounds", "1"), "edgekit.profile"),
        (("compare", "BUNDLE", "BUNDLE", "--no-latency"), "edgekit.comparison"),
        (("predict", "BUNDLE", "INPUT"), "edgekit.prediction"),
        (("list", "targets"), "edgekit.list"),
        (("list", "runtimes"), "edgekit.list"),
        (("list", "recipes"), "edgekit.list"),
        (("list", "models"), "edgekit.list"),
        (("list", "ops"), "edgekit.list"),
        (("doctor",), "edgekit.diagnosis"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_json_is_one_document_and_nothing_else(
    typed: Type, null_bundle: Path, tmp_path: Path, arguments: tuple[str, ...], schema: str
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 4), "float32"))
    places = {"BUNDLE": null_bundle, "INPUT": tmp_path / "x.npy"}
    code, out, _ = typed(*(places.get(word, word) for word in arguments), "--json")
    document = json.loads(out)
    assert code == 0
    assert list(document)[:2] == ["schema", "version"]
    assert (document["schema"], document["version"]) == (schema, 1)


def test_predict_takes_tensors_by_name_and_says_what_it_used(typed: Type, null_bundle: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), "float32"))
    code, out, _ = typed("predict", null_bundle, tmp_path / "x.npz", "--variant", "null-fp32", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["variant"], found["runtime"]) == ("null-fp32", "null")
    assert found["answers"][0]["answer"] == {"y": [[0.0, 0.0]]}
    assert "float32[1x2] [0., 0.]" in typed("predict", null_bundle, tmp_path / "x.npz").out


def test_verify_answers_no_with_code_one(typed: Type, tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "wrong.edge", answer=1.0, tolerance=0.1)
    code, out, err = typed("verify", path)
    assert code == 1
    assert "did not pass" in out
    assert err == "edgekit: failed: null-fp32 on null\n"


def test_profile_writes_every_form_of_report(typed: Type, null_bundle: Path, tmp_path: Path) -> None:
    for suffix, begins in ((".json", '{\n "schema"'), (".md", "# Profile of"), (".txt", "Profile of")):
        target = tmp_path / f"report{suffix}"
        assert typed("profile", null_bundle, "--rounds", 1, "-o", target, "-q").code == 0
        assert target.read_text().startswith(begins)


def test_profile_refuses_to_overwrite_before_it_measures(typed: Type, null_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.md"
    target.write_text("mine")
    code, out, err = typed("profile", null_bundle, "-o", target)
    assert (code, out) == (3, "")
    assert "--force" in err
    assert target.read_text() == "mine"
    assert typed("profile", null_bundle, "--rounds", 1, "-o", target, "--force").code == 0
    assert target.read_text().startswith("# Profile")
    code, _, err = typed("profile", null_bundle, "-o", tmp_path / "no" / "report.md")
    assert code == 3
    assert "there is no folder" in err


def test_benchmark_is_profile(typed: Type, null_bundle: Path) -> None:
    assert ALIASES["benchmark"] == "profile"
    code, out, _ = typed("benchmark", null_bundle, "--rounds", 1, "--threads", "1,2")
    assert code == 0
    assert out.startswith("Profile of")
    assert "null" in out


def test_profile_says_progress_only_when_asked(typed: Type, null_bundle: Path) -> None:
    assert typed("profile", null_bundle, "--rounds", 1).err == ""
    assert "opening null-fp32 on null" in typed("profile", null_bundle, "--rounds", 1, "-v").err


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "engines"),
        ("list",),
        ("frobnicate",),
        ("inspect",),
        ("inspect", "a", "b"),
        ("inspect", "a", "--no-such-flag"),
        ("predict", "a"),
        ("profile", "a", "--threads", "0"),
        ("profile", "a", "--threads", "two"),
        ("profile", "a", "--runtime", ","),
        ("convert", "a", "--num-samples", "0"),
        ("convert",),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_two_with_nothing_on_stdout(typed: Type, arguments: tuple[str, ...]) -> None:
    code, out, err = typed(*arguments)
    assert (code, out) == (2, "")
    assert "Usage: edgekit" in err


def test_unknown_names_list_the_known_ones(typed: Type, null_bundle: Path) -> None:
    code, _, err = typed("profile", null_bundle, "--runtime", "tflight")
    assert code == 4
    assert err.splitlines()[0] == "edgekit: error: there is no runtime named 'tflight'"
    assert err.splitlines()[1].startswith("hint: known: tflite, onnx, openvino")


def _break(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*arguments: object, **options: object) -> Any:
        raise error

    monkeypatch.setattr("edgekit.inspection.inspect", fail)


def test_a_bug_is_one_line_and_70_and_debug_shows_where(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch, KeyError("oops\nmore"))
    code, out, err = typed("inspect", "x.edge")
    assert (code, out) == (70, "")
    assert err == "edgekit: this is a bug in edgekit: KeyError: 'oops\\nmore'; --debug shows where\n"
    for arguments in (("--debug", "inspect", "x.edge"), ("inspect", "x.edge", "--debug")):
        code, _, err = typed(*arguments)
        assert code == 70
        assert "Traceback" in err


def test_interrupted_is_130(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch, KeyboardInterrupt())
    assert typed("inspect", "x.edge")[:2] == (130, "")


def test_what_the_vendor_said_is_told_when_asked(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    _break(monkeypatch, ConversionError("it crashed\nbadly", step="a -> b", vendor_message="line 1\nline 2\n"))
    code, out, err = typed("inspect", "x.edge")
    assert (code, out) == (6, "")
    assert err.splitlines() == [
        "edgekit: error: a -> b: it crashed badly",
        "hint: -v shows what the vendor's tool said",
    ]
    assert typed("inspect", "x.edge", "-v").err.startswith("line 1\nline 2\nedgekit: error: a -> b: it crashed badly\n")


def test_every_command_of_the_table_is_there_and_has_an_example() -> None:
    for name in [*COMMANDS, *ALIASES]:
        command: Any = GROUP.get_command(None, name)  # type: ignore[arg-type]
        assert command.name == ALIASES.get(name, name)
        assert command.example.startswith(f"edgekit {command.name} ") or name == "doctor"
        assert len(command.example) < 110


def test_help_begins_with_the_example(typed: Type) -> None:
    for name in COMMANDS:
        code, out, err = typed(name, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"Example:\n  edgekit {name}")


def test_version(typed: Type) -> None:
    import edgekit

    assert typed("--version") == (0, f"edgekit, version {edgekit.__version__}\n", "")


def test_run_gives_the_code_and_does_not_exit() -> None:
    assert run(["list", "recipes", "-q"]) == 0
