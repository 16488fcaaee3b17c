"""`Evaluations` as a document: a row a variant, and a table of classes where there are some."""

from __future__ import annotations

from edgekit.evaluation import Evaluation, Evaluations
from edgekit.report.document import Block, Document, Fields, Notes, table
from edgekit.report.units import dash

__all__ = ["view"]

_MAX_CLASSES = 40
"""Of more the best and the worst are shown."""


def view(result: Evaluations) -> Document:
    """The metric of each variant, its difference to the first in fp32, and the metric of each class."""
    rows, first = result.evaluations, result.evaluations[0]
    data = first.data if first.split is None else f"{first.data}, split {first.split}"
    blocks: list[Block] = [
        Fields(
            (
                ("data", f"{data}: {first.count} samples, sha256 {first.data_sha256[:12]}"),
                ("metric", f"{first.metric}: {first.title}; {'more' if first.is_higher_better else 'less'} is better"),
            )
        ),
        _variants(rows),
    ]
    if first.per_class:
        blocks.append(_classes(rows))
    notes = [(f"{absent.variant} was not evaluated: {absent.reason}", absent.hint) for absent in result.absent]
    notes += [(f"{name} was left out: {reason}", "") for name, reason in first.skipped]
    if notes:
        blocks.append(Notes(tuple(notes), "Left out"))
    return Document(f"Evaluation of {first.model}", tuple(blocks))


def _variants(rows: tuple[Evaluation, ...]) -> Block:
    base = next((row for row in rows if row.precision == "fp32"), None)
    cells = [
        (
            row.variant,
            row.precision or dash,
            row.runtime_version or row.runtime or dash,
            f"{row.value:.4f}",
            dash if base is None or row is base else f"{row.value - base.value:+.4f}",
        )
        for row in rows
    ]
    return table(["variant", "precision", "engine", f"{rows[0].metric}>", "vs fp32>"], cells)


def _classes(rows: tuple[Evaluation, ...]) -> Block:
    names = list(rows[0].per_class)
    title = f"{rows[0].metric} of each class"
    if len(names) > _MAX_CLASSES:
        ranked = sorted(names, key=lambda name: rows[0].per_class[name])
        shown = (*ranked[: _MAX_CLASSES // 2], *ranked[-_MAX_CLASSES // 2 :])
        title += f", the lowest and the highest {_MAX_CLASSES // 2} of {len(names)}"
        names = [name for name in names if name in shown]
    cells = [
        (name, *(f"{row.per_class[name]:.4f}" if name in row.per_class else dash for row in rows)) for name in names
    ]
    return table(["class", *(f"{row.variant}>" for row in rows)], cells, title)
