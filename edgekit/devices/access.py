"""How a device is reached: a command line that runs a shell command there, its stdin and stdout being ours."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgekit.errors import EdgekitError, InputError, UnavailableError
from edgekit.registry import DEVICES

__all__ = ["Access", "Complaint", "explained", "reach", "start_command"]

_FIRST = 'import os,sys;s=os.fdopen(os.dup(0),"rb");os.dup2(os.open(os.devnull,0),0);exec(s.readline())'
"""The first words to a device's Python: take more from stdin, and leave none of it to what is started later."""


@dataclass(frozen=True)
class Access:
    """One device.

    Attributes:
        uri: As the user gave it.
        command: The command line that runs a shell command on it.
        explain: What the program's own complaints mean, given what it last said; None for what it did not cause.
        cache: Folder on it to keep things in; empty for its user's own cache folder.
        evidence: What has to be said of figures that came by this road; empty where it is tested all the way.
    """

    uri: str
    command: Callable[[str], Sequence[str]]
    explain: Callable[[str], EdgekitError | None]
    cache: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class Complaint:
    """Words a program says, what that means, and what to do."""

    words: str
    message: str
    hint: str


def reach(uri: str) -> Access:
    """The way to the device at `uri`.

    Raises:
        InputError: It is not of the form the kind of device has.
        UnsupportedError: There is no such kind of device.
    """
    kind, mark, address = uri.partition("://")
    if not mark:
        raise InputError(f"{uri!r} is no device", hint="ssh://USER@HOST[:PORT] or adb://SERIAL")
    access: Access = DEVICES.get(kind)(uri, address)
    return access


def explained(complaints: Sequence[Complaint], uri: str, said: str) -> EdgekitError | None:
    """The first complaint whose words are in `said`, as an error."""
    for complaint in complaints:
        if complaint.words in said:
            return UnavailableError(f"{uri}: {complaint.message}", hint=complaint.hint)
    return None


def start_command(python: str) -> str:
    """The shell command that starts `python` on the device; of it a leading ``~/`` means the home folder there."""
    home = python.startswith("~/")
    program = f'"$HOME"/{shlex.quote(python[2:])}' if home else shlex.quote(python)
    return f"exec {program} -c '{_FIRST}'"
