"""The verdict of a report says no more than the numbers bear: which of its words stand for which of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.evaluating.records import Versus
from edgekit.report import text
from edgekit.report.document import Figure, Section, Words
from edgekit.report.inspection_view import flat
from edgekit.report.sections import view
from edgekit.report.sections.choice import choice_section
from edgekit.report.sections.judging import judge_quality, judge_speed
from edgekit.reporting import Report
from tests.unit.reports import full_report

REPORT = full_report(hostile=False)


def _verdict(report: Report) -> tuple[str, str]:
    summary = view(report).blocks[0]
    assert isinstance(summary, Section)
    words = summary.blocks[1]
    assert isinstance(words, Words)
    return words.tone, words.text


def _evaluated(count: int = 1000, **versus: object) -> Report:
    """The shipped variant on so many samples, held against fp32 with `versus`."""
    assert REPORT.evaluation is not None
    own, *others = REPORT.evaluation.evaluations
    assert isinstance(own.versus, Versus)
    changed = replace(own, count=count, versus=replace(own.versus, count=count, **versus))  # type: ignore[arg-type]
    return replace(REPORT, evaluation=replace(REPORT.evaluation, evaluations=(changed, *others)))


def _searched(**changes: object) -> Report:
    """Nothing measured or evaluated since the search, whose shipped trial has `changes`."""
    assert REPORT.optimization is not None
    first, *others = REPORT.optimization.trials
    trials = (replace(first, **changes), *others)  # type: ignore[arg-type]
    return replace(REPORT, profile=None, evaluation=None, optimization=replace(REPORT.optimization, trials=trials))


def test_what_is_worse_within_the_allowance_is_not_called_never_worse() -> None:
    lost = _evaluated(verdict="worse", difference=-0.004, is_within=True)
    assert judge_quality(lost).words.endswith("0.0040 worse, within what may be lost")
    assert _verdict(lost) == (
        "good",
        "Never slower than the best fp32, and worse by no more than may be lost: holds here.",
    )
    assert _verdict(_evaluated(verdict="worse", difference=-0.04, is_within=False))[0] == "bad"
    assert "never measurably worse: holds" in _verdict(_evaluated())[1]


@pytest.mark.parametrize("count", [1, 29])
def test_a_handful_of_samples_shows_nothing(count: int) -> None:
    for report in (_evaluated(count), _searched(metric_value=0.99, metric_count=count)):
        found = judge_quality(report)
        assert found.answer == "open"
        assert f"{count} sample{'s' * (count > 1)}" in found.words
        assert found.words.endswith("so few samples cannot tell")
    assert judge_quality(_evaluated(count, verdict="worse", is_within=False)).answer == "no"


def test_a_search_says_how_much_was_lost() -> None:
    assert judge_quality(_searched(metric_count=500)).answer == "within"
    assert judge_quality(_searched(metric_count=500, metric_value=0.99)).answer == "yes"
    assert judge_quality(_searched(metric_count=500, metric_value=0.9)).answer == "no"


def test_without_a_metric_fp32_is_as_good_as_itself_and_integers_are_open() -> None:
    unjudged = _searched(metric_value=None)
    assert judge_quality(unjudged).answer == "open"
    assert "within 34.0 dB" in judge_quality(unjudged).words
    first, *others = unjudged.inspection.variants
    as_fp32 = {**first, "precision": "fp32", "parity": {"sqnr_db": 128.0}}
    plain = replace(unjudged, inspection=replace(unjudged.inspection, variants=(as_fp32, *others)))
    assert judge_quality(plain).answer == "yes"
    as_fp32["parity"] = {"sqnr_db": 12.0}
    assert judge_quality(plain).answer == "open"


@pytest.mark.parametrize(
    ("p50_us", "interval_us", "answer", "words"),
    [
        (1000.0, (990.0, 1010.0), "yes", "2.00x as fast as the best fp32 beside it"),
        (2010.0, (1980.0, 2040.0), "yes", "as fast as the best fp32 beside it"),
        (2500.0, (2400.0, 2600.0), "no", "0.80x as fast as the best fp32 beside it"),
    ],
)
def test_a_search_is_held_against_its_own_fp32(
    p50_us: float, interval_us: tuple[float, float], answer: str, words: str
) -> None:
    found = judge_speed(_searched(p50_us=p50_us, interval_us=interval_us))
    assert (found.answer, f", {words} (2.000 ms)" in found.words) == (answer, True)


def test_a_profile_without_fp32_does_not_forget_what_the_search_knew() -> None:
    assert REPORT.profile is not None
    alone = replace(REPORT.profile.measurements[0], ratio_to_best_fp32=None, versus_best_fp32=None)
    found = judge_speed(replace(REPORT, profile=replace(REPORT.profile, measurements=(alone,))))
    assert found.answer == "yes"
    assert "no fp32 was measured beside it; a call took 1.000 ms in the search" in found.words


def test_a_caption_speaks_of_what_is_drawn() -> None:
    def caption(report: Report) -> str:
        (figure,) = (block for block in choice_section(report).blocks if isinstance(block, Figure))
        return figure.caption

    assert "Along the dashed line" in caption(REPORT)
    assert "Hollow ones" in caption(REPORT)
    best = _searched(metric_value=0.99)
    assert "Along the dashed line" not in caption(best)
    assert "Nothing drawn that was not refused is faster or better than number 1." in caption(best)


def test_accuracy_shows_what_the_search_found_where_nothing_was_evaluated_since() -> None:
    said = text.render(view(_searched(metric_count=500)))
    assert "In the search top1 is 0.9850 where the source has 0.9860, on 500 samples of the search" in said
    assert "No metric was computed on labeled data" not in said
    assert "No metric was computed on labeled data" in text.render(view(_searched(metric_value=None)))


def test_steps_of_processing_are_read_as_words() -> None:
    steps = [{"op": "resize", "size": [64, 64], "filter": "bicubic"}, {"op": "layout"}]
    assert flat({"inputs": {"x": steps}, "odd": [{"a": 1}]}) == (
        ("inputs.x", "resize size=[64, 64] filter=bicubic, layout"),
        ("odd", '[{"a": 1}]'),
    )
