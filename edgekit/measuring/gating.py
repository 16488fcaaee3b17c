"""Gates: what a measurement must not exceed, as people write it, and what an interval says to it.

    p50>+5%       5 % more than the other has
    p50>3ms       more than three milliseconds
    size>+100kB   a hundred kilobytes more than the other has
    sqnr<20       less than 20 dB
    top1<-0.5%    half a percentage point less: of what is a share itself, percent are points

An expression says what must not be, so a gate fails when it holds, and then only with confidence: for ``>`` when the
whole interval of the measured value lies above the bound. An interval that has the bound in it is unclear, which fails
a gate only where that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgekit.errors import GateFailed, InputError

__all__ = [
    "LATENCIES",
    "QUANTITIES",
    "RSS_SPREAD",
    "Gate",
    "GateOutcome",
    "Gating",
    "HeldCandidate",
    "Quantity",
    "Range",
    "judge_gate",
    "parse_gate",
    "require_gates",
]

LATENCIES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
"""Which quantile of the calls a gate of that name is about."""

RSS_SPREAD = 0.01
"""By how much the peak memory of two processes of one file differs: pages of libraries and of the allocator."""

_TIMES = {"us": 1.0, "ms": 1e3, "s": 1e6}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_SHARES = {"%": 0.01, "": 1.0}
_DECIBELS = {"dB": 1.0, "": 1.0}
_PLAIN = {"": 1.0}


@dataclass(frozen=True)
class Quantity:
    """What a gate can be about.

    Attributes:
        name: As it is written.
        title: In words.
        units: What a number may end with, and how many of the unit it is kept in that is.
        unit: That unit.
    """

    name: str
    title: str
    units: Mapping[str, float]
    unit: str

    @property
    def is_share(self) -> bool:
        """Whether percent are points of it, not parts of what the other has."""
        return self.units is _SHARES


QUANTITIES = {
    one.name: one
    for one in (
        Quantity("p50", "median latency", _TIMES, "us"),
        Quantity("p90", "90th percentile of latency", _TIMES, "us"),
        Quantity("p99", "99th percentile of latency", _TIMES, "us"),
        Quantity("cpu", "CPU time of a call", _TIMES, "us"),
        Quantity("cold", "start of a process to the first answer", _TIMES, "us"),
        Quantity("rss", "peak resident memory", _BYTES, "B"),
        Quantity("size", "size of the files", _BYTES, "B"),
        Quantity("sqnr", "signal to noise of the worst output", _DECIBELS, "dB"),
        Quantity("cosine", "cosine of the worst output", _PLAIN, ""),
        Quantity("max", "largest difference of any output", _PLAIN, ""),
        Quantity("relative", "largest difference as a share of the output's range", _SHARES, ""),
        Quantity("top1", "answers whose largest number is at the same place", _SHARES, ""),
        Quantity("metric", "the task's metric", _SHARES, ""),
    )
}
"""By name."""


@dataclass(frozen=True)
class Gate:
    """What must not be.

    Attributes:
        text: As it was written.
        quantity: What it is about.
        is_upper: Whether more than the bound fails; else less does.
        bound: In the quantity's unit; of a gate in percent of another value, the share, such as 0.05.
        kind: ``"value"``, ``"change"`` in the quantity's unit, or ``"share"`` of what the other has.
    """

    text: str
    quantity: Quantity
    is_upper: bool
    bound: float
    kind: str

    @property
    def needs_base(self) -> bool:
        """Whether there has to be something to compare with."""
        return self.kind != "value"


@dataclass(frozen=True)
class Range:
    """A measured number and the interval it lies in; both ends are the number where it is exact."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Range:
        return cls(value, value, value)

    @classmethod
    def around(cls, values: Sequence[float], spread: float) -> Range:
        """The median of a few and where they lie, and at least `spread` of it to either side."""
        value = float(np.median(values))
        return cls(value, min(*values, value * (1 - spread)), max(*values, value * (1 + spread)))

    def mapped(self, by: Callable[[float], float]) -> Range:
        """Of a function that grows with its argument."""
        return Range(by(self.value), by(self.low), by(self.high))


