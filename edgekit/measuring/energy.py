"""The energy of a batch of calls, from what the kernel shows of the machine's meters."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Energy", "Meter"]

_ROOT = Path("/")

_ELSEWHERE = ("amdgpu", "radeon", "nouveau", "i915", "xe", "nvme", "BAT", "AC", "ADP", "ucsi")
"""How drivers of graphics cards, disks, batteries and chargers begin to call themselves: no CPU is behind them."""


@dataclass(frozen=True)
class Energy:
    """What a meter found: microjoules or None, why None, and what was read."""

    uj: float | None
    reason: str = ""
    source: str = ""


class Meter:
    """Energy from its making to `stop`.

    Read, whichever is there first: the counters of Intel's and AMD's CPU packages, which Linux shows under
    ``powercap`` ("RAPL"); the energy counters of ``hwmon``, such as those of AMD's sockets; a power sensor of
    ``hwmon``, of which the mean of two readings is taken for the time between them. All of them include what else runs;
    those of graphics cards and batteries are passed over.

    The kernel's Documentation/power/powercap and Documentation/hwmon/sysfs-interface say what the files mean.
    """

    def __init__(self, root: Path = _ROOT) -> None:
        self._counters, self._power = _counters(root), _power_sensor(root)
        self._start, self._start_s = self._read(), time.perf_counter()

    def _read(self) -> int | str:
        """Microjoules, or microwatts where there is no counter; words when neither can be read."""
        files = self._counters or ([self._power] if self._power else [])
        if not files:
            return "this machine shows no energy counter"
        try:
            return sum(int(file.read_text()) for file in files)
        except (OSError, ValueError) as error:
            return f"the energy counter cannot be read: {getattr(error, 'strerror', None) or error}"

    def stop(self) -> Energy:
        end, seconds = self._read(), time.perf_counter() - self._start_s
        if isinstance(end, str) or isinstance(self._start, str):
            return Energy(None, end if isinstance(end, str) else str(self._start))
        if not self._counters:
            return Energy((self._start + end) / 2 * seconds, source=f"power sensor {_device(self._power)}")
        if end < self._start:
            return Energy(None, "the energy counter began again from 0 meanwhile")
        return Energy(float(end - self._start), source=f"counters of {', '.join(map(_device, self._counters))}")


def _counters(root: Path) -> list[Path]:
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:?/energy_uj"))
    # "psys" is a zone of the whole platform, with the packages in it.
    packages = [zone for zone in zones if not _text(zone.with_name("name")).startswith("psys")]
    if packages:
        return packages
    found = _sensors(root, "energy*_input")
    sockets = [f for f in found if "socket" in _text(f.with_name(f.name.replace("_input", "_label"))).lower()]
    return sockets or found[:1]


def _power_sensor(root: Path) -> Path | None:
    return next(iter([*_sensors(root, "power1_input"), *_sensors(root, "power1_average")]), None)


def _sensors(root: Path, name: str) -> list[Path]:
    found = sorted((root / "sys/class/hwmon").glob(f"hwmon*/{name}"))
    return [file for file in found if not _device(file).startswith(_ELSEWHERE)]


def _device(file: Path | None) -> str:
    return "" if file is None else _text(file.with_name("name")) or file.parent.name


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
