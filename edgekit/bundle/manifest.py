"""What a bundle's ``edgekit.json`` says: records of its files and variants, written canonically and read strictly.

A manifest may come from anywhere, so nothing it says is believed before it is checked: its size and depth are
limited, every field has one type, and every file it names is a plain name inside the bundle's own folder.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from edgekit.errors import ArtifactError
from edgekit.hashing import sha256_hex
from edgekit.record import Record, field
from edgekit.spec import Signature

__all__ = [
    "MANIFEST",
    "Artifact",
    "Manifest",
    "StoredFile",
    "is_plain_name",
    "read_regular",
    "stored_file",
]

MANIFEST = "edgekit.json"
SCHEMA = "edgekit.bundle"
VERSION = 1

MAX_MANIFEST_BYTES = 4 << 20
MAX_DEPTH = 32
MAX_FILES = 200
_MAX_NAME = 200

_AGAIN = "get the bundle again, or convert the source model again"
_HEXADECIMAL = "0123456789abcdef"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class StoredFile(Record):
    """A file of a bundle, and what it must be.

    Attributes:
        path: Plain name inside the bundle's folder.
        sha256: Of its content, in hexadecimal.
        size_bytes: Its length.
        role: ``"model"`` for the file an engine opens, ``"weights"`` for what that one refers to, ``"golden"``.
    """

    path: str
    sha256: str
    size_bytes: int
    role: str = "model"

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "size_bytes": self.size_bytes, "role": self.role}

    def problem(self, folder: Path) -> str:
        """What is wrong with the file in `folder` as far as is seen without reading it; empty when nothing is."""
        try:
            info = (folder / self.path).lstat()
        except FileNotFoundError:
            return "missing"
        if not stat.S_ISREG(info.st_mode):
            return "not a regular file"
        if info.st_size != self.size_bytes:
            return f"{info.st_size} bytes, should be {self.size_bytes}"
        return ""


class Artifact(Record):
    """A model file (or pair) an engine opens, with what is known of it.

    Attributes:
        name: What it is called in its bundle, such as ``"tflite-w8a8"``.
        format: ``"onnx"``, ``"tflite"`` or ``"openvino"``.
        precision: A name of a recipe, such as ``"w8a8"``.
        path: The file to open, absolute.
        files: All files it consists of; empty for a bare file that is in no bundle.
        input_names: For inputs of the bundle's signature, the file's name, where it differs.
        output_names: The same for outputs.
        engine_options: What engines are to be told when they open it.
        facts: What was measured or decided when it was made: parity, tolerance, share of integer MACs, road, notes.
    """

    name: str
    format: str
    precision: str
    path: Path
    files: tuple[StoredFile, ...] = ()
    input_names: Mapping[str, str] = field(default_factory=dict)
    output_names: Mapping[str, str] = field(default_factory=dict)
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Of all its files together."""
        return sum(file.size_bytes for file in self.files) if self.files else self.path.stat().st_size

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "format": self.format,
            "precision": self.precision,
            "file": self.path.name,
            "files": [file.to_json() for file in self.files],
            "input_names": dict(self.input_names),
            "output_names": dict(self.output_names),
            "engine_options": dict(self.engine_options),
            "facts": dict(self.facts),
        }


