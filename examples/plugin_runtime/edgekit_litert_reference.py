"""A runtime outside edgekit: LiteRT with its plain reference kernels in place of the optimized ones.

Slow, and useful: where it answers like the others, a strange result is the file's; where it does not, the kernels'.
"""

import functools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, UnsupportedError
from edgekit.opening import require_format
from edgekit.registry import Probe
from edgekit.runtime import EngineOptions
from edgekit.spec import QuantParams, TensorSpec


class ReferenceKernels:
    name = "litert-reference"
    formats = ("tflite",)

    @functools.cache  # noqa: B019 - there is one engine, and it lives as long as the process
    def probe(self) -> Probe:
        try:
            from ai_edge_litert import interpreter  # noqa: F401 - whether it imports is the question
        except (ImportError, OSError) as error:
            return Probe(False, reason=str(error), extra="litert")
        return Probe(True, version=f"ai-edge-litert {version('ai-edge-litert')}", extra="litert")

    def open(self, path: Path, options: EngineOptions) -> "OpenReference":
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        if options.device != "cpu":
            raise UnsupportedError(f"{self.name} runs on the cpu only, not on {options.device!r}")
        require_format(path, self.formats)
        kernels = {"experimental_op_resolver_type": OpResolverType.BUILTIN_REF}
        try:
            return OpenReference(Interpreter(model_content=path.read_bytes(), **kernels).get_signature_runner())
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(f"{path} does not open: {error}", hint="copy or convert it again") from error


class OpenReference:
    precision = "fp32"
    lends_outputs = False

    def __init__(self, runner: Any) -> None:
        self.inputs = tuple(_spec(name, tensor) for name, tensor in runner.get_input_details().items())
        self.outputs = tuple(_spec(name, tensor) for name, tensor in runner.get_output_details().items())
        self._runner = runner

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        answer = self._runner(**{spec.name: array for spec, array in zip(self.inputs, arrays, strict=True)})
        return [answer[spec.name] for spec in self.outputs]

    def close(self) -> None:
        self._runner = None


def _spec(name: str, tensor: dict[str, Any]) -> TensorSpec:
    scale, zero = tensor["quantization"]
    dtype = np.dtype(tensor["dtype"]).name
    return TensorSpec(
        name, dtype, tuple(map(int, tensor["shape"])), quant=QuantParams(dtype, (scale,), (zero,)) if scale else None
    )


ENGINE = ReferenceKernels()
