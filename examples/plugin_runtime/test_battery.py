"""edgekit's own battery on this runtime: the class at the end is all a runtime's author writes, but for a sample."""

from pathlib import Path

import numpy as np

from edgekit.testing import RuntimeContract, Sample
from edgekit.testing.tflite_writer import TfliteWriter

WEIGHTS = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def write_dense(folder: Path) -> Path:
    """y = WEIGHTS @ x, as a .tflite file of one operation."""
    writer = TfliteWriter()
    x, y = writer.tensor("x", [1, 4]), writer.tensor("y", [1, 3])
    weights = writer.tensor("w", [3, 4], data=WEIGHTS)
    writer.op("FULLY_CONNECTED", [x, weights, -1], [y], options="FullyConnectedOptions")
    path = folder / "dense.tflite"
    path.write_bytes(writer.finish([x], [y], signature={"inputs": {"x": x}, "outputs": {"y": y}}))
    return path


class TestLitertReference(RuntimeContract):
    engine = "litert-reference"
    samples = (Sample("dense", write_dense, lambda feeds: {"y": feeds["x"] @ WEIGHTS.T}),)
    gaps = {}  # noqa: RUF012 - {test: why it fails}; none
