"""Metrics of boxes: mean average precision, as COCO and as PASCAL VOC define it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Metric, Tally, Truth
from edgekit.metrics.sums import ClassNames

__all__ = ["MAP", "MAP50", "MAP50_VOC", "MAP75", "MAP_LARGE", "MAP_MEDIUM", "MAP_SMALL"]

# As pycocotools makes them: k * 0.01 and k / 100 are not always the same number.
_OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100
"""Boxes of a class in a picture that count, the best ones."""

_EVERY_AREA = (0.0, 1e10)
_AREAS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_FAR_OUTSIDE = 2.0
_SUSPICIOUS = 10


@dataclass(frozen=True)
class _True:
    """True boxes of one class in one picture, which count before those that do not: crowds, difficult ones, others."""

    boxes: np.ndarray
    is_crowd: np.ndarray
    is_ignored: np.ndarray


Match: TypeAlias = Callable[[np.ndarray, float, _True], tuple[np.ndarray, np.ndarray]]
"""From overlaps [found, true] and the least that counts to which found boxes are right, and which do not count."""


def _match_coco(shares: np.ndarray, least: float, true: _True) -> tuple[np.ndarray, np.ndarray]:
    """A box takes, of those true ones no better box has taken, the one it overlaps most, if enough; of equals the last.

    One that does not count is taken only where no other is; a crowd can be taken again and again.
    """
    free = np.ones(shares.shape[1], bool)
    taken, ignored = np.zeros(len(shares), bool), np.zeros(len(shares), bool)
    for place, row in enumerate(shares):
        for group in (~true.is_ignored, true.is_ignored):
            fits = np.where(free & group, row, -1.0)
            if fits.size and fits.max() >= min(least, 1 - 1e-10):
                best = fits.size - 1 - int(fits[::-1].argmax())
                free[best] = bool(true.is_crowd[best])
                taken[place], ignored[place] = True, true.is_ignored[best]
                break
    return taken & ~ignored, ignored


def _match_voc(shares: np.ndarray, least: float, true: _True) -> tuple[np.ndarray, np.ndarray]:
    """A box is right if the true one it overlaps most is overlapped enough, and is not taken by a better box."""
    taken: set[int] = set()
    right, ignored = np.zeros(len(shares), bool), np.zeros(len(shares), bool)
    for place, row in enumerate(shares):
        best = int(row.argmax()) if row.size else -1
        if best >= 0 and row[best] >= least:
            ignored[place] = true.is_ignored[best]
            right[place] = not ignored[place] and best not in taken
            taken.add(best)
    return right, ignored


Area: TypeAlias = Callable[[np.ndarray, np.ndarray], float]
"""From recall and the highest precision at it or a higher one, in the order of scores, to the mean precision."""


def _area_coco(recall: np.ndarray, precision: np.ndarray) -> float:
    """The mean over 101 recalls, zero where one is not reached."""
    places = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())


def _area_voc(recall: np.ndarray, precision: np.ndarray) -> float:
    """A step at every recall that is reached."""
    return float((np.diff(recall, prepend=0.0) * precision).sum())


@dataclass(frozen=True)
class _Way:
    """How boxes are matched and precision is averaged."""

    overlaps: np.ndarray
    match: Match = _match_coco
    area: Area = _area_coco
    most: int | None = _MOST
    areas_px: tuple[float, float] = _EVERY_AREA

    @property
    def is_of_all_sizes(self) -> bool:
        return self.areas_px == _EVERY_AREA


@dataclass
class _OfClass:
    """What is kept of the found boxes of a class: picture, score, right and not counting at each overlap."""

    pictures: array[int] = field(default_factory=lambda: array("i"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    right: bytearray = field(default_factory=bytearray)
    ignored: bytearray = field(default_factory=bytearray)
    wanted: dict[int, int] = field(default_factory=dict)
    """True boxes that count, by picture."""

    seen: tuple[np.ndarray, ...] | None = None

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Pictures, right [overlaps, boxes] and wrong, in the order of scores; pictures with true boxes, and counts."""
        if self.seen is None:
            order = np.argsort(-np.array(self.scores), kind="stable")
            shape = len(order), len(self.right) // max(len(order), 1)
            right, ignored = (np.array(marks, bool).reshape(shape)[order].T for marks in (self.right, self.ignored))
            counts = np.array(list(self.wanted.items()), np.int64).reshape(-1, 2)
            pictures = np.array(self.pictures, np.int64)[order]
            self.seen = pictures, right, ~right & ~ignored, counts[:, 0], counts[:, 1]
        return self.seen


