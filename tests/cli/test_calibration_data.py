"""Calibration data on the command line: what is said of them, what is written of them, and what a kill leaves.

What every kind of data becomes, and how bad data are refused, is tested without a conversion in test_calibration.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.bundle import Bundle
from edgekit.graph.files import save
from tests.cli.conftest import Typed
from tests.unit.networks import from_text

Type = Callable[..., Typed]
ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(3)
PLANAR = 'float["batch",3,8,8] x'
ASKED = ("--precision", "w8a8", "--format", "onnx", "--target", "raspberry-pi-5")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    weights = {"w": RNG.normal(0, 0.3, (16, 3, 3, 3)).astype("f4"), "v": RNG.normal(0, 0.2, (4, 16, 3, 3)).astype("f4")}
    network = from_text("a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) y = Conv(b, v)", inputs=PLANAR, **weights)
    save(network, tmp_path / "m.onnx")
    (tmp_path / "d").mkdir()
    return tmp_path


def tensors(count: int) -> list[np.ndarray]:
    return [RNG.normal(0, 1, (3, 8, 8)).astype("f4") for _ in range(count)]


def test_a_generator_is_written_down_in_the_bundle(here: Path) -> None:
    def endless() -> Iterator[np.ndarray]:
        while True:
            yield from tensors(1)

    report = edgekit.convert(
        "m.onnx",
        "m.edge",
        calibration_data=endless(),
        num_samples=40,
        precision="w8a8",
        format="onnx",
        target="generic-x86",
    )
    assert [variant.status for variant in report.variants] == ["written"]
    assert report.notes == ()
    assert report.bundle is not None
    said = report.bundle.provenance["calibration"]
    assert said == {"samples": 40, "sha256": said["sha256"]}
    assert len(said["sha256"]) == 64


def test_noise_is_marked_wherever_one_looks(typed: Type, here: Path) -> None:
    code, out, err = typed("convert", "m.onnx", *ASKED, "--calibration-data", "random:40")
    assert code == 0, err
    assert "CALIBRATED ON RANDOM NUMBERS" in out
    assert "note: calibrated on RANDOM numbers" in err
    code, out, _ = typed("inspect", "m.edge")
    assert "CALIBRATED ON RANDOM NUMBERS" in out.splitlines()[0]
    code, out, _ = typed("inspect", "m.edge", "--json")
    told = json.loads(out)["provenance"]["calibration"]
    assert told["synthetic"] is True
    assert told["samples"] == 40
    assert "normal distribution" in told["drawn"]
    assert "noise" in Bundle.open(here / "m.edge").statistics["data"]


@pytest.mark.parametrize(
    ("asked", "error", "hint"),
    [((), "int8 needs calibration data", "--calibration-data"),
     (("--calibration-data", "random"), "asks for noise", "./random is the file or folder; random:64 is noise"),
     (("--calibration-data", "d"), "odd.npy: input 'x' holds NaN or infinity", "mend this sample")],
    ids=["none", "a folder named random", "nan"],
)  # fmt: skip
def test_data_that_cannot_be_used_are_an_error_with_a_hint(
    typed: Type, here: Path, asked: Sequence[str], error: str, hint: str
) -> None:
    (here / "random").mkdir()
    for index, array in enumerate(tensors(3)):
        np.save(here / "d" / f"{index}.npy", array)
    np.save(here / "d" / "odd.npy", np.full((3, 8, 8), np.nan, "f4"))
    code, out, err = typed("convert", "m.onnx", *ASKED, *asked)
    assert (code, out) == (3, "")
    first, second = (line for line in err.splitlines() if line.startswith(("edgekit: error: ", "hint: ")))
    assert error in first
    assert hint in second
    assert not (here / "m.edge").exists()


def test_doubtful_data_are_noted_here_and_in_the_bundle(typed: Type, here: Path) -> None:
    for index, array in enumerate(tensors(3)):
        np.save(here / "d" / f"{index}.npy", array)
    (here / "d" / "odd.npy").write_bytes(b"\x93NUMPY")
    code, _, err = typed("convert", "m.onnx", *ASKED, "--calibration-data", "d")
    assert code == 0, err
    notes = [line for line in err.splitlines() if line.startswith("note: ")]
    assert any("skipped odd.npy: " in note for note in notes)
    assert any("only 3 calibration samples" in note for note in notes)
    assert "only 3 calibration samples" in json.dumps(Bundle.open(here / "m.edge").provenance)


# --- interrupted, and watched -----------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


SLOW = """
import sys, time
from edgekit.cli import run
from edgekit.quantize import checkpoints, observers
checkpoints.EVERY_S = checkpoints.SHARE = 0
add = observers._Gathering.add
observers._Gathering.add = lambda gathering, results: (time.sleep(0.02), add(gathering, results))
sys.exit(run(sys.argv[1:]))
"""


def test_the_same_command_goes_on_after_a_kill_and_writes_the_same_bytes(typed: Type, here: Path) -> None:
    np.save(here / "d.npy", np.stack(tensors(150)))
    words = ["convert", "m.onnx", *ASKED, "--calibration-data", "d.npy"]
    assert typed(*words, "-o", "whole.edge").code == 0
    for blow in (signal.SIGKILL, signal.SIGINT):
        interrupt(words, blow)
        assert not (here / "m.edge").exists()
    code, _, err = typed(*words)
    assert code == 0, err
    assert "going on after" in err
    assert "/120" not in err, "no bar where there is no terminal"
    assert Bundle.open(here / "m.edge").sha256 == Bundle.open(here / "whole.edge").sha256
    assert kept() == []


def kept() -> list[Path]:
    return list(Path("cache/observations").glob("*.npz"))


def interrupt(words: Sequence[str], blow: signal.Signals) -> None:
    """Types `words` in a child, and interrupts it once it has kept more of an observation than there was."""
    before = [path.stat().st_mtime_ns for path in kept()]
    child = subprocess.Popen([sys.executable, "-c", SLOW, *words], env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while [path.stat().st_mtime_ns for path in kept()] == before:
        assert child.poll() is None, "it came to its end before it was interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(blow)
    assert child.wait(timeout=60) != 0


def test_a_bar_of_the_samples_is_on_a_terminal_and_on_stderr(here: Path) -> None:
    np.save(here / "d.npy", np.stack(tensors(50)))
    words = [sys.executable, "-c", SLOW, "convert", "m.onnx", *ASKED, "--calibration-data", "d.npy"]
    ours, theirs = os.openpty()
    terminal = {**environment(), "TERM": "xterm", "COLUMNS": "120"}
    child = subprocess.Popen(words, stderr=theirs, stdout=subprocess.PIPE, env=terminal)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as screen, suppress(OSError):  # the error says that nobody writes any more
        while part := screen.read(65536):
            shown += part
    out, _ = child.communicate()
    assert child.returncode == 0
    assert b"40/40" in shown
    assert b"observing activations" in shown
    assert b"/40" not in out
