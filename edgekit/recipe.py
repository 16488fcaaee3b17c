"""A recipe: what to do to a model's numbers, as ordered rules that are data. Later rules win.

The named recipes are called by the bits they leave: weights and activations, ``w8a8``. ``int8`` is accepted for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
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
        min_sqnr_db: Signal to noise of the outputs against the source, in dB, below which the result is refused as
            useless. It catches collapses; it does not promise accuracy on a task.
        max_relative: Largest difference from the source, as a share of an output's range, that is accepted.
    """

    name: str
    precision: str
    description: str = ""
    rules: tuple[Rule, ...] = ()
    observer: str = "min-max"
    min_sqnr_db: float | None = None
    max_relative: float | None = None

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
            "max_relative": self.max_relative,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Reads what `to_json` gave. Raises ArtifactError naming what is wrong with it."""
        if data.get("schema") != SCHEMA or data.get("version") != VERSION:
            raise ArtifactError(f"not a recipe of version {VERSION}: schema {data.get('schema')!r}")
        known = {"schema", "version", *(field.name for field in fields(cls))}
        if unknown := set(data) - known:
            raise ArtifactError(f"a recipe has no {sorted(unknown)}", hint=f"it has: {sorted(known)}")
        precision = canonical_precision(_text(data, "precision", ""))
        rules = data.get("rules", [])
        if not isinstance(rules, list | tuple):
            raise ArtifactError(f"the rules of a recipe are a list, not {rules!r}")
        return cls(
            name=_text(data, "name", precision),
            precision=precision,
            description=_text(data, "description", ""),
            rules=tuple(_rule(rule) for rule in rules),
            observer=_text(data, "observer", "min-max"),
            min_sqnr_db=_number(data, "min_sqnr_db"),
            max_relative=_number(data, "max_relative"),
        )

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ArtifactError(
                f"{path} is not a recipe: {error}", hint="compare `edgekit list recipes --json`"
            ) from error


def _text(data: Mapping[str, Any], name: str, default: str) -> str:
    value = data.get(name, default)
    if not isinstance(value, str):
        raise ArtifactError(f"{name!r} of a recipe is a text, not {value!r}")
    return value


def _number(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ArtifactError(f"{name!r} of a recipe is a number or null, not {value!r}")
    return value


def _rule(data: Any) -> Rule:
    known = [field.name for field in fields(Rule)]
    if not isinstance(data, Mapping) or "precision" not in data or not set(data) <= set(known):
        raise ArtifactError(f"a rule of the recipe is wrong: {data!r}", hint=f"it needs a precision, and has: {known}")
    texts = {name: _text(data, name, "") for name in data}
    return Rule(**{**texts, "precision": canonical_precision(texts["precision"])})


_W8A8 = Recipe(
    "w8a8",
    "w8a8",
    "int8 weights and activations by ranges measured on calibration data: a quarter of the size, fastest for CNNs",
    min_sqnr_db=8.0,
)

NAMED: Mapping[str, Recipe] = {
    "fp32": Recipe("fp32", "fp32", "the source's own numbers: the reference for everything else", max_relative=1e-4),
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
