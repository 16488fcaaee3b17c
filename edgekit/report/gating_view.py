"""Gates, and a profile against an earlier one, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgekit.measuring.gating import GateOutcome, Gating, HeldCandidate
from edgekit.report.document import Block, Fields, Table, table
from edgekit.report.units import dash, megabytes, milliseconds

__all__ = ["gates_table", "gating_blocks"]


def gating_blocks(gating: Gating) -> Iterator[Block]:
    """Each candidate against its like of the baseline, what became of the gates, and what differs by itself."""
    if gating.candidates:
        rows = [_held(one) for one in gating.candidates]
        headings = ["candidate", "p50 now>", "before>", "change>", "verdict", "size>", "RSS>", "how"]
        yield table(headings, rows, f"Against {gating.baseline}")
        items = [("other machine", said) for said in gating.machine]
        if gating.yardstick:
            drift = ", ".join(f"{name} x{value:.2f}" for name, value in gating.yardstick.items())
            items.append(("yardstick", f"unchanged work takes, over what it took then: {drift}"))
        if items:
            yield Fields(tuple(items))
    if gating.gates:
        yield gates_table(gating.gates)


def _held(one: HeldCandidate) -> tuple[str, ...]:
    times = [dash if value is None else f"{milliseconds(value)} ms" for value in (one.p50_us, one.base_p50_us)]
    changes = [_percent(value) for value in (one.ratio, one.low, one.high)]
    shown = changes[0] if one.low is None else f"{changes[0]} ({changes[1]} to {changes[2]})"
    how = ": ".join(filter(None, (one.method, one.reason)))
    return one.title, *times, shown, one.verdict, _percent(one.size_ratio), _percent(one.rss_ratio), how


def _percent(ratio: float | None) -> str:
    """A ratio as a change."""
    return dash if ratio is None or not math.isfinite(ratio) else f"{ratio - 1:+.1%}"


def gates_table(outcomes: tuple[GateOutcome, ...]) -> Table:
    """What became of each gate."""
    rows = [
        (one.gate, one.subject, amount(one.value, one), amount(one.base, one), _measured(one), one.verdict, one.reason)
        for one in outcomes
    ]
    return table(["fails if", "what", "now>", "before>", "measured>", "verdict", "why"], rows, "Gates")


def amount(value: float | None, outcome: GateOutcome) -> str:
    """A value in the unit it is kept in, as people read it."""
    if value is None or not math.isfinite(value):
        return dash
    if outcome.unit == "us":
        return f"{milliseconds(value)} ms"
    if outcome.unit == "B":
        return megabytes(round(value))
    return f"{value:.4g}{' ' + outcome.unit if outcome.unit else ''}"


def _measured(outcome: GateOutcome) -> str:
    """What the bound applies to, with its interval."""
    if outcome.measured is None or outcome.low is None or outcome.high is None:
        return dash
    values = (outcome.measured, outcome.low, outcome.high)
    if outcome.kind == "share":
        middle, low, high = (f"{value:+.1%}" for value in values)
    else:
        middle, low, high = (amount(value, outcome) for value in values)
    return middle if low == high else f"{middle} ({low} to {high})"
