"""End-to-end figures: what each model must answer to a known picture, sound or text, whichever file answers.

They are the catalogue's, measured with each model's own framework. Those marked "ours" stand in for figures whose data
is in no package of the index: the same framework's answer to a signal that is made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Ask", "Check", "Figure", "moments", "only"]

Ask = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""Feeds to answers, both by the source's names."""


@dataclass(frozen=True)
class Figure:
    """What was to come out, what came out, and how far apart the two may be."""

    what: str
    want: float
    got: float
    within: float

    @property
    def holds(self) -> bool:
        return bool(abs(self.got - self.want) <= self.within)


Check = Callable[[Ask], list[Figure]]


def moments(what: str, array: np.ndarray, mean: float, std: float, within: float) -> list[Figure]:
    """Mean and standard deviation of an answer."""
    return [
        Figure(f"{what}: mean", mean, float(array.mean(dtype="float64")), within),
        Figure(f"{what}: std", std, float(array.std(dtype="float64")), within),
    ]


def only(answer: Mapping[str, np.ndarray]) -> np.ndarray:
    """The answer of a model that has one."""
    (array,) = answer.values()
    return array
