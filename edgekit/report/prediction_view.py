"""Predictions as a document: a row for every label, a line for every raw tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.report.document import Document, Fields, table

__all__ = ["view"]

_MAX_WIDTH = 200
"""Of longer lists of numbers only the shape and both ends are shown."""


def view(record: Mapping[str, Any]) -> Document:
    """Label and score for each input where the model's processing gives them, else what it gives.

    Ranked labels of one input are all shown, of several inputs the best of each.
    """
    rows: list[tuple[str, ...]] = []
    others: list[Fields] = []
    for item in record["answers"]:
        labelled = _labelled(item["answer"])
        if labelled is None:
            others.append(Fields(_values(item["answer"]), item["input"]))
        else:
            is_ranked = len(record["answers"]) > 1 and not any({"start_ms", "box"} & set(entry) for entry in labelled)
            rows.extend((item["input"], *_cells(entry)) for entry in (labelled[:1] if is_ranked else labelled))
    headings = ["input", "label", "score>", "index>", "from ms>", "to ms>", "box"]
    blocks = []
    if rows:
        used = [i for i in range(len(headings)) if any(row[i] for row in rows)]
        blocks = [table([headings[i] for i in used], [[row[i] for i in used] for row in rows])]
    return Document(f"{record['model']}: {record['variant']} on {record['runtime']}", (*blocks, *others))


def _labelled(answer: Any) -> list[Mapping[str, Any]] | None:
    """The entries of an answer made of labels, in one list; None for any other answer."""
    if isinstance(answer, Mapping):
        return [answer] if "label" in answer else None
    if not isinstance(answer, list | tuple):
        return None
    found = [_labelled(item) for item in answer]
    if any(entries is None for entries in found):
        return None
    return [entry for entries in found if entries is not None for entry in entries]


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    score = f"{entry['score']:.4f}" if "score" in entry else ""
    times = [f"{entry[key]:.0f}" if key in entry else "" for key in ("start_ms", "end_ms")]
    box = " ".join(f"{value:.3f}" for value in entry.get("box", ()))
    return (str(entry["label"]), score, str(entry.get("index", "")), *times, box)


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
