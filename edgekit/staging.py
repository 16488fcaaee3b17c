"""Writing so that a reader, or whoever comes after a kill, finds the old file whole or the new one whole, never half.

Work happens in a *stage*, a private folder on the destination's own file system, so that the last step is a rename.
A stage is locked for as long as its writer lives; the lock goes with the process, however it ends, and the next
writer in the same place sweeps away stages that nobody holds.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from edgekit.errors import ArtifactError, EdgekitError, InputError

__all__ = [
    "LOCK",
    "STAGE_PREFIX",
    "Stage",
    "already_there",
    "disk_error",
    "locked",
    "publish",
    "put_folder",
    "real_path",
    "require_replaceable",
    "require_space",
    "sweep",
    "sync_file",
    "sync_folder",
    "write_atomically",
    "writing",
]

STAGE_PREFIX = ".edgekit-stage-"
LOCK = ".lock"

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
# What os.link says on file systems without hard links (FAT, some network and FUSE mounts), or at their limit.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EACCES}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within it, what the operating system refuses becomes an ArtifactError about `path`."""
    try:
        yield
    except EdgekitError:
        raise
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> ArtifactError:
    """The ArtifactError that says what `error` means for whoever wanted `path` written."""
    if error.errno in _NO_SPACE:
        return ArtifactError(f"no space left on the disk to write {path}", hint="free some space, or write elsewhere")
    if error.errno in _NOT_ALLOWED:
        return ArtifactError(f"not allowed to write {path}: {error.strerror}", hint="write to another folder")
    return ArtifactError(f"could not write {path}: {error.strerror or error}", hint="write to another folder")


def real_path(path: Path) -> Path:
    """`path` made absolute and without links, so that replacing it replaces the file and not a link to it."""
    return Path(os.path.realpath(path))


def require_replaceable(path: Path, *, force: bool) -> None:
    """Raises InputError unless a file may be put at `path`: nothing is there, or with `force` a regular file."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder", hint="give the name of a file")
    if not stat.S_ISREG(mode):
        # Replacing a device such as /dev/null by a file would harm the whole machine.
        raise InputError(f"{path} is not a regular file", hint="give another name")
    if not force:
        raise already_there(path)


def already_there(path: Path) -> InputError:
    return InputError(f"{path} exists already", hint="--force replaces it")


def require_space(path: Path, needs_bytes: int) -> None:
    """Raises ArtifactError when the disk `path` is on has less than `needs_bytes` free for this user."""
    import shutil

    free = shutil.disk_usage(_existing(path)).free
    if free < needs_bytes:
        raise ArtifactError(
            f"writing {path} needs about {needs_bytes / 1e6:.0f} MB, but the disk has {free / 1e6:.0f} MB free",
            hint="free some space, or write elsewhere",
        )


def _existing(path: Path) -> Path:
    """The nearest folder above `path` that exists; folders still to be made will be on its file system."""
    return next((folder for folder in path.parents if folder.is_dir()), Path("/"))


def sync_file(path: Path) -> None:
    """Waits until the content of `path` is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


sync_folder = sync_file
"""Waits until the names in a folder are on the disk; a folder is synced as a file is."""


def _lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor holding the lock at `path`, made if absent; None if another holds it and `wait` is False.

    Holders may remove the file before they let go, so one that got hold of a removed file tries again.
    """
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the one lock of `folder`, waiting for whoever has it. Leaves no file behind."""
    path = folder / LOCK
    descriptor = _lock(path, wait=True)
    assert descriptor is not None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


class Stage:
    """A private folder on the file system of `destination`, for the length of a ``with`` block.

    Attributes:
        work: Where the caller works; its files are published by a rename.
    """

    work: Path

    def __init__(self, destination: Path) -> None:
        self._destination = destination

    def __enter__(self) -> Stage:
        with writing(self._destination):
            home = self._home()
            sweep(home)
            self._folder, self._descriptor = _new_stage(home)
            self.work = self._folder / "work"
            try:
                self.work.mkdir()
            except BaseException:
                self._remove()
                raise
        return self

    def _home(self) -> Path:
        """Beside the destination; inside it where it is a mount of its own, as a rename cannot leave one."""
        home = _existing(self._destination)
        if self._destination.is_dir() and self._destination.stat().st_dev != home.stat().st_dev:
            return self._destination
        return home

    def _remove(self) -> None:
        import shutil

        # What cannot be removed now is swept by the next writer, as after a kill; it must not hide the work's error.
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._descriptor)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()
        if isinstance(value, OSError) and value.errno in _NO_SPACE and not isinstance(value, EdgekitError):
            raise disk_error(self._destination, value) from value


def _new_stage(home: Path) -> tuple[Path, int]:
    import tempfile

    while True:
        folder = Path(tempfile.mkdtemp(prefix=STAGE_PREFIX, dir=home))
        try:
            descriptor = _lock(folder / LOCK, wait=True)
        except FileNotFoundError:
            continue  # another writer swept it before it was locked
        assert descriptor is not None
        return folder, descriptor


def sweep(home: Path) -> None:
    """Removes stages in `home` that no living writer holds."""
    import shutil

    for folder in list(home.iterdir()):
        if not folder.name.startswith(STAGE_PREFIX) or folder.is_symlink() or not folder.is_dir():
            continue
        try:
            descriptor = _lock(folder / LOCK, wait=False)
        except OSError:
            continue  # another user's, or another writer has just swept it: not ours to remove
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)  # a dying child may still write into it: the next sweep gets it
            os.close(descriptor)


def publish(source: Path, destination: Path, *, force: bool) -> None:
    """Puts the finished file `source`, of the same file system, at `destination` in one step."""
    sync_file(source)
    destination.parent.mkdir(parents=True, exist_ok=True)
    if force:
        source.replace(destination)
    else:
        _link_new(source, destination)
    sync_folder(destination.parent)


def _link_new(source: Path, destination: Path) -> None:
    """A link fails where something is, whoever was faster; a rename would replace it."""
    try:
        os.link(source, destination)
    except FileExistsError:
        raise already_there(destination) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if destination.exists():
            raise already_there(destination) from None
        source.replace(destination)


def put_folder(source: Path, destination: Path) -> bool:
    """Renames the finished folder `source` to `destination`; False if one is there already, which then stays."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(destination)
    except OSError:
        if not destination.is_dir():
            raise
        return False  # another process was faster
    sync_folder(destination.parent)
    return True


def write_atomically(path: Path, content: bytes | Callable[[Path], object], *, force: bool = False) -> Path:
    """Writes one file whole or not at all.

    Args:
        path: Where to; folders above it are made.
        content: The bytes, or a function that writes them to the path it is given (of the same name).
        force: Replace a file that is there.

    Returns:
        The absolute path written.

    Raises:
        InputError: Something is at `path` already and `force` is not given, or it is no regular file.
        ArtifactError: The operating system refused: no space, no permission, ...
    """
    destination = real_path(path)
    require_replaceable(destination, force=force)
    with Stage(destination) as stage, writing(path):
        staged = stage.work / destination.name
        if isinstance(content, bytes):
            staged.write_bytes(content)
        else:
            content(staged)
        publish(staged, destination, force=force)
    return destination
