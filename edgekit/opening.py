"""Opening a bare model file: which format its content is, and which runtime of this machine is to open it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edgekit.errors import ArtifactError, ConversionError, EdgekitError, UnavailableError, UnsupportedError
from edgekit.record import Record
from edgekit.registry import RUNTIMES
from edgekit.runtime import Engine, EngineOptions, Session
from edgekit.wire import read_varint

__all__ = [
    "ORACLE",
    "Origin",
    "detect_format",
    "each_own_runtime",
    "open_session",
    "own_runtimes",
    "require_format",
    "runtimes_for",
]

ORACLE = "reference"
"""The runtime that says what is right, not what is fast: taken only when it is asked for."""

_CHILD_TIMEOUT_S = 60.0
_HEAD_BYTES = 4096
_XML_ROOT = rb"(?s)^(\xef\xbb\xbf)?\s*(<\?xml[^>]*\?>)?\s*(<!--.*?-->\s*)*<net[\s>]"
_SOURCES = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes",
    b"PK\x03\x04": "a zip archive",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
}
# Top-level fields of ModelProto in onnx.proto, by number, with the wire type each is written in.
_ONNX_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_ONNX_GRAPH = 7


class Origin(Record):
    """What a model was opened from, so that it can be opened again.

    Attributes:
        path: The model's file.
        runtime: Name of the runtime that opened it.
        options: How it was opened.
        stamp: Sizes and times of its files when it was.
    """

    path: Path
    runtime: str
    options: EngineOptions
    stamp: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, path: Path, runtime: str, options: EngineOptions) -> Origin:
        return cls(path.absolute(), runtime, options, _stamp_of(path))

    def is_as_opened(self) -> bool:
        """Whether no file of it has been written anew."""
        return _stamp_of(self.path) == self.stamp


def _stamp_of(path: Path) -> tuple[tuple[int, int], ...]:
    """Size and time of a file and of the weights beside it: what differs when either is written anew."""
    found = [file.stat() for file in (path, path.with_suffix(".bin")) if file.is_file()]
    return tuple((status.st_size, status.st_mtime_ns) for status in found)


def detect_format(path: Path) -> str:
    """The format of a model file by its content: ``"tflite"``, ``"onnx"``, ``"openvino"`` or ``"null"``.

    Raises:
        ArtifactError: The file is missing, a folder, empty, cut off, or of no known format.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if not head:
                raise ArtifactError(f"{path} is empty", hint="copy or convert it again")
            if head[4:8] == b"TFL3":
                return "tflite"
            if b"<net" in head and _is_xml(head):
                return _whole_xml(file, path)
            if head.lstrip()[:1] == b"{":
                return _null_format(path)
            if _is_onnx(file, path):
                return "onnx"
    except FileNotFoundError:
        raise ArtifactError(f"there is no file {path}", hint="check the path") from None
    except IsADirectoryError:
        raise ArtifactError(f"{path} is a folder, not a model file", hint=_folder_hint(path)) from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    what = next((said for magic, said in _SOURCES.items() if head.startswith(magic)), "no model file of a known format")
    raise ArtifactError(
        f"{path} is {what}", hint="bare files are .tflite, .onnx and OpenVINO's .xml; convert others first"
    )


def require_format(path: Path, formats: tuple[str, ...]) -> str:
    """The format of `path`, when it is one of `formats`. Raises ArtifactError otherwise."""
    found = detect_format(path)
    if found not in formats:
        raise ArtifactError(f"{path} is of format {found}, not {' or '.join(formats)}", hint="check the path")
    return found


def _folder_hint(path: Path) -> str:
    return "convert the SavedModel first" if (path / "saved_model.pb").is_file() else "give the model file in it"


def _is_xml(head: bytes) -> bool:
    import re  # which compiles what it is given

    return re.match(_XML_ROOT, head) is not None


def _whole_xml(file: BinaryIO, path: Path) -> str:
    file.seek(0, 2)
    file.seek(max(0, file.tell() - 64))
    if not file.read().rstrip().endswith(b"</net>"):
        raise ArtifactError(f"{path} is an OpenVINO file cut off before its end", hint="copy or convert it again")
    return "openvino"


def _null_format(path: Path) -> str:
    import json

    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a model: {error}", hint="check the path") from error
    if not isinstance(data, dict) or "signature" not in data:
        raise ArtifactError(f"{path} is JSON, but no model", hint="check the path")
    return "null"


