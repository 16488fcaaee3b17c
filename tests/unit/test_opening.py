"""Formats by content, and the runtime that is to open a file."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import ArtifactError, UnavailableError, UnsupportedError
from edgekit.opening import detect_format, open_session, require_format, runtimes_for
from edgekit.registry import RUNTIMES, Probe
from edgekit.runtime import EngineOptions, OpenModel
from edgekit.runtimes._onnx_file import TINY
from edgekit.runtimes.null import ENGINE, write_null
from edgekit.spec import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (1, 2)),), (TensorSpec("y", "float32", (1, 3)),))


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (b"\x1c\0\0\0TFL3" + bytes(50), "tflite"),
        (TINY, "onnx"),
        (b'<?xml version="1.0"?>\n<net name="a" version="11">\n</net>\n', "openvino"),
        (b'\xef\xbb\xbf<!-- made by hand --><net name="a"></net>', "openvino"),
        (b'{"signature": {"inputs": [], "outputs": []}}', "null"),
    ],
)
def test_formats_are_known_by_content(tmp_path: Path, content: bytes, format: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    assert detect_format(path) == format


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (TINY[:-5], "damaged ONNX"),
        (TINY[:30], "ONNX file cut off"),
        (TINY + b"\xff", "damaged ONNX"),
        (b"<net name='a'><layers>", "OpenVINO file cut off"),
        (b"<html></html>", "no model file"),
        (b"{", "is not a model"),
        (b"[" * 100_000, "no model file"),
        (b'{"a":' * 100_000, "is not a model"),
        (b'{"a": 1}', "no model"),
        (b"\x89HDF\r\n\x1a\n....", "HDF5"),
        (b"PK\x03\x04....", "zip"),
        (b"\x80\x04....", "pickle"),
        (b64encode(TINY), "no model file"),
        (b"\x08" * 100, "no model file"),
    ],
)
def test_what_is_no_model_says_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=said) as refusal:
        detect_format(path)
    assert "model.onnx" in str(refusal.value)
    assert refusal.value.hint


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no file"):
        detect_format(tmp_path / "none.tflite")
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ArtifactError, match="is a folder") as refusal:
        detect_format(tmp_path)
    assert "SavedModel" in refusal.value.hint


def test_require_format(tmp_path: Path) -> None:
    path = write_null(tmp_path / "a.null.json", SIGNATURE)
    assert require_format(path, ("onnx", "null")) == "null"
    with pytest.raises(ArtifactError, match="is of format null, not onnx or tflite"):
        require_format(path, ("onnx", "tflite"))


def test_runtimes_in_the_order_they_are_tried() -> None:
    assert runtimes_for("tflite") == ["tflite", "openvino"]
    assert runtimes_for("onnx") == ["onnx", "openvino", "reference"]
    assert runtimes_for("openvino") == ["openvino"]


def test_opens_with_the_first_that_takes_the_format(tmp_path: Path) -> None:
    path = write_null(tmp_path / "a.null.json", SIGNATURE)
    name, session = open_session(path, "null", None, EngineOptions())
    assert name == session.runtime == "null"
    assert session.run({"x": np.ones((1, 2), "float32")})["y"].shape == (1, 3)


def test_the_null_runtime_answers_for_other_files_by_the_signature_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(TINY)
    assert ENGINE.open(path, EngineOptions()).inputs[0].shape == ("batch", 4)
    write_null(tmp_path / "model.onnx.null.json", SIGNATURE)
    model = ENGINE.open(path, EngineOptions())
    assert (model.inputs, model.outputs) == (SIGNATURE.inputs, SIGNATURE.outputs)
    model.run([np.ones((1, 2), "float32")])
    assert model.calls == 1


def test_a_runtime_nobody_registered(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no runtime named 'tensorrt'"):
        open_session(tmp_path / "a.onnx", "onnx", "tensorrt", EngineOptions())


class Absent:
    """A runtime whose package is not there."""

    name = "absent"
    formats = ("onnx", "tflite", "openvino")

    def probe(self) -> Probe:
        return Probe(False, reason="its package is not installed", extra="onnx")

    def open(self, path: Path, options: EngineOptions) -> OpenModel:
        raise AssertionError("opened although it is not available")


@pytest.mark.parametrize("runtime", ["onnx", None])
def test_absent_runtimes_are_named_with_what_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str | None
) -> None:
    loaded: dict[str, Any] = {name: Absent() for name in ("tflite", "onnx", "openvino", "reference")}
    monkeypatch.setattr(RUNTIMES, "_loaded", {**loaded, "null": ENGINE})
    path = tmp_path / "model.onnx"
    path.write_bytes(TINY)
    with pytest.raises(UnavailableError, match="its package is not installed") as refusal:
        open_session(path, "onnx", runtime, EngineOptions())
    assert refusal.value.hint == "pip install 'edgekit-ml[onnx]'"
