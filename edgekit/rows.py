"""Files of arrays, .npy and .npz, whole or an index of the first axis at a time, and of text by lines, as samples."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekit.errors import InputError

__all__ = ["ROW_SUFFIXES", "RowFile", "load_arrays", "open_rows"]

ROW_SUFFIXES = (".npy", ".npz", ".txt")
"""Of files that hold many samples."""

_BROKEN = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What NumPy and zipfile raise on files that are not what their names say: MemoryError where a header asks for
terabytes, RuntimeError for archives that are encrypted or packed in a way Python does not know."""

_UNNAMED = "arr_0"
"""The name `numpy.savez` gives to an array that was passed without one."""


class RowFile(Protocol):
    """A file whose arrays have samples along their first axis, or a text whose lines they are."""

    def __len__(self) -> int: ...

    def rows(self, chosen: Sequence[int]) -> Iterator[Any]:
        """The rows at the indices `chosen`, which ascend: an array each, a dict of arrays by name, or a text."""


def load_arrays(path: Path) -> Any:
    """The array in a .npy file, or the arrays by name in an .npz file. Raises InputError; opens nothing pickled."""
    try:
        with path.open("rb") as file:  # NumPy leaves it open itself where an archive is broken
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            return _bare({name: loaded[name] for name in loaded.files})
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def open_rows(path: Path) -> RowFile:
    """The rows of a .npy, .npz or .txt file. Raises InputError if it cannot be read or has none."""
    kinds: dict[str, Callable[[Path], RowFile]] = {".npy": _Mapped, ".npz": _Archive, ".txt": _Text}
    try:
        file = kinds[path.suffix.lower()](path)
        count = len(file)
    except InputError:
        raise
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    if not count:
        raise InputError(f"{path} holds no samples", hint="the first axis, or the lines, are samples")
    return file


def _bare(row: dict[str, Any]) -> Any:
    """The array itself where it is the only one and nobody named it."""
    return row[_UNNAMED] if row.keys() == {_UNNAMED} else row


def _unreadable(path: Path, error: Exception) -> InputError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "pickle" in said.lower() and not _is_known(path):
        return InputError(f"{path} is no file of arrays: it does not begin as one", hint="np.save, np.savez write them")
    if "pickle" in said.lower() or "object" in said.lower():
        return InputError(f"{path} is pickled, which can hold code", hint="save plain arrays: np.save, np.savez")
    hint = "save it as UTF-8" if path.suffix.lower() == ".txt" else "is it whole, and written by NumPy?"
    return InputError(f"{path} cannot be read as {path.suffix}: {said}", hint=hint)


def _is_known(path: Path) -> bool:
    """Whether a file begins as .npy, .npz or a pickle: NumPy takes all else for a pickle."""
    with path.open("rb") as file:
        return file.read(2).startswith((b"\x93N", b"PK", b"\x80"))


class _Mapped:
    """A .npy file, through a memory map."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _open(self) -> np.ndarray:
        array = np.load(self._path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            raise InputError(f"{self._path} has no first axis that runs over samples")
        return array

    def __len__(self) -> int:
        array = self._open()
        return len(array) if array.size else 0

    def rows(self, chosen: Sequence[int]) -> Iterator[Any]:
        array = self._open()
        for index in chosen:
            yield np.array(array[index])


class _Text:
    """A file of UTF-8 text, of which each line is a sample that is not blank."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _lines(self) -> Iterator[str]:
        with self._path.open(encoding="utf-8-sig") as file:
            yield from filter(None, map(str.strip, file))

    def __len__(self) -> int:
        return sum(1 for _ in self._lines())

    def rows(self, chosen: Sequence[int]) -> Iterator[str]:
        wanted = iter(chosen)
        next_one = next(wanted, None)
        for index, line in enumerate(self._lines()):
            if index == next_one:
                yield line
                next_one = next(wanted, None)


class _Archive:
    """An .npz file, whose members are streamed because they cannot be mapped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        with zipfile.ZipFile(self._path) as archive:
            counts = {name: member.count for name, member in _members(archive).items()}
        if len(set(counts.values())) != 1:
            said = ", ".join(f"{name} has {count}" for name, count in counts.items()) or "it has no arrays"
            raise InputError(f"the arrays of {self._path} do not hold the same number of samples: {said}")
        return next(iter(counts.values()))

    def rows(self, chosen: Sequence[int]) -> Iterator[Any]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                members = _members(archive)
                for index in chosen:
                    yield _bare({name: member.row(index) for name, member in members.items()})
        except _BROKEN as error:
            raise _unreadable(self._path, error) from error


def _members(archive: zipfile.ZipFile) -> dict[str, _Member]:
    names = [name for name in archive.namelist() if name.endswith(".npy")]
    return {name.removesuffix(".npy"): _Member(archive, name) for name in names}


class _Member:
    """One array of an .npz file, read forward row by row."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._file = archive.open(name)
        version = np.lib.format.read_magic(self._file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"array {name} is of format {version}")
        shape, is_fortran, dtype = readers[version](self._file)
        if dtype.hasobject:
            raise ValueError(f"array {name} is pickled")
        if is_fortran and len(shape) > 1:
            raise ValueError(f"array {name} is in Fortran order; save np.ascontiguousarray(x)")
        self.count = shape[0] if shape and 0 not in shape else 0
        self._shape, self._dtype = shape[1:], dtype
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        self._next = 0

    def row(self, index: int) -> np.ndarray:
        self._file.seek((index - self._next) * self._row_bytes, 1)
        self._next = index + 1
        content = self._file.read(self._row_bytes)
        if len(content) < self._row_bytes:
            raise EOFError(f"it ends within row {index}")
        return np.frombuffer(content, self._dtype).reshape(self._shape).copy()
