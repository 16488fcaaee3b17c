"""A verb done on a device: the connection, what is copied, and the errors of both sides as one kind."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.devices.access import reach
from edgekit.devices.channel import Channel
from edgekit.devices.parcel import Parcel, agent_parcel, file_parcel, model_parcel
from edgekit.errors import ArtifactError, ConversionError, EdgekitError, UnavailableError
from edgekit.feeds import save_feeds
from edgekit.worker import rebuild_error

__all__ = ["LEAST_PYTHON", "Device", "ask_device", "evidence_of"]

LEAST_PYTHON = (3, 11)
"""The oldest Python edgekit's own code runs on."""

_PYTHON = "python3"
_SLACK_BYTES = 4 << 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Progress = Callable[[int, int, str], None]
Feeds = Sequence[Mapping[str, np.ndarray]]


def ask_device(
    uri: str,
    verb: str,
    path: Path,
    arguments: Mapping[str, Any],
    *,
    python: str | None = None,
    inputs: Feeds | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Does `verb` of `edgekit.devices.agent` on a device and gives its record as plain data.

    Args:
        uri: ``"ssh://USER@HOST"`` or another kind of `edgekit.registry.DEVICES`.
        verb: ``"profile"`` or ``"verify"``.
        path: The bundle or model file; copied unless the device has the same bytes.
        arguments: Of the verb, in JSON's types.
        python: The interpreter there; ``python3`` when it is not given.
        inputs: Feeds, which are copied too.
        progress: Called with steps done, steps in all, and what is next.

    Raises:
        UnavailableError: The device cannot be reached, or lacks Python, numpy or an engine.
        ArtifactError: The model is damaged, or there is no room for it on the device.
        ConversionError: The connection broke, or the agent died.
        EdgekitError: What the verb raised there.
    """
    access, model = reach(uri), model_parcel(path)
    tell = progress or (lambda done, total, what: None)
    tell(0, 1, f"connecting to {uri}")
    with Channel(access, python or _PYTHON) as line:
        device = Device(uri, line, tell)
        device.start()
        there = {"path": device.receive(model)}
        if verb == "profile":
            there["inputs"] = "" if inputs is None else _copy_feeds(device, inputs)
        try:
            return device.call(verb, {**arguments, **there})
        except EdgekitError as error:
            raise _at_home(error, there["path"], str(path)) from error


def evidence_of(uri: str) -> str:
    """What has to be said of figures from this kind of device; empty where there is nothing."""
    return reach(uri).evidence


class Device:
    """A device whose Python answers.

    Args:
        uri: As the user gave it.
        line: The connection.
        tell: Takes progress.
    """

    def __init__(self, uri: str, line: Channel, tell: Progress) -> None:
        self._uri = uri
        self._line = line
        self._tell = tell
        self._python = _PYTHON

    def start(self) -> None:
        """Brings edgekit's code there, and tries what it needs: Python, numpy, an engine."""
        self._python = self._line.open()
        version = ".".join(map(str, self._line.python))
        if self._line.python < LEAST_PYTHON:
            raise UnavailableError(
                f"{self._uri} has Python {version} at {self._python}; edgekit's part for devices needs "
                f"{'.'.join(map(str, LEAST_PYTHON))} or newer",
                hint="install a newer one beside it, and name it: --device-python PATH",
            )
        self._checked(self._line.boot())
        agent = agent_parcel()
        self.receive(agent)
        started = self._checked(self._line.ask(do="start", sha256=agent.sha256))
        if started["numpy"] is None:
            raise UnavailableError(f"{self._uri} has no numpy: {started['said']}", hint=self._install("numpy"))
        engines = self.call("probe", {})["engines"]
        if not any(engine["available"] for engine in engines.values()):
            reasons = "; ".join(f"{name}: {engine['reason']}" for name, engine in engines.items())
            raise UnavailableError(f"{self._uri} has no engine: {reasons}", hint=self._install(_ENGINES))

    def receive(self, parcel: Parcel) -> str:
        """The path there of what is in the parcel, copied unless the device has it. Raises ArtifactError."""
        files = [[piece.path, piece.size_bytes, piece.sha256] for piece in parcel.pieces]
        about = {"kind": parcel.kind, "sha256": parcel.sha256, "files": files}
        answer = self._checked(self._line.ask(do="want", **about))
        if not answer["has"]:
            megabytes = f"{parcel.size_bytes / 1e6:.1f} MB"
            if answer["free_bytes"] < parcel.size_bytes + _SLACK_BYTES:
                raise ArtifactError(
                    f"{self._uri} has no room for {parcel.name}, {megabytes}: {answer['free_bytes'] / 1e6:.1f} MB free",
                    hint=_MAKE_ROOM,
                )
            self._tell(0, 1, f"copying {parcel.name}, {megabytes}, to {self._uri}")
            sources = [piece.source for piece in parcel.pieces]
            if wrong := self._checked(self._line.send_files({"do": "put", **about}, sources))["wrong"]:
                raise ArtifactError(
                    f"{', '.join(wrong)} did not arrive at {self._uri} as sent", hint="is it being written? run again"
                )
        return f"{answer['folder']}/{parcel.entry}"

    def call(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Does a verb of the agent there; raises what it raised, its message beginning with the device's."""
        answer = self._line.ask(do="call", verb=verb, arguments=dict(arguments))
        while "progress" in answer:
            self._tell(*answer["progress"])
            answer = self._line.receive()
        if "error" in answer:
            error = answer["error"]
            error["message"] = f"{self._uri}: {error['message']}"
            rebuilt = rebuild_error(error, verb)
            if isinstance(rebuilt, UnavailableError):
                rebuilt.hint = self._install(_ENGINES)
            raise rebuilt
        result: dict[str, Any] = self._checked(answer)["result"]
        return result

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "failed" in answer:
            full = answer["errno"] in _NO_ROOM
            raise ArtifactError(
                f"{self._uri}: {answer['path']}: {answer['failed']}",
                hint=_MAKE_ROOM if full else "may this user write there? EDGEKIT_CACHE there names another folder",
            )
        if "garbled" in answer:
            raise ConversionError(
                f"what is sent does not arrive at {self._uri} as it was: {answer['garbled']}",
                hint="something between translates bytes; is a login script reading from stdin?",
            )
        return answer

    def _install(self, what: str) -> str:
        return f"there: {self._python} -m pip install {what}; another Python is named by --device-python"


_ENGINES = "ai-edge-litert (or onnxruntime, openvino, whichever opens the model)"
_MAKE_ROOM = "make room there; what edgekit keeps is in ~/.cache/edgekit, and can go"


def _copy_feeds(device: Device, inputs: Feeds) -> str:
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        file = Path(folder) / "feeds.npz"
        save_feeds(file, inputs)
        return device.receive(file_parcel(file))


def _at_home(error: EdgekitError, there: str, here: str) -> EdgekitError:
    """The error with the path the user knows in place of the one on the device."""
    error.message = error.message.replace(there, here)
    error.args = (error.message,)
    return error
