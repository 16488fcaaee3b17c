"""Metrics of pictures: classes of pixels against a mask, and how alike two pictures are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.decoding import open_picture
from edgekit.errors import InputError
from edgekit.metrics import Metric, Score, Truth, single_array
from edgekit.processing.resampling import resize_image

__all__ = ["MIOU", "PSNR", "SSIM", "VOID", "structural_similarity"]

VOID = 255
"""In a mask: a pixel that counts for nothing, as in PASCAL VOC's masks."""

_PEAK = 255.0
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


def _miou(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    """Intersection over union of the pixels of each class, counted over the whole set, and the mean of the classes.

    A class counts that occurs in a mask or in an answer; the background is a class like any other. Where a mask has
    another size than the answer, its nearest pixels are taken.
    """
    size = max(len(labels), 1)
    counts = np.zeros((size, size), np.int64)
    for answer, truth in zip(answers, truths, strict=True):
        found = np.asarray(answer)
        if found.ndim != 2 or found.dtype.kind not in "iu" or not found.size or int(found.min()) < 0:
            raise InputError(f"a map of classes is [height, width] of indices, not {found.dtype} {list(found.shape)}")
        mask = _nearest(_mask(truth["mask"]), found.shape)
        if labels and (unknown := np.setdiff1d(np.append(mask[mask != VOID], found), np.arange(len(labels)))).size:
            raise InputError(f"class {unknown[0]} is beyond the {len(labels)} labels", hint=f"{VOID} is for no class")
        found, mask = found[mask != VOID].astype(np.int64), mask[mask != VOID].astype(np.int64)
        size = max(len(counts), int(found.max(initial=0)) + 1, int(mask.max(initial=0)) + 1)
        counts = np.pad(counts, (0, size - len(counts)))
        counts += np.bincount(mask * size + found, minlength=size * size).reshape(size, size)
    common, together = np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    names = labels or [f"class {index}" for index in range(size)]
    per_class = {names[i]: float(common[i] / together[i]) for i in range(size) if together[i]}
    if not per_class:
        raise InputError("the masks leave no pixel that counts", hint=f"every pixel of theirs is {VOID}")
    return Score(float(np.mean(list(per_class.values()))), per_class)


def _mask(truth: Any) -> np.ndarray:
    """[height, width] of class indices: those of a picture of gray values or of a palette, or an array of them."""
    if not isinstance(truth, str | Path):
        mask = np.asarray(truth)
    else:
        opened = open_picture(truth)
        if opened.mode not in ("L", "P", "1"):
            raise InputError(
                f"{truth} is a picture of mode {opened.mode}, not a mask", hint="save indices of classes as gray values"
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


def _alike(
    answers: Sequence[Any], truths: Sequence[Truth], compare: Callable[[np.ndarray, np.ndarray], float]
) -> Score:
    """Mean over all samples of `compare` on pictures [height, width, channels] in 0..255, float64."""
    values = []
    for answer, truth in zip(answers, truths, strict=True):
        found = np.asarray(single_array(answer), np.float64)
        if found.ndim != 3 or found.shape[2] not in (1, 3):
            raise InputError(f"a picture is [height, width, 1 or 3], not {list(found.shape)}")
        values.append(compare(found, _target(truth["target"], found.shape)))
    return Score(float(np.mean(values)))


def _target(truth: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The picture an answer of `shape` is to look like, gray or colored as that is, resized where it must be."""
    if isinstance(truth, str | Path):
        pixels = np.asarray(open_picture(truth).convert("L" if shape[2] == 1 else "RGB"))
        pixels = pixels[..., None] if shape[2] == 1 else pixels
    else:
        pixels = np.asarray(truth)
    if pixels.ndim != 3 or pixels.shape[2] != shape[2]:
        raise InputError(f"the target {list(pixels.shape)} is not like the answer {list(shape)}")
    same = pixels if pixels.shape == shape else resize_image(pixels, shape[0], shape[1], "bilinear")
    return np.asarray(same, np.float64)


def _peak_ratio(found: np.ndarray, target: np.ndarray) -> float:
    error = float(np.mean(np.square(found - target)))
    return float("inf") if error == 0 else float(10 * np.log10(_PEAK**2 / error))


def structural_similarity(found: np.ndarray, target: np.ndarray) -> float:
    """SSIM of two pictures [height, width, channels] in 0..255: mean over pixels and channels, -1..1.

    Windows are Gaussian, 11 x 11 of standard deviation 1.5, and lie whole within the picture; the constants are 0.01
    and 0.03 (Z. Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004).
    """
    if min(found.shape[:2]) < _WINDOW:
        raise InputError(f"a picture of {found.shape[1]} x {found.shape[0]} is smaller than SSIM's window of {_WINDOW}")
    rows, columns = _smoothing(found.shape[0]), _smoothing(found.shape[1])

    def blur(picture: np.ndarray) -> np.ndarray:
        return np.einsum("ih,hwc,jw->ijc", rows, picture, columns, optimize=True)

    mean_a, mean_b = blur(found), blur(target)
    variance_a, variance_b = blur(found * found) - mean_a**2, blur(target * target) - mean_b**2
    covariance = blur(found * target) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return float((likeness / ((mean_a**2 + mean_b**2 + _C1) * (variance_a + variance_b + _C2))).mean())


def _smoothing(size: int) -> np.ndarray:
    """[size - 10, size]: each row weights the pixels under the window at one place."""
    weights = np.exp(-0.5 * ((np.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) ** 2)
    matrix = np.zeros((size - _WINDOW + 1, size))
    for offset, weight in enumerate(weights / weights.sum()):
        np.fill_diagonal(matrix[:, offset:], weight)
    return matrix


def _psnr(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return _alike(answers, truths, _peak_ratio)


def _ssim(answers: Sequence[Any], truths: Sequence[Truth], labels: Sequence[str]) -> Score:
    return _alike(answers, truths, structural_similarity)


_PICTURE = 'what the step "picture" gives'

MIOU = Metric("miou", "mean intersection over union", True, ("mask",), 'what the step "class_map" gives', _miou)
PSNR = Metric("psnr", "peak signal-to-noise ratio, dB, mean over pictures", True, ("target",), _PICTURE, _psnr)
SSIM = Metric("ssim", "structural similarity, mean over pictures", True, ("target",), _PICTURE, _ssim)
