"""The user's data: a part to calibrate on, and the samples files are judged by, none of them in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from edgekit.card import Card
from edgekit.conversion.calibration import CalibrationData
from edgekit.conversion.given import Given, OwnData
from edgekit.conversion.goal import AGREEMENT, parse_decibels, parse_drop
from edgekit.conversion.offered import read_offered
from edgekit.conversion.trials import Bar
from edgekit.conversion.tuning import default_bar
from edgekit.converter import SourceModel
from edgekit.datasets import open_dataset
from edgekit.errors import InputError
from edgekit.evaluating.asking import ANSWERS, suited
from edgekit.evaluating.data import Question, is_described, open_data
from edgekit.feeds import random_feeds
from edgekit.metrics import Metric
from edgekit.optimizing.exam import Agreement, Exam, Labeled, Ruler
from edgekit.processing import Processing
from edgekit.registry import DATASETS
from edgekit.samples import Samples, read_samples

__all__ = ["DEFAULT_DROP", "Material", "Wanted", "gather_material"]

DEFAULT_DROP = 0.005
"""Of a metric, where the user says nothing."""

CALIBRATED = 200
"""Samples that are calibrated on, of those the user gives no purpose."""

EVERY = 4
"""Of data without splits one sample of so many is calibrated on."""

RAW_SAMPLES = 256
"""Samples that are asked for raw outputs: of data without labels."""

_RANDOM = 32


@dataclass(frozen=True)
class Wanted:
    """What the user says of data and accuracy; see `edgekit.optimize`."""

    data: str | Path | None = None
    metric: str | None = None
    max_drop: float | str | None = None
    min_sqnr_db: float | str | None = None
    calibration_data: Any = None
    num_samples: int | None = None
    processing: Processing | str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Material:
    """What a search is given.

    Attributes:
        data: To calibrate on.
        exam: To judge by.
        identity: Of both.
        notes: What the user should know.
    """

    data: CalibrationData
    exam: Exam
    identity: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Parts:
    """Of what the user gave, the part to judge by and that to calibrate on.

    Attributes:
        metric: By which the truth of `judged` is told; None where there is none.
    """

    judged: Samples | None = None
    calibration: Samples | None = None
    metric: Metric | None = None
    labels: tuple[str, ...] = ()


def gather_material(given: Given, opened: SourceModel, card: Card | None, wanted: Wanted) -> Material:
    """Reads the data.

    Raises:
        InputError: They cannot be read, do not fit the model, or lack what the metric needs.
    """
    own = OwnData.of(given, is_needed=False) if wanted.data is None else OwnData()
    asked = wanted.data if wanted.data is not None else own.dataset.name if own.dataset is not None else None
    is_raw = wanted.min_sqnr_db is not None or wanted.metric == AGREEMENT
    parts, offered = _parts(asked, wanted.metric, is_raw=is_raw), wanted.calibration_data
    samples = parts.calibration
    if offered is not None:
        samples = read_offered(offered, limit=wanted.num_samples, seed=wanted.seed)
    is_own = offered is None and wanted.data is None and given.model is not None
    make_feeds = given.model.family.feeds if is_own and given.model is not None else None
    data = CalibrationData.gather(opened.signature, card, wanted.processing, samples, make_feeds)
    data.notes += [*given.notes, *([own.note] if own.note else [])]
    exam, notes = _exam(parts, data, opened, wanted)
    identity = repr((exam.ruler.name, len(exam.samples), _identity(parts.judged), data.identity, wanted.seed))
    return Material(data, exam, identity, tuple(notes))


def _identity(samples: Samples | None) -> str:
    return samples.sha256 if samples is not None else ""


def _parts(data: str | Path | None, metric: str | None, *, is_raw: bool) -> _Parts:
    if data is None:
        return _Parts()
    path, is_named = Path(data), isinstance(data, str) and data in DATASETS.names()
    is_data_set = is_named or is_described(path)
    if not is_data_set and (is_raw or (metric is None and not next(iter(read_samples(path))).truth)):
        return _divided(read_samples(path), None, ())
    examined = open_data(Question(data, None if is_raw else metric))
    chosen = None if is_raw else examined.metric
    if not is_data_set:
        return _divided(examined.samples, chosen, examined.labels)
    calibration = open_dataset(data).samples("calibration", limit=CALIBRATED)
    return _Parts(examined.samples, calibration, chosen, examined.labels)


def _divided(samples: Samples, metric: Metric | None, labels: tuple[str, ...]) -> _Parts:
    """One in `EVERY` to calibrate on, the others to judge by."""
    few = min(len(samples) // EVERY, CALIBRATED)
    step = len(samples) // few if few else len(samples) + 1
    calibration = samples.where(lambda place: place % step == step - 1) if few else None
    return _Parts(samples.where(lambda place: place % step != step - 1), calibration, metric, labels)


def _exam(parts: _Parts, data: CalibrationData, opened: SourceModel, wanted: Wanted) -> tuple[Exam, list[str]]:
    drop = None if wanted.max_drop is None else parse_drop(wanted.max_drop)
    metric, min_sqnr_db, seed = wanted.metric, wanted.min_sqnr_db, wanted.seed
    if min_sqnr_db is not None and (metric is not None or drop is not None):
        raise InputError("a metric or decibels: give one of --min-sqnr and --metric with --max-drop")
    if parts.metric is not None:
        return _labeled(parts, parts.metric, data, opened, drop, seed), []
    if metric not in (None, AGREEMENT):
        raise InputError(f"the metric {metric} needs labeled data", hint="--data")
    bar = default_bar(data.processing.outputs)
    if min_sqnr_db is not None:
        bar = Bar(min_sqnr_db=parse_decibels(min_sqnr_db))
    elif drop is not None or metric == AGREEMENT:
        bar = Bar(min_agreement=1.0 - (DEFAULT_DROP if drop is None else drop))
    samples, notes = _raw_samples(parts, data, opened)
    ruler: Ruler = Agreement("agreement" if bar.min_agreement is not None else "sqnr")
    processing = replace(data.processing, outputs=())
    return Exam(samples, processing, ruler, bar, opened.run, opened.signature, seed), notes


def _labeled(
    parts: _Parts, metric: Metric, data: CalibrationData, opened: SourceModel, drop: float | None, seed: int
) -> Exam:
    assert parts.judged is not None
    processing, steps = data.processing, ANSWERS.get(metric.name)
    if not processing.outputs and steps is not None:
        processing = replace(processing, outputs=(steps,))
    labels = processing.labels or parts.labels
    processing = suited(replace(processing, labels=labels), metric)
    bar = Bar(metric.name, DEFAULT_DROP if drop is None else drop, metric.is_higher_better)
    samples = [(sample.name, sample.value, sample.truth) for sample in parts.judged]
    return Exam(samples, processing, Labeled(metric, labels), bar, opened.run, opened.signature, seed)


def _raw_samples(
    parts: _Parts, data: CalibrationData, opened: SourceModel
) -> tuple[list[tuple[str, Any, Any]], list[str]]:
    """What is at hand to hold outputs against the source's: samples, else those held out, else random feeds."""
    if parts.judged is not None:
        return [(s.name, s.value, None) for s in islice(parts.judged, RAW_SAMPLES)], []
    if data.held_out:
        return [(f"held out {i}", dict(feed), None) for i, feed in enumerate(data.held_out)], []
    note = "judged by RANDOM numbers, which say nothing of real inputs: --data gives real ones"
    feeds: Sequence[Any] = random_feeds(opened.signature, count=_RANDOM, seed=1)
    return [(f"random {i}", feed, None) for i, feed in enumerate(feeds)], [note]
