"""`auto` on a task: the search of `edgekit convert`, with a bar of its own for each task.

A bar is what the best of the other tools reach, each figure in the engine where it is best, so that no tool reaches all
of one. A file's time is held against its bar as `convert` holds it against fp32: a recipe that is too slow is no
answer. Where none is fast or small enough in an engine, the first that keeps all the rest is taken.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgekit.conversion.preparing import Preparation
from edgekit.conversion.searching import Budget, Found
from edgekit.conversion.trials import Bar, Outcome
from edgekit.conversion.tuning import Tuner
from edgekit.errors import EdgekitError
from edgekit.opening import own_runtimes
from edgekit.recipe import Recipe
from edgekit.registry import CONVERTERS
from edgekit.target import Target
from edgekit.trial import try_file

__all__ = ["GOALS", "Answer", "Goal", "Seen", "Work", "described"]

TARGET = Target.named("generic-x86")
SAMPLES = 4
"""By which the sensitivity of layers is measured."""

NOISE = 1.04
"""So many times a bar's time a file may show: rounds of a minute apart differ by as much."""

BUDGET = Budget(max_trials=28, max_seconds=1200)


@dataclass(frozen=True)
class Goal:
    """What a file is to reach on a task.

    Attributes:
        min_sqnr_db: Of all outputs against fp32.
        least: Of the task's figures.
        most: Of the task's figures, above what fp32 itself has.
        max_size: Beside the fp32 ONNX file.
        max_time: Beside fp32 in the engine; by format, or for all.
    """

    min_sqnr_db: float | None = None
    least: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    max_size: float | None = None
    max_time: float | Mapping[str, float] = 1.0

    def time_in(self, format: str) -> float:
        limit = self.max_time[format] if isinstance(self.max_time, Mapping) else self.max_time
        return NOISE * limit


GOALS: dict[str, dict[str, Goal]] = {
    "d1": {"auto": Goal(18.8, {"agreement": 0.99}, max_time={"openvino": 0.32, "tflite": 0.44, "onnx": 0.52})},
    "d2": {"auto": Goal(least={"f1_fp32": 0.994}, max_size=0.43)},
    "d3": {"auto": Goal(43.0, max_size=0.5)},
    "d4": {"auto": Goal(30.0, {"cosine": 0.9995}, max_size=0.3)},
    "d5": {"auto": Goal(24.3, max_time=0.33), "auto-small": Goal(least={"cosine": 0.975}, max_size=0.2)},
    "d8": {"auto": Goal(least={"identical": 0.7}, most={"cer": 0.0007}, max_time=0.54)},
    "d9": {"auto": Goal(least={"psnr": 36.7}, max_time=0.56)},
    "mn": {"auto": Goal(32.0)},
}
"""The bar of each task; of one with two, each is a way of its own."""


@dataclass(frozen=True)
class Seen:
    """What a file gave on a task.

    Attributes:
        sqnr_db: Of all outputs against fp32.
        figures: The task's own.
        fp32: The same of fp32.
        size: Beside the fp32 ONNX file.
    """

    sqnr_db: float
    figures: Mapping[str, float]
    fp32: Mapping[str, float]
    size: float

    def missing(self, goal: Goal) -> dict[str, float]:
        """What lacks, in words, and how much: each as a share of what is asked for, a dB as a hundredth."""
        found: dict[str, float] = {}
        if goal.min_sqnr_db is not None:
            found[f"{self.sqnr_db:.1f} of {goal.min_sqnr_db:g} dB"] = (goal.min_sqnr_db - self.sqnr_db) / 100
        for name, least in goal.least.items():
            found[f"{name} {self.figures[name]:.4g} of {least:g}"] = 1 - self.figures[name] / least
        for name, more in goal.most.items():
            have, base = self.figures[name], self.fp32[name]
            found[f"{name} {have:.4g}, {base:.4g} in fp32"] = have - base - more
        if goal.max_size is not None:
            found[f"size {self.size:.3f} of {goal.max_size:g}"] = self.size / goal.max_size - 1
        return {words: gap for words, gap in found.items() if gap > 1e-9}


@dataclass(frozen=True)
class _Result(Outcome):
    seen: Seen | None = None
    missing: Mapping[str, float] = field(default_factory=dict)


class _TaskBar(Bar):
    def gap(self, outcome: Outcome) -> float:
        assert isinstance(outcome, _Result)
        return float("inf") if outcome.failure else max(outcome.missing.values(), default=0.0)

    def shortfall(self, outcome: Outcome) -> str:
        assert isinstance(outcome, _Result)
        return outcome.failure or ", ".join(outcome.missing)


@dataclass(frozen=True)
class Answer:
    """What a search came to.

    Attributes:
        file: Of the recipe that was found; None where none was.
        recipe: The same.
        missing: What is in the way, or which part of the goal was given up.
        trials: Files made.
        seconds: All of it.
    """

    file: Path | None
    recipe: Recipe | None
    missing: str
    trials: int
    seconds: float


