"""edgekit: from a trained model to the fastest file for a device that is not measurably worse, and one line to run it.

import edgekit

model = edgekit.load("model.edge")
model.predict(x)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit import errors as errors
    from edgekit.bundle import Artifact as Artifact
    from edgekit.bundle import Bundle as Bundle
    from edgekit.comparison import compare as compare
    from edgekit.conversion import convert as convert
    from edgekit.evaluation import evaluate as evaluate
    from edgekit.inspection import inspect as inspect
    from edgekit.loading import load as load
    from edgekit.optimization import optimize as optimize
    from edgekit.profiling import profile as profile
    from edgekit.recipe import Recipe as Recipe
    from edgekit.runtime import Session as Session
    from edgekit.spec import Signature as Signature
    from edgekit.spec import TensorSpec as TensorSpec
    from edgekit.target import Target as Target

__version__ = "0.1.0"

_PLACES = {
    "Artifact": "edgekit.bundle",
    "Bundle": "edgekit.bundle",
    "Recipe": "edgekit.recipe",
    "Session": "edgekit.runtime",
    "Signature": "edgekit.spec",
    "Target": "edgekit.target",
    "TensorSpec": "edgekit.spec",
    "compare": "edgekit.comparison",
    "convert": "edgekit.conversion",
    "evaluate": "edgekit.evaluation",
    "inspect": "edgekit.inspection",
    "load": "edgekit.loading",
    "optimize": "edgekit.optimization",
    "profile": "edgekit.profiling",
}

__all__ = [*_PLACES, "errors"]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("edgekit.errors")
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
