"""What a candidate has shown, as its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.measuring.memory import memory_parts
from edgekit.measuring.records import Audit, ColdStart, Latency, Measurement
from edgekit.measuring.rounds import Runner

__all__ = ["measurement_of"]

_TOLERANCE = 1e-4
"""Timed answers may differ from untimed ones by this share of their range: threads may add up in another order."""


def measurement_of(runner: Runner) -> Measurement:
    """The record of a candidate whose rounds are over; one without numbers when it failed, or answered wrong."""
    candidate, error = runner.candidate, runner.failure
    if error is not None:
        return Measurement(candidate, "failed", error.message, error.hint, runner.arithmetic)
    calls = sum(map(len, runner.rounds))
    audit = Audit(runner.inputs, runner.outputs, calls, runner.checked, runner.unseen_ratio, runner.unseen_reason)
    if runner.difference > _TOLERANCE:
        reason = f"timed answers differ from untimed ones by {runner.difference:.1e} of their range: no number is shown"
        hint = "an engine that is not repeatable, or answers what it was asked before; try --threads 1"
        found = runner.difference if np.isfinite(runner.difference) else None
        return Measurement(candidate, "wrong", reason, hint, runner.arithmetic, output_difference=found, audit=audit)
    latency = Latency(tuple(runner.rounds))
    memory, memory_reason = memory_parts(runner.cold)
    return Measurement(
        candidate,
        "measured",
        arithmetic=runner.arithmetic,
        latency=latency,
        timer_ns=runner.timer_ns,
        cpu_us=round(float(np.median(runner.cpu_us)), 3),
        throughput_per_s=_per_s(latency),
        cold_start=_cold_start(runner.cold),
        peak_rss_bytes=_median_bytes(runner.cold, "peak_rss_bytes") or runner.peak_rss_bytes,
        rss_before_load_bytes=_median_bytes(runner.cold, "rss_before_load_bytes"),
        memory=memory,
        memory_reason=memory_reason,
        major_faults=runner.major_faults,
        frequency_mhz=float(np.median(runner.frequency_mhz)) if runner.frequency_mhz else None,
        energy_uj=round(float(np.median(runner.energy_uj)), 3) if runner.energy_uj else None,
        energy_reason="" if runner.energy_uj else runner.energy_reason,
        energy_source=runner.energy_source,
        output_difference=runner.difference,
        audit=audit,
        scenario=runner.scenario,
        scenario_reason=runner.scenario_reason,
        operations=runner.operations,
    )


def _median_bytes(cold: Sequence[Mapping[str, Any]], name: str) -> int | None:
    values = [one[name] for one in cold if one[name]]
    return int(np.median(values)) if values else None


def _per_s(latency: Latency) -> float | None:
    """None of calls too short for the clock."""
    p50_us = latency.summary.p50_us
    return round(1e6 / p50_us, 3) if p50_us else None


def _cold_start(cold: Sequence[Mapping[str, Any]]) -> ColdStart | None:
    if not cold:
        return None
    stages = ("process_ms", "import_ms", "load_ms", "first_run_ms")
    totals = [sum(one[stage] for stage in stages) for one in cold]
    median = {stage: float(np.median([one[stage] for one in cold])) for stage in stages}
    return ColdStart(
        **median, total_ms=float(np.median(totals)), total_spread_ms=max(totals) - min(totals), count=len(cold)
    )
