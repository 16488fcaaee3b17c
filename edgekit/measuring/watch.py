"""The machine watched while candidates are timed: who else computed, how fast and hot the CPU was, who held it back."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.environment import cpu_times, temperature_c
from edgekit.measuring.records import RoundConditions

__all__ = ["Watch"]

_ROOT = Path("/")

_PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PI_NOW = 0xF
"""Bits of the Raspberry Pi's firmware for: voltage too low, frequency capped, throttled, soft temperature limit. The
same ones 16 bits higher say that it was so at some time since the start, which may be long ago."""


@dataclass
class _Sums:
    """Of the turns of one round."""

    ticks: int = 0
    busy: int = 0
    stolen: int = 0
    own_us: float = 0.0
    frequency_mhz: list[float] = field(default_factory=list)


class Watch:
    """Reads the kernel's counters around each turn of a candidate.

    Args:
        root: Where the kernel's files are.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._started_s = time.perf_counter()
        self._counts = {**self._throttle_counts(), "firmware": 0}
        self._swapped = self._swapped_pages()
        self._before = cpu_times(root)
        self._own_before_us = 0.0
        self._round = _Sums()
        self.rounds: list[RoundConditions] = []

    def begin(self) -> None:
        """Called before a turn."""
        self._before, self._own_before_us = cpu_times(self._root), time.process_time() * 1e6

    def end(self, said: dict[str, Any]) -> None:
        """Called after it with what the candidate's process said: ``own_cpu_us`` and ``frequency_mhz``."""
        after = cpu_times(self._root)
        if after is not None and self._before is not None:
            self._round.ticks += after.total - self._before.total
            self._round.busy += after.busy - self._before.busy
            self._round.stolen += after.stolen - self._before.stolen
            self._round.own_us += said["own_cpu_us"] + time.process_time() * 1e6 - self._own_before_us
        if said["frequency_mhz"] is not None:
            self._round.frequency_mhz.append(said["frequency_mhz"])

    def end_round(self) -> None:
        """Called after the last turn of a round that counts."""
        sums, self._round = self._round, _Sums()
        counts, swapped = self._throttle_counts(), self._swapped_pages()
        held = tuple(name for name, count in counts.items() if count > self._counts[name])
        pages = None if swapped is None or self._swapped is None else swapped - self._swapped
        self._counts, self._swapped = {**counts, "firmware": 0}, swapped  # which says "now", and counts nothing
        self.rounds.append(
            RoundConditions(
                at_s=round(time.perf_counter() - self._started_s, 3),
                others_cores=_others(sums),
                steal_share=round(sums.stolen / sums.ticks, 4) if sums.ticks else None,
                frequency_mhz=min(sums.frequency_mhz, default=None),
                temperature_c=temperature_c(self._root),
                throttled=held,
                swapped_pages=pages,
            )
        )

    def skip_round(self) -> None:
        """Called after the last turn of the round that is dropped: what has been until then is not counted."""
        self._round, self._started_s = _Sums(), time.perf_counter()
        self._counts, self._swapped = {**self._throttle_counts(), "firmware": 0}, self._swapped_pages()

    def _throttle_counts(self) -> dict[str, int]:
        """How often each that may hold the CPU back has said so; the firmware of a Raspberry Pi says only "now"."""
        cpus = self._root / "sys/devices/system/cpu"
        files = [f for name in ("core", "package") for f in cpus.glob(f"cpu*/thermal_throttle/{name}_throttle_count")]
        firmware = _number(self._root / _PI_THROTTLED, 16) & _PI_NOW
        return {
            "cpu": sum(_number(file) for file in files),
            "control group": _entry(_group_file(self._root), "nr_throttled"),
            "firmware": int(firmware > 0),
        }

    def _swapped_pages(self) -> int | None:
        path = self._root / "proc/vmstat"
        return _entry(path, "pswpin") + _entry(path, "pswpout") if path.is_file() else None


def _others(sums: _Sums) -> float | None:
    if sums.ticks == 0:
        return None
    tick_us = 1e6 / os.sysconf("SC_CLK_TCK")
    cores = os.cpu_count() or 1
    elapsed_us = sums.ticks * tick_us / cores
    return round(max(0.0, sums.busy * tick_us - sums.own_us) / elapsed_us, 3)


def _group_file(root: Path) -> Path:
    """The statistics of this process's control group, whose quota of CPU time containers are held to: cgroups(7)."""
    line = next((s for s in _read(root / "proc/self/cgroup").splitlines() if s.startswith("0::")), "0::/")
    own = root / "sys/fs/cgroup" / line[3:].lstrip("/") / "cpu.stat"
    return own if own.is_file() else root / "sys/fs/cgroup/cpu.stat"


def _entry(path: Path, name: str) -> int:
    """The number of the line ``name number``; 0 when there is none."""
    found = (line.split() for line in _read(path).splitlines())
    return next((int(words[1]) for words in found if len(words) == 2 and words[0] == name), 0)


def _number(path: Path, base: int = 10) -> int:
    try:
        return int(_read(path).strip() or "0", base)
    except ValueError:
        return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
