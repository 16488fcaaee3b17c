"""`auto` on real files: the policy of the net's kind, its layers' sensitivity, and one file made for every trial."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.conversion.acceptance import Accepted, accept
from edgekit.conversion.gate import TimedFile, compare_speed
from edgekit.conversion.goal import AGREEMENT, Goal
from edgekit.conversion.preparing import Preparation
from edgekit.conversion.reference import Reference
from edgekit.conversion.searching import Budget, Found, search
from edgekit.conversion.trials import Bar, Journal, Outcome
from edgekit.converter import Feeds, SourceModel, Written
from edgekit.errors import EdgekitError, UnsupportedError
from edgekit.recipe import Recipe
from edgekit.target import Placement

__all__ = ["DEFAULT_AGREEMENT", "DEFAULT_SQNR_DB", "SENSITIVE_SAMPLES", "Bench", "Tuner", "default_bar"]

DEFAULT_AGREEMENT = 0.99
"""Of a model that names classes, what a file must agree with the source where the user says nothing else."""

DEFAULT_SQNR_DB = 20.0
"""The same of any other model: an error of a tenth of the signal."""

SENSITIVE_SAMPLES = 4
_SHOWN_LAYERS = 3
_NAMES_CLASSES = ("top_k", "argmax", "class_map")


def default_bar(outputs: Sequence[Mapping[str, Any]]) -> Bar:
    """What a file must keep where there is no labelled data, by what a processing makes of its outputs."""
    if any(step.get("op") in _NAMES_CLASSES for step in outputs):
        return Bar(min_agreement=DEFAULT_AGREEMENT)
    return Bar(min_sqnr_db=DEFAULT_SQNR_DB)


@dataclass
class Bench:
    """Makes one file a trial, in a folder of its own that is deleted when the next one comes.

    Attributes:
        format: Of the files.
        make: Writes a file by a recipe into a folder.
        source: What it is held against.
        reference: Its answers.
        bar: What decides whether timing is worth it.
        folder: For the files.
        goal: A metric on labelled data; None judges by the reference.
        base: The fp32 file it is timed against; None where the target is not this machine.
        threads: For timing.
    """

    format: str
    make: Callable[[Recipe, Path], Written]
    source: SourceModel
    reference: Reference
    bar: Bar
    folder: Path
    goal: Goal | None = None
    base: TimedFile | None = None
    threads: int = 1

    def measure(self, recipe: Recipe) -> Outcome:
        """What comes of it; a typed error of a writer, an engine or a judge is an outcome too."""
        place = self.folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        try:
            written = self.make(recipe, place)
            accepted = accept(written, self.format, recipe, self.source, self.reference)
            outcome = self._outcome(written, accepted)
            if self.base is None or self.bar.gap(outcome) > 0:
                return outcome
            speed = compare_speed(
                TimedFile(written.files[0], accepted.trial.input_names),
                self.base,
                self.reference.feeds,
                format=self.format,
                runtime=accepted.runtime,
                threads=self.threads,
            )
        except EdgekitError as error:
            return Outcome(failure=str(error).splitlines()[0])
        return replace(outcome, speed=speed.verdict, time_ratio=speed.ratio)

    def _outcome(self, written: Written, accepted: Accepted) -> Outcome:
        judged = self.goal.judge(written.files[0], accepted) if self.goal is not None else None
        parity = accepted.parity.to_json()
        agrees = judged.value if judged is not None and judged.metric == AGREEMENT else parity["top1_agreement"]
        is_metric = judged is not None and judged.metric != AGREEMENT
        return Outcome(
            sqnr_db=parity["sqnr_db"],
            agreement=agrees,
            value=judged.value if is_metric and judged is not None else None,
            source_value=judged.source_value if is_metric and judged is not None else None,
            int8_macs_share=accepted.trial.int8_macs_share,
            size_bytes=sum(file.stat().st_size for file in written.files),
        )


@dataclass
class Tuner:
    """One source, whose sensitivity is measured once for all formats of a recipe.

    Attributes:
        preparation: Its graph and plans under all recipes.
        placements: By format.
        samples: A few typical feeds.
        budget: Of each format's search.
        say: Told of every trial.
    """

    preparation: Preparation
    placements: Mapping[str, Placement]
    samples: Sequence[Feeds]
    budget: Budget = field(default_factory=Budget)
    say: Callable[[str], None] = lambda line: None
    _measured: dict[str, Any] = field(default_factory=dict, init=False)

    def find(
        self,
        bench: Bench,
        *,
        journal: Journal | None = None,
        first: Sequence[Recipe] = (),
        seconds_a_trial: float | None = None,
    ) -> Found:
        """The recipe for one format.

        Args:
            bench: Makes and judges its files.
            journal: Of trials of before.
            first: Recipes to try before those of the policy, such as one that held in another format.
            seconds_a_trial: What making and verifying a file took before.
        """
        from edgekit.quantize.policies import policy_for

        policy = policy_for(self.preparation.source)
        self.say(f"{bench.format}: {policy.title}; {len(policy.candidates)} candidates before layers are looked at")
        return search(
            [*first, *policy.candidates],
            bench.measure,
            bench.bar,
            exclude=lambda recipe: self._exclusions(recipe, bench.format),
            improvements=lambda recipe: self._improvements(recipe, bench.format, policy.improvements),
            last=policy.last,
            budget=self.budget,
            journal=journal,
            seconds_a_trial=_with_judging(seconds_a_trial, bench.goal),
            explain=lambda recipe: self._explain(recipe, bench.format),
            say=lambda line: self.say(f"{bench.format}: {line}"),
        )

    def sensitivity(self, recipe: Recipe) -> Any:
        """Of every operation by this recipe, in all formats that can follow it; see `edgekit.quantize.sensitivity`."""
        from edgekit.quantize.sensitivity import sensitivity

        plans = [plan for name in self.placements if (plan := self._plan(recipe, name)) is not None]
        key = _key(recipe)
        known = self._measured.get(key)
        if known is None or any(unit not in known.noises for plan in plans for unit in known.units(plan)):
            samples = self.samples[:SENSITIVE_SAMPLES]
            self.say(f"measuring the sensitivity of every layer on {len(samples)} samples")
            self._measured[key] = sensitivity(self.preparation.graph(recipe), plans, samples)
        return self._measured[key]

    def known_sensitivity(self, recipe: Recipe) -> Any:
        """What a search has measured of this recipe's layers; None where it has not."""
        return self._measured.get(_key(recipe))

    def _plan(self, recipe: Recipe, format: str) -> Any:
        """The plan for a format; None where it has none for this recipe."""
        try:
            return self.preparation.plan(recipe, self.placements[format])
        except UnsupportedError:
            return None  # whether this format has one is told where a file of it is made

    def _exclusions(self, recipe: Recipe, format: str) -> list[Callable[[Recipe], Recipe]]:
        from edgekit.quantize.excluding import in_steps, rank_exclusions, without

        plan = self._plan(recipe, format)
        if plan is None:
            return []
        graph, found = self.preparation.graph(recipe), self.sensitivity(recipe)
        ranked = rank_exclusions(graph, plan, found, self.placements[format])
        return [partial(without, exclusions=step) for step in in_steps(ranked, found.predict_db(plan))]

    def _improvements(self, recipe: Recipe, format: str, known: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Fields of a recipe; those first that better the part of which most of the noise is."""
        plan = self._plan(recipe, format)
        share = self.sensitivity(recipe).weights_share(plan) if plan is not None else 1.0
        limit = "weights" if share >= 0.5 else "activations"
        ordered = sorted(known, key=lambda one: one["of"] != limit)
        return [{key: value for key, value in one.items() if key != "of"} for one in ordered]

    def _explain(self, recipe: Recipe, format: str) -> list[str]:
        plan = self._plan(recipe, format)
        if plan is None:
            return []
        found = self.sensitivity(recipe)
        layers = sorted(found.layers(plan), key=lambda layer: layer.sqnr_db)[:_SHOWN_LAYERS]
        worst = ", ".join(f"{layer.name} ({layer.op_type}, {layer.sqnr_db:.1f} dB alone)" for layer in layers)
        share = found.weights_share(plan)
        return [
            f"most sensitive: {worst}",
            f"{share:.0%} of the noise is of weights, {1 - share:.0%} of activations; "
            f"{found.predict_db(plan):.1f} dB if all that is rounded adds up",
        ]


def _with_judging(seconds: float | None, goal: Goal | None) -> float | None:
    """A file is judged by all of the goal's data; it is only timed where it holds, which hardly counts."""
    return seconds if seconds is None or goal is None else seconds + goal.seconds


def _key(recipe: Recipe) -> str:
    """How weights are rounded changes little of which layers matter; what is integer at all does."""
    return repr((recipe.precision, recipe.smooth, recipe.equalize))
