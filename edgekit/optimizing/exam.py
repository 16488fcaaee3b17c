"""What files are judged by: a metric on labeled data, or how near they are to the source where nothing is labeled.

Samples are asked for in blocks of a drawn order, the first the smallest: a file that is clearly worse on a few is not
asked for all. What is lost is told with an interval, of the kinds `edgekit evaluate` gives: Newcombe's of paired
shares, else that of a bootstrap that takes the file's answer and the source's to the same sample together.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log10
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgekit.conversion.trials import Bar, Outcome
from edgekit.errors import InputError
from edgekit.metrics import Metric, Tally
from edgekit.metrics.intervals import drawing_for, interval_of, newcombe
from edgekit.optimizing.answering import RAW
from edgekit.processing import Processing
from edgekit.processing.text import text_of
from edgekit.spec import Signature

__all__ = ["Agreement", "Block", "Exam", "Labeled", "Verdict"]

FIRST = 32
"""Samples of the first block; each next share has four times as many in all."""

GROWTH = 4
MOST_DB = 200.0
_DRAWS = 400
_LEAST = 2
_MOST_FAILED = 0.1
"""Of the sets of a bootstrap, such as those of one class only, of which there is nothing to tell apart."""


@dataclass(frozen=True)
class Verdict:
    """What a share of the data says of a file.

    Attributes:
        value: Of the metric.
        source_value: The same of the source, on the same samples.
        lost: Of it, as `Bar.lost` counts.
        lost_interval: Where that is for other samples of the kind, 19 times of 20; None where these cannot say.
        interval: The same of `value`, as `edgekit.metrics.intervals.interval_of` gives it.
        count: Samples.
        gap: How far it is from what is wanted; 0 where it holds.
        shortfall: What is missing, in words.
    """

    value: float
    source_value: float | None
    lost: float
    lost_interval: tuple[float, float] | None
    interval: tuple[float, float] | None
    count: int
    gap: float
    shortfall: str
    sqnr_db: float | None = None


class Ruler(Protocol):
    """From answers to a figure, higher or lower being better."""

    @property
    def name(self) -> str: ...

    @property
    def is_higher_better(self) -> bool: ...

    @property
    def is_share(self) -> bool: ...

    @property
    def resamples(self) -> int: ...

    def tally(self, answers: Sequence[Any], truths: Sequence[Any]) -> Tally:
        """With these answers in it. Raises InputError where they are of no use."""


@dataclass(frozen=True)
class Labeled:
    """A metric of `edgekit.metrics`."""

    metric: Metric
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.metric.name

    @property
    def is_higher_better(self) -> bool:
        return self.metric.is_higher_better

    @property
    def is_share(self) -> bool:
        return self.metric.is_share

    @property
    def resamples(self) -> int:
        return min(self.metric.resamples, _DRAWS)

    def tally(self, answers: Sequence[Any], truths: Sequence[Any]) -> Tally:
        tally = self.metric.start(self.labels)
        for index, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
            self.metric.check(truth, str(index), self.labels)
            self.metric.add(tally, answer, truth)
        return tally


@dataclass(frozen=True)
class Agreement:
    """Share of places where the largest number is where the source has it; as ``"sqnr"``, decibels against it."""

    name: str = "agreement"
    is_higher_better: bool = True
    resamples: int = _DRAWS

    @property
    def is_share(self) -> bool:
        return self.name == "agreement"

    def tally(self, answers: Sequence[Any], truths: Sequence[Any]) -> Tally:
        found: Tally = _Agreed() if self.is_share else _Noise()
        for answer, truth in zip(answers, truths, strict=True):
            found.add(answer, truth or {})
        return found


class _Raw(Tally):
    """Of what `edgekit.optimizing.answering.raw_answer` says of samples."""

    def __init__(self) -> None:
        super().__init__()
        self._answers: list[Mapping[str, Any]] = []

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, answer: Any, truth: Mapping[str, Any]) -> None:
        self._answers.append(answer)

    def _column(self, kind: str, name: Any) -> np.ndarray:
        return np.array([one[kind][name] for one in self._answers], "float64")


class _Agreed(_Raw):
    def values(self, weights: np.ndarray) -> np.ndarray:
        same, total = self._column("agree", 0), self._column("agree", 1)
        return np.array([weights @ same / max(weights @ total, 1.0)])

    def shares(self) -> list[tuple[int, int]] | None:
        """Where each sample is one place; places of one sample go together, and are no samples."""
        same, total = self._column("agree", 0), self._column("agree", 1)
        return [(int(same.sum()), len(self))] if (total == 1).all() else None


class _Noise(_Raw):
    def values(self, weights: np.ndarray) -> np.ndarray:
        powers = [(self._column("signal", o), self._column("noise", o)) for o in self._answers[0]["signal"]]
        return np.array([min(_decibels(float(weights @ s), float(weights @ n)) for s, n in powers)])


def _decibels(signal: float, noise: float) -> float:
    return min(10 * log10(max(signal, 1e-30) / noise), MOST_DB) if noise else MOST_DB


@dataclass(frozen=True)
class Block:
    """Samples as units are sent them.

    Attributes:
        digest: Of them in the store.
        places: Which samples they are; those the source itself cannot answer are left out.
        own: The source's answers.
    """

    digest: str
    places: tuple[int, ...]
    own: tuple[Any, ...]


@dataclass
class Exam:
    """The samples in a drawn order, the ruler, and what the source answers.

    Attributes:
        samples: Name, value and truth of each; what is judged by agreement has no truth.
        processing: As files are asked.
        ruler: What answers are held to.
        bar: What must be kept.
        run: The source's own framework.
        signature: The source's.
        seed: Of the order, and of the bootstrap.
    """

    samples: Sequence[tuple[str, Any, Any]]
    processing: Processing
    ruler: Ruler
    bar: Bar
    run: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
    signature: Signature
    seed: int = 0
    _blocks: dict[int, Block] = field(default_factory=dict, init=False)

    @property
    def kind(self) -> str:
        return RAW if isinstance(self.ruler, Agreement) else ""

    @cached_property
    def order(self) -> list[int]:
        return [int(i) for i in np.random.default_rng(self.seed).permutation(len(self.samples))]

    @cached_property
    def shares(self) -> tuple[int, ...]:
        """How many samples there are in each share, the last of all."""
        total, found, size = len(self.samples), [], FIRST
        while size * 2 < total:
            found.append(size)
            size *= GROWTH
        return (*found, total)

    def places(self, block: int) -> list[int]:
        """Which samples a block has: what its share has beyond the one before."""
        before = self.shares[block - 1] if block else 0
        return self.order[before : self.shares[block]]

    def pack(self, block: int) -> tuple[bytes, list[int], list[Any]]:
        """The samples of a block as units are sent them, which those are, and the source's own answers."""
        packed: list[tuple[str, Any, Any]] = []
        places: list[int] = []
        own: list[Any] = []
        failure: InputError | None = None
        for place in self.places(block):
            name, value = self.samples[place][0], carried(self.samples[place][1])
            try:
                answer = self._own_answer(value)
            except InputError as error:
                failure = InputError(f"sample {name}: {error.message}", hint=error.hint)
                continue
            packed.append((name, value, answer if self.kind == RAW else None))
            own.append(None if self.kind == RAW else answer)
            places.append(place)
        if failure is not None and not places:
            raise failure
        return pickle.dumps(packed, protocol=5), places, own

    def _own_answer(self, value: Any) -> Any:
        if self.kind != RAW:
            return self.processing.answer(value, self.run, self.signature)
        return [dict(self.run(part)) for part in self.processing.batches(value, self.signature)]

    def use(self, block: int, packed: Block) -> None:
        """Takes a packed block, which may be of an earlier run."""
        self._blocks[block] = packed

    def is_packed(self, block: int) -> bool:
        return block in self._blocks

    def digest(self, block: int) -> str:
        return self._blocks[block].digest

    @property
    def left_out(self) -> int:
        """Samples of packed blocks that the source cannot answer."""
        return sum(len(self.places(index)) - len(block.places) for index, block in self._blocks.items())

    def truths(self, share: int) -> list[Any]:
        return [self.samples[place][2] for block in range(share + 1) for place in self._blocks[block].places]

    def judge(self, answers: Sequence[Any], share: int) -> Verdict:
        """What the answers to all samples of a share are worth.

        Raises:
            InputError: The metric cannot judge them.
        """
        truths = self.truths(share)
        own = [one for block in range(share + 1) for one in self._blocks[block].own]
        mine, theirs = self.ruler.tally(answers, truths), None if self.kind == RAW else self.ruler.tally(own, truths)
        value, source = _figure(mine), self._perfect if theirs is None else _figure(theirs)
        sqnr = _figure(Agreement("sqnr").tally(answers, truths)) if self.kind == RAW else None
        interval = interval_of(mine, self.ruler.resamples, self.seed, is_share=self.ruler.is_share).ends
        outcome = self._outcome(value, source, sqnr)
        return Verdict(
            value=value,
            source_value=source,
            lost=self._lost(value, source),
            lost_interval=self._lost_interval(mine, theirs, interval),
            interval=interval,
            count=len(answers),
            gap=self.bar.gap(outcome),
            shortfall=self.bar.shortfall(outcome),
            sqnr_db=sqnr,
        )

    @property
    def _perfect(self) -> float | None:
        return 1.0 if self.ruler.name == "agreement" else None

    def _outcome(self, value: float, source: float | None, sqnr_db: float | None) -> Outcome:
        if self.kind == RAW:
            return Outcome(sqnr_db=sqnr_db, agreement=value if self.ruler.name == "agreement" else None)
        return Outcome(value=value, source_value=source)

    def _lost(self, value: float, source: float | None) -> float:
        """On the scale that what may be lost is said in: a share of a metric, or decibels below what is wanted."""
        if self.ruler.name == "agreement" and self.kind == RAW:
            return 1.0 - value
        if self.kind == RAW:
            return (self.bar.min_sqnr_db or 0.0) - value
        assert source is not None
        return self.bar.lost(value, source)

    @property
    def allowed(self) -> float:
        """What may be lost, on the same scale."""
        if self.kind == RAW and self.ruler.name != "agreement":
            return 0.0
        return self.bar.max_drop if self.kind != RAW else 1.0 - (self.bar.min_agreement or 0.0)  # type: ignore[return-value]

    def is_hopeless(self, verdict: Verdict) -> bool:
        """Whether a share says already, as sure as its interval is, that all of the data would say no."""
        if verdict.gap == 0:
            return False
        return verdict.lost_interval is not None and verdict.lost_interval[0] > self.allowed

    def _lost_interval(
        self, mine: Tally, theirs: Tally | None, interval: tuple[float, float] | None
    ) -> tuple[float, float] | None:
        """Of what is lost; that of the value itself where the source's is known for certain."""
        if theirs is None:
            ends = None if interval is None else sorted(self._lost(end, self._perfect) for end in interval)
            return None if ends is None else (ends[0], ends[1])
        if mine.hits is not None and theirs.hits is not None:
            return newcombe(theirs.hits, mine.hits)
        if not self.ruler.resamples or len(mine) < _LEAST:
            return None
        drawing, found = drawing_for(mine, self.ruler.resamples, self.seed), []
        for weights in drawing.weights():
            try:
                found.append(self._lost(_figure(mine, weights), _figure(theirs, weights)))
            except InputError:
                continue
        if len(found) < (1 - _MOST_FAILED) * drawing.size or not np.isfinite(found).all():
            return None
        return drawing.ends(np.array(found), self._lost(_figure(mine), _figure(theirs)))

    @property
    def source_value(self) -> float | None:
        """Of the source on all blocks that were asked for; None before, and where that says nothing."""
        if self.kind == RAW:
            return self._perfect
        own = [one for block in sorted(self._blocks) for one in self._blocks[block].own]
        return _figure(self.ruler.tally(own, self.truths(len(self._blocks) - 1))) if own else None

    @cached_property
    def seconds(self) -> float:
        """About what asking one file for all answers takes: as the source takes for two, on one sample each."""
        started = time.monotonic()
        for place in self.order[:2]:
            for part in self.processing.batches(self.samples[place][1], self.signature):
                self.run(part)
        return (time.monotonic() - started) / 2 * len(self.samples)


def carried(value: Any) -> Any:
    """A value that means the same on another machine: of a file its text, or its bytes."""
    if not isinstance(value, Path):
        return value
    return text_of(value) if value.suffix.lower() == ".txt" else value.read_bytes()


def _figure(tally: Tally, weights: np.ndarray | None = None) -> float:
    return float(tally.values(np.ones(len(tally)) if weights is None else weights)[0])
