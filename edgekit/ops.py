"""Which of ONNX's operations the hub can write to which format, as measured by ONNX's own node tests (``make ops``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["coverage", "how_much", "list_ops"]


def coverage() -> dict[str, Any]:
    """The measured table.

    Returns:
        ``"source"``: what was measured. ``"formats"``, by name: how many ``tests``, how many right strictly
        (``strict``) and at least but for dtype or layout (``right``), how many ``ops`` and how many of them ``whole``.
        ``"ops"``, by type: how many ``tests``, and for each format how many are right.
    """
    table: dict[str, Any] = json.loads(Path(__file__).with_name("ops.json").read_text(encoding="utf-8"))
    return table


def list_ops() -> list[dict[str, Any]]:
    """An item an operation: its ``name``, how many ``tests``, and by format how many are ``right``."""
    return [
        {"name": name, "tests": counts["tests"], "right": {f: n for f, n in counts.items() if f != "tests"}}
        for name, counts in coverage()["ops"].items()
    ]


def how_much(right: int, tests: int) -> str:
    """``"whole"``, ``"refused"``, or ``"partly (3 of 4)"``."""
    return "whole" if right == tests else f"partly ({right} of {tests})" if right else "refused"
