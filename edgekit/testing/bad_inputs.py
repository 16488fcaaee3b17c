"""Feeds and files as they should not be, and feeds that only look as if they were wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["DAMAGES", "FEEDS", "MEMORY", "WRONG", "damage"]

Arrays = dict[str, np.ndarray]


def _strided(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=-1)[..., ::2]


def _misaligned(x: np.ndarray) -> np.ndarray:
    memory = np.zeros(x.nbytes + 1, "uint8")[1:]
    moved = memory.view(x.dtype).reshape(x.shape)
    moved[...] = x
    return moved


def _read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


MEMORY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "strided": _strided,
    "negative-stride": lambda x: x[..., ::-1].copy()[..., ::-1],
    "fortran": np.asfortranarray,
    "read-only": _read_only,
    "misaligned": _misaligned,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "subclass": lambda x: x.view(np.memmap),
}
"""Ways the same numbers can lie in memory; all are taken."""

WRONG: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda x: x.astype("float64"),
    "float16": lambda x: x.astype("float16"),
    "complex": lambda x: x.astype("complex64"),
    "object": lambda x: x.astype(object),
    "text": lambda x: x.astype(str),
    "structured": lambda x: np.zeros(x.shape, [("a", "f4")]),
    "list": lambda x: x.tolist(),
    "none": lambda x: None,
    "masked": lambda x: np.ma.masked_less(x, 0),
    "number": lambda x: 1.5,
    "rank-more": lambda x: x[None],
    "rank-less": lambda x: x[0],
    "larger": lambda x: np.concatenate([x, x], axis=-1),
    "smaller": lambda x: x[..., :0],
}
"""What is no array of the signature's dtype, rank and shape; all are refused."""

FEEDS: dict[str, Callable[[Arrays], Any]] = {
    "missing": lambda feeds: dict(list(feeds.items())[1:]),
    "extra": lambda feeds: {**feeds, "no_such_input": np.zeros(1, "float32")},
    "renamed": lambda feeds: {f"{name}_": array for name, array in feeds.items()},
    "list": lambda feeds: list(feeds.values()),
    "array": lambda feeds: next(iter(feeds.values())),
    "none": lambda feeds: None,
}
"""What does not map the signature's names to arrays; all are refused."""


DAMAGES = ("missing", "folder", "0", "10", "50", "90", "noise", "text", "hdf5")
"""What can have become of a model file; a number is the percentage that is left of it."""


def damage(path: Path, kind: str) -> Path:
    """Damages a file in one of the ways of `DAMAGES`."""
    whole = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(len(whole)))
    elif kind == "text":
        path.write_text("no model at all\n" * 50, encoding="utf-8")
    elif kind == "hdf5":
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + whole)
    else:
        path.write_bytes(whole[: int(len(whole) * float(kind) / 100)])
    return path
