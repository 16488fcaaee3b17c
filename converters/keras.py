"""Keras models, as .keras files of Keras 3 and HDF5 files of any Keras, read in a child process."""

from __future__ import annotations

from pathlib import Path

from edgekit.converter import DirectRoad, SourceModel
from edgekit.converters import _tensorflow_scan as scan
from edgekit.converters import _tensorflow_source as source
from edgekit.errors import ArtifactError
from edgekit.registry import Probe

__all__ = ["CONVERTER", "KerasConverter"]


class KerasConverter:
    """Reads whole Keras models. Files that carry Python code (Lambda layers) are refused, never run."""

    name = "keras"
    format = ""
    suffix = ".keras"
    reads = True
    writes = False
    reading = "Keras in a process of its own, then tf2onnx"
    writing = ""
    fixes_sizes = False
    exports: tuple[str, ...] = ("hub", "saved_model")
    roads: tuple[DirectRoad, ...] = ()

    def probe(self) -> Probe:
        """Whether TensorFlow, Keras and tf2onnx are installed."""
        return source.probe()

    def accepts(self, path: Path) -> bool:
        """Whether the file is a Keras 3 zip or an HDF5 file that speaks of a Keras model."""
        return path.is_file() and (scan.is_keras_zip(path) or scan.is_keras_hdf5(path))

    def read(self, path: Path, stage: Path) -> SourceModel:
        """Opens the model in a TensorFlow child.

        Raises:
            ArtifactError: Missing, damaged, or not a whole Keras model.
            UnsupportedError: It carries Python code, or classes that are not Keras's own; lists them all.
            UnavailableError: TensorFlow, Keras or tf2onnx is not installed.
            ConversionError: Keras or the child process failed otherwise.
        """
        if not self.accepts(path):
            what = "there is no" if not path.exists() else "not a Keras model:"
            raise ArtifactError(f"{what} {path}", hint="a whole model is wanted: model.save('model.keras')")
        return source.open_source(self.name, "open_keras", path, stage)


CONVERTER = KerasConverter()
