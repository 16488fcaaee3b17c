"""Telling an .onnx file by its first bytes and outer fields, without loading it or any package."""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.wire import read_varint

__all__ = ["looks_like_onnx"]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIELDS = {
    1: _VARINT,  # ir_version
    2: _LENGTH, 3: _LENGTH, 4: _LENGTH, 5: _VARINT, 6: _LENGTH,  # producer, its version, domain, version, doc string
    7: _LENGTH,  # graph
    8: _LENGTH,  # opset_import
    14: _LENGTH, 20: _LENGTH, 25: _LENGTH, 26: _LENGTH,  # metadata, training, functions, configuration
}  # fmt: skip
_MAX_IR_VERSION = 1000
_MAX_FIELDS = 10_000


def looks_like_onnx(path: Path) -> bool:
    """Whether the file's outer fields are those of an ONNX model; a damaged one may still look like one.

    A ModelProto is a protobuf message; its fields have been the same since 2017. What is inside them is not read.
    """
    try:
        size = path.stat().st_size if path.is_file() else 0
        with path.open("rb") as file:
            seen: set[int] = set()
            for _ in range(_MAX_FIELDS):
                if file.tell() >= size:
                    break
                key = read_varint(file)
                if key is None or _FIELDS.get(key >> 3) != key & 7:
                    return False
                value = read_varint(file)
                if value is None or (key >> 3 == 1 and not 0 < value < _MAX_IR_VERSION):
                    return False
                seen.add(key >> 3)
                if key & 7 == _LENGTH:
                    file.seek(value, os.SEEK_CUR)
    except OSError:
        return False
    return 1 in seen and 7 in seen
