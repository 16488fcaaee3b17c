"""The machine while it is measured, read from made-up trees of the kernel's files; energy, memory and their reasons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.environment import cpu_times, read_environment
from edgekit.measuring.caveats import about_conditions
from edgekit.measuring.energy import Meter
from edgekit.measuring.memory import memory_parts
from edgekit.measuring.records import RoundConditions
from edgekit.measuring.resident import peak_rss_bytes, resident
from edgekit.measuring.watch import Watch

HERE = replace(read_environment(), max_frequency_mhz=2400.0, cores=4)
SAID = {"own_cpu_us": 0.0, "frequency_mhz": None}


def _put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _stat(root: Path, user: int, idle: int, steal: int) -> None:
    _put(root, "proc/stat", f"cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\n")


def test_times_of_the_cores_are_told_apart(tmp_path: Path) -> None:
    _stat(tmp_path, 30, 60, 10)
    found = cpu_times(tmp_path)
    assert found is not None
    assert (found.busy, found.stolen, found.total) == (30, 10, 100)
    assert cpu_times(tmp_path / "nowhere") is None


def _one_round(root: Path, own_share: float, monkeypatch: pytest.MonkeyPatch) -> RoundConditions:
    """Four cores for 1 s, 400 ticks: 200 of them busy, 20 stolen; `own_share` of the busy ones are the candidate's."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    _stat(root, 0, 0, 0)
    watch = Watch(root)
    watch.begin()
    _stat(root, 200, 180, 20)
    watch.end({"own_cpu_us": 2e6 * own_share, "frequency_mhz": 1800.0})
    watch.end_round()
    return watch.rounds[0]


def test_what_others_computed_is_all_but_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _one_round(tmp_path, 1.0, monkeypatch)
    assert found.others_cores == pytest.approx(0.0, abs=0.05)
    assert (found.steal_share, found.frequency_mhz) == (0.05, 1800.0)
    half = _one_round(tmp_path, 0.5, monkeypatch)
    assert half.others_cores == pytest.approx(1.0, abs=0.05)


def test_the_round_that_is_dropped_is_not_counted(tmp_path: Path) -> None:
    _stat(tmp_path, 0, 0, 0)
    watch = Watch(tmp_path)
    watch.begin()
    _stat(tmp_path, 100, 0, 0)
    watch.end(SAID)
    watch.skip_round()
    watch.end_round()
    assert [one.others_cores for one in watch.rounds] == [None]


@pytest.mark.parametrize(
    ("file", "before", "after", "who"),
    [
        ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n", "4\n", "cpu"),
        ("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", "0\n", "9\n", "cpu"),
        ("sys/fs/cgroup/cpu.stat", "usage_usec 5\nnr_throttled 2\n", "usage_usec 9\nnr_throttled 3\n", "control group"),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "50000\n", "50005\n", "firmware"),
    ],
)
def test_who_holds_the_cores_back_is_named_in_the_round_it_happens(
    tmp_path: Path, file: str, before: str, after: str, who: str
) -> None:
    _put(tmp_path, file, before)
    watch = Watch(tmp_path)
    watch.end_round()
    _put(tmp_path, file, after)
    watch.end_round()
    _put(tmp_path, file, before if who == "firmware" else after)
    watch.end_round()
    assert [one.throttled for one in watch.rounds] == [(), (who,), ()]
    told = list(about_conditions(watch.rounds, HERE))
    assert [c.kind for c in told] == ["throttling"]
    assert who in told[0].message
    assert "in 1 of 3 rounds" in told[0].message


def test_a_control_group_of_its_own_is_found(tmp_path: Path) -> None:
    _put(tmp_path, "proc/self/cgroup", "0::/box/one\n")
    _put(tmp_path, "sys/fs/cgroup/box/one/cpu.stat", "nr_throttled 1\n")
    watch = Watch(tmp_path)
    _put(tmp_path, "sys/fs/cgroup/box/one/cpu.stat", "nr_throttled 5\n")
    watch.end_round()
    assert watch.rounds[0].throttled == ("control group",)


def test_swap_and_temperature_are_watched(tmp_path: Path) -> None:
    _put(tmp_path, "proc/vmstat", "pswpin 10\npswpout 5\n")
    _put(tmp_path, "sys/class/thermal/thermal_zone0/temp", "84000\n")
    watch = Watch(tmp_path)
    _put(tmp_path, "proc/vmstat", "pswpin 10\npswpout 12\n")
    watch.end_round()
    assert (watch.rounds[0].swapped_pages, watch.rounds[0].temperature_c) == (7, 84.0)
    assert [c.kind for c in about_conditions(watch.rounds, HERE)] == ["hot", "swap"]


