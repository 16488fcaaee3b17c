"""What there is to try: files that can be made for a target, and ways to run each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.cores import num_cores
from edgekit.opening import ORACLE
from edgekit.optimizing.records import TrialRecord
from edgekit.plan import PlannedVariant
from edgekit.recipe import AUTO, FLOATS, NAMED, Recipe
from edgekit.registry import RUNTIMES
from edgekit.target import Target

__all__ = ["Entrant", "File", "entrants_of", "recipes_for", "thread_counts"]

FIRST_WAVE = ("fp32", "bf16", "w8a8", "w8a8-dynamic")
"""Recipes that are made before others: the fastest ones. The others are made where they can still win."""

KIN = {"w8a8-gptq": "w8a8", "w4g32-gptq": "w4g32", AUTO: "w8a8"}
"""Recipes that are another one made with more care: as fast, and wanted where that one loses too much."""


@dataclass(eq=False)
class File:
    """One file of the space.

    Attributes:
        planned: What it is and the roads to it.
        made: What came of making it, see `edgekit.optimizing.making.describe`; None before.
        failure: Why there is none.
        skipped: Why nobody tried.
        elsewhere: The same for other runtimes and arithmetic, by both.
    """

    planned: PlannedVariant
    made: Mapping[str, Any] | None = None
    failure: str = ""
    skipped: str = ""
    elsewhere: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.planned.name

    @property
    def format(self) -> str:
        return self.planned.format

    @property
    def recipe(self) -> Recipe:
        return self.planned.recipe

    def seen(self, runtime: str, precision: str) -> Mapping[str, Any]:
        """What was seen of it with this runtime in this arithmetic."""
        assert self.made is not None
        return self.elsewhere.get((runtime, precision), self.made)


@dataclass(eq=False)
class Entrant:
    """One way to run one file, with its record."""

    file: File
    runtime: str
    precision: str
    threads: int
    record: TrialRecord

    @property
    def title(self) -> str:
        return self.record.title

    @property
    def is_fp32(self) -> bool:
        return self.file.recipe.precision == "fp32" and self.precision == "fp32"

    @property
    def answers_as(self) -> tuple[str, str, str]:
        """What decides its answers: threads do not."""
        return self.file.name, self.runtime, self.precision

    def contender(self) -> dict[str, Any]:
        """As units that measure are told of it."""
        assert self.file.made is not None
        seen = self.file.seen(self.runtime, self.precision)
        return {
            "title": self.title,
            "format": self.file.format,
            "files": self.file.made["files"],
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "input_names": seen["input_names"],
            "takes": seen["takes"],
        }


def recipes_for(target: Target, formats: Sequence[str], precisions: Sequence[str]) -> list[Recipe]:
    """The recipes of the space: all whose precision the target takes in one of the formats, or those asked for."""
    if precisions:
        asked = [Recipe.named(name) for name in precisions]
        return list({r.name: r for r in [Recipe.named("fp32"), *asked]}.values())
    taken = {precision for format in formats or target.formats for precision in target.precisions.get(format, ())}
    return [recipe for recipe in NAMED.values() if recipe.precision in taken]


def thread_counts(target: Target, asked: Sequence[int], objective: str) -> list[int]:
    """One thread and all cores, or what the target says; of memory one thread takes the least, whatever the engine."""
    if asked:
        return sorted(set(asked))
    if objective == "memory":
        return [1]
    return sorted({1, target.threads or num_cores()})


def entrants_of(file: File, target: Target, threads: Sequence[int], files: Sequence[File]) -> list[Entrant]:
    """Every runtime that opens the format, in every arithmetic the target takes, with every number of threads.

    A runtime whose own format is not asked for takes no part: who wants TFLite files has LiteRT.

    Args:
        file: The file.
        target: The device.
        threads: Counts.
        files: The space: a runtime whose own format has a file of the recipe does not read another format's, which was
            never faster (OpenVINO lost up to half on ONNX files with quantizers; facts/engines 9). Where its own file
            cannot be made it does.
    """
    found = []
    for name, engine in RUNTIMES:
        if name == ORACLE or file.format not in engine.formats or not engine.probe().available:
            continue
        own = engine.formats[0]
        twins = [f for f in files if f.format == own and f.recipe.name == file.recipe.name]
        if own != file.format and (not any(f.format == own for f in files) or any(not twin.failure for twin in twins)):
            continue
        for precision in _arithmetic(own, file.recipe, target):
            found += [_entrant(file, name, precision, count) for count in threads]
    return found


def _arithmetic(own_format: str, recipe: Recipe, target: Target) -> list[str]:
    """In which floats what is float of a file may be computed: bf16 where the target's engine has it.

    Plain floats in bf16 are a file of their own, which says so to every program that opens it.
    """
    has_bf16 = "bf16" in target.precisions.get(own_format, ())
    return ["fp32", "bf16"] if has_bf16 and recipe.precision not in FLOATS else ["fp32"]


def _entrant(file: File, runtime: str, precision: str, threads: int) -> Entrant:
    arithmetic = "" if precision == "fp32" else f" in {precision}"
    title = f"{file.name} on {runtime}{arithmetic} x{threads}"
    record = TrialRecord(
        title, file.name, file.format, file.recipe.precision, file.recipe.name, runtime, precision, threads
    )
    return Entrant(file, runtime, precision, threads, record)
