"""What the tests of the command line share: a bundle of the null engine, and a way to type a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from edgekit.bundle import BundleWriter, Golden
from edgekit.cli import run
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))


class Typed(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str]) -> Callable[..., Typed]:
    """Runs a command line in this process; both streams are caught at the file descriptors, so vendors' too."""

    def type_it(*arguments: object) -> Typed:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return Typed(code, *capfd.readouterr())

    return type_it


def write_bundle(path: Path, *, answer: float = 0.0, tolerance: float = 0.5) -> Path:
    """A bundle with one variant of the null engine, which always answers zeros, and golden answers of `answer`."""
    golden = Golden(({"x": np.zeros((1, 4), "float32")},), ({"y": np.full((1, 2), answer, "float32")},))
    with BundleWriter(path) as writer:
        file = write_null(writer.stage / "m.null.json", SIGNATURE)
        writer.add(
            name="null-fp32", format="null", precision="fp32", files=[file], facts={"tolerance": {"y": tolerance}}
        )
        writer.commit(
            name="n", signature=SIGNATURE, processing={}, target="host", golden=golden, statistics={}, provenance={}
        )
    return path


@pytest.fixture
def null_bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "n.edge")
