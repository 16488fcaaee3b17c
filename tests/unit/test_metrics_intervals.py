"""Intervals against SciPy's, and against how often they hold what is true; and data that make a figure deceptive."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from edgekit.metrics import METRICS, Tally
from edgekit.metrics.intervals import Drawing, drawing_for, interval_of, mcnemar, newcombe, percentiles, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (0, 9), (3, 9), (9, 9), (977, 1000)])
def test_a_share_has_the_interval_of_wilson(hits: int, count: int) -> None:
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (3, 9), (200, 260)])
def test_the_chance_of_a_split_is_that_of_the_binomial_test(wins: int, losses: int) -> None:
    first = np.array([True] * wins + [False] * losses + [True] * 10)
    second = np.array([False] * wins + [True] * losses + [True] * 10)
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, abs=1e-9)


def test_paired_shares_that_never_differ_still_have_an_interval() -> None:
    same = np.array([True] * 18 + [False] * 2)
    low, high = newcombe(same, same)
    assert low == pytest.approx(-high)
    assert 0.02 < high < 0.2
    all_right = np.ones(20, bool)
    assert newcombe(all_right, all_right)[1] > 0.1


def test_the_interval_of_a_difference_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        first = rng.random(80) < 0.85
        second = np.where(rng.random(80) < 0.15, rng.random(80) < 0.5, first)  # 0.7975 in the long run
        low, high = newcombe(first, second)
        held += low <= 0.85 - (0.85 * 0.85 + 0.15 * 0.5) <= high
    assert 930 <= held <= 985


def tally_of(name: str, answers: list[float], truths: list[float]) -> Tally:
    metric = METRICS.get(name)
    tally = metric.start(())
    for answer, truth in zip(answers, truths, strict=True):
        metric.add(tally, answer, {"target": truth})
    return tally


def test_a_bootstrap_holds_a_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        errors = rng.exponential(2.0, 60)
        interval = interval_of(tally_of("mae", errors.tolist(), [0.0] * 60), 200, seed)
        assert interval.ends is not None
        held += interval.ends[0] <= 2.0 <= interval.ends[1]
    assert 86 <= held <= 99  # of skewed errors a little less than 95 %


def test_an_interval_is_the_same_for_the_same_seed_and_says_how_it_was_found() -> None:
    tally = tally_of("rmse", [1.0, 2, 3, 4], [1, 1, 1, 1])
    first, again, other = (interval_of(tally, 100, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.ends != other.ends
    assert "100 sets, seed 0" in first.method


def test_there_is_no_interval_where_there_can_be_none() -> None:
    one = interval_of(tally_of("rmse", [1.0], [2]), 100, 0)
    assert (one.ends, one.method) == (None, "none: one sample does not say how much others differ")
    metric = METRICS.get("auc")
    tally = metric.start(())
    for score, label in ((0.1, "0"), (0.2, "0"), (0.9, "1")):
        metric.add(tally, score, {"label": label})
    assert "sets drawn again have no such figure" in interval_of(tally, 100, 0).method
    picture = np.zeros((2, 2, 3))
    metric = METRICS.get("psnr")
    tally = metric.start(())
    for answer in (picture, picture, picture + 1):
        metric.add(tally, answer, {"target": picture})
    assert tally.values(np.ones(3))[0] == math.inf
    assert interval_of(tally, 100, 0).method == "none: the figure is infinite for some of the sets drawn again"
    assert all(map(math.isnan, percentiles(np.array([math.nan]))))


def test_an_interval_holds_its_figure_though_samples_that_are_drawn_twice_flatter_it() -> None:
    rng = np.random.default_rng(0)
    metric = METRICS.get("ece")
    tally = metric.start(("cat", "dog"))
    for chance in rng.uniform(0.5, 1.0, 400):  # a model that is right exactly as often as it says
        label = "cat" if rng.random() < chance else "dog"
        metric.add(tally, np.array([chance, 1 - chance]), {"label": label})
    figure = float(tally.values(np.ones(400))[0])
    drawing = Drawing(400, 300, 0)
    again = np.array([tally.values(weights)[0] for weights in drawing.weights()])
    assert np.mean(again > figure) > 0.9  # which is why they are moved
    low, high = interval_of(tally, 300, 0, is_share=True).ends or (0.0, 0.0)
    assert 0 <= low < figure < high
    assert np.mean((again - np.median(again) + figure) > high) == pytest.approx(0.025, abs=0.01)


def test_what_would_take_minutes_is_drawn_less_often_or_left_out_by_groups() -> None:
    errors = np.random.default_rng(0).exponential(2.0, 2000)
    tally = tally_of("mae", errors.tolist(), [0.0] * 2000)
    assert drawing_for(tally, 1000, 0).sets == 1000

    class Slow(type(tally)):  # type: ignore[misc]
        work = 2_500_000

    tally.__class__ = Slow  # the same samples, as if a figure of them took long
    assert drawing_for(tally, 1000, 0).sets == 400
    Slow.work = 1 << 30
    found = interval_of(tally, 1000, 0)
    assert found.method.startswith("jackknife over 40 groups")
    assert found.ends is not None
    half = 2.02 * errors.std(ddof=1) / math.sqrt(2000)
    assert (found.ends[1] - found.ends[0]) / 2 == pytest.approx(half, rel=0.3)
    assert sum(found.ends) / 2 == pytest.approx(errors.mean())


def test_every_class_has_an_interval_of_its_own() -> None:
    metric = METRICS.get("top1")
    tally = metric.start(("cat", "dog", "cow"))
    for answer, truth in (("cat", "cat"), ("dog", "cat"), ("dog", "dog")):
        metric.add(tally, {"label": answer}, {"label": truth})
    found = interval_of(tally, 0, 0)
    assert found.ends == pytest.approx(wilson(2, 3))
    assert found.per_class == {"cat": wilson(1, 2), "dog": wilson(1, 1)}


# --- what deceives ----------------------------------------------------------------------------------------------------

LABELS = ("background", "cat", "dog", "cow")


def notes(answered: list[int], true: list[str], labels: tuple[str, ...] = LABELS) -> str:
    metric = METRICS.get("top1")
    answers = [{"label": labels[index]} for index in answered]
    return " ".join(metric.score(answers, [{"label": name} for name in true], labels).notes)


def test_answers_that_are_all_the_same_are_remarked_on() -> None:
    true = ["cat", "dog", "cow"] * 4
    assert "all 12 answers are 'dog'" in notes([2] * 12, true)
    assert notes([1, 2, 3] * 4, true) == ""
    assert notes([2] * 12, ["dog"] * 12) == ""


def test_classes_that_are_moved_by_one_are_remarked_on() -> None:
    """Data that count from the first class, and a model that counts the background."""
    assert "moved by +1" in notes([1, 2, 3] * 4, ["0", "1", "2"] * 4)


def test_classes_in_another_order_are_remarked_on() -> None:
    said = notes([3, 1, 2] * 4, ["cat", "dog", "cow"] * 4)
    assert "in the same order" in said
    rng = np.random.default_rng(0)
    chance = rng.integers(1, 4, 60).tolist()
    assert notes(chance, ["cat", "dog", "cow"] * 20) == ""


def test_a_detector_that_finds_nothing_or_elsewhere_is_remarked_on() -> None:
    truth = {"boxes": [{"label": "cat", "box": [0.1, 0.1, 0.3, 0.3]}]}
    metric = METRICS.get("map50")
    assert metric.score([[]] * 3, [truth] * 3).notes == ("not one box was found in 3 pictures",)
    far = [{"label": "cat", "box": [0.6, 0.6, 0.9, 0.9], "score": 1.0}]
    assert "are boxes of data and model" in metric.score([far] * 12, [truth] * 12).notes[0]


def test_boxes_in_pixels_are_not_taken_for_shares() -> None:
    truth = {"boxes": [{"label": "cat", "box": [0.1, 0.1, 0.3, 0.3]}]}
    found = {"label": "cat", "score": 1.0}
    metric = METRICS.get("map50")
    with pytest.raises(ValueError, match="as if it were in pixels"):
        metric.score([[{**found, "box": [64, 48, 192, 144]}]], [truth])
    with pytest.raises(ValueError, match="whose size the data do not say"):
        metric.score([[{**found, "box_px": [64, 48, 192, 144]}]], [truth])
    sized = {**truth, "size": (640, 480)}
    assert metric.compute([[{**found, "box_px": [64, 48, 192, 144]}]], [sized]) == pytest.approx(1)
    with pytest.raises(ValueError, match="how large boxes are"):
        METRICS.get("map-small").compute([[]], [truth])


def test_names_and_numbers_of_classes_are_not_mixed() -> None:
    answers = [{"label": "1"}, {"label": "2"}]
    with pytest.raises(ValueError, match="can only be an index"):
        METRICS.get("top1").score(answers, [{"label": "1"}, {"label": "0"}], ("1", "2", "3"))


def test_a_foreground_of_255_is_not_silently_left_out() -> None:
    mask = np.array([[0, 255]])
    with pytest.raises(ValueError, match="save the foreground as 1"):
        METRICS.get("miou").score([[[0, 1]]], [{"mask": mask}], ("ground", "person"))


def test_scores_that_are_no_probabilities_are_not_judged_as_such() -> None:
    def entries(*scores: float) -> list[dict[str, object]]:
        return [{"label": name, "score": score} for name, score in zip("ab", scores, strict=True)]

    metric = METRICS.get("log-loss")
    for scores in ((3.2, -1.0), (0.9, 0.9)):
        with pytest.raises(ValueError, match="are no probabilities"):
            metric.score([entries(*scores)], [{"label": "a"}], ("a", "b"))
    rounded = metric.score([entries(0.5, 0.4)], [{"label": "a"}], ("a", "b"))
    assert rounded.value == pytest.approx(math.log(2))
    assert "do not sum to 1" in rounded.notes[0]


def test_one_score_of_two_classes_says_which_it_is() -> None:
    metric, truths = METRICS.get("top1"), [{"label": "no"}, {"label": "yes"}]
    assert metric.score([np.array([[0.2]]), np.array([[0.9]])], truths, ("no", "yes")).value == 1
    with pytest.raises(ValueError, match="sigmoid"):
        metric.score([np.array([[3.0]]), np.array([[0.9]])], truths, ("no", "yes"))
    with pytest.raises(ValueError, match="not those of one sample"):
        metric.score([np.zeros((3, 2)), np.zeros((3, 2))], truths, ())


def test_many_samples_are_kept_as_numbers() -> None:
    import tracemalloc

    metric, rng = METRICS.get("top1"), np.random.default_rng(0)
    tally = metric.start(tuple(map(str, range(10))))
    answer = [{"label": "3", "score": 0.9, "index": 3}]
    tracemalloc.start()
    for label in rng.integers(0, 10, 30_000).tolist():
        tally.add(answer, {"label": str(label)})
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 30_000 * 16  # three integers of each
    assert len(tally) == 30_000
