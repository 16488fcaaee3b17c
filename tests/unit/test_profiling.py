"""Profiling: the statistics, the order of rounds, and whole profiles of the null engine in real child processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bundle import BundleWriter, Golden
from edgekit.environment import read_environment
from edgekit.errors import ArtifactError, ConversionError, InputError, UnsupportedError
from edgekit.measuring import child
from edgekit.measuring.caveats import about_machine, about_measurements
from edgekit.measuring.records import Candidate, Latency, Measurement, Settings
from edgekit.measuring.results import measurement_of
from edgekit.measuring.rounds import Runner, calls_per_round, run_rounds
from edgekit.measuring.statistics import ROUNDS_TO_TELL, compare_rounds, summarize
from edgekit.profiling import profile
from edgekit.report import markdown, text
from edgekit.report.profile_view import view
from edgekit.runtimes.null import write_null
from edgekit.spec import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))
QUICK: dict[str, Any] = {"rounds": 6, "min_samples": 30, "min_time_s": 0.0, "warmup_s": 0.0, "cold_starts": 0}


def _candidate(name: str = "m", threads: int | None = None) -> Candidate:
    return Candidate(name, "null", "fp32", None, "null", "null", threads, "0" * 64, 10, in_bundle=False)


def _measured(rounds: Sequence[Sequence[float]], name: str = "m") -> Measurement:
    return Measurement(_candidate(name), "measured", latency=Latency(tuple(map(tuple, rounds))))


# -- statistics --------------------------------------------------------------------------------------------------


def test_summary_of_known_samples() -> None:
    found = summarize([4.0, 1.0, 3.0, 2.0, 100.0])
    assert (found.count, found.p50_us, found.min_us, found.max_us, found.mean_us) == (5, 3.0, 1.0, 100.0, 22.0)
    assert found.mad_us == 1.0  # deviations 1, 2, 0, 1, 97
    assert found.p90_us == pytest.approx(4 + 0.6 * 96)  # type 7: at 0.9 * (5 - 1) = 3.6
    assert found.spread == pytest.approx(1.4826 / 3)


@given(st.lists(st.floats(0.01, 1e7), min_size=1, max_size=200))
def test_summary_is_ordered_and_bounded(samples: list[float]) -> None:
    found = summarize(samples)
    assert found.min_us <= found.p50_us <= found.p90_us <= found.p99_us <= found.max_us
    assert found.min_us <= found.mean_us * (1 + 1e-9)
    assert 0 <= found.mad_us <= found.max_us - found.min_us


def test_one_outlier_does_not_move_the_spread() -> None:
    calm = summarize([10.0, 10.1, 9.9] * 30)
    assert summarize([10.0, 10.1, 9.9] * 30 + [1e6]).spread == pytest.approx(calm.spread, rel=0.1)


def test_rounds_are_compared_in_pairs() -> None:
    """The machine slows down threefold half way: pooled, base and candidate overlap; in pairs the answer is plain."""
    base = [[10.0 * speed] * 5 for speed in (1, 1, 1, 1, 1, 3, 3, 3, 3, 3)]
    slower = [[11.0 * speed] * 5 for speed in (1, 1, 1, 1, 1, 3, 3, 3, 3, 3)]
    assert compare_rounds(slower, base) == "slower"
    assert compare_rounds(base, slower) == "faster"
    assert compare_rounds(base, base) == "same"


def test_what_noise_can_explain_is_not_told_as_a_fact() -> None:
    base = [[10.0], [12.0]] * 5
    noisy = [[12.0], [10.0]] * 5
    assert compare_rounds(noisy, base) in ("same", "unclear")
    assert compare_rounds([[1.0], [9.0]] * 5, [[4.0]] * 10) == "unclear"
    assert compare_rounds([[20.0]] * 5, [[10.0]] * 5) == "unclear"  # five rounds cannot prove anything
    assert compare_rounds([[20.0]] * ROUNDS_TO_TELL, [[10.0]] * ROUNDS_TO_TELL) == "slower"
    assert compare_rounds([], base) == "unclear"


# -- caveats -----------------------------------------------------------------------------------------------------


def test_noise_few_samples_and_slowing_down_are_told_with_a_remedy() -> None:
    noisy = _measured([[10.0, 20.0, 30.0] * 20] * 6, "noisy")
    hot = _measured([[10.0], [10.0], [10.0], [13.0], [14.0], [15.0]], "hot")
    kinds = {c.kind: c for c in about_measurements([noisy, hot, hot])}
    assert set(kinds) == {"noise", "few samples", "throttling"}
    assert "noisy on null" in kinds["noise"].message
    assert all(c.remedy for c in kinds.values())


def test_calm_measurements_have_no_caveats() -> None:
    calm = _measured([[10.0, 10.1] * 20] * 6)
    assert list(about_measurements([calm], interval=0.01)) == []


def test_the_machine_is_told_of() -> None:
    here = replace(read_environment(), emulation="", governor="performance", cores=4)
    assert list(about_machine(here, 0.0, 40.0)) == []
    told = about_machine(replace(here, emulation="inside qemu", governor="powersave"), 0.5, 85.0)
    assert [c.kind for c in told] == ["emulation", "busy", "governor", "hot"]


# -- rounds ------------------------------------------------------------------------------------------------------


class _Scripted(Runner):
    """A runner without a process: it writes down what it is asked to do, and fails when told to."""

    log: list[str]
    fails_at: int | None = None

    def open(self) -> None:
        self.signature = SIGNATURE
        self.log.append(f"open {self.candidate.variant}")

    def prepare(self, feeds: Path, settings: Settings) -> None:
        assert feeds.is_file()

    def time(self, keep: bool) -> None:
        if self.fails_at == len(self.rounds):
            raise ConversionError("its process died of SIGSEGV")
        self.log.append(self.candidate.variant if keep else self.candidate.variant.lower())
        self.rounds.append((1.0,))


def _scripted(names: str, log: list[str]) -> list[_Scripted]:
    runners = [_Scripted(_candidate(name), Path("m")) for name in names]
    for runner in runners:
        runner.log = log
    return runners


def _feeds(signature: Signature) -> list[dict[str, np.ndarray]]:
    return [{"x": np.zeros((1, 4), "float32")}]


def _settings(rounds: int = 3, **changes: Any) -> Settings:
    return Settings(
        **{"rounds": rounds, "min_samples": 10, "min_time_s": 0.0, "max_time_s": 1.0, "warmup_s": 0.0,
           "cold_starts": 0, "seed": 0, **changes}
    )  # fmt: skip


def test_all_are_open_before_the_first_round_and_rounds_interleave(tmp_path: Path) -> None:
    log: list[str] = []
    run_rounds(_scripted("ABC", log), _feeds, tmp_path, _settings(), lambda what: None)
    assert log[:3] == ["open A", "open B", "open C"]
    assert "".join(log[3:]) == "abcCBAABCCBA"  # the first, dropped round in small letters; neither is always second


def test_a_candidate_that_dies_takes_no_further_part(tmp_path: Path) -> None:
    log: list[str] = []
    runners = _scripted("ABC", log)
    runners[1].fails_at = 2
    run_rounds(runners, _feeds, tmp_path, _settings(), lambda what: None)
    assert "".join(log[3:]) == "abcCBAACCA"
    assert "SIGSEGV" in str(runners[1].failure)
    assert runners[0].failure is None


@pytest.mark.parametrize(
    ("estimate_us", "changes", "calls"),
    [
        (1000.0, {}, 4),  # 10 samples in 3 rounds
        (1000.0, {"min_time_s": 0.3}, 100),  # 0.3 s of 1 ms
        (1.0, {"min_time_s": 0.3}, 500),  # never more than 500 a round
        (2e6, {}, 1),  # slower than all the time there is: still one a round
        (1e5, {"min_samples": 300}, 4),  # 1 s at most, of 0.1 s each
    ],
)
def test_calls_of_a_round(estimate_us: float, changes: dict[str, Any], calls: int) -> None:
    assert calls_per_round(estimate_us, _settings(**changes)) == calls


def test_answers_are_compared_as_a_share_of_their_range() -> None:
    want = [{"y": np.array([0.0, 10.0], "float32")}]
    assert child.answer_difference(want, [{"y": np.array([0.0, 10.0], "float32")}]) == 0
    assert child.answer_difference(want, [{"y": np.array([0.0, 9.0], "float32")}]) == pytest.approx(0.1)
    assert child.answer_difference(want, [{"y": np.array([0.0, np.nan], "float32")}]) == float("inf")
    assert child.answer_difference(want, [{"y": np.zeros(3, "float32")}]) == float("inf")
    both_nan = [{"y": np.array([np.nan, 1.0], "float32")}]
    assert child.answer_difference(both_nan, both_nan) == 0
    assert child.answer_difference(want, [None]) == 0  # a feed that no timed call had


# -- whole profiles ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three null variants: fp32 of 2 ms, an int8 that is slower, an fp16 that is faster."""
    folder = tmp_path_factory.mktemp("null")
    zeros = {"y": np.zeros((1, 2), "float32")}
    golden = Golden(tuple({"x": np.full((1, 4), i, "float32")} for i in range(2)), (zeros, zeros))
    with BundleWriter(folder / "n.edge") as writer:
        for precision, delay_ms in (("w8a8", 4.0), ("fp32", 2.0), ("fp16", 0.5)):
            file = write_null(folder / f"{precision}.null.json", SIGNATURE, delay_ms=delay_ms)
            writer.add(
                name=f"null-{precision}",
                format="null",
                precision=precision,
                files=[file],
                facts={"tolerance": {"y": 1e-6}, "recipe": {"name": f"recipe-{precision}"}},
            )
        writer.commit(
            name="n", signature=SIGNATURE, processing={}, target="host", golden=golden, statistics={}, provenance={}
        )
    return folder / "n.edge"


