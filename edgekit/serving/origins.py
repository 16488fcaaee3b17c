"""Who may ask: what a browser sends for a page of another site is kept out, whatever name that site goes by."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from edgekit.serving.refusing import RefusedError

__all__ = ["check_host", "check_origin", "is_loopback"]

_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?::\d*)?", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_host(headers: Mapping[str, str]) -> None:
    """Raises RefusedError unless the caller knows the server by a name of this machine alone.

    A site whose own name was made to lead here (DNS rebinding) is of one origin with us, as browsers see it: only the
    name it still goes by tells it from our own pages, and the lack of an ``Origin`` in its GETs hides nothing of that.
    """
    host = headers.get("host", "")
    found = _HOST.fullmatch(host)
    if found is None or not is_loopback(found["v6"] or found["name"]):
        raise RefusedError("foreign", f"nobody asks here for {host!r}", hint="ask for localhost or 127.0.0.1")


def check_origin(headers: Mapping[str, str]) -> None:
    """Raises RefusedError for what a page of another site has a browser send. Only browsers say an origin."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise RefusedError("foreign", f"pages of {origin} do not ask here", hint="serve them from this host and port")
