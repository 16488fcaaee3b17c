"""In a child, ``python -m tests.contract.leaking RUNTIME FILE PREDICTIONS LOADS`` prints what has grown, as JSON."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path

from edgekit.feeds import random_feeds
from edgekit.registry import RUNTIMES
from edgekit.runtime import EngineOptions, Session

_WARM_CALLS = 5000
_WARM_LOADS = 30
_LANES_EVERY = 5


def held() -> tuple[float, int, int]:
    """Memory in MB, threads, open files."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what is free but not given back says nothing
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    threads, files = (sum(1 for _ in Path("/proc/self", what).iterdir()) for what in ("task", "fd"))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, threads, files


def opened(runtime: str, path: Path) -> Session:
    return Session(RUNTIMES.get(runtime).open(path, EngineOptions(threads=1, lanes=2)), runtime=runtime)


def call(session: Session, times: int) -> None:
    feeds = random_feeds(session.signature, count=1, seed=0)[0]
    for _ in range(times):
        session.run(feeds)


def load(runtime: str, path: Path, times: int) -> None:
    for turn in range(times):
        with opened(runtime, path) as session:
            if turn % _LANES_EVERY:
                call(session, 1)
                continue
            threads = [threading.Thread(target=call, args=(session, 3)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


def main(runtime: str, path: Path, predictions: int, loads: int) -> None:
    with opened(runtime, path) as session:
        call(session, _WARM_CALLS)
        before = held()
        call(session, predictions)
        after_calls = held()
    load(runtime, path, _WARM_LOADS)
    first = held()
    load(runtime, path, loads)
    time.sleep(0.2)  # engines end their threads in their own time
    last = held()
    grown = {"calls_mb": after_calls[0] - before[0], "loads_mb": last[0] - first[0]}
    print(json.dumps({**grown, "threads": last[1] - first[1], "files": last[2] - first[2]}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
