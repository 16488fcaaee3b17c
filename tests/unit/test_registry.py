"""Names, places and probes."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from edgekit.errors import UnavailableError, UnsupportedError
from edgekit.registry import RUNTIMES, Probe, Registry


def made_up(**builtin: str) -> Registry:
    return Registry("edgekit.made_up", "thing", builtin)


def installed(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    found = [EntryPoint(name, value, "edgekit.made_up") for name, value in points.items()]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found if group == "edgekit.made_up" else [])


def test_the_runtimes_in_the_order_they_are_tried() -> None:
    assert RUNTIMES.names()[:5] == ["tflite", "onnx", "openvino", "reference", "null"]


def test_a_module_is_imported_when_its_name_is_asked_for() -> None:
    things = made_up(day="calendar:day_name", broken="no_such_module_at_all:x")
    assert things.names() == ["day", "broken"]
    assert len(things.get("day")) == 7
    assert things.get("day") is things.get("day")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnsupportedError, match="no thing named 'c'") as refusal:
        made_up(a="calendar:x", b="calendar:y").get("c")
    assert refusal.value.hint == "known: a, b"


@pytest.mark.parametrize("place", ["no_such_module_at_all:x", "calendar:no_such_attribute"])
def test_a_broken_place_is_unavailable_and_says_where(place: str) -> None:
    with pytest.raises(UnavailableError, match=place):
        made_up(broken=place).get("broken")


def test_packages_add_names_after_the_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, zebra="calendar:month_name", ant="calendar:day_abbr")
    things = made_up(day="calendar:day_name")
    assert things.names() == ["day", "ant", "zebra"]
    assert len(things.get("zebra")) == 13
    assert [name for name, _ in things] == ["day", "ant", "zebra"]


def test_a_package_cannot_take_a_built_in_name(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, day="calendar:month_name")
    assert len(made_up(day="calendar:day_name").get("day")) == 7


def test_a_probe_asks_for_the_extra() -> None:
    Probe(True).require("it")
    with pytest.raises(UnavailableError, match="it is not available: not installed") as refusal:
        Probe(False, reason="not installed", extra="onnx").require("it")
    assert refusal.value.hint == "pip install 'edgekit-ml[onnx]'"
    assert isinstance(refusal.value, ImportError)


def test_asking_for_a_runtime_imports_no_engine() -> None:
    import subprocess

    code = (
        "import sys\nfrom edgekit.registry import RUNTIMES\n[engine.formats for _, engine in RUNTIMES]\n"
        "heavy = {'onnxruntime', 'openvino', 'ai_edge_litert', 'tensorflow', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_broken_package_does_not_take_the_others_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, broken="no_such_module_at_all:x", whole="calendar:month_name")
    assert [name for name, _ in made_up(day="calendar:day_name")] == ["day", "whole"]
