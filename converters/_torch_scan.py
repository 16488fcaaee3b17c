"""Which of PyTorch's archives a file is, told by its members: nothing is loaded and PyTorch is not needed."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from edgekit.errors import UnsupportedError
from edgekit.weights.checkpoint import is_legacy

__all__ = ["Kind", "kind_of", "refuse"]

Kind: TypeAlias = Literal["program", "script", "compiled", "checkpoint"]

_MAX_PICKLE_BYTES = 64 << 20
_WEIGHTS_ARE_OF = ("collections", "torch", "torch._utils", "torch.storage", "torch._tensor", "builtins", "__builtin__")
"""Modules a pickle of nothing but tensors by name refers to."""
_MODULE_NEEDED = "edgekit convert FILE.py:FUNCTION --weights {weights} --input-shape batch,3,224,224"


def kind_of(path: Path) -> Kind | None:
    """What PyTorch wrote it as, or None for content that is not PyTorch's.

    ``"program"`` is an ExportedProgram (torch.export), ``"script"`` TorchScript (torch.jit), ``"compiled"`` a program
    compiled for one machine, and ``"checkpoint"`` whatever torch.save pickled: weights, or a whole module.
    """
    try:
        with path.open("rb") as file:
            start = file.read(32)
        if not start.startswith(b"PK\x03\x04"):
            return "checkpoint" if is_legacy(start) else None
        with zipfile.ZipFile(path) as archive:
            return _kind_by_members(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError):
        return None


def _kind_by_members(members: list[str]) -> Kind | None:
    # Everything lies in one folder, named after the file it was first written as.
    inner = {name.partition("/")[2] for name in members}
    if "serialized_exported_program.json" in members:  # the layout before PyTorch 2.8 has no such folder
        return "program"
    if "archive_format" in inner:
        has_program = any(name.startswith("models/") and name.endswith(".json") for name in inner)
        return "program" if has_program else "compiled"
    if "data.pkl" not in inner:
        return None
    return "script" if "constants.pkl" in inner and any(name.startswith("code/") for name in inner) else "checkpoint"


def refuse(path: Path, kind: Literal["compiled", "checkpoint"]) -> UnsupportedError:
    """The error for an archive that no model can be read from, with the way to give the model instead."""
    if kind == "compiled":
        return UnsupportedError(
            f"{path} is compiled for one machine", hint="give what it was compiled of: torch.export.save(program, path)"
        )
    foreign = sorted(set(_named_in(path)))
    if foreign:
        return UnsupportedError(
            f"{path} is a pickle of more than weights: reading it would run whatever it names",
            offenders=foreign,
            hint="where its code is at hand, torch.save(model.state_dict(), 'weights.pth'); then "
            + _MODULE_NEEDED.format(weights="weights.pth"),
        )
    return UnsupportedError(
        f"{path} holds weights without the module they are for",
        hint="with a function that builds the module: " + _MODULE_NEEDED.format(weights=path.name),
    )


def _named_in(path: Path) -> Iterator[str]:
    """Classes and functions the pickle refers to beyond what weights need; of a damaged one, as far as it goes."""
    try:
        with zipfile.ZipFile(path) as archive:
            index = next(info for info in archive.infolist() if info.filename.endswith("/data.pkl"))
            content = archive.read(index) if index.file_size <= _MAX_PICKLE_BYTES else b""
        texts: list[str] = []
        for code, argument, _ in pickletools.genops(content):
            if code.name in ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"):
                texts.append(str(argument))
            found = str(argument).split(" ") if code.name == "GLOBAL" else texts[-2:]
            if code.name in ("GLOBAL", "STACK_GLOBAL") and len(found) == 2 and found[0] not in _WEIGHTS_ARE_OF:
                yield ".".join(found)
    except (OSError, zipfile.BadZipFile, ValueError):  # of before PyTorch 1.6, or damaged
        return
