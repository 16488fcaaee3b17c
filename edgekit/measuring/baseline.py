"""A profile held against an earlier one, and both against gates.

Numbers of another day are of another state of the machine, so where the files of then are still there, they are timed
once more, in turns with those of now. Where they are gone the numbers are compared as they are, by what unchanged work
took then and takes now (`edgekit.measuring.yardstick`), and only on the machine and with the engine they are of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from edgekit.environment import Environment
from edgekit.errors import EdgekitError, InputError
from edgekit.measuring.candidates import Subject, read_subject
from edgekit.measuring.chosen import ChosenFeeds
from edgekit.measuring.gating import (
    LATENCIES,
    RSS_SPREAD,
    Gate,
    GateOutcome,
    Gating,
    HeldCandidate,
    Range,
    judge_gate,
    parse_gate,
)
from edgekit.measuring.pairs import Contestant, Duel, hold_duel
from edgekit.measuring.reading import read_profile
from edgekit.measuring.records import Candidate, Measurement, Profile
from edgekit.measuring.statistics import Contrast, contrast, contrast_apart, joined
from edgekit.measuring.stopping import interval_of
from edgekit.measuring.yardstick import drift_of
from edgekit.named_files import file_of

__all__ = ["GATED", "hold_profile"]

GATED = ("p50", "p90", "p99", "cpu", "cold", "rss", "size")
"""What gates of a profile can be about."""

_MACHINE = ("cpu", "architecture", "features", "cores", "board", "emulation")
"""Fields of the environment that make it another machine."""

_CPU_SPREAD = 0.05
"""The same of the CPU time of a call, which the kernel counts in pieces, the engine's waiting threads included."""

Progress = Callable[[int, int, str], None]


def hold_profile(
    profile: Profile,
    *,
    baseline: str | Path | Profile | None = None,
    fail_if: Sequence[str | Gate] = (),
    allow_other_machine: bool = False,
    max_time_s: float = 20.0,
    progress: Progress | None = None,
) -> Profile:
    """The profile with `Profile.gating`: each of its candidates against bounds, and against its like of an earlier one.

    Alike are candidates of one format, precision, recipe, runtime and number of threads.

    Args:
        profile: Of now.
        baseline: The earlier one, or the .json file it was written to.
        fail_if: What must not be, such as ``"p50>+5%"``, ``"size>+1%"`` or ``"p50>3ms"``.
        allow_other_machine: Judge numbers that are of another machine or another version of an engine too.
        max_time_s: For timing one candidate in turns with its like.
        progress: Called with candidates done, candidates in all and what is next.

    Raises:
        ArtifactError: The baseline is missing, or no profile.
        InputError: A gate is none, or needs a baseline, or nothing in the baseline is like anything here.
    """
    gates = [one if isinstance(one, Gate) else parse_gate(one, known=GATED) for one in fail_if]
    if baseline is None and (lone := [gate.text for gate in gates if gate.needs_base]):
        raise InputError(f"{', '.join(lone)}: there is nothing to compare with", hint="--baseline OLD.json")
    held: list[HeldCandidate] = []
    outcomes: list[GateOutcome] = []
    past = None if baseline is None else _Past.of(profile, baseline, allow_other_machine)
    rows = list(past.pairs()) if past else [(one, None) for one in profile.measured]
    for number, (now, then) in enumerate(rows):
        title = now.candidate.title if now else then.candidate.title if then else ""
        if progress is not None:
            progress(number, len(rows), f"{title} against the baseline")
        seen = _Seen(now, then) if past is None or not now or not then else past.see(now, then, max_time_s)
        held += [seen.held()] if past else []
        outcomes += [seen.judge(gate) for gate in gates]
    drift, machine = (past.drift, past.machine) if past else (None, ())
    return replace(profile, gating=Gating(past.name if past else None, tuple(held), tuple(outcomes), machine, drift))


