"""SHA-256 of what is small and asked for at every start.

hashlib loads OpenSSL, which takes longer than hashing all that a start needs; Python's own code does not. hashlib is
for large files.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["sha256_hex"]


def _find() -> Any:
    for place in ("_sha2", "_sha256"):  # from Python 3.12 on, and before it
        try:
            return import_module(place).sha256
        except ImportError:
            continue  # built without
    return import_module("hashlib").sha256


_sha256 = _find()


def sha256_hex(content: bytes) -> str:
    """The SHA-256 of `content` in hexadecimal."""
    return str(_sha256(content).hexdigest())
