"""``kill -9`` in the middle of a real conversion: the old bundle or none, never half of one, and a rerun just works."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from tests.contract.sample_models import two_inputs

KILLS = 12


def command(model: Path, output: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "edgekit",
        "convert",
        str(model),
        "-o",
        str(output),
        "--precision",
        "fp32,fp16",
        *more,
    ]


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name not in ("model.onnx", "x.edge")]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(two_inputs().SerializeToString())
    return path


def kill_after(arguments: list[str], seconds: float) -> bool:
    """Whether the conversion was still going when it was killed."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def test_killed_conversions_leave_the_old_bundle_or_none(model: Path, tmp_path: Path) -> None:
    started = time.perf_counter()
    subprocess.run(command(model, tmp_path / "whole.edge"), check=True, capture_output=True)
    whole_s = time.perf_counter() - started
    fresh = tmp_path / "work"
    fresh.mkdir()
    output, rng, killed = fresh / "x.edge", random.Random(5), 0
    old: str | None = None
    for turn in range(KILLS):
        # Late kills meet the writing; the early ones meet the framework and the engines.
        force = ["--force"] if old else []
        killed += kill_after(command(model, output, *force), whole_s * (0.5 + 0.55 * rng.random()))
        if output.exists():
            bundle = Bundle.open(output)
            bundle.verify()
            bundle.golden()
            old = bundle.sha256
        else:
            assert old is None, f"kill {turn} lost the old bundle"
    assert killed >= KILLS // 3, "the kills came too late to prove anything"
    subprocess.run(command(model, output, "--force"), check=True, capture_output=True)
    Bundle.open(output).verify()
    deadline = time.monotonic() + 10
    while leftovers(fresh) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not leftovers(fresh), "what killed runs left is swept by the next one"