def _is_onnx(file: BinaryIO, path: Path) -> bool:
    """Whether the file is a ModelProto, by walking its top level only; a protobuf has no magic number."""
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    has_graph, seen = False, 0
    while file.tell() < size:
        key = read_varint(file)
        number, wire = (key >> 3, key & 7) if key is not None else (0, -1)
        length = read_varint(file) if _ONNX_FIELDS.get(number) == wire else None
        if length is None:
            if seen and has_graph:
                raise ArtifactError(f"{path} is a damaged ONNX file", hint="copy or export it again")
            return False
        if wire == 2:
            if file.tell() + length > size:
                if number == _ONNX_GRAPH:
                    raise ArtifactError(f"{path} is an ONNX file cut off before its end", hint="copy it again")
                return False
            file.seek(length, 1)
        has_graph |= number == _ONNX_GRAPH
        seen += 1
    return has_graph


def runtimes_for(format: str) -> list[str]:
    """Names of the runtimes that open `format`, in registry order, whether or not they work here."""
    return [name for name, engine in RUNTIMES if format in engine.formats]


def own_runtimes(format: str) -> list[str]:
    """Names of the runtimes whose own format this is, in registry order; the oracle is asked only by name."""
    return list(each_own_runtime(format))


def each_own_runtime(format: str) -> Iterator[str]:
    """The same, one by one.

    edgekit's own has the format's name and comes first: where it is enough, no other is imported.
    """
    if RUNTIMES.is_builtin(format) and RUNTIMES.get(format).formats[0] == format:
        yield format
    for name, engine in RUNTIMES:
        if engine.formats[0] == format and name not in (ORACLE, format):
            yield name


def open_session(
    path: Path, format: str, runtime: str | None, options: EngineOptions, **session_args: Any
) -> tuple[str, Session]:
    """Opens `path` with `runtime`, or with the first that opens `format` and works here.

    Args:
        path: The model file.
        format: Its format, as `detect_format` gives it.
        runtime: A name of the registry, or None to choose.
        options: Passed to the engine.
        session_args: Passed to `Session`.

    Returns:
        The runtime's name and the session.

    Raises:
        UnavailableError: The runtime, or every runtime for the format, does not work here.
        UnsupportedError: The runtime does not take this format or this model; says which installed one does.
        ArtifactError: The file is damaged.
    """
    name = runtime if runtime is not None else _first_available(format)
    engine: Engine = RUNTIMES.get(name)
    if format not in engine.formats:
        raise UnsupportedError(
            f"the {name} runtime does not open {format} files",
            hint=f"runtimes that do: {', '.join(runtimes_for(format)) or 'none'}",
        )
    engine.probe().require(f"the {name} runtime")
    try:
        session = Session(engine.open(path, options), runtime=name, **session_args)
    except UnsupportedError as error:
        raise UnsupportedError(
            f"the {name} runtime cannot open {path.name}",
            offenders=error.offenders or (error.message,),
            hint="; ".join(filter(None, [error.hint, _who_opens(path, format, name)])),
        ) from error
    session.origin = Origin.of(path, name, options)
    return name, session


def _first_available(format: str) -> str:
    tried = []
    extras = []
    for name in runtimes_for(format):
        probe = RUNTIMES.get(name).probe()
        if probe.available:
            return name
        tried.append(f"{name}: {probe.reason}")
        extras += [probe.extra] if probe.extra else []
    hint = f"pip install 'edgekit-ml[{extras[0]}]'" if extras else ""
    raise UnavailableError(f"no runtime here opens {format} files; " + "; ".join(tried), hint=hint)


def _who_opens(path: Path, format: str, failed: str) -> str:
    """Which other runtime opens the file, found by trying each in a child: engines may abort on what is new to them."""
    from edgekit.worker import Worker

    found, tried = [], [failed]
    for name in runtimes_for(format):
        if name == failed:
            continue
        with Worker(f"trying {path.name} with {name}") as worker:
            try:
                answer = worker.call("edgekit.opening:try_open", _CHILD_TIMEOUT_S, path=str(path), runtime=name)
            except ConversionError:
                answer = "died"
        tried += [name] if answer != "absent" else []
        found += [name] if answer == "opens" else []
    if found:
        return f"the {found[0]} runtime opens it: runtime={found[0]!r}"
    return f"no installed engine opens it; tried {', '.join(tried)}"


def try_open(path: str, runtime: str) -> str:
    """Runs in a child: ``"opens"``, ``"refuses"``, or ``"absent"`` when the runtime does not work here."""
    engine: Engine = RUNTIMES.get(runtime)
    if not engine.probe().available:
        return "absent"
    try:
        engine.open(Path(path), EngineOptions(threads=1)).close()
    except EdgekitError:
        return "refuses"
    return "opens"
