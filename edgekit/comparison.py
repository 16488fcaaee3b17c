"""The verb `compare`: whether two models answer alike, where on the way they begin to differ, and which is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.environment import Environment, busy_share, read_environment
from edgekit.errors import InputError
from edgekit.measuring.agreement import Agreement
from edgekit.measuring.caveats import about_machine
from edgekit.measuring.gating import LATENCIES, RSS_SPREAD, Gate, GateOutcome, Range, judge_gate, parse_gate
from edgekit.measuring.layerwise import LayerReport, compare_layers
from edgekit.measuring.material import Material
from edgekit.measuring.pairs import Contestant, Duel, hold_duel
from edgekit.measuring.records import Candidate, Caveat
from edgekit.measuring.sides import Side, feeds_for, input_names, open_side, parse_side
from edgekit.measuring.statistics import Contrast, contrast, joined
from edgekit.measuring.stopping import interval_of
from edgekit.processing import Processing
from edgekit.spec import Signature

__all__ = ["FIXED", "GATED", "Compared", "Comparison", "Latencies", "compare"]

SCHEMA = "edgekit.comparison"
VERSION = 1

GATED = ("p50", "p90", "p99", "rss", "size", "sqnr", "cosine", "max", "relative", "top1")
"""What gates of a comparison can be about."""

FIXED = ("sqnr", "cosine", "max", "relative", "top1")
"""Those that are of the two together already, so that there is nothing they could change from."""

_TIMED_FEEDS = 4
_LAYER_FEEDS = 2
_DAY_S = 86_400.0

Progress = Callable[[int, int, str], None]
Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Compared:
    """One of the two.

    Attributes:
        name: As it was given.
        title: Its file and what ran it.
        candidate: Variant, runtime, threads, hash and size; None of a source model.
        arithmetic: Of float operations, as the engine reports it; None where it was not timed.
        percentiles_us: Latency by ``"p50"``, ``"p90"`` and ``"p99"``; None where it was not timed.
        peak_rss_bytes: Largest resident memory of a process of it, median over processes.
    """

    name: str
    title: str
    candidate: Candidate | None
    arithmetic: str | None = None
    percentiles_us: Mapping[str, float] | None = None
    peak_rss_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "candidate": asdict(self.candidate) if self.candidate else None}


@dataclass(frozen=True)
class Latencies:
    """The second against the first, timed in turns.

    Attributes:
        contrast: Ratio of medians with its interval and verdict.
        ended_by: ``"settled"``, ``"time"`` or ``"pairs"``: what ended the timing.
        seconds: What it took.
        rounds_us: For each pair of processes, of both, the median of each round.
    """

    contrast: Contrast
    ended_by: str
    seconds: float
    rounds_us: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            **self.contrast.to_json(),
            "ended_by": self.ended_by,
            "seconds": round(self.seconds, 2),
            "rounds_us": [[list(side) for side in pair] for pair in self.rounds_us],
        }


@dataclass(frozen=True)
class Comparison:
    """The second model against the first.

    Attributes:
        first: What the second is held against.
        second: What is judged.
        agreements: How alike they answer, on the user's data; else on golden feeds and on random ones.
        layers: The same of what they compute on the way; None where it was not asked for.
        latencies: Which is faster; None where it was not asked for, or one is a source model.
        gates: What became of what must not be.
        environment: Of this machine.
        notes: What a user should know of it.
        warnings: What makes the latencies less than they seem.
        seed: Of random feeds and of the order of rounds.
    """

    first: Compared
    second: Compared
    agreements: tuple[Agreement, ...]
    layers: LayerReport | None
    latencies: Latencies | None
    gates: tuple[GateOutcome, ...]
    environment: Environment
    notes: tuple[str, ...] = ()
    warnings: tuple[Caveat, ...] = ()
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        records = ("first", "second", "layers", "latencies", "environment")
        lists = ("agreements", "gates", "warnings")
        return {
            "schema": SCHEMA,
            "version": VERSION,
            **{name: one.to_json() if (one := getattr(self, name)) else None for name in records},
            **{name: [one.to_json() for one in getattr(self, name)] for name in lists},
            "notes": list(self.notes),
            "seed": self.seed,
        }


def compare(
    first: str | Path,
    second: str | Path,
    *,
    data: str | Path | None = None,
    split: str = "test",
    num_samples: int | None = None,
    variant: str | None = None,
    runtime: str | None = None,
    threads: int | None = None,
    processing: Processing | None = None,
    fail_if: Sequence[str | Gate] = (),
    layers: bool = True,
    latency: bool = True,
    max_time_s: float = 60.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Holds the second model against the first: the same feeds through both, and their calls timed in turns.

    Args:
        first: A bundle, a model file, or a source model; ``"PATH#VARIANT"`` for one variant of a bundle and
            ``"PATH@RUNTIME"`` for a runtime. Of a bundle the variant is taken that `edgekit.load` would take.
        second: The same.
        data: Samples as `evaluate` takes them, with or without labels; by default golden and random feeds.
        split: Of a data set by name.
        num_samples: Use so many of them, drawn with `seed`.
        variant: For both, where none is named.
        runtime: The same.
        threads: Threads of one call, for both.
        processing: How samples become feeds; by default that of either model.
        fail_if: What must not be of the second, such as ``"p50>+5%"`` or ``"sqnr<20"``: see `edgekit.measuring.gating`.
        layers: Whether tensors of the same names are compared too.
        latency: Whether they are timed.
        max_time_s: Timing goes on until verdict and gates are settled, or until then.
        seed: Of random feeds and the order of rounds.
        progress: Called with steps done, steps in all and what is next.

    Raises:
        ArtifactError: One is missing or damaged.
        InputError: The data cannot be read or do not fit, a gate is none, or the time is no number.
        UnsupportedError: They do not take the same inputs or give the same outputs; no such variant or runtime.
        UnavailableError: What one of them takes is not installed.
        ConversionError: One of them did not run when it was timed.
    """
    gates = _read_gates(fail_if, max_time_s)
    tell = progress or (lambda done, total, what: None)
    named = [parse_side(one, variant, runtime) for one in (first, second)]
    environment, busy = read_environment(), busy_share(0.1) if latency else None
    with open_side(named[0], threads) as a, open_side(named[1], threads) as b:
        names = input_names(a, b)
        material = Material(a, b, names, data, split, num_samples, processing, seed)
        agreements = tuple(material.agreements(tell))
        report = compare_layers(a, b, names, material.some(_LAYER_FEEDS)) if layers else None
        duel = _duel(a, b, names, material, gates, max_time_s, tell) if latency else None
        sides = _compared(a, duel, 1), _compared(b, duel, 0)
    return Comparison(
        *sides,
        agreements,
        report,
        _latencies(duel) if duel else None,
        tuple(_outcome(gate, sides, agreements[0], duel) for gate in gates),
        environment,
        notes=(*material.notes, *_about_sides(a, b, latency, duel)),
        warnings=tuple(about_machine(environment, busy, None)) if duel else (),
        seed=seed,
    )