class Manifest(Record):
    """The content of ``edgekit.json``. Paths of variants are absolute, in the folder it was decoded for."""

    name: str
    target: str
    signature: Signature
    processing: Mapping[str, Any]
    variants: tuple[Artifact, ...]
    golden: StoredFile
    statistics: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every file the bundle consists of, once, besides the manifest."""
        unique = {file.path: file for variant in self.variants for file in variant.files}
        return (*unique.values(), self.golden)

    def encode(self) -> bytes:
        """The bytes of the file: the same for the same content, and always such that `decode` takes them."""
        data = {
            "schema": SCHEMA,
            "version": VERSION,
            "name": self.name,
            "target": self.target,
            "signature": self.signature.to_json(),
            "processing": self.processing,
            "variants": [variant.to_json() for variant in self.variants],
            "golden": self.golden.to_json(),
            "statistics": self.statistics,
            "provenance": self.provenance,
        }
        from edgekit.bundle.plain import plain_json

        plain = plain_json(data, "manifest")
        raw = _canonical({**plain, "checksum": _checksum(plain)})
        self._decode(raw, Path("/"))
        return raw

    @classmethod
    def decode(cls, raw: bytes, folder: Path) -> Manifest:
        """Reads the bytes of a manifest that lies in `folder`. Raises ArtifactError saying what is wrong and where."""
        try:
            return cls._decode(raw, folder)
        except ArtifactError as error:
            raise ArtifactError(f"{folder}: {error.message}", hint=error.hint) from error

    @classmethod
    def _decode(cls, raw: bytes, folder: Path) -> Manifest:
        data = _fields(_parse(raw), "manifest", schema=str, version=int)
        if data["schema"] != SCHEMA:
            _wrong("schema", f"{data['schema']!r}, not {SCHEMA!r}")
        if data["version"] != VERSION:
            raise ArtifactError(
                f"the bundle's manifest is of version {data['version']}, this edgekit reads version {VERSION}",
                hint="install a newer edgekit, or convert again",
            )
        _fields(
            data, "manifest", exactly=True, schema=str, version=int, checksum=str, name=str, target=str, signature=dict,
            processing=dict, variants=list, golden=dict, statistics=dict, provenance=dict,
        )  # fmt: skip
        if not _is_as_written(raw, data["checksum"]):
            _wrong("checksum", "it is not as it was written")
        signature = _signature(data["signature"])
        variants = tuple(
            _variant(entry, f"variants[{i}]", signature, folder) for i, entry in enumerate(data["variants"])
        )
        manifest = cls(
            name=_word(data["name"], "name"),
            target=_word(data["target"], "target"),
            signature=signature,
            processing=data["processing"],
            variants=variants,
            golden=_stored(data["golden"], "golden"),
            statistics=data["statistics"],
            provenance=data["provenance"],
        )
        manifest._check_files()
        return manifest

    def _check_files(self) -> None:
        names = [variant.name for variant in self.variants]
        if not names:
            _wrong("variants", "empty")
        if len(set(names)) != len(names):
            _wrong("variants", f"names used twice among {names}")
        known: dict[str, StoredFile] = {}
        for file in (self.golden, *(file for variant in self.variants for file in variant.files)):
            if known.setdefault(file.path, file) != file or file.path == MANIFEST:
                _wrong("variants", f"two meanings for the file {file.path!r}")
        if len(known) > MAX_FILES:
            _wrong("variants", f"{len(known)} files, more than {MAX_FILES}")


def _canonical(data: Mapping[str, Any]) -> bytes:
    text = json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", errors="backslashreplace") + b"\n"


def _checksum(data: Mapping[str, Any]) -> str:
    """SHA-256 of all but itself. It finds accidents: a changed digit in a mean would pass every other check."""
    return sha256_hex(_canonical({key: value for key, value in data.items() if key != "checksum"}))


def _is_as_written(raw: bytes, checksum: str) -> bool:
    """Whether `raw` without the line of its checksum, the first, has that checksum; writing it again takes longer."""
    head = b'{\n "checksum": "%s",\n' % checksum.encode()
    return raw.startswith(head) and sha256_hex(b"{\n" + raw[len(head) :]) == checksum


def is_plain_name(name: str) -> bool:
    """Whether `name` can only mean a file directly inside a folder: no path, nothing hidden, nothing unprintable."""
    return 0 < len(name) <= _MAX_NAME and name[0] in _LETTERS and not name.strip(_LETTERS + "._+-")


def read_regular(path: Path, limit_bytes: int) -> bytes:
    """The content of `path`, which must be a regular file, no link, and not above the limit."""
    with _open_regular(path) as file:
        raw = file.read(limit_bytes + 1)
    if len(raw) > limit_bytes:
        raise ArtifactError(f"{path} is larger than {limit_bytes >> 20} MB, too large for what it is", hint=_AGAIN)
    return raw


def stored_file(path: Path, *, role: str = "model") -> StoredFile:
    """The record of the file at `path`, which must be a regular file and no link."""
    import hashlib

    with _open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return StoredFile(path.name, digest, os.fstat(file.fileno()).st_size, role)


def _open_regular(path: Path) -> BufferedReader:
    """Follows no link at the end of `path`, and does not wait at a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        said = "is not a regular file" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise ArtifactError(f"{path} {said}", hint=_AGAIN) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtifactError(f"{path} is not a regular file", hint=_AGAIN)
    return os.fdopen(descriptor, "rb")


def _wrong(where: str, what: str) -> NoReturn:
    raise ArtifactError(f"not a valid manifest of a bundle: {where}: {what}", hint=_AGAIN)


