"""Metrics of the classes of pixels: how far the map of an answer and a mask lie on each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from edgekit.decoding import open_picture
from edgekit.errors import InputError
from edgekit.metrics import Confusion, Metric, Tally, Truth
from edgekit.metrics.sums import Rows

__all__ = ["DICE", "MIOU", "PIXEL_ACCURACY", "VOID"]

VOID = 255
"""In a mask: a pixel that counts for nothing, as in PASCAL VOC's masks."""

Overlap: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From pixels of each class in common, answered and true, to a figure of each class."""


class Pixels(Tally):
    """Keeps of each sample how many pixels of each class that occurs in it are right, answered and true.

    A class counts that occurs in a mask or in an answer; the background is a class like any other. Where a mask has
    another size than the answer, its nearest pixels are taken.
    """

    def __init__(self, labels: Sequence[str], overlap: Overlap | None) -> None:
        super().__init__(labels)
        self._overlap = overlap
        self._rows = Rows(5, "q")
        self._count = 0
        self._confusion = np.zeros((max(len(labels), 1),) * 2, np.int64)
        self._void = 0

    def __len__(self) -> int:
        return self._count

    def add(self, answer: Any, truth: Truth) -> None:
        found = np.asarray(answer)
        if found.ndim != 2 or found.dtype.kind not in "iu" or not found.size or int(found.min()) < 0:
            raise InputError(f"a map of classes is [height, width] of indices, not {found.dtype} {list(found.shape)}")
        mask = _nearest(_mask(truth, self.labels), found.shape)
        counts_for = mask != VOID
        found, mask = found[counts_for].astype(np.int64), mask[counts_for].astype(np.int64)
        size = 1 + max(int(found.max(initial=0)), int(mask.max(initial=0)))
        if self.labels and size > len(self.labels):
            raise InputError(
                f"class {size - 1} is beyond the {len(self.labels)} labels", hint=f"{VOID} is for no class"
            )
        counts = np.bincount(mask * size + found, minlength=size * size).reshape(size, size)
        for index in np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1)).tolist():
            self._rows.add((self._count, index, counts[index, index], counts[:, index].sum(), counts[index].sum()))
        if size > len(self._confusion):
            self._confusion = np.pad(self._confusion, (0, size - len(self._confusion)))
        self._confusion[:size, :size] += counts
        self._void += int((~counts_for).sum())
        self._count += 1

    def values(self, weights: np.ndarray) -> np.ndarray:
        self._require_pixels()
        sample, index, *columns = self._rows.columns
        common, answered, true = (
            np.bincount(index, weights[sample] * column, len(self._confusion)) for column in columns
        )
        if self._overlap is None:
            each = np.divide(common, true, out=np.full(len(true), np.nan), where=true > 0)
            return np.array([common.sum() / true.sum(), *each])
        there = answered + true > 0
        each = np.where(there, self._overlap(common, answered, np.where(there, true, 1)), np.nan)
        return np.array([np.nanmean(each), *each])

    @property
    def work(self) -> int:
        return 3 * len(self._rows)

    def _require_pixels(self) -> None:
        counted = self._confusion.sum(axis=1)
        if not counted.any():
            raise InputError("the masks leave no pixel that counts", hint=f"every pixel of theirs is {VOID}")
        if self._void and not counted[1:].any() and len(self.labels) in (0, 2):
            raise InputError(
                f"all that is not class 0 in the masks is {VOID}, which counts for nothing",
                hint="save the foreground as 1",
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.labels or tuple(f"class {index}" for index in range(len(self._confusion)))

    @property
    def support(self) -> Mapping[str, int]:
        return dict(zip(self.classes, self._confusion.sum(axis=1).tolist(), strict=True))

    @property
    def confusion(self) -> Confusion:
        return Confusion.of(self.classes, self._confusion)

    @property
    def notes(self) -> tuple[str, ...]:
        answered, true = (self._confusion.sum(axis=axis) > 0 for axis in (0, 1))
        if self._count > 1 and answered.sum() == 1 and true.sum() > 1:
            return (f"every pixel of all answers is {self.classes[int(np.flatnonzero(answered)[0])]!r}",)
        return ()


def _mask(truth: Truth, labels: Sequence[str]) -> np.ndarray:
    """[height, width] of class indices: those of a picture of gray values or of a palette, or an array of them."""
    if truth.get("mask") is None:
        return truth["segments"].mask(labels, VOID)
    given = truth["mask"]
    if not isinstance(given, str | Path):
        mask = np.asarray(given)
    else:
        opened = open_picture(given)
        if opened.mode not in ("L", "P", "1"):
            raise InputError(
                f"{given} is a picture of mode {opened.mode}, not a mask", hint="save indices of classes as gray values"
            )
        mask = np.asarray(opened).astype(np.uint8)
    if mask.ndim != 2 or mask.dtype.kind not in "iub":
        raise InputError(f"a mask is [height, width] of indices, not {mask.dtype} {list(mask.shape)}")
    return mask


def _nearest(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if mask.shape == shape:
        return mask
    rows, columns = (
        ((np.arange(wanted) + 0.5) * there / wanted).astype(int)
        for wanted, there in zip(shape, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns[None, :]]


def _union(common: np.ndarray, answered: np.ndarray, true: np.ndarray) -> np.ndarray:
    return common / (answered + true - common)


def _dice(common: np.ndarray, answered: np.ndarray, true: np.ndarray) -> np.ndarray:
    return 2 * common / (answered + true)


def _metric(name: str, title: str, overlap: Overlap | None) -> Metric:
    truths, answer = ("mask", "segments"), 'what the step "class_map" or "mask" gives'
    return Metric(name, title, True, truths, answer, lambda labels: Pixels(labels, overlap))


MIOU = _metric("miou", "mean intersection over union", _union)
DICE = _metric("dice", "mean Dice coefficient, the F1 of the pixels of each class", _dice)
PIXEL_ACCURACY = _metric("pixel-accuracy", "share of pixels whose class is right", None)
