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

__all__ = [
    "ALIASES",
    "AUTO",
    "DYNAMIC",
    "FLOATS",
    "HALF",
    "NAMED",
    "PRECISIONS",
    "STATIC",
    "WEIGHT_ONLY",
    "Recipe",
    "Rule",
    "canonical_precision",
]

SCHEMA = "edgekit.recipe"
VERSION = 1

ALIASES = {"int8": "w8a8", "int8-dynamic": "w8a8-dynamic", "float32": "fp32", "float16": "fp16"}

AUTO = "auto"
"""The recipe that is searched for; see `edgekit.conversion.tuning`."""

FLOATS = ("fp32", "fp16", "bf16")
HALF = "fp16"
"""The precision that stores floats in half and computes in single."""

STATIC = ("w8a8", "w8a16")
"""Precisions whose activations are integers of ranges measured beforehand."""

DYNAMIC = ("w8a8-dynamic",)
"""Precisions whose activations become integers by the range each call shows."""

WEIGHT_ONLY = {"w8": None, "w4g32": 32, "w4g128": 128}
"""Precisions that store small weights and compute in float, with the size of a group that shares a scale."""


@dataclass(frozen=True)
class Rule:
    """What becomes of the operations whose name and type match.

    Attributes:
        precision: One of `PRECISIONS`, but ``"bf16"`` is of whole files only; ``"fp32"`` puts the operation in the
            ignored scope, and so does ``"fp16"``, which stores its weights in half precision.
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
        precision: The precision it aims at, one of `PRECISIONS`.
        description: What it is good for, in a line.
        rules: Applied in order; of those that match an operation the last one decides.
        observer: How activation ranges are estimated, one of `edgekit.quantize.observers.OBSERVERS`; ``"min-max"``
            takes the true extremes of all samples.
        rounding: How weights become integers: ``"nearest"``, ``"adaround"`` or ``"gptq"``.
        clipping: How far a weight's integers reach: ``"max"``, or ``"mse"`` for the reach of least square error.
        equalize: Whether channels of consecutive layers are brought to like ranges first.
        smooth: How much of the activations' outliers moves into the weights of transformers, 0 to 1; None for no.
        correct_biases: Whether biases take in the mean error of the rounded weights.
        compress: Steps done to the graph before anything is observed, each ``{"method": NAME, ...}``; see
            `edgekit.compress`.
        min_sqnr_db: Signal to noise of the outputs against the source, in dB, below which the result is refused as
            useless. It catches collapses; it does not promise accuracy on a task.
        max_relative: Largest difference from the source, as a share of an output's range, that is accepted.
    """

    name: str
    precision: str
    description: str = ""
    rules: tuple[Rule, ...] = ()
    observer: str = "min-max"
    rounding: str = "nearest"
    clipping: str = "max"
    equalize: bool = False
    smooth: float | None = None
    correct_biases: bool = False
    compress: tuple[Mapping[str, Any], ...] = ()
    min_sqnr_db: float | None = None
    max_relative: float | None = None

    @classmethod
    def named(cls, name: str) -> Recipe:
        """The recipe called `name`, or an UnsupportedError that lists those there are."""
        if (known := ALIASES.get(name, name)) not in NAMED:
            raise UnsupportedError(f"there is no recipe {name!r}", hint=f"known: {', '.join([*NAMED, *ALIASES])}")
        return NAMED[known]

    def with_rule(self, rule: Rule) -> Recipe:
        """The same recipe with one more rule, which wins over those before it."""
        return replace(self, rules=(*self.rules, rule))

    def decide(self, name: str, op_type: str) -> Rule | None:
        """The rule that decides for this operation; None leaves it to the target's placement."""
        return next((rule for rule in reversed(self.rules) if rule.matches(name, op_type)), None)

    def precision_of(self, name: str, op_type: str) -> str:
        """What this operation is to become: the word of the rule that decides, else the recipe's own precision."""
        rule = self.decide(name, op_type)
        return self.precision if rule is None else rule.precision

    @property
    def precisions(self) -> set[str]:
        """All its operations may become."""
        return {self.precision, *(rule.precision for rule in self.rules)}

    @property
    def needs_calibration(self) -> bool:
        """Whether it can only be followed with typical inputs at hand."""
        by_data = self.smooth is not None or self.correct_biases or self.rounding != "nearest"
        return by_data or not self.precisions.isdisjoint(STATIC)

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
            "rounding": self.rounding,
            "clipping": self.clipping,
            "equalize": self.equalize,
            "smooth": self.smooth,
            "correct_biases": self.correct_biases,
            "compress": [dict(step) for step in self.compress],
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
            rounding=_text(data, "rounding", "nearest"),
            clipping=_text(data, "clipping", "max"),
            equalize=_flag(data, "equalize"),
            smooth=_number(data, "smooth"),
            correct_biases=_flag(data, "correct_biases"),
            compress=_steps(data),
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


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise ArtifactError(f"{name!r} of a recipe is true or false, not {value!r}")
    return value


