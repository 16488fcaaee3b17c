"""What comes of a file made by a recipe, what it must keep, and the trials of before."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edgekit.errors import ArtifactError
from edgekit.recipe import Recipe
from edgekit.staging import disk_error

__all__ = ["Bar", "Journal", "Outcome"]

_DECIBEL = 0.01
"""What a decibel that is missing counts beside a share of a metric. On EfficientNet-Lite0, between 11.6 and 17.5 dB,
each decibel was worth 0.8 % of the agreement (NNCF with two settings)."""


@dataclass(frozen=True)
class Outcome:
    """What came of a file that was made by a recipe.

    Attributes:
        failure: Why there is no file, or none that may be used; empty for one that ran.
        sqnr_db: Against the source, of the worst output; None for no noise at all.
        agreement: Share of the samples on which the largest number is at the same place; None where that means nothing.
        value: Of the metric; None where none was asked for.
        source_value: The same of the source.
        int8_macs_share: Share of the multiplications that really ran in integers.
        size_bytes: Of all its files.
        speed: ``"faster"``, ``"same"``, ``"slower"``, ``"unclear"``, or empty where it was not timed.
        time_ratio: Its time over that of fp32 in the same engine.
    """

    failure: str = ""
    sqnr_db: float | None = None
    agreement: float | None = None
    value: float | None = None
    source_value: float | None = None
    int8_macs_share: float | None = None
    size_bytes: int | None = None
    speed: str = ""
    time_ratio: float | None = None


@dataclass(frozen=True)
class Bar:
    """What a file must keep: all that is asked for here, which is what is not None.

    Attributes:
        metric: Name of the metric that `max_drop` is of.
        max_drop: How much of it may be lost: of a share of 1 as such, of other metrics as a share of the source's.
        is_higher_better: Of the metric.
        min_agreement: With the source.
        min_sqnr_db: Against the source.
    """

    metric: str = ""
    max_drop: float | None = None
    is_higher_better: bool = True
    min_agreement: float | None = None
    min_sqnr_db: float | None = None

    def gap(self, outcome: Outcome) -> float:
        """How far it is from holding: 0 where it holds, infinity where there is nothing to judge.

        Of several demands that which is missed by most, so that a file gets nearer only by what it lacks most of. A
        lost share of a metric or of the agreement counts as such, a decibel as a hundredth.
        """
        return max(self._gaps(outcome).values(), default=0.0) if not outcome.failure else float("inf")

    def shortfall(self, outcome: Outcome) -> str:
        """What is missing, in words; empty where it holds."""
        return outcome.failure or ", ".join(words for words, gap in self._gaps(outcome).items() if gap > 0)

    def _gaps(self, outcome: Outcome) -> dict[str, float]:
        gaps: dict[str, float] = {}
        if self.max_drop is not None and outcome.value is not None and outcome.source_value is not None:
            lost = self.lost(outcome.value, outcome.source_value)
            words = f"{self.metric} is {outcome.value:.4g} where the source has {outcome.source_value:.4g}"
            gaps[f"{words}, and {self.max_drop:.2%} less is allowed"] = _excess(lost - self.max_drop)
        if self.min_agreement is not None and outcome.agreement is not None:
            words = f"it agrees with the source on {outcome.agreement:.2%} of the samples"
            gaps[f"{words}, and {self.min_agreement:.2%} is wanted"] = _excess(self.min_agreement - outcome.agreement)
        if self.min_sqnr_db is not None and outcome.sqnr_db is not None:
            words = f"{outcome.sqnr_db:.1f} dB against the source, and {self.min_sqnr_db:g} dB are wanted"
            gaps[words] = _excess(self.min_sqnr_db - outcome.sqnr_db) * _DECIBEL
        return gaps

    def lost(self, value: float, source_value: float) -> float:
        """How much of a metric was lost; below 0 where it was won."""
        lost = source_value - value if self.is_higher_better else value - source_value
        is_share = self.is_higher_better and 0.0 <= source_value <= 1.0
        return lost if is_share else lost / max(abs(source_value), 1e-12)


def _excess(value: float) -> float:
    """Above what binary fractions make of decimal ones."""
    return value if value > 1e-9 else 0.0


class Journal:
    """Trials of earlier searches, in a file of a JSON object a line, by the content of what was tried.

    Args:
        path: The file; it is made with the first trial. None keeps nothing.
        context: What else decides the outcome, such as hashes of the source and the data, the format, the target and
            the version: another context finds nothing of this one.

    Raises:
        ArtifactError: The file holds something else.
    """

    def __init__(self, path: Path | None, context: str = "") -> None:
        self._path, self._context = path, context
        self._known: dict[str, Outcome] = {}
        if path is None or not path.is_file():
            return
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:  # the process was killed while it wrote this line
            os.truncate(path, len(whole) + 1 if whole else 0)
        known = {field.name for field in fields(Outcome)}
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self._known[record["key"]] = Outcome(**{k: v for k, v in record["outcome"].items() if k in known})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ArtifactError(f"{path}, line {number}, is no trial: {error}", hint="delete the file") from error

    def __len__(self) -> int:
        """Trials it knows the outcome of."""
        return len(self._known)

    def find(self, recipe: Recipe) -> Outcome | None:
        return self._known.get(self._key(recipe))

    def keep(self, recipe: Recipe, outcome: Outcome) -> str:
        """Puts the outcome on the disk before anything else is tried; says why where the disk refuses, and only once.

        A search is not lost for that: it only starts anew after a kill.
        """
        self._known[self._key(recipe)] = outcome
        if self._path is None:
            return ""
        record = {"key": self._key(recipe), "recipe": recipe.to_json(), "outcome": asdict(outcome)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, sort_keys=True) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            why, self._path = str(disk_error(self._path, error)), None
            return why
        return ""

    def _key(self, recipe: Recipe) -> str:
        data = recipe.to_json()
        rules = [{**rule, "reason": ""} for rule in data["rules"]]
        said = json.dumps([self._context, {**data, "name": "", "description": "", "rules": rules}], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()
