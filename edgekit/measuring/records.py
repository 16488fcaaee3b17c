"""The records `profile` gives: one `Measurement` a candidate, and the `Profile` that holds them with the machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgekit.environment import Environment
from edgekit.measuring.statistics import Summary, summarize

__all__ = ["Candidate", "ColdStart", "Latency", "Measurement", "Profile", "Settings", "Caveat"]

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

    def to_json(self) -> dict[str, Any]:
        return {**self.summary.to_json(), "rounds_us": [list(one) for one in self.rounds_us]}


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
class Measurement:
    """What a candidate did.

    Attributes:
        candidate: What was measured.
        status: ``"measured"``; ``"unavailable"`` when the engine is not here; ``"failed"`` when it did not run;
            ``"wrong"`` when its timed answers were not those it gave untimed, and no number is shown.
        reason: Why there are no numbers.
        arithmetic: Arithmetic of float operations, as the engine reports it.
        latency: Timed calls.
        cpu_us: CPU time of all threads for one call.
        throughput_per_s: Calls a second by one caller that waits for each.
        cold_start: The way to the first answer; None when it was not asked for.
        peak_rss_bytes: Largest resident memory of a process that loads and runs it.
        rss_before_load_bytes: Resident memory of that process before the engine came in.
        frequency_mhz: Frequency of the first core right after its rounds, median.
        energy_uj: Energy of one call, of the whole CPU package.
        energy_reason: Why it is None.
        output_difference: Largest difference of timed answers to untimed ones, as a share of their range.
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
    cpu_us: float | None = None
    throughput_per_s: float | None = None
    cold_start: ColdStart | None = None
    peak_rss_bytes: int | None = None
    rss_before_load_bytes: int | None = None
    frequency_mhz: float | None = None
    energy_uj: float | None = None
    energy_reason: str = ""
    output_difference: float | None = None
    ratio_to_engine_fp32: float | None = None
    versus_engine_fp32: str | None = None
    ratio_to_best_fp32: float | None = None
    versus_best_fp32: str | None = None

    @property
    def p50_us(self) -> float:
        """Median latency; infinite for what was not measured, so that it sorts last."""
        return self.latency.summary.p50_us if self.latency else float("inf")

    def to_json(self) -> dict[str, Any]:
        plain = {key: value for key, value in vars(self).items() if key not in ("candidate", "latency", "cold_start")}
        return {
            **asdict(self.candidate),
            **plain,
            "latency": self.latency.to_json() if self.latency else None,
            "cold_start": self.cold_start.to_json() if self.cold_start else None,
        }


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
    """How it was measured; with the seed, enough to do it again."""

    rounds: int
    min_samples: int
    min_time_s: float
    max_time_s: float
    warmup_s: float
    cold_starts: int
    seed: int
    feeds: str = ""
    feed_shapes: dict[str, list[int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Profile:
    """Every candidate on this machine, fastest first, those without numbers last."""

    source: str
    target: str | None
    environment: Environment
    settings: Settings
    measurements: tuple[Measurement, ...]
    warnings: tuple[Caveat, ...]
    temperature_after_c: float | None = None

    @property
    def measured(self) -> tuple[Measurement, ...]:
        return tuple(m for m in self.measurements if m.status == "measured")

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "source": self.source,
            "target": self.target,
            "environment": self.environment.to_json(),
            "temperature_after_c": self.temperature_after_c,
            "settings": self.settings.to_json(),
            "measurements": [measurement.to_json() for measurement in self.measurements],
            "warnings": [warning.to_json() for warning in self.warnings],
        }
