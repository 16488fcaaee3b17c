"""The record of the machine a number was measured on. What cannot be read is None, never a guess."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import edgekit
from edgekit.cores import num_cores

__all__ = [
    "Environment",
    "CpuTimes",
    "busy_share",
    "cpu_times",
    "detect_emulation",
    "frequency_mhz",
    "read_environment",
    "temperature_c",
]

_ROOT = Path("/")

# Instruction sets that inference kernels choose by, in /proc/cpuinfo's words.
_FEATURES = (
    "sse4_1", "ssse3", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip

_PACKAGES = ("numpy", "ai-edge-litert", "tflite-runtime", "tensorflow-cpu", "tensorflow", "onnxruntime", "openvino")

# Parts of Arm cores people know by name: Arm's "MIDR_EL1" part numbers, as /proc/cpuinfo prints them.
_ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57", "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78", "0xd44": "Cortex-X1", "0xd49": "Neoverse-N2", "0xd4f": "Neoverse-V2",
}  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """A machine at one moment.

    Attributes:
        cpu: Model of the CPU as it calls itself.
        architecture: ``platform.machine()``.
        features: Instruction sets kernels choose by, in the kernel's words.
        cores: Logical cores this process may use.
        memory_bytes: Installed memory.
        os: Operating system and kernel.
        board: What the device tree calls the board, such as ``"Raspberry Pi 5 Model B Rev 1.0"``.
        governor: Frequency policy of the first core.
        frequency_mhz: Its frequency now.
        max_frequency_mhz: The highest its driver allows.
        temperature_c: The hottest thermal zone.
        emulation: What makes this look like an emulated CPU; empty when nothing does.
        is_virtual: Whether a hypervisor announces itself.
        python: Version of Python.
        packages: Installed versions of numpy and the engines' packages.
        edgekit: Version of edgekit.
        yardstick_us: What work that never changes took, where it was measured: `edgekit.measuring.yardstick`.
    """

    cpu: str
    architecture: str
    features: tuple[str, ...]
    cores: int
    memory_bytes: int | None
    os: str
    board: str | None
    governor: str | None
    frequency_mhz: float | None
    max_frequency_mhz: float | None
    temperature_c: float | None
    emulation: str
    is_virtual: bool
    python: str
    packages: dict[str, str]
    edgekit: str
    yardstick_us: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "features": list(self.features)}


def read_environment(root: Path = _ROOT) -> Environment:
    """Reads it from the files of the kernel under `root`. Never raises: what is not there is None."""
    cpuinfo = _read(root / "proc/cpuinfo")
    flags = _field(cpuinfo, "flags") or _field(cpuinfo, "Features")
    return Environment(
        cpu=_cpu_name(cpuinfo),
        architecture=platform.machine(),
        features=tuple(name for name in _FEATURES if name in flags.split()),
        cores=num_cores(),
        memory_bytes=_memory_bytes(_read(root / "proc/meminfo")),
        os=f"{platform.system()} {platform.release()}",
        board=_read(root / "proc/device-tree/model").rstrip("\0\n") or None,
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        frequency_mhz=frequency_mhz(root),
        max_frequency_mhz=_cpufreq_mhz(root, "scaling_max_freq"),
        temperature_c=temperature_c(root),
        emulation=detect_emulation(root),
        is_virtual="hypervisor" in flags.split(),
        python=platform.python_version(),
        packages=_packages(),
        edgekit=edgekit.__version__,
    )


def detect_emulation(root: Path = _ROOT, architecture: str | None = None) -> str:
    """What makes this process look emulated, in words; empty when nothing does.

    qemu-user answers for ``/proc/self/exe`` but not for the same link of the thread, which still names qemu itself;
    it shows the host's ``/proc/cpuinfo`` in older versions. Full-system qemu without KVM names itself as the CPU.
    """
    machine = (architecture or platform.machine()).lower()
    try:
        program = (root / "proc/thread-self/exe").readlink().name
    except OSError:
        program = ""
    if program.startswith("qemu"):
        return f"this process runs inside {program}"
    cpuinfo = _read(root / "proc/cpuinfo")
    vendor = _field(cpuinfo, "vendor_id")
    if machine in ("aarch64", "arm64", "armv7l", "armv6l") and vendor:
        return f"an {machine} process on a CPU of {vendor}"
    if vendor == "VirtualApple":
        return "x86 code translated on an Apple CPU"
    name = _field(cpuinfo, "model name")
    return f"the CPU calls itself {name!r}" if "QEMU" in name else ""


def frequency_mhz(root: Path = _ROOT) -> float | None:
    """Frequency of the first core now, in MHz, where the kernel's frequency driver says it."""
    return _cpufreq_mhz(root, "scaling_cur_freq")


def _cpufreq_mhz(root: Path, name: str) -> float | None:
    text = _read(root / "sys/devices/system/cpu/cpu0/cpufreq" / name).strip()
    return int(text) / 1000 if text.isdecimal() else None


def temperature_c(root: Path = _ROOT) -> float | None:
    """The hottest thermal zone in degrees Celsius."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    values = [int(text) / 1000 for zone in zones if (text := _read(zone).strip()).isdecimal()]
    return max(values, default=None)


def busy_share(interval_s: float = 0.3, root: Path = _ROOT) -> float | None:
    """Share of all cores' time that anything ran during `interval_s`, 0 to 1, from the kernel's counters."""
    first = cpu_times(root)
    time.sleep(interval_s)
    last = cpu_times(root)
    if first is None or last is None or last.total <= first.total:
        return None
    return (last.busy - first.busy) / (last.total - first.total)


class CpuTimes(NamedTuple):
    """Ticks of all cores since the start of the machine: computing, given by the hypervisor to others, and all."""

    busy: int
    stolen: int
    total: int


def cpu_times(root: Path = _ROOT) -> CpuTimes | None:
    """From ``/proc/stat``; None where there is none. Time of guests is already in user time: proc(5)."""
    words = _read(root / "proc/stat").partition("\n")[0].split()
    if len(words) < 6 or words[0] != "cpu":
        return None
    ticks = [int(word) for word in words[1:9]]
    stolen = ticks[7] if len(ticks) > 7 else 0
    return CpuTimes(sum(ticks) - ticks[3] - ticks[4] - stolen, stolen, sum(ticks))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _field(cpuinfo: str, name: str) -> str:
    """The value of the first line ``name : value``."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _cpu_name(cpuinfo: str) -> str:
    if name := _field(cpuinfo, "model name"):
        return name
    part = _field(cpuinfo, "CPU part")
    return _ARM_PARTS.get(part, f"Arm part {part}") if part else platform.processor() or "unknown"


def _memory_bytes(meminfo: str) -> int | None:
    words = _field(meminfo, "MemTotal").split()
    return int(words[0]) * 1024 if words and words[0].isdecimal() else None


def _packages() -> dict[str, str]:
    found = {"numpy": np.__version__}
    for name in _PACKAGES[1:]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
