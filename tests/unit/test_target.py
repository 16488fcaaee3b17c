"""Targets: the ones that come with edgekit are whole, and files users write are checked."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import ArtifactError, EdgekitError, UnsupportedError
from edgekit.registry import CONVERTERS
from edgekit.target import Placement, Target

NAMES = ("android-phone", "generic-x86", "host", "raspberry-pi-4", "raspberry-pi-5", "web")


def test_the_promised_targets_are_there() -> None:
    assert set(NAMES) <= set(Target.names())


@pytest.mark.parametrize("name", NAMES)
def test_a_target_is_whole(name: str) -> None:
    target = Target.named(name)
    assert target.name == name
    assert target.title
    assert target.formats
    assert set(target.precisions) == set(target.formats)
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target
    assert set(target.formats) <= set(CONVERTERS.names())
    for format, precisions in target.precisions.items():
        assert precisions[0] == "fp32", "there is always a reference to fall back on"
        assert not set(precisions) & set(target.refusals.get(format, {}))
        assert len(set(precisions)) == len(precisions)
    for format in target.placements:
        assert target.placements[format].anchors
    for reasons in target.refusals.values():
        assert all(len(reason) > 20 for reason in reasons.values()), "a refusal says why"


def test_types_are_those_that_were_measured_fast() -> None:
    """ONNX Runtime on x86 is many times slower with int8 activations; TFLite and arm64 want them."""
    assert Target.named("generic-x86").placements["onnx"].activations == "uint8"
    assert Target.named("generic-x86").placements["tflite"].activations == "int8"
    assert Target.named("raspberry-pi-5").placements["tflite"].activations == "int8"


def test_host_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Target.named("host").is_this_machine
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert Target.named("host").formats == Target.named("generic-x86").formats
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert Target.named("host").formats == Target.named("raspberry-pi-4").formats
    assert not Target.named("generic-x86").is_this_machine
    assert Target.named("web").is_this_machine
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(UnsupportedError) as caught:
        Target.named("host")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["", "pi", "../recipe", "/etc/passwd", "HOST", "."])
def test_an_unknown_name_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        Target.named(name)
    assert all(known in caught.value.hint for known in NAMES)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    minimal = {
        "schema": "edgekit.target",
        "version": 1,
        "name": "gateway",
        "title": "a gateway",
        "formats": ["onnx"],
        "precisions": {"onnx": ["fp32", "int8"]},
        "placements": {"onnx": {"activations": "uint8", "anchors": ["Conv"]}},
    }
    path.write_text(json.dumps(minimal))
    target = Target.named(str(path))
    assert target.precisions == {"onnx": ("fp32", "w8a8")}
    assert target.placements["onnx"] == Placement("uint8", anchors=("Conv",))
    assert (target.batch, target.threads) == (1, None)


WRONG: list[tuple[str, Any]] = [
    ("schema", "edgekit.recipe"),
    ("version", 2),
    ("name", 5),
    ("title", None),
    ("formats", "onnx"),
    ("formats", []),
    ("formats", [5]),
    ("formats", ["onnx", "openvino"]),
    ("precisions", {"onnx": "fp32"}),
    ("precisions", {"onnx": []}),
    ("precisions", ["fp32"]),
    ("placements", {}),
    ("placements", {"onnx": {}}),
    ("placements", {"onnx": {"activations": "float32"}}),
    ("placements", {"onnx": {"activations": "uint8", "weights": "int4"}}),
    ("placements", {"onnx": {"activations": "uint8", "more": 1}}),
    ("batch", "1"),
    ("batch", None),
    ("threads", 1.5),
    ("notes", "one"),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    data = {**Target.named("generic-x86").to_json(), "formats": ["onnx"], "precisions": {"onnx": ["fp32", "w8a8"]}}
    path = tmp_path / "target.json"
    path.write_text(json.dumps(data))
    assert Target.from_file(path).formats == ("onnx",)
    path.write_text(json.dumps({**data, field: value}))
    with pytest.raises(ArtifactError) as caught:
        Target.from_file(path)
    assert caught.value.hint or "version" in str(caught.value)


def test_a_precision_that_is_none_is_unsupported(tmp_path: Path) -> None:
    data = {**Target.named("generic-x86").to_json(), "precisions": {"onnx": ["w3"]}}
    with pytest.raises(UnsupportedError):
        Target.from_json(data)


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"{", b"[]", b"null", b"{}", b"[" * 10_000])
def test_a_file_that_is_no_target(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "target.json"
    path.write_bytes(raw)
    with pytest.raises(ArtifactError):
        Target.named(str(path))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        Target.named(str(tmp_path / "none.json"))


def test_a_file_that_refers_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "target.json"
    same = {machine: str(path) for machine in (platform.machine().lower(), "x86_64")}
    path.write_text(
        json.dumps({"schema": "edgekit.target", "version": 1, "name": "me", "title": "me", "same_as": same})
    )
    with pytest.raises(ArtifactError, match="not a file"):
        Target.named(str(path))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
FIELDS = [*Target.named("generic-x86").to_json(), "same_as"]


@given(st.sampled_from(FIELDS), anything)
def test_no_content_of_a_file_raises_anything_but_ours(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "target.json"
    path.write_text(json.dumps({**Target.named("generic-x86").to_json(), field: value}))
    try:
        Target.from_file(path)
    except EdgekitError:
        return
