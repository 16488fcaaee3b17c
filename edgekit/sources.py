"""Trained models as files: which converter reads one, and the hash by which it is known again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgekit.converter import Reader
from edgekit.errors import ArtifactError
from edgekit.registry import CONVERTERS

__all__ = ["find_reader", "source_sha256"]


def find_reader(source: Path) -> Reader:
    """The converter that reads the model at `source`, told by its content.

    Raises:
        ArtifactError: There is none there, or none that edgekit reads.
        UnavailableError: What reads it is not installed.
    """
    if not source.exists():
        raise ArtifactError(f"{source} does not exist")
    if source.is_file() and source.stat().st_size == 0:
        raise ArtifactError(f"{source} is empty")
    for _, converter in CONVERTERS:
        if converter.reads and converter.accepts(source):
            converter.probe().require(f"the {converter.name} converter")
            found: Reader = converter
            return found
    raise ArtifactError(
        f"{source} is no model that edgekit reads",
        hint="it reads .keras, .h5, SavedModel folders, .onnx, .tflite, .pt2, TorchScript, FILE.py:FUNCTION that gives "
        "a PyTorch module, and names of `edgekit list models`",
    )


def source_sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their relative names in order."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
