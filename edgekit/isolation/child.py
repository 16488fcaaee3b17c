"""What runs in the child process of an `IsolatedModel`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.isolation.exchange import Exchange
from edgekit.registry import RUNTIMES
from edgekit.runtime import Engine, EngineOptions, OpenModel

__all__ = ["open_model", "run_model"]

_OPEN: dict[str, Any] = {}
"""The one model of this process, and the two ways arrays take."""


def open_model(path: str, runtime: str, options: Mapping[str, Any], feeds: str, results: str) -> dict[str, list[str]]:
    """Opens a file and says what its inputs and outputs are, as text."""
    engine: Engine = RUNTIMES.get(runtime)
    model = engine.open(Path(path), EngineOptions(**options))
    _OPEN.update(model=model, feeds=Exchange(Path(feeds)), results=Exchange(Path(results)))
    return {"inputs": [str(spec) for spec in model.inputs], "outputs": [str(spec) for spec in model.outputs]}


def run_model(layout: list[list[Any]]) -> dict[str, Any]:
    """One call on the feeds that lie at `layout`; where its results lie, or what the engine said."""
    model: OpenModel = _OPEN["model"]
    try:
        return {"layout": _OPEN["results"].put(model.run(_OPEN["feeds"].get(layout)))}
    except EdgekitError:
        raise
    except Exception as error:  # noqa: BLE001 - the session in the parent says it as it would its own engine's
        lines = str(error).strip().splitlines()
        return {"failed": f"{type(error).__name__}: {lines[0] if lines else ''}"}