def _parse(raw: bytes) -> Any:
    if not raw:
        _wrong(MANIFEST, "0 bytes")
    if len(raw) > MAX_MANIFEST_BYTES:
        _wrong(MANIFEST, f"{len(raw)} bytes, more than {MAX_MANIFEST_BYTES}")
    try:
        data = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        _wrong(MANIFEST, "nested too deep")
    except ValueError as error:
        _wrong(MANIFEST, f"damaged JSON ({error})")
    _check_depth(data)
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key is there twice")
    return data


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _check_depth(data: Any) -> None:
    level = [data]
    for _ in range(MAX_DEPTH):
        if any(isinstance(value, float) and not math.isfinite(value) for value in level):
            _wrong(MANIFEST, "a number is out of range")
        level = [item for value in level for item in _children(value)]
        if not level:
            return
    _wrong(MANIFEST, "nested too deep")


def _children(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _fields(data: Any, where: str, *, exactly: bool = False, **types: type) -> dict[str, Any]:
    """`data`, checked to be an object whose fields are of `types`; with `exactly`, with no others."""
    if not isinstance(data, dict):
        _wrong(where, "not an object")
    for name, wanted in types.items():
        if name not in data:
            _wrong(where, f"{name!r} is missing")
        if type(data[name]) is not wanted:
            _wrong(f"{where}.{name}", f"a {type(data[name]).__name__}, should be a {wanted.__name__}")
    if exactly and (unknown := sorted(set(data) - set(types))):
        _wrong(where, f"unknown fields {unknown}")
    return data


def _word(text: Any, where: str) -> str:
    """A short name that is safe to print on a terminal."""
    if not isinstance(text, str) or not 0 < len(text) <= 200 or not text.isprintable():
        _wrong(where, "not a printable name")
    return text


def _stored(data: Any, where: str) -> StoredFile:
    entry = _fields(data, where, exactly=True, path=str, sha256=str, size_bytes=int, role=str)
    if not is_plain_name(entry["path"]):
        _wrong(f"{where}.path", f"{entry['path']!r} is not a plain file name")
    if len(entry["sha256"]) != 64 or entry["sha256"].strip(_HEXADECIMAL):
        _wrong(f"{where}.sha256", "not 64 hexadecimal digits")
    if not 0 <= entry["size_bytes"] < 1 << 48:
        _wrong(f"{where}.size_bytes", "out of range")
    return StoredFile(entry["path"], entry["sha256"], entry["size_bytes"], _word(entry["role"], f"{where}.role"))


def _variant(data: Any, where: str, signature: Signature, folder: Path) -> Artifact:
    entry = _fields(
        data, where, exactly=True, name=str, format=str, precision=str, file=str, files=list, input_names=dict,
        output_names=dict, engine_options=dict, facts=dict,
    )  # fmt: skip
    files = tuple(_stored(file, f"{where}.files[{i}]") for i, file in enumerate(entry["files"]))
    if entry["file"] not in [file.path for file in files]:
        _wrong(f"{where}.file", f"{entry['file']!r} is not among its files")
    for names, specs in (("input_names", signature.inputs), ("output_names", signature.outputs)):
        unknown = set(entry[names]) - {spec.name for spec in specs}
        if unknown or not all(isinstance(name, str) for name in entry[names].values()):
            _wrong(f"{where}.{names}", f"does not map names of the signature to names: {sorted(unknown)}")
    return Artifact(
        name=_word(entry["name"], f"{where}.name"),
        format=_word(entry["format"], f"{where}.format"),
        precision=_word(entry["precision"], f"{where}.precision"),
        path=folder / entry["file"],
        files=files,
        input_names=entry["input_names"],
        output_names=entry["output_names"],
        engine_options=entry["engine_options"],
        facts=entry["facts"],
    )


def _signature(data: Any) -> Signature:
    try:
        signature = Signature.from_json(data)
        quants = [spec.quant for spec in (*signature.inputs, *signature.outputs) if spec.quant]
        is_typed = all(isinstance(spec.name, str) for spec in (*signature.inputs, *signature.outputs)) and all(
            isinstance(q.dtype, str) and all(type(z) is int for z in q.zero_point) for q in quants
        )
    except (KeyError, TypeError, AttributeError, ValueError, ArtifactError) as error:
        _wrong("signature", f"{type(error).__name__}: {error}")
    for specs in (signature.inputs, signature.outputs):
        names = [spec.name for spec in specs]
        if not is_typed or len(set(names)) != len(names):
            _wrong("signature", f"names or types are wrong among {names}")
        for spec in specs:
            if not all((type(d) is int and d >= 0) or (isinstance(d, str) and d) for d in spec.shape):
                _wrong("signature", f"{spec.name!r} has an impossible shape {list(spec.shape)}")
    inputs, outputs = ({spec.name for spec in specs} for specs in (signature.inputs, signature.outputs))
    if not all(pair.input in inputs and pair.output in outputs for pair in signature.state):
        _wrong("signature", "a state names no input or output")
    return signature