class Boxes(Tally):
    """Keeps of each found box its score, and at which overlaps it is right."""

    def __init__(self, labels: Sequence[str], way: _Way) -> None:
        super().__init__(labels)
        self._way = way
        self._known = ClassNames(labels)
        self._kept: dict[int, _OfClass] = {}
        self._pictures = 0
        self._found = 0

    def __len__(self) -> int:
        return self._pictures

    def add(self, answer: Any, truth: Truth) -> None:
        scale = _scale(truth)
        if scale is None and not self._way.is_of_all_sizes:
            raise InputError(
                "how large boxes are in pixels is not known", hint="data in the form of COCO, YOLO or VOC say it"
            )
        found = [(self._known.index(item["label"]), float(item["score"]), _found_box(item, scale)) for item in answer]
        if any(np.isnan(score) for _, score, _ in found):
            raise InputError("a score is NaN")
        true = [(self._known.true(item["label"]), item, _box(item["box"], scale)) for item in truth["boxes"]]
        for index in {*(one[0] for one in found), *(one[0] for one in true)}:
            mine = sorted(((score, box) for i, score, box in found if i == index), key=lambda pair: -pair[0])
            boxes = [(item, box) for i, item, box in true if i == index]
            self._match(index, mine[: self._way.most], self._true(boxes, scale is not None))
        self._pictures += 1
        self._found += len(found)

    def _true(self, boxes: list[tuple[Mapping[str, Any], list[float]]], is_px: bool) -> _True:
        corners = np.array([box for _, box in boxes], np.float64).reshape(-1, 4)
        crowd = np.array([bool(item.get("crowd")) for item, _ in boxes], bool)
        ignored = crowd | np.array([bool(item.get("difficult")) for item, _ in boxes], bool)
        if is_px and not self._way.is_of_all_sizes:
            low, high = self._way.areas_px
            areas = np.array([float(item.get("area_px", _areas(np.array([box]))[0])) for item, box in boxes])
            ignored |= (areas < low) | (areas > high)
        return _True(corners, crowd, ignored)

    def _match(self, index: int, found: list[tuple[float, list[float]]], true: _True) -> None:
        kept = self._kept.setdefault(index, _OfClass())
        kept.seen = None
        if wanted := int((~true.is_ignored).sum()):
            kept.wanted[self._pictures] = wanted
        if not found:
            return
        boxes = np.array([box for _, box in found], np.float64)
        shares = _shares(boxes, true.boxes, true.is_crowd)
        matched = [self._way.match(shares, float(least), true) for least in self._way.overlaps]
        right, ignored = np.array([one for one, _ in matched]), np.array([other for _, other in matched])
        if not self._way.is_of_all_sizes:
            low, high = self._way.areas_px
            ignored |= ~right & ((_areas(boxes) < low) | (_areas(boxes) > high))
        kept.pictures.extend([self._pictures] * len(found))
        kept.scores.extend(score for score, _ in found)
        kept.right += right.T.tobytes()
        kept.ignored += ignored.T.tobytes()

    def values(self, weights: np.ndarray) -> np.ndarray:
        each = [self._average(self._kept[index], weights) for index in self._there]
        if not each or np.isnan(each).all():
            raise InputError("there is not one true box in all the samples", hint="take more samples")
        return np.array([np.nanmean(each), *each])

    @property
    def work(self) -> int:
        boxes = sum(len(kept.scores) for kept in self._kept.values())
        return 5 * len(self._way.overlaps) * boxes + self._pictures

    def _average(self, kept: _OfClass, weights: np.ndarray) -> float:
        pictures, right, wrong, places, counts = kept.arrays()
        total = weights[places] @ counts
        if not total:
            return float("nan")
        if not pictures.size:
            return 0.0
        hits, misses = (np.cumsum(rows * weights[pictures], axis=1) for rows in (right, wrong))
        precision = hits / (hits + misses + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        return float(np.mean([self._way.area(*pair) for pair in zip(hits / total, precision, strict=True)]))

    @property
    def _there(self) -> list[int]:
        """Classes that have a true box that counts."""
        return [index for index in self._known.order if index in self._kept and self._kept[index].wanted]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._known.names[index] for index in self._there)

    @property
    def support(self) -> Mapping[str, int]:
        return {self._known.names[index]: sum(self._kept[index].wanted.values()) for index in self._there}

    @property
    def notes(self) -> tuple[str, ...]:
        if not self._found:
            return (f"not one box was found in {self._pictures} pictures",)
        if self._pictures >= _SUSPICIOUS and not any(any(kept.right) for kept in self._kept.values()):
            return ("no box that was found lies on a true one: are boxes of data and model x0, y0, x1, y1 alike?",)
        return ()


