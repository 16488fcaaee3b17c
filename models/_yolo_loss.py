"""What YOLOX learns by: which place answers for which thing (SimOTA), and how wrong it is.

Ge et al. 2021, arXiv:2107.08430, section 2.1, a simpler form of OTA (arXiv:2103.14259). Other than there, the two
cross-entropies of "a thing" and of its class are one, of their product: it is what the net answers and what SimOTA's
cost weighs. For a place that answers for a thing it is the sum of the two; to any other place a class cannot be
wrong as long as it says that nothing is there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.errors import InputError, UnsupportedError
from edgekit.family import Batch

__all__ = [
    "MOST_BOXES",
    "STRIDES",
    "assign",
    "detection_loss",
    "detection_targets",
    "mirrored",
    "pair_overlaps",
    "places",
]

MOST_BOXES = 100
"""Boxes of a picture that can be learnt from."""

STRIDES = (8, 16, 32)
"""Pixels from one place to the next, at the three levels."""
_CENTER_RADIUS = 2.5
"""Places so many strides from the middle of a thing may answer for it."""
_BOX_COST = 3.0
_BOX_WEIGHT = 5.0
_MOST_OVERLAPS = 10
"""Overlaps whose sum says how many places answer for a thing."""
_FAR = 1e5
"""Cost of a place that is not both within a thing and near its middle: only taken where no other is left."""
_NEVER = 1e9


def detection_targets(truth: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Of one picture the corners ``boxes`` [100, 4] and the class indices ``classes`` [100], -1 where there is no more.

    Raises InputError for a class that is none of `labels`, and for more boxes than there is room for.
    """
    boxes, classes = np.zeros((MOST_BOXES, 4), np.float32), np.full(MOST_BOXES, -1, np.int64)
    items = truth["boxes"]
    if len(items) > MOST_BOXES:
        raise InputError(f"{len(items)} boxes are too many to learn from", hint=f"{MOST_BOXES} at most")
    for index, item in enumerate(items):
        if item["label"] not in labels:
            raise InputError(f"{item['label']!r} is no class", hint=f"classes: {', '.join(labels)}")
        boxes[index], classes[index] = item["box"], labels.index(item["label"])
    return {"boxes": boxes, "classes": classes}


def mirrored(feeds: Batch, targets: Batch, generator: np.random.Generator) -> tuple[Batch, Batch]:
    """Half of the pictures as in a mirror, with their boxes."""
    image, boxes = feeds["image"].copy(), targets["boxes"].copy()
    turned = generator.random(len(image)) < 0.5
    image[turned] = image[turned][..., ::-1]
    boxes[turned] = np.array([1, 0, 1, 0], np.float32) + boxes[turned][..., [2, 1, 0, 3]] * [-1, 1, -1, 1]
    return {**feeds, "image": image}, {**targets, "boxes": boxes}


def detection_loss(outputs: Batch, targets: Batch) -> Any:
    """``1 - IoU**2`` of places that answer for a thing, five times, and cross-entropy of all; per such place.

    The score of such a place is to become its IoU, so that the best box of a thing comes first.
    """
    import torch

    boxes, scores = outputs["boxes"], outputs["scores"]
    count = max(int((targets["classes"] >= 0).sum(1).max()), 1)
    true, classes = targets["boxes"][:, :count], targets["classes"][:, :count]
    with torch.no_grad():
        owners = assign(boxes, scores, true, classes)
    is_taken = owners >= 0
    row, place = is_taken.nonzero(as_tuple=True)
    owner = owners[row, place]
    shares = _overlaps(boxes[row, place], true[row, owner])
    wanted = torch.zeros_like(scores)
    wanted[row, place, classes[row, owner]] = shares.detach()
    taken = max(int(is_taken.sum()), 1)
    right = torch.nn.functional.binary_cross_entropy(scores, wanted, reduction="sum")
    return (_BOX_WEIGHT * (1 - shares**2).sum() + right) / taken


def assign(boxes: Any, scores: Any, true: Any, classes: Any) -> Any:
    """SimOTA: of each place the index of the thing it answers for, -1 for none; int64 [batch, places].

    Args:
        boxes: What the net says, [batch, places, 4].
        scores: The same, [batch, places, classes].
        true: Corners of things, [batch, things, 4].
        classes: Of things, [batch, things]; -1 where there is none.
    """
    import torch

    is_thing = (classes >= 0)[:, :, None]
    may, is_near = _nearness(true, boxes.shape[1])
    may = may & is_thing
    shares = pair_overlaps(true, boxes) * may
    cost = _class_cost(scores, classes) - _BOX_COST * torch.log(shares + 1e-8) + _FAR * (~is_near)
    cost = torch.where(may, cost, torch.full_like(cost, _NEVER))
    most = min(_MOST_OVERLAPS, boxes.shape[1])
    wanted = shares.topk(most, dim=2).values.sum(2).int().clamp(min=1)
    ranks = cost.argsort(dim=2).argsort(dim=2)
    chosen = (ranks < wanted[:, :, None]) & may
    best = torch.where(chosen, cost, torch.full_like(cost, _NEVER)).argmin(1)
    return torch.where(chosen.any(1), best, torch.full_like(best, -1))


def _nearness(true: Any, count: int) -> tuple[Any, Any]:
    """Whether a place may answer for a thing, and whether it is within it and near its middle, [.., things, places]."""
    import torch

    centers, steps = (torch.from_numpy(array).to(true) for array in places(count))
    inside = ((centers > true[:, :, None, :2]) & (centers < true[:, :, None, 2:])).all(3)
    middle = (true[..., :2] + true[..., 2:])[:, :, None] / 2
    is_central = ((centers - middle).abs() < _CENTER_RADIUS * steps).all(3)
    return inside | is_central, inside & is_central


def places(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Centers of places [count, 2] and their distances [count, 1], relative to a square picture that has so many.

    Raises UnsupportedError where no square picture has.
    """
    side = math.isqrt(count // 21) * 32  # a square of 32 has 16 + 4 + 1
    if sum((side // stride) ** 2 for stride in STRIDES) != count:
        raise UnsupportedError(f"{count} places are not those of a square picture", hint="train on square ones")
    centers, steps = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: side // stride, : side // stride]
        centers.append((np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5) * stride / side)
        steps.append(np.full((len(centers[-1]), 1), stride / side))
    return np.concatenate(centers).astype(np.float32), np.concatenate(steps).astype(np.float32)


def _class_cost(scores: Any, classes: Any) -> Any:
    """Cross-entropy of the scores' roots for each thing's class, [batch, things, places]."""
    import torch

    roots = scores.clamp(1e-12, 1 - 1e-6).sqrt()
    hit, miss = -torch.log(roots), -torch.log1p(-roots)
    kinds = classes.clamp(min=0)[:, None, :].expand(-1, scores.shape[1], -1)
    each = miss.sum(2, keepdim=True) + (hit - miss).gather(2, kinds)
    return each.transpose(1, 2)


def pair_overlaps(first: Any, second: Any) -> Any:
    """Intersection over union of boxes [batch, n, 4] and [batch, m, 4] as [batch, n, m]."""
    return _overlaps(first[:, :, None], second[:, None])


def _overlaps(first: Any, second: Any) -> Any:
    import torch

    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    common = sides.clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (first, second)]
    return common / (areas[0] + areas[1] - common + 1e-9)
