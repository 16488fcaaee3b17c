"""The verb `profile`: what every variant costs with every engine on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgekit.environment import busy_share, read_environment, temperature_c
from edgekit.errors import InputError, UnavailableError
from edgekit.measuring.candidates import Subject, find_candidates, read_subject
from edgekit.measuring.caveats import about_conditions, about_machine, about_measurements, about_scenarios
from edgekit.measuring.chosen import ChosenFeeds
from edgekit.measuring.operations import run_profilers
from edgekit.measuring.records import Candidate, Caveat, Measurement, Profile, Settings
from edgekit.measuring.results import measurement_of
from edgekit.measuring.rounds import Runner, open_runners, run_cold_starts, time_rounds
from edgekit.measuring.scenarios import Scenario, run_scenario, scenario_of, scenario_steps
from edgekit.measuring.statistics import compare_rounds
from edgekit.measuring.watch import Watch
from edgekit.measuring.yardstick import join_yardsticks, measure_yardstick
from edgekit.named_files import file_of
from edgekit.registry import Probe

__all__ = ["Measurement", "Profile", "profile"]

_LEAST_ROUNDS = 10
"""Where the rounds go on until medians are known."""

Progress = Callable[[int, int, str], None]


def profile(
    path: str | Path,
    *,
    runtime: str | Sequence[str] | None = None,
    threads: int | Sequence[int] | None = None,
    inputs: Iterable[Mapping[str, np.ndarray]] | None = None,
    rounds: int | None = None,
    interval: float = 0.01,
    min_samples: int = 100,
    min_time_s: float = 0.5,
    max_time_s: float = 5.0,
    warmup_s: float = 0.1,
    cold_starts: int = 3,
    seed: int = 0,
    scenario: str | None = None,
    rate_per_s: float | None = None,
    bound_ms: float | None = None,
    samples_per_query: int = 8,
    ops: bool = False,
    progress: Progress | None = None,
    device: str | None = None,
    device_python: str | None = None,
) -> Profile:
    """Measures a bundle or a bare model file: latency, CPU time, cold start, memory and size of every candidate.

    A candidate is a variant, a runtime that opens its format, and a number of threads. Each has a process of its own;
    after a warm-up they are timed in turns, until every median is known as well as `interval` says or the time is up.
    A candidate that fails is a row that says why.

    Args:
        path: ``NAME.edge``, ``NAME.edge.zip``, a model file, or the name of a model.
        runtime: Names; None for every engine that is here but the oracle; ``"all"`` for every one there is.
        threads: Counts to try; None for what the bundle says, else what the engine does by itself.
        inputs: Feeds to run; by default the bundle's golden ones and random ones.
        rounds: Timed rounds, just as many; one more is run first and dropped. None for ten, and then as many as it
            takes to know every median, up to a hundred.
        interval: How well: half of the 95 % interval of a median, as a share of it.
        min_samples: Timed calls of each candidate, if `max_time_s` allows.
        min_time_s: Time each candidate is timed for at least, at up to 500 calls a round.
        max_time_s: And at most; as long again under load, when there is a `scenario`.
        warmup_s: Untimed calls before the first round.
        cold_starts: Fresh processes a candidate for the cold start; 0 leaves it out.
        seed: Of the random feeds.
        scenario: Load to put on each candidate too, in the sense of MLPerf: ``"single-stream"``, ``"multi-stream"``,
            ``"offline"`` or ``"server"``.
        rate_per_s: Queries a second of a ``"single-stream"`` at even distances, or of a ``"server"`` at random ones.
            Without it each query of the former waits for the one before, and the highest rate is sought for the latter.
        bound_ms: What 99 % of the queries of a ``"server"`` must be answered within.
        samples_per_query: Of a ``"multi-stream"``.
        ops: Say where the time of a call goes too, operation by operation, from each engine's own profiler, and how far
            that is from what this machine can do; the latter is measured the first time, in some seconds.
        progress: Called with steps done, steps in all as far as is known, and what is next.
        device: ``"ssh://USER@HOST"`` measures there, where nothing of edgekit need be installed: see `edgekit.devices`.
        device_python: The Python to run there; by default ``python3``.

    Raises:
        ArtifactError: The file is missing or damaged.
        InputError: `inputs` do not match the signature.
        UnsupportedError: No runtime of those asked for opens it, or none can run it.
        UnavailableError: None of them is installed, or the device cannot be reached.
    """
    asked = dict(locals())
    load = scenario_of(scenario, rate_per_s, bound_ms, samples_per_query)
    least, goal = (_LEAST_ROUNDS, interval) if rounds is None else (rounds, None)
    settings = Settings(least, min_samples, min_time_s, max_time_s, warmup_s, cold_starts, seed, interval=goal, ops=ops)
    _check(settings)
    if device is not None:
        return _profile_there(**asked)
    subject = read_subject(file_of(path))
    here, absent = find_candidates(subject, runtime, threads)
    if not here:
        reasons = "; ".join(dict.fromkeys(probe.reason for _, probe in absent))
        raise UnavailableError(f"no engine that opens it works here: {reasons}", hint="edgekit doctor")
    feeds = ChosenFeeds(subject, None if inputs is None else [dict(feed) for feed in inputs], seed)
    found = _profile_here(subject, here, feeds, settings, load, progress)
    if runtime is None:
        return replace(found, source=str(path), warnings=(*found.warnings, *_about_absent(absent)))
    return replace(found, source=str(path), measurements=(*found.measurements, *(_absent(*one) for one in absent)))


def _profile_here(
    subject: Subject,
    here: Sequence[Candidate],
    feeds: ChosenFeeds,
    settings: Settings,
    load: Scenario | None,
    progress: Progress | None,
) -> Profile:
    environment, busy, watch = read_environment(), busy_share(), Watch()
    yardstick = measure_yardstick()
    runners = [Runner(candidate, subject.path) for candidate in here]
    ended_by = _run(runners, feeds, settings, load, watch, progress)
    _raise_common_failure(runners)
    measurements = _ranked([measurement_of(runner) for runner in runners])
    after_c = temperature_c()
    caveats = (
        *about_machine(environment, busy, None if watch.rounds else after_c),  # else each round has told
        *about_conditions(watch.rounds, environment),
        *about_measurements(measurements, [one.at_s for one in watch.rounds], settings.interval),
        *about_scenarios(measurements),
        *_about_feeds(runners, feeds),
        *_about_threads(here),
    )
    asked = {} if load is None else load.to_settings()
    return Profile(
        source=str(subject.path),
        target=subject.target,
        environment=replace(environment, yardstick_us=join_yardsticks(yardstick, measure_yardstick())),
        settings=replace(settings, feeds=feeds.description, feed_shapes=feeds.shapes, **asked),
        measurements=measurements,
        warnings=caveats,
        temperature_after_c=after_c,
        ended_by=ended_by,
        conditions=tuple(watch.rounds),
    )


def _profile_there(
    path: str | Path,
    inputs: Iterable[Mapping[str, np.ndarray]] | None,
    device: str,
    device_python: str | None,
    progress: Progress | None,
    **options: Any,
) -> Profile:
    """The same on another machine, whose record comes back as it is, but for the path, which is the one here."""
    from edgekit.devices.remote import ask_device, evidence_of
    from edgekit.measuring.reading import profile_from_json

    feeds = None if inputs is None else [dict(feed) for feed in inputs]
    data = ask_device(device, "profile", file_of(path), options, python=device_python, inputs=feeds, progress=progress)
    found = profile_from_json(data, f"the answer of {device}")
    said = evidence_of(device)
    doubt = (Caveat("evidence", said, "compare one figure with a run on the device itself"),) if said else ()
    return replace(found, source=str(path), device=device, warnings=(*found.warnings, *doubt))


def _check(settings: Settings) -> None:
    if settings.rounds < 1 or settings.min_samples < 1 or settings.cold_starts < 0:
        raise InputError("rounds and min_samples must be at least 1, cold_starts at least 0")
    if settings.interval is not None and not 0 < settings.interval < 1:
        raise InputError("the interval is a share of the median, larger than 0 and smaller than 1", hint="0.01")


def _run(
    runners: list[Runner],
    feeds: ChosenFeeds,
    settings: Settings,
    load: Scenario | None,
    watch: Watch,
    progress: Progress | None,
) -> str:
    steps = 1 + settings.rounds + 1 + settings.cold_starts + settings.ops + (scenario_steps(load) if load else 0)
    total, done = len(runners) * steps, 0

    def tick(what: str) -> None:
        nonlocal done
        if progress is not None:
            progress(done, max(total, done + 1), what)
        done += 1

    with TemporaryDirectory(prefix="edgekit-") as folder:
        try:
            open_runners(runners, feeds.choose, Path(folder), settings, tick)
            ended_by = time_rounds(runners, settings, tick, watch)
            if load is not None:
                run_scenario(runners, load, settings.max_time_s, settings.seed, tick)
            for runner in runners:
                runner.attempt(runner.audit)
                runner.close()
            if settings.ops:
                run_profilers(runners, feeds, Path(folder), tick)
            run_cold_starts(runners, feeds.choose, Path(folder), settings, tick)
        finally:
            for runner in runners:
                runner.close()
    if progress is not None:
        progress(max(total, done), max(total, done), "done")
    return ended_by


def _raise_common_failure(runners: Sequence[Runner]) -> None:
    """When all candidates failed for one kind of reason, that is the answer: a damaged file, inputs that do not fit."""
    failures = [runner.failure for runner in runners if runner.failure is not None]
    if len(failures) == len(runners) and len({type(failure) for failure in failures}) == 1:
        raise failures[0]


def _absent(candidate: Candidate, probe: Probe) -> Measurement:
    hint = f"pip install 'edgekit-ml[{probe.extra}]'" if probe.extra else ""
    return Measurement(candidate, "unavailable", probe.reason, hint)


def _ranked(measured: Sequence[Measurement]) -> tuple[Measurement, ...]:
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
    return tuple(sorted(compared, key=lambda m: m.p50_us))


def _against(measurement: Measurement, base: Measurement | None) -> tuple[float | None, str | None]:
    if base is None or base.latency is None or measurement.latency is None or not base.p50_us:
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
