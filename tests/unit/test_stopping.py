"""When rounds end: intervals against counting and against what was drawn, and the three ways a measurement ends."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.measuring import rounds
from edgekit.measuring.records import Candidate, Settings
from edgekit.measuring.rounds import Runner, is_tight, time_rounds
from edgekit.measuring.stopping import interval_of, median_interval, quantile_upper


def test_the_interval_lies_between_the_order_statistics_of_the_tables() -> None:
    """Conover's table of the binomial with p = 1/2: of ten, the second smallest and second largest hold with 0.9785."""
    found = interval_of([10.0 * k for k in range(1, 11)])
    assert found is not None
    assert (found.low, found.high) == (20.0, 90.0)
    assert found.confidence == pytest.approx(1 - 22 / 1024)
    assert interval_of([1.0] * 5) is None  # 2 / 2^5 > 0.05: five cannot tell
    six = interval_of([6.0, 1.0, 3.0, 2.0, 5.0, 4.0])
    assert six is not None
    assert (six.low, six.high, six.confidence) == (1.0, 6.0, 1 - 2 / 64)


def test_intervals_hold_the_median_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    draws = rng.lognormal(0.0, 0.5, (2000, 15))  # skewed, as latencies are; the median is 1
    found = [interval_of(row.tolist()) for row in draws]
    held = np.mean([one is not None and one.low <= 1 <= one.high for one in found])
    assert found[0] is not None
    assert held == pytest.approx(found[0].confidence, abs=0.015)


@pytest.mark.parametrize(("quantile", "least"), [(0.5, 5), (0.9, 29), (0.99, 299)])
def test_percentiles_have_an_upper_bound_from_enough_values_on(quantile: float, least: int) -> None:
    assert quantile_upper(list(range(least - 1)), quantile) is None
    assert quantile_upper(list(range(least)), quantile) == least - 1  # then it is the largest


def test_the_bound_of_a_percentile_is_above_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    bounds = [quantile_upper(rng.uniform(size=400).tolist(), 0.9) for _ in range(1000)]
    assert np.mean([bound is not None and bound >= 0.9 for bound in bounds]) == pytest.approx(0.955, abs=0.02)
    assert quantile_upper(rng.uniform(size=5000).tolist(), 0.99) == pytest.approx(0.992, abs=0.004)


def test_the_interval_is_of_rounds_and_no_single_call_widens_it() -> None:
    calm = [[10.0, 10.0, 10.0, 10.0, 500.0]] * 8
    found = median_interval(calm)
    assert found is not None
    assert (found.low, found.high) == (10.0, 10.0)
    assert is_tight(calm, 0.01)
    assert not is_tight([[10.0], [10.5]] * 8, 0.01)
    assert not is_tight([[10.0]] * 5, 0.01)  # five rounds cannot tell
    assert not is_tight([[0.0]] * 8, 0.01)


class _Drawn(Runner):
    """A runner without a process, whose rounds are given."""

    values: Any

    def time(self, keep: bool) -> dict[str, Any]:
        value = float(next(self.values))
        if keep:
            self.rounds.append((value,))
        return {}


def _runner(values: Any) -> _Drawn:
    runner = _Drawn(Candidate("m", "null", None, None, "null", "", None, "", 1, in_bundle=False), Path("m"))
    runner.values = iter(values)
    return runner


def _settings(**changes: Any) -> Settings:
    return Settings(
        **{"rounds": 8, "min_samples": 1, "min_time_s": 0.0, "max_time_s": 60.0, "warmup_s": 0.0, "cold_starts": 0,
           "seed": 0, "interval": 0.01, **changes}
    )  # fmt: skip


def test_rounds_go_on_until_every_median_is_known() -> None:
    calm, late = _runner(itertools.repeat(10.0)), _runner(itertools.chain([5.0, 10.0] * 6, itertools.repeat(10.0)))
    assert time_rounds([calm, late], _settings(), lambda what: None) == "interval"
    assert is_tight(late.rounds, 0.01)
    assert len(calm.rounds) == len(late.rounds) > 8  # the calm one goes on too, so that rounds stay pairs
    quick = _runner(itertools.repeat(10.0))
    assert time_rounds([quick], _settings(), lambda what: None) == "interval"
    assert len(quick.rounds) == 8


def test_rounds_end_when_the_time_is_up_or_there_are_enough() -> None:
    wild = itertools.cycle([10.0, 20.0])
    runner = _runner(wild)
    assert time_rounds([runner], _settings(max_time_s=0.0), lambda what: None) == "time"
    assert len(runner.rounds) == 8  # never fewer than were asked for
    runner = _runner(wild)
    assert time_rounds([runner], _settings(), lambda what: None) == "rounds"
    assert len(runner.rounds) == rounds.MAX_ROUNDS
    runner = _runner(wild)
    assert time_rounds([runner], _settings(interval=None), lambda what: None) == "rounds"
    assert len(runner.rounds) == 8
