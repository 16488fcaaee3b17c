"""``edgekit report`` as it is typed, and the page as one more form of every other report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Typed

Type = Callable[..., Typed]


def test_the_page_is_written_and_the_summary_is_said(typed: Type, null_bundle: Path, tmp_path: Path) -> None:
    profile, page = tmp_path / "profile.json", tmp_path / "report.html"
    assert typed("profile", null_bundle, "--rounds", 1, "-o", profile, "-q").code == 0
    code, out, err = typed("report", null_bundle, "--profile", profile, "-o", page)
    assert (code, err) == (0, "")
    assert out.startswith("n for host\n\nnull-fp32, the only variant, runs with null")
    assert f"report  {page}" in out
    assert "Not on it, and what adds it" in out
    assert "`edgekit report" in out
    written = page.read_text()
    assert written.startswith("<!DOCTYPE html>\n<html lang=")
    assert written.endswith("</html>\n")
    assert "null-fp32 on null" in written
    again = tmp_path / "again.html"
    assert typed("report", null_bundle, "--profile", profile, "-o", again).code == 0
    assert again.read_text() == written


def test_it_measures_by_itself_unless_told_not_to(typed: Type, null_bundle: Path) -> None:
    assert json.loads(typed("report", null_bundle, "--no-profile", "--json").out)["profile"] is None
    code, out, _ = typed("report", null_bundle, "--json")
    document = json.loads(out)
    assert code == 0
    assert list(document)[:2] == ["schema", "version"]
    assert document["schema"] == "edgekit.report"
    assert [m["variant"] for m in document["profile"]["measurements"]] == ["null-fp32"]


@pytest.mark.parametrize("suffix", [".md", ".txt", ".JSON", ".HTM"])
def test_other_forms_have_the_same_sections(typed: Type, null_bundle: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"report{suffix}"
    assert typed("report", null_bundle, "--no-profile", "-o", path).code == 0
    assert ("What is shipped" in path.read_text()) == (suffix != ".JSON")
    assert path.read_text().startswith({".JSON": "{", ".HTM": "<!DOCTYPE html>"}.get(suffix, ""))


def test_nothing_is_measured_before_it_is_known_where_to(typed: Type, null_bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("mine")
    code, out, err = typed("report", null_bundle, "-o", page)
    assert (code, out) == (3, "")
    assert "--force" in err
    assert page.read_text() == "mine"
    assert typed("report", null_bundle, "--no-profile", "-o", page, "--force").code == 0
    code, out, err = typed("report", null_bundle, "-o", tmp_path / "report.pdf")
    assert (code, out) == (3, "")
    assert "a report is no .pdf file" in err
    assert not (tmp_path / "report.pdf").exists()


@pytest.mark.parametrize(
    "arguments", [("--profile", "p.json", "--no-profile"), ("--evaluation", "e.json", "--data", "mnist")], ids=" ".join
)
def test_what_contradicts_itself_is_wrong_usage(typed: Type, null_bundle: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = typed("report", null_bundle, *arguments)
    assert (code, out) == (2, "")
    assert "give one of them" in err


@pytest.mark.parametrize("option", ["--profile", "--evaluation"])
def test_a_file_of_results_that_is_none_is_an_error_with_a_hint(
    typed: Type, null_bundle: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "other.json").write_text('{"schema": "else"}')
    for name in ("other.json", "no.json"):
        code, _, err = typed(
            "report", null_bundle, option, tmp_path / name, "--json", *["--no-profile"] * (option == "--evaluation")
        )
        assert code == 3
        assert "hint: edgekit" in err


def test_every_report_can_be_a_page(typed: Type, null_bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "profile.html"
    assert typed("profile", null_bundle, "--rounds", 1, "-o", page, "-q").code == 0
    written = page.read_text()
    assert written.startswith("<!DOCTYPE html>")
    assert '<caption class="hidden">Latency of one call' in written
