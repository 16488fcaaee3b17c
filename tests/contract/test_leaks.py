"""A session held for a million calls, and a thousand opened and closed: memory, threads and files stay as they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract import sample_models as models

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = {"tflite": models.tflite_samples, "onnx": models.onnx_samples, "openvino": models.openvino_samples}


def grown(runtime: str, path: Path, predictions: int, loads: int) -> dict[str, float]:
    """In a process of its own, where nothing else allocates."""
    command = [sys.executable, "-m", "tests.contract.leaking", runtime, str(path), str(predictions), str(loads)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, float] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("runtime", SAMPLES)
@pytest.mark.parametrize(
    ("predictions", "loads"),
    [
        (100_000, 100),
        pytest.param(1_000_000, 1_000, marks=pytest.mark.slow, id="in-full"),  # minutes each
    ],
)
def test_nothing_grows(runtime: str, predictions: int, loads: int, tmp_path: Path) -> None:
    found = grown(runtime, SAMPLES[runtime]()[0].write(tmp_path), predictions, loads)
    assert found["calls_mb"] < 1
    assert found["loads_mb"] < 2
    assert found["threads"] < 10  # an engine's pool fills as it is used; a leak would be one a load
    assert found["files"] <= 0
