"""The data a model is judged by: which samples, which classes they speak of, and the metric they call for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.datasets import open_dataset
from edgekit.datasets.description import DESCRIPTION
from edgekit.errors import InputError
from edgekit.metrics import Metric, Truth
from edgekit.readers import choose_split
from edgekit.readers.folder import splits_of
from edgekit.readers.pictures import BACKGROUNDS
from edgekit.registry import DATASETS, METRICS, READERS
from edgekit.samples import Reading, Samples, read_samples

__all__ = ["Examined", "Question", "choose_metric", "is_described", "open_data"]

_BY_TASK = (
    ("anomaly", "auc"),
    ("detection", "map50"),
    ("segmentation", "miou"),
    ("classification", "top1"),
    ("spotting", "top1"),
    ("speech recognition", "wer"),
    ("text recognition", "cer"),
    ("image to image", "ssim"),
    ("regression", "rmse"),
    ("language model", "perplexity"),
    ("text generation", "perplexity"),
    ("audio generation", "bits-per-token"),
)
"""A word of the data's task -> the metric; the first that occurs."""

_BY_TRUTH = {
    "boxes": "map50",
    "mask": "miou",
    "segments": "miou",
    "transcript": "wer",
    "target": "ssim",
    "label": "top1",
}
_PIXELS = ("mask", "segments")


@dataclass(frozen=True)
class Question:
    """Which samples are asked for, and by what they are to be judged.

    Attributes:
        data: Name of a data set, or a path.
        metric: Name of a metric; by default what the data call for.
        split: Of data that have some; by default the one to test on.
        limit: At most so many, drawn with `seed`.
        seed: Of the draw.
        images: The folder of the files that the data name, where that is apart.
    """

    data: str | Path
    metric: str | None = None
    split: str | None = None
    limit: int | None = None
    seed: int = 0
    images: Path | None = None


@dataclass(frozen=True)
class Examined:
    """The samples, the classes they speak of, and the metric they are judged by."""

    given: str
    split: str | None
    samples: Samples
    labels: tuple[str, ...]
    metric: Metric = field(repr=False)

    def warnings_for(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """What does not go together with a model of the classes `labels`.

        Raises:
            InputError: Masks have indices of classes in another order than the model's.
        """
        own = self.labels
        if not own or not labels or own == labels:
            return ()
        if self.metric.truths == _PIXELS and "mask" in next(iter(self.samples)).truth:
            place = next((i for i, pair in enumerate(zip(own, labels, strict=False)) if pair[0] != pair[1]), None)
            if place is not None:
                raise InputError(
                    f"class {place} of the masks is {own[place]!r}, and of the model {labels[place]!r}",
                    hint="masks hold indices: data and model must have the same classes in the same order",
                )
        is_by_index = all(name.isdecimal() for name in own) and not set(own) & set(labels)
        if is_by_index and len(labels) == len(own) + 1 and labels[0].lower() in BACKGROUNDS:
            return (
                f"the model's class 0 is {labels[0]!r}, and the data have {len(own)} classes by index: does 0 mean the "
                "background there too?",
            )
        return ()


def open_data(asked: Question) -> Examined:
    """The data, and the metric.

    Raises:
        InputError: There are none, or they cannot be read, or do not say what is true.
        UnsupportedError: There is no such metric.
    """
    data, path = asked.data, Path(asked.data)
    is_named = isinstance(data, str) and data in DATASETS.names()
    if not is_named and path.exists() and not is_described(path):
        samples = read_samples(
            path, limit=asked.limit, seed=asked.seed, images=asked.images, split=asked.split or _split_of(path)
        )
        return Examined(str(data), samples.split, samples, samples.labels, choose_metric(asked.metric, "", samples))
    dataset = open_dataset(data)
    if asked.images is not None:
        raise InputError(f"the data set {data} names no files elsewhere, so it takes no --images")
    split = asked.split or "test"
    samples = dataset.samples(split, limit=asked.limit, seed=asked.seed)
    return Examined(str(data), split, samples, dataset.labels, choose_metric(asked.metric, dataset.task, samples))


def is_described(path: Path) -> bool:
    """Whether a ``dataset.yaml`` says what it is; that of another form may have the same suffix."""
    if path.is_dir():
        return (path / DESCRIPTION).exists()
    return path.suffix.lower() in (".yaml", ".yml") and not READERS.get("yolo").accepts(path)


def _split_of(path: Path) -> str | None:
    """Of a folder that consists of splits the one to test on."""
    if path.is_dir() and READERS.get("folder") is next(one for _, one in READERS if one.accepts(path)):
        splits = splits_of(path)
        return choose_split(Reading(path), splits) if splits else None
    return None


def choose_metric(name: str | None, task: str, samples: Samples) -> Metric:
    """The metric called `name`, else the one that the data's task, or what they say is true, calls for.

    Raises:
        InputError: The data do not say what is true of them.
        UnsupportedError: There is no metric of that name.
    """
    if name is not None:
        return METRICS.get(name)
    words = task.lower().replace("-", " ")
    for word, metric in _BY_TASK:
        if word in words:
            return METRICS.get(metric)
    truth: Truth = next(iter(samples)).truth
    for key, metric in _BY_TRUTH.items():
        if key in truth:
            return METRICS.get("rmse" if key == "target" and _is_numbers(truth[key]) else metric)
    raise InputError(
        f"{samples.path} does not say what is true of its samples",
        hint="put files into folders named after their classes, or write a labels.jsonl beside them",
    )


def _is_numbers(target: Any) -> bool:
    """Whether a target is numbers to be told, and no picture."""
    return isinstance(target, int | float | np.ndarray) and np.ndim(target) < 2
