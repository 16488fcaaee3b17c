"""Whether the shipped variant is never slower and never worse, by what is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.evaluating.records import Evaluation
from edgekit.registry import METRICS
from edgekit.report.sections.shipped import (
    ALIKE_DB,
    best_fp32,
    facts_of,
    held_against,
    judged,
    shipped_measurement,
    shipped_trial,
)
from edgekit.report.units import milliseconds
from edgekit.reporting import Optimization, Report, Trial

__all__ = ["Verdict", "judge_quality", "judge_speed"]


_FEW = 30
"""Of fewer samples none may show a loss that is there: up to 3/n may lie behind no loss in n, 95 times in 100.

The "rule of three": Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983.
"""


@dataclass(frozen=True)
class Verdict:
    """An answer, and the clause that says it with figures; empty where there are none.

    ``"yes"``, ``"within"`` (worse, by no more than may be lost), ``"no"``, or ``"open"``.
    """

    answer: str
    words: str


def judge_speed(report: Report) -> Verdict:
    """By the test over paired rounds of the profile, against the best fp32 of any engine."""
    own, base = shipped_measurement(report), best_fp32(report)
    if own is None:
        return _judge_trials(report)
    took = f"a call takes {milliseconds(own.p50_us)} ms"
    if base is None or own.ratio_to_best_fp32 is None or own.versus_best_fp32 is None:
        searched = _judge_trials(report)
        then = f"; {searched.words}" if searched.words else ""
        return Verdict(searched.answer, f"{took}, and no fp32 was measured beside it{then}")
    if own.candidate == base.candidate:
        return Verdict("yes", f"{took}: it is the fastest fp32 itself")
    named = f"the best fp32 ({base.candidate.title}, {milliseconds(base.p50_us)} ms)"
    faster = 1 / own.ratio_to_best_fp32
    answer, words = {
        "faster": ("yes", f"{faster:.2f}x as fast as {named}"),
        "same": ("yes", f"as fast as {named}"),
        "slower": ("no", f"SLOWER than {named}: {own.ratio_to_best_fp32:.2f}x its time"),
    }.get(
        own.versus_best_fp32, ("open", f"{faster:.2f}x as fast as {named}, which these rounds cannot tell from chance")
    )
    return Verdict(answer, f"{took}, {words}")


def _judge_trials(report: Report) -> Verdict:
    """By the final of the search, where no fp32 was measured since: its own gate let the shipped one through."""
    own = shipped_trial(report)
    if own is None or own.p50_us is None:
        return Verdict("open", "")
    took = f"a call took {milliseconds(own.p50_us)} ms in the search that chose it ({own.title})"
    plain = [
        t for t in report.trials if t.precision == "fp32" and t.engine_precision in (None, "fp32") and t.interval_us
    ]
    base = min((t.p50_us for t in plain if t.p50_us is not None), default=None)
    if base is None or own.interval_us is None:
        return Verdict("open", took)
    if own in plain and own.p50_us <= base:
        return Verdict("yes", f"{took}: it is the fastest fp32 itself")
    low, high = own.interval_us
    named = f"the best fp32 beside it ({milliseconds(base)} ms)"
    if low <= base <= high:
        return Verdict("yes", f"{took}, as fast as {named}")
    return Verdict("yes" if high < base else "no", f"{took}, {base / own.p50_us:.2f}x as fast as {named}")


def judge_quality(report: Report) -> Verdict:
    """By the evaluation, else by the search, else by what `convert` measured on data, else by parity."""
    if (own := judged(report)) is not None:
        verdict = _judge_value(report, own)
        return verdict if held_against(report) is own else _held_back(verdict, own.count)
    search, chosen = report.optimization, shipped_trial(report)
    if search and chosen and search.metric and search.source_value is not None and chosen.metric_value is not None:
        verdict = _judge_chosen(search, search.metric, chosen, chosen.metric_value, search.source_value)
        return _held_back(verdict, chosen.metric_count)
    facts = facts_of(report, report.shipped)
    accuracy, parity = facts.get("accuracy"), facts.get("parity") or {}
    if accuracy:
        return _held_back(_judge_accuracy(accuracy), accuracy["count"])
    if parity.get("sqnr_db") is not None:
        words = (
            f"its answers are the source's within {parity['sqnr_db']:.1f} dB, by {parity.get('data') or 'its feeds'}"
        )
        if facts.get("precision") == "fp32" and parity["sqnr_db"] >= ALIKE_DB:
            return Verdict("yes", f"{words}, and it is fp32 itself")
        return Verdict("open", f"{words}; no metric was computed")
    return Verdict("open", "")


def _held_back(verdict: Verdict, count: int | None) -> Verdict:
    """Open, where so few samples cannot show that nothing is lost."""
    if count is None or count >= _FEW or verdict.answer not in ("yes", "within"):
        return verdict
    return Verdict("open", f"{verdict.words}; so few samples cannot tell")


def _samples(count: int | None) -> str:
    return f"{count} sample{'s' * (count != 1)}"


def _judge_value(report: Report, own: Evaluation) -> Verdict:
    """By the paired interval where there is one; a bare difference is no answer unless it is for the better."""
    base, versus = held_against(report), own.versus
    found = f"{own.metric} is {own.value:.4f}"
    if (ends := own.interval.ends) is not None:
        found += f" ({ends[0]:.4f} to {ends[1]:.4f})"
    if base is own:
        return Verdict("yes", f"{found} on {_samples(own.count)}: it is fp32 itself")
    if versus is not None:
        said = f"{found} where {versus.base} has {versus.base_value:.4f} on the same {_samples(versus.count)}"
        if versus.verdict == "worse":
            answer, within = ("within", ", within what may be lost") if versus.is_within else ("no", "")
            return Verdict(answer, f"{said}: {abs(versus.difference):.4f} worse{within}")
        return Verdict("open" if versus.verdict == "not known" else "yes", f"{said}: {versus.verdict}")
    if base is None:
        return Verdict("open", f"{found} on {_samples(own.count)}, with nothing to hold it against")
    drop = (base.value - own.value) * (1 if own.is_higher_better else -1)
    worse = "" if drop <= 0 else f", {drop:.4f} worse"
    said = f"{found} where {base.variant} has {base.value:.4f} on {_samples(own.count)}{worse}"
    return Verdict("yes" if drop <= 0 else "open", said)


def _judge_chosen(search: Optimization, metric: str, chosen: Trial, value: float, source: float) -> Verdict:
    """By what the search found on all its data; its gate lets nothing through that loses more than may be lost."""
    is_higher = METRICS.get(metric).is_higher_better if metric in METRICS.names() else True
    drop, ends = (source - value) * (1 if is_higher else -1), chosen.metric_interval
    found = f"{metric} is {value:.4f}" + (f" ({ends[0]:.4f} to {ends[1]:.4f})" if ends else "")
    said = f"{found} where the source has {source:.4f}, on {_samples(chosen.metric_count)} of the search"
    if drop <= 0:
        return Verdict("yes", said)
    if search.max_drop is None:
        return Verdict("open", f"{said}: {drop:.4f} worse")
    answer = "within" if drop <= search.max_drop else "no"
    return Verdict(answer, f"{said}: {drop:.4f} worse, {search.max_drop:.4f} may be lost")


def _judge_accuracy(accuracy: Mapping[str, Any]) -> Verdict:
    """`convert` accepted the file, so the loss is within what was allowed; the words say how much that is."""
    drop = (accuracy["source_value"] - accuracy["value"]) * (1 if accuracy.get("is_higher_better", True) else -1)
    found = f"{accuracy['metric']} is {accuracy['value']:.4f} where the source has {accuracy['source_value']:.4f}"
    allowed = accuracy.get("allowed")
    within = "" if drop <= 0 or allowed is None else f", within the {allowed} that was allowed"
    answer = "yes" if drop <= 0 else "within" if drop <= (allowed or 0) else "no"
    return Verdict(answer, f"{found}, on {_samples(accuracy['count'])}{within}")
