"""What a net is trained on: every sample prepared once, stacked, and handed out in shuffled batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.family import Batch, Family
from edgekit.processing import Processing
from edgekit.samples import Samples
from edgekit.scoring import BATCH, questions_of
from edgekit.spec import Signature

__all__ = ["HOLD_OUT_EVERY", "MAX_BYTES", "Material", "held_out", "stack", "trained_on"]

HOLD_OUT_EVERY = 10
"""Every tenth training sample is only judged by, never trained on, so that the metric of an epoch means something."""

MAX_BYTES = 2 << 30
"""Stacked feeds and targets may be so large; while they are stacked, twice that is needed."""


@dataclass(frozen=True)
class Material:
    """Feeds and targets of all samples.

    Attributes:
        feeds: By input name, a row a sample.
        common: Inputs that are the same for every sample, as they are fed.
        state: Inputs that start as zeros at every call: one row, to be spread over the batch.
        targets: By name, a row a sample; of a net that answers its own input, the feeds.
    """

    feeds: Mapping[str, np.ndarray]
    common: Mapping[str, np.ndarray]
    state: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter(self.feeds.values())))

    def batches(self, family: Family, generator: np.random.Generator) -> Iterator[tuple[Batch, Batch]]:
        """Feeds and targets of every row once, shuffled and augmented; what is left below half a batch is left out."""
        size = min(family.training.batch_size, len(self))
        order = generator.permutation(len(self))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            if len(rows) * 2 < size:
                return
            feeds, targets = self._rows(rows)
            if family.training.augment is not None:
                feeds, targets = family.training.augment(feeds, targets, generator)
            yield self._whole(feeds, len(rows)), targets

    def in_order(self, size: int) -> Iterator[tuple[Batch, Batch]]:
        """Feeds and targets of every row once, as they are, at most `size` at a time."""
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            feeds, targets = self._rows(rows)
            yield self._whole(feeds, len(rows)), targets

    def _rows(self, rows: np.ndarray) -> tuple[Batch, Batch]:
        feeds = {name: array[rows] for name, array in self.feeds.items()}
        return feeds, {name: array[rows] for name, array in self.targets.items()}

    def _whole(self, feeds: Batch, count: int) -> Batch:
        """With the inputs that are not the samples'."""
        state = {name: np.repeat(array, count, axis=0) for name, array in self.state.items()}
        return {**feeds, **state, **self.common}

    def num_batches(self, batch_size: int) -> int:
        """How many `batches` gives."""
        size = min(batch_size, len(self))
        whole, rest = divmod(len(self), size)
        return whole + (rest > 0 and rest * 2 >= size)


def stack(
    family: Family, samples: Samples, signature: Signature, processing: Processing, labels: tuple[str, ...]
) -> Material:
    """Prepares every sample as it would be on the device, and stacks them.

    Raises:
        InputError: A sample does not fit or has no truth, samples become feeds of different sizes, or all together are
            too large for the memory.
    """
    state = {pair.input for pair in signature.state}
    rows: dict[str, list[np.ndarray]] = {spec.name: [] for spec in signature.inputs}
    truths: dict[str, list[np.ndarray]] = {}
    batched = {spec.name for spec in signature.inputs if spec.shape[:1] == (BATCH,)} - state
    total = 0
    for question in questions_of(family, samples, signature, processing, is_training=True):
        target = _target(family, question.truth, labels, f"{samples.path}, sample {question.name}")
        for part in question.parts:
            for name, array in part.items():
                if name in batched or not rows[name]:
                    rows[name].append(array)
                elif name not in state and not np.array_equal(rows[name][0], array):
                    raise InputError(f"input {name!r} has no batch axis but differs from sample to sample")
            count = len(next(part[name] for name in rows if name in batched)) if batched else 1
            for name, array in target.items():
                truths.setdefault(name, []).append(np.repeat(array[None], count, axis=0))
            total += sum(array.nbytes for name, array in part.items() if name in batched)
            total += sum(array.nbytes for array in target.values()) * count
        if total > MAX_BYTES:
            raise InputError(
                f"the samples of {samples.path} are larger than {MAX_BYTES / 2**30:.0f} GB as feeds",
                hint="train on fewer, or on smaller inputs",
            )
    feeds = {name: _stacked(name, rows[name]) for name in rows if name in batched}
    return Material(
        feeds,
        {name: rows[name][0] for name in rows if name not in batched | state},
        {name: rows[name][0][:1] for name in rows if name in state},
        {name: _stacked(name, arrays) for name, arrays in truths.items()} or feeds,
    )


def _target(family: Family, truth: Mapping[str, Any], labels: tuple[str, ...], where: str) -> dict[str, np.ndarray]:
    if family.training.targets is None:
        return {}
    try:
        found = family.training.targets(truth, labels)
    except (KeyError, ValueError) as error:
        said = error.message if isinstance(error, InputError) else f"it has {sorted(truth) or 'no truth'}, and {error}"
        raise InputError(
            f"{where} cannot be learnt from: {said}", hint=f"{family.name} learns {family.task}"
        ) from error
    return {name: np.asarray(array) for name, array in found.items()}


def _stacked(name: str, rows: list[np.ndarray]) -> np.ndarray:
    shapes = sorted({array.shape[1:] for array in rows})
    if len(shapes) > 1:
        raise InputError(
            f"{name!r} has rows of different sizes: {shapes[0]}, {shapes[1]}{', ...' * (len(shapes) > 2)}",
            hint="the processing must bring every sample to one size to train on them",
        )
    return np.concatenate(rows)


def held_out(samples: Samples) -> Samples:
    """Every tenth sample. Raises InputError where there are fewer than ten."""
    if len(samples) < HOLD_OUT_EVERY:
        raise InputError(f"{samples.path}: {len(samples)} samples are too few to train on", hint="ten at least")
    return samples.where(_is_held_out)


def trained_on(samples: Samples) -> Samples:
    """All but every tenth sample."""
    return samples.where(lambda place: not _is_held_out(place))


def _is_held_out(place: int) -> bool:
    return place % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1
