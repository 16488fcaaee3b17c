"""The final: many rounds of the few that are left beside fp32, then the gate, and the one that is shipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.measuring.statistics import contrast
from edgekit.measuring.stopping import interval_of
from edgekit.optimizing.records import SHOWN_SAMPLES
from edgekit.optimizing.space import Entrant

__all__ = ["TIMED", "Final", "order_of"]

TIMED = ("latency", "throughput", "cpu-time")
"""Objectives of speed: what is slower than the best fp32 is no answer to them."""

_NEAR = 1.02
"""Scores nearer than this are no difference: fewer threads win, then more of the metric, then the smaller."""


def order_of(entrant: Entrant) -> tuple[float, int, str]:
    """The best first; what has no score last."""
    score = entrant.record.score
    return float("inf") if score is None else score, entrant.threads, entrant.title


@dataclass
class Final:
    """One final.

    Attributes:
        leaders: Who may win.
        floats: Every way to run fp32 that works.
        objective: What is ranked by.
        is_higher_better: Of the metric.
        runs: By title, the rounds of each, as `choose` was given them.
    """

    leaders: Sequence[Entrant]
    floats: Sequence[Entrant]
    objective: str
    is_higher_better: bool
    runs: Mapping[str, Any] = field(default_factory=dict, init=False)

    @property
    def contenders(self) -> list[Entrant]:
        """The leaders, fp32 of the engine of each, and the best fp32."""
        bases = [*(self._own_fp32(e) for e in self.leaders), self.best_fp32]
        return list(dict.fromkeys([*self.leaders, *(e for e in bases if e is not None)]))

    @property
    def best_fp32(self) -> Entrant | None:
        return min(self.floats, key=order_of, default=None)

    def _own_fp32(self, entrant: Entrant) -> Entrant | None:
        return min((e for e in self.floats if e.runtime == entrant.runtime), key=order_of, default=None)

    def choose(self, runs: Mapping[str, Any]) -> Entrant:
        """Who wins by these runs; all others are left with a reason.

        Raises:
            UnsupportedError: Nothing ran to the end.
        """
        self.runs = runs
        contenders = self.contenders
        for entrant in contenders:
            self._note(entrant)
        ranked = sorted((e for e in contenders if e.record.status == "finalist"), key=order_of)
        if not ranked:
            raise UnsupportedError("nothing runs here", offenders=[f"{e.title}: {e.record.reason}" for e in contenders])
        passed = [entrant for entrant in ranked if self._passes_gate(entrant)]
        if not passed:
            raise UnsupportedError(
                "no fp32 runs here to the end", offenders=[f"{e.title}: {e.record.reason}" for e in contenders]
            )
        best = passed[0].record.score or 0.0
        near = [entrant for entrant in passed if (entrant.record.score or 0.0) <= best * _NEAR]
        winner = min(near, key=self._preference)
        winner.record.status, winner.record.reason = "shipped", ""
        for entrant in passed:
            if entrant is not winner and not entrant.record.reason:
                ratio = (entrant.record.score or 0.0) / (winner.record.score or 1.0)
                entrant.record.reason = f"x{ratio:.2f} of the shipped one in {self.objective}"
        return winner

    def _preference(self, entrant: Entrant) -> tuple[Any, ...]:
        """Of those that are no slower than one another."""
        value, is_narrow = entrant.record.metric_value, entrant.precision != "fp32"
        lost = float("inf") if value is None else -value if self.is_higher_better else value
        return entrant.threads, lost, is_narrow, entrant.record.size_bytes or 0, entrant.title

    def _note(self, entrant: Entrant) -> None:
        run, record = self.runs[entrant.title], entrant.record
        record.stage = "final"
        if "failure" in run:
            record.status, record.reason, record.score = "failed", run["failure"], None
            return
        record.status, record.reason = "finalist", ""
        rounds = [np.asarray(one, "float64") for process in run["processes"] for one in process]
        samples = np.concatenate(rounds)
        record.p50_us = float(np.median(samples))
        drawn = np.linspace(0, samples.size - 1, min(samples.size, SHOWN_SAMPLES)).round().astype(int)
        record.samples_us = tuple(round(float(one), 3) for one in samples[drawn])
        known = interval_of([float(np.median(one)) for one in rounds])
        record.interval_us = None if known is None else (known.low, known.high)
        if run["cold"]:
            peaks = [one["peak_rss_bytes"] for one in run["cold"] if one["peak_rss_bytes"]]
            record.peak_rss_bytes = int(np.median(peaks)) if peaks else record.peak_rss_bytes
            record.figures["cold_start_ms"] = round(float(np.median([one["total_ms"] for one in run["cold"]])), 3)
        if self.objective == "latency":
            record.score = record.p50_us

    def _passes_gate(self, entrant: Entrant) -> bool:
        """Not slower than fp32 of its engine, nor, where speed is asked for, than the best fp32."""
        if entrant in self.floats:
            return True
        bases = {"fp32 of its engine": self._own_fp32(entrant)}
        if self.objective in TIMED:
            bases["the best fp32"] = self.best_fp32
        there = {words: base for words, base in bases.items() if base is not None}
        held = {words: base for words, base in there.items() if "failure" not in self.runs[base.title]}
        if there and not held:
            said = f"nothing shows that it is not slower than fp32: {', '.join(there)} did not run to the end"
            entrant.record.status, entrant.record.reason = "refused", said
            return False
        for words, base in held.items():
            mine, theirs = (self.runs[e.title]["processes"] for e in (entrant, base))
            found = contrast(list(zip(mine, theirs, strict=True)))
            if found.verdict == "slower":
                said = f"slower than {words}, {base.title}: x{found.ratio:.2f} its time, {found.rounds} paired rounds"
                entrant.record.status, entrant.record.reason = "refused", said
                return False
        return True
