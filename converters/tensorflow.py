"""TensorFlow SavedModel folders, read in a child process."""

from __future__ import annotations

from pathlib import Path

from edgekit.converter import DirectRoad, SourceModel
from edgekit.converters import _tensorflow_scan as scan
from edgekit.converters import _tensorflow_source as source
from edgekit.errors import ArtifactError
from edgekit.registry import Probe

__all__ = ["CONVERTER", "TensorFlowConverter"]


class TensorFlowConverter:
    """Reads SavedModels by TensorFlow's loader, or by TensorFlow 1's where today's refuses."""

    name = "tensorflow"
    format = ""
    suffix = ""
    reads = True
    writes = False
    reading = "TensorFlow in a process of its own, then tf2onnx"
    writing = ""
    fixes_sizes = False
    exports: tuple[str, ...] = ("hub", "saved_model")
    roads: tuple[DirectRoad, ...] = ()

    def probe(self) -> Probe:
        """Whether TensorFlow, Keras and tf2onnx are installed."""
        return source.probe()

    def accepts(self, path: Path) -> bool:
        """Whether the folder holds a saved_model.pb."""
        return scan.is_saved_model(path)

    def read(self, path: Path, stage: Path) -> SourceModel:
        """Opens the model in a TensorFlow child.

        Raises:
            ArtifactError: Missing, damaged, or not a SavedModel.
            UnsupportedError: It computes with strings or touches files; lists every input and operation that does.
            UnavailableError: TensorFlow, Keras or tf2onnx is not installed.
            ConversionError: TensorFlow or the child process failed otherwise.
        """
        if not self.accepts(path):
            what = "there is no" if not path.exists() else "not a SavedModel:"
            raise ArtifactError(f"{what} {path}", hint="a folder with saved_model.pb and variables/ is wanted")
        return source.open_source(self.name, "open_saved_model", path, stage)


CONVERTER = TensorFlowConverter()
