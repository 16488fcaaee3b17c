"""Arrays passed from one process to another through a file that both have mapped to memory."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import UnsupportedError

__all__ = ["Exchange"]

_MEMORY = Path("/dev/shm")
"""A folder that is memory, where there is one; elsewhere the file's pages are written out now and then."""

_ALIGNMENT = 64
_LEAST_BYTES = 1 << 16


class Exchange:
    """Memory that one process writes arrays to and another reads them from; both may make it larger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR)
        self._closing = weakref.finalize(self, os.close, self._fd)  # also of one that is forgotten, and once
        self._map = mmap.mmap(self._fd, os.fstat(self._fd).st_size)

    @classmethod
    def create(cls) -> Exchange:
        """A new one, under a name of its own until `unlink`."""
        fd, name = tempfile.mkstemp(
            prefix=f"edgekit-{os.getpid()}-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None
        )
        try:
            _make_room(fd, _LEAST_BYTES)
            return cls(Path(name))
        except BaseException:
            Path(name).unlink()
            raise
        finally:
            os.close(fd)

    def put(self, arrays: Sequence[np.ndarray]) -> list[list[Any]]:
        """Copies `arrays` in, over what was there, and says where they lie: [dtype, shape, offset] of each."""
        layout: list[list[Any]] = []
        end = 0
        for array in arrays:
            if array.dtype.hasobject:
                raise UnsupportedError("strings cannot be passed to another process")
            layout.append([array.dtype.str, list(array.shape), end])
            end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        self._reach(end)
        for array, target in zip(arrays, self.get(layout), strict=True):
            target[...] = array
        return layout

    def get(self, layout: Sequence[Sequence[Any]]) -> list[np.ndarray]:
        """Arrays on this memory: the next `put`, on either side, overwrites them."""
        found = []
        for dtype, shape, offset in layout:
            count = int(np.prod(shape))
            self._reach(offset + count * np.dtype(dtype).itemsize)
            found.append(np.frombuffer(self._map, dtype, count, offset).reshape(shape))
        return found

    def _reach(self, size: int) -> None:
        """Maps at least `size` bytes. The old map lives on as long as arrays are on it."""
        if size <= len(self._map):
            return
        size = max(size, 2 * len(self._map))
        if os.fstat(self._fd).st_size < size:
            _make_room(self._fd, size)
        self._map = mmap.mmap(self._fd, os.fstat(self._fd).st_size)

    def unlink(self) -> None:
        """Takes its name away; whoever has it open keeps it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Gives back its file; the memory goes with the last array on it."""
        self._closing()


def _make_room(fd: int, size: int) -> None:
    """Makes a file larger. Raises OSError where the room is not there, for which writing to its memory would kill."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:
        os.ftruncate(fd, size)
