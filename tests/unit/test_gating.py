"""Gates: what is written, what an interval says to it, and a profile against an earlier one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.environment import read_environment
from edgekit.errors import ArtifactError, GateFailed, InputError
from edgekit.measuring.baseline import hold_profile
from edgekit.measuring.gating import QUANTITIES, Gate, Range, judge_gate, parse_gate, require_gates
from edgekit.measuring.reading import profile_from_json, read_profile
from edgekit.measuring.records import Candidate, ColdStart, Latency, Measurement, Profile, Settings
from edgekit.measuring.yardstick import drift_of, join_yardsticks, measure_yardstick
from edgekit.profiling import profile
from edgekit.report.json import render
from tests.cli.conftest import write_bundle


@pytest.mark.parametrize(
    ("text", "bound", "kind", "is_upper"),
    [
        ("p50>+5%", 0.05, "share", True),
        ("p50 > +5 %", 0.05, "share", True),
        ("p50>=-5%", -0.05, "share", True),
        ("p50>3ms", 3000.0, "value", True),
        ("p99>+0.5ms", 500.0, "change", True),
        ("cold>1s", 1e6, "value", True),
        ("size>+100kB", 1e5, "change", True),
        ("rss>10MiB", 10 * 2.0**20, "value", True),
        ("sqnr<20", 20.0, "value", False),
        ("sqnr<20dB", 20.0, "value", False),
        ("cosine<-0.5", -0.5, "value", False),
        ("top1<99%", 0.99, "value", False),
        ("top1<-0.5%", -0.005, "change", False),
        ("metric<0.9", 0.9, "value", False),
    ],
)
def test_a_gate_is_read_as_it_is_meant(text: str, bound: float, kind: str, is_upper: bool) -> None:
    gate = parse_gate(text)
    assert gate == Gate(text, QUANTITIES[gate.quantity.name], is_upper, pytest.approx(bound), kind)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no gate"),
        ("p50", "is no gate"),
        ("p50>", "is no gate"),
        (">5%", "no quantity ''"),
        ("p51>5%", "no quantity 'p51'"),
        ("p50>much", "is no number"),
        ("p50>nan", "is no number"),
        ("p50>infms", "is no number"),
        ("p50>1e308s", "is no number"),
        ("p50>3\u00b5s", "is no number"),
        ("p50>3", "needs a unit"),
        ("p50>+3", "needs a unit"),
        ("p50>3kB", "is not in 'kB'"),
        ("p50>5%", "is not in '%'"),
        ("p50<>5ms", "is no number"),
        ("sqnr<-3dB", "nothing here that it could change from"),
    ],
)
def test_what_is_no_gate_says_why(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refusal:
        parse_gate(text, fixed=("sqnr",))
    assert refusal.value.hint


def test_a_gate_fails_only_when_the_whole_interval_is_beyond() -> None:
    gate = parse_gate("p50>+5%")
    value, base = Range.exact(110.0), Range.exact(100.0)
    verdicts = {
        judge_gate(gate, "m", value, base, Range(1.1, low, high)).verdict: (low, high)
        for low, high in ((1.06, 1.14), (1.02, 1.18), (0.9, 1.05))
    }
    assert verdicts == {"failed": (1.06, 1.14), "unclear": (1.02, 1.18), "passed": (0.9, 1.05)}
    lower = parse_gate("sqnr<20")
    assert judge_gate(lower, "m", Range(19.0, 18.0, 19.9)).verdict == "failed"
    assert judge_gate(lower, "m", Range(19.0, 18.0, 20.5)).verdict == "unclear"
    assert judge_gate(lower, "m", Range.exact(float("inf"))).verdict == "passed"
    assert judge_gate(lower, "m", Range.exact(float("-inf"))).verdict == "failed"


def test_a_change_is_of_both_intervals() -> None:
    outcome = judge_gate(parse_gate("size>+100kB"), "m", Range.exact(3e5), Range.exact(1e5))
    assert (outcome.verdict, outcome.measured) == ("failed", 2e5)
    outcome = judge_gate(parse_gate("rss>+10%"), "m", Range(110, 109, 111), Range(100, 99, 101))
    assert outcome.verdict == "unclear"
    assert outcome.low == pytest.approx(109 / 101 - 1)
    outcome = judge_gate(parse_gate("p50>+1ms"), "m", Range.exact(9.0), Range.exact(5000.0), Range(1.3, 1.25, 1.35))
    assert (outcome.verdict, outcome.measured) == ("failed", pytest.approx(1500))


def test_what_was_not_measured_is_unclear_and_fails_only_the_strict() -> None:
    outcomes = [judge_gate(parse_gate("p50>3ms"), "m", None), judge_gate(parse_gate("size>+1%"), "m", Range.exact(1.0))]
    assert [one.verdict for one in outcomes] == ["unclear", "unclear"]
    assert all(one.reason for one in outcomes)
    require_gates(outcomes)
    with pytest.raises(GateFailed, match="p50>3ms unclear for m"):
        require_gates(outcomes, strict=True)


# -- profiles ----------------------------------------------------------------------------------------------------

HERE = replace(read_environment(), yardstick_us={"arithmetic": 100.0, "memory": 1000.0})
SETTINGS = Settings(rounds=12, min_samples=1, min_time_s=0, max_time_s=0, warmup_s=0, cold_starts=0, seed=0)


def _measured(p50_us: float, name: str = "m", **about: Any) -> Measurement:
    defaults = {"precision": "fp32", "version": "e 1.0", "sha": "0" * 64, "size": 1000, "threads": 1}
    d = {**defaults, **about}
    candidate = Candidate(
        name, "null", d["precision"], None, "null", d["version"], d["threads"], d["sha"], d["size"], False
    )
    rng = np.random.default_rng(len(name))
    rounds = tuple((float(value),) * 5 for value in p50_us * np.exp(rng.normal(0, 0.003, 12)))
    cold = ColdStart(10, 10, 10, 10, total_ms=p50_us / 10, total_spread_ms=0.5, count=3)
    return Measurement(
        candidate, "measured", latency=Latency(rounds), cpu_us=p50_us, cold_start=cold, peak_rss_bytes=50_000_000
    )


def _profile(*measurements: Measurement, environment: Any = HERE) -> Profile:
    return Profile("nowhere/m.onnx", None, environment, SETTINGS, measurements, ())


def _verdicts(now: Profile, then: Profile, *gates: str, **options: Any) -> dict[str, str]:
    found = hold_profile(now, baseline=then, fail_if=gates, **options).gating
    assert found is not None
    return {f"{one.gate} {one.subject}": one.verdict for one in found.gates}


def test_a_baseline_whose_files_are_gone_is_compared_by_the_yardstick() -> None:
    then, slower = _profile(_measured(1000)), _profile(_measured(1150))
    assert _verdicts(slower, then, "p50>+5%", "p90>+5%", "cpu>+1%", "cold>+5%") == {
        "p50>+5% m on null x1": "failed",
        "p90>+5% m on null x1": "failed",
        "cpu>+1% m on null x1": "failed",
        "cold>+5% m on null x1": "failed",
    }
    twice = replace(HERE, yardstick_us={"arithmetic": 115.0, "memory": 1150.0})
    assert set(_verdicts(replace(slower, environment=twice), then, "p50>+5%", "cold>+5%").values()) == {"passed"}
    torn = replace(HERE, yardstick_us={"arithmetic": 100.0, "memory": 1300.0})
    assert set(_verdicts(replace(slower, environment=torn), then, "p50>+5%").values()) == {"unclear"}
    held = hold_profile(slower, baseline=then).gating
    assert held is not None
    assert (held.candidates[0].method, held.candidates[0].verdict) == ("apart", "slower")


def test_numbers_of_another_machine_or_engine_are_judged_only_on_demand() -> None:
    then = _profile(_measured(1000), environment=replace(HERE, cpu="another"))
    now = _profile(_measured(2000, size=2000))
    found = hold_profile(now, baseline=then, fail_if=["p50>+5%", "size>+1%"]).gating
    assert found is not None
    assert [one.verdict for one in found.gates] == ["unclear", "failed"]  # a size is the same on every machine
    assert "cpu another then" in found.gates[0].reason
    assert "cpu another then" in found.machine[0]
    assert set(_verdicts(now, then, "p50>+5%", allow_other_machine=True).values()) == {"failed"}
    newer = _profile(_measured(2000, version="e 2.0"))
    held = hold_profile(newer, baseline=_profile(_measured(1000)), fail_if=["p50>+5%"]).gating
    assert held is not None
    assert "engine e 1.0 then, e 2.0 now" in held.gates[0].reason
    old = replace(then, environment=replace(HERE, yardstick_us=None))
    assert set(_verdicts(now, old, "p50>+5%").values()) == {"unclear"}


def test_alike_are_candidates_of_one_format_precision_recipe_runtime_and_threads() -> None:
    then = _profile(_measured(1000, "a"), _measured(500, "b", precision="w8a8"))
    now = _profile(_measured(1000, "renamed"), _measured(100, "c", threads=2), _measured(1, "d", precision="w8"))
    found = hold_profile(now, baseline=then, fail_if=["p50>+5%"]).gating
    assert found is not None
    assert {(one.title, one.before) for one in found.candidates} == {
        ("renamed on null x1", "a on null x1"),
        ("c on null x2", ""),
        ("d on null x1", ""),
        ("b on null x1", "b on null x1"),
    }
    verdicts = {one.subject: one.verdict for one in found.gates}
    assert verdicts["renamed on null x1"] == "passed"
    assert verdicts["c on null x2"] == "unclear"
    assert verdicts["b on null x1"] == "failed"  # it was there, and is not any more
    with pytest.raises(InputError, match="nothing in"):
        hold_profile(_profile(_measured(1, precision="w4")), baseline=then)


def test_bounds_need_no_baseline_and_changes_do() -> None:
    now = _profile(_measured(1000))
    found = hold_profile(now, fail_if=["p50>3ms", "size>10B", "rss>1MB"]).gating
    assert found is not None
    assert [one.verdict for one in found.gates] == ["passed", "failed", "failed"]
    assert found.baseline is None
    with pytest.raises(InputError, match=r"p50>\+5%: there is nothing to compare with"):
        hold_profile(now, fail_if=["p50>+5%"])


def test_a_baseline_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        hold_profile(_profile(_measured(1)), baseline=tmp_path / "no.json")
    whole = render(_profile(_measured(1)), schema="edgekit.profile")
    for kept in (0, 1, len(whole) // 2, len(whole) - 3):
        (tmp_path / "cut.json").write_text(whole[:kept])
        with pytest.raises(ArtifactError, match="is not JSON"):
            hold_profile(_profile(_measured(1)), baseline=tmp_path / "cut.json")


def test_the_memory_of_few_processes_is_not_taken_for_exact() -> None:
    assert Range.around([100.0], 0.01) == Range(100.0, 99.0, 101.0)
    assert Range.around([100.0, 90.0, 103.0], 0.01) == Range(100.0, 90.0, 103.0)


def test_a_percentile_of_few_calls_is_unclear() -> None:
    """Twelve rounds of five calls: six of ten calls for the 90th percentile, and none of a hundred for the 99th."""
    now, then = _profile(_measured(1500)), _profile(_measured(1000))
    found = hold_profile(now, baseline=then, fail_if=["p90>+5%", "p90>1.2ms", "p99>+5%", "p99>1.2ms"]).gating
    assert found is not None
    assert [one.verdict for one in found.gates] == ["failed", "failed", "unclear", "unclear"]
    assert found.gates[2].reason == "there were too few calls to tell"


def test_files_that_are_still_there_are_timed_in_turns(tmp_path: Path) -> None:
    old, new = write_bundle(tmp_path / "old.edge"), write_bundle(tmp_path / "new.edge")
    quick: dict[str, Any] = {"rounds": 6, "min_samples": 6, "min_time_s": 0.0, "warmup_s": 0.0, "cold_starts": 0}
    then = profile(old, **quick)
    same = hold_profile(profile(new, **quick), baseline=then).gating
    assert same is not None
    assert (same.candidates[0].method, same.candidates[0].reason) == ("apart", "it is the same file")
    # What stands for another file that does the same.
    changed = [replace(m, candidate=replace(m.candidate, artifact_sha256="1" * 64)) for m in then.measurements]
    now = replace(then, source=str(new), measurements=tuple(changed))
    found = hold_profile(now, baseline=then, fail_if=["p50>+900%"], max_time_s=0.0).gating
    assert found is not None
    assert found.candidates[0].method == "in turns"
    assert found.gates[0].verdict == "passed"


def test_a_profile_with_its_gating_reads_back(tmp_path: Path) -> None:
    now = hold_profile(_profile(_measured(1150)), baseline=_profile(_measured(1000)), fail_if=["p50>+5%", "cold>1s"])
    text = render(now, schema="edgekit.profile")
    assert profile_from_json(json.loads(text)).gating == now.gating
    (tmp_path / "old.json").write_text(text)
    again = hold_profile(read_profile(tmp_path / "old.json"), baseline=tmp_path / "old.json", fail_if=["p50>+5%"])
    assert again.gating is not None
    assert again.gating.gates[0].verdict == "passed"


def test_the_yardstick_is_of_work_that_takes_time_and_repeats_itself() -> None:
    first, second = measure_yardstick(), measure_yardstick()
    assert set(first) == {"arithmetic", "memory"}
    assert all(value > 1 for value in first.values())
    assert join_yardsticks(first, second) == {name: min(first[name], second[name]) for name in first}
    assert drift_of({"a": 3.0}, {"a": 2.0}) == {"a": 1.5}
    assert drift_of({"a": 3.0}, None) is None
    assert drift_of({"a": 3.0}, {"b": 3.0}) is None
    assert drift_of({"a": 3.0}, {"a": 0.0}) is None
    assert drift_of({"a": 3.0, "b": 1.0}, {"a": 1.0, "b": float("nan")}) is None
