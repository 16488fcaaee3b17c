"""The search by planted figures: halving, shares of the data, the gate, the front, and what is never asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.conversion.trials import Bar
from edgekit.errors import InputError, UnsupportedError
from edgekit.metrics.intervals import wilson
from edgekit.optimizing.bounds import Costs, best_us
from edgekit.optimizing.cost import parse_budget
from edgekit.optimizing.crew import Crew, LocalExecutor, Unit
from edgekit.optimizing.exam import Agreement, Block, Exam, Labeled
from edgekit.optimizing.front import mark_front
from edgekit.optimizing.journal import Journal, key_of
from edgekit.optimizing.records import STATUSES, TrialRecord
from edgekit.optimizing.store import Store
from edgekit.processing import Processing
from edgekit.recipe import Recipe
from edgekit.registry import METRICS
from edgekit.spec import Signature, TensorSpec
from edgekit.target import Placement, Target
from tests.unit import simulated_bench
from tests.unit.simulated_bench import SimulatedBench, search_with

USUAL = {
    "swift-fp32": 100.0, "plain-fp32": 120.0, "swift-bf16": 70.0, "swift-w8a8 ": 30.0, "plain-w8a8 ": 40.0,
    "swift-w8a8-dynamic": 300.0, "plain-w8a8-dynamic": 60.0, "swift-w8 ": 101.0, "plain-w8 ": 121.0,
    "swift-fp16": 100.0, "plain-fp16": 120.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _two_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.optimizing.space.RUNTIMES", simulated_bench.engines())


@pytest.mark.parametrize("seed", range(5))
def test_the_fastest_that_keeps_enough_is_shipped_whatever_the_noise(seed: int) -> None:
    search = search_with(SimulatedBench(USUAL, noise=0.05, seed=seed))
    assert search.run().title == "swift-w8a8 on swift x2"
    assert search.records()[0].status == "shipped"


def test_what_loses_too_much_is_refused_by_a_share_of_the_data_where_that_is_enough() -> None:
    bench = SimulatedBench(USUAL, lost={"swift-w8a8": 0.3, "plain-w8a8": 0.02})
    search = search_with(bench)
    assert search.run().title == "plain-w8a8-dynamic on plain x2"
    assert {share for title, share in bench.judged if title.startswith("swift-w8a8 ")} == {0}
    assert {share for title, share in bench.judged if title.startswith("plain-w8a8 ")} == {0, 1, 2}
    (refused,) = [r for r in search.records() if r.title == "swift-w8a8 on swift x1"]
    assert (refused.status, refused.metric_count) == ("refused", 32)
    assert "top1 is 0.600 where the source has 0.9 on 32 samples" in refused.reason


def test_most_questions_are_about_those_in_front() -> None:
    bench = SimulatedBench(USUAL)
    search_with(bench).run()
    asked = {share: {title for title, s in bench.judged if s == share} for share in range(3)}
    assert len(asked[2]) <= 4 < len(set(bench.looked))
    assert len(bench.finals) == 1
    assert "swift-w8a8-dynamic on swift x1" not in bench.finals[0]


def test_the_final_has_fp32_of_each_engine_in_it_and_the_best_fp32() -> None:
    bench = SimulatedBench({**USUAL, "swift-fp32": 130.0, "swift-w8a8 ": 90.0, "plain-w8a8 ": 45.0})
    search_with(bench).run()
    assert {"plain-fp32 on plain x2", "swift-fp32 on swift x2"} >= {t for t in bench.finals[0] if "fp32" in t}
    assert "plain-fp32 on plain x2" in bench.finals[0]


def test_nothing_but_fp32_is_shipped_where_all_else_is_slower_or_worse() -> None:
    slow = {name: (us if "fp32" in name else us * 10) for name, us in USUAL.items()}
    search = search_with(SimulatedBench(slow, lost={"swift-bf16": 0.5}))
    assert search.run().title == "swift-fp32 on swift x2"
    worse = search_with(
        SimulatedBench(USUAL, lost={file.name: 0.5 for file in simulated_bench.files("w8a8", "w8a8-dynamic", "bf16")})
    )
    assert worse.run().file.recipe.precision in ("fp32", "fp16", "w8")


def test_the_gate_refuses_what_the_rounds_show_to_be_slower_than_fp32_of_its_engine() -> None:
    """A look may be wrong; the final decides. Here the second engine's fp32 was looked at in a bad moment."""

    class Mistaken(SimulatedBench):
        def _standing(self, entrant: Any) -> dict[str, Any]:
            said = super()._standing(entrant)
            if "fp32" in entrant.title:
                said["score"] *= 3
                said["figures"]["p50_us"] *= 3
            return said

    bench = Mistaken(
        {**USUAL, "swift-w8a8 ": 110.0, "swift-bf16": 115.0, "plain-w8a8 ": 150.0, "plain-w8a8-dynamic": 160.0}
    )
    search = search_with(bench, "fp32", "bf16", "w8a8", "w8a8-dynamic")
    assert search.run().title == "swift-fp32 on swift x2"
    refused = [r for r in search.records() if r.status == "refused"]
    assert refused
    assert all("slower than fp32 of its engine, " in r.reason for r in refused)


