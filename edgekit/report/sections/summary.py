"""What is shipped, what it promises, and whether the numbers bear that out."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.report.document import Highlights, Section, Words
from edgekit.report.sections.judging import Verdict, judge_quality, judge_speed
from edgekit.report.sections.shipped import (
    best_fp32,
    facts_of,
    held_against,
    judged,
    shipped_measurement,
    shipped_trial,
)
from edgekit.report.units import mebibytes, megabytes, milliseconds, percent
from edgekit.reporting import Report

__all__ = ["summary_section"]


def summary_section(report: Report) -> Section:
    """The promise in a sentence with its figures, then the figures by themselves."""
    speed, quality = judge_speed(report), judge_quality(report)
    return Section(
        "What is shipped",
        (Words(_promise(report, speed, quality)), _verdict(speed, quality), Highlights(tuple(_tiles(report)))),
    )


def _promise(report: Report, speed: Verdict, quality: Verdict) -> str:
    facts = facts_of(report, report.shipped)
    count = len(report.inspection.variants)
    words = "" if not facts else f", the first of {count} variants," if count > 1 else ", the only variant,"
    measured = shipped_measurement(report)
    runs = f" runs with {_engine(report)}" if measured else " is what a device takes"
    said = [f"{report.shipped}{words}{runs}"] + [verdict.words for verdict in (speed, quality) if verdict.words]
    return "; ".join(said) + "."


def _engine(report: Report) -> str:
    measured = shipped_measurement(report)
    assert measured is not None
    threads = measured.candidate.threads
    many = "" if threads is None else f" and {threads} thread{'s' * (threads != 1)}"
    return f"{measured.candidate.runtime_version or measured.candidate.runtime}{many}"


def _verdict(speed: Verdict, quality: Verdict) -> Words:
    """Whether "never slower, never worse" holds by what is known."""
    answers = {speed.answer, quality.answer}
    if "no" in answers:
        broken = [what for what, v in (("speed", speed), ("quality", quality)) if v.answer == "no"]
        return Words(f"Never slower, never worse: does NOT hold here, look at {' and '.join(broken)}.", "bad")
    if answers == {"yes"}:
        return Words("Never slower than the best fp32, never measurably worse: holds here.", "good")
    if answers == {"yes", "within"}:
        return Words("Never slower than the best fp32, and worse by no more than may be lost: holds here.", "good")
    open_ones = [what for what, v in (("speed", speed), ("quality", quality)) if v.answer == "open"]
    verb = "are" if len(open_ones) > 1 else "is"
    return Words(f"Never slower, never worse: not known here, as {' and '.join(open_ones)} {verb} open.", "open")


def _tiles(report: Report) -> Iterator[tuple[str, str, str]]:
    measured, base = shipped_measurement(report), best_fp32(report)
    if measured is not None and measured.latency is not None:
        against = f"best fp32 {milliseconds(base.p50_us)} ms" if base else ""
        yield "latency of a call, p50", f"{milliseconds(measured.p50_us)} ms", against
        if measured.ratio_to_best_fp32 is not None and measured is not base:
            faster = 1 / measured.ratio_to_best_fp32
            yield "speed", f"{faster:.2f}x", "that of the best fp32"
        yield "p99", f"{milliseconds(measured.latency.summary.p99_us)} ms", "99 of 100 calls are faster"
    elif (trial := shipped_trial(report)) is not None:
        yield "latency of a call, p50", f"{milliseconds(trial.p50_us)} ms", "in the search that chose it"
    size, fp32_size = _sizes(report)
    yield "files", megabytes(size), f"fp32 {megabytes(fp32_size)}" if fp32_size and fp32_size != size else ""
    if measured is not None and measured.peak_rss_bytes:
        yield "memory, peak", f"{mebibytes(measured.peak_rss_bytes)} MiB", "of the whole process"
    yield from _quality_tiles(report)


def _quality_tiles(report: Report) -> Iterator[tuple[str, str, str]]:
    facts = facts_of(report, report.shipped)
    own, base = judged(report), held_against(report)
    if own is not None:
        against = f"{base.variant} {base.value:.4f}" if base and base is not own else f"{own.count} samples"
        yield own.metric, f"{own.value:.4f}", against
    elif (trial := shipped_trial(report)) is not None and trial.metric_value is not None:
        assert report.optimization is not None
        source = report.optimization.source_value
        against = f"{trial.metric_count} samples" if source is None else f"source {source:.4f}"
        yield report.optimization.metric or "metric", f"{trial.metric_value:.4f}", against
    elif (accuracy := facts.get("accuracy")) is not None:
        yield str(accuracy["metric"]), f"{accuracy['value']:.4f}", f"source {accuracy['source_value']:.4f}"
    parity = facts.get("parity") or {}
    if parity.get("sqnr_db") is not None:
        yield "signal to noise", f"{parity['sqnr_db']:.1f} dB", "against the source model"
    share = facts.get("int8_macs_share")
    if share or (share is not None and "a8" in facts["precision"]):
        yield "integer arithmetic", percent(share), "of the multiplications"


def _sizes(report: Report) -> tuple[int | None, int | None]:
    """Of the shipped variant and of fp32 in the same format."""
    facts = facts_of(report, report.shipped)
    if not facts:
        return report.parts[0].size_bytes, None
    alike = (v for v in report.inspection.variants if v["format"] == facts["format"] and v["precision"] == "fp32")
    return int(facts["size_bytes"]), next((int(v["size_bytes"]) for v in alike), None)