@dataclass(frozen=True)
class _Seen:
    """What is known of a candidate and of its like.

    Attributes:
        now: None for one that is no longer there.
        then: None for one that is new.
        duel: Of both, the one of now first; None where they were not timed in turns.
        drift: Time of unchanged work now over that of then, from and to.
        doubt: Why nothing but sizes can be compared; empty where all can.
        reason: Why it was not timed in turns.
    """

    now: Measurement | None
    then: Measurement | None
    duel: Duel | None = None
    drift: tuple[float, float] = (1.0, 1.0)
    doubt: str = ""
    reason: str = ""

    def contrast(self, quantile: float = 0.5) -> Contrast | None:
        if self.duel is not None:
            return contrast(self.duel.pairs, quantile)
        both = [one.latency.rounds_us for one in (self.now, self.then) if one and one.latency]
        if len(both) < 2 or self.doubt:
            return None
        return contrast_apart(both[0], both[1], machine=self.drift, quantile=quantile)

    def held(self) -> HeldCandidate:
        sides = (self.now, self.then)
        titles = [one.candidate.title if one else "" for one in sides]
        if self.now is None or self.then is None:
            reason = "the baseline has nothing like it" if self.then is None else "it is not measured any more"
            return HeldCandidate(titles[0] or titles[1], titles[1], "none", reason)
        found = self.contrast()
        p50 = [self._range(place, 0.5) for place in (0, 1)]
        rss = [self._resident(place) for place in (0, 1)]
        return HeldCandidate(
            titles[0],
            titles[1],
            "in turns" if self.duel else "none" if self.doubt else "apart",
            self.doubt or self.reason,
            p50[0].value if p50[0] else None,
            p50[1].value if p50[1] else None,
            found.ratio if found else None,
            found.low if found and found.confidence else None,
            found.high if found and found.confidence else None,
            found.verdict if found else "unclear",
            self.now.candidate.size_bytes / self.then.candidate.size_bytes if self.then.candidate.size_bytes else None,
            rss[0].value / rss[1].value if rss[0] and rss[1] else None,
        )

    def judge(self, gate: Gate) -> GateOutcome:
        name = gate.quantity.name
        subject = (self.now or self.then).candidate.title  # type: ignore[union-attr]
        if self.now is None:
            reason = "it was measured in the baseline, and is not any more"
            return GateOutcome(gate.text, subject, "failed", kind=gate.kind, unit=gate.quantity.unit, reason=reason)
        if gate.needs_base and self.doubt and name != "size":
            return replace(judge_gate(gate, subject, self._value(name, 0)), reason=self.doubt)
        found = self.contrast(LATENCIES[name]) if name in LATENCIES and self.then else None
        ratio = Range(found.ratio, found.low, found.high) if found else None
        return judge_gate(gate, subject, self._value(name, 0), self._value(name, 1), ratio)

    def _value(self, name: str, place: int) -> Range | None:
        one = (self.now, self.then)[place]
        if one is None:
            return None
        if name in LATENCIES:
            return self._range(place, LATENCIES[name])
        if name == "rss":
            return self._resident(place)
        if name == "size":
            return Range.exact(one.candidate.size_bytes)
        if name == "cold":
            cold = one.cold_start
            half_us = (cold.total_spread_ms / 2 if cold else 0.0) * 1000
            return self._moved(cold.total_ms * 1000, half_us, place) if cold else None
        return self._moved(one.cpu_us, _CPU_SPREAD * one.cpu_us, place) if one.cpu_us is not None else None

    def _moved(self, value: float, half: float, place: int) -> Range:
        """A time with its interval; of then, as it would be now."""
        low, high = sorted(self.drift) if place else (1.0, 1.0)
        return Range(value * math.sqrt(low * high), (value - half) * low, (value + half) * high)

    def _range(self, place: int, quantile: float) -> Range | None:
        if self.duel is not None:
            rounds = [one for pair in self.duel.pairs for one in pair[place]]
        else:
            one = (self.now, self.then)[place]
            rounds = list(one.latency.rounds_us) if one and one.latency else []
        if not rounds:
            return None
        value = float(np.quantile(np.concatenate(rounds), quantile))
        interval = interval_of([float(np.quantile(one, quantile)) for one in joined([rounds], quantile)[0]])
        return Range(value, interval.low, interval.high) if interval else Range(value, 0.0, math.inf)

    def _resident(self, place: int) -> Range | None:
        one = (self.now, self.then)[place]
        found = (
            [pair[place] for pair in self.duel.peak_rss_bytes] if self.duel else [one.peak_rss_bytes if one else None]
        )
        known = [float(one) for one in found if one]
        return Range.around(known, RSS_SPREAD) if known else None


