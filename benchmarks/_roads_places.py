"""Environments of roads that do not go into edgekit's own: made on demand in the user's cache, versions fixed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgekit.cache import cache_folder


@dataclass(frozen=True)
class Place:
    """An environment.

    Attributes:
        name: Of its folder.
        steps: What pip is told, one call after the other.
        is_venv: Whether it has a Python of its own; else its packages come before those of edgekit's environment.
    """

    name: str
    steps: tuple[tuple[str, ...], ...]
    is_venv: bool

    @property
    def folder(self) -> Path:
        return cache_folder() / "benchmarks" / self.name

    @property
    def is_there(self) -> bool:
        return (self.folder / "complete").is_file()

    def python(self) -> list[str]:
        """The interpreter; -P, so that no file beside the script is taken for a package."""
        own = self.folder / "bin" / "python"
        return [str(own) if self.is_venv else sys.executable, "-P"]

    def environment(self) -> dict[str, str]:
        """Variables to set for it."""
        return {} if self.is_venv else {"PYTHONPATH": str(self.folder)}

    def install(self) -> None:
        """Makes it anew. Raises CalledProcessError where pip fails."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if self.is_venv:
            subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True)
        target = [] if self.is_venv else ["--target", str(self.folder)]
        for step in self.steps:
            subprocess.run([*self.python(), "-m", "pip", "install", "-q", *target, *step], check=True)
        (self.folder / "complete").touch()


HERE = Place("", (), False)
"""Edgekit's own environment."""

LITERT_TORCH = Place("litert-torch-0.10.0", (("torch==2.13.0",), ("litert-torch==0.10.0",)), is_venv=True)

# It pins every package it knows to one version, and wants Python 3.12; with what edgekit's environment has it runs too.
_LOOSE = ("--no-deps", "--ignore-requires-python")
_PINNED = ("onnx2tf==2.6.9", "sne4onnx==2.0.1", "sng4onnx==2.0.1", "onnxsim==0.8.1", "onnxoptimizer==0.4.2",
           "psutil==5.9.5")  # fmt: skip
ONNX2TF = Place("onnx2tf-2.6.9", ((*_LOOSE, *_PINNED),), is_venv=False)


def run(place: Place, script: str, arguments: list[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Runs a file of this folder in a process of its own, one thread a library."""
    folder = Path(__file__).parent
    paths = [place.environment().get("PYTHONPATH", "") if place is not HERE else "", str(folder.parent)]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONHASHSEED": "0",
    }
    python = place.python() if place is not HERE else [sys.executable, "-P"]
    return subprocess.run(
        [*python, str(folder / script), *arguments],
        env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
