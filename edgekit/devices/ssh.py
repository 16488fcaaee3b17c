"""Devices by OpenSSH: the system's own `ssh`, with the user's configuration, keys, agents and jump hosts."""

from __future__ import annotations

import re
from functools import partial

from edgekit.devices.access import Access, Complaint, explained
from edgekit.errors import InputError

__all__ = ["access"]

_ADDRESS = re.compile(
    r"(?:(?P<user>[^@/\s-][^@/\s]*)@)?(?P<host>\[[^\]\s]+\]|[^-@:/\[\]\s][^@:/\[\]\s]*)(?::(?P<port>\d{1,5}))?/?"
)

# Nothing is asked, as nobody may be there to answer; an unknown host is refused rather than believed.
_OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4", "-o", "ClearAllForwardings=yes"),
)  # fmt: skip


def access(uri: str, address: str) -> Access:
    """``[USER@]HOST[:PORT]``; what is left out is as ``~/.ssh/config`` says. Raises InputError."""
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"] or 1) not in range(1, 65536):
        raise InputError(f"{uri!r} is no address of a device", hint="ssh://USER@HOST[:PORT]")
    user, host, port = found["user"], found["host"].strip("[]"), found["port"]
    start = ["ssh", *_OPTIONS, *(("-p", port) if port else ()), *(("-l", user) if user else ()), "--", host]
    login = f"ssh {f'-p {port} ' if port else ''}{user + '@' if user else ''}{host}"
    return Access(uri, lambda command: [*start, command], partial(explained, _complaints(host, port, login), uri))


def _complaints(host: str, port: str | None, login: str) -> tuple[Complaint, ...]:
    known = f"[{host}]:{port}" if port else host
    down = "is it on, in this network, and does it run an SSH server (sudo systemctl enable --now ssh)?"
    return (
        Complaint(
            "IDENTIFICATION HAS CHANGED",
            "it shows another host key than before: it was set up anew, or something else answers in its place",
            f"if it was set up anew: ssh-keygen -R '{known}', then {login}",
        ),
        Complaint("Host key verification failed", "its host key is not known here", f"compare and accept it: {login}"),
        Complaint("Permission denied (", "it refuses the login", f"set up a key: ssh-copy-id{login[3:]}"),
        Complaint("Too many authentication failures", "it refuses the login", "name one key in ~/.ssh/config"),
        Complaint("Could not resolve hostname", f"no host is called {host}", "check the name, or give its address"),
        Complaint("Connection refused", "nothing answers at that port", down),
        Complaint("Connection timed out", "it does not answer", down),
        Complaint("No route to host", "it cannot be reached", down),
        Complaint("Network is unreachable", "it cannot be reached", down),
        Complaint("Bad configuration option", "ssh refuses its configuration", f"{login} tells what it stumbles over"),
    )
