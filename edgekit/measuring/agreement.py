"""How alike two models answer, sample by sample in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from edgekit.errors import ConversionError, UnsupportedError
from edgekit.parity import match_outputs

__all__ = ["Agreement", "OutputAgreement", "Tally", "measure_agreement", "short"]

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], Mapping[str, np.ndarray]]

_MATCHED_BY = 2
"""Samples by whose answers outputs are matched where names do not say which is which."""


@dataclass(frozen=True)
class OutputAgreement:
    """A tensor of the second against that of the first, over all samples.

    Attributes:
        name: In the first.
        other_name: In the second.
        max_abs: Largest difference.
        range: Largest minus smallest value of the first's.
        sqnr_db: 10 log10 of the first's squares over those of the difference; infinite when they are equal, and minus
            infinity where there are elements `not_finite`.
        cosine: Of both, each as one vector over all samples; 1 when both are zero throughout.
        top1_agreement: Share of rows along the last axis whose largest value is at the same place; None where that axis
            has one element.
        not_finite: Elements that are no finite number in one of them and not the same in the other; the largest
            difference and the cosine are of all others.
    """

    name: str
    other_name: str
    max_abs: float
    range: float
    sqnr_db: float
    cosine: float
    top1_agreement: float | None
    not_finite: int = 0

    @property
    def relative(self) -> float:
        """Largest difference as a share of the range."""
        return self.max_abs / self.range

    def to_json(self) -> dict[str, Any]:
        values = {**vars(self), "relative": self.relative}
        return {key: short(value) if isinstance(value, float) else value for key, value in values.items()}


def short(value: float) -> float | None:
    """A measured number as JSON has it: six digits, and nothing where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


@dataclass(frozen=True)
class Agreement:
    """All outputs on one kind of data, which `data` says."""

    data: str
    samples: int
    outputs: tuple[OutputAgreement, ...]

    @property
    def worst(self) -> OutputAgreement:
        return min(self.outputs, key=lambda one: one.sqnr_db)

    @property
    def top1_agreement(self) -> float | None:
        """That of the worst output which has one."""
        return min((o.top1_agreement for o in self.outputs if o.top1_agreement is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        outputs = [output.to_json() for output in self.outputs]
        return {"data": self.data, "samples": self.samples, "outputs": outputs}


@dataclass
class Tally:
    """What is kept of one tensor: sums, never values."""

    low: float = math.inf
    high: float = -math.inf
    max_abs: float = 0.0
    signal: float = 0.0
    other: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    rows: int = 0
    same: int = 0
    not_finite: int = 0

    def add(self, want: np.ndarray, have: np.ndarray) -> None:
        """One sample of both, of one shape and any numbers."""
        want, have = np.asarray(want, "float64"), np.asarray(have, "float64")
        if want.ndim and want.shape[-1] > 1:
            self.rows += want.size // want.shape[-1]
            self.same += int((want.argmax(-1) == have.argmax(-1)).sum())
        finite = np.isfinite(want) & np.isfinite(have)
        alike = (want == have) | (np.isnan(want) & np.isnan(have))
        self.not_finite += int((~finite & ~alike).sum())
        want, have = want[finite], have[finite]
        if want.size:
            error = have - want
            self.low, self.high = min(self.low, float(want.min())), max(self.high, float(want.max()))
            self.max_abs = max(self.max_abs, float(np.abs(error).max()))
            self.signal += float(np.square(want).sum())
            self.other += float(np.square(have).sum())
            self.noise += float(np.square(error).sum())
            self.product += float((want * have).sum())

    @property
    def sqnr_db(self) -> float:
        if self.not_finite:
            return -math.inf
        return math.inf if self.noise == 0 else 10 * math.log10(max(self.signal, 1e-30) / self.noise)

    @property
    def cosine(self) -> float:
        norms = math.sqrt(self.signal * self.other)
        # Rounding must not make two equal vectors differ.
        return 1.0 if self.noise == 0 else min(self.product / norms, 1.0) if norms else 0.0

    def result(self, name: str, other_name: str) -> OutputAgreement:
        reach = max(abs(self.low), abs(self.high)) if self.low <= self.high else 0.0
        span = max(self.high - self.low, 0.0) or reach or 1.0
        top1 = self.same / self.rows if self.rows else None
        return OutputAgreement(name, other_name, self.max_abs, span, self.sqnr_db, self.cosine, top1, self.not_finite)


def measure_agreement(
    feeds: Iterable[Feeds],
    first: Run,
    second: Run,
    *,
    data: str,
    tick: Callable[[int], None] = lambda done: None,
) -> Agreement:
    """Asks both for the answers to the same feeds; at least one.

    Args:
        feeds: By the names of the first.
        first: What is taken for right.
        second: What is held against it; takes feeds by the names of the first, too.
        data: What the feeds are, in words.
        tick: Called with how many samples are done.

    Raises:
        UnsupportedError: They do not give the same outputs: another number of them, other shapes, or no numbers.
    """
    answers = ((first(one), second(one)) for one in feeds)
    seen = list(islice(answers, _MATCHED_BY))
    names = _matched([one for one, _ in seen], [one for _, one in seen])
    tallies = {name: Tally() for name in names}
    count = 0
    for want, have in chain(seen, answers):
        for name, other in names.items():
            if np.shape(want[name]) != np.shape(have[other]):
                shapes = f"{list(np.shape(want[name]))} and {list(np.shape(have[other]))}"
                raise UnsupportedError(f"output {name!r} has shapes {shapes} for one input")
            tallies[name].add(want[name], have[other])
        count += 1
        tick(count)
    return Agreement(data, count, tuple(tally.result(name, names[name]) for name, tally in tallies.items()))


def _matched(first: Sequence[Feeds], second: Sequence[Feeds]) -> dict[str, str]:
    texts = [name for side in (first[0], second[0]) for name, array in side.items() if array.dtype.kind not in "fiub"]
    if texts:
        raise UnsupportedError("only numbers can be compared", offenders=texts)
    try:
        return match_outputs(first, second)
    except ConversionError as error:
        sides = [", ".join(f"{name}{list(a.shape)}" for name, a in side[0].items()) for side in (first, second)]
        raise UnsupportedError(
            f"the two do not give the same outputs: {sides[0]} against {sides[1]}",
            hint="compare models of one task and one input shape",
        ) from error
