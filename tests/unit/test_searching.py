"""The loop of `auto` with a double that says what would come of each recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgekit.conversion.searching import Budget, Estimate, Found, search
from edgekit.conversion.trials import Bar, Journal, Outcome
from edgekit.errors import ArtifactError
from edgekit.recipe import Recipe, Rule

STATIC = replace(Recipe.named("w8a8"), name="static")
EQUALIZED = replace(STATIC, name="equalized", equalize=True)
DYNAMIC = replace(Recipe.named("w8a8-dynamic"), name="dynamic")
SMALL = Recipe.named("w8")
BAR = Bar(min_sqnr_db=30.0)
LAYERS = [f"layer{index}" for index in range(20)]


def take_out(recipe: Recipe, name: str) -> Recipe:
    return recipe.with_rule(Rule("fp32", name=name))


def exclude(recipe: Recipe) -> list[Callable[[Recipe], Recipe]]:
    return [partial(take_out, name=name) for name in LAYERS]


class Engine:
    """Answers as a net would whose every excluded layer is worth a decibel; remembers what it was asked for."""

    def __init__(self, base: float = 20.0, **others: float) -> None:
        self.asked: list[Recipe] = []
        self.base, self.others = base, others
        self.slow_from = 10**6

    def __call__(self, recipe: Recipe) -> Outcome:
        self.asked.append(recipe)
        decibels = self.others.get(recipe.name, self.base) + len(recipe.rules)
        if recipe.rounding == "adaround":
            decibels += 4
        speed = "slower" if len(recipe.rules) >= self.slow_from else "faster"
        return Outcome(sqnr_db=decibels, speed=speed, time_ratio=1.2 if speed == "slower" else 0.5)


def run(engine: Callable[[Recipe], Outcome], candidates: Sequence[Recipe] = (STATIC,), **options: Any) -> Found:
    return search(candidates, engine, options.pop("bar", BAR), exclude=options.pop("exclude", exclude), **options)


def test_the_first_candidate_that_holds_ends_the_search() -> None:
    engine = Engine(equalized=31.0)
    found = run(engine, [STATIC, EQUALIZED, DYNAMIC])
    assert found.recipe == EQUALIZED
    assert engine.asked == [STATIC, EQUALIZED]


def test_a_candidate_that_holds_but_is_slower_is_not_taken() -> None:
    engine = Engine(static=40.0, dynamic=40.0)

    def slow_static(recipe: Recipe) -> Outcome:
        return replace(engine(recipe), speed="slower" if recipe.precision == "w8a8" else "same")

    assert run(slow_static, [STATIC, DYNAMIC]).recipe == DYNAMIC


def test_what_is_only_slow_is_not_tried_with_better_numbers() -> None:
    engine = Engine(base=40.0)
    engine.slow_from = 0
    found = run(engine, [STATIC, EQUALIZED, DYNAMIC], last=[SMALL])
    assert found.recipe is None
    assert engine.asked == [STATIC, DYNAMIC, SMALL]
    assert "slower than fp32" in found.in_the_way[0]


def test_as_few_operations_leave_the_integers_as_hold() -> None:
    engine = Engine(base=23.0)
    found = run(engine)
    assert found.recipe is not None
    assert [rule.name for rule in found.recipe.rules] == LAYERS[:7]
    assert len(engine.asked) <= 8, "doubled and halved, not one by one"


def test_exclusions_are_made_from_the_nearest_candidate() -> None:
    found = run(Engine(base=15.0, dynamic=28.0), [STATIC, DYNAMIC, EQUALIZED])
    assert found.recipe is not None
    assert found.recipe.precision == "w8a8-dynamic"
    assert len(found.recipe.rules) == 2


def test_layers_are_not_looked_at_where_a_candidate_holds() -> None:
    def must_not(recipe: Recipe) -> list[Callable[[Recipe], Recipe]]:
        raise AssertionError("sensitivity was measured for nothing")

    assert run(Engine(base=33.0), exclude=must_not).recipe == STATIC


def test_an_agreement_that_does_not_grow_steadily_is_looked_for_between() -> None:
    """Few samples flip at borders: 10 exclusions may hold where 8 and 16 do not."""

    def jumpy(recipe: Recipe) -> Outcome:
        return Outcome(sqnr_db=25.0, agreement=1.0 if len(recipe.rules) in (10, 12) else 0.97)

    found = run(jumpy, bar=Bar(min_agreement=0.99))
    assert found.recipe is not None
    assert len(found.recipe.rules) == 10


def test_exclusions_that_leave_too_little_in_integers_are_no_answer() -> None:
    def thins_out(recipe: Recipe) -> Outcome:
        return Outcome(sqnr_db=23.0 + len(recipe.rules), int8_macs_share=0.9 - 0.1 * len(recipe.rules))

    found = run(thins_out)
    assert found.recipe is None
    assert "of the multiplications run in integers" in found.in_the_way[0]
    assert run(thins_out, min_share=0.1).recipe is not None


def test_better_rounding_is_tried_after_exclusions_and_with_them() -> None:
    engine = Engine(base=6.0)
    found = run(engine, improvements=lambda recipe: [{"rounding": "adaround"}], last=[SMALL])
    assert found.recipe is not None
    assert found.recipe.rounding == "adaround"
    assert len(found.recipe.rules) == 20
    roundings = [recipe.rounding for recipe in engine.asked]
    assert roundings == sorted(roundings, reverse=True), "nearest first, all of it"


def test_an_improvement_that_makes_it_worse_is_dropped() -> None:
    def worse_when_clipped(recipe: Recipe) -> Outcome:
        return Outcome(sqnr_db=20.0 - 5 * (recipe.clipping == "mse") + 11 * (recipe.rounding == "adaround"))

    improve = [{"clipping": "mse"}, {"rounding": "adaround"}]
    found = run(worse_when_clipped, exclude=lambda recipe: [], improvements=lambda recipe: improve)
    assert found.recipe == replace(STATIC, rounding="adaround")


def test_the_last_resort_is_last() -> None:
    engine = Engine(base=5.0, w8=36.0)
    found = run(engine, last=[SMALL])
    assert found.recipe == SMALL
    assert engine.asked[-1] == SMALL


def test_what_is_in_the_way_is_said_when_nothing_holds() -> None:
    found = run(Engine(base=5.0), explain=lambda recipe: ["most sensitive: layer0"])
    assert found.recipe is None
    assert found.in_the_way[0].startswith("nearest is 20 operations taken out")
    assert "25.0 dB against the source, and 30 dB are wanted" in found.in_the_way[0]
    assert "most sensitive: layer0" in found.in_the_way


def test_exclusions_that_cost_the_speed_are_in_the_way_too() -> None:
    engine = Engine(base=23.0)
    engine.slow_from = 3
    found = run(engine, exclude=exclude)
    assert found.recipe is None
    assert "slower than fp32, x1.20" in found.in_the_way[0]


def test_a_recipe_no_writer_takes_is_an_outcome_and_not_the_end() -> None:
    def refuses(recipe: Recipe) -> Outcome:
        return Outcome(failure="no kernel") if recipe.name == "static" else Outcome(sqnr_db=31.0)

    assert run(refuses, [STATIC, DYNAMIC]).recipe == DYNAMIC
    found = run(lambda recipe: Outcome(failure="no kernel"))
    assert found.recipe is None
    assert len(found.trials) == 1


def test_why_no_file_can_be_used_is_in_the_way_each_reason_once() -> None:
    def refuses(recipe: Recipe) -> Outcome:
        return Outcome(failure="no kernel" if recipe.precision == "w8a8" else "its process died of SIGSEGV")

    assert run(refuses, [STATIC, EQUALIZED, DYNAMIC], last=[SMALL]).in_the_way == (
        "none of 4 files that were tried can be used",
        "a candidate, w8a8: no kernel",
        "a candidate, w8a8-dynamic: its process died of SIGSEGV",
    )


def test_the_budget_ends_it_and_what_held_by_then_is_taken() -> None:
    engine = Engine(base=23.0)
    found = run(engine, budget=Budget(max_trials=5))  # 8 exclusions hold, and whether fewer do stays unknown
    assert found.recipe is not None
    assert len(found.recipe.rules) == 8
    found = run(Engine(base=23.0), budget=Budget(max_trials=3))
    assert found.recipe is None
    assert "ended after 3 trials" in found.in_the_way[-1]


def test_the_budget_counts_seconds() -> None:
    ticks = iter(range(0, 10_000, 10))
    found = run(Engine(base=5.0), budget=Budget(max_seconds=65.0), clock=lambda: float(next(ticks)))
    assert len(found.trials) == 3
    assert "70 s" in found.in_the_way[-1]


@pytest.mark.parametrize(
    ("seconds", "known", "said"),
    [
        (4.0, 0, "10 files are tried, in about 40 s"),
        (4.0, 7, "10 files are tried, 7 of them known from before, the others in about 12 s"),
        (4.0, 12, "10 files are tried, 10 of them known from before, the others in about 0 s"),
        (9.0, 0, "10 files are tried, in no more than 60 s"),
        (None, 0, "10 files are tried, in no more than 60 s"),
    ],
)
def test_the_cost_is_told_by_what_one_file_takes(seconds: float | None, known: int, said: str) -> None:
    estimate = Estimate.of(Budget(max_trials=10, max_seconds=60), seconds, known)
    assert str(estimate) == f"at most {said}; the first that holds ends it"


def test_the_cost_is_said_before_the_first_file_and_again_by_what_that_took() -> None:
    told: list[str] = []
    ticks = iter(range(0, 10_000, 3))
    engine = Engine(base=23.0)

    def measure(recipe: Recipe) -> Outcome:
        told.append("a file is made")
        return engine(recipe)

    clock = lambda: float(next(ticks))  # noqa: E731
    found = run(measure, budget=Budget(max_trials=20), seconds_a_trial=2.0, say=told.append, clock=clock)
    assert told[0] == "at most 20 files are tried, in about 40 s; the first that holds ends it"
    assert told.index("a file is made") == 2
    again = next(line for line in told if line.startswith("that trial took"))
    assert again == "that trial took 3.0 s; at most 19 more, in no more than 57 s at this rate"
    assert told.index(again) > told.index("a file is made")
    assert sum(line.startswith("that trial took") for line in told) == 1
    assert found.to_json()["estimate"] == {"trials": 20, "known": 0, "seconds": 40.0, "is_limit": False}
    assert found.to_json()["budget"] == {"max_trials": 20, "max_seconds": 900.0}


def test_what_the_journal_knows_costs_nothing(tmp_path: Path) -> None:
    path, told = tmp_path / "trials.jsonl", list[str]()
    first = run(Engine(base=5.0), journal=Journal(path, "net"))
    again = run(Engine(base=5.0), journal=Journal(path, "net"), seconds_a_trial=1.0, say=told.append)
    assert again.estimate is not None
    assert again.estimate.known == len(first.trials)
    assert again.estimate.seconds == Budget().max_trials - len(first.trials)
    assert f"{len(first.trials)} of them known from before" in told[0]
    assert not any(line.startswith("that trial took") for line in told)


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    whole = run(Engine(base=23.0))

    first = Engine(base=23.0)

    def dies(recipe: Recipe) -> Outcome:
        if len(first.asked) == 3:
            raise KeyboardInterrupt
        return first(recipe)

    with pytest.raises(KeyboardInterrupt):
        run(dies, journal=Journal(path, "net"))
    assert len(path.read_text().splitlines()) == 3
    path.write_bytes(path.read_bytes() + b'{"key": "torn')
    second = Engine(base=23.0)
    found = run(second, journal=Journal(path, "net"))
    assert found == whole
    assert len(second.asked) == len(whole.trials) - 3
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_trials_of_another_source_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    run(Engine(base=33.0), journal=Journal(path, "net"))
    other = Engine(base=33.0)
    run(other, journal=Journal(path, "another net"))
    assert len(other.asked) == 1
    renamed = Engine(base=33.0)
    run(renamed, [replace(STATIC, name="x", description="y")], journal=Journal(path, "net"))
    assert not renamed.asked, "a name changes nothing"


def test_a_journal_that_is_none_is_an_artifact_error(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"key": 1, "outcome": {}}\nnonsense\n')
    with pytest.raises(ArtifactError, match="line 2"):
        Journal(path)


def test_a_journal_that_cannot_be_written_is_said_once_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "searches").write_text("a file where the folder is to be")
    told: list[str] = []
    found = run(Engine(base=23.0), journal=Journal(tmp_path / "searches" / "net.jsonl", "net"), say=told.append)
    assert found == run(Engine(base=23.0))
    (lost,) = (line for line in told if line.startswith("a kill would lose the trials"))
    assert "net.jsonl" in lost


def test_a_search_is_the_same_each_time() -> None:
    assert run(Engine(base=17.3), last=[SMALL]).to_json() == run(Engine(base=17.3), last=[SMALL]).to_json()


ALL = Bar("top1", 0.005, min_agreement=0.99, min_sqnr_db=30.0)
BARS = {
    "a share": (Bar("top1", 0.005), Outcome(value=0.875, source_value=0.88), 0.0),
    "too much of a share": (Bar("top1", 0.005), Outcome(value=0.87, source_value=0.88), 0.005),
    "a metric above 1 is relative": (Bar("psnr", 0.01), Outcome(value=29.8, source_value=30.0), 0.0),
    "less is better": (Bar("rmse", 0.01, is_higher_better=False), Outcome(value=2.1, source_value=2.0), 0.04),
    "better than the source": (Bar("rmse", 0.0, is_higher_better=False), Outcome(value=1.9, source_value=2.0), 0.0),
    "agreement": (Bar(min_agreement=0.99), Outcome(agreement=0.97), 0.02),
    "no noise at all": (Bar(min_sqnr_db=30.0), Outcome(sqnr_db=None), 0.0),
    "a decibel is a hundredth": (Bar(min_sqnr_db=30.0), Outcome(sqnr_db=28.5), 0.015),
    "of several the worst, decibels": (ALL, Outcome(sqnr_db=26.0, agreement=0.98, value=0.87, source_value=0.88), 0.04),
    "of several the worst, agreement": (ALL, Outcome(sqnr_db=29.5, agreement=0.97, value=0.9, source_value=0.88), 0.02),
    "of several the worst, metric": (ALL, Outcome(sqnr_db=31.0, agreement=1.0, value=0.845, source_value=0.88), 0.03),
    "all of several": (ALL, Outcome(sqnr_db=30.0, agreement=0.99, value=0.875, source_value=0.88), 0.0),
}


@pytest.mark.parametrize("case", BARS)
def test_a_bar_says_how_far_it_is(case: str) -> None:
    bar, outcome, gap = BARS[case]
    assert bar.gap(outcome) == pytest.approx(gap)
    assert bool(bar.shortfall(outcome)) == (gap > 0)


def test_every_demand_that_is_missed_is_named() -> None:
    said = ALL.shortfall(Outcome(sqnr_db=20.0, agreement=0.9, value=0.8, source_value=0.88))
    assert said.count(" wanted") == 2
    assert "0.50% less is allowed" in said
    assert "30 dB are wanted" in said
    assert ALL.shortfall(Outcome(sqnr_db=31.0, agreement=0.9, value=0.88, source_value=0.88)).count("wanted") == 1


def test_the_nearest_of_several_demands_lacks_least_of_what_it_lacks_most() -> None:
    """A file of good agreement and much noise is no nearer than one that misses both by little."""
    outcomes = {
        "static": Outcome(sqnr_db=21.0, agreement=0.99),
        "equalized": Outcome(sqnr_db=29.0, agreement=0.985),
        "dynamic": Outcome(sqnr_db=30.0, agreement=0.95),
    }
    found = run(
        lambda recipe: outcomes[recipe.name],
        [STATIC, EQUALIZED, DYNAMIC],
        bar=Bar(min_agreement=0.99, min_sqnr_db=30.0),
        exclude=lambda recipe: [],
    )
    assert found.recipe is None
    assert "agrees with the source on 98.50%" in found.in_the_way[0]
    assert "29.0 dB" in found.in_the_way[0]
