"""What of a report's numbers is of the variant that is shipped, and what it is to be held against."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from edgekit.evaluating.records import Evaluation
from edgekit.measuring.records import Measurement
from edgekit.report.document import Notes
from edgekit.reporting import Report, Trial

__all__ = [
    "ALIKE_DB",
    "best_fp32",
    "facts_of",
    "held_against",
    "judged",
    "missing",
    "place",
    "shipped_measurement",
    "shipped_trial",
]

ALIKE_DB = 60.0
"""Signal to noise from which answers count as the same: what is above it is no reason to choose by."""


def place(report: Report) -> str:
    """The path as it is typed."""
    return shlex.quote(report.inspection.path)


def missing(what: str, command: str) -> Notes:
    """A note that something is not known, and the command that adds it."""
    return Notes(((what, f"`{command}`"),))


def facts_of(report: Report, variant: str) -> Mapping[str, Any]:
    """What the manifest says of a variant; empty for a bare file."""
    return next((entry for entry in report.inspection.variants if entry["name"] == variant), {})


def shipped_measurement(report: Report) -> Measurement | None:
    """The shipped variant as a device runs it: with what the bundle pins, else its own engine at its fastest."""
    if report.profile is None:
        return None
    own = [m for m in report.profile.measured if m.latency and m.candidate.variant == report.shipped]
    facts = facts_of(report, report.shipped)
    pinned = facts.get("engine_options", {})
    for name, wanted in (("runtime", pinned.get("runtime", facts.get("format"))), ("threads", pinned.get("threads"))):
        fitting = [m for m in own if wanted is not None and getattr(m.candidate, name) == wanted]
        own = fitting or own
    return min(own, key=lambda m: m.p50_us, default=None)


def shipped_trial(report: Report) -> Trial | None:
    """The trial of the search that is shipped first; None without a search, or where it was not timed."""
    return next((t for t in report.trials if t.status == "shipped" and t.p50_us is not None), None)


def best_fp32(report: Report) -> Measurement | None:
    """The fastest fp32 file with any engine."""
    measured = report.profile.measured if report.profile else ()
    fp32 = (m for m in measured if m.latency and m.candidate.precision == "fp32")
    return min(fp32, key=lambda m: m.p50_us, default=None)


def judged(report: Report) -> Evaluation | None:
    """What the metric is of the shipped variant."""
    rows = report.evaluation.evaluations if report.evaluation else ()
    return next((row for row in rows if row.variant == report.shipped), None)


def held_against(report: Report) -> Evaluation | None:
    """What that is to be held against: what it was paired with, else fp32 of its own format, else of any."""
    if report.evaluation is None:
        return None
    rows = [*report.evaluation.evaluations, *([report.evaluation.source] if report.evaluation.source else [])]
    own = judged(report)
    if own is not None and own.versus is not None:
        return next((row for row in rows if row.variant == own.versus.base), None)
    formats = {str(v["name"]): v["format"] for v in report.inspection.variants}
    fp32 = [row for row in rows if row.precision == "fp32"]
    return min(fp32, key=lambda row: formats.get(row.variant) != formats.get(report.shipped), default=None)
