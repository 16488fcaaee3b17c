"""The committed outcomes of all sources, and what counts as worse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.catalogue.running import FORMATS

__all__ = ["LIMIT", "UNSTEADY", "broken", "fell", "read", "write"]

_FILE = Path(__file__).with_name("results.json")
_GROWTH, _NOISE = 1.1, 2.0
"""How much larger a file, and a parity beyond the limit, may be and still count as the same."""

LIMIT = 1e-4
"""Largest difference of an fp32 file from its source, as a share of the output's range."""

UNSTEADY = {
    "D7-selfie": "XNNPACK, which answers for the source, is 1e-4 off; the same file in LiteRT's own kernels 1.5e-5",
    "D7-pose": "one last bit of the input moves the source's own answer by 4e-4 of its range",
}
"""Sources that are no nearer to themselves than this limit: why, and ten times the limit is allowed."""

Found = Mapping[str, Mapping[str, Any]]
"""Source -> what `run_source` gives."""


def read() -> dict[str, dict[str, Any]]:
    """As last committed; empty before the first time."""
    found: dict[str, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8")) if _FILE.is_file() else {}
    return found


def write(found: Found) -> None:
    """Puts `found` in place of what was known of these sources, in the order of the catalogue."""
    from tests.catalogue.sources import SOURCES

    merged = {**read(), **found}
    ordered = {source.id: merged[source.id] for source in SOURCES if source.id in merged}
    _FILE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def broken(title: str, trace: str) -> dict[str, Any]:
    """The outcome of a source at which edgekit raised what is no error of its own."""
    reason = trace.strip().splitlines()[-1]
    return {"title": title, "formats": {format: {"status": "broken", "reason": reason} for format in FORMATS}}


def fell(before: Found, now: Found) -> list[str]:
    """A line for each outcome that is worse: no file where there was one, a figure lost, parity or size given up."""
    lines = []
    for id, outcome in now.items():
        for format, have in outcome["formats"].items():
            had = before.get(id, {}).get("formats", {}).get(format)
            if had is not None and (how := _worse(had, have)):
                lines.append(f"{id} {format}: {how}")
    return lines


def _worse(had: Mapping[str, Any], have: Mapping[str, Any]) -> str:
    if have["status"] == "broken" and had["status"] != "broken":
        return f"broken: {have['reason']}"
    if had["status"] != "written":
        return ""
    if have["status"] != "written":
        return f"{have['status']}: {have['reason']}"
    if lost := _lost(had["figures"], have["figures"]):
        return "; ".join(lost)
    if have["parity"] > max(_NOISE * had["parity"], LIMIT):
        return f"parity {have['parity']:.1e} instead of {had['parity']:.1e}"
    if have["size_bytes"] > _GROWTH * had["size_bytes"]:
        return f"{have['size_bytes']} bytes instead of {had['size_bytes']}"
    return ""


def _lost(had: Sequence[Mapping[str, Any]], have: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is said of each figure that held and does so no more."""
    now = {figure["what"]: figure for figure in have}
    lost = []
    for what in (figure["what"] for figure in had if figure["holds"]):
        if what not in now:
            lost.append(f"{what} is no longer asked for")
        elif not now[what]["holds"]:
            lost.append(f"{what} is {now[what]['got']}, not {now[what]['want']}")
    return lost