@pytest.fixture(scope="module")
def profiled(bundle: Path) -> Any:
    # Of six rounds one that is disturbed makes a comparison unclear, however large the difference; of twelve three do.
    return profile(bundle, **{**QUICK, "rounds": 12, "min_samples": 60, "cold_starts": 2})


def test_ranks_by_latency_and_marks_what_is_slower_than_fp32(profiled: Any) -> None:
    ms = {m.candidate.precision: m for m in profiled.measurements}
    assert [m.candidate.precision for m in profiled.measurements] == ["fp16", "fp32", "w8a8"]
    assert [ms[p].versus_best_fp32 for p in ("fp16", "fp32", "w8a8")] == ["faster", "same", "slower"]
    assert ms["w8a8"].ratio_to_engine_fp32 == pytest.approx(2, rel=0.25)
    assert ms["fp32"].latency.summary.p50_us == pytest.approx(2000, rel=0.3)


def test_every_result_says_what_it_is_of(profiled: Any) -> None:
    for m in profiled.measurements:
        c = m.candidate
        assert c.recipe == f"recipe-{c.precision}"
        assert len(c.artifact_sha256) == 64
        assert (c.runtime, c.runtime_version, m.arithmetic, c.size_bytes > 0) == ("null", "null", "fp32", True)
        assert len(m.latency.rounds_us) == 12
        assert len(m.latency.samples_us) >= 60
    assert profiled.target == "host"
    assert profiled.settings.feeds == "2 golden feeds of the bundle"


