"""Files by their content: what trials make and are given, under the SHA-256 of what is in them.

Whoever needs a file names its hash. Workers that share the folder find it there; others are sent it once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from edgekit.cache import cache_folder
from edgekit.errors import ArtifactError
from edgekit.staging import writing

__all__ = ["MissingBlobsError", "Store"]

MOST_BYTES = 4 << 30
"""Beyond this what was used longest ago is removed when a run begins."""

_SPARED_S = 24 * 3600
"""What was used within this time stays: another run may be at work."""

Names = Sequence[tuple[str, str]]
"""Names of files that belong together, each with the hash of its content."""


_SOUND: set[tuple[Path, int, int]] = set()
"""Files this process has read and found to be what their names say: place, inode and bytes."""


class MissingBlobsError(ArtifactError):
    """A store that has not what is asked for."""

    def __init__(self, hashes: Sequence[str]) -> None:
        super().__init__(f"the cache has lost {', '.join(hashes)}", hint="start it again: what is lost is made anew")
        self.hashes = tuple(hashes)


class Store:
    """A folder of files by content.

    Args:
        folder: Where; by default in the cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "optimizations" / "store"

    def _place(self, digest: str) -> Path:
        return self.folder / "blobs" / digest[:2] / digest

    def put(self, content: bytes | Path) -> str:
        """Keeps bytes, or what is in a file, on the disk before it returns; the hash."""
        digest = _digest(content)
        place = self._place(digest)
        if self.has(digest):
            return digest
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".new-", dir=place.parent)
            with os.fdopen(descriptor, "wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(place)
        return digest

    def has(self, digest: str) -> bool:
        """Whether it is there and whole; it then counts as used. What is damaged is removed."""
        place = self._place(digest)
        try:
            if not _is_sound(place, digest):
                place.unlink(missing_ok=True)
                return False
            os.utime(place)
        except OSError:
            return False
        return True

    def read(self, digest: str) -> bytes:
        """The content. Raises MissingBlobsError where it is not there or no longer what it was."""
        try:
            content = self._place(digest).read_bytes()
        except FileNotFoundError:
            raise MissingBlobsError([digest]) from None
        if _digest(content) != digest:
            self._place(digest).unlink(missing_ok=True)
            raise MissingBlobsError([digest])
        return content

    def keep(self, blobs: Mapping[str, bytes]) -> None:
        """Takes what another store sent."""
        for content in blobs.values():
            self.put(content)

    def missing(self, digests: Sequence[str]) -> list[str]:
        return [digest for digest in dict.fromkeys(digests) if not self.has(digest)]

    def put_files(self, files: Sequence[Path]) -> list[tuple[str, str]]:
        """Keeps files that belong together; their names and hashes, the first of them first."""
        return [(file.name, self.put(file)) for file in files]

    def open_files(self, names: Names) -> Path:
        """A folder in which these files lie under their names; the path of the first of them.

        Raises:
            MissingBlobsError: One is not there.
        """
        if missing := self.missing([digest for _, digest in names]):
            raise MissingBlobsError(missing)
        identity = hashlib.sha256(repr([tuple(one) for one in names]).encode()).hexdigest()
        folder = self.folder / "sets" / identity
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
            for name, digest in names:
                place, path = folder / name, self._place(digest)
                if not _is_same(place, path, digest):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    _put_beside(path, place)
        return folder / names[0][0]

    def prune(self, most_bytes: int = MOST_BYTES) -> None:
        """Removes what was used longest ago until no more than `most_bytes` are left, but nothing of the last day."""
        found = [(p.stat(), p) for p in self.folder.glob("blobs/*/*") if p.is_file()]
        found.sort(key=lambda one: one[0].st_mtime)
        total, newest = sum(info.st_size for info, _ in found), max((i.st_mtime for i, _ in found), default=0.0)
        for info, path in found:
            if total <= most_bytes or info.st_mtime > newest - _SPARED_S:
                return
            path.unlink(missing_ok=True)
            total -= info.st_size
            self._forget_sets(newest - _SPARED_S)

    def _forget_sets(self, before: float) -> None:
        """Links that keep what is removed on the disk, made again when they are needed; not those of a run at work."""
        for folder in self.folder.glob("sets/*"):
            if folder.stat().st_mtime <= before:
                shutil.rmtree(folder, ignore_errors=True)


def _digest(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_sound(place: Path, digest: str) -> bool:
    """Whether a file is what its hash says, read once in a process. Raises FileNotFoundError."""
    info = place.stat()
    stamp = place, info.st_ino, info.st_size
    if stamp not in _SOUND:
        if _digest(place) != digest:
            return False
        _SOUND.add(stamp)
    return True


def _is_same(place: Path, path: Path, digest: str) -> bool:
    """Whether `place` is what was put there: the very file, or a copy of it on file systems without links."""
    try:
        return place.samefile(path) or _is_sound(place, digest)
    except FileNotFoundError:
        return False


def _put_beside(path: Path, place: Path) -> None:
    """Another name of `path`, or a copy where the file system has none; whoever else did it first has done it."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}.{id(place)}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(place)
