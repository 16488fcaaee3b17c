"""The way to the first answer in a fresh process. Nothing is imported here that a user's process would not import."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.feeds import load_feeds
from edgekit.measuring.resident import peak_rss_bytes, resident

if TYPE_CHECKING:
    from edgekit.runtime import Session

__all__ = ["cold_start", "load_candidate"]

_COLD_RUNS = 3
"""Calls of a cold process before its peak memory is read; some engines allocate on the second one."""


def cold_start(
    started_ns: int,
    path: str,
    runtime: str,
    variant: str | None,
    threads: int | None,
    feeds: str,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The way to the first answer in this fresh process, which the parent began to start at `started_ns`.

    Both processes read the same monotonic clock, that of the machine.
    """
    import edgekit.loading  # noqa: F401 - the import is part of what is timed
    from edgekit.registry import RUNTIMES

    took = {"process_ms": (time.perf_counter_ns() - started_ns) / 1e6}
    feed = load_feeds(Path(feeds))[0]  # not the user's cost, as reading what is resident is not
    seen = [resident()]

    def stage(name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter_ns()
        found = step()
        took[name] = (time.perf_counter_ns() - start) / 1e6
        return found

    stage("import_ms", lambda: RUNTIMES.get(runtime).probe().require(f"the runtime {runtime!r}"))
    seen.append(resident())
    session = stage("load_ms", lambda: load_candidate(path, runtime, variant, threads, options))
    seen.append(resident())
    stage("first_run_ms", lambda: session.run(feed))
    for _ in range(_COLD_RUNS - 1):
        session.run(feed)
    seen.append(resident())
    return {
        **took,
        "rss_before_load_bytes": seen[0] and seen[0]["all"],
        "peak_rss_bytes": peak_rss_bytes(),
        "resident": seen,
    }


def load_candidate(
    path: str, runtime: str, variant: str | None, threads: int | None, options: Mapping[str, Any]
) -> Session:
    """The candidate's session, as `edgekit.load` gives it."""
    from edgekit.loading import load

    return load(Path(path), runtime=runtime, variant=variant, threads=threads, **options)
