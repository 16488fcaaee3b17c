"""A model opened in a process of its own, which can be ended whatever its engine is doing.

Arrays go back and forth through memory both processes see; a call costs one message each way, and the model lies in
memory once more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import ArtifactError, ConversionError, UnsupportedError
from edgekit.isolation.exchange import Exchange
from edgekit.worker import Worker

__all__ = ["IsolatedModel", "OverTimeError", "RefusedError", "plain_options"]

_START_S = 120.0
"""For importing an engine and loading a model, however slow the machine: what takes longer is stuck."""


class OverTimeError(Exception):
    """A call was not done in time, and its process has been ended."""


class RefusedError(RuntimeError):
    """The engine failed in a call, in its words; its process can go on."""


class IsolatedModel:
    """One model in one child process. One call at a time; the caller sees to that.

    Args:
        path: The model's file.
        runtime: Name of the runtime that opens it, in the child.
        options: The fields of the `EngineOptions`, as JSON can hold them.

    Raises:
        ArtifactError: The process died, or the file did not open.
        UnsupportedError: The runtime cannot open the file.
    """

    def __init__(self, path: Path, runtime: str, options: Mapping[str, Any]) -> None:
        self._worker = Worker(f"{path.name} in a process of its own")
        self._feeds, self._results = Exchange.create(), Exchange.create()
        try:
            places = {"feeds": str(self._feeds.path), "results": str(self._results.path)}
            specs = self._call("open_model", _START_S, path=str(path), runtime=runtime, options=dict(options), **places)
        except BaseException:
            self.kill()
            raise
        finally:  # the child has both open: nothing stays behind, however either process ends
            self._feeds.unlink()
            self._results.unlink()
        self.inputs: list[str] = specs["inputs"]
        """Each input as text, to be compared with what was opened here."""
        self.outputs: list[str] = specs["outputs"]

    def run(self, arrays: Sequence[np.ndarray], timeout_s: float) -> list[np.ndarray]:
        """One call.

        Raises:
            OverTimeError: It was not done within `timeout_s`.
            ArtifactError: The process died.
            UnsupportedError: An array is of strings.
            RefusedError: The engine refused.
        """
        answer = self._call("run_model", timeout_s, layout=self._feeds.put(arrays))
        if "failed" in answer:
            raise RefusedError(answer["failed"])
        return [array.copy() for array in self._results.get(answer["layout"])]

    def _call(self, function: str, timeout_s: float, **arguments: Any) -> Any:
        end = time.monotonic() + timeout_s
        try:
            return self._worker.call(f"edgekit.isolation.child:{function}", max(timeout_s, 0.0), **arguments)
        except ConversionError as error:
            if time.monotonic() >= end:
                raise OverTimeError(str(error)) from error
            raise ArtifactError(error.message, hint="the engine did this: try another runtime") from error

    def kill(self) -> None:
        """Ends the process at once, whatever it is doing, and gives back what is shared with it."""
        self._worker.kill()
        self._worker.close()
        self._feeds.close()
        self._results.close()


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with their mappings as dictionaries. Raises UnsupportedError where one is nothing JSON can hold."""
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in options.items()}
    try:
        json.dumps(plain)
    except TypeError as error:
        raise UnsupportedError(f"engine options that are no JSON cannot be told to another process: {error}") from error
    return plain
