"""What makes the numbers of a profile less than they seem, as values with a remedy each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgekit.environment import Environment
from edgekit.measuring.records import Caveat, Measurement
from edgekit.measuring.statistics import ROUNDS_TO_TELL

__all__ = ["about_machine", "about_measurements"]

_BUSY = 0.2
_SPREAD = 0.10
_SLOWED = 1.10
_SLOW_CLOCK = 0.9
_FEW_FOR_P99 = 100
_HOT_C = 80.0
"""The Raspberry Pi's firmware begins to slow its cores at 80 degrees; other boards are near it."""


def about_machine(environment: Environment, busy: float | None, after_c: float | None) -> Iterator[Caveat]:
    """Caveats that hold for every number. `busy` is the share of all cores others used before the start."""
    if environment.emulation:
        yield Caveat(
            "emulation",
            f"{environment.emulation}: latencies say nothing of the device",
            "measure on the device; under emulation only the outputs mean something",
        )
    if busy is not None and busy * environment.cores > _BUSY:
        yield Caveat(
            "busy",
            f"other programs kept {busy * environment.cores:.1f} of {environment.cores} cores busy before the start",
            "stop them, or use fewer --threads than there are free cores",
        )
    if environment.governor not in (None, "performance"):
        yield Caveat(
            "governor",
            f"the frequency governor is {environment.governor!r}: short measurements may run below full speed",
            "sudo cpupower frequency-set -g performance",
        )
    if after_c is not None and after_c >= _HOT_C:
        yield Caveat("hot", f"the CPU is at {after_c:.0f} degrees after the measurement", "cool it, and measure again")


def about_measurements(measurements: Sequence[Measurement], max_mhz: float | None = None) -> Iterator[Caveat]:
    """Caveats of single candidates, named in the message. `max_mhz` is the highest frequency the driver allows."""
    timed = [m for m in measurements if m.latency is not None]
    noisy = [m for m in timed if m.latency is not None and m.latency.summary.spread > _SPREAD]
    if noisy:
        worst = max(noisy, key=_spread)
        yield Caveat(
            "noise",
            f"{len(noisy)} of {len(timed)} candidates vary by more than {_SPREAD:.0%}, "
            f"most of all {worst.candidate.title}: {_spread(worst):.0%}",
            "stop other programs, or take more rounds; trust p50 before p99",
        )
    few = [m for m in timed if m.latency is not None and len(m.latency.samples_us) < _FEW_FOR_P99]
    if few:
        yield Caveat(
            "few samples",
            f"{len(few)} of {len(timed)} candidates have fewer than {_FEW_FOR_P99} samples: "
            "their p99 is close to their maximum",
            "give more time: min_samples=, max_time_s=",
        )
    if len(timed) > 1 and min(len(m.latency.rounds_us) for m in timed if m.latency) < ROUNDS_TO_TELL:
        yield Caveat(
            "few rounds",
            f"fewer than {ROUNDS_TO_TELL} rounds cannot show that one candidate is faster than another",
            "take more rounds",
        )
    slowest_mhz = min((m.frequency_mhz for m in timed if m.frequency_mhz is not None), default=None)
    if max_mhz is not None and slowest_mhz is not None and slowest_mhz < _SLOW_CLOCK * max_mhz:
        yield Caveat(
            "frequency",
            f"a core ran at {slowest_mhz:.0f} of {max_mhz:.0f} MHz right after being timed",
            "look at the governor, the power supply and the temperature",
        )
    if slowed := _slowdown(timed):
        yield Caveat(
            "throttling",
            f"the last rounds were {slowed:.0%} slower than the first ones, for most candidates alike",
            "let the device cool down or sit still, and measure again; the ratios between candidates still hold",
        )


def _spread(measurement: Measurement) -> float:
    return measurement.latency.summary.spread if measurement.latency else 0.0


def _slowdown(timed: Sequence[Measurement]) -> float:
    """By how much the last third of rounds was slower than the first, median over candidates; 0 when it was not."""
    ratios = []
    for m in timed:
        medians = [float(np.median(one)) for one in m.latency.rounds_us] if m.latency else []
        third = len(medians) // 3
        if third:
            ratios.append(float(np.median(medians[-third:]) / np.median(medians[:third])))
    ratio = float(np.median(ratios)) if ratios else 1.0
    return ratio - 1 if ratio > _SLOWED else 0.0
