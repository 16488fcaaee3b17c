"""The folder for what edgekit can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """``$EDGEKIT_CACHE``, else ``edgekit`` in the user's cache folder: ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("EDGEKIT_CACHE"):
        return Path(chosen).expanduser().absolute()
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - needs no home to exist
    return Path(root) / "edgekit"
