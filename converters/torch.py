"""PyTorch: exported programs and TorchScript, read in a child; modules are made into exported programs first."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.converter import DirectRoad, SourceModel, SourceOptions
from edgekit.converters._in_child import open_in_child
from edgekit.converters._torch_scan import kind_of, refuse
from edgekit.errors import ArtifactError
from edgekit.registry import Probe, installed
from edgekit.spec import TensorSpec
from edgekit.worker import Worker

__all__ = ["CONVERTER", "TorchConverter"]

_CHILD = "edgekit.converters._torch"
_ENVIRONMENT: Mapping[str, str] = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    # Sets are walked while graphs are written: the same order gives the same bytes.
    "PYTHONHASHSEED": "0",
}


class TorchConverter:
    """Reads .pt2 and TorchScript archives. Weights alone and pickled modules are refused, and nothing is unpickled."""

    name = "torch"
    format = ""
    suffix = ".pt2"
    reads = True
    writes = False
    reading = "PyTorch in a process of its own, then torch.onnx"
    writing = ""
    fixes_sizes = False
    exports = ("hub",)
    roads: tuple[DirectRoad, ...] = ()

    def __init__(self, options: SourceOptions | None = None) -> None:
        self._options = options or SourceOptions()

    def with_options(self, options: SourceOptions) -> TorchConverter:
        """The same, knowing how large the inputs of a TorchScript archive are."""
        return TorchConverter(options)

    def probe(self) -> Probe:
        """Whether PyTorch and what its exporters need are installed."""
        return _probe()

    def accepts(self, path: Path) -> bool:
        """Whether the file is something PyTorch wrote, also what is refused when it is read."""
        return path.is_file() and kind_of(path) is not None

    def read(self, path: Path, stage: Path) -> SourceModel:
        """Opens the archive in a PyTorch child, where it answers in fp32 on one thread.

        Raises:
            ArtifactError: Missing, damaged, or nothing of PyTorch's.
            InputError: Nobody says how large its inputs are, or sizes are given for a program that has its own.
            UnsupportedError: It is no model, or has operations without ONNX; lists them all.
            UnavailableError: PyTorch or onnxscript is not installed.
            ConversionError: PyTorch or the child process failed otherwise.
        """
        kind = kind_of(path) if path.is_file() else None
        if kind is None:
            what = "not a PyTorch model:" if path.exists() else "there is no"
            raise ArtifactError(f"{what} {path}", hint="torch.export.save(program, 'model.pt2') writes one")
        if kind in ("compiled", "checkpoint"):
            raise refuse(path, kind)
        self.probe().require("the torch converter")
        shapes = self._options.input_shapes
        if kind == "program":  # says itself how large its inputs are; what it leaves open is fixed behind the reader
            return self._open("_program:open_program", path, stage)
        return self._open("_script:open_script", path, stage, shapes=[spec.to_json() for spec in shapes])

    def _open(self, opener: str, path: Path, stage: Path, **arguments: Any) -> SourceModel:
        worker = Worker("PyTorch", env=dict(_ENVIRONMENT))
        return open_in_child(self.name, worker, f"{_CHILD}{opener}", f"{_CHILD}_child:run", path, stage, **arguments)

    def save_built(
        self, source: Path, function: str, path: Path, *, weights: Path | None, shapes: Sequence[TensorSpec]
    ) -> None:
        """Writes the module that `function` of the Python file `source` builds, as a .pt2 file, in a PyTorch child.

        Raises:
            InputError: There is no such function, it wants arguments, or `shapes` are not those of its inputs.
            UnsupportedError: What it gives is no module.
            ArtifactError: The weights do not fit; all that is missing or different is listed.
            ConversionError: The module or its export failed.
        """
        with Worker("PyTorch", env=dict(_ENVIRONMENT)) as worker:
            worker.call(
                f"{_CHILD}_build:save_built",
                source=str(source.resolve()),
                function=function,
                weights=str(weights.resolve()) if weights is not None else "",
                shapes=[spec.to_json() for spec in shapes],
                path=str(path),
            )

    def save_module(self, module: Any, path: Path, *, example_inputs: Any, dynamic_shapes: Any) -> list[str]:
        """Writes a module of this process as a .pt2 file, and gives notes; see `_torch_export.save_module`."""
        from edgekit.converters._torch_export import save_module

        return save_module(module, path, example_inputs, dynamic_shapes)


@functools.cache
def _probe() -> Probe:
    """What is installed; it is not imported, for that takes seconds."""
    versions = installed("torch", "onnxscript", "onnx", "onnx-ir")
    missing = [name for name in ("torch", "onnxscript", "onnx", "onnx-ir") if name not in versions]
    if missing:
        return Probe(False, reason=f"{', '.join(missing)} not installed", extra="torch")
    return Probe(True, version=f"torch {versions['torch']}, onnxscript {versions['onnxscript']}", extra="torch")


CONVERTER = TorchConverter()