def test_what_the_machine_does_not_tell_is_none(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    watch.begin()
    watch.end(SAID)
    watch.end_round()
    assert watch.rounds[0] == RoundConditions(at_s=watch.rounds[0].at_s)
    assert list(about_conditions(watch.rounds, HERE)) == []


def test_conditions_are_told_with_when() -> None:
    calm = [RoundConditions(at_s=float(n), others_cores=0.0, steal_share=0.0, frequency_mhz=2400.0) for n in range(10)]
    assert list(about_conditions(calm, HERE)) == []
    slowed = [*calm[:4], *(replace(one, frequency_mhz=1500.0) for one in calm[4:7]), *calm[7:]]
    told = list(about_conditions(slowed, HERE))
    assert [c.kind for c in told] == ["frequency"]
    assert "1500 of 2400 MHz in 3 of 10 rounds, between 3.0 and 6.0 s" in told[0].message
    busy = [replace(one, others_cores=1.5, steal_share=0.04) for one in calm]
    assert [c.kind for c in about_conditions(busy, HERE)] == ["busy during rounds", "steal"]
    assert all(c.remedy for c in about_conditions(busy, HERE))


# -- energy ------------------------------------------------------------------------------------------------------

RAPL = "sys/class/powercap/intel-rapl:{}/{}"


def test_energy_is_of_the_packages_and_not_of_the_platform_they_are_in(tmp_path: Path) -> None:
    for zone, name, start in ((0, "package-0", 1000), (1, "package-1", 500), (2, "psys", 9000)):
        _put(tmp_path, RAPL.format(zone, "name"), f"{name}\n")
        _put(tmp_path, RAPL.format(zone, "energy_uj"), f"{start}\n")
    meter = Meter(tmp_path)
    _put(tmp_path, RAPL.format(0, "energy_uj"), "1700\n")
    _put(tmp_path, RAPL.format(2, "energy_uj"), "99000\n")
    found = meter.stop()
    assert (found.uj, found.reason) == (700.0, "")
    assert found.source == "counters of package-0, package-1"


def test_energy_of_sockets_and_of_a_power_sensor(tmp_path: Path) -> None:
    _put(tmp_path, "sys/class/hwmon/hwmon1/name", "ina226\n")
    _put(tmp_path, "sys/class/hwmon/hwmon1/power1_input", "4000000\n")
    meter = Meter(tmp_path)
    meter._start_s -= 2.0
    found = meter.stop()
    assert found.uj == pytest.approx(8e6, rel=0.01)  # 4 W for 2 s
    assert found.source == "power sensor ina226"
    for number, label, value in ((1, "Ecore000", 7), (2, "Esocket0", 100)):
        _put(tmp_path, f"sys/class/hwmon/hwmon0/energy{number}_label", f"{label}\n")
        _put(tmp_path, f"sys/class/hwmon/hwmon0/energy{number}_input", f"{value}\n")
    meter = Meter(tmp_path)
    _put(tmp_path, "sys/class/hwmon/hwmon0/energy2_input", "160\n")
    assert meter.stop().uj == 60.0


@pytest.mark.parametrize("name", ["amdgpu", "i915", "xe", "BAT0"])
def test_energy_of_a_graphics_card_or_a_battery_is_none_of_the_cpu(tmp_path: Path, name: str) -> None:
    _put(tmp_path, "sys/class/hwmon/hwmon0/name", f"{name}\n")
    for sensor in ("power1_average", "power1_input", "energy1_input"):
        _put(tmp_path, f"sys/class/hwmon/hwmon0/{sensor}", "4000000\n")
    assert Meter(tmp_path).stop().reason == "this machine shows no energy counter"
    _put(tmp_path, "sys/class/hwmon/hwmon1/name", "ina3221\n")
    _put(tmp_path, "sys/class/hwmon/hwmon1/power1_input", "4000000\n")
    assert Meter(tmp_path).stop().source == "power sensor ina3221"


def test_energy_that_cannot_be_read_is_null_with_a_reason(tmp_path: Path) -> None:
    assert Meter(tmp_path).stop().reason == "this machine shows no energy counter"
    _put(tmp_path, RAPL.format(0, "energy_uj"), "500\n")
    meter = Meter(tmp_path)
    _put(tmp_path, RAPL.format(0, "energy_uj"), "20\n")
    assert meter.stop().reason == "the energy counter began again from 0 meanwhile"
    _put(tmp_path, RAPL.format(0, "energy_uj"), "what\n")
    assert "cannot be read" in Meter(tmp_path).stop().reason


# -- memory ------------------------------------------------------------------------------------------------------


def test_resident_memory_is_read_from_the_better_file_there_is(tmp_path: Path) -> None:
    assert resident(tmp_path) is None
    _put(tmp_path, "status", "VmHWM:\t 900 kB\nVmRSS:\t 700 kB\nRssAnon:\t 300 kB\nRssFile:\t 400 kB\n")
    assert resident(tmp_path) == {"all": 700 << 10, "anonymous": 300 << 10, "file": 400 << 10}
    _put(tmp_path, "smaps_rollup", "55 rollup\nRss:  800 kB\nPss:  100 kB\nAnonymous:  350 kB\n")
    assert resident(tmp_path) == {"all": 800 << 10, "anonymous": 350 << 10, "file": 450 << 10}
    assert peak_rss_bytes(tmp_path) == 900 << 10
    assert peak_rss_bytes(tmp_path / "nowhere") > 5e6  # of this very process, from getrusage


def _seen(*sizes: int) -> list[dict[str, Any]]:
    return [{"all": size, "anonymous": size // 2, "file": size - size // 2} for size in sizes]


def test_each_stage_adds_what_was_not_there_before() -> None:
    parts, reason = memory_parts([{"resident": _seen(100, 160, 400, 380)}] * 3)
    assert reason == ""
    assert [(p.name, p.added_bytes) for p in parts] == [
        ("interpreter", 100), ("engine", 60), ("model", 240), ("runs", -20),
    ]  # fmt: skip
    assert all(p.anonymous_bytes is not None and p.file_bytes is not None for p in parts)
    assert all((p.anonymous_bytes or 0) + (p.file_bytes or 0) == p.added_bytes for p in parts)


def test_parts_that_are_not_told_have_a_reason() -> None:
    assert memory_parts([]) == ((), "no cold start was asked for")
    assert "does not show" in memory_parts([{"resident": [None, None, None, None]}])[1]
    old = [{**one, "anonymous": None, "file": None} for one in _seen(1, 2, 3, 4)]
    assert [p.anonymous_bytes for p in memory_parts([{"resident": old}])[0]] == [None] * 4
