"""Two models on the same samples: how much one is worth less, and whether that is more than chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.errors import InputError
from edgekit.evaluating.asking import Asked
from edgekit.evaluating.records import Evaluation, Versus
from edgekit.metrics import Metric
from edgekit.metrics.intervals import Drawing, drawing_for, mcnemar, newcombe

__all__ = ["held_against"]

_SIGNIFICANT = 0.05
_LEAST = 2


def held_against(
    one: Asked, base: Asked, metric: Metric, *, max_drop: float | None = None, seed: int = 0
) -> Evaluation:
    """The evaluation of `one` with what it is worth beside `base`.

    Where the figure is the share of samples that are right, the verdict is McNemar's and the interval Newcombe's; else
    both are those of a bootstrap that draws the same samples for either. The gate: `one` loses too much where even the
    better end of the interval is beyond what may be lost; where there is no interval, where the difference is.

    Args:
        one: What is judged.
        base: What it is held against.
        metric: That both were judged by.
        max_drop: What may be lost: of a metric that is a share of 1 so much, of another so much of its base's value.
        seed: Of the bootstrap.
    """
    found = _versus(one, base, metric, seed)
    if max_drop is None or found is None:
        return replace(one.evaluation, versus=found)
    allowed = max_drop if metric.is_share else max_drop * abs(found.base_value)
    ends = (found.difference,) if found.low is None or found.high is None else (found.low, found.high)
    best = max(ends) if metric.is_higher_better else -min(ends)
    loss = -found.difference if metric.is_higher_better else found.difference
    is_within = best >= -allowed - 1e-12
    notes = one.evaluation.warnings
    if is_within and loss > allowed + 1e-12:
        notes += (
            f"{loss:.4f} of {metric.name} is lost against {found.base}, more than {allowed:.4f}, but {found.count} "
            "samples do not tell that from chance",
        )
    return replace(one.evaluation, versus=replace(found, allowed=allowed, is_within=is_within), warnings=notes)


def _versus(one: Asked, base: Asked, metric: Metric, seed: int) -> Versus | None:
    common, ours, theirs = np.intersect1d(one.places, base.places, assume_unique=True, return_indices=True)
    name, count = base.evaluation.variant, len(common)
    if not count:
        return None
    first, second = _values(one, ours, np.ones(count)), _values(base, theirs, np.ones(count))
    hits, other_hits = one.tally.hits, base.tally.hits
    sign = 1.0 if metric.is_higher_better else -1.0
    difference = first - second
    if hits is not None and other_hits is not None:
        low, high = newcombe(hits[ours], other_hits[theirs])
        p = mcnemar(hits[ours], other_hits[theirs])
        verdict = _verdict(difference * sign if p < _SIGNIFICANT else 0.0)
        method = "McNemar's exact test; Newcombe's interval of paired shares, 95 %"
        return Versus(name, second, difference, low, high, method, p, verdict, count)
    slower = max(one, base, key=lambda asked: asked.tally.work)
    drawing = drawing_for(slower.tally, metric.resamples, seed, count)
    ends = _drawn(one, ours, base, theirs, difference, drawing) if metric.resamples and count >= _LEAST else None
    if ends is None:
        return Versus(name, second, difference, None, None, "no interval", None, "not known", count)
    low, high = ends
    verdict = _verdict(sign * difference if low > 0 or high < 0 else 0.0)
    return Versus(name, second, difference, low, high, drawing.method(is_paired=True), None, verdict, count)


def _verdict(gain: float) -> str:
    """In words, of a gain that is 0 where it may be chance."""
    return "better" if gain > 0 else "worse" if gain < 0 else "not measurably worse"


def _values(asked: Asked, places: np.ndarray, weights: np.ndarray) -> float:
    """The figure over the samples at `places` of those that were answered, each as often as it counts."""
    full = np.zeros(len(asked.places))
    full[places] = weights
    return float(asked.tally.values(full)[0])


def _drawn(
    one: Asked, ours: np.ndarray, base: Asked, theirs: np.ndarray, difference: float, drawing: Drawing
) -> tuple[float, float] | None:
    found = []
    for weights in drawing.weights():
        try:
            pair = _values(one, ours, weights), _values(base, theirs, weights)
        except InputError:
            continue  # without any sample of a class; too few sets are told by what is left
        found.append(0.0 if pair[0] == pair[1] else pair[0] - pair[1])  # infinities may be equal too
    if len(found) < 0.9 * drawing.size or not np.isfinite(found).all():
        return None
    return drawing.ends(np.array(found), difference)
