"""The legacy package tflite-runtime, for real: in an environment of its own, as it wants Python 3.11 and NumPy 1.

The environment is made once, under ``.cache``, and used again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session
from edgekit.testing import RuntimeContract
from tests.contract import sample_models as models

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / ".cache" / "tflite-runtime-env"
BESIDE_NUMPY_2 = ROOT / ".cache" / "tflite-runtime-beside-numpy-2"
PACKAGE = "tflite-runtime==2.14.0"

ANSWER = """
import json, sys
from pathlib import Path
import numpy as np
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session

engine = RUNTIMES.get("tflite")
probe = engine.probe()
answers = {}
for path in map(Path, sys.argv[1:]):
    with Session(engine.open(path, EngineOptions(threads=1)), runtime="tflite") as session:
        feeds = np.load(path.with_suffix(".npz"))
        answers[path.name] = {name: y.tolist() for name, y in session.run(dict(feeds)).items()}
print(json.dumps({"version": probe.version, "available": probe.available, "answers": answers}))
"""
PROBE = """
import importlib.util
find_spec = importlib.util.find_spec
gone = ("ai_edge_litert", "tensorflow")
importlib.util.find_spec = lambda name, *rest: None if name.partition(".")[0] in gone else find_spec(name, *rest)
from edgekit.registry import RUNTIMES
probe = RUNTIMES.get("tflite").probe()
print(probe.available, "|", probe.reason)
"""


def pip(python: str | Path, *arguments: str) -> None:
    quiet = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    ran = subprocess.run([*quiet, *arguments], capture_output=True, text=True)
    if ran.returncode:
        pytest.fail(f"{PACKAGE} cannot be installed: {ran.stderr[-800:]}")


def python_3_11() -> str:
    """A Python 3.11 that runs; a name on the path may be a shim for one that is not there."""
    for name in filter(None, (sys.executable, shutil.which("python3.11"))):
        ran = subprocess.run([name, "--version"], capture_output=True, text=True)
        if ran.stdout.startswith("Python 3.11."):
            return name
    pytest.skip("python3.11 is not found: tflite-runtime has no wheels for newer ones")


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of the environment; the mark is made last, so half an environment is made again."""
    mark = HOME / "ready"
    if not mark.exists():
        shutil.rmtree(HOME, ignore_errors=True)
        subprocess.run([python_3_11(), "-m", "venv", str(HOME)], check=True)
        pip(HOME / "bin" / "python", PACKAGE, "numpy<2")
        mark.touch()
    return HOME / "bin" / "python"


@pytest.fixture(scope="module")
def beside_numpy_2() -> Path:
    if not (BESIDE_NUMPY_2 / "ready").exists():
        shutil.rmtree(BESIDE_NUMPY_2, ignore_errors=True)
        python_3_11()
        pip(sys.executable, "--no-deps", "--python-version", "3.11", "--target", str(BESIDE_NUMPY_2), PACKAGE)
        (BESIDE_NUMPY_2 / "ready").touch()
    return BESIDE_NUMPY_2


def child(python: str | Path, code: str, *arguments: Path, path: str = "") -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), path]))}
    ran = subprocess.run([str(python), "-c", code, *map(str, arguments)], capture_output=True, text=True, env=env)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_answers_as_litert_does(python: Path, tmp_path: Path) -> None:
    engine = RUNTIMES.get("tflite")
    files, right, limits = [], {}, {}
    for sample in models.tflite_samples():
        folder = tmp_path / sample.name
        folder.mkdir()
        file = sample.write(folder).rename(folder / f"{sample.name}.tflite")
        opened = engine.open(file, EngineOptions(threads=1))
        session = Session(opened, runtime="tflite")
        feeds = RuntimeContract.feeds(session, batch=2 if sample.is_dynamic else 1)
        np.savez(file.with_suffix(".npz"), **feeds)
        files.append(file)
        right[file.name] = session.run(feeds)
        # Integer kernels of different ages may round a value to neighboring steps: measured, one step.
        limits[file.name] = models.FEATURE_SCALE if sample.is_quantized else None
    said = json.loads(child(python, ANSWER, *files))
    assert said["available"]
    assert said["version"] == "tflite-runtime 2.14.0"
    for name, answers in right.items():
        for output, array in answers.items():
            other = np.array(said["answers"][name][output], "float32")
            assert np.abs(other - array).max() <= (limits[name] or 1e-5 * np.abs(array).max())


def test_beside_numpy_2_it_is_unavailable_and_says_why(beside_numpy_2: Path) -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("this environment has NumPy 1")
    said = child(sys.executable, PROBE, path=str(beside_numpy_2)).strip()
    assert said == f"False | tflite-runtime 2.14.0 is built for NumPy 1 and NumPy {np.__version__} is installed"