def _scale(truth: Truth) -> list[float] | None:
    """What shares of the picture are multiplied by to be pixels; None where its size is not known."""
    size = truth.get("size")
    return None if size is None else [float(value) for value in (*size, *size)]


def _found_box(item: Mapping[str, Any], scale: list[float] | None) -> list[float]:
    if "box" not in item and "box_px" in item:
        if scale is None:
            raise InputError(
                "boxes in pixels, of a picture whose size the data do not say",
                hint='give the step "detections" the unit "share"',
            )
        return _box(item["box_px"], None)
    if max(map(abs, map(float, item["box"]))) > _FAR_OUTSIDE:
        raise InputError(
            f"a found box reaches {max(map(abs, item['box'])):g}, as if it were in pixels: {item['box']}",
            hint="boxes are shares of the picture's width and height, from 0 to 1",
        )
    return _box(item["box"], scale)


def _box(corners: Sequence[float], scale: list[float] | None) -> list[float]:
    box = [float(value) for value in corners]
    if len(box) != 4 or not all(np.isfinite(box)):
        raise InputError(f"{corners} is not a box", hint="a box is [x0, y0, x1, y1], relative to the picture")
    return box if scale is None else [value * factor for value, factor in zip(box, scale, strict=True)]


def _areas(boxes: np.ndarray) -> np.ndarray:
    sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    return np.asarray(sizes[:, 0] * sizes[:, 1])


def _shares(found: np.ndarray, true: np.ndarray, is_crowd: np.ndarray) -> np.ndarray:
    """[found, true]: intersection over union; over the found box's own area for a crowd."""
    upper = np.maximum(found[:, None, :2], true[None, :, :2])
    lower = np.minimum(found[:, None, 2:], true[None, :, 2:])
    common = np.prod(np.maximum(lower - upper, 0.0), axis=2)
    own, other = _areas(found)[:, None], _areas(true)[None, :]
    together = np.where(is_crowd[None, :], own, own + other - common)
    shares: np.ndarray = np.divide(common, together, out=np.zeros_like(common), where=together > 0)
    return shares


def _metric(name: str, title: str, way: _Way) -> Metric:
    answer = 'what the step "detections" gives'
    return Metric(name, title, True, ("boxes",), answer, lambda labels: Boxes(labels, way), resamples=300)


MAP = _metric("map", "mean average precision at IoU 0.50 to 0.95", _Way(_OVERLAPS))
"""COCO's: mean over ten overlaps, 101 recalls and the classes that occur, where the best 100 boxes of a class in a
picture count (T.-Y. Lin et al., Microsoft COCO, arXiv 1405.0312, and the challenge's page on detection evaluation)."""

MAP50 = _metric("map50", "mean average precision at IoU 0.5, COCO's", _Way(_OVERLAPS[:1]))
MAP75 = _metric("map75", "mean average precision at IoU 0.75, COCO's", _Way(_OVERLAPS[5:6]))
MAP_SMALL, MAP_MEDIUM, MAP_LARGE = (
    _metric(f"map-{size}", f"mean average precision at IoU 0.50 to 0.95, {size} boxes", _Way(_OVERLAPS, areas_px=area))
    for size, area in _AREAS.items()
)

MAP50_VOC = _metric(
    "map50-voc", "mean average precision at IoU 0.5, PASCAL VOC's", _Way(_OVERLAPS[:1], _match_voc, _area_voc, None)
)
"""PASCAL VOC's since 2010: the area under the whole curve of precision made monotone, and the mean over classes that
occur (M. Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, 2015)."""
