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
    found = run(Engine(base=5.0), budget=Budget(max_seconds=35.0), clock=lambda: float(next(ticks)))
    assert len(found.trials) == 3
    assert "40 s" in found.in_the_way[-1]


def test_the_cost_is_said_before() -> None:
    estimate = Estimate.of(Budget(max_trials=10, max_seconds=60), seconds_a_trial=4.0)
    assert (estimate.trials, estimate.seconds) == (10, 40.0)
    assert "at most 10 files" in str(estimate)
    assert Estimate.of(Budget(max_trials=100, max_seconds=60), 4.0).seconds == 60


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


def test_a_search_is_the_same_each_time() -> None:
    assert run(Engine(base=17.3), last=[SMALL]).to_json() == run(Engine(base=17.3), last=[SMALL]).to_json()


BARS = {
    "a share": (Bar("top1", 0.005), Outcome(value=0.875, source_value=0.88), 0.0),
    "too much of a share": (Bar("top1", 0.005), Outcome(value=0.87, source_value=0.88), 0.005),
    "a metric above 1 is relative": (Bar("psnr", 0.01), Outcome(value=29.8, source_value=30.0), 0.0),
    "less is better": (Bar("rmse", 0.01, is_higher_better=False), Outcome(value=2.1, source_value=2.0), 0.04),
    "better than the source": (Bar("rmse", 0.0, is_higher_better=False), Outcome(value=1.9, source_value=2.0), 0.0),
    "agreement": (Bar(min_agreement=0.99), Outcome(agreement=0.97), 0.02),
    "no noise at all": (Bar(min_sqnr_db=30.0), Outcome(sqnr_db=None), 0.0),
}


@pytest.mark.parametrize("case", BARS)
def test_a_bar_says_how_far_it_is(case: str) -> None:
    bar, outcome, gap = BARS[case]
    assert bar.gap(outcome) == pytest.approx(gap)
    assert bool(bar.shortfall(outcome)) == (gap > 0)
