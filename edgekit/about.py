"""What a model file made by edgekit says of itself: which model it is, how its inputs are prepared, whose weights.

It is one JSON object, kept where each format has room for it: in ONNX metadata, as a member of the zip archives that
.keras, .pt2 and .pt files are, and among the extra assets of a SavedModel. Reading it takes no framework.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edgekit.errors import ArtifactError
from edgekit.wire import read_varint

__all__ = ["ABOUT", "ABOUT_FILE", "SCHEMA", "VERSION", "onnx_metadata", "read_about"]

SCHEMA = "edgekit.model"
VERSION = 1

ABOUT = "edgekit.model"
"""Key in ONNX metadata."""

ABOUT_FILE = "edgekit-model.json"
"""Name of the member of an archive, and of the file in ``assets.extra`` of a SavedModel."""

_MAX_BYTES = 4 << 20
_METADATA = 14
"""Number of ``metadata_props`` in onnx.proto's ModelProto; an entry has its key as field 1, its value as field 2."""


def read_about(path: Path) -> dict[str, Any] | None:
    """What the model at `path` says of itself; None where it says nothing.

    Raises:
        ArtifactError: It says something that is not to be understood, or is a broken archive.
    """
    try:
        text = _text(path)
    except (
        zipfile.BadZipFile,
        zlib.error,
        UnicodeDecodeError,
        RuntimeError,
        EOFError,
    ) as error:  # which zipfile raises
        raise ArtifactError(f"what {path} says of itself cannot be read: {error}", hint="copy it again") from error
    if text is None:
        return None
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"what {path} says of itself is not JSON: {error}", hint="make or copy it again") from error
    if not isinstance(about, dict) or about.get("schema") != SCHEMA or about.get("version") != VERSION:
        raise ArtifactError(f"{path} says of itself what this version of edgekit does not know", hint="make it again")
    return about


def _text(path: Path) -> str | None:
    if path.is_dir():
        extra = path / "assets.extra" / ABOUT_FILE
        return extra.read_text(encoding="utf-8") if extra.is_file() else None
    if not path.is_file():
        return None
    if zipfile.is_zipfile(path):
        return _in_archive(path)
    with path.open("rb") as file:
        return next((value for key, value in _onnx_metadata(file) if key == ABOUT), None)


def _in_archive(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            # PyTorch puts extra files into folders of its own.
            if member.filename.rpartition("/")[2] == ABOUT_FILE and member.file_size <= _MAX_BYTES:
                return archive.read(member).decode("utf-8")
    return None


def onnx_metadata(path: Path) -> dict[str, str]:
    """What an ONNX file says of itself by key; nothing of a file that is none."""
    with path.open("rb") as file:
        return dict(_onnx_metadata(file))


def _onnx_metadata(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """Keys and values of an ONNX file's metadata; none where the file is none. What is large is skipped unread."""
    size = os.fstat(file.fileno()).st_size
    while (found := _field(file, size)) is not None:
        number, length = found
        if number != _METADATA or length > _MAX_BYTES:
            file.seek(length, 1)
            continue
        entry = _entry(file.read(length))
        yield entry.get(1, ""), entry.get(2, "")


def _field(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Number and length of the next field that has a length, numbers before it passed over; None if `size` has none."""
    while (key := read_varint(file)) is not None and key & 7 in (0, 2):
        value = read_varint(file)
        if value is None:
            return None
        if key & 7 == 2:
            return (key >> 3, value) if value <= size - file.tell() else None
    return None


def _entry(data: bytes) -> dict[int, str]:
    file, found = io.BytesIO(data), dict[int, str]()
    while (part := _field(file, len(data))) is not None:
        found[part[0]] = file.read(part[1]).decode("utf-8", errors="replace")
    return found