def test_a_file_that_cannot_be_made_and_a_process_that_dies_fail_alone() -> None:
    failing = ["swift-w8a8", "plain-w8a8 on plain x1", "plain-fp32"]
    search = search_with(SimulatedBench(USUAL, failing=failing))
    assert search.run().title in ("plain-w8a8 on swift x2", "plain-w8a8 on swift in bf16 x2", "plain-w8a8 on plain x2")
    by_title = {record.title: record for record in search.records()}
    assert by_title["swift-w8a8"].status == "failed"
    assert by_title["plain-w8a8 on plain x1"].reason == "its process died of SIGSEGV"


def test_where_no_fp32_can_be_made_every_reason_is_told() -> None:
    with pytest.raises(UnsupportedError, match="the writer refuses"):
        search_with(SimulatedBench(USUAL, failing=["swift-fp32", "plain-fp32"])).run()


def test_a_format_is_read_by_another_engine_only_where_its_own_file_cannot_be_made() -> None:
    search = search_with(SimulatedBench(USUAL))
    search.run()
    assert not any(e.runtime == "swift" and e.file.format == "plain" for e in search.entrants)
    without = search_with(SimulatedBench(USUAL, failing=["swift-w8a8"]))
    without.run()
    ways = {(e.file.name, e.runtime) for e in without.entrants if e.file.format == "plain" and e.runtime == "swift"}
    assert ways == {("plain-w8a8", "swift")}


@pytest.mark.parametrize("late_after", range(0, 90, 7))
def test_whenever_time_is_up_something_is_shipped_that_was_judged_by_all_of_the_data(late_after: int) -> None:
    bench = SimulatedBench(USUAL, late_after=max(late_after, 6))
    search = search_with(bench)
    shipped = search.run()
    assert shipped.is_fp32 or (shipped.title.rsplit(" x", 1)[0], 2) in {
        (t.rsplit(" x", 1)[0], s) for t, s in bench.judged
    }
    assert {r.status for r in search.records()} <= set(STATUSES)
    assert all(r.reason for r in search.records() if r.status != "shipped")
    assert not [r for r in search.records() if r.status in ("failed", "refused") and "time was up" in r.reason]


def test_what_there_was_no_time_to_judge_is_neither_refused_nor_shipped() -> None:
    class Hurried(SimulatedBench):
        """Time is up when the first file of int8 is to be held against the source in its own way to run."""

        def accept(self, entrants: Any) -> dict[str, str | None]:
            late = {e.title: None for e in entrants if e.file.recipe.precision == "w8a8"}
            self.late_after = 0 if late else self.late_after
            return late

    bench = Hurried(USUAL, failing=["swift-w8a8"])
    search = search_with(bench, "fp32", "w8a8", "w8a8-gptq")
    assert search.run().is_fp32
    kept = {r.title: (r.status, r.reason) for r in search.records()}
    assert kept["plain-w8a8 on swift x1"] == ("made", "time was up")
    assert kept["plain-w8a8-gptq"] == ("skipped", "time was up"), "nobody knows what its kin would lose"
    assert not [title for title, _ in bench.judged]


def test_the_same_answers_give_the_same_choice() -> None:
    records = []
    for _ in range(2):
        search = search_with(SimulatedBench(USUAL, noise=0.1, seed=3))
        search.run()
        records.append([record.to_json() for record in search.records()])
    assert records[0] == records[1]


def test_what_cannot_win_by_its_bound_is_not_made() -> None:
    costs = Costs({"Conv": 10**9, "Gemm": 10**6}, weight_bytes=400_000)
    bench = SimulatedBench(USUAL)
    search = search_with(bench, costs=costs)
    search.run()
    assert not {"swift-w8", "plain-w8", "swift-fp16"} & set(bench.made)
    skipped = {r.title: r.reason for r in search.records() if r.status == "skipped"}
    assert "computes as fp32 does" in skipped["swift-w8"]
    assert "us are measured" in skipped["swift-w8"]


