"""Lists of what is registered, as documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.ops import how_much
from edgekit.report.document import Document, table
from edgekit.report.units import dash

__all__ = ["view"]

_COLUMNS = {
    "targets": ("name", "title", "formats", "precisions", "threads"),
    "runtimes": ("name", "formats", "available", "version", "reason"),
    "recipes": ("name", "precision", "description"),
}
_PUBLISHED = ("name", "title", "task", "package", "license")


def view(what: str, items: Sequence[Mapping[str, Any]]) -> Document:
    """A row an item, of the fields people choose by."""
    if what == "models":
        return _models(items)
    if what == "ops":
        return _ops(items)
    names = _COLUMNS[what]
    rows = [[_words(item.get(name)) for name in names] for item in items]
    return Document(what, (table(names, rows),))


def _models(items: Sequence[Mapping[str, Any]]) -> Document:
    """Families with what their tiny weights reach; then files that packages publish."""
    families = [item for item in items if item["kind"] == "family"]
    rows = [
        [
            item["name"],
            item["task"],
            _words(item["frameworks"]),
            _words(item["sizes"]),
            f"{item['metric']} {item['score']:.4g} on {item['data']}" if item["weights"] else dash,
            item["license"],
        ]
        for item in families
    ]
    headings = ("family", "task", "frameworks", "sizes", "tiny weights", "license")
    published = [[_words(item.get(name)) for name in _PUBLISHED] for item in items if item["kind"] != "family"]
    return Document(
        "models",
        (
            table(headings, rows, "Families: `edgekit models make NAME --size SIZE -o FILE`"),
            table(_PUBLISHED, published, "Published files, known by their content"),
        ),
    )


def _ops(items: Sequence[Mapping[str, Any]]) -> Document:
    """A row an operation, with how many of its node tests pass in each format."""
    formats = list(items[0]["right"]) if items else []
    rows = [
        [item["name"], str(item["tests"]), *(how_much(item["right"][format], item["tests"]) for format in formats)]
        for item in items
    ]
    return Document("ops", (table(("op", "tests>", *formats), rows, "How many of ONNX's node tests pass"),))


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        sets = dict.fromkeys(tuple(names) for names in value.values())
        if len(sets) == 1:
            return _words(next(iter(sets)))
        return "; ".join(f"{key}: {_words(names)}" for key, names in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or dash
    return dash if value in (None, "") else str(value)
