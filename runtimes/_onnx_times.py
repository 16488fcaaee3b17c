"""How long each operation takes in ONNX Runtime, from its own profile of calls as in service."""

from __future__ import annotations

import json
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from edgekit.graph.listing import Node, list_nodes, merged_into
from edgekit.runtime import OpPlacement
from edgekit.runtimes._contract import LARGE_BYTES
from edgekit.runtimes._onnx_profile import UNCOUNTED, float_name, placements
from edgekit.tracing import OpTime, Traced, bytes_of, midmean

__all__ = ["operation_times"]

_WARM_CALLS = 3
_MADE_UP = re.compile(r"^fused |(_nchwc|_token_\d+|/[A-Z]\w+Fusion/?)$")
"""What the optimizer puts around the name of an operation when it makes another of it."""

_ROUNDING = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")

_LAYOUT = frozenset({"ReorderInput", "ReorderOutput", "Transpose", "Cast", *_ROUNDING})
"""What the optimizer makes up to change layout or type, which multiplies nothing."""

Arrays = Sequence[np.ndarray]


class _Key(NamedTuple):
    """What tells one operation of a session from another."""

    name: str
    type: str
    number: str


def operation_times(
    path: Path,
    fresh_settings: Callable[[], Any],
    open_session: Callable[[Any], Any],
    feeds: Sequence[Arrays],
    calls: int,
) -> Traced:
    """Times `calls` calls on `feeds` in turns, at the level of optimization of service.

    Costs come from two further calls: of the same operations with weights left as they are in the file, for what is
    read and written; and of those one level below, whose shapes are not padded, for multiply-accumulates.
    """
    with TemporaryDirectory(prefix="edgekit-") as folder:
        optimized = Path(folder, "optimized.onnx") if path.stat().st_size <= LARGE_BYTES else None
        settings = fresh_settings()
        if optimized is not None:
            settings.optimized_model_filepath = str(optimized)
        events, call_us = _profile(settings, open_session, feeds, calls, folder)
        settings = fresh_settings()
        settings.add_session_config_entry("session.disable_prepacking", "1")
        shapes = {
            _key(event): event["args"] for event in _kernels(_profile(settings, open_session, feeds, 0, folder)[0])
        }
        made = list_nodes(optimized) if optimized is not None else []
    placed = placements(fresh_settings, open_session, lambda session: _run(session, feeds[0]))
    times = _times_of_calls(events, calls)
    sources = _sources(list_nodes(path), made, list(times))
    costs = _costs(placed, sources)
    ops = tuple(
        OpTime(
            key.name,
            key.type,
            costs[key][0] or float_name(_types(shapes.get(key))[0]),
            round(midmean(took), 3),
            costs[key][1],
            _bytes(shapes.get(key)),
            sources[key],
        )
        for key, took in times.items()
    )
    return Traced(ops, "ONNX Runtime's profile", "midmean", calls, round(midmean(call_us), 3))


def _profile(
    settings: Any, open_session: Callable[[Any], Any], feeds: Sequence[Arrays], calls: int, folder: str
) -> tuple[list[dict[str, Any]], list[float]]:
    """The events of all calls, the first `_WARM_CALLS` of which are not counted among `calls`."""
    settings.enable_profiling = True
    settings.profile_file_prefix = str(Path(folder, "profile"))
    session = open_session(settings)
    took = []
    for turn in range(_WARM_CALLS + calls if calls else 1):
        start = time.perf_counter_ns()
        _run(session, feeds[turn % len(feeds)])
        took.append((time.perf_counter_ns() - start) / 1000)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return events, took[_WARM_CALLS:]


def _run(session: Any, arrays: Arrays) -> bool:
    """One call, of which no size is made up."""
    names = [node.name for node in session.get_inputs()]
    session.run(None, dict(zip(names, arrays, strict=True)))
    return False


def _kernels(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]


def _key(event: Mapping[str, Any]) -> _Key:
    arguments = event["args"]
    return _Key(event["name"].removesuffix("_kernel_time"), arguments["op_name"], arguments["node_index"])