def test_a_bound_flatters_and_never_rules_out_what_memory_holds_back() -> None:
    small, large = Costs({"MatMul": 10**6}, 10**5), Costs({"MatMul": 10**8}, 500 * 10**6)
    weights = Recipe.named("w8")
    assert best_us(weights, None, small, 100.0)[0] > 90
    assert best_us(weights, None, large, 60_000.0)[0] < 60_000 / 2
    place = Placement("uint8", anchors=("Conv",), dynamic=("MatMul",))
    conv = Costs({"Conv": 99, "MatMul": 1}, 0)
    assert best_us(Recipe.named("w8a8-dynamic"), place, conv, 100.0)[0] == pytest.approx(99.0625)
    assert best_us(Recipe.named("w8a8"), place, conv, 100.0)[0] < 8
    assert best_us(Recipe.named("w8a16"), place, conv, 100.0)[0] == pytest.approx(100 * (0.01 + 0.99 / 4))


def test_a_bound_knows_that_products_of_stored_weights_may_be_rounded_in_each_call() -> None:
    """OpenVINO does on VNNI, and ONNX Runtime with weights of 4 bits; MiniLM ran in half the time of fp32 so."""
    here, text = Target.named("generic-x86"), Costs({"MatMul": 10**9}, 4000)
    for precision, format in (("w8", "openvino"), ("w4g32", "openvino"), ("w4g32", "onnx")):
        bound, why = best_us(Recipe.named(precision), here.placements[format], text, 100.0)
        assert bound < 10
        assert "computes as fp32" not in why
        assert best_us(Recipe.named(precision), here.placements[format], Costs({"Conv": 10**9}, 4000), 100.0)[0] > 99
    assert best_us(Recipe.named("fp16"), here.placements["openvino"], text, 100.0)[0] > 99


def test_the_front_is_what_nothing_beats() -> None:
    def trial(title: str, p50: float, size: int, rss: int, value: float | None, status: str = "halved") -> TrialRecord:
        return TrialRecord(title, title, "x", "fp32", "fp32", p50_us=p50, size_bytes=size, peak_rss_bytes=rss,
                           metric_value=value, status=status)  # fmt: skip

    fast, small, both = trial("fast", 1, 9, 9, 0.9), trial("small", 9, 1, 9, 0.9), trial("beaten", 9, 9, 9, 0.9)
    better, gone = trial("better", 9, 9, 9, 0.95), trial("refused", 0.5, 1, 1, 0.1, "refused")
    trials = [fast, small, both, better, gone]
    mark_front(trials, is_higher_better=True)
    assert [one.title for one in trials if one.on_front] == ["fast", "small", "better"]
    mark_front(trials, is_higher_better=False)
    assert [one.title for one in trials if one.on_front] == ["fast", "small"]