@dataclass(frozen=True)
class _Past:
    """The earlier profile, and what can be made of it.

    Attributes:
        name: Where it is from.
        now: The profile of now.
        then: The earlier one.
        subject: Its files, where they are still there.
        machine: What differs between the machines.
        drift: Time of unchanged work now over that of then.
        allowed: Whether numbers of another machine are judged.
    """

    name: str
    now: Profile
    then: Profile
    subject: Subject | None
    machine: tuple[str, ...]
    drift: Mapping[str, float] | None
    allowed: bool

    @classmethod
    def of(cls, now: Profile, baseline: str | Path | Profile, allowed: bool) -> _Past:
        then = baseline if isinstance(baseline, Profile) else read_profile(baseline)
        folder = Path() if isinstance(baseline, Profile) else Path(baseline).parent
        name = then.source if isinstance(baseline, Profile) else str(baseline)
        drift = drift_of(now.environment.yardstick_us, then.environment.yardstick_us)
        machine = tuple(_differences(now.environment, then.environment))
        return cls(name, now, then, _files_of(then, folder), machine, drift, allowed)

    def pairs(self) -> Iterator[tuple[Measurement | None, Measurement | None]]:
        """Each candidate of now with its like of then, and those of then that have none."""
        left = list(self.then.measured)
        found = False
        for one in self.now.measured:
            alike = [other for other in left if _key(other.candidate) == _key(one.candidate)]
            alike.sort(key=lambda other: other.candidate.variant != one.candidate.variant)
            found |= bool(alike)
            yield one, alike[0] if alike else None
            left = [other for other in left if not alike or other is not alike[0]]
        if not found:
            raise InputError(
                f"nothing in {self.name} is of the format, precision, recipe, runtime and threads of anything here",
                hint="profile both with the same --runtime and --threads",
            )
        asked = {_asked(one.candidate) for one in self.now.measurements}
        yield from ((None, one) for one in left if _asked(one.candidate) in asked)

    def see(self, now: Measurement, then: Measurement, max_time_s: float) -> _Seen:
        reason = self._why_apart(now.candidate, then.candidate)
        if not reason:
            assert self.subject is not None
            sides = ((now.candidate, read_subject(file_of(self.now.source))), (then.candidate, self.subject))
            contestants = [Contestant(c, s.path, ChosenFeeds(s, None, self.now.settings.seed).choose) for c, s in sides]
            try:
                duel = hold_duel(
                    *contestants,
                    is_settled=lambda duel: duel.contrast.verdict != "unclear",
                    max_time_s=max_time_s,
                    seed=self.now.settings.seed,
                )
                return _Seen(now, then, duel)
            except EdgekitError as error:
                reason = f"the file of then does not run any more: {error.message}"
        doubt = "" if self.allowed else self._doubt(now.candidate, then.candidate)
        span = (min(self.drift.values()), max(self.drift.values())) if self.drift else (1.0, 1.0)
        return _Seen(now, then, drift=span, doubt=doubt, reason=reason)

    def _why_apart(self, now: Candidate, then: Candidate) -> str:
        """Why the two cannot be timed in turns; empty when they can."""
        if self.now.device or self.then.device:
            return "the profile is of another device"
        if now.artifact_sha256 == then.artifact_sha256:
            return "it is the same file"
        known = {file.sha256 for file in self.subject.files} if self.subject else set()
        if then.artifact_sha256 not in known:
            return f"its file is no longer at {self.then.source}"
        return ""

    def _doubt(self, now: Candidate, then: Candidate) -> str:
        """Why numbers of then say nothing of now; empty when they do."""
        said = list(self.machine)
        if now.runtime_version != then.runtime_version:
            said.append(f"engine {then.runtime_version} then, {now.runtime_version} now")
        if self.now.device != self.then.device:
            said.append(f"{self.then.device or 'this machine'} then, {self.now.device or 'this machine'} now")
        if said:
            return f"not comparable: {'; '.join(said)} (--allow-other-machine judges all the same)"
        return "" if self.drift else "the baseline has no yardstick: measure it again with this edgekit"


def _key(candidate: Candidate) -> tuple[object, ...]:
    return tuple(getattr(candidate, name) for name in ("format", "precision", "recipe", "runtime", "threads"))


def _asked(candidate: Candidate) -> tuple[object, ...]:
    """What may have been left out on purpose now."""
    return candidate.format, candidate.runtime, candidate.threads


def _differences(now: Environment, then: Environment) -> Iterator[str]:
    for field in fields(Environment):
        if field.name in _MACHINE and (a := getattr(then, field.name)) != (b := getattr(now, field.name)):
            shown = [" ".join(one) if isinstance(one, tuple) else str(one or "none") for one in (a, b)]
            yield f"{field.name} {shown[0]} then, {shown[1]} now"


def _files_of(then: Profile, folder: Path) -> Subject | None:
    """What the earlier profile was of, where it is still there: as it was typed, or beside the profile."""
    for root in (Path(), folder):
        try:
            return read_subject(root / file_of(then.source))
        except EdgekitError:
            continue  # that it is gone is an answer, and is said of every candidate
    return None
