"""Runs cases in child processes that may die: one child for many cases, a new one after each death."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError, EdgekitError
from edgekit.worker import Worker

__all__ = ["judge", "run_road"]

_TIMEOUT_S = 60.0
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}

Verdict = tuple[str, str]
"""Class and reason."""


def judge(road: str, data: str, name: str, freezes: bool) -> Verdict:
    """Class of one case on one road, and why; called in a child, for an engine may take the process with it."""
    from tests.ops import roads
    from tests.ops.cases import load_case
    from tests.ops.score import classify

    case = load_case(Path(data), name, freezes=freezes)
    with tempfile.TemporaryDirectory(prefix="edgekit-ops-") as folder:
        try:
            written = roads.write(road, case, Path(folder))
        except EdgekitError as error:
            return "refused", str(error)
        except Exception as error:  # noqa: BLE001 - what is no error of edgekit's is a bug, and is counted
            return "crash", f"{type(error).__name__}: {error}"
        try:
            got = roads.run(road, case, written)
        except Exception as error:  # noqa: BLE001 - whatever the engine raises is the finding
            return "unrunnable", f"{type(error).__name__}: {error}"
        return classify(case.expected, got)


def run_road(
    road: str,
    data: Path,
    names: Sequence[str],
    *,
    jobs: int = 0,
    freezes: bool = True,
    judged_by: str = "tests.ops.worker:judge",
) -> dict[str, Verdict]:
    """The verdict on every case of `names`, by `jobs` children at a time (0: one a core).

    `freezes` is that of `load_case`; `judged_by` the function called in the children, with the arguments of `judge`.
    """
    count = min(jobs or len(os.sched_getaffinity(0)), len(names)) or 1
    shares = [list(names[i::count]) for i in range(count)]
    arguments = {"road": road, "data": str(data), "freezes": freezes}
    with ThreadPoolExecutor(count) as pool:
        parts = list(pool.map(lambda share: _run_share(judged_by, arguments, share), shares))
    found = {name: verdict for part in parts for name, verdict in part.items()}
    return {name: found[name] for name in names}


def _run_share(function: str, arguments: dict[str, Any], names: list[str]) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}
    while len(found) < len(names):
        with Worker(f"the {arguments['road']} road", env=_ENVIRONMENT) as worker:
            for name in names[len(found) :]:
                try:
                    kind, why = worker.call(function, timeout_s=_TIMEOUT_S, name=name, **arguments)
                except ConversionError as error:
                    found[name] = "crash", error.message
                    worker.kill()
                    break
                found[name] = kind, why
    return found
