"""What a user wants of the recipe that is searched for, and where its trials are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.cache import cache_folder
from edgekit.conversion.calibration import CalibrationData
from edgekit.conversion.goal import AGREEMENT, Goal, parse_decibels, parse_drop
from edgekit.conversion.searching import Budget
from edgekit.conversion.trials import Bar, Journal
from edgekit.conversion.tuning import default_bar
from edgekit.converter import SourceModel
from edgekit.datasets import Dataset
from edgekit.errors import InputError
from edgekit.plan import Plan
from edgekit.recipe import AUTO, Recipe
from edgekit.registry import installed

__all__ = ["Wanted", "Wish", "make_wish", "searched"]

ENGINES = ("ai-edge-litert", "onnxruntime", "openvino")

DEFAULT_DROP = 0.005
"""Of a metric, where the user gives data and says no more."""


@dataclass(frozen=True)
class Wish:
    """What a file must keep, and what finding it may cost.

    Attributes:
        goal: A metric on the user's data; None judges by the samples held out from calibration.
        bar: What must be kept; None where nothing is searched for.
        budget: Of each format's search.
        context: What decides the outcome of a trial beside the recipe and the format, such as hashes of source and
            data; empty keeps no trials.
        max_drop: What the user lets a file lose of a metric, as a share; None where nothing was said.
    """

    goal: Goal | None = None
    bar: Bar | None = None
    budget: Budget = field(default_factory=Budget)
    context: str = ""
    max_drop: float | None = None

    def journal(self, format: str) -> Journal | None:
        """The trials of before, of a search that was killed for instance."""
        if not self.context:
            return None
        return Journal(cache_folder() / "searches" / f"{self.context[:32]}-{format}.jsonl", f"{self.context} {format}")


@dataclass(frozen=True)
class Wanted:
    """What a user said of the recipe to be searched for.

    Attributes:
        data: Labeled data; None for none.
        metric: Of them.
        max_drop: The percentage of it that may be lost.
        min_sqnr_db: Signal to noise against the source that must be kept, alone or beside the metric.
        seed: By which samples are drawn.
        own: The data set of a model by name, which takes the place of missing `data`.
    """

    data: str | Path | None = None
    metric: str | None = None
    max_drop: float | str | None = None
    min_sqnr_db: float | str | None = None
    seed: int = 0
    own: Dataset | None = None


def searched(recipes: Sequence[Recipe], wanted: Wanted) -> list[Recipe]:
    """The recipes, of which int8 is searched for where something is said of what it may lose.

    Raises:
        InputError: Something is said, and no recipe is searched for.
    """
    said = {
        "--eval-data": wanted.data,
        "--metric": wanted.metric,
        "--max-drop": wanted.max_drop,
        "--min-sqnr": wanted.min_sqnr_db,
    }
    given = [name for name, value in said.items() if value is not None]
    chosen = [Recipe.named(AUTO) if given and one == Recipe.named("w8a8") else one for one in recipes]
    if given and not any(one.name == AUTO for one in chosen):
        raise InputError(f"{', '.join(given)} is for int8 that is searched for", hint="--precision int8, or auto")
    return list({recipe.name: recipe for recipe in chosen}.values())


def make_wish(
    wanted: Wanted, source: SourceModel, data: CalibrationData, plan: Plan, provenance: Mapping[str, Any]
) -> Wish:
    """From what the user said to what is searched for.

    Raises:
        InputError: A metric is named and there is no data for it; data cannot be read; a limit is no number.
    """
    drop = None if wanted.max_drop is None else parse_drop(wanted.max_drop)
    if not any(variant.is_searched for variant in plan.variants):
        return Wish(max_drop=drop)
    said = {**provenance, "target": plan.target.to_json(), "wanted": repr(wanted), "engines": installed(*ENGINES)}
    context = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
    goal = _goal(wanted, source, data, drop)
    bar = _bar(wanted, data, drop) if goal is None else goal.bar
    if wanted.min_sqnr_db is not None:
        bar = replace(bar, min_sqnr_db=parse_decibels(wanted.min_sqnr_db))
    return Wish(goal, bar, context=context, max_drop=drop)


def _goal(wanted: Wanted, source: SourceModel, data: CalibrationData, drop: float | None) -> Goal | None:
    """The metric to keep; None where there is no labeled data, or where decibels are all that was asked for."""
    is_db_alone = wanted.min_sqnr_db is not None and (wanted.data, wanted.metric, drop) == (None, None, None)
    own = wanted.own.name if wanted.own is not None and not is_db_alone else None
    labeled = own if wanted.data is None else wanted.data
    if labeled is not None:
        allowed = DEFAULT_DROP if drop is None else drop
        return Goal(labeled, source, data.processing, allowed, wanted.metric, seed=wanted.seed)
    if wanted.metric not in (None, AGREEMENT):
        raise InputError(f"the metric {wanted.metric} needs labeled data", hint="--eval-data")
    return None


def _bar(wanted: Wanted, data: CalibrationData, drop: float | None) -> Bar:
    """What is to be kept on the samples held out from calibration, apart from decibels the user asks for."""
    known = default_bar(data.processing.outputs)
    if (drop is not None or wanted.metric == AGREEMENT) and known.min_agreement is None:
        raise InputError(
            "what may be lost cannot be told: the model names no classes, and there is no labeled data",
            hint="--eval-data with --metric; or --min-sqnr 20, in dB against the source",
        )
    if drop is not None:
        return Bar(min_agreement=1.0 - drop)
    return Bar() if wanted.min_sqnr_db is not None and wanted.metric is None else known
