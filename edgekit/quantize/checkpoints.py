"""What an observation has gathered, put on the disk now and then: one that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit.errors import EdgekitError, InputError
from edgekit.rows import load_arrays
from edgekit.staging import write_atomically

__all__ = ["Checkpoint"]

EVERY_S = 5.0
"""So long an observation runs before it is written down, and again until it is the next time."""

SHARE = 50
"""And at least so many times as long as the writing takes: no more than a fiftieth of the time is spent on it."""

OLD_S = 30 * 86_400
"""What nobody has come back to for so long is removed."""

_KEY = "key"


@dataclass
class Checkpoint:
    """A file that holds the state of one observation as long as it is not at its end.

    Attributes:
        folder: Where it is kept.
        identity: A hash of the calibration feeds in their order.
        say: Called with a line where an observation goes on, and where a file is of no use.
    """

    folder: Path
    identity: str
    say: Callable[[str], None]
    _key: str = field(default="", init=False)
    _next: float = field(default=0.0, init=False)
    _is_writable: bool = field(default=True, init=False)

    @property
    def path(self) -> Path:
        return self.folder / f"{self._key[:32]}.npz"

    def open(self, files: Iterable[Path], *said: object) -> None:
        """Chooses the file by all that decides the state: the content of `files`, the data, what is `said`, and the
        machine, since another one's engine may add in another order."""
        digest = hashlib.sha256(repr((self.identity, platform.node(), platform.machine(), *said)).encode())
        for path in files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        self._key, self._next = digest.hexdigest(), time.monotonic() + EVERY_S

    def read(self, like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """The state that was kept; None where there is none, or the file is damaged or of something else.

        Args:
            like: The names, shapes and dtypes there must be.
        """
        if not self.path.exists():
            return None
        try:
            loaded = load_arrays(self.path)
            state = dict(loaded) if isinstance(loaded, dict) else {}
            if str(state.pop(_KEY, "")) != self._key:
                raise InputError("it is of another observation")
            if _forms(state) != _forms(like):
                raise InputError("it holds another state")
        except InputError as error:
            self.say(f"note: observing from the start, for the checkpoint {self.path} is of no use: {error}")
            return None
        return state

    def keep(self, state: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Writes the state down when it is time to, whole or not at all; says so once where the disk refuses."""
        began = time.monotonic()
        if began < self._next or not self._is_writable:
            return
        arrays = {**state(), _KEY: np.array(self._key)}
        try:
            write_atomically(self.path, lambda place: _save(place, arrays), force=True)
        except EdgekitError as error:
            self._is_writable = False
            self.say(f"note: a kill would lose what is observed, for it cannot be kept: {error}")
        ended = time.monotonic()
        self._next = ended + max(EVERY_S, SHARE * (ended - began))

    def remove(self) -> None:
        """To be called at the end of the observation; takes along what nobody came back to."""
        if not self.folder.is_dir():
            return
        try:
            self.path.unlink(missing_ok=True)
            for path in self.folder.glob("*.npz"):
                if time.time() - path.stat().st_mtime > OLD_S:
                    path.unlink(missing_ok=True)
        except OSError as error:
            self.say(f"note: {self.folder} cannot be cleared: {error}")


def _forms(state: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {name: (array.shape, array.dtype) for name, array in state.items()}


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
