"""The search of `auto`: recipes tried on real files, the cheapest first, until one holds and is not slower.

Nothing here knows an engine or a format: a function makes a file by a recipe and says what came of it, and all the
search decides by is that. When no candidate of the policy holds, operations leave the integers in the order their
sensitivity gives, as few as do; then rounding is improved; then what keeps accuracy for little gain is taken. Every
trial is written down at once, so that a search that was killed goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

from edgekit.conversion.trials import Bar, Journal, Outcome
from edgekit.recipe import Recipe

__all__ = ["Budget", "Estimate", "Found", "Trial", "search"]

_SLOWER = "slower"
_SHOWN = 3
_TAKES = 8
"""Exclusions tried before the next step has its turn."""


@dataclass(frozen=True)
class Budget:
    """What a search may cost. Trials that are read from the journal count, but take no time."""

    max_trials: int = 32
    max_seconds: float = 900.0


@dataclass(frozen=True)
class Estimate:
    """What a search will cost at most, said before it begins.

    Attributes:
        trials: Files that may be tried.
        known: How many of them are read from the journal and take no time.
        seconds: For the others.
        is_limit: Whether `seconds` is where the budget ends it, and not what so many files take.
    """

    trials: int
    known: int
    seconds: float
    is_limit: bool

    @classmethod
    def of(cls, budget: Budget, seconds_a_trial: float | None, known: int = 0) -> Estimate:
        """From what making and verifying one file takes; None where none was made yet."""
        known = min(known, budget.max_trials)
        new = budget.max_trials - known
        seconds = new * (seconds_a_trial if seconds_a_trial is not None else math.inf) if new else 0.0
        return cls(budget.max_trials, known, min(seconds, budget.max_seconds), seconds >= budget.max_seconds)

    def __str__(self) -> str:
        known = f", {self.known} of them known from before, the others" if self.known else ","
        about = "no more than" if self.is_limit else "about"
        ends = "the first that holds ends it"
        return f"at most {self.trials} files are tried{known} in {about} {self.seconds:.0f} s; {ends}"


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried, in which step of the search, and what came of it."""

    step: str
    recipe: Recipe
    outcome: Outcome


@dataclass(frozen=True)
class Found:
    """The answer.

    Attributes:
        recipe: The first that holds and is not slower; None where there is none.
        trials: All that were tried, in order.
        in_the_way: Where there is none: what is missing of the nearest, which layers bring most of the noise, and what
            ended the search.
        budget: What it could have cost.
        estimate: The same as it was said before it began, by the time a file takes here.
    """

    recipe: Recipe | None
    trials: tuple[Trial, ...]
    in_the_way: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    estimate: Estimate | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        trials = [{"step": t.step, "recipe": t.recipe.to_json(), "outcome": asdict(t.outcome)} for t in self.trials]
        found = self.recipe.to_json() if self.recipe is not None else None
        return {
            "recipe": found,
            "trials": trials,
            "in_the_way": list(self.in_the_way),
            "budget": asdict(self.budget),
            "estimate": asdict(self.estimate) if self.estimate is not None else None,
        }


Exclude = Callable[[Recipe], Sequence[Callable[[Recipe], Recipe]]]
"""For a recipe the operations to take out of it, in steps, the first to go in front: each adds rules to a recipe."""

Improve = Callable[[Recipe], Sequence[Mapping[str, Any]]]
"""For a recipe the fields that may better it, the most promising first."""


class _BudgetSpent(Exception):  # noqa: N818 - it ends a search, it is no error
    pass


