"""What `doctor` tells: which engines and converters work here, what is missing, and what adds it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from edgekit.cache import cache_folder
from edgekit.environment import Environment, read_environment
from edgekit.errors import EdgekitError
from edgekit.registry import CONVERTERS, RUNTIMES, Probe, Registry

__all__ = ["Diagnosis", "Part", "diagnose", "parts_of"]

_NOT_FOR_DEVICES = ("reference", "null")
"""Runtimes that are there for checking and for tests: with nothing but these a device can run nothing."""


@dataclass(frozen=True)
class Part:
    """A runtime or a converter, and what trying it showed."""

    kind: str
    name: str
    probe: Probe

    @property
    def remedy(self) -> str:
        if self.probe.available or not self.probe.extra:
            return ""
        return f"pip install 'edgekit-ml[{self.probe.extra}]'"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name, **vars(self.probe), "remedy": self.remedy}


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was looked at.

    Attributes:
        cache: Folder edgekit keeps what it can make again in.
        cache_problem: Why it cannot be written; empty when it can.
    """

    environment: Environment
    parts: tuple[Part, ...]
    cache: str
    cache_problem: str

    @property
    def can_run(self) -> bool:
        """Whether any engine for real models works."""
        return any(p.kind == "runtime" and p.probe.available and p.name not in _NOT_FOR_DEVICES for p in self.parts)

    def to_json(self) -> dict[str, Any]:
        return {
            "can_run": self.can_run,
            "environment": self.environment.to_json(),
            "parts": [part.to_json() for part in self.parts],
            "cache": {"path": self.cache, "problem": self.cache_problem},
        }


def diagnose() -> Diagnosis:
    """Probes every registered runtime and converter. Never raises for one that is broken."""
    parts = (*parts_of("runtime", RUNTIMES), *parts_of("converter", CONVERTERS))
    folder = cache_folder()
    return Diagnosis(read_environment(), parts, str(folder), _write_problem(folder))


def parts_of(kind: str, registry: Registry) -> list[Part]:
    """Every registered name of a registry of things that have a `probe`; one that cannot be imported says so."""
    return [Part(kind, name, _probe(registry, name)) for name in registry.names()]


def _probe(registry: Registry, name: str) -> Probe:
    try:
        return registry.get(name).probe()
    except EdgekitError as error:
        return Probe(available=False, reason=error.message)


def _write_problem(folder: Path) -> str:
    """Why nothing can be written under `folder`; tried in its nearest existing parent, so nothing is left behind."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not place.is_dir():
        return f"{place} is not a folder"
    try:
        with TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"{place} cannot be written: {os.strerror(error.errno or 0)}"