def test_waiting_is_latency_but_not_cpu_time(profiled: Any) -> None:
    for m in profiled.measurements:
        assert m.cpu_us < m.p50_us
        assert m.throughput_per_s == pytest.approx(1e6 / m.p50_us, rel=1e-3)


def test_cold_start_adds_up_and_memory_is_plausible(profiled: Any) -> None:
    for m in profiled.measurements:
        c = m.cold_start
        assert c.count == 2
        assert c.first_run_ms >= 0.5
        assert c.process_ms > 5
        assert c.total_ms == pytest.approx(c.process_ms + c.import_ms + c.load_ms + c.first_run_ms, rel=0.2)
        assert 5e6 < m.rss_before_load_bytes <= m.peak_rss_bytes < 500e6


def test_what_this_machine_cannot_say_is_null_with_a_reason(profiled: Any) -> None:
    for m in profiled.measurements:
        assert (m.energy_uj is None) == bool(m.energy_reason)


def test_json_is_whole_and_renders_the_same_numbers(profiled: Any) -> None:
    data = json.loads(json.dumps(profiled.to_json(), allow_nan=False))
    assert (data["schema"], data["version"]) == ("edgekit.profile", 1)
    first = data["measurements"][0]
    assert first["latency"]["p50_us"] == pytest.approx(profiled.measurements[0].p50_us, abs=1e-3)
    assert sum(map(len, first["latency"]["rounds_us"])) == first["latency"]["count"]
    shown = text.render(view(profiled))
    assert "SLOWER" in shown
    assert all(m.candidate.variant in shown for m in profiled.measurements)
    assert "| null-w8a8 |" in markdown.render(view(profiled))


