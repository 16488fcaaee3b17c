"""Training that was interrupted, on disk: what the next run needs to go on as if nothing had happened."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import ArtifactError, InputError
from edgekit.staging import write_atomically

__all__ = ["Checkpoint"]

_FILE = "checkpoint.pt"


class Checkpoint:
    """The folder ``OUTPUT.training`` beside an output, with the state after the last whole epoch.

    Args:
        output: The file that training is to write.
        settings: All that decides how training goes on; another run must have the same.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.folder = output.with_name(f"{output.name}.training")
        self._settings = dict(settings)

    @property
    def exists(self) -> bool:
        return (self.folder / _FILE).is_file()

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes `state`, whole or not at all."""
        import torch

        buffer = io.BytesIO()
        torch.save({"settings": json.dumps(self._settings), **state}, buffer)
        write_atomically(self.folder / _FILE, buffer.getvalue(), force=True)

    def load(self) -> dict[str, Any]:
        """What was saved last.

        Raises:
            ArtifactError: It is damaged.
            InputError: It is of a run with other settings; says which.
        """
        import torch

        path = self.folder / _FILE
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            settings = json.loads(state["settings"])
        except Exception as error:  # whatever torch makes of a file that is none
            raise ArtifactError(f"{path} is damaged: {error}", hint="remove its folder and train anew") from error
        names = sorted({*settings, *self._settings})
        changed = [name for name in names if settings.get(name) != self._settings.get(name)]
        if changed:
            said = "; ".join(f"{name} was {settings.get(name)!r}, is {self._settings.get(name)!r}" for name in changed)
            raise InputError(
                f"cannot resume {self.folder}: {said}", hint="give the same again, or --force to train anew"
            )
        return state

    def remove(self) -> None:
        """Removes the folder, if there is one."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