def _read_gates(fail_if: Sequence[str | Gate], max_time_s: float) -> tuple[Gate, ...]:
    """Before any work is done."""
    if not max_time_s >= 0:
        raise InputError(f"{max_time_s} seconds are no time to measure for", hint="zero or more; inf for no end")
    return tuple(one if isinstance(one, Gate) else parse_gate(one, known=GATED, fixed=FIXED) for one in fail_if)


def _duel(
    a: Side,
    b: Side,
    names: Mapping[str, str],
    material: Material,
    gates: Sequence[Gate],
    max_time_s: float,
    tell: Progress,
) -> Duel | None:
    """The second against the first; None where one of them is a source model, which runs in its framework."""
    if a.candidate is None or b.candidate is None:
        return None
    feeds = material.some(_TIMED_FEEDS)

    def is_settled(duel: Duel) -> bool:
        timed = [_outcome_of_latency(gate, "", duel) for gate in gates if gate.quantity.name in LATENCIES]
        return duel.contrast.verdict != "unclear" and all(one.verdict != "unclear" for one in timed)

    def feeds_of_b(signature: Signature) -> list[dict[str, np.ndarray]]:
        return [feeds_for(b, names, feed) for feed in feeds]

    began, shown_s = time.monotonic(), min(max_time_s, _DAY_S)  # a bar has an end
    return hold_duel(
        Contestant(b.candidate, b.path, feeds_of_b),
        Contestant(a.candidate, a.path, lambda signature: [dict(feed) for feed in feeds]),
        is_settled=is_settled,
        max_time_s=max_time_s,
        seed=material.seed,
        tick=lambda what: tell(round(min(time.monotonic() - began, shown_s)), round(shown_s), what),
    )