@dataclass(frozen=True)
class GateOutcome:
    """What became of a gate.

    Attributes:
        gate: As it was written.
        subject: What it was applied to.
        verdict: ``"passed"``, ``"failed"`` or ``"unclear"``.
        value: What was measured, in the quantity's unit; None where there is nothing.
        base: What it was held against; None for a gate on the value alone.
        measured: What the bound applies to: the value, its change, or its change as a share of the base.
        low: Where the interval of that begins.
        high: Where it ends.
        bound: The bound.
        kind: Of the gate.
        unit: Of `value` and `base`.
        reason: Why it is unclear, or failed without a number.
    """

    gate: str
    subject: str
    verdict: str
    value: float | None = None
    base: float | None = None
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    kind: str = "value"
    unit: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {key: _finite(value) for key, value in asdict(self).items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class HeldCandidate:
    """A candidate of a profile against its like in an earlier one.

    Attributes:
        title: What it is called now.
        before: What it was called then; empty where there was none.
        method: ``"in turns"``, both files were timed now against each other; ``"apart"``, there are only numbers of
            then, brought to the machine of now by a yardstick; ``"none"``.
        reason: Why it is not in turns.
        p50_us: Median latency now.
        base_p50_us: And of the other: measured now in turns, else as it was written down.
        ratio: Of the two, by the method.
        low: Where its interval begins; None where there is none.
        high: Where it ends.
        verdict: ``"faster"``, ``"slower"``, ``"same"`` or ``"unclear"``.
        size_ratio: Of sizes of the files.
        rss_ratio: Of peak resident memory; None where one is not known.
    """

    title: str
    before: str
    method: str
    reason: str = ""
    p50_us: float | None = None
    base_p50_us: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = "unclear"
    size_ratio: float | None = None
    rss_ratio: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {key: _finite(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Gating:
    """A profile held against bounds, and against an earlier profile where one was given.

    Attributes:
        baseline: Path of the earlier profile; None where there is none.
        candidates: Each that was measured, against its like.
        gates: What became of each gate, for each candidate.
        machine: What differs between the machine of now and that of then; empty where nothing does.
        yardstick: Time of unchanged work now over that of then, by kind of work.
    """

    baseline: str | None
    candidates: tuple[HeldCandidate, ...]
    gates: tuple[GateOutcome, ...]
    machine: tuple[str, ...] = ()
    yardstick: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "baseline": self.baseline,
            "candidates": [one.to_json() for one in self.candidates],
            "gates": [one.to_json() for one in self.gates],
            "machine": list(self.machine),
            "yardstick": dict(self.yardstick) if self.yardstick is not None else None,
        }


def parse_gate(text: str, *, known: Iterable[str] | None = None, fixed: Iterable[str] = ()) -> Gate:
    """A gate from what people write.

    Args:
        text: Such as ``"p50>+5%"``.
        known: Names of the quantities there are here; by default all of `QUANTITIES`.
        fixed: Names of those that have nothing to change from.

    Raises:
        InputError: It is none; says what is wrong with it.
    """
    names = tuple(known or QUANTITIES)
    plain = "".join(text.split())
    mark = next((mark for mark in plain if mark in "<>"), "")
    name, _, rest = plain.partition(mark) if mark else (plain, "", "")
    hint = "as in 'p50>+5%', 'size>1MB' or 'sqnr<20'; quote it, or the shell takes > for a file"
    if not mark or not rest:
        raise InputError(f"{text!r} is no gate: a quantity, > or <, and a bound", hint=hint)
    if name not in names:
        raise InputError(f"{text!r}: there is no quantity {name!r} here", hint=f"known: {', '.join(names)}")
    quantity = QUANTITIES[name]
    bound = rest.removeprefix("=")  # "at least" and "more than" are one for what is measured
    number, unit = _split(bound)
    if number is None or not math.isfinite(number * quantity.units.get(unit, 1.0)):
        raise InputError(f"{text!r}: {bound!r} is no number", hint=hint)
    is_change = bound[0] in "+-" and not _is_below_zero(quantity)
    if is_change and name in fixed:
        raise InputError(
            f"{text!r}: {quantity.title} has nothing here that it could change from",
            hint=f"a bound without a sign, as in '{name}{mark}{bound[1:]}'",
        )
    if is_change and unit == "%" and not quantity.is_share:
        return Gate(text, quantity, mark == ">", number / 100, "share")
    if unit not in quantity.units:
        units = ", ".join(filter(None, quantity.units)) or "none"
        given = f"is not in {unit!r}" if unit else "needs a unit"
        raise InputError(f"{text!r}: {quantity.title} {given}", hint=f"units: {units}; or +5% for a change")
    return Gate(text, quantity, mark == ">", number * quantity.units[unit], "change" if is_change else "value")


def _is_below_zero(quantity: Quantity) -> bool:
    """Whether a sign is the number's own, not that of a change."""
    return quantity.name == "cosine"


def _split(bound: str) -> tuple[float | None, str]:
    """The number a bound begins with, None where it begins with none, and its unit."""
    number = bound.rstrip("%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    try:
        return float(number), bound[len(number) :]
    except ValueError:
        return None, ""


def judge_gate(
    gate: Gate, subject: str, value: Range | None, base: Range | None = None, ratio: Range | None = None
) -> GateOutcome:
    """Holds what was measured against a gate.

    Args:
        gate: What must not be.
        subject: What it is applied to, in words.
        value: What was measured; None fails nothing, and is said.
        base: What it is held against, where the gate needs that.
        ratio: Of value to base, where it is known better than from the two, as of latencies timed in turns.
    """
    unit = gate.quantity.unit
    outcome = GateOutcome(gate.text, subject, "unclear", bound=gate.bound, kind=gate.kind, unit=unit)
    if value is None:
        return replace(outcome, reason="it was not measured")
    outcome = replace(outcome, value=value.value, base=base.value if base else None)
    if gate.needs_base and base is None:
        return replace(outcome, reason="there is nothing to compare with")
    measured = value if base is None or gate.kind == "value" else _change(gate, value, base, ratio)
    if gate.needs_base and ratio is not None and math.isnan(ratio.value):
        return replace(outcome, reason="there were too few calls to tell")
    if math.isnan(measured.value):
        return replace(outcome, reason="it is no number")
    outcome = replace(outcome, measured=measured.value, low=measured.low, high=measured.high)
    rounding = 1e-9 * max(1.0, abs(gate.bound))  # what is at the bound has not passed it
    if measured.low > gate.bound + rounding if gate.is_upper else measured.high < gate.bound - rounding:
        return replace(outcome, verdict="failed")
    if measured.high <= gate.bound + rounding if gate.is_upper else measured.low >= gate.bound - rounding:
        return replace(outcome, verdict="passed")
    return replace(outcome, reason="the bound lies within what the measurements allow")


def _change(gate: Gate, value: Range, base: Range, ratio: Range | None) -> Range:
    if gate.kind == "change":
        if ratio is not None:
            return ratio.mapped(lambda one: (one - 1) * base.value)
        return Range(value.value - base.value, value.low - base.high, value.high - base.low)
    if ratio is not None:
        return ratio.mapped(lambda one: one - 1)
    if base.low <= 0:
        return Range.exact(math.nan)
    return Range(value.value / base.value - 1, value.low / base.high - 1, value.high / base.low - 1)


def require_gates(outcomes: Iterable[GateOutcome], *, strict: bool = False) -> None:
    """Raises GateFailed when one failed; with `strict` also when one is unclear."""
    wrong = [one for one in outcomes if one.verdict == "failed" or (strict and one.verdict == "unclear")]
    if wrong:
        said = "; ".join(f"{one.gate} {one.verdict} for {one.subject}" for one in wrong)
        raise GateFailed(f"{said}: the figures are in the table above")
