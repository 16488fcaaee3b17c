"""``labels.jsonl``: a folder's samples one a line, each with what is true of it.

{"file": "0001.png", "boxes": [{"label": "cat", "box": [0.1, 0.2, 0.5, 0.9]}]}
{"file": "0002.png", "mask": "0002-mask.png", "label": "cat"}
{"file": "0003.wav", "transcript": "what is said or written there"}
{"text": "a sample may be a text of its own", "label": "en"}
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from edgekit.errors import InputError

__all__ = ["LISTING", "Record", "read_listing", "nearest", "require_label"]

LISTING = "labels.jsonl"
FILE_TRUTHS = ("mask", "target")
KEYS = ("file", "text", "label", "boxes", "transcript", *FILE_TRUTHS)


@dataclass(frozen=True)
class Record:
    """One line of a listing.

    Attributes:
        line: Number of the line, from 1.
        file: The sample's file; None where it is a text.
        text: The sample itself; None where it is a file.
        truth: What is true of it, files as paths.
    """

    line: int
    file: Path | None
    text: str | None
    truth: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """Every file the line names."""
        named = [self.file, *(self.truth.get(key) for key in FILE_TRUTHS)]
        return [path for path in named if path is not None]


def read_listing(path: Path, root: Path, labels: Collection[str] = ()) -> list[Record]:
    """All records of the listing at `path`, which must name files that exist.

    Args:
        path: The ``labels.jsonl``.
        root: The folder that files are named relative to.
        labels: The classes there are; empty takes any.

    Raises:
        InputError: With the number of the first line that is wrong.
    """
    records = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    records.append(_numbered(path, root, number, line, labels))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason}", hint="save it as UTF-8") from error
    if not records:
        raise InputError(f"{path} lists no samples", hint="one JSON object a line")
    return records


def _numbered(path: Path, root: Path, number: int, line: str, labels: Collection[str]) -> Record:
    try:
        return _record(line, number, root, labels)
    except InputError as error:
        raise InputError(f"{path}, line {number}: {error.message}", hint=error.hint) from error


def require_label(name: Any, labels: Collection[str]) -> str:
    """`name` if it is one of `labels`, or any text where there are none. Raises InputError."""
    if not isinstance(name, str) or not name:
        raise InputError(f"the label {name!r} is not a text", hint="write the name of the class in quotes")
    if labels and name not in labels:
        raise InputError(f"there is no label {name!r}", hint=nearest(name, labels))
    return name


def nearest(name: str, known: Collection[str]) -> str:
    """A hint: the one of `known` that was perhaps meant, else all of them."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def _record(line: str, number: int, folder: Path, labels: Collection[str]) -> Record:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}", hint="one JSON object a line") from error
    if not isinstance(found, dict):
        raise InputError(f"{type(found).__name__} where an object is expected", hint='{"file": ..., "label": ...}')
    for key in found:
        if key not in KEYS:
            raise InputError(f"unknown key {key!r}", hint=nearest(key, KEYS))
    if ("file" in found) == ("text" in found):
        raise InputError("a sample is either a file or a text", hint='give one of "file" and "text"')
    truth: dict[str, Any] = {}
    for key in ("label", "boxes", "transcript", *FILE_TRUTHS):
        if key in found:
            truth[key] = _truth(key, found[key], folder, labels)
    if "text" in found:
        if not isinstance(found["text"], str) or not found["text"]:
            raise InputError(f"the text {found['text']!r} is not one")
        return Record(number, None, found["text"], truth)
    return Record(number, _file(found["file"], folder), None, truth)


def _truth(key: str, value: Any, folder: Path, labels: Collection[str]) -> Any:
    if key == "label":
        return require_label(value, labels)
    if key == "boxes":
        if not isinstance(value, list):
            raise InputError(f"boxes is {value!r}, not a list", hint='[{"label": ..., "box": [x0, y0, x1, y1]}, ...]')
        return [_box(index, box, labels) for index, box in enumerate(value)]
    if key == "transcript":
        if not isinstance(value, str):
            raise InputError(f"the transcript {value!r} is not a text")
        return value
    return _file(value, folder)


def _box(index: int, found: Any, labels: Collection[str]) -> dict[str, Any]:
    if not isinstance(found, dict) or found.keys() != {"label", "box"}:
        raise InputError(f"box {index} is {found!r}", hint='{"label": NAME, "box": [x0, y0, x1, y1]}')
    corners = found["box"]
    if not isinstance(corners, list) or len(corners) != 4 or not all(_is_number(value) for value in corners):
        raise InputError(f"box {index} has corners {corners!r}", hint="four numbers: x0, y0, x1, y1")
    x0, y0, x1, y1 = (float(value) for value in corners)
    if not all(0 <= value <= 1 for value in (x0, y0, x1, y1)):
        raise InputError(
            f"box {index} reaches outside the picture: {corners}",
            hint="divide pixels by the picture's width and height",
        )
    if x1 <= x0 or y1 <= y0:
        raise InputError(f"box {index} is empty: {corners}", hint="x0 < x1 and y0 < y1; not center and size")
    return {"label": require_label(found["label"], labels), "box": [x0, y0, x1, y1]}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _file(name: Any, folder: Path) -> Path:
    if not isinstance(name, str) or not name:
        raise InputError(f"{name!r} is not the name of a file")
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise InputError(f"{name} is not inside the folder", hint=f"name files relative to {folder}")
    path = folder / inside
    if not path.is_file():
        raise InputError(f"there is no {path}", hint=f"name files relative to {folder}")
    return path
