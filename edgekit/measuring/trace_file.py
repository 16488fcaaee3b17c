"""Operations as a file that Perfetto and Chrome's tracing page show.

The "Trace Event Format" (Google, 2016): complete events (``ph`` X) with times in microseconds, and metadata (``ph`` M)
that names processes and threads. Here every candidate is a process, and a call an event with its operations in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgekit.measuring.records import Measurement

__all__ = ["trace_events", "write_trace"]

_SAID = ("type", "layer", "precision", "macs", "bytes_moved", "share", "roofline_share", "bound", "is_beyond")


def trace_events(measurements: Iterable[Measurement]) -> list[dict[str, Any]]:
    """The events of all candidates that have an account. Operations are laid end to end in the order they ran in."""
    events: list[dict[str, Any]] = []
    for process, measurement in enumerate(measurements, 1):
        found = measurement.operations
        if found is None or not found.operations:
            continue
        place = {"pid": process, "tid": 1}
        events += [
            {"ph": "M", "name": "process_name", **place, "args": {"name": measurement.candidate.title}},
            {"ph": "M", "name": "thread_name", **place, "args": {"name": found.profiler}},
        ]
        whole = {"untraced_us": found.untraced_us, "ratio": found.ratio, "macs": found.macs}
        events.append(
            {"ph": "X", "name": "call", "cat": "call", "ts": 0.0, "dur": found.sum_us, **place, "args": whole}
        )
        start = 0.0
        for operation in found.operations:
            said = operation.to_json()
            events.append(
                {
                    "ph": "X",
                    "name": operation.layer or operation.name,
                    "cat": "operation",
                    "ts": round(start, 3),
                    "dur": operation.time_us,
                    **place,
                    "args": {"operation": operation.name, **{key: said[key] for key in _SAID}},
                }
            )
            start += operation.time_us
    return events


def write_trace(path: Path, measurements: Iterable[Measurement]) -> None:
    """Writes them to a .json file, which is written over."""
    content = {"displayTimeUnit": "ms", "traceEvents": trace_events(measurements)}
    path.write_text(json.dumps(content), encoding="utf-8")
