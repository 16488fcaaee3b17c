"""The engine that computes nothing: it answers zeros and counts calls, to test all that stands on engines."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError
from edgekit.opening import detect_format
from edgekit.registry import Probe
from edgekit.runtime import EngineOptions
from edgekit.runtimes._contract import check_options, lanes_for
from edgekit.spec import Signature, TensorSpec

__all__ = ["ENGINE", "write_null"]

_PROBE = Probe(True, version="null")
_DEFAULT = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", ("batch", 2)),))


class NullEngine:
    """Opens its own files, JSON: ``{"signature": ..., "delay_ms": 0}``.

    Handed a model of another format it takes the signature of `<file>.null.json` beside it, or x[N,4] -> y[N,2].
    """

    name = "null"
    formats: tuple[str, ...] = ("null",)

    def probe(self) -> Probe:
        return _PROBE

    def open(self, path: Path, options: EngineOptions) -> OpenNull:
        check_options(self.name, options, (options.precision,))
        beside = path.with_name(path.name + ".null.json")
        source = path if detect_format(path) == "null" else beside
        if not source.is_file():
            return OpenNull(_DEFAULT, 0.0, options.precision, lanes_for(options))
        try:
            data = json.loads(source.read_bytes())
            signature, delay_ms = Signature.from_json(data["signature"]), float(data.get("delay_ms", 0))
            return OpenNull(signature, delay_ms, options.precision, lanes_for(options))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{source} holds no signature: {error!r}") from error


class OpenNull:
    """Zeros of the right shape; `calls` counts a lane's. An open size is the input's of the same name, or 1."""

    lends_outputs = False

    def __init__(self, signature: Signature, delay_ms: float, precision: str, lanes: int = 1) -> None:
        self.inputs, self.outputs = signature.inputs, signature.outputs
        self.precision = precision
        self.lanes = lanes
        self.calls = 0
        self._delay_s = delay_ms / 1000

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        self.calls += 1
        if self._delay_s:
            time.sleep(self._delay_s)
        sizes: dict[Any, int] = {}
        for spec, array in zip(self.inputs, arrays, strict=True):
            sizes.update(zip(spec.shape, array.shape, strict=True))
        return [
            _zeros(spec, [d if isinstance(d, int) else sizes.get(d, 1) for d in spec.shape]) for spec in self.outputs
        ]

    def another(self) -> OpenNull:
        return OpenNull(Signature(self.inputs, self.outputs), self._delay_s * 1000, self.precision)

    def close(self) -> None:
        self._delay_s = 0.0


def _zeros(spec: TensorSpec, shape: Sequence[int]) -> np.ndarray:
    if spec.dtype == "string":
        return np.full(shape, "", "object")
    return np.zeros(shape, "uint16" if spec.dtype == "bfloat16" else spec.dtype)


def write_null(path: Path, signature: Signature, *, delay_ms: float = 0.0) -> Path:
    """Writes a file the null runtime opens."""
    path.write_text(json.dumps({"signature": signature.to_json(), "delay_ms": delay_ms}), encoding="utf-8")
    return path


ENGINE = NullEngine()
