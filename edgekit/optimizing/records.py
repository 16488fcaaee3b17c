"""What `optimize` says: every trial with what became of it, and the report that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.bundle import Bundle

__all__ = ["SCHEMA", "STATUSES", "VERSION", "Estimate", "OptimizationReport", "TrialRecord"]

SCHEMA = "edgekit.optimization"
VERSION = 1

SHOWN_SAMPLES = 240
"""A device reads them with the manifest at every start: enough for a distribution, and no more."""

STATUSES = ("made", "failed", "skipped", "halved", "refused", "finalist", "shipped")
"""``made``: there is a file, and time was up; ``failed``: it cannot be made or does not run; ``skipped``: nothing was
made, for no file of its kind can win, or time was up; ``halved``: others were ahead; ``refused``: worse, or slower than
fp32; ``finalist``: measured to the end, and not the first; ``shipped``: the first, or another of the front."""


@dataclass
class TrialRecord:
    """One way to run the model, as far as it got. What was not measured is None.

    Attributes:
        title: File, runtime, arithmetic and threads.
        file: Name of the variant.
        format: Of the file.
        precision: Of the file.
        recipe: Name of the recipe.
        runtime: What opens it; empty for a file that was not made.
        engine_precision: Arithmetic of float operations, as the engine reported it; before that what it was asked for.
        threads: Of a call.
        status: One of `STATUSES`.
        reason: Why it got no further.
        stage: The last it took part in: ``"space"``, ``"made"``, ``"look"``, ``"metric"``, ``"rounds"``, ``"final"``.
        p50_us: Median latency of one caller's calls, of the last stage that timed it.
        interval_us: Where the median of its rounds' medians is, with confidence; of finalists.
        samples_us: Single calls of the final, `SHOWN_SAMPLES` of them drawn evenly; of finalists.
        score: What it is ranked by, less is better.
        figures: All else that was measured.
        peak_rss_bytes: Of a fresh process that loads and runs it; of the measuring one before the final.
        metric_value: On all data, or on the share that was enough.
        metric_interval: Of it.
        metric_count: Samples of it.
        sqnr_db: Against the source.
        on_front: Nothing else that was measured is as good in latency, size, memory and metric and better in one.
        where: Who measured it.
    """

    title: str
    file: str
    format: str
    precision: str
    recipe: str
    runtime: str = ""
    engine_precision: str = "fp32"
    threads: int | None = None
    status: str = "made"
    reason: str = ""
    stage: str = "space"
    p50_us: float | None = None
    interval_us: tuple[float, float] | None = None
    samples_us: tuple[float, ...] = ()
    score: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    size_bytes: int | None = None
    peak_rss_bytes: int | None = None
    metric_value: float | None = None
    metric_interval: tuple[float, float] | None = None
    metric_count: int | None = None
    sqnr_db: float | None = None
    on_front: bool = False
    where: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        said = dict(vars(self))
        for name in ("interval_us", "metric_interval", "samples_us"):
            said[name] = None if said[name] is None else list(said[name])
        return said


@dataclass(frozen=True)
class Estimate:
    """What a run will cost at most, said before it begins and again when the first file is made.

    Attributes:
        files: That can be made.
        timings: Ways to run them.
        judgements: Files that may be asked for answers, in each arithmetic.
        exhaustive_seconds: Of measuring all of it to the end, by what one file took; None where none was made yet.
        seconds: Of what is going to be done of it.
    """

    files: int
    timings: int
    judgements: int
    seconds: float | None = None
    exhaustive_seconds: float | None = None

    def __str__(self) -> str:
        said = f"at most {self.files} files are made, {self.timings} timings and {self.judgements} judgements"
        if self.seconds is None or self.exhaustive_seconds is None:
            return f"{said}; how long is said when the first file is made"
        return f"{said}, in about {self.seconds:.0f} s; all of it to the end would take {self.exhaustive_seconds:.0f} s"

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class OptimizationReport:
    """What was tried, what was shipped, and why.

    Attributes:
        source: What was given.
        target: Name of the target.
        title: Of the target, for people.
        objective: What it was chosen for.
        metric: What files were judged by.
        source_value: Of the source; None where that says nothing.
        max_drop: What may be lost of it, as a share; None where decibels are asked for.
        trials: All of the space, the shipped one first.
        estimate: As it was said.
        seconds: Of this run.
        budget_seconds: What was allowed.
        is_cut: Whether the budget ended it.
        reused: Units of work that an earlier run had done.
        work_seconds: Of all units of this run, added up over workers.
        notes: What the user should know.
        bundle: What was written; None for a dry run.
    """

    source: str
    target: str
    title: str
    objective: str
    metric: str
    source_value: float | None
    max_drop: float | None
    trials: tuple[TrialRecord, ...]
    estimate: Estimate
    seconds: float
    budget_seconds: float | None
    is_cut: bool
    reused: int = 0
    work_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    machine: Mapping[str, Any] = field(default_factory=dict)
    bundle: Bundle | None = None

    @property
    def shipped(self) -> TrialRecord | None:
        return next((one for one in self.trials if one.status == "shipped"), None)

    @property
    def front(self) -> tuple[TrialRecord, ...]:
        return tuple(one for one in self.trials if one.on_front)

    def record(self) -> dict[str, Any]:
        """What a bundle keeps of it."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "source": self.source,
            "target": self.target,
            "objective": self.objective,
            "metric": self.metric,
            "source_value": self.source_value,
            "max_drop": self.max_drop,
            "trials": [trial.to_json() for trial in self.trials],
            "estimate": self.estimate.to_json(),
            "seconds": round(self.seconds, 1),
            "work_seconds": round(self.work_seconds, 1),
            "budget": self.budget_seconds,
            "is_cut": self.is_cut,
            "reused": self.reused,
            "machine": dict(self.machine),
            "notes": list(self.notes),
        }

    def to_json(self) -> dict[str, Any]:
        return {**self.record(), "bundle": str(self.bundle.root) if self.bundle is not None else None}