def _times_of_calls(events: Sequence[dict[str, Any]], calls: int) -> dict[_Key, list[float]]:
    """What each operation took in each of the last `calls` calls, without what ran inside it."""
    starts = sorted(e["ts"] for e in events if e["name"] == "model_run")[-calls:]
    found: dict[_Key, list[float]] = {}
    for event, took in _own_times(_kernels(events)):
        turn = bisect_right(starts, event["ts"]) - 1
        if turn >= 0:
            found.setdefault(_key(event), [0.0] * calls)[turn] += took
    return found


def _own_times(kernels: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], float]]:
    """Events as they began, each with what it took but for those that ran within it: the bodies of a loop."""
    ordered = sorted(kernels, key=lambda e: (e["ts"], -e["dur"]))
    own = [float(e["dur"]) for e in ordered]
    around: list[int] = []
    for index, event in enumerate(ordered):
        while around and not _is_within(event, ordered[around[-1]]):
            around.pop()
        if around:
            own[around[-1]] -= event["dur"]
        if event["args"]["op_name"] in ("Loop", "Scan", "If"):
            around.append(index)
    return list(zip(ordered, own, strict=True))


def _is_within(event: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(event["ts"] + event["dur"] <= other["ts"] + other["dur"])


def _sources(nodes: Sequence[Node], made: Sequence[Node], keys: Sequence[_Key]) -> dict[_Key, tuple[str, ...]]:
    """The file's operations in each of the session's: by its name, else by the value it gives, then by the graph."""
    types = {node.name: node.op_type for node in nodes}
    givers = {value: node.name for node in nodes for value in node.outputs if value}
    known = {**givers, **{name: name for name in types}}  # what is made for a layout is named after a value
    gives = {node.name: node.outputs for node in made}
    kept: dict[str, int] = {}
    for number, key in enumerate(keys):
        by_value = [givers[value] for value in gives.get(key.name, ()) if value in givers]
        own = [name for name in by_value if types[name] not in _ROUNDING or types[name] == key.type]
        if found := _bare(key.name, known) or next(iter(own), ""):
            kept.setdefault(found, number)
    merged = merged_into(nodes, kept)
    return {
        key: tuple(n for i, n in enumerate(merged.get(number, ())) if not i or types[n] not in _ROUNDING)
        for number, key in enumerate(keys)
    }


def _bare(name: str, known: Mapping[str, str]) -> str:
    """What is known by the name that the engine's is made of; empty where nothing is."""
    while name not in known:
        shorter = _MADE_UP.sub("", name)
        if shorter == name:
            return ""
        name = shorter
    return known[name]


def _costs(placed: Sequence[OpPlacement], sources: Mapping[_Key, Sequence[str]]) -> dict[_Key, tuple[str, int | None]]:
    """Arithmetic and multiply-accumulates of each: of those operations one level below that went into it."""
    names = {name: name for found in sources.values() for name in found}
    below: dict[str, OpPlacement] = {_bare(op.name, names) or op.name: op for op in placed}
    found = {}
    for key, merged in sources.items():
        parts = [below[name] for name in merged or (key.name,) if name in below]
        known = [op for op in parts if op.macs]
        is_free = all(op.type not in UNCOUNTED for op in parts) if parts else key.type in _LAYOUT
        macs = sum(op.macs or 0 for op in known) if known else 0 if is_free else None
        found[key] = ((known or parts)[0].precision if parts else "", macs)
    return found


def _tensors(arguments: Mapping[str, Any] | None) -> list[tuple[str, Sequence[int]]]:
    """Types and shapes of what an operation reads, then of what it gives."""
    sides = ("input_type_shape", "output_type_shape")
    return [next(iter(tensor.items())) for side in sides for tensor in (arguments or {}).get(side, ())]


def _types(arguments: Mapping[str, Any] | None) -> list[str]:
    return [kind for kind, _ in _tensors(arguments)] or ["float"]


def _bytes(arguments: Mapping[str, Any] | None) -> int | None:
    return None if arguments is None else bytes_of(_tensors(arguments))
