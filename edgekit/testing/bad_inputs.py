"""Feeds and files as they should not be, and feeds that only look as if they were wrong.

What engines make of such feeds differs and is partly silent: they read byte-swapped numbers as they stand, drop
imaginary parts, run on the last call's array where one is missing. So none of them may ever see one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["DAMAGES", "FEEDS", "MEMORY", "NOT_FINITE", "WRONG", "damage"]

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


def _swapped(x: np.ndarray) -> np.ndarray:
    return x.astype(x.dtype.newbyteorder("S"))


class _ArrayLike:
    """What numpy would make an array of, as the tensors of other libraries are."""

    def __init__(self, x: np.ndarray) -> None:
        self._x = x

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._x


MEMORY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "strided": _strided,
    "negative-stride": lambda x: x[..., ::-1].copy()[..., ::-1],
    "fortran": np.asfortranarray,
    "read-only": _read_only,
    "misaligned": _misaligned,
    "byte-swapped": _swapped,
    "byte-swapped-strided": lambda x: _strided(_swapped(x)),
    "subclass": lambda x: x.view(np.memmap),
    "subclass-read-only": lambda x: _read_only(x).view(np.memmap),
}
"""Ways the same numbers can lie in memory; all are taken."""

WRONG: dict[str, Callable[[np.ndarray], Any]] = {
    # other types, also those that hold every number of the type wanted: what is meant is not guessed
    "float64": lambda x: x.astype("float64"),
    "float16": lambda x: x.astype("float16"),
    "int8": lambda x: x.astype("int8"),
    "int32": lambda x: x.astype("int32"),
    "int64": lambda x: x.astype("int64"),
    "uint8": lambda x: x.astype("uint8"),
    "bool": lambda x: x.astype("bool"),
    "complex": lambda x: x.astype("complex64"),
    "object": lambda x: x.astype(object),
    "text": lambda x: x.astype(str),
    "bytes": lambda x: x.astype(str).astype(bytes),
    "structured": lambda x: np.zeros(x.shape, [("a", "f4")]),
    "time": lambda x: np.zeros(x.shape, "datetime64[s]"),
    "float64-byte-swapped": lambda x: _swapped(x.astype("float64")),
    # no arrays
    "list": lambda x: x.tolist(),
    "none": lambda x: None,
    "number": lambda x: 1.5,
    "word": lambda x: "x",
    "raw-bytes": lambda x: x.tobytes(),
    "array-like": _ArrayLike,
    "masked": lambda x: np.ma.masked_less(x, 0),
    # other shapes
    "rank-more": lambda x: x[None],
    "rank-less": lambda x: x[0],
    "flat": lambda x: x.ravel(),
    "axes-turned": lambda x: np.moveaxis(x, -1, 0),
    "twice-the-batch": lambda x: np.concatenate([x, x]),
    "larger": lambda x: np.concatenate([x, x], axis=-1),
    "smaller": lambda x: x[..., :0],
    "empty": lambda x: np.zeros(0, x.dtype),
    "scalar": lambda x: x.ravel()[0],
    "without-dimensions": lambda x: np.array(x.ravel()[0]),
    "huge": lambda x: np.broadcast_to(x.ravel()[0], (*x.shape[:-1], 2**40)),
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

NOT_FINITE = (np.nan, np.inf, -np.inf)
"""Values that are taken, unless a session is to refuse what is not finite."""


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
