"""What is copied to a device, named by its content: edgekit's code for it, a model with all its files, feeds."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from edgekit.bundle import Bundle
from edgekit.bundle.manifest import MANIFEST
from edgekit.errors import ArtifactError

__all__ = ["Parcel", "agent_parcel", "file_parcel", "model_parcel"]

_PACKAGE = Path(__file__).resolve().parent.parent
_AGENT = "edgekit.devices.agent"
_AT_HOME = ("edgekit.making",)
"""Modules that nothing on a device comes to: models are made by name at home, and arrive as files."""

_LISTS = ("edgekit", "edgekit.registry")
"""Modules that name others which may never be asked for."""

_NAMED = re.compile(r"edgekit(\.\w+)+(:\w*)?")
"""A module, or a function in it, as `Worker.call` takes it."""

_EXTERNAL = re.compile(rb"\x0a\x08location\x12(?:([\x01-\x7f])|([\x80-\xff])([\x01-\x7f]))")
"""A key "location" before the length of its value: an entry of TensorProto.external_data in onnx.proto."""


@dataclass(frozen=True)
class Piece:
    """One file: its path on the device, its content or where that is, and what it must be."""

    path: str
    source: Path | bytes
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Parcel:
    """Files that belong together.

    Attributes:
        kind: Folder of the device's store.
        name: What errors and progress call it.
        entry: The path of the thing itself among the files; a bundle's is the folder all are in.
    """

    kind: str
    name: str
    entry: str
    pieces: tuple[Piece, ...]

    @property
    def sha256(self) -> str:
        lines = [f"{piece.path}\0{piece.sha256}\n" for piece in sorted(self.pieces, key=lambda piece: piece.path)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum(piece.size_bytes for piece in self.pieces)


def model_parcel(path: Path) -> Parcel:
    """A bundle's folder or zip file, or a model file with the files of weights it names.

    Raises:
        ArtifactError: It is missing or damaged, or has weights outside its folder.
    """
    if path.is_dir():
        bundle = Bundle.open(path)
        files = [*(file for variant in bundle.variants for file in variant.files), bundle.golden_file]
        names = [MANIFEST, *dict.fromkeys(file.path for file in files)]
        return Parcel("received", path.name, path.name, tuple(_piece(path / n, f"{path.name}/{n}") for n in names))
    if not path.is_file():
        raise ArtifactError(f"there is no file {path}", hint="check the path")
    names = [path.name, *_weights_of(path)]
    return Parcel("received", path.name, path.name, tuple(_piece(path.parent / name, name) for name in names))


def file_parcel(path: Path) -> Parcel:
    """A single file."""
    return Parcel("received", path.name, path.name, (_piece(path, path.name),))


@cache
def agent_parcel() -> Parcel:
    """The modules of this installation that profiling and verifying can come to, and no others."""
    places = sorted(_modules(_AGENT))
    contents = {place.relative_to(_PACKAGE.parent).as_posix(): place.read_bytes() for place in places}
    pieces = (Piece(path, data, len(data), hashlib.sha256(data).hexdigest()) for path, data in contents.items())
    return Parcel("agents", "edgekit", "edgekit", tuple(pieces))


def _piece(source: Path, path: str) -> Piece:
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Piece(path, source, file.tell(), digest)
    except OSError as error:
        raise ArtifactError(f"{source} cannot be read: {error.strerror}") from error


def _weights_of(path: Path) -> list[str]:
    """Files beside a model file that hold its weights: OpenVINO's by its name, ONNX's by the names in it."""
    if path.suffix == ".xml":
        weights = path.with_suffix(".bin")
        return [weights.name] if weights.is_file() else []
    return _named_in(path) if path.suffix == ".onnx" else []


def _named_in(path: Path) -> list[str]:
    content = path.read_bytes()
    names = set()
    for found in _EXTERNAL.finditer(content):
        short, low, high = found.groups()
        length = short[0] if short else (low[0] & 0x7F) | high[0] << 7
        name = content[found.end() : found.end() + length].decode(errors="replace")
        if (path.parent / name).is_file():
            names.add(name)
    outside = sorted(name for name in names if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts)
    if outside:
        raise ArtifactError(f"{path} has weights outside its folder: {', '.join(outside)}", hint="put them beside it")
    return sorted(names)


def _modules(root: str) -> set[Path]:
    """Files of all modules that `root` imports or names, at any depth, also inside functions, and of the runtimes."""
    runtimes = (f"edgekit.runtimes.{place.stem}" for place in (_PACKAGE / "runtimes").glob("[a-z]*.py"))
    found: dict[str, Path] = {}
    waiting = [root, *runtimes]
    while waiting:
        name = waiting.pop()
        place = _place(name)
        if name in found or place is None or name.startswith(_AT_HOME):
            continue
        found[name] = place
        waiting += [name.rpartition(".")[0], *_imported(place, name not in _LISTS)]
    return set(found.values())


def _place(name: str) -> Path | None:
    base = _PACKAGE.joinpath(*name.split(".")[1:])
    places: Sequence[Path] = (base / "__init__.py", base.with_suffix(".py"))
    return next((place for place in places if place.is_file()), None) if name.split(".")[0] == "edgekit" else None


def _imported(place: Path, and_named: bool) -> Iterator[str]:
    for node in _statements(ast.parse(place.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif not and_named or not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        elif _NAMED.fullmatch(node.value):
            yield node.value.partition(":")[0]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All there are but those for type checkers."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from _statements(child)