def test_threads_and_runtimes_multiply(bundle: Path) -> None:
    found = profile(bundle, runtime="null", threads=(1, 2), **{**QUICK, "rounds": 1, "min_samples": 1})
    assert sorted((m.candidate.variant, m.candidate.threads) for m in found.measured) == [
        (f"null-{p}", n) for p in ("fp16", "fp32", "w8a8") for n in (1, 2)
    ]
    kinds = {w.kind for w in found.warnings}
    assert {"few samples", "few rounds", "constant output"} <= kinds


def test_a_bare_file_and_progress(tmp_path: Path) -> None:
    said: list[tuple[int, int, str]] = []
    path = write_null(tmp_path / "m.null.json", SIGNATURE)
    found = profile(path, seed=3, progress=lambda *step: said.append(step), **QUICK)
    assert found.measured[0].candidate.variant == "m.null.json"
    assert found.measured[0].ratio_to_best_fp32 is None
    assert found.settings.feeds == "4 random feeds, seed 3"
    assert found.settings.feed_shapes == {"x": [1, 4]}
    assert said[-1][:2] == (said[0][1], said[0][1])
    assert [done for done, _, _ in said] == list(range(len(said)))


def test_open_dimensions_are_measured_at_one_size_and_told(tmp_path: Path) -> None:
    x = TensorSpec("x", "float32", ("batch", "time", 4))
    path = write_null(tmp_path / "m.null.json", Signature((x,), (TensorSpec("y", "float32", ("batch", 2)),)))
    found = profile(path, **QUICK)
    told = next(w for w in found.warnings if w.kind == "open dimensions")
    assert "x[time] = 24" in told.message
    given_feeds = [{"x": np.zeros((1, 7, 4), "float32")}, {"x": np.zeros((1, 9, 4), "float32")}]
    again = profile(path, inputs=given_feeds, **QUICK)
    assert again.settings.feed_shapes == {"x": [1, 7, 4]}
    assert again.settings.feeds == "1 given"


def test_a_variant_that_fails_is_a_row(bundle: Path, tmp_path: Path) -> None:
    """The second variant's golden answers are not what the engine gives: it must not be timed, the others must."""
    golden = Golden(({"x": np.zeros((1, 4), "float32")},), ({"y": np.ones((1, 2), "float32")},))
    with BundleWriter(tmp_path / "b.edge") as writer:
        for name, tolerance in (("good", 2.0), ("bad", 0.1)):
            file = write_null(tmp_path / f"{name}.null.json", SIGNATURE)
            writer.add(name=name, format="null", precision="fp32", files=[file], facts={"tolerance": {"y": tolerance}})
        writer.commit(
            name="b", signature=SIGNATURE, processing={}, target="host", golden=golden, statistics={}, provenance={}
        )
    found = profile(tmp_path / "b.edge", **QUICK)
    assert [(m.candidate.variant, m.status) for m in found.measurements] == [("good", "measured"), ("bad", "failed")]
    assert "golden" in found.measurements[1].reason
    assert found.measurements[1].to_json()["latency"] is None
    assert "Not measured" in text.render(view(found))


def test_no_number_is_shown_of_wrong_answers() -> None:
    runner = Runner(_candidate(), Path("m"), rounds=[(1.0, 2.0)], difference=0.01)
    found = measurement_of(runner)
    assert (found.status, found.latency, found.cpu_us) == ("wrong", None, None)
    assert "1.0e-02" in found.reason
    assert measurement_of(Runner(_candidate(), Path("m"), rounds=[(1.0,)], cpu_us=[1.0])).status == "measured"


def test_wrong_use_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        profile(bundle, rounds=0)
    with pytest.raises(UnsupportedError, match="tflite"):
        profile(bundle, runtime="tflite")
    with pytest.raises(UnsupportedError, match="no runtime named"):
        profile(bundle, runtime="tflight")
    with pytest.raises(ArtifactError):
        profile(tmp_path / "nothing.tflite")
    model = write_null(tmp_path / "m.null.json", SIGNATURE)  # one candidate: each is started to be asked what it takes
    with pytest.raises(InputError, match="z"):
        profile(model, inputs=[{"z": np.zeros(3, "float32")}], **QUICK)
    with pytest.raises(InputError, match="no inputs"):
        profile(model, inputs=[], **QUICK)
