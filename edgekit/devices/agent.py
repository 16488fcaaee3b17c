"""What a device is asked to do, with edgekit's own verbs: the same code and the same records as at home."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from edgekit.environment import read_environment
from edgekit.feeds import load_feeds
from edgekit.opening import ORACLE
from edgekit.profiling import profile
from edgekit.registry import RUNTIMES
from edgekit.verification import verify
from edgekit.worker import describe_error

__all__ = ["VERBS", "Line", "run"]

_EVERY_S = 0.5
"""A message takes the device's processor too: not more than one in this time."""


class Line(Protocol):
    """The connection to the host, as `edgekit.devices.boot.Channel` is."""

    is_lost: bool

    def send(self, **message: Any) -> None: ...


class _HostGone(BaseException):
    """Nobody waits for the answer any more. No Exception, for nothing to take it for a candidate's failure."""


def run(verb: str, arguments: dict[str, Any], line: Line) -> None:
    """Does it, and sends the result or the error."""
    try:
        line.send(result=VERBS[verb](line, **arguments))
    except _HostGone:
        return
    except Exception as error:  # noqa: BLE001 - the host raises it again, typed
        line.send(error=describe_error(error))


def _probe(line: Line) -> dict[str, Any]:
    """The machine, and what its engines say when they are tried."""
    engines = {name: vars(engine.probe()) for name, engine in RUNTIMES if name not in (ORACLE, "null")}
    return {"environment": read_environment().to_json(), "engines": engines}


def _profile(line: Line, path: str, inputs: str, **options: Any) -> dict[str, Any]:
    feeds = load_feeds(Path(inputs)) if inputs else None
    return profile(path, inputs=feeds, progress=_teller(line), **options).to_json()


def _verify(line: Line, path: str, **options: Any) -> dict[str, Any]:
    return verify(path, **options).to_json()


VERBS: Mapping[str, Callable[..., dict[str, Any]]] = {"probe": _probe, "profile": _profile, "verify": _verify}
"""By name; each takes the line first."""


def _teller(line: Line) -> Callable[[int, int, str], None]:
    told_s = 0.0

    def tell(done: int, total: int, what: str) -> None:
        nonlocal told_s
        if line.is_lost:
            raise _HostGone
        if time.monotonic() >= told_s + _EVERY_S:
            told_s = time.monotonic()
            line.send(progress=[done, total, what])

    return tell
