"""Numbers as protobuf writes them, for looking into a file without loading it or any package."""

from __future__ import annotations

from typing import BinaryIO

__all__ = ["read_varint"]


def read_varint(file: BinaryIO) -> int | None:
    """A number in base 128, least significant digits first; None where there is none. Leaves the file behind it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
