"""Metrics of texts: how much of what is written, or said, was read wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.metrics import Metric, Tally, Truth
from edgekit.metrics.sums import Sums

__all__ = ["CER", "WER", "edit_distance"]


def edit_distance(found: Sequence[str], true: Sequence[str]) -> int:
    """The least insertions, deletions and replacements that make `found` of `true` (V. Levenshtein, 1966).

    A row at a time by R. Wagner and M. Fischer, The String-to-String Correction Problem, 1974; what is inserted within
    a row is the running minimum of costs less their place.
    """
    symbols = {symbol: index for index, symbol in enumerate(dict.fromkeys([*found, *true]))}
    across = np.array([symbols[symbol] for symbol in found], np.int64)
    places = np.arange(len(across) + 1)
    costs = places.copy()
    for row, symbol in enumerate(true, start=1):
        start = np.empty_like(costs)
        start[0] = row
        start[1:] = np.minimum(costs[1:] + 1, costs[:-1] + (across != symbols[symbol]))
        costs = np.minimum.accumulate(start - places) + places
    return int(costs[-1])


def _text(value: Any) -> str:
    found = value["text"] if isinstance(value, Mapping) else value
    if not isinstance(found, str):
        raise InputError(f"{type(found).__name__} is no text", hint=f"an answer must be {_ANSWER}")
    return found


def _start(split: Callable[[str], Sequence[str]]) -> Callable[[Sequence[str]], Tally]:
    def row(answer: Any, truth: Truth) -> tuple[int, int]:
        said = truth.get("transcript", truth.get("label"))
        true = split(str(said))
        return edit_distance(split(_text(answer)), true), len(true)

    def figure(sums: np.ndarray) -> float:
        if not sums[1]:
            raise InputError("the transcripts are empty", hint="take samples that say something")
        return float(sums[0] / sums[1])

    return lambda labels: Sums(2, row, figure)


_ANSWER = 'a text, or a mapping with a "text", as the step "ctc_text" gives'
_TRUTHS = ("transcript", "label")

CER = Metric(
    "cer", "edits for a character of the truth, over all texts together", False, _TRUTHS, _ANSWER, _start(str.strip)
)
WER = Metric(
    "wer", "edits for a word of the truth, over all texts together", False, _TRUTHS, _ANSWER, _start(str.split)
)