def search(
    candidates: Sequence[Recipe],
    measure: Callable[[Recipe], Outcome],
    bar: Bar,
    *,
    exclude: Exclude,
    improvements: Improve = lambda recipe: (),
    last: Sequence[Recipe] = (),
    min_share: float = 0.5,
    budget: Budget | None = None,
    journal: Journal | None = None,
    seconds_a_trial: float | None = None,
    explain: Callable[[Recipe], Iterable[str]] = lambda recipe: (),
    say: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Tries recipes until one holds and is not slower.

    Args:
        candidates: The cheapest and fastest first.
        measure: Makes, verifies and times a real file.
        bar: What it must keep.
        exclude: Which operations to take out of a recipe; asked only when no candidate holds.
        improvements: Fields of a recipe, each tried on the nearest so far, and kept where they bring it nearer.
        last: Recipes to fall back on.
        min_share: Of the multiplications, what must really run in integers for exclusions to be an answer.
        budget: Where it ends at the latest.
        journal: Of trials of before.
        seconds_a_trial: What making and judging one file takes about, such as the fp32 file did; None for unknown.
        explain: What is in the way of a recipe, such as its most sensitive layers.
        say: Told what it will cost before it begins, and of every trial.
        clock: Seconds.
    """
    budget, journal = budget or Budget(), journal if journal is not None else Journal(None)
    estimate = Estimate.of(budget, seconds_a_trial, len(journal))
    say(str(estimate))
    run = _Run(measure, bar, min_share, budget, journal, say, clock)
    try:
        found = next(run.steps(candidates, exclude, improvements, last), None)
        why: tuple[str, ...] = ()
    except _BudgetSpent as spent:
        found, why = run.held(), (str(spent),)
    if found is not None:
        return Found(found, tuple(run.trials), (), budget, estimate)
    nearest = run.nearest()
    if nearest is not None:
        said = (f"nearest is {nearest.step}: {run.complaint(nearest)}", *explain(nearest.recipe))
    else:
        said = _failures(run.trials)
    return Found(None, tuple(run.trials), (*said, *why), budget, estimate)


def _failures(trials: Sequence[Trial]) -> tuple[str, ...]:
    """Why there is no file at all, each reason once."""
    first = {trial.outcome.failure: trial for trial in reversed(trials)}
    found = [f"{one.step}, {one.recipe.precision}: {why}" for why, one in reversed(first.items())][:_SHOWN]
    return (f"none of {len(trials)} files that were tried can be used", *found)


class _Run:
    def __init__(
        self,
        measure: Callable[[Recipe], Outcome],
        bar: Bar,
        min_share: float,
        budget: Budget,
        journal: Journal,
        say: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.trials: list[Trial] = []
        self._measure, self._bar, self._budget, self._journal = measure, bar, budget, journal
        self._min_share = min_share
        self._say, self._clock = say, clock
        self._start = clock()
        self._took: list[float] = []

    def steps(
        self,
        candidates: Sequence[Recipe],
        exclude: Exclude,
        improvements: Improve,
        last: Sequence[Recipe],
    ) -> Iterator[Recipe]:
        """Recipes that hold, each found with as little as possible when it is asked for."""
        slow: set[Hashable] = set()
        for recipe in candidates:
            if _form(recipe) in slow:
                continue
            trial = self._try("a candidate", recipe)
            if self._holds(trial):
                yield recipe
            if self._reaches(trial):
                slow.add(_form(recipe))
        nearest = self.nearest()
        if nearest is not None and not self._reaches(nearest):  # what is only slow gets no faster by being better
            yield from self._excluding(nearest.recipe, exclude)
            yield from self._improving(nearest, exclude, improvements)
        for recipe in last:
            if self._holds(self._try("a last resort", recipe)):
                yield recipe

    def _improving(self, base: Trial, exclude: Exclude, improvements: Improve) -> Iterator[Recipe]:
        best = base
        for fields_ in improvements(base.recipe):
            recipe = replace(best.recipe, **fields_)
            if recipe == best.recipe:
                continue
            trial = self._try(f"with {', '.join(f'{k} {v}' for k, v in fields_.items())}", recipe)
            if self._holds(trial):
                yield recipe
            if self._order(trial) < self._order(best):
                best = trial
        if best is not base:
            yield from self._excluding(best.recipe, exclude)

    def _excluding(self, base: Recipe, exclude: Exclude) -> Iterator[Recipe]:
        """The fewest exclusions that hold: doubled until they do, then halved between; else what lies between."""
        steps = exclude(base)

        def trial(count: int) -> Trial:
            recipe = base
            for add in steps[:count]:
                recipe = add(recipe)
            out = len(recipe.rules) - len(base.rules)
            return self._try(f"{out} operations taken out, step {count} of {len(steps)}", recipe)

        failed = [0]
        for number, count in enumerate(_counts(len(steps))):
            if number >= _TAKES:
                return
            one = trial(count)
            if self._reaches(one):
                below = max(fails for fails in failed if fails < count)
                yield from self._fewest(trial, below, one, count)
                return
            failed.append(count)

    def _fewest(self, trial: Callable[[int], Trial], fails: int, best: Trial, holds: int) -> Iterator[Recipe]:
        while holds - fails > 1:
            middle = (holds + fails) // 2
            one = trial(middle)
            if self._reaches(one):
                holds, best = middle, one
            else:
                fails = middle
        if self._holds(best) and self._is_enough(best):
            yield best.recipe

    def _try(self, step: str, recipe: Recipe) -> Trial:
        outcome = self._journal.find(recipe)
        if outcome is None:
            spent = self._clock() - self._start
            if len(self.trials) >= self._budget.max_trials or spent >= self._budget.max_seconds:
                raise _BudgetSpent(f"ended after {len(self.trials)} trials and {spent:.0f} s, as much as is allowed")
            self._correct(spent)
            self._say(f"trial {len(self.trials) + 1}, {step}: {recipe.precision}, {recipe.description or recipe.name}")
            outcome = self._measure(recipe)
            self._took.append(self._clock() - self._start - spent)
            if why := self._journal.keep(recipe, outcome):
                self._say(f"a kill would lose the trials, for they cannot be kept: {why}")
        trial = Trial(step, recipe, outcome)
        self.trials.append(trial)
        self._say(f"trial {len(self.trials)}: {'it holds' if self._holds(trial) else self.complaint(trial)}")
        return trial

    def _correct(self, spent: float) -> None:
        """Says anew what may be left of the cost, once there is a trial to tell it by."""
        if len(self._took) != 1:
            return
        left, (took,) = self._budget.max_trials - len(self.trials), self._took
        seconds = min(left * took, self._budget.max_seconds - spent)
        self._say(f"that trial took {took:.1f} s; at most {left} more, in no more than {seconds:.0f} s at this rate")

    def _reaches(self, trial: Trial) -> bool:
        return self._bar.gap(trial.outcome) == 0

    def _is_enough(self, trial: Trial) -> bool:
        """Whether enough is left in integers, or nobody can say."""
        share = trial.outcome.int8_macs_share
        return share is None or share >= self._min_share

    def _holds(self, trial: Trial) -> bool:
        return self._reaches(trial) and trial.outcome.speed != _SLOWER

    def complaint(self, trial: Trial) -> str:
        slow = f"slower than fp32, x{trial.outcome.time_ratio or 0:.2f}" if trial.outcome.speed == _SLOWER else ""
        share = trial.outcome.int8_macs_share
        few = f"only {share:.0%} of the multiplications run in integers" if share and not self._is_enough(trial) else ""
        return self._bar.shortfall(trial.outcome) or slow or few

    def held(self) -> Recipe | None:
        """The last recipe that held, which a search may have been about to better."""
        held = (trial for trial in reversed(self.trials) if self._holds(trial) and self._is_enough(trial))
        return next((trial.recipe for trial in held), None)

    def nearest(self) -> Trial | None:
        """Of the trials that gave a file the one with the smallest gap; of equal ones that with the least noise."""
        ran = [trial for trial in self.trials if not trial.outcome.failure]
        return min(ran, key=self._order, default=None)

    def _order(self, trial: Trial) -> tuple[float, float]:
        sqnr_db = trial.outcome.sqnr_db
        return self._bar.gap(trial.outcome), -(sqnr_db if sqnr_db is not None else float("inf"))


def _form(recipe: Recipe) -> Hashable:
    """What of a recipe decides how fast a file is: what is an integer, not which."""
    return recipe.precision, recipe.rules, repr(recipe.compress), recipe.smooth


def _counts(most: int) -> Iterator[int]:
    """1, 2, 4, ... and all; then, for what need not grow steadily, what lies in the middle of the widest gaps."""
    tried: list[int] = []
    count = 1
    while count < most:
        tried.append(count)
        yield count
        count *= 2
    if most:
        tried.append(most)
        yield most
    while gaps := [(one - other, one) for other, one in pairwise(tried) if one - other > 1]:
        width, above = max(gaps)
        tried = sorted([*tried, above - width // 2])
        yield above - width // 2