@dataclass
class Work:
    """A search for one format: it makes and judges one file a trial, and remembers what it tried.

    Attributes:
        goal: What is to be reached.
        model: The fp32 ONNX file.
        calibration: Feeds.
        feeds: By which files are judged.
        judge: From a file's answers by its own names, and the file, to what it gave.
        race: Of a file, its time beside fp32.
        folder: For files.
    """

    format: str
    goal: Goal
    model: Path
    calibration: Sequence[Mapping[str, np.ndarray]]
    feeds: Sequence[Mapping[str, np.ndarray]]
    judge: Callable[[Sequence[Mapping[str, np.ndarray]], Path], Seen]
    race: Callable[[Path], float | None]
    folder: Path
    bar: Bar = field(default_factory=_TaskBar)
    _known: dict[str, _Result] = field(default_factory=dict, init=False)

    def search(self) -> Answer:
        started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        source = CONVERTERS.get("onnx").read(self.model, self.folder)
        self._inputs = source.signature.inputs
        self._preparation = Preparation(source.exports["hub"], lambda: iter(self.calibration), _say)
        placements = {self.format: TARGET.placements[self.format]}
        tuner = Tuner(self._preparation, placements, self.calibration[:SAMPLES], BUDGET, _say)
        found = self._found(tuner)
        missing = "; ".join(found.in_the_way)
        for less in self._less() if found.recipe is None else ():
            self.goal = less
            found = self._found(tuner)
            if found.recipe is not None:
                break
        file = self._make(found.recipe) if found.recipe is not None else None
        return Answer(file, found.recipe, missing, len(self._known), time.monotonic() - started)

    def _less(self) -> list[Goal]:
        """What is asked for where all of it cannot be had: any speed that is not less than fp32's, then any size."""
        untimed = replace(self.goal, max_time=1.0)
        return [untimed, *([replace(untimed, max_size=None)] if self.goal.max_size is not None else [])]

    def _found(self, tuner: Tuner) -> Found:
        return tuner.find(self)  # type: ignore[arg-type]

    def measure(self, recipe: Recipe) -> Outcome:
        key = repr(replace(recipe, name="", description="", rules=tuple(replace(r, reason="") for r in recipe.rules)))
        if key not in self._known:
            self._known[key] = self._measured(recipe)
        result = self._known[key]
        if result.seen is None:
            return result
        result = replace(result, missing=result.seen.missing(self.goal))
        if not result.missing and result.time_ratio is None:
            result = self._known[key] = replace(result, time_ratio=self.race(self._make(recipe)))
        if result.time_ratio is None:
            return result
        return replace(result, speed="slower" if result.time_ratio > self.goal.time_in(self.format) else "faster")

    def _measured(self, recipe: Recipe) -> _Result:
        try:
            file = self._make(recipe)
            trial = try_file(file, own_runtimes(self.format)[0], self.feeds, inputs=self._inputs, timeout_s=900)
        except EdgekitError as error:
            return _Result(failure=str(error).splitlines()[0])
        seen = self.judge(trial.outputs, file)
        figures = ", ".join(f"{name} {value:.4g}" for name, value in seen.figures.items())
        time_ratio = self.race(file) if not seen.missing(self.goal) else None
        timed = f", x{time_ratio:.2f}" if time_ratio is not None else ""
        _say(f"{described(recipe)}: {seen.sqnr_db:.1f} dB, {figures}, size {seen.size:.3f}{timed}")
        share = trial.int8_macs_share
        return _Result(sqnr_db=seen.sqnr_db, int8_macs_share=share, time_ratio=time_ratio, seen=seen)

    def _make(self, recipe: Recipe) -> Path:
        writer = next(converter for _, converter in CONVERTERS if converter.format == self.format)
        graph, plan = self._preparation.finished(recipe, TARGET.placements[self.format])
        file = self.folder / f"model{writer.suffix}"
        writer.write(graph, file, precision=recipe.precision, plan=plan)
        return file


def _say(line: str) -> None:
    print(f"    {line}", file=sys.stderr, flush=True)


def described(recipe: Recipe) -> str:
    """A recipe in a line: its precision, what differs from the plain one, and how many operations have rules."""
    have, plain = recipe.to_json(), Recipe("", recipe.precision).to_json()
    fields = ("observer", "rounding", "clipping", "equalize", "smooth", "correct_biases")
    said = [f"{name} {have[name]}" for name in fields if have[name] != plain[name]]
    rules = [rule.precision for rule in recipe.rules]
    said += [f"{rules.count(name)} x {name}" for name in dict.fromkeys(rules)]
    return ", ".join([recipe.precision, *said])
