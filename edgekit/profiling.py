"""The verb `profile`: what every variant costs with every engine on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgekit.environment import busy_share, read_environment, temperature_c
from edgekit.errors import InputError, UnavailableError
from edgekit.measuring.candidates import find_candidates, read_subject
from edgekit.measuring.caveats import about_machine, about_measurements
from edgekit.measuring.chosen import ChosenFeeds
from edgekit.measuring.records import (
    Candidate,
    Caveat,
    ColdStart,
    Latency,
    Measurement,
    Profile,
    Settings,
)
from edgekit.measuring.rounds import Runner, run_cold_starts, run_rounds
from edgekit.measuring.statistics import compare_rounds
from edgekit.named_files import file_of
from edgekit.registry import Probe

__all__ = ["Measurement", "Profile", "profile"]

_TOLERANCE = 1e-4
"""Timed answers may differ from untimed ones by this share of their range: threads may add up in another order."""

Progress = Callable[[int, int, str], None]


def profile(
    path: str | Path,
    *,
    runtime: str | Sequence[str] | None = None,
    threads: int | Sequence[int] | None = None,
    inputs: Iterable[Mapping[str, np.ndarray]] | None = None,
    rounds: int = 10,
    min_samples: int = 100,
    min_time_s: float = 0.5,
    max_time_s: float = 10.0,
    warmup_s: float = 0.1,
    cold_starts: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Profile:
    """Measures a bundle or a bare model file: latency, CPU time, cold start, memory and size of every candidate.

    A candidate is a variant, a runtime that opens its format, and a number of threads. Each has a process of its own;
    after a warm-up they are timed in turns. A candidate that fails is a row that says why.

    Args:
        path: ``NAME.edge``, ``NAME.edge.zip``, a model file, or the name of a model.
        runtime: Names; None for every engine that is here but the oracle; ``"all"`` for every one there is.
        threads: Counts to try; None for what the bundle says, else what the engine does by itself.
        inputs: Feeds to run; by default the bundle's golden ones and random ones.
        rounds: Timed rounds; one more is run first and dropped.
        min_samples: Timed calls of each candidate, if `max_time_s` allows.
        min_time_s: Time each candidate is timed for at least, at up to 500 calls a round.
        max_time_s: And at most.
        warmup_s: Untimed calls before the first round.
        cold_starts: Fresh processes a candidate for the cold start; 0 leaves it out.
        seed: Of the random feeds.
        progress: Called with steps done, steps in all, and what is next.

    Raises:
        ArtifactError: The file is missing or damaged.
        InputError: `inputs` do not match the signature.
        UnsupportedError: No runtime of those asked for opens it, or none can run it.
        UnavailableError: None of them is installed.
    """
    if rounds < 1 or min_samples < 1 or cold_starts < 0:
        raise InputError("rounds and min_samples must be at least 1, cold_starts at least 0")
    subject = read_subject(file_of(path))
    here, absent = find_candidates(subject, runtime, threads)
    if not here:
        reasons = "; ".join(dict.fromkeys(probe.reason for _, probe in absent))
        raise UnavailableError(f"no engine that opens it works here: {reasons}", hint="edgekit doctor")
    feeds = ChosenFeeds(subject, None if inputs is None else [dict(feed) for feed in inputs], seed)
    settings = Settings(rounds, min_samples, min_time_s, max_time_s, warmup_s, cold_starts, seed)
    environment, busy = read_environment(), busy_share()
    runners = [Runner(candidate, subject.path) for candidate in here]
    _run(runners, feeds, settings, progress)
    _raise_common_failure(runners)
    shown = absent if runtime is not None else []
    measurements = _ranked([_measurement(r) for r in runners], [_absent(*a) for a in shown])
    after_c = temperature_c()
    caveats = (
        *about_machine(environment, busy, after_c),
        *about_measurements(measurements, environment.max_frequency_mhz),
        *_about_feeds(runners, feeds),
        *_about_threads(here),
        *(_about_absent(absent) if runtime is None else ()),
    )
    settings = replace(settings, feeds=feeds.description, feed_shapes=feeds.shapes)
    return Profile(str(path), subject.target, environment, settings, measurements, caveats, after_c)


def _run(runners: list[Runner], feeds: ChosenFeeds, settings: Settings, progress: Progress | None) -> None:
    total, done = len(runners) * (1 + settings.rounds + 1 + settings.cold_starts), 0

    def tick(what: str) -> None:
        nonlocal done
        if progress is not None:
            progress(done, total, what)
        done += 1

    with TemporaryDirectory(prefix="edgekit-") as folder:
        try:
            run_rounds(runners, feeds.choose, Path(folder), settings, tick)
            run_cold_starts(runners, feeds.choose, Path(folder), settings, tick)
        finally:
            for runner in runners:
                runner.close()
    if progress is not None:
        progress(total, total, "done")


def _raise_common_failure(runners: Sequence[Runner]) -> None:
    """When all candidates failed for one kind of reason, that is the answer: a damaged file, inputs that do not fit."""
    failures = [runner.failure for runner in runners if runner.failure is not None]
    if len(failures) == len(runners) and len({type(failure) for failure in failures}) == 1:
        raise failures[0]


def _measurement(runner: Runner) -> Measurement:
    candidate, error = runner.candidate, runner.failure
    if error is not None:
        return Measurement(candidate, "failed", error.message, error.hint, runner.arithmetic)
    if runner.difference > _TOLERANCE:
        reason = f"timed answers differ from untimed ones by {runner.difference:.1e} of their range: no number is shown"
        hint = "an engine that is not repeatable; try --threads 1"
        return Measurement(
            candidate, "wrong", reason, hint, runner.arithmetic, output_difference=_finite(runner.difference)
        )
    latency = Latency(tuple(runner.rounds))
    cold_rss = [int(one["peak_rss_bytes"]) for one in runner.cold if one["peak_rss_bytes"]]
    before = [int(one["rss_before_load_bytes"]) for one in runner.cold if one["rss_before_load_bytes"]]
    return Measurement(
        candidate,
        "measured",
        arithmetic=runner.arithmetic,
        latency=latency,
        cpu_us=round(float(np.median(runner.cpu_us)), 3),
        throughput_per_s=round(1e6 / latency.summary.p50_us, 3),
        cold_start=_cold_start(runner.cold),
        peak_rss_bytes=int(np.median(cold_rss)) if cold_rss else runner.peak_rss_bytes,
        rss_before_load_bytes=int(np.median(before)) if before else None,
        frequency_mhz=float(np.median(runner.frequency_mhz)) if runner.frequency_mhz else None,
        energy_uj=round(float(np.median(runner.energy_uj)), 3) if runner.energy_uj else None,
        energy_reason=runner.energy_reason,
        output_difference=runner.difference,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _cold_start(cold: Sequence[Mapping[str, float]]) -> ColdStart | None:
    if not cold:
        return None
    stages = ("process_ms", "import_ms", "load_ms", "first_run_ms")
    totals = [sum(one[stage] for stage in stages) for one in cold]
    median = {stage: float(np.median([one[stage] for one in cold])) for stage in stages}
    return ColdStart(
        **median, total_ms=float(np.median(totals)), total_spread_ms=max(totals) - min(totals), count=len(cold)
    )


def _absent(candidate: Candidate, probe: Probe) -> Measurement:
    hint = f"pip install 'edgekit-ml[{probe.extra}]'" if probe.extra else ""
    return Measurement(candidate, "unavailable", probe.reason, hint)


def _ranked(measured: list[Measurement], absent: list[Measurement]) -> tuple[Measurement, ...]:
    """Fastest first, each against the fp32 of its own engine and against the best fp32 there is."""
    fp32 = [m for m in measured if m.latency is not None and m.candidate.precision == "fp32"]
    best = min(fp32, key=lambda m: m.p50_us, default=None)
    compared = []
    for m in measured:
        c = m.candidate
        own = [f for f in fp32 if (f.candidate.runtime, f.candidate.threads) == (c.runtime, c.threads)]
        engine_ratio, engine_word = _against(m, min(own, key=lambda f: f.p50_us, default=None))
        best_ratio, best_word = _against(m, best)
        compared.append(
            replace(
                m,
                ratio_to_engine_fp32=engine_ratio,
                versus_engine_fp32=engine_word,
                ratio_to_best_fp32=best_ratio,
                versus_best_fp32=best_word,
            )
        )
    return (*sorted(compared, key=lambda m: m.p50_us), *absent)


def _against(measurement: Measurement, base: Measurement | None) -> tuple[float | None, str | None]:
    if base is None or base.latency is None or measurement.latency is None:
        return None, None
    ratio = round(measurement.p50_us / base.p50_us, 4)
    if measurement.candidate == base.candidate:
        return 1.0, "same"
    return ratio, compare_rounds(measurement.latency.rounds_us, base.latency.rounds_us)


def _about_feeds(runners: Sequence[Runner], feeds: ChosenFeeds) -> Iterable[Caveat]:
    if feeds.open_dims:
        yield Caveat(
            "open dimensions",
            f"the model leaves sizes open; measured with {', '.join(feeds.open_dims)}",
            "give inputs= of the size you use",
        )
    constant = [r.candidate.title for r in runners if r.is_constant]
    if constant:
        yield Caveat(
            "constant output",
            f"every input gave the same answer: {', '.join(constant)}",
            "check the model, or give inputs= of the kind it was trained on",
        )


def _about_threads(candidates: Sequence[Candidate]) -> Iterable[Caveat]:
    if len({c.runtime for c in candidates if c.threads is None}) > 1:
        yield Caveat(
            "threads",
            "each engine chose its own number of threads, as it does when it serves: some one, some all cores",
            "--threads 1 compares them alike",
        )


def _about_absent(absent: Sequence[tuple[Candidate, Probe]]) -> Iterable[Caveat]:
    reasons = {c.runtime: p for c, p in absent}
    for name, probe in reasons.items():
        hint = f"pip install 'edgekit-ml[{probe.extra}]'" if probe.extra else ""
        yield Caveat("not measured", f"runtime {name} is not available: {probe.reason}", hint)
