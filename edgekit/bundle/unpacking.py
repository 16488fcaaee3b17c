"""A zipped bundle as a folder: unpacked once into a private cache, under the hash of the zip file."""

from __future__ import annotations

import hashlib
import os
import time
from io import BufferedReader
from pathlib import Path

from edgekit.bundle.archive import Archive
from edgekit.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, stored_file
from edgekit.cache import cache_folder
from edgekit.errors import ArtifactError
from edgekit.staging import Stage, locked, sync_file, sync_folder

__all__ = ["unpacked"]

_KEPT = 8
_IN_USE_S = 24 * 3600


def unpacked(path: Path) -> Path:
    """The folder that holds what the zip file `path` holds; made, checked file by file, when it is not there yet.

    Raises:
        ArtifactError: The zip is damaged or unsafe, or there is nowhere to unpack it.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        archive = Archive(file, str(path))
        raw = archive.read(MANIFEST, MAX_MANIFEST_BYTES)
        manifest = Manifest.decode(raw, path)
        sizes = archive.sizes_bytes
        wrong = [file.path for file in manifest.files if sizes.get(file.path) != file.size_bytes]
        if wrong:
            raise ArtifactError(
                f"{path} is damaged: {', '.join(wrong)} missing or of another size", hint="get it again"
            )
        folder = cache_folder() / "bundles" / _digest(file)
        if not _is_whole(folder, raw, manifest):
            _unpack(path, archive, raw, manifest, folder)
        os.utime(folder)
        return folder


def _digest(file: BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(folder: Path, raw: bytes, manifest: Manifest) -> bool:
    """Whether `folder` has this manifest and files of the right sizes; their hashes are for `Bundle.verify`."""
    try:
        same = (folder / MANIFEST).read_bytes() == raw
    except OSError:
        return False
    return same and not any(file.problem(folder) for file in manifest.files)


def _unpack(path: Path, archive: Archive, raw: bytes, manifest: Manifest, folder: Path) -> None:
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with Stage(folder) as stage:
            fresh = stage.work / "bundle"
            fresh.mkdir()
            for file in manifest.files:
                archive.unpack(file.path, fresh / file.path)
                if stored_file(fresh / file.path, role=file.role) != file:
                    raise ArtifactError(f"{path} is damaged: {file.path} does not match its hash", hint="get it again")
                sync_file(fresh / file.path)
            (fresh / MANIFEST).write_bytes(raw)
            sync_file(fresh / MANIFEST)
            with locked(folder.parent):
                if not _is_whole(folder, raw, manifest):  # or another process was faster
                    if folder.exists():
                        folder.rename(stage.work / "damaged")
                    fresh.rename(folder)
                    sync_folder(folder.parent)
                _forget_oldest(folder.parent)
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be unpacked into {folder.parent}: {error.strerror}",
            hint="set EDGEKIT_CACHE to a folder with space, or unzip it yourself into a folder and use that",
        ) from error


def _forget_oldest(folder: Path) -> None:
    """Keeps the bundles opened last, and those opened today, which may be in use."""
    import shutil

    last_used = {entry: entry.stat().st_mtime for entry in folder.iterdir() if not entry.name.startswith(".")}
    for entry in sorted(last_used, key=last_used.__getitem__, reverse=True)[_KEPT:]:
        if last_used[entry] < time.time() - _IN_USE_S:
            shutil.rmtree(entry, ignore_errors=True)  # what is left of it is damaged, and made again when asked for
