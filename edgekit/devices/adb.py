"""Android phones by the debug bridge: the system's own `adb`, and a Python on the phone, such as Termux's.

By the same contract as `ssh`, and tested against a stand-in that runs the commands here; no phone has been tried.
"""

from __future__ import annotations

import re
import shlex
from functools import partial

from edgekit.devices.access import Access, Complaint, explained
from edgekit.errors import InputError

__all__ = ["access"]

_ADDRESS = re.compile(r"(?P<root>root@)?(?P<serial>[^-@/\s][^@/\s]*)/?")
_CACHE = "/data/local/tmp/edgekit"
"""What the shell's user may write to; it has no home."""

_EVIDENCE = "it came by adb, which is tested against a stand-in for a phone only: no phone has been tried"

_PERMIT = "switch on USB debugging, accept this computer's key on the phone's screen, and look at: adb devices"
_COMPLAINTS = (
    Complaint("unauthorized", "the phone has not accepted this computer", _PERMIT),
    Complaint("offline", "the phone is offline", "plug it in again; adb kill-server"),
    Complaint("more than one device", "there are several phones", "adb devices shows their serials"),
    Complaint("not found", "there is no such phone", _PERMIT),
    Complaint("no devices", "there is no such phone", _PERMIT),
    Complaint("su: ", "the phone has no su, or refuses it", "root it, or run Termux's sshd: ssh://PHONE:8022"),
)


def access(uri: str, address: str) -> Access:
    """``SERIAL`` as `adb devices` shows it; ``root@SERIAL`` runs as root, which can reach Termux's Python."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InputError(f"{uri!r} is no address of a phone", hint="adb://SERIAL, as `adb devices` shows it")
    start = ["adb", "-s", found["serial"], "shell", "-T"]

    def command(line: str) -> list[str]:
        return [*start, f"su -c {shlex.quote(line)}" if found["root"] else line]

    return Access(uri, command, partial(explained, _COMPLAINTS, uri), _CACHE, _EVIDENCE)
