"""Records back from the JSON they were written as: what `profile --json` and a device's agent give.

Driven by the fields of the dataclasses, so that a field added to a record comes along by itself. Fields a file does
not have take their defaults, so files of older versions are read; names a record does not have are passed over, as
numbers that are derived from others are written too.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from edgekit.errors import ArtifactError
from edgekit.measuring.records import SCHEMA, VERSION, Measurement, Profile

__all__ = ["measurement_from_json", "profile_from_json", "read_profile", "record_from_json"]

R = TypeVar("R")

_CUT = "it was cut short, or written by something else"

_PLAIN: Mapping[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((float, int), "a number"),
    str: ((str,), "text"),
}


def read_profile(path: str | Path) -> Profile:
    """The profile in a file that ``edgekit profile -o FILE.json`` or ``--json`` wrote.

    Raises:
        ArtifactError: The file is missing, no JSON, no profile, or of a newer version than this one knows.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}", hint="edgekit profile -o FILE.json") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}", hint="edgekit profile -o FILE.json writes one") from error
    return profile_from_json(data, str(path))


def profile_from_json(data: Any, what: str = "the profile") -> Profile:
    """What `Profile.to_json` gave; `what` names its origin in errors. Raises ArtifactError for anything else."""
    schema, version = (data.get("schema"), data.get("version")) if isinstance(data, Mapping) else (None, None)
    if schema != SCHEMA:
        said = f"says it is {schema!r}" if isinstance(schema, str) else "does not say what it is"
        raise ArtifactError(f"{what} is no profile: it {said}", hint="edgekit profile -o FILE.json writes one")
    if version.__class__ is not int or not 1 <= version <= VERSION:
        raise ArtifactError(
            f"{what} is a profile of version {version}; this edgekit knows up to {VERSION}",
            hint="update edgekit, or profile again",
        )
    return record_from_json(Profile, data, what)


def measurement_from_json(data: Any, what: str = "the measurement") -> Measurement:
    """What `Measurement.to_json` gave. Raises ArtifactError when it is something else."""
    return record_from_json(Measurement, data, what)


def record_from_json(cls: type[R], data: Any, what: str) -> R:
    """A record of the dataclass `cls` from plain data; its fields that are records may lie flat beside the others.

    Args:
        cls: A dataclass, or an `edgekit.record.Record`.
        data: An object of JSON.
        what: Where it is from, for errors.

    Raises:
        ArtifactError: A value is missing or of another kind than its field; the message names its place.
    """
    return _record(cls, data, f"{what}: ")


def _record(cls: Any, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise _mismatch(where, "an object", data)
    values = {}
    for name, kind, is_needed in _fields(cls):
        if name in data:
            values[name] = _value(kind, data[name], where + name)
        elif is_needed and _is_record(kind):
            values[name] = _record(kind, data, where)
        elif is_needed:
            raise ArtifactError(f"{where}{name} is missing", hint=_CUT)
    return cls(**values)


@cache
def _fields(cls: type) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type and whether a value is needed, of each argument of a dataclass."""
    hints = typing.get_type_hints(cls)
    missing = dataclasses.MISSING
    return tuple(
        (field.name, hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(cls)
        if field.init
    )


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _value(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(typing.get_args(kind), value, where)
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise _mismatch(where, " or ".join(map(repr, typing.get_args(kind))), value)
        return value
    if _is_record(kind):
        return _record(kind, value, f"{where}.")
    if (origin or kind) in (tuple, list, Sequence):
        return _items(kind, origin or kind, value, where)
    if (origin or kind) in (dict, Mapping):
        if not isinstance(value, dict):
            raise _mismatch(where, "an object", value)
        inner = (typing.get_args(kind) or (str, Any))[1]
        return {key: _value(inner, item, f"{where}.{key}") for key, item in value.items()}
    if kind not in _PLAIN:
        raise TypeError(f"{where}: fields of type {kind} cannot be read from JSON")
    takes, words = _PLAIN[kind]
    if not isinstance(value, takes) or (isinstance(value, bool) and kind is not bool):
        raise _mismatch(where, words, value)
    return value


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    for kind in kinds[:-1]:
        try:
            return _value(kind, value, where)
        except ArtifactError:
            continue  # the next kind may take it, and the last one says what is wrong
    return _value(kinds[-1], value, where)


def _items(kind: Any, make: Any, value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _mismatch(where, "a list", value)
    inner = typing.get_args(kind) or (Any, ...)
    if make is tuple and inner[-1] is not ...:
        if len(inner) != len(value):
            raise _mismatch(where, f"a list of {len(inner)}", value)
    else:
        inner = inner[:1] * len(value)
    items = [_value(one, item, f"{where}[{turn}]") for turn, (one, item) in enumerate(zip(inner, value, strict=True))]
    return items if make is list else tuple(items)


def _mismatch(where: str, want: str, value: Any) -> ArtifactError:
    shown = json.dumps(value, default=repr)
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    return ArtifactError(f"{where.rstrip('.: ')} is {shown}, not {want}", hint=_CUT)
