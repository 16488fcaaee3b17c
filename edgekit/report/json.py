"""Records as one JSON document with its schema and version."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["HasJson", "render"]


class HasJson(Protocol):
    """A record that gives itself as plain data."""

    def to_json(self) -> dict[str, Any]: ...


def render(record: HasJson | Mapping[str, Any], *, schema: str, version: int = 1) -> str:
    """The record as JSON text. A record that carries its own schema and version keeps them.

    JSON has no word for NaN and infinity: they become null.
    """
    data = dict(record) if isinstance(record, Mapping) else record.to_json()
    document = {"schema": data.pop("schema", schema), "version": data.pop("version", version), **data}
    return json.dumps(_plain(document), indent=1, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if hasattr(value, "to_json"):
        return _plain(value.to_json())
    return str(value) if isinstance(value, Path) else repr(value)
