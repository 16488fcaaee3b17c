"""What evaluating found: a figure with its interval for each variant, beside that of its source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgekit.errors import InputError
from edgekit.metrics import Confusion
from edgekit.metrics.intervals import Interval

__all__ = ["SCHEMA", "VERSION", "Absent", "Evaluation", "Evaluations", "Versus", "parse_drop"]

SCHEMA = "edgekit.evaluation"
VERSION = 2


def parse_drop(text: str | float) -> float:
    """``"0.5"`` or ``"0.5%"``, half a percent, as a share: 0.005. A metric that is a share of 1 may lose so much of it.

    Raises:
        InputError: It is no number from 0 to 100.
    """
    try:
        percent = float(str(text).strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        raise InputError(f"{text!r} is no percentage", hint="--max-drop 0.5 allows to lose half a percent")
    return percent / 100


@dataclass(frozen=True)
class Versus:
    """A variant held against another on the same samples.

    Attributes:
        base: What it is held against.
        base_value: Of the metric, over the samples both answered.
        difference: Of the variant less that of the base.
        low: Lower end of the interval of the difference; None where there is none.
        high: Upper end.
        method: How interval and verdict were found.
        p: Of McNemar's test, for shares of samples that are right; None for others.
        verdict: ``"better"``, ``"worse"``, ``"not measurably worse"``, or ``"not known"`` without an interval.
        count: Samples both answered.
        allowed: What may be lost, in the metric's own unit; None where nobody said.
        is_within: Whether it does not lose more, for all that can be told; None where nobody said what may be lost.
    """

    base: str
    base_value: float
    difference: float
    low: float | None
    high: float | None
    method: str
    p: float | None
    verdict: str
    count: int
    allowed: float | None = None
    is_within: bool | None = None


@dataclass(frozen=True)
class Evaluation:
    """What a metric found for one variant.

    Attributes:
        model: What was evaluated, as it was given.
        variant: Name in the bundle, the file's name, or the type of an object.
        precision: Of the variant; None where nobody says.
        runtime: What ran it; None for an object that is no session.
        runtime_version: Package and version of the engine.
        artifact_sha256: Of the variant's first file, where it is of a bundle.
        metric: Name of the metric.
        title: What that is, with its unit.
        is_higher_better: Whether more is better.
        value: Over all samples.
        per_class: The same by class, where that makes sense.
        count: Samples that were answered.
        data: What the data was given as.
        split: The split of it; None where it has none.
        data_sha256: Of the content of the samples and of which they are.
        skipped: Files of the data that were left out, each with the reason.
        interval: Where the figure would lie for other samples; says how it was found.
        support: How many samples, boxes or pixels of each class are true.
        confusion: What was taken for what, where answers are classes.
        failed: Samples that could not be answered, each with the reason; the figure is without them.
        warnings: What looks wrong with data or model.
        versus: Beside the source, or the first variant in fp32; None for that one itself.
    """

    model: str
    variant: str
    precision: str | None
    runtime: str | None
    runtime_version: str | None
    artifact_sha256: str | None
    metric: str
    title: str
    is_higher_better: bool
    value: float
    per_class: Mapping[str, float]
    count: int
    data: str
    split: str | None
    data_sha256: str
    skipped: tuple[tuple[str, str], ...] = ()
    interval: Interval = field(default_factory=lambda: Interval(None, None, "none: nobody asked", {}))
    support: Mapping[str, int] = field(default_factory=dict)
    confusion: Confusion | None = None
    failed: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    versus: Versus | None = None

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "version": VERSION, **asdict(self)}


@dataclass(frozen=True)
class Absent:
    """A variant that could not be opened here, and what to do about it."""

    variant: str
    reason: str
    hint: str = ""


_OWN = (
    *(
        "variant",
        "precision",
        "runtime",
        "runtime_version",
        "artifact_sha256",
        "value",
        "interval",
        "count",
        "per_class",
    ),
    *("support", "confusion", "failed", "warnings", "versus"),
)
"""Fields that differ between variants."""


@dataclass(frozen=True)
class Evaluations:
    """All variants of a bundle on the same samples, and their source.

    Attributes:
        evaluations: A variant each.
        absent: Variants that could not be opened here.
        source: What the source itself reaches; None where it was not asked.
        source_note: Why it was not.
        max_drop: What may be lost, as a share; None where nobody said.
    """

    evaluations: tuple[Evaluation, ...]
    absent: tuple[Absent, ...] = ()
    source: Evaluation | None = None
    source_note: str = ""
    max_drop: float | None = None

    @property
    def unmet(self) -> tuple[str, ...]:
        """Of each variant that loses more than may be lost, in words."""
        return tuple(
            f"{one.variant} loses {abs(one.versus.difference):.4f} of {one.metric} against {one.versus.base}, "
            f"{one.versus.allowed:.4f} may be lost"
            for one in self.evaluations
            if one.versus is not None and one.versus.is_within is False
        )

    def to_json(self) -> dict[str, Any]:
        rows = [asdict(evaluation) for evaluation in self.evaluations]
        source = asdict(self.source) if self.source is not None else None
        return {
            "schema": SCHEMA,
            "version": VERSION,
            **{key: value for key, value in rows[0].items() if key not in _OWN},
            "count": rows[0]["count"],
            "source": None if source is None else {key: source[key] for key in _OWN},
            "source_note": self.source_note,
            "max_drop": self.max_drop,
            "variants": [{key: row[key] for key in _OWN} for row in rows],
            "absent": [asdict(absent) for absent in self.absent],
        }