def _compared(side: Side, duel: Duel | None, place: int) -> Compared:
    """One of the two with what it showed; `place` is its place in the duel, where the second comes first."""
    if duel is None:
        return Compared(side.name, side.title, side.candidate)
    samples = duel.samples_us(place)
    percentiles = {name: round(float(np.quantile(samples, one)), 3) for name, one in LATENCIES.items()}
    resident = [pair[place] for pair in duel.peak_rss_bytes]
    rss = int(np.median([one for one in resident if one is not None])) if all(resident) else None
    return Compared(side.name, side.title, side.candidate, duel.arithmetic[place], percentiles, rss)


def _latencies(duel: Duel) -> Latencies:
    rounds = tuple(
        (tuple(round(float(np.median(one)), 3) for one in a), tuple(round(float(np.median(one)), 3) for one in b))
        for b, a in duel.pairs
    )
    return Latencies(duel.contrast, duel.ended_by, duel.seconds, rounds)


def _outcome(gate: Gate, sides: Sequence[Compared], agreement: Agreement, duel: Duel | None) -> GateOutcome:
    name, subject = gate.quantity.name, sides[1].title
    if name in LATENCIES:
        if duel is None:
            return judge_gate(gate, subject, None)
        return _outcome_of_latency(gate, subject, duel)
    if name == "rss":
        return judge_gate(gate, subject, *(_resident(duel, place) for place in (0, 1)))
    if name == "size":
        sizes = [Range.exact(side.candidate.size_bytes) if side.candidate else None for side in sides]
        return judge_gate(gate, subject, sizes[1], sizes[0])
    if name != "top1" and (odd := sum(output.not_finite for output in agreement.outputs)):
        reason = f"{odd} elements are no finite number in one of the two only"
        return GateOutcome(gate.text, subject, "failed", bound=gate.bound, unit=gate.quantity.unit, reason=reason)
    worst = {
        "sqnr": min(output.sqnr_db for output in agreement.outputs),
        "cosine": min(output.cosine for output in agreement.outputs),
        "max": max(output.max_abs for output in agreement.outputs),
        "relative": max(output.relative for output in agreement.outputs),
        "top1": agreement.top1_agreement,
    }[name]
    return judge_gate(gate, subject, None if worst is None else Range.exact(worst))


def _outcome_of_latency(gate: Gate, subject: str, duel: Duel) -> GateOutcome:
    quantile = LATENCIES[gate.quantity.name]
    value, base = (_latency_range(duel, place, quantile) for place in (0, 1))
    found = contrast(duel.pairs, quantile)
    return judge_gate(gate, subject, value, base, Range(found.ratio, found.low, found.high))


def _latency_range(duel: Duel, place: int, quantile: float) -> Range:
    """A percentile over all calls; its interval by that of the processes, or where they are few, of the rounds."""
    calls = [joined([pair[place]], quantile)[0] for pair in duel.pairs]
    if not all(calls):  # no process made as many as it takes; all of them may have
        calls = joined([[one for pair in duel.pairs for one in pair[place]]], quantile)
    rounds = [[float(np.quantile(one, quantile)) for one in process] for process in calls]
    interval = interval_of([float(np.median(one)) for one in rounds if one])
    interval = interval or interval_of([one for process in rounds for one in process])
    value = float(np.quantile(duel.samples_us(place), quantile))
    return Range(value, interval.low, interval.high) if interval else Range(value, -np.inf, np.inf)


def _resident(duel: Duel | None, place: int) -> Range | None:
    seen = [pair[place] for pair in duel.peak_rss_bytes] if duel else []
    known = [float(one) for one in seen if one is not None]
    return Range.around(known, RSS_SPREAD) if known else None


def _about_sides(a: Side, b: Side, latency: bool, duel: Duel | None) -> Iterator[str]:
    if latency and duel is None:
        yield "not timed: a source model runs in its own framework, in another process"
    if duel is not None and duel.arithmetic[0] != duel.arithmetic[1]:
        yield f"float operations run in {duel.arithmetic[1]} in the first and {duel.arithmetic[0]} in the second"
    threads = [side.candidate.threads if side.candidate else None for side in (a, b)]
    if duel is not None and threads[0] != threads[1]:
        shown = ["the engine's own number" if one is None else str(one) for one in threads]
        yield f"threads of one call: {shown[0]} in the first, {shown[1]} in the second; --threads 1 makes them alike"
