"""The machinery of batteries: gaps are strict, and a gap for no test stops collection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.testing import Battery, RuntimeContract

CODE = """
import pytest
from edgekit.testing import Battery

class Contract(Battery):
    def test_fails(self): assert False
    def test_passes(self): pass
    @pytest.mark.parametrize("n", [1, 2])
    def test_fails_once(self, n): assert n == 1

class TestThing(Contract):
    gaps = {gaps}
"""


def outcome(tmp_path: Path, gaps: dict[str, str]) -> str:
    (tmp_path / "test_it.py").write_text(CODE.replace("{gaps}", repr(gaps)), encoding="utf-8")
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            "/dev/null",
            "--rootdir",
            tmp_path,
            tmp_path,
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    return ran.stdout.strip().splitlines()[-1]


def test_declared_gaps_are_expected_failures(tmp_path: Path) -> None:
    said = outcome(tmp_path, {"test_fails": "not yet", "test_fails_once[2]": "never two"})
    assert said.startswith("2 passed, 2 xfailed")


def test_undeclared_failures_fail(tmp_path: Path) -> None:
    assert outcome(tmp_path, {}).startswith("2 failed, 2 passed")


def test_a_gap_that_closed_fails(tmp_path: Path) -> None:
    said = outcome(tmp_path, {"test_fails": "not yet", "test_fails_once[2]": "never two", "test_passes": "closed"})
    assert said.startswith("1 failed, 1 passed, 2 xfailed")


@pytest.mark.parametrize("gap", ["test_no_such_thing", "engine", "feeds"])
def test_a_gap_for_no_test_is_an_error(gap: str) -> None:
    with pytest.raises(TypeError, match=gap):
        type("TestMadeUp", (RuntimeContract,), {"engine": "null", "samples": [], "gaps": {gap: "because"}})


def test_a_gap_without_a_reason_is_an_error() -> None:
    with pytest.raises(TypeError, match="no reason"):
        type("TestMadeUp", (Battery,), {"gaps": {"test_x": " "}, "test_x": lambda self: None})
