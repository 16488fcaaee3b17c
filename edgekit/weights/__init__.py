"""Weights in files, read without the framework that wrote them: safetensors, PyTorch checkpoints, NumPy archives.

Weights are a dict of float32 arrays by name, whatever dtype the file has them in. Nothing in a file is ever executed.
"""

from __future__ import annotations

from edgekit.weights.files import read_metadata, read_weights, write_weights
from edgekit.weights.fitting import fit_weights

__all__ = ["fit_weights", "read_metadata", "read_weights", "write_weights"]
