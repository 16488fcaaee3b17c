"""The committed classes of all tests, which may only rise, and the table of ops that ships, made from the same run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.ops.roads import FORMATS
from tests.ops.score import fell, summarize

__all__ = ["read", "table", "write"]

_BASELINE = Path(__file__).with_name("baseline.json")
_TABLE = Path(__file__).resolve().parents[2] / "edgekit" / "ops.json"

Kinds = Mapping[str, Mapping[str, str]]
"""Road -> test -> class."""


def read() -> dict[str, dict[str, str]]:
    """The class of each test on each road, as last committed; empty before the first time."""
    if not _BASELINE.is_file():
        return {}
    stored = json.loads(_BASELINE.read_text(encoding="utf-8"))
    return {road: {name: kind for kind, names in by.items() for name in names} for road, by in stored.items()}


def write(kinds: Kinds, ops: Mapping[str, str]) -> None:
    """Raises what `kinds` is better in, lowers nothing, and makes edgekit/ops.json anew."""
    stored = read()
    merged = {**stored, **{road: _better(stored.get(road, {}), found) for road, found in kinds.items()}}
    by_class: dict[str, dict[str, list[str]]] = {}
    for road, found in sorted(merged.items()):
        groups = by_class.setdefault(road, {})
        for name, kind in sorted(found.items(), key=lambda item: (item[1], item[0])):
            groups.setdefault(kind, []).append(name)
    _dump(_BASELINE, by_class)
    _dump(_TABLE, table(merged, ops))


def _better(stored: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    fallen = fell(stored, found, found)
    return {name: stored[name] if name in fallen else kind for name, kind in found.items()}


def table(kinds: Kinds, ops: Mapping[str, str]) -> dict[str, Any]:
    """What ships: the figures of every format, and of every op how many of its tests pass in each."""
    scores = {road: summarize(found, ops) for road, found in sorted(kinds.items()) if road in FORMATS}
    total = {op: count for score in scores.values() for op, (count, _) in score.ops.items()}
    return {
        "source": "node tests of onnx 1.20.1, without 16 whose expected values are disputed",
        "formats": {
            road: {"tests": s.undisputed, "strict": s.strict, "right": s.lenient, "ops": len(s.ops), "whole": s.whole}
            for road, s in scores.items()
        },
        "ops": {op: {"tests": n, **{road: s.ops[op][1] for road, s in scores.items()}} for op, n in total.items()},
    }


def _dump(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
