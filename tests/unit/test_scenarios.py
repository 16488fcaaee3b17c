"""Load as MLPerf gives it, on the null engine, whose calls take as long as they are told to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ConversionError, InputError
from edgekit.measuring.caveats import about_scenarios
from edgekit.measuring.reading import profile_from_json
from edgekit.measuring.records import Candidate, Measurement, Profile, ScenarioResult
from edgekit.measuring.results import measurement_of
from edgekit.measuring.rounds import Runner
from edgekit.measuring.scenarios import Scenario, run_scenario, scenario_of
from edgekit.measuring.stopping import Interval
from edgekit.profiling import profile
from edgekit.report import text
from edgekit.report.profile_view import view
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec

QUICK: dict[str, Any] = {
    "rounds": 1, "min_samples": 1, "min_time_s": 0.0, "warmup_s": 0.0, "cold_starts": 0, "max_time_s": 0.3,
}  # fmt: skip

Y = (TensorSpec("y", "float32", ("batch", 2)),)
OPEN = Signature((TensorSpec("x", "float32", ("batch", 4)),), Y)
FIXED = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))


def _load(folder: Path, delay_ms: float, signature: Signature = FIXED, **load: Any) -> tuple[Profile, ScenarioResult]:
    path = write_null(folder / "m.null.json", signature, delay_ms=delay_ms)
    found = profile(path, **{**QUICK, **load})
    scenario = found.measured[0].scenario
    assert scenario is not None
    assert text.render(view(found))
    return found, scenario


def test_single_stream_waits_for_each_answer(tmp_path: Path) -> None:
    found, s = _load(tmp_path, 3.0, scenario="single-stream")
    assert s.latency is not None
    assert (s.headline, s.value) == ("p90_us", pytest.approx(s.latency.p90_us, abs=0.01))
    assert s.latency.min_us >= 3000
    assert (s.batch, s.callers, s.samples_per_query, s.rate_per_s, s.late_share) == (1, 1, 1, None, None)
    assert s.samples_per_s == pytest.approx(1e6 / s.latency.mean_us, rel=0.3)
    assert len(s.turns_us) == 6
    assert sum(map(len, s.turns_us)) == s.queries == s.latency.count
    assert s.interval is not None
    assert s.upper_us is None or s.upper_us >= s.latency.p90_us
    assert found.settings.scenario == "single-stream"
    assert "Single stream" in text.render(view(found))


def test_waiting_counts_when_queries_come_faster_than_they_are_served(tmp_path: Path) -> None:
    """Calls of 4 ms at 500 a second: a test that waits politely reports 4 ms, who waits for the answer far more."""
    found, s = _load(tmp_path, 4.0, rate_per_s=500.0, max_time_s=0.6)
    assert (s.scenario, s.rate_per_s) == ("single-stream", 500.0)
    assert s.latency is not None
    assert s.service is not None
    assert s.late_share is not None
    assert s.service.min_us >= 4000
    assert s.latency.p50_us > 5 * s.service.p50_us
    assert s.late_share > 0.9
    assert "single-stream" in json.dumps(found.to_json(), allow_nan=False)


def test_what_cannot_be_answered_in_time_is_given_up_and_told(tmp_path: Path) -> None:
    found, s = _load(tmp_path, 20.0, scenario="server", rate_per_s=2000.0, bound_ms=50.0)
    assert s.is_overloaded
    assert s.is_bound_held is False
    assert s.latency is not None
    assert s.queries < s.latency.count == sum(map(len, s.turns_us))  # those given up count as long as they waited
    assert "overloaded" in {w.kind for w in found.warnings}
    assert "NOT HELD" in text.render(view(found))
    again = profile_from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again.measured[0].scenario is not None
    assert again.measured[0].scenario.turns_us == s.turns_us
    assert again.measured[0].scenario.interval == approximately(s.interval)
    assert (again.settings, again.conditions) == (found.settings, found.conditions)


def approximately(interval: Interval | None) -> Interval:
    """As it is written, with four decimals."""
    assert interval is not None
    return Interval(**interval.to_json())


def test_a_server_finds_a_rate_between_none_and_all_it_can_do(tmp_path: Path) -> None:
    found, s = _load(tmp_path, 2.0, scenario="server", bound_ms=500.0)
    assert s.headline == "rate_per_s"
    assert len(s.tried) >= 7
    held = [rate for rate, _, holds in s.tried if holds]
    assert held  # a bound of 250 calls' time
    assert s.value is not None
    assert 0 < s.value <= max(held)
    assert s.is_bound_held
    assert found.settings.bound_ms == 500.0


def test_a_bound_below_a_call_is_held_by_no_rate_and_none_is_tried(tmp_path: Path) -> None:
    found, s = _load(tmp_path, 5.0, scenario="server", bound_ms=1.0)
    assert (s.value, s.queries, s.latency, s.tried) == (None, 0, None, ())
    assert "no rate holds it" in text.render(view(found))
    assert next(w.message for w in found.warnings if w.kind == "no rate").endswith("a call alone takes longer")


def test_multi_stream_asks_for_many_samples_at_once(tmp_path: Path) -> None:
    _, alone = _load(tmp_path, 2.0, scenario="multi-stream", samples_per_query=4)
    assert alone.latency is not None
    assert (alone.headline, alone.samples_per_query, alone.batch) == ("p99_us", 4, 1)
    assert alone.latency.min_us >= 2000 * 4 / alone.callers
    assert alone.samples_per_s == pytest.approx(4e6 / alone.latency.mean_us, rel=0.3)
    _, together = _load(tmp_path, 4.0, OPEN, scenario="multi-stream", samples_per_query=4)
    assert together.batch == 4  # the null engine takes as long for four as for one
    assert together.latency is not None
    assert together.latency.min_us >= 4000


def test_offline_takes_the_batch_that_serves_most(tmp_path: Path) -> None:
    found, s = _load(tmp_path, 2.0, OPEN, scenario="offline")
    assert (s.headline, s.batch, s.latency) == ("samples_per_s", 32, None)
    assert s.interval is not None
    assert s.value == pytest.approx(s.samples_per_s)
    assert 0.2 * 32 * s.callers / 0.002 < s.samples_per_s <= 32 * s.callers / 0.002
    assert "batch" in text.render(view(found))
    _, fixed = _load(tmp_path, 1.0, scenario="offline")
    assert fixed.batch == 1


@pytest.mark.parametrize(
    ("load", "word"),
    [
        ({"name": "sometimes"}, "single-stream"),
        ({"name": "offline", "rate_per_s": 3.0}, "no rate"),
        ({"name": "server"}, "bound"),
        ({"name": "server", "rate_per_s": 0.0}, "larger than 0"),
        ({"name": "server", "rate_per_s": float("nan")}, "larger than 0"),
        ({"name": "multi-stream", "samples_per_query": 0}, "larger than 0"),
        ({"name": "single-stream", "bound_us": 5.0}, "without a bound"),
    ],
)
def test_what_does_not_go_together_is_refused(load: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        Scenario(**load)


def test_a_rate_alone_is_of_single_queries() -> None:
    assert scenario_of(None, None, None, 8) is None
    assert scenario_of(None, 30.0, None, 8) == Scenario("single-stream", 30.0)
    with pytest.raises(InputError, match="bound"):
        scenario_of(None, None, 5.0, 8)


CANDIDATE = Candidate("m", "null", None, None, "null", "", None, "", 1, in_bundle=False)


class _Answering(Runner):
    """A runner without a process, whose queries take as long as `late_us` says for their rate."""

    asked: list[str]

    def ask(self, function: str, /, limit_s: float = 0.0, **arguments: Any) -> Any:
        self.asked.append(function.rpartition(":")[2])
        if self.asked[-1] == "look":
            return [{"batch": 1, "callers": 1, "samples_per_s": 100.0}]
        raise ConversionError("its process died of SIGKILL")


class _Late(_Answering):
    def ask(self, function: str, /, limit_s: float = 0.0, **arguments: Any) -> Any:
        if function.endswith("look"):
            return super().ask(function)
        late_us = self.late_us(arguments["rate_per_s"])
        self.asked.append(f"{arguments['rate_per_s']:.2f}")
        nothing: dict[str, Any] = {name: [1.0] for name in ("service_us", "clock_late_us")}
        return {**nothing, "latencies_us": [late_us], "is_late": [False], "unanswered": 0, "elapsed_s": 1.0,
                "difference": 0.0}  # fmt: skip

    def late_us(self, rate: float) -> float:
        return 2.0 if rate > 30 else 0.5


def _under_load(runner: _Answering, scenario: Scenario) -> _Answering:
    runner.asked = []
    run_scenario([runner], scenario, 1.0, 0, lambda what: None)
    return runner


def test_a_load_that_kills_the_engine_leaves_what_was_measured_before() -> None:
    runner = _under_load(_Answering(CANDIDATE, Path("m"), rounds=[(1.0,)], cpu_us=[1.0]), Scenario("single-stream"))
    assert runner.asked == ["look", "time_queries"]
    found = measurement_of(runner)
    assert (found.status, found.scenario, found.scenario_reason) == ("measured", None, "its process died of SIGKILL")
    assert [c.kind for c in about_scenarios([found])] == ["load"]


def test_the_highest_rate_that_holds_is_found_by_halving() -> None:
    runner = _under_load(_Late(CANDIDATE, Path("m")), Scenario("server", bound_us=1.0))
    assert runner.asked[1:8] == ["50.00", "25.00", "37.50", "31.25", "28.12", "29.69", "30.47"]
    assert runner.scenario is not None
    assert (runner.scenario.value, runner.scenario.is_bound_held) == (29.688, True)
    assert runner.asked[8:] == ["29.69"] * 6


def test_a_rate_that_does_not_hold_for_long_is_no_rate_and_told_as_what_it_is() -> None:
    class Tiring(_Late):
        def late_us(self, rate: float) -> float:
            return 0.5 if len(self.asked) < 8 else 2.0

    runner = _under_load(Tiring(CANDIDATE, Path("m")), Scenario("server", bound_us=1.0))
    assert runner.scenario is not None
    assert (runner.scenario.value, runner.scenario.is_bound_held) == (None, False)
    told = list(about_scenarios([Measurement(CANDIDATE, "measured", scenario=runner.scenario)]))
    assert "held the bound at 99.2 queries a second for a while, but at no rate for all turns" in told[0].message
