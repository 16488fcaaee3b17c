"""What is said of two latencies: false alarms and power on simulated machines, and the rules of the interval."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from edgekit.measuring.pairs import LOOKS
from edgekit.measuring.statistics import (
    PAIRS_TO_TELL,
    ROUNDS_TO_TELL,
    Contrast,
    Rounds,
    compare_rounds,
    contrast,
    contrast_apart,
    joined,
)

Pair = tuple[Rounds, Rounds]
ROUNDS = 16
REPEATS = 80


def quiet(rng: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """Processes that differ by 0.7 %, rounds by 1 %."""
    return (*rng.normal(0, 0.007, 2), rng.normal(0, 0.01, (2, ROUNDS)))


def two_layouts(rng: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """A third of all processes are 3 % slower for as long as they live."""
    return (*np.where(rng.random(2) < 0.3, 0.03, 0.0), rng.normal(0, 0.01, (2, ROUNDS)))


def spikes(rng: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """Every tenth round is longer by a fifth, more or less, and a process now and then is disturbed all its life."""
    noise = rng.normal(0, 0.02, (2, ROUNDS)) + (rng.random((2, ROUNDS)) < 0.1) * rng.exponential(0.2, (2, ROUNDS))
    return (*(rng.normal(0, 0.007, 2) + (rng.random(2) < 0.05) * rng.exponential(0.1, 2)), noise)


def drifting(rng: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """Rounds next to each other are alike, in both and in each."""
    noise = rng.normal(0, 0.02, (3, ROUNDS))
    for turn in range(1, ROUNDS):
        noise[:, turn] = 0.7 * noise[:, turn - 1] + math.sqrt(1 - 0.49) * noise[:, turn]
    return (*rng.normal(0, 0.007, 2), noise[:2] + 5 * noise[2])


MACHINES = (quiet, two_layouts, spikes, drifting)
Machine = Callable[[np.random.Generator], tuple[float, float, np.ndarray]]


def one_pair(machine: Machine, rng: np.random.Generator, ratio: float) -> Pair:
    first, second, noise = machine(rng)
    one, other = 100 * ratio * np.exp(first + noise[0]), 100 * np.exp(second + noise[1])
    return [[value] for value in one], [[value] for value in other]


def settled(machine: Machine, rng: np.random.Generator, ratio: float) -> str:
    """What a comparison says that looks as often as `hold_duel` does, and stops when it may."""
    pairs: list[Pair] = []
    verdict = "unclear"
    for count in LOOKS[:5]:
        pairs += [one_pair(machine, rng, ratio) for _ in range(count - len(pairs))]
        verdict = contrast(pairs).verdict
        if verdict != "unclear":
            break
    return verdict


@pytest.mark.parametrize("machine", MACHINES)
def test_a_file_against_itself_is_called_slower_or_faster_in_less_than_one_of_twenty(machine: Machine) -> None:
    rng = np.random.default_rng(7)
    said = [settled(machine, rng, 1.0) for _ in range(REPEATS)]
    assert said.count("slower") + said.count("faster") <= 0.05 * REPEATS
    assert said.count("same") > 0.5 * REPEATS  # "unclear" throughout would raise no alarm either


@pytest.mark.parametrize("machine", MACHINES)
def test_five_percent_more_time_is_found_in_more_than_nineteen_of_twenty(machine: Machine) -> None:
    rng = np.random.default_rng(8)
    said = [settled(machine, rng, 1.05) for _ in range(REPEATS)]
    assert said.count("slower") >= 0.95 * REPEATS
    assert "faster" not in said


def test_rounds_of_one_pair_of_processes_would_raise_alarms_that_pairs_do_not() -> None:
    """Why processes are what is repeated: many rounds of two that differ for life prove a difference of nothing."""
    rng = np.random.default_rng(9)
    alarms = {"rounds": 0, "one pair": 0, "pairs": 0}
    for _ in range(60):
        pairs = [one_pair(two_layouts, rng, 1.0) for _ in range(8)]
        ratios = np.log([a[0] / b[0] for a, b in zip(*pairs[0], strict=True)])
        alarms["rounds"] += bool(abs(ratios.mean()) > 2.1 * ratios.std(ddof=1) / math.sqrt(len(ratios)))
        alarms["one pair"] += contrast(pairs[:1]).verdict in ("slower", "faster")
        alarms["pairs"] += contrast(pairs).verdict in ("slower", "faster")
    assert alarms["rounds"] > 20
    assert alarms["pairs"] <= 3
    assert alarms["one pair"] < alarms["rounds"]


def test_the_interval_of_pairs_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(10)
    covered = 0
    for _ in range(200):
        found = contrast([one_pair(spikes, rng, 1.2) for _ in range(8)])
        covered += found.low <= 1.2 <= found.high
    assert covered >= 0.97 * 200


def test_the_interval_narrows_with_pairs() -> None:
    rng = np.random.default_rng(11)
    pairs = [one_pair(quiet, rng, 1.0) for _ in range(32)]
    widths = [contrast(pairs[:count]).high - contrast(pairs[:count]).low for count in LOOKS]
    assert widths[-1] < widths[0] / 2


def test_the_same_numbers_give_the_same_answer() -> None:
    rng = np.random.default_rng(12)
    pairs = [one_pair(spikes, rng, 1.03) for _ in range(8)]
    assert contrast(pairs) == contrast(pairs)
    swapped = contrast([(b, a) for a, b in pairs])
    assert swapped.ratio == pytest.approx(1 / contrast(pairs).ratio)
    assert swapped.low == pytest.approx(1 / contrast(pairs).high, rel=0.01)


def test_one_process_of_each_leaves_room_for_what_processes_differ_by() -> None:
    steady = [[100.0]] * 12
    assert compare_rounds([[102.0]] * 12, steady) == "same"
    assert compare_rounds([[103.5]] * 12, steady) == "slower"
    assert compare_rounds([[96.5]] * 12, steady) == "faster"
    found = contrast([([[102.0]] * 12, steady)])
    assert found.low < 1 < found.high


def test_few_pairs_do_not_hide_that_they_differ() -> None:
    steady = [[100.0]] * 8
    found = contrast([([[120.0]] * 8, steady), ([[99.0]] * 8, steady)])
    assert found.verdict == "unclear"
    assert found.low < 0.99
    assert found.high > 1.2
    twice = contrast([([[200.0 + n]] * 8, steady) for n in range(3)])
    assert twice.verdict == "slower"


def test_too_few_rounds_have_no_interval() -> None:
    few = [[20.0]] * (ROUNDS_TO_TELL - 1)
    found = contrast([(few, [[10.0]] * len(few))])
    assert found == Contrast(pytest.approx(2.0), 0.0, math.inf, 0.0, "unclear", 1, len(few))
    assert math.isnan(contrast([]).ratio)
    assert contrast([([], [])]).verdict == "unclear"


def test_a_percentile_is_compared_by_itself() -> None:
    tail = [[10.0] * 9 + [50.0]] * 16
    calm = [[10.0] * 10] * 16
    pairs = [(tail, calm)] * PAIRS_TO_TELL
    assert contrast(pairs).verdict == "same"
    assert contrast(pairs, 0.99).verdict == "slower"


def test_a_percentile_is_not_taken_of_fewer_calls_than_it_needs() -> None:
    """Of rounds of one call each, the 99th percentile of a round is its median: both would be called the same."""
    calm, tail = [[10.0]] * 400, [[10.0 if turn % 20 else 50.0] for turn in range(400)]
    assert contrast([(tail, calm)]).verdict == "same"
    found = contrast([(tail[:120], calm[:120])] * PAIRS_TO_TELL, 0.99)
    assert (found.verdict, found.rounds) == ("slower", PAIRS_TO_TELL)
    few = contrast([(tail[:99], calm[:99])] * PAIRS_TO_TELL, 0.99)
    assert (few.verdict, few.rounds) == ("unclear", 0)
    assert math.isnan(few.ratio)
    blocks = joined([[[1.0] * 4] * 6, [[2.0] * 9] * 6], 0.9)
    assert [[len(one) for one in side] for side in blocks] == [[12, 12], [27, 27]]
    assert joined([[[1.0], [2.0]]], 0.5) == [[[1.0], [2.0]]]


def test_a_call_too_short_for_the_clock_is_compared_all_the_same() -> None:
    assert compare_rounds([[1.0]] * 8, [[0.0]] * 8) == "slower"
    assert compare_rounds([[0.0]] * 8, [[0.0]] * 8) == "same"


def test_numbers_of_another_day_are_brought_to_the_machine_of_today() -> None:
    rng = np.random.default_rng(13)
    then = [[value] for value in 100 * np.exp(rng.normal(0, 0.005, 12))]
    now = [[2 * value] for value in 100 * np.exp(rng.normal(0, 0.005, 12))]
    assert contrast_apart(now, then).verdict == "slower"
    same = contrast_apart(now, then, machine=(2.0, 2.0))
    assert same.verdict == "same"
    assert same.ratio == pytest.approx(1.0, abs=0.01)
    torn = contrast_apart(now, then, machine=(1.6, 2.4))
    assert torn.verdict == "unclear"
    assert torn.low < 0.85
    assert torn.high > 1.2
    assert contrast_apart(now[:3], then).verdict == "unclear"
