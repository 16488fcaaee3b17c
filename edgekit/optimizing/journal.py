"""What is already done: a line for every finished unit of work, on the disk before the next one begins."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

from edgekit.errors import ArtifactError
from edgekit.staging import disk_error, writing

__all__ = ["Journal", "key_of"]

FINISHED = "finished"


def key_of(*parts: Any) -> str:
    """SHA-256 of what decides an outcome, as canonical JSON."""
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class Journal:
    """The outcomes of units of work by key, in a file of a JSON object a line. One process at a time holds it.

    Args:
        path: The file; None keeps nothing.

    Attributes:
        runs: How many runs have come to their end.

    Raises:
        ArtifactError: Another process holds it, the file holds something else, or it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        self.runs = 0
        self._descriptor = -1
        if path is not None:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                self._hold()
                self._read()
            except BaseException:
                self.close()
                raise

    def _hold(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtifactError(
                f"another optimize of this model is at work: it holds {self._path}", hint="wait for it, or end it"
            ) from error

    def _read(self) -> None:
        assert self._path is not None
        whole, _, torn = self._path.read_bytes().rpartition(b"\n")
        if torn:  # the process was killed while it wrote this line
            os.ftruncate(self._descriptor, len(whole) + 1 if whole else 0)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self._known[record["key"]] = record["outcome"]
                self.runs += record["key"] == FINISHED
            except (ValueError, KeyError, TypeError) as error:
                raise ArtifactError(
                    f"{self._path}, line {number}, is no unit of work: {error}", hint="delete the file"
                ) from error

    def __len__(self) -> int:
        return len(self._known) - (FINISHED in self._known)

    def find(self, key: str) -> Any:
        """The outcome under `key`; None where there is none."""
        return self._known.get(key)

    def keep(self, key: str, outcome: Mapping[str, Any], what: str = "") -> None:
        """Puts an outcome on the disk.

        Raises:
            ArtifactError: The disk refuses.
        """
        self._known[key] = outcome
        if self._descriptor < 0 or self._path is None:
            return
        line = (json.dumps({"key": key, "what": what, "outcome": outcome}, sort_keys=True) + "\n").encode()
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise disk_error(self._path, error) from error

    def finish(self) -> None:
        """Says that a run came to its end."""
        self.keep(FINISHED, {})
        self.runs += 1

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
