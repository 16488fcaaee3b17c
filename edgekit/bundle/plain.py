"""What a manifest is written of: JSON's own types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError

__all__ = ["plain_json"]


def plain_json(value: Any, where: str) -> Any:
    """`value` in JSON's own types, numpy scalars and tuples included; ArtifactError where there is no such form."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ArtifactError(f"{where} is {value}, which JSON cannot hold", hint="give null and the reason instead")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ArtifactError(f"{where} has keys that are not strings")
        return {key: plain_json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise ArtifactError(f"{where} is a {type(value).__name__}, which JSON cannot hold")
