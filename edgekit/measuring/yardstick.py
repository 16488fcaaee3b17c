"""Two pieces of work that never change, timed with every profile: what they take tells how fast the machine was then.

Both are numpy's own loops in one thread, without a library of linear algebra, whose threads and kernels differ. A model
is bound by arithmetic, by memory or by both, so what two profiles' machines differ by lies between the two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["drift_of", "join_yardsticks", "measure_yardstick"]

_REPEATS = 15
_SMALL = 4_096
"""Numbers that lie in the nearest cache."""

_LARGE = 4 << 20
"""Numbers that lie in none: 16 MB to read and as many to write."""


def measure_yardstick() -> dict[str, float]:
    """Microseconds of ``"arithmetic"`` and of ``"memory"``; some 100 ms in all.

    The least of a few: whatever else runs only adds to it.
    """
    rng = np.random.default_rng(0)
    x, y = rng.random(_SMALL, "float32"), np.empty(_SMALL, "float32")
    source, place = np.ones(_LARGE, "float32"), np.zeros(_LARGE, "float32")

    def arithmetic() -> None:
        for _ in range(200):
            np.multiply(x, x, out=y)
            np.add(y, x, out=y)

    return {"arithmetic": _least_us(arithmetic), "memory": _least_us(lambda: np.copyto(place, source))}


def _least_us(work: Callable[[], None]) -> float:
    took = []
    work()
    for _ in range(_REPEATS):
        start = time.perf_counter_ns()
        work()
        took.append(time.perf_counter_ns() - start)
    return round(min(took) / 1000, 3)


def join_yardsticks(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """What was measured before and after, as one."""
    return {name: min(value, second[name]) for name, value in first.items()}


def drift_of(now: Mapping[str, float] | None, then: Mapping[str, float] | None) -> dict[str, float] | None:
    """Time of each piece of work now over that of then; None where a profile has none of it, or no times."""
    if not now or not then or now.keys() != then.keys():
        return None
    if not all(0 < one < math.inf for one in (*now.values(), *then.values())):
        return None
    return {name: round(now[name] / then[name], 4) for name in now}
