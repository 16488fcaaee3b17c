"""What each stage of a cold start added to the resident memory of its process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.measuring.records import MemoryPart

__all__ = ["memory_parts"]

_STAGES = ("interpreter", "engine", "model", "runs")
_UNTOLD = "this system does not show the resident memory of a process as it goes"


def memory_parts(cold: Sequence[Mapping[str, Any]]) -> tuple[tuple[MemoryPart, ...], str]:
    """What each stage added, medians over cold starts; or none and why."""
    if not cold:
        return (), "no cold start was asked for"
    if any(one is None for start in cold for one in start["resident"]):
        return (), _UNTOLD
    nothing = {"all": 0, "anonymous": 0, "file": 0}
    series = [[nothing, *start["resident"]] for start in cold]

    def added(stage: int, kind: str) -> int | None:
        ends = [(one[stage][kind], one[stage + 1][kind]) for one in series]
        return (
            None if any(None in pair for pair in ends) else int(np.median([after - before for before, after in ends]))
        )

    return tuple(
        MemoryPart(name, added(stage, "all") or 0, added(stage, "anonymous"), added(stage, "file"))
        for stage, name in enumerate(_STAGES)
    ), ""
