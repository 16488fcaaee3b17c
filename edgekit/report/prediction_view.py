"""Predictions as a document: a row for every label, a line for every raw tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.report.document import Block, Document, Fields, Notes, table

__all__ = ["view"]

_IN_ROWS = {"label", "box", "box_px"}
_PLACED = {"start_ms", "box", "box_px", "point", "point_px"}
"""What entries of one input may all be true at once, unlike classes that are ranked."""

_MAX_WIDTH = 200
"""Of longer lists of numbers only the shape and both ends are shown."""


def view(record: Mapping[str, Any]) -> Document:
    """Label and score for each input where the model's processing gives them, else what it gives.

    Ranked labels of one input are all shown, of several inputs the best of each.
    """
    rows: list[tuple[str, ...]] = []
    others: list[Fields] = []
    wrong: list[tuple[str, str]] = []
    for item in record["answers"]:
        if "error" in item:
            wrong.append((item["error"]["message"], item["error"]["hint"]))
            continue
        labelled = _labelled(item["answer"])
        if labelled is None:
            others.append(Fields(_values(item["answer"]), item["input"]))
        elif not labelled:
            rows.append((item["input"], "(nothing)", *[""] * 6))
        else:
            is_ranked = len(record["answers"]) > 1 and not any(_PLACED & set(entry) for entry in labelled)
            rows.extend((item["input"], *_cells(entry)) for entry in (labelled[:1] if is_ranked else labelled))
    headings = ["input", "label", "score>", "index>", "from ms>", "to ms>", "box", "point"]
    blocks: list[Block] = []
    if rows:
        used = [i for i in range(len(headings)) if any(row[i] for row in rows)]
        blocks = [table([headings[i] for i in used], [[row[i] for i in used] for row in rows])]
    files = tuple((item["input"], item["file"]) for item in record["answers"] if "file" in item)
    ends = [Fields(files, "written")] if files else []
    notes = [Notes(tuple(wrong), "not answered")] if wrong else []
    title = f"{record['model']}: {record['variant']} on {record['runtime']}"
    return Document(title, (*blocks, *others, *ends, *notes))


def _labelled(answer: Any) -> list[Mapping[str, Any]] | None:
    """The entries of an answer made of labels, in one list; None for any other answer."""
    if isinstance(answer, Mapping):
        return [answer] if _IN_ROWS & set(answer) else None
    if not isinstance(answer, list | tuple):
        return None
    found = [_labelled(item) for item in answer]
    if any(entries is None for entries in found):
        return None
    return [entry for entries in found if entries is not None for entry in entries]


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    score = f"{entry['score']:.4f}" if "score" in entry else ""
    times = [f"{entry[key]:.0f}" if key in entry else "" for key in ("start_ms", "end_ms")]
    places = [_numbers(entry, key) for key in ("box", "point")]
    return (str(entry.get("label", "")), score, str(entry.get("index", "")), *times, *places)


def _numbers(entry: Mapping[str, Any], key: str) -> str:
    if f"{key}_px" in entry:
        return " ".join(f"{value:.0f}" for value in entry[f"{key}_px"])
    return " ".join(f"{value:.3f}" for value in entry.get(key, ()))


def _values(answer: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(answer, Mapping):
        return tuple((str(name), _short(value)) for name, value in answer.items())
    return (("answer", _short(answer)),)


def _short(value: Any) -> str:
    if isinstance(value, list) and len(str(value)) > _MAX_WIDTH:  # a picture, or the classes of its pixels
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        return str(value)
    dims = "x".join(map(str, value.shape)) or "scalar"
    shown = np.array2string(value.ravel(), threshold=8, edgeitems=4, precision=5, separator=", ")
    return f"{value.dtype}[{dims}] {' '.join(shown.split())}"
