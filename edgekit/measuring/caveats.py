"""What makes the numbers of a profile less than they seem, as values with a remedy each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgekit.environment import Environment
from edgekit.measuring.records import Caveat, Measurement, RoundConditions, ScenarioResult
from edgekit.measuring.rounds import is_tight
from edgekit.measuring.statistics import ROUNDS_TO_TELL

__all__ = ["about_conditions", "about_machine", "about_measurements", "about_scenarios"]

_BUSY = 0.2
_SPREAD = 0.10
_SLOWED = 1.10
_SLOW_CLOCK = 0.9
_FEW_FOR_P99 = 100
_UNSEEN = 2.0
_STOLEN = 0.01
_LATE_US = 1000.0
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


def about_conditions(rounds: Sequence[RoundConditions], environment: Environment) -> Iterator[Caveat]:
    """Caveats of the machine while the rounds were timed, with when it was so."""
    busy = [one.others_cores for one in rounds if one.others_cores is not None]
    if busy and float(np.mean(busy)) > _BUSY:
        yield Caveat(
            "busy during rounds",
            f"other programs kept {np.mean(busy):.1f} of {environment.cores} cores busy while candidates were timed, "
            f"up to {max(busy):.1f} in a round",
            "stop them, or use fewer --threads than there are free cores",
        )
    stolen = [one.steal_share for one in rounds if one.steal_share is not None]
    if stolen and float(np.mean(stolen)) > _STOLEN:
        yield Caveat(
            "steal",
            f"the hypervisor gave {np.mean(stolen):.1%} of the cores' time to other machines meanwhile",
            "measure on a machine of its own; trust the ratios between candidates before the milliseconds",
        )
    for who, remedy in _HELD_BACK.items():
        if when := [number for number, one in enumerate(rounds) if who in one.throttled]:
            yield Caveat("throttling", f"the {who} held the cores back {_when(when, rounds)}", remedy)
    hot = [n for n, one in enumerate(rounds) if one.temperature_c is not None and one.temperature_c >= _HOT_C]
    if hot:
        hottest = max(one.temperature_c or 0.0 for one in rounds)
        yield Caveat("hot", f"the CPU was at up to {hottest:.0f} degrees {_when(hot, rounds)}", "cool it")
    fastest = environment.max_frequency_mhz
    slow = [n for n, one in enumerate(rounds) if fastest and (one.frequency_mhz or fastest) < _SLOW_CLOCK * fastest]
    if slow and fastest:
        lowest = min(one.frequency_mhz or fastest for one in rounds)
        yield Caveat(
            "frequency",
            f"a core ran at {lowest:.0f} of {fastest:.0f} MHz {_when(slow, rounds)}",
            "look at the governor, the power supply and the temperature",
        )
    if swapped := [number for number, one in enumerate(rounds) if one.swapped_pages]:
        pages = sum(one.swapped_pages or 0 for one in rounds)
        yield Caveat("swap", f"the machine moved {pages} pages from or to swap {_when(swapped, rounds)}", "free memory")


_HELD_BACK = {
    "cpu": "let it cool down or sit still, and measure again; the ratios between candidates still hold",
    "firmware": "look at the power supply and the temperature: vcgencmd get_throttled says which",
    "control group": "this container's quota of CPU time was used up: raise it, or use fewer --threads",
}


def _when(numbers: Sequence[int], rounds: Sequence[RoundConditions]) -> str:
    """Which rounds, counted from 1, and when in seconds."""
    first, last = numbers[0], numbers[-1]
    began_s = rounds[first - 1].at_s if first else 0.0
    if len(numbers) == len(rounds):
        return f"in all {len(rounds)} rounds"
    return f"in {len(numbers)} of {len(rounds)} rounds, between {began_s:.1f} and {rounds[last].at_s:.1f} s"


def about_measurements(
    measurements: Sequence[Measurement], at_s: Sequence[float] = (), interval: float | None = None
) -> Iterator[Caveat]:
    """Caveats of single candidates, named in the message.

    Args:
        measurements: Of all candidates.
        at_s: When each round ended.
        interval: What half of the interval of each median was to be, as a share of it.
    """
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
    yield from _about_precision(timed, interval)
    yield from _about_audits(timed)
    slowed, since = _slowdown(timed)
    if slowed:
        when = f", since round {since + 1}" + (f" at {at_s[since]:.1f} s" if since < len(at_s) else "")
        yield Caveat(
            "throttling",
            f"the last rounds were {slowed:.0%} slower than the first ones, for most candidates alike{when}",
            "let the device cool down or sit still, and measure again; the ratios between candidates still hold",
        )


def _about_precision(timed: Sequence[Measurement], interval: float | None) -> Iterator[Caveat]:
    few = [m for m in timed if m.latency is not None and len(m.latency.samples_us) < _FEW_FOR_P99]
    if few:
        yield Caveat(
            "few samples",
            f"{len(few)} of {len(timed)} candidates have fewer than {_FEW_FOR_P99} samples: "
            "their p99 is close to their maximum",
            "give more time: --max-time",
        )
    if len(timed) > 1 and min(len(m.latency.rounds_us) for m in timed if m.latency) < ROUNDS_TO_TELL:
        yield Caveat(
            "few rounds",
            f"fewer than {ROUNDS_TO_TELL} rounds cannot show that one candidate is faster than another",
            "take more rounds",
        )
    wide = [] if interval is None else [m for m in timed if m.latency and not is_tight(m.latency.rounds_us, interval)]
    if wide:
        worst = max(wide, key=_half_width)
        yield Caveat(
            "wide interval",
            f"{len(wide)} of {len(timed)} medians are not known within {interval:.1%} yet; "
            f"least of all {worst.candidate.title}: within {_half_width(worst):.1%}",
            "stop other programs, or give more time: --max-time",
        )


def _about_audits(timed: Sequence[Measurement]) -> Iterator[Caveat]:
    suspects = [m for m in timed if m.audit and m.audit.unseen_ratio is not None and m.audit.unseen_ratio > _UNSEEN]
    if suspects:
        worst = max(suspects, key=lambda m: m.audit.unseen_ratio if m.audit and m.audit.unseen_ratio else 0.0)
        assert worst.audit is not None
        yield Caveat(
            "remembered answers",
            f"an input never seen before took {worst.audit.unseen_ratio:.1f} times as long as those timed with "
            f"{worst.candidate.title}: it may remember its answers",
            "do not trust its latency; give many inputs=, all different",
        )
    if faulty := [m for m in timed if m.major_faults]:
        names = ", ".join(f"{m.candidate.title} {m.major_faults}" for m in faulty)
        yield Caveat("page faults", f"pages were read from disk while timed: {names}", "free memory, and measure again")


def about_scenarios(measurements: Sequence[Measurement]) -> Iterator[Caveat]:
    """Caveats of the load that was put on candidates."""
    loaded = [(m.candidate.title, m.scenario) for m in measurements if m.scenario is not None]
    for m in measurements:
        if m.scenario_reason:
            yield Caveat(
                "load", f"{m.candidate.title}: {m.scenario_reason}", "no figure of the scenario is shown of it"
            )
    for title, s in loaded:
        if s.headline == "rate_per_s" and s.value is None:
            yield Caveat("no rate", _no_rate(title, s), "a wider --bound-ms, or a machine with nothing else to do")
    if over := [title for title, s in loaded if s.is_overloaded]:
        yield Caveat(
            "overloaded",
            f"queries came faster than they were answered, and the rest was given up: {', '.join(over)}",
            "a lower --rate; latencies of the last queries are as long as the run was",
        )
    if few := [title for title, s in loaded if s.latency is not None and s.upper_us is None]:
        yield Caveat(
            "few queries",
            f"too few queries to tell how far off the percentile may be: {', '.join(few)}",
            "give more time: --max-time",
        )
    if late := [title for title, s in loaded if s.clock_late_us is not None and s.clock_late_us > _LATE_US]:
        yield Caveat(
            "late load",
            f"queries were begun more than {_LATE_US / 1000:.0f} ms late though a caller was free: {', '.join(late)}",
            "leave a core free: fewer --threads",
        )


def _no_rate(title: str, s: ScenarioResult) -> str:
    if not s.tried:
        return f"{title} can hold the bound at no rate: a call alone takes longer"
    if held := [rate for rate, _, holds in s.tried if holds]:
        return f"{title} held the bound at {max(held):.1f} queries a second for a while, but at no rate for all turns"
    rate, p99_us, _ = min(s.tried)
    return (
        f"{title} held the bound at no rate tried; at {rate:.1f} queries a second, the lowest, "
        f"99 % were answered within {p99_us / 1000:.2f} ms"
    )


def _spread(measurement: Measurement) -> float:
    return measurement.latency.summary.spread if measurement.latency else 0.0


def _half_width(measurement: Measurement) -> float:
    latency = measurement.latency
    interval = latency.interval if latency else None
    return interval.half_width(measurement.p50_us) if interval else float("inf")


def _slowdown(timed: Sequence[Measurement]) -> tuple[float, int]:
    """By how much the last third of rounds was slower than the first, median over candidates, and since which round.

    0 when it was not. The round is the first from which on all are slower than half of that.
    """
    series = []
    for m in timed:
        medians = np.array([np.median(one) for one in m.latency.rounds_us] if m.latency else [])
        third = len(medians) // 3
        if third and np.median(medians[:third]) > 0:
            series.append(medians / np.median(medians[:third]))
    if not series:
        return 0.0, 0
    count = min(map(len, series))
    course = np.median([one[:count] for one in series], axis=0)
    slowed = float(np.median(course[-(count // 3) :])) - 1
    if slowed <= _SLOWED - 1:
        return 0.0, 0
    fast = np.flatnonzero(course <= 1 + slowed / 2)
    return slowed, int(fast[-1]) + 1 if len(fast) and fast[-1] + 1 < count else count - 1