@pytest.mark.parametrize(("text", "seconds"), [("10m", 600), ("90s", 90), ("1h30m", 5400), (45, 45), ("2.5m", 150)])
def test_budgets_are_times(text: str | float, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "-5", "0s", "5 minutes", "m", "1e3"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no budget"):
        parse_budget(text)


# -- who does the work -------------------------------------------------------------------------------------------


def echo(store: Store, word: str) -> dict[str, Any]:
    digest = store.put(word.encode())
    return {"word": word, "blobs": [digest]}


def die(store: Store) -> dict[str, Any]:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def units(*words: str) -> list[Unit]:
    return [Unit(word, "tests.unit.test_optimizing:echo", {"word": word}) for word in words]


def test_a_process_that_dies_takes_only_its_own_unit_with_it(tmp_path: Path) -> None:
    with LocalExecutor(1) as executor, Journal(tmp_path / "run.jsonl") as journal:
        crew = Crew(executor, journal, Store(tmp_path / "store"))
        first, dead, last = crew.run([*units("a"), Unit("dies", "tests.unit.test_optimizing:die", {}), *units("b")])
        assert [one and one.get("word") for one in (first, dead, last)] == ["a", None, "b"]
        assert "died of SIGKILL" in (dead or {})["failure"]
        later = Crew(executor, journal, Store(tmp_path / "store"))
        assert later.run(units("a"))[0] == first
        assert (crew.done, crew.known, later.done, later.known) == (3, 0, 0, 1)


def test_workers_that_share_nothing_are_sent_what_they_lack(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    class Elsewhere(ThreadPoolExecutor):
        """Another machine: the same code, and a store of its own."""

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            return super().submit(fn, *args, **{**kwargs, "folder": str(tmp_path / "far")})

    store = Store(tmp_path / "near")
    needed = store.put(b"needed")
    with Elsewhere(1) as executor, Journal(None) as journal:
        crew = Crew(executor, journal, store, is_apart=True)
        unit = Unit("x", "tests.unit.test_optimizing:echo", {"word": "made there"}, (needed,))
        (outcome,) = crew.run([unit])
    assert outcome is not None
    assert Store(tmp_path / "far").read(needed) == b"needed"
    assert store.read(outcome["blobs"][0]) == b"made there"


def test_keys_tell_contexts_apart() -> None:
    assert key_of("a", "bc") != key_of("ab", "c")
    assert units("a")[0].key == units("a")[0].key
    assert Unit("other title", "f", {"x": 1}).key == Unit("title", "f", {"x": 1}).key


# -- judging -----------------------------------------------------------------------------------------------------


def exam(count: int, bar: Bar, ruler: Any) -> Exam:
    signature = Signature((TensorSpec("x", "float32", (1, 3)),), (TensorSpec("y", "float32", (1, 3)),))
    rng = np.random.default_rng(0)
    samples = [(str(i), rng.standard_normal((1, 3)).astype("float32"), {"label": str(i % 3)}) for i in range(count)]
    steps: Any = ({"op": "top_k", "k": 1},) if isinstance(ruler, Labeled) else ()
    processing = Processing(outputs=steps, labels=("0", "1", "2"))
    return Exam(samples, processing, ruler, bar, lambda feeds: {"y": feeds["x"]}, signature)


def test_shares_grow_and_together_are_all_samples_once() -> None:
    one = exam(1000, Bar(max_drop=0.01), Agreement())
    assert one.shares == (32, 128, 1000)
    assert sorted(p for block in range(3) for p in one.places(block)) == list(range(1000))
    assert exam(40, Bar(max_drop=0.01), Agreement()).shares == (40,)


def test_a_loss_is_told_with_an_interval_that_takes_both_answers_to_a_sample_together() -> None:
    one = exam(200, Bar("top1", 0.01, True), Labeled(METRICS.get("top1"), ("0", "1", "2")))
    for block in range(len(one.shares)):
        _, places, own = one.pack(block)
        one.use(block, Block("x", tuple(places), tuple(own)))
    own = [answer for block in range(len(one.shares)) for answer in one._blocks[block].own]
    same = one.judge(own, len(one.shares) - 1)
    assert (same.lost, same.gap) == (0.0, 0.0)
    assert same.lost_interval is not None
    assert same.lost_interval[0] < 0 < same.lost_interval[1], "two hundred samples alike do not make all alike"
    hits = round(same.value * 200)
    assert same.interval == pytest.approx(wilson(hits, 200))
    right = [i for i, place in enumerate(p for b in range(len(one.shares)) for p in one._blocks[b].places)
             if own[i][0]["label"] == str(place % 3)]  # fmt: skip
    worse = list(own)
    for index in right[:20]:
        worse[index] = [{**worse[index][0], "label": str((int(worse[index][0]["label"]) + 1) % 3)}]
    verdict = one.judge(worse, len(one.shares) - 1)
    assert verdict.lost == pytest.approx(0.1)
    assert verdict.lost_interval is not None
    assert 0.05 < verdict.lost_interval[0] < 0.1 < verdict.lost_interval[1] < 0.16
    assert one.is_hopeless(verdict)
    assert "top1 is" in verdict.shortfall


def test_one_sample_that_agrees_is_no_certainty() -> None:
    same = [{"agree": [1, 1], "signal": {"y": 1.0}, "noise": {"y": 0.0}}]
    judged = exam(1, Bar(min_agreement=0.995), Agreement())
    judged.use(0, Block("x", (0,), (None,)))
    verdict = judged.judge(same, 0)
    assert verdict.interval == pytest.approx(wilson(1, 1))
    assert verdict.lost_interval == pytest.approx((0.0, 1 - wilson(1, 1)[0]))
    of_places = judged.judge([{**same[0], "agree": [40, 40]}], 0)
    assert of_places.interval is None, "places of one sample are not samples"


def test_a_recipe_of_more_care_is_made_only_where_its_kin_was_ahead_and_lost_too_much() -> None:
    recipes = ("fp32", "w8a8", "w8a8-gptq")
    plants = {**USUAL, "swift-w8a8-gptq": 31.0, "plain-w8a8-gptq": 41.0}
    content = SimulatedBench(plants)
    search = search_with(content, *recipes)
    search.run()
    assert not any("gptq" in name for name in content.made)
    reasons = {r.title: r.reason for r in search.records()}
    assert reasons["swift-w8a8-gptq"] == "as fast as w8a8, which keeps enough"
    lossy = SimulatedBench(plants, lost={"swift-w8a8": 0.02, "plain-w8a8": 0.02})
    assert search_with(lossy, *recipes).run().title == "swift-w8a8-gptq on swift x2"
