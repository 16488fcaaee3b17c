"""Zip files that are the same bytes for the same content, and that are believed in nothing when read.

A zip may come from anywhere. Its directory is checked before anything of it is unpacked: number of members, plain
names, regular files only, and sizes that no honest compression of model weights reaches.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgekit.bundle.manifest import is_plain_name
from edgekit.errors import ArtifactError, UnsupportedError

__all__ = ["Archive", "starts_with_member", "write_zip"]

MAX_MEMBERS = 4096
MAX_RATIO = 100
_SLACK_BYTES = 64 << 10
_MAX_DIRECTORY_BYTES = 1 << 20
# Above this a zip needs the 64-bit extension, which this reader refuses to keep its checks few.
_MAX_ZIP_BYTES = (1 << 31) - 1
_END = struct.Struct("<4s4H2LH")
_END_OF_64_BIT_BYTES = 20
# RuntimeError covers what zipfile says of encryption and unknown methods.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, struct.error, OSError)


def write_zip(path: Path, members: Iterable[tuple[str, Path | bytes]]) -> None:
    """Writes `members` (name, and content or the file that holds it) uncompressed, in their order, undated."""
    members = list(members)
    sizes = [len(source) if isinstance(source, bytes) else source.stat().st_size for _, source in members]
    if sum(sizes) + _MAX_DIRECTORY_BYTES > _MAX_ZIP_BYTES:
        raise UnsupportedError(
            f"{sum(sizes) / 1e6:.0f} MB do not fit into one zip file", hint="write a folder: a name that ends in .edge"
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for (name, source), size in zip(members, sizes, strict=True):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.file_size = size
            with archive.open(info, "w") as sink:
                if isinstance(source, bytes):
                    sink.write(source)
                else:
                    with source.open("rb") as content:
                        shutil.copyfileobj(content, sink, 1 << 20)


def starts_with_member(path: Path, name: str) -> bool:
    """Whether the file at `path` begins as a zip whose first member is `name`, damaged further on or not."""
    with path.open("rb") as file:
        head = file.read(30 + len(name))
    return head[:4] == b"PK\x03\x04" and head[30:] == name.encode()


class Archive:
    """An open zip file whose directory has passed the checks.

    Args:
        file: Open for reading, and stays the caller's to close.
        label: What errors call it.
        max_bytes: Limit for all members together, unpacked.

    Raises:
        ArtifactError: It is no zip, or a check failed; says which.
    """

    def __init__(self, file: BinaryIO, label: str, *, max_bytes: int = _MAX_ZIP_BYTES) -> None:
        self._label = label
        size_bytes = file.seek(0, os.SEEK_END)
        self._check_end(file, size_bytes)
        with self._damage_named():
            self._zip = zipfile.ZipFile(file)
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            self._check_member(info)
            self._members[info.filename] = info
        total = sum(info.file_size for info in self._members.values())
        if total > min(max_bytes, MAX_RATIO * size_bytes):
            raise self._refusal(f"its members would unpack to {total} bytes")

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except ArtifactError:
            raise
        except _DAMAGE as error:
            raise self._refusal(f"{type(error).__name__}: {error}") from error

    def _refusal(self, reason: str) -> ArtifactError:
        return ArtifactError(f"{self._label} is damaged or not safe to unpack: {reason}", hint="get or make it again")

    def _check_end(self, file: BinaryIO, size_bytes: int) -> None:
        """Reads the end record ourselves: zipfile would load a directory of any size before it could be judged."""
        if size_bytes < _END.size:
            raise self._refusal("too short for a zip file")
        file.seek(max(0, size_bytes - _END.size - _END_OF_64_BIT_BYTES))
        tail = file.read()
        magic, disk, start_disk, here, members, directory_bytes, offset, comment = _END.unpack(tail[-_END.size :])
        if magic != b"PK\x05\x06" or comment:
            raise self._refusal("it does not end as a zip file does")
        if tail[: -_END.size].startswith(b"PK\x06\x07") or disk or start_disk or here != members:
            raise self._refusal("zip files of several parts or above 2 GB are not read")
        if members > MAX_MEMBERS or directory_bytes > _MAX_DIRECTORY_BYTES:
            raise self._refusal(f"{members} members")
        if offset + directory_bytes + _END.size != size_bytes:
            raise self._refusal("its directory is not where it should be")

    def _check_member(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        if not is_plain_name(name) or info.orig_filename != name:
            raise self._refusal(f"member {info.orig_filename[:100]!r} is not a plain file name")
        if name in self._members:
            raise self._refusal(f"member {name!r} is there twice")
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise self._refusal(f"member {name!r} is not a regular file")
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._refusal(f"member {name!r} is encrypted, or compressed in an unusual way")
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise self._refusal(f"member {name!r} has two sizes")
        if info.file_size > MAX_RATIO * info.compress_size + _SLACK_BYTES:
            raise self._refusal(f"member {name!r} is compressed beyond {MAX_RATIO} times")

    @property
    def sizes_bytes(self) -> dict[str, int]:
        """Names of the members, in order, with their sizes once unpacked."""
        return {name: info.file_size for name, info in self._members.items()}

    def read(self, name: str, limit_bytes: int) -> bytes:
        """The content of one member, which must not be above the limit."""
        info = self._members.get(name)
        if info is None:
            raise self._refusal(f"it has no {name}")
        if info.file_size > limit_bytes:
            raise self._refusal(f"{name} has {info.file_size} bytes, more than {limit_bytes}")
        with self._damage_named():
            return self._zip.read(info)

    def unpack(self, name: str, path: Path) -> None:
        """Writes one member to `path`, where nothing may be yet. OSError when it cannot be written."""
        with self._damage_named():
            content = self._zip.open(self._members[name])
        with path.open("xb") as sink, content:
            while True:
                with self._damage_named():
                    chunk = content.read(1 << 20)
                if not chunk:
                    return
                sink.write(chunk)
