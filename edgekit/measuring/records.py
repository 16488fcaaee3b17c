"""The records `profile` gives: one `Measurement` a candidate, and the `Profile` that holds them with the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgekit.environment import Environment
from edgekit.measuring.gating import Gating
from edgekit.measuring.operation_records import Operations
from edgekit.measuring.scenario_result import ScenarioResult
from edgekit.measuring.statistics import Summary, summarize
from edgekit.measuring.stopping import Interval, median_interval

__all__ = [
    "Audit",
    "Candidate",
    "Caveat",
    "ColdStart",
    "Latency",
    "Measurement",
    "MemoryPart",
    "Profile",
    "RoundConditions",
    "ScenarioResult",
    "Settings",
]

SCHEMA = "edgekit.profile"
VERSION = 1


@dataclass(frozen=True)
class Candidate:
    """One way to run the model: a file, an engine that opens it, and a number of threads.

    Attributes:
        variant: Name in the bundle; for a bare file the file's name.
        format: Format of the file.
        precision: Precision of the file, as the bundle says; None where a bare file does not tell.
        recipe: Recipe the file was made by, where the bundle says.
        runtime: The runtime that opens it.
        runtime_version: The engine's package and version.
        threads: Threads asked for; None leaves it to the engine.
        artifact_sha256: Of the file that is opened first.
        size_bytes: Of all its files.
        in_bundle: Whether `variant` is to be asked for by name.
    """

    variant: str
    format: str
    precision: str | None
    recipe: str | None
    runtime: str
    runtime_version: str
    threads: int | None
    artifact_sha256: str
    size_bytes: int
    in_bundle: bool

    @property
    def title(self) -> str:
        threads = "" if self.threads is None else f" x{self.threads}"
        return f"{self.variant} on {self.runtime}{threads}"


@dataclass(frozen=True)
class Latency:
    """Timed calls, in microseconds, round by round; the first round of all is not among them."""

    rounds_us: tuple[tuple[float, ...], ...]

    @property
    def samples_us(self) -> tuple[float, ...]:
        return tuple(sample for one in self.rounds_us for sample in one)

    @property
    def summary(self) -> Summary:
        return summarize(self.samples_us)

    @property
    def interval(self) -> Interval | None:
        """Where the median lies, by the medians of the rounds; None of fewer rounds than can tell."""
        return median_interval(self.rounds_us)

    def to_json(self) -> dict[str, Any]:
        interval = self.interval
        return {
            **self.summary.to_json(),
            "interval": interval.to_json() if interval else None,
            "rounds_us": [list(one) for one in self.rounds_us],
        }


@dataclass(frozen=True)
class ColdStart:
    """From nothing to the first answer in a fresh process with files in the page cache; medians, in milliseconds.

    Attributes:
        process_ms: Start of Python, import of numpy and edgekit.
        import_ms: Import of the engine, with the probe that shows it works.
        load_ms: Verification and opening of the file.
        first_run_ms: The first call.
        total_ms: All of them.
        total_spread_ms: Largest minus smallest total.
        count: Fresh processes.
    """

    process_ms: float
    import_ms: float
    load_ms: float
    first_run_ms: float
    total_ms: float
    total_spread_ms: float
    count: int

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 3) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class MemoryPart:
    """What one stage of a cold start added to the resident memory of its process; medians over the cold starts.

    Attributes:
        name: ``"interpreter"`` (Python, numpy and edgekit), ``"engine"``, ``"model"`` or ``"runs"``.
        added_bytes: Resident memory after the stage less that before it; negative when it gave some back.
        anonymous_bytes: Of it, what belongs to the process alone and can only go to swap; None where not told.
        file_bytes: Of it, pages of files, such as libraries and mapped weights, which the system may drop.
    """

    name: str
    added_bytes: int
    anonymous_bytes: int | None
    file_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Audit:
    """What was done to find out whether the timed calls did the work they were timed for.

    Attributes:
        inputs: Different feeds among those timed, by content.
        outputs: Different answers they gave untimed.
        calls: Timed calls.
        calls_checked: Of those, calls whose answers were held against untimed ones. Between rounds the contents of
            the feeds change places, so an engine that knows a feed by its memory answers wrong, and is found here.
        unseen_ratio: Time of a call whose input was never seen before over that of one seen often; far above 1 when
            answers are remembered. None when it was not tried, or gave no other input, or the engine failed on it.
        unseen_reason: What the engine said when it failed on such an input.
    """

    inputs: int
    outputs: int
    calls: int
    calls_checked: int
    unseen_ratio: float | None = None
    unseen_reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RoundConditions:
    """The machine while one round of all candidates was timed. What it does not tell is None.

    Attributes:
        at_s: Seconds from the start of the rounds to the end of this one.
        others_cores: Cores kept busy by anything but the candidate being timed and this tool, on average.
        steal_share: Share of the cores' time that the hypervisor gave to other machines.
        frequency_mhz: The lowest seen of the first core right after a candidate's turn.
        temperature_c: The hottest thermal zone at the end of the round.
        throttled: Who said since the last round that it held the CPU back: ``"cpu"``, ``"firmware"`` or
            ``"control group"``.
        swapped_pages: Pages the machine read from or wrote to swap.
    """

    at_s: float
    others_cores: float | None = None
    steal_share: float | None = None
    frequency_mhz: float | None = None
    temperature_c: float | None = None
    throttled: tuple[str, ...] = ()
    swapped_pages: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """What a candidate did.

    Attributes:
        candidate: What was measured.
        status: ``"measured"``; ``"unavailable"`` when the engine is not here; ``"failed"`` when it did not run;
            ``"wrong"`` when its timed answers were not those it gave untimed, and no number is shown.
        reason: Why there are no numbers.
        arithmetic: Arithmetic of float operations, as the engine reports it.
        latency: Timed calls, less `timer_ns`.
        timer_ns: What reading the clock before and after a call takes in the candidate's process.
        cpu_us: CPU time of all threads for one call.
        throughput_per_s: Calls a second by one caller that waits for each.
        cold_start: The way to the first answer; None when it was not asked for.
        peak_rss_bytes: Largest resident memory of a process that loads and runs it.
        rss_before_load_bytes: Resident memory of that process before the engine came in.
        memory: What each stage added to it, in order; empty where the system does not tell.
        memory_reason: Why it is empty.
        major_faults: Pages read from disk or swap during timed rounds.
        frequency_mhz: Frequency of the first core right after its rounds, median.
        energy_uj: Energy of one call, of the whole CPU package.
        energy_reason: Why it is None.
        energy_source: What was read, and of what part of the machine it is.
        output_difference: Largest difference of timed answers to untimed ones, as a share of their range.
        audit: Whether the timed calls did the work.
        scenario: What it did under load, when a scenario was asked for.
        scenario_reason: Why there is none though it was asked for.
        operations: Where the time of a call goes by the engine's own profiler, when that was asked for.
        ratio_to_engine_fp32: p50 over that of fp32 by the same engine and threads.
        versus_engine_fp32: ``"faster"``, ``"slower"``, ``"same"`` or ``"unclear"``, by a test over paired rounds.
        ratio_to_best_fp32: p50 over that of the fastest fp32 of any engine.
        versus_best_fp32: The same test against that one.
    """

    candidate: Candidate
    status: str
    reason: str = ""
    hint: str = ""
    arithmetic: str | None = None
    latency: Latency | None = None
    timer_ns: float | None = None
    cpu_us: float | None = None
    throughput_per_s: float | None = None
    cold_start: ColdStart | None = None
    peak_rss_bytes: int | None = None
    rss_before_load_bytes: int | None = None
    memory: tuple[MemoryPart, ...] = ()
    memory_reason: str = ""
    major_faults: int | None = None
    frequency_mhz: float | None = None
    energy_uj: float | None = None
    energy_reason: str = ""
    energy_source: str = ""
    output_difference: float | None = None
    audit: Audit | None = None
    scenario: ScenarioResult | None = None
    scenario_reason: str = ""
    operations: Operations | None = None
    ratio_to_engine_fp32: float | None = None
    versus_engine_fp32: str | None = None
    ratio_to_best_fp32: float | None = None
    versus_best_fp32: str | None = None

    @property
    def p50_us(self) -> float:
        """Median latency; infinite for what was not measured, so that it sorts last."""
        return self.latency.summary.p50_us if self.latency else float("inf")

    def to_json(self) -> dict[str, Any]:
        rest = {key: value for key, value in vars(self).items() if key != "candidate"}
        return {**asdict(self.candidate), **_plain(rest)}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as JSON takes them: records and tuples of records by their own `to_json`."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [plain(one) for one in value]
        return value.to_json() if hasattr(value, "to_json") else value

    return {key: plain(value) for key, value in values.items()}


@dataclass(frozen=True)
class Caveat:
    """Something that makes the numbers less than they seem, and what to do about it."""

    kind: str
    message: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Settings:
    """How it was measured; with the seed, enough to do it again.

    Attributes:
        rounds: Timed rounds; the least of them where there is an `interval`.
        interval: Half of the widest interval of a median that ends the rounds, as a share of it; None for `rounds`.
        scenario: Of the load, with its rate, bound and samples a query; None when none was asked for.
        ops: Whether operations were profiled too.
    """

    rounds: int
    min_samples: int
    min_time_s: float
    max_time_s: float
    warmup_s: float
    cold_starts: int
    seed: int
    feeds: str = ""
    feed_shapes: dict[str, list[int]] = field(default_factory=dict)
    interval: float | None = None
    scenario: str | None = None
    rate_per_s: float | None = None
    bound_ms: float | None = None
    samples_per_query: int | None = None
    ops: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Profile:
    """Every candidate on this machine, fastest first, those without numbers last.

    Attributes:
        ended_by: What ended the rounds: ``"interval"``, all medians were known as well as was asked; ``"time"``, it
            was up before; ``"rounds"``, the number of them that was asked for, or the most there are.
        conditions: The machine during each timed round.
        gating: What became of bounds, and how it stands to an earlier profile; None where neither was given.
    """

    source: str
    target: str | None
    environment: Environment
    settings: Settings
    measurements: tuple[Measurement, ...]
    warnings: tuple[Caveat, ...]
    temperature_after_c: float | None = None
    device: str | None = None
    """Where, when it was another machine than the one that asked: ``"ssh://pi@host"``."""
    ended_by: str = ""
    conditions: tuple[RoundConditions, ...] = ()
    gating: Gating | None = None

    @property
    def measured(self) -> tuple[Measurement, ...]:
        return tuple(m for m in self.measurements if m.status == "measured")

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "source": self.source,
            "device": self.device,
            "target": self.target,
            "environment": self.environment.to_json(),
            "temperature_after_c": self.temperature_after_c,
            "settings": self.settings.to_json(),
            "ended_by": self.ended_by,
            "conditions": [one.to_json() for one in self.conditions],
            "measurements": [measurement.to_json() for measurement in self.measurements],
            "warnings": [warning.to_json() for warning in self.warnings],
            "gating": self.gating.to_json() if self.gating else None,
        }
