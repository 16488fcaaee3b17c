"""A recipe: what to do to a model's numbers, as ordered rules that are data. Later rules win.

The named recipes are called by the bits they leave: weights and activations, ``w8a8``. ``int8`` is accepted for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from edgekit.errors import ArtifactError, UnsupportedError

__all__ = ["ALIASES", "NAMED", "Recipe", "Rule", "canonical_precision"]

SCHEMA = "edgekit.recipe"
VERSION = 1

ALIASES = {"int8": "w8a8", "float32": "fp32", "float16": "fp16"}


@dataclass(frozen=True)
class Rule:
    """What becomes of the operations whose name and type match.

    Attributes:
        precision: ``"w8a8"`` or ``"fp32"``; the latter puts the operation in the ignored scope.
        name: Pattern for the node's name, with ``*`` and ``?``.
        op_type: Pattern for the node's type, such as ``"Conv"``.
        reason: Why; printed beside the operation it decides.
    """

    precision: str
    name: str = "*"
    op_type: str = "*"
    reason: str = ""

    def matches(self, name: str, op_type: str) -> bool:
        return fnmatchcase(name, self.name) and fnmatchcase(op_type, self.op_type)


@dataclass(frozen=True)
class Recipe:
    """Ordered rules with a name.

    Attributes:
        name: What it is called in bundles and reports.
        precision: The precision it aims at, one of `NAMED`.
        description: What it is good for, in a line.
        rules: Applied in order; of those that match an operation the last one decides.
        observer: How activation ranges are estimated; ``"min-max"`` takes the true extremes of all samples.
        min_sqnr_db: Signal to quantization noise of the outputs against the source, in dB, below which the result is
            refused as useless. It catches collapses; it does not promise accuracy on a task.
    """

    name: str
    precision: str
    description: str = ""
    rules: tuple[Rule, ...] = ()
    observer: str = "min-max"
    min_sqnr_db: float | None = None

    @classmethod
    def named(cls, name: str) -> Recipe:
        """The recipe called `name`, or an UnsupportedError that lists those there are."""
        precision = canonical_precision(name)
        return NAMED[precision]

    def with_rule(self, rule: Rule) -> Recipe:
        """The same recipe with one more rule, which wins over those before it."""
        return replace(self, rules=(*self.rules, rule))

    def decide(self, name: str, op_type: str) -> Rule | None:
        """The rule that decides for this operation; None leaves it to the target's placement."""
        return next((rule for rule in reversed(self.rules) if rule.matches(name, op_type)), None)

    def to_json(self) -> dict[str, Any]:
        rules = [
            {"precision": r.precision, "name": r.name, "op_type": r.op_type, "reason": r.reason} for r in self.rules
        ]
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "name": self.name,
            "precision": self.precision,
            "description": self.description,
            "rules": rules,
            "observer": self.observer,
            "min_sqnr_db": self.min_sqnr_db,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Reads what `to_json` gave. Raises ArtifactError naming what is wrong with it."""
        if data.get("schema") != SCHEMA or data.get("version") != VERSION:
            raise ArtifactError(f"not a recipe of version {VERSION}: schema {data.get('schema')!r}")
        known = {"schema", "version", "name", "precision", "description", "rules", "observer", "min_sqnr_db"}
        if unknown := set(data) - known:
            raise ArtifactError(f"a recipe has no {sorted(unknown)}", hint=f"it has: {sorted(known)}")
        try:
            rules = tuple(Rule(**rule) for rule in data.get("rules", ()))
        except TypeError as error:
            raise ArtifactError(f"a rule of the recipe is wrong: {error}") from error
        precision = canonical_precision(data.get("precision", ""))
        return cls(
            name=data.get("name", precision),
            precision=precision,
            description=data.get("description", ""),
            rules=rules,
            observer=data.get("observer", "min-max"),
            min_sqnr_db=data.get("min_sqnr_db"),
        )

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{path} is not a recipe: {error}") from error


_W8A8 = Recipe(
    "w8a8",
    "w8a8",
    "int8 weights and activations by ranges measured on calibration data: a quarter of the size, fastest for CNNs",
    min_sqnr_db=8.0,
)

NAMED: Mapping[str, Recipe] = {
    "fp32": Recipe("fp32", "fp32", "the source's own numbers: the reference for everything else"),
    "fp16": Recipe(
        "fp16", "fp16", "weights stored in half precision: half the size, no calibration, fp32 speed on CPUs"
    ),
    "w8a8": _W8A8,
}


def canonical_precision(name: str) -> str:
    """The name of DESIGN for `name`, which may be an alias. Raises UnsupportedError for a name that is none."""
    precision = ALIASES.get(name, name)
    if precision not in NAMED:
        raise UnsupportedError(f"there is no precision {name!r}", hint=f"known: {', '.join([*NAMED, 'int8 (= w8a8)'])}")
    return precision
