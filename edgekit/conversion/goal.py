"""What the user wants kept, measured on the user's own data by the code of `edgekit evaluate`, beside the source."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.conversion.acceptance import Accepted
from edgekit.conversion.accuracy import Accuracy, as_written, running
from edgekit.conversion.trials import Bar
from edgekit.converter import SourceModel
from edgekit.errors import InputError
from edgekit.evaluating.asking import ANSWERS
from edgekit.evaluating.records import parse_drop
from edgekit.evaluation import evaluate
from edgekit.family import Run
from edgekit.parity import compare
from edgekit.processing import Processing
from edgekit.registry import METRICS
from edgekit.samples import Samples, read_samples
from edgekit.spec import Signature

__all__ = ["AGREEMENT", "Goal", "parse_decibels", "parse_drop"]

AGREEMENT = "agreement"
"""The metric of data without truths: how often the largest number of the output is where the source has it."""


def parse_decibels(value: str | float) -> float:
    """``"25"``, or ``"25 dB"``, as a number.

    Raises:
        InputError: It is no number above 0.
    """
    try:
        decibels = float(str(value).strip().lower().removesuffix("db"))
    except ValueError:
        decibels = math.nan
    if not 0 < decibels < math.inf:
        raise InputError(f"{value!r} is no signal to noise in dB", hint="--min-sqnr 20 allows an error of a tenth")
    return decibels


@dataclass
class Goal:
    """A metric on the user's data, and how much of it a file may lose.

    Attributes:
        data: What `edgekit evaluate` takes: a data set by name, a folder of folders named after classes, a
            ``dataset.yaml``; for `AGREEMENT` anything that holds samples.
        source: Which is asked for its own answers once.
        processing: From samples to feeds, and from outputs to answers.
        max_drop: As a share.
        metric: By default what the data's task or truths call for; `AGREEMENT` needs no truths.
        limit: Use at most so many samples, drawn with `seed`.
    """

    data: str | Path
    source: SourceModel
    processing: Processing
    max_drop: float
    metric: str | None = None
    limit: int | None = None
    seed: int = 0

    @property
    def bar(self) -> Bar:
        """What the search is to reach."""
        if self.metric == AGREEMENT:
            return Bar(min_agreement=1.0 - self.max_drop)
        found = self.source_accuracy
        return Bar(found.metric, self.max_drop, found.is_higher_better)

    @property
    def source_accuracy(self) -> Accuracy:
        """What the source itself reaches.

        Raises:
            InputError: The data cannot be read, do not fit the model, or lack the truth the metric needs.
        """
        return self._asked[0]

    @property
    def seconds(self) -> float:
        """What asking the source took, and about what judging a file will."""
        return self._asked[1]

    @cached_property
    def _asked(self) -> tuple[Accuracy, float]:
        started = time.monotonic()
        found = self._accuracy(self.source.run, self.source.signature, None)
        return found, time.monotonic() - started

    def judge(self, file: Path, accepted: Accepted) -> Accuracy:
        """What a written file reaches in the runtime it was accepted in, run in a child.

        Raises:
            ConversionError: The child died.
            InputError: The file's answers cannot be judged.
        """
        with running(file, accepted) as run:
            return self._accuracy(run, as_written(self.source.signature, accepted), self.source_accuracy.value)

    @property
    def count(self) -> int:
        """Samples it is judged by."""
        return self.source_accuracy.count

    def _accuracy(self, run: Run, signature: Signature, source_value: float | None) -> Accuracy:
        if self.metric == AGREEMENT:
            return self._agreement(self._source_answers if source_value is None else self._answers(run, signature))
        answering = _Answering(run, signature, self.processing, self.metric)
        found = evaluate(answering, self.data, metric=self.metric, num_samples=self.limit, seed=self.seed)
        value = found.value if source_value is None else source_value
        given = found.count, str(self.data), found.is_higher_better
        return Accuracy(found.metric, found.value, value, *given, allowed=self.max_drop)

    @cached_property
    def _samples(self) -> Samples:
        return read_samples(Path(self.data), limit=self.limit, seed=self.seed)

    @cached_property
    def _source_answers(self) -> list[dict[str, np.ndarray]]:
        return self._answers(self.source.run, self.source.signature)

    def _answers(self, run: Run, signature: Signature) -> list[dict[str, np.ndarray]]:
        """The raw outputs for every sample; of one whose windows are several calls those of each call."""
        parts = (part for sample in self._samples for part in self.processing.batches(sample.value, signature))
        return [dict(run(part)) for part in parts]

    def _agreement(self, answers: list[dict[str, np.ndarray]]) -> Accuracy:
        share = compare(self._source_answers, answers, data=str(self.data)).top1_agreement
        if share is None:
            raise InputError(
                "the model's outputs are single numbers, of which none is the largest",
                hint="give data with truths, and a metric",
            )
        return Accuracy(AGREEMENT, share, 1.0, len(self._samples), str(self.data), True, allowed=self.max_drop)


class _Answering:
    """What `evaluate` asks: an object with `predict`."""

    def __init__(self, run: Run, signature: Signature, processing: Processing, metric: str | None) -> None:
        steps: Mapping[str, Any] | None = ANSWERS.get(metric or "")
        is_bare = not processing.outputs and steps is not None
        self.processing = replace(processing, outputs=(steps,)) if is_bare and steps is not None else processing
        if metric is not None:
            METRICS.get(metric)
        self._run, self._signature = run, signature

    def predict(self, value: Any) -> Any:
        return self.processing.answer(value, self._run, self._signature)
