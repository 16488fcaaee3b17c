"""What a run may cost, said before it begins."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgekit.errors import InputError
from edgekit.optimizing.records import Estimate
from edgekit.optimizing.space import FIRST_WAVE, File, entrants_of
from edgekit.target import Target

if TYPE_CHECKING:
    from edgekit.optimizing.bench import RealBench

__all__ = ["estimate_of", "parse_budget"]

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

LOOK_S, FULL_S = 1.2, 4.0
"""Of one timing: to open it and look, and to open it, run the rounds of the final and start it cold twice."""

FINAL_S = 20.0


def parse_budget(text: str | float | None) -> float | None:
    """``"10m"``, ``"1h30m"``, ``"90s"`` or a number of seconds, as seconds.

    Raises:
        InputError: It is none, or not above 0.
    """
    if text is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh]?)", str(text).strip().lower())
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != str(text).strip().lower() or not 0 < seconds < math.inf:
        raise InputError(f"{text!r} is no budget of time", hint="--budget 10m, 90s or 1h30m")
    return seconds


def estimate_of(files: Sequence[File], target: Target, threads: Sequence[int], bench: RealBench | None) -> Estimate:
    """How many files, timings and judgements there are; with what the first files took, seconds too."""
    entrants = [e for file in files for e in entrants_of(file, target, threads, list(files))]
    answers = len({e.answers_as for e in entrants})
    took = [float(f.made["by"]["seconds"]) for f in files if f.made is not None and "by" in f.made]
    if bench is None or not took:
        return Estimate(len(files), len(entrants), answers)
    each = sum(took) / len(took)
    asking = bench.exam.seconds
    first = [f for f in files if f.recipe.name in FIRST_WAVE]
    looks = sum(e.file in first for e in entrants)
    seconds = len(first) * each + looks * LOOK_S + 4 * asking + FINAL_S
    whole = len(files) * each + len(entrants) * FULL_S + answers * asking
    return Estimate(len(files), len(entrants), answers, seconds, whole)