def _steps(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    steps = data.get("compress", [])
    if not isinstance(steps, list | tuple) or not all(
        isinstance(step, Mapping) and isinstance(step.get("method"), str) for step in steps
    ):
        raise ArtifactError("'compress' of a recipe is a list of steps, each with a method")
    return tuple(dict(step) for step in steps)


def _rule(data: Any) -> Rule:
    known = [field.name for field in fields(Rule)]
    if not isinstance(data, Mapping) or "precision" not in data or not set(data) <= set(known):
        raise ArtifactError(f"a rule of the recipe is wrong: {data!r}", hint=f"it needs a precision, and has: {known}")
    texts = {name: _text(data, name, "") for name in data}
    return Rule(**{**texts, "precision": canonical_precision(texts["precision"])})


_RECIPES = (
    Recipe("fp32", "fp32", "the source's own numbers: the reference for everything else", max_relative=1e-4),
    Recipe("fp16", "fp16", "weights stored in half precision: half the size, no calibration, fp32 speed on CPUs"),
    Recipe(
        "bf16",
        "bf16",
        "the fp32 file with leave to multiply in bfloat16: no calibration, for CPUs that have it",
        min_sqnr_db=20.0,
    ),
    Recipe(
        "w8a8",
        "w8a8",
        "int8 weights and activations by ranges measured on calibration data: a quarter of the size, fastest for CNNs",
        min_sqnr_db=8.0,
    ),
    Recipe(
        "w8a8-dynamic",
        "w8a8-dynamic",
        "int8 weights, activations by the range of each call: no calibration, for transformers and recurrent nets",
        min_sqnr_db=8.0,
    ),
    Recipe(
        "w8a16",
        "w8a16",
        "int8 weights, 16-bit activations: for accuracy where an NPU has kernels for it; slow on CPUs",
        min_sqnr_db=8.0,
    ),
    Recipe("w8", "w8", "int8 weights, float arithmetic: a quarter of the size, nearest to the source", min_sqnr_db=8.0),
    Recipe(
        "w4g32",
        "w4g32",
        "4-bit weights of matrices in groups of 32, embeddings in 8 bits: the smallest, for transformers",
        clipping="mse",
        min_sqnr_db=8.0,
    ),
    Recipe(
        "w4g128",
        "w4g128",
        "the same in groups of 128: a little smaller, a little worse",
        clipping="mse",
        min_sqnr_db=8.0,
    ),
    Recipe(
        "w8a8-gptq",
        "w8a8",
        "w8a8 with weights rounded for what a layer gives, and biases corrected: 5 dB on EfficientNet-Lite0",
        rounding="gptq",
        correct_biases=True,
        min_sqnr_db=8.0,
    ),
    Recipe(
        "w4g32-gptq",
        "w4g32",
        "w4g32 the same way, with calibration data: 5 dB on MiniLM",
        rounding="gptq",
        clipping="mse",
        correct_biases=True,
        min_sqnr_db=8.0,
    ),
    Recipe(
        AUTO,
        "w8a8",
        "the few bits that keep the accuracy and are not slower, found by trying files; --max-drop says how much",
        min_sqnr_db=8.0,
    ),
)

NAMED: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _RECIPES}


PRECISIONS = tuple(dict.fromkeys(recipe.precision for recipe in _RECIPES))


def canonical_precision(name: str) -> str:
    """The name of DESIGN for `name`, which may be an alias. Raises UnsupportedError for a name that is none."""
    precision = ALIASES.get(name, name)
    if precision not in PRECISIONS:
        raise UnsupportedError(
            f"there is no precision {name!r}", hint=f"known: {', '.join([*PRECISIONS, 'int8 (= w8a8)'])}"
        )
    return precision
