"""What becomes of a model's file while a session runs does nothing to the session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract import sample_models as models

PROGRAM = """
import os, sys
import numpy as np
import edgekit

path, change = sys.argv[1:]
with edgekit.load(path, threads=1) as session:
    feeds = {spec.name: np.ones([d if isinstance(d, int) else 1 for d in spec.shape], spec.dtype)
             for spec in session.signature.inputs}
    before = session.run(feeds)
    for file in [path, *([path[:-3] + "bin"] if path.endswith("xml") else [])]:
        size = os.path.getsize(file)
        if change == "cut":
            os.truncate(file, 0)
        elif change == "overwritten":
            with open(file, "r+b") as opened:
                opened.write(b"\\xff" * size)
        else:
            os.remove(file)
    for name, array in session.run(feeds).items():
        assert np.array_equal(array, before[name]), name
"""


@pytest.mark.parametrize("change", ["cut", "overwritten", "removed"])
@pytest.mark.parametrize("runtime", ["tflite", "onnx", "openvino"])
def test_a_file_changed_under_a_session_changes_no_answer(tmp_path: Path, runtime: str, change: str) -> None:
    """In a process of its own: an engine that maps the file would end it by a signal."""
    samples = {"tflite": models.tflite_samples, "onnx": models.onnx_samples, "openvino": models.openvino_samples}
    path = samples[runtime]()[0].write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), change],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
