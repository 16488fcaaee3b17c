"""The record of the machine, read from made-up trees of the kernel's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.environment import (
    busy_share,
    detect_emulation,
    frequency_mhz,
    read_environment,
    temperature_c,
)

PI5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1
"""
XEON = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: A Xeon\nflags\t\t: fpu avx avx2 avx512_vnni hypervisor\n"
)


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_reads_a_raspberry_pi(tmp_path: Path) -> None:
    root = _tree(
        tmp_path,
        {
            "proc/cpuinfo": PI5,
            "proc/meminfo": "MemTotal:        8052000 kB\nMemFree: 1 kB\n",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "2400000\n",
            "sys/class/thermal/thermal_zone0/temp": "48300\n",
            "sys/class/thermal/thermal_zone1/temp": "51250\n",
        },
    )
    found = read_environment(root)
    assert found.cpu == "Cortex-A76"
    assert found.features == ("asimd", "asimdhp", "asimddp")
    assert found.memory_bytes == 8052000 * 1024
    assert found.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert (found.governor, found.frequency_mhz, found.temperature_c) == ("ondemand", 2400.0, 51.25)
    assert found.max_frequency_mhz == 2400.0


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    found = read_environment(tmp_path)
    assert (found.board, found.governor, found.frequency_mhz, found.temperature_c) == (None, None, None, None)
    assert found.memory_bytes is None
    assert found.emulation == ""


def test_this_machine_gives_plain_json() -> None:
    found = json.loads(json.dumps(read_environment().to_json()))
    assert found["cores"] >= 1
    assert found["packages"]["numpy"]


@pytest.mark.parametrize(
    ("files", "link", "architecture", "word"),
    [
        ({"proc/cpuinfo": XEON}, "/usr/bin/qemu-aarch64", "aarch64", "qemu-aarch64"),
        ({"proc/cpuinfo": XEON}, "/usr/bin/python3", "aarch64", "GenuineIntel"),
        ({"proc/cpuinfo": "vendor_id : VirtualApple\n"}, "/usr/bin/python3", "x86_64", "Apple"),
        ({"proc/cpuinfo": XEON.replace("A Xeon", "QEMU Virtual CPU version 2.5+")}, "/bin/p", "x86_64", "QEMU"),
        ({"proc/cpuinfo": XEON}, "/usr/bin/python3", "x86_64", ""),
        ({"proc/cpuinfo": PI5}, "/usr/bin/python3", "aarch64", ""),
    ],
)
def test_emulation(tmp_path: Path, files: dict[str, str], link: str, architecture: str, word: str) -> None:
    root = _tree(tmp_path, files)
    (root / "proc/thread-self").mkdir()
    (root / "proc/thread-self/exe").symlink_to(link)
    found = detect_emulation(root, architecture)
    assert (word in found) if word else found == ""


def test_virtual_machine_is_not_emulation(tmp_path: Path) -> None:
    found = read_environment(_tree(tmp_path, {"proc/cpuinfo": XEON}))
    assert found.is_virtual
    assert found.emulation == ""


def test_temperature_and_frequency_ignore_nonsense(tmp_path: Path) -> None:
    root = _tree(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "nan\n"})
    assert temperature_c(root) is None
    assert frequency_mhz(root) is None


def test_busy_share_needs_a_counter_that_moves(tmp_path: Path) -> None:
    root = _tree(tmp_path, {"proc/stat": "cpu  10 0 10 100 0 0 0 0 0 0\n"})
    assert busy_share(0, root) is None
    assert busy_share(0, tmp_path / "nowhere") is None
    measured = busy_share(0.05)
    assert measured is None or 0 <= measured <= 1
