"""Where the time of a call goes, operation by operation, as each engine's own profiler says."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.measuring.operation_records import Operation, Operations
from edgekit.measuring.records import Measurement
from edgekit.report.document import Block, Figure, Section, table
from edgekit.report.pictures import Bar, Bars, Segment
from edgekit.report.sections.latency import drawn
from edgekit.report.sections.shipped import missing, place, shipped_measurement
from edgekit.report.units import dash, percent, ratio
from edgekit.reporting import Report

__all__ = ["operations_section"]

_STRIPS = 6
_MOST = 16
_TYPES = 7
"""Types with a color of their own; all others share one."""

_OTHER = "other"


def operations_section(report: Report) -> Section:
    """A strip for each candidate, operations in the order they run, and the slowest of the shipped one."""
    measured = [m for m in report.profile.measured if m.operations] if report.profile else []
    told = [m for m in measured if m.operations and m.operations.operations]
    silent = dict.fromkeys(m.operations.reason for m in measured if m.operations and m.operations.reason)
    if not told:
        reasons = f" {'; '.join(silent)}." if silent else ""
        command = f"edgekit profile {place(report)} --ops -o profile.json"
        return Section("Operations", (missing(f"Single operations were not timed.{reasons}", command),))
    own = shipped_measurement(report)
    best = own if own in told else told[0]
    shown = drawn(report, told, _STRIPS)
    if best not in shown:
        shown.insert(0, best)
    groups = _groups(m.operations for m in shown if m.operations)
    blocks: list[Block] = [_strips(shown, groups)]
    if best is not None and best.operations is not None:
        blocks.append(_slowest(best, best.operations, groups))
    return Section("Operations", tuple(blocks))


def _groups(accounts: Iterable[Operations]) -> tuple[str, ...]:
    """The types that take most, in an order in which they keep their color; then the rest."""
    sums: dict[str, float] = {}
    for account in accounts:
        for operation in account.operations:
            sums[operation.type] = sums.get(operation.type, 0.0) + operation.time_us
    ranked = sorted(sums, key=lambda name: (-sums[name], name))
    return (*ranked[:_TYPES], _OTHER) if len(ranked) > _TYPES else tuple(ranked)


def _strips(shown: list[Measurement], groups: tuple[str, ...]) -> Figure:
    bars, rows = [], []
    for m in shown:
        assert m.operations is not None
        o = m.operations
        words = f"{_microseconds(o.sum_us)} us in {len(o.operations)} operations"
        bars.append(Bar(m.candidate.title, tuple(_segment(one, groups) for one in o.operations), words))
        rows.append(
            (
                m.candidate.title,
                str(len(o.operations)),
                _microseconds(o.sum_us),
                _microseconds(o.untraced_us),
                ratio(o.ratio),
                percent(o.unmapped_share),
                ("at most " if any(one.is_beyond for one in o.operations) else "") + percent(o.roofline_share),
                percent(o.memory_bound_share),
                o.profiler or dash,
            )
        )
    headings = [
        *(
            "candidate",
            "operations>",
            "sum us>",
            "untraced call us>",
            "sum / call>",
            "of no layer>",
            "of the roofline>",
        ),
        *("memory-bound>", "by"),
    ]
    caption = (
        "Each strip is one call: operations in the order they run, as wide as the time they take, colored by type. "
        "Profilers slow a call down; the table has the call without."
    )
    found = table(headings, rows, "Calls by the engines' own profilers")
    return Figure(Bars(tuple(bars), "us", groups), found, "One call, operation by operation", caption)


def _slowest(m: Measurement, account: Operations, groups: tuple[str, ...]) -> Figure:
    ranked = sorted(account.operations, key=lambda one: -one.time_us)
    bars = tuple(Bar(_named(one), (_segment(one, groups),), _said(one)) for one in ranked[:_MOST])
    fewer = f" The {_MOST} slowest of {len(ranked)} are drawn." if len(ranked) > _MOST else ""
    rows = [
        (
            one.name,
            one.layer or dash,
            one.type,
            one.precision,
            f"{one.time_us:.1f}",
            percent(one.share, 1),
            dash if one.macs_per_s is None else f"{one.macs_per_s / 1e9:.1f}",
            "beyond" if one.is_beyond else percent(one.roofline_share),
            one.bound or dash,
        )
        for one in account.operations
    ]
    headings = ["operation", "layer", "type", "precision", "us>", "share>", "GMAC/s>", "of the roofline>", "bound by"]
    found = table(headings, rows, f"Operations of {m.candidate.title}, in the order they run")
    caption = f"Of the time of all operations together.{fewer}"
    return Figure(Bars(bars, "us", groups), found, f"Slowest operations of {m.candidate.title}", caption)


def _segment(one: Operation, groups: tuple[str, ...]) -> Segment:
    return Segment(one.time_us, one.type if one.type in groups else _OTHER, f"{_named(one)}: {_said(one)}")


def _named(one: Operation) -> str:
    return f"{one.layer or one.name} ({one.type})"


def _said(one: Operation) -> str:
    reach = "" if one.roofline_share is None else f", {percent(one.roofline_share)} of the roofline"
    return f"{one.time_us:.1f} us, {percent(one.share, 1)}, {one.precision}{reach}"


def _microseconds(value: float | None) -> str:
    return dash if value is None else f"{value:.1f}"
