"""What this process has in memory now, and the most it ever had."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["peak_rss_bytes", "resident"]


def resident(proc: Path = Path("/proc/self")) -> dict[str, int | None] | None:
    """Bytes resident now: ``all``, ``anonymous`` and ``file``; None where the system does not tell.

    From "smaps_rollup", which counts pages; in its place on older kernels "status", which lags behind by some pages a
    thread: proc(5).
    """
    rollup = _kilobytes(proc / "smaps_rollup")
    if "Rss" in rollup:
        anonymous = rollup.get("Anonymous")
        return {
            "all": rollup["Rss"],
            "anonymous": anonymous,
            "file": None if anonymous is None else rollup["Rss"] - anonymous,
        }
    status = _kilobytes(proc / "status")
    if "VmRSS" not in status:
        return None
    return {"all": status["VmRSS"], "anonymous": status.get("RssAnon"), "file": status.get("RssFile")}


def peak_rss_bytes(proc: Path = Path("/proc/self")) -> int:
    """The most this process ever had resident: "VmHWM" of proc(5), else what getrusage(2) says."""
    peak = _kilobytes(proc / "status").get("VmHWM")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _kilobytes(path: Path) -> dict[str, int]:
    """The lines ``Name:   123 kB`` in bytes."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {w[0].rstrip(":"): int(w[1]) * 1024 for w in words if len(w) == 3 and w[2] == "kB" and w[1].isdecimal()}
