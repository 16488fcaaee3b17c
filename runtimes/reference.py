"""The ONNX project's reference evaluator: slow, and right by definition. The oracle of every test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.opening import require_format
from edgekit.registry import Probe
from edgekit.runtime import EngineOptions
from edgekit.runtimes._contract import PROBE_FEED, check_options, distinct_names, first_line, try_engine
from edgekit.runtimes._onnx_file import TINY, unknown_ops
from edgekit.spec import DTYPES, TensorSpec

__all__ = ["ENGINE"]

_NO_IMPLEMENTATION = re.compile(r"No implementation for operator '(\S+)' domain '(\S*)' and version (\d+)")


class ReferenceEngine:
    """Opens .onnx files with onnx.reference."""

    name = "reference"
    formats: tuple[str, ...] = ("onnx",)

    def __init__(self) -> None:
        self._probe: Probe | None = None

    def probe(self) -> Probe:
        if self._probe is None:
            self._probe = try_engine(_try, "onnx", "convert")
        return self._probe

    def open(self, path: Path, options: EngineOptions) -> OpenReference:
        check_options(self.name, options)
        require_format(path, self.formats)
        self.probe().require("the reference runtime")
        import onnx

        try:
            model = onnx.load(str(path))
            if any(not value.type.tensor_type.HasField("shape") for value in model.graph.output):
                model = onnx.shape_inference.infer_shapes(model)
            onnx.checker.check_model(model)
            return OpenReference(model)
        except UnsupportedError:
            raise
        except Exception as error:
            if isinstance(error, UnicodeDecodeError):
                raise ArtifactError(f"{path} is damaged: a name in it is not text", hint="export it again") from error
            if missing := _missing_ops(path, error):
                raise UnsupportedError(
                    f"the reference evaluator lacks operations of {path.name}", offenders=missing
                ) from error
            raise ArtifactError(f"{path} does not open: {first_line(error)}", hint="export it again") from error


class OpenReference:
    """One evaluator."""

    precision = "fp32"
    lends_outputs = False

    def __init__(self, model: Any) -> None:
        from onnx.reference import ReferenceEvaluator

        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in constants]
        self.inputs = _specs(inputs, "input")
        self.outputs = _specs(model.graph.output, "output")
        self._in = [value.name for value in inputs]
        self._evaluator: Any = ReferenceEvaluator(model)

    def run(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        with np.errstate(all="ignore"):  # what other engines say nothing of
            results = self._evaluator.run(None, dict(zip(self._in, arrays, strict=True)))
        # An operation that changes nothing gives back its input, which is the caller's.
        return [np.array(result) for result in results]

    def close(self) -> None:
        self._evaluator = None


def _specs(values: Sequence[Any], what: str) -> tuple[TensorSpec, ...]:
    import onnx

    names = distinct_names([value.name for value in values], what)
    specs, odd = [], []
    for value, name in zip(values, names, strict=True):
        tensor = value.type.tensor_type
        dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        dtype = {"float": "float32", "double": "float64"}.get(dtype, dtype)
        if dtype not in DTYPES or not value.type.HasField("tensor_type"):
            odd.append(f"{name}: {dtype}")
            continue
        shape = [d.dim_param or (d.dim_value if d.HasField("dim_value") else f"dim{i}") for i, d in _dims(tensor)]
        specs.append(TensorSpec(name, dtype, tuple(shape)))
    if odd:
        raise UnsupportedError("inputs and outputs must be tensors of known types", offenders=odd)
    return tuple(specs)


def _dims(tensor: Any) -> list[tuple[int, Any]]:
    return list(enumerate(tensor.shape.dim))


def _missing_ops(path: Path, error: Exception) -> list[str]:
    """Operations of the file that ONNX does not define or the evaluator does not have; none in a damaged file."""
    if found := _NO_IMPLEMENTATION.search(str(error)):
        return [".".join(filter(None, (found[2], found[1]))) + f" version {found[3]}"]
    return unknown_ops(path)


def _try() -> Any:
    import onnx
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(onnx.load_from_string(TINY)).run(None, {"x": PROBE_FEED})[0]


ENGINE = ReferenceEngine()
