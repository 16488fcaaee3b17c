"""`Evaluations` as a document: a row a variant beside its source, a table of classes, and what was taken for what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.evaluation import Evaluation, Evaluations, Versus
from edgekit.metrics import Confusion
from edgekit.report.document import Block, Document, Fields, Notes, table
from edgekit.report.units import dash

__all__ = ["view"]

_MAX_CLASSES = 40
"""Of more the best and the worst are shown."""

_MAX_MISTAKES = 10
_MAX_FAILED = 10


def view(result: Evaluations) -> Document:
    """The metric of each variant, what it is worth beside the source, each class, and mistakes that are often made."""
    rows = result.evaluations if result.source is None else (result.source, *result.evaluations)
    first = result.evaluations[0]
    data = first.data if first.split is None else f"{first.data}, split {first.split}"
    blocks: list[Block] = [
        Fields(
            (
                ("data", f"{data}: {first.count} samples, sha256 {first.data_sha256[:12]}"),
                ("metric", f"{first.metric}: {first.title}; {'more' if first.is_higher_better else 'less'} is better"),
                ("interval", first.interval.method),
                *_compared(result),
            )
        ),
        _variants(rows),
    ]
    if first.per_class:
        blocks.append(_classes(rows))
    if first.confusion is not None and (mistakes := _mistakes(first)) is not None:
        blocks.append(mistakes)
    blocks += [Notes(tuple(notes), title) for title, notes in _notes(result, rows) if notes]
    return Document(f"Evaluation of {first.model}", tuple(blocks))


def _compared(result: Evaluations) -> list[tuple[str, str]]:
    versus = next((one.versus for one in result.evaluations if one.versus is not None), None)
    if versus is None:
        return []
    found = [("held against", f"{versus.base}: {versus.method}")]
    if versus.allowed is not None:
        found.append(
            ("may lose", f"{versus.allowed:.4g}; too much is where even the better end of the interval is beyond")
        )
    return found


def _variants(rows: Sequence[Evaluation]) -> Block:
    first, is_paired = rows[0], any(row.versus for row in rows)
    headings = ["variant", "precision", "engine", f"{first.metric}>", "95 % from>", "to>"]
    base = next((row.versus.base for row in rows if row.versus), "")
    headings += ["vs fp32>" if not base.startswith("source") else "vs source>", "from>", "to>", "verdict"] * is_paired
    cells = [
        (
            row.variant,
            row.precision or dash,
            row.runtime_version or row.runtime or dash,
            f"{row.value:.4f}",
            *_ends(row.interval.low, row.interval.high),
            *(_difference(row.versus) if is_paired else ()),
        )
        for row in rows
    ]
    return table(headings, cells)


def _difference(versus: Versus | None) -> tuple[str, ...]:
    if versus is None:
        return (dash,) * 4
    gate = "" if versus.is_within is not False else ": too much is lost"
    return f"{versus.difference:+.4f}", *_ends(versus.low, versus.high, "+"), f"{versus.verdict}{gate}"


def _ends(low: float | None, high: float | None, sign: str = "") -> tuple[str, str]:
    return (dash, dash) if low is None or high is None else (f"{low:{sign}.4f}", f"{high:{sign}.4f}")


def _classes(rows: Sequence[Evaluation]) -> Block:
    """Each class for every variant; of the only one its interval too, and precision and recall where they are known."""
    first = rows[0]
    names = list(first.per_class)
    title = f"{first.metric} of each class"
    if len(names) > _MAX_CLASSES:
        ranked = sorted(names, key=lambda name: first.per_class[name])
        shown = {*ranked[: _MAX_CLASSES // 2], *ranked[-_MAX_CLASSES // 2 :]}
        title += f", the lowest and the highest {_MAX_CLASSES // 2} of {len(names)}"
        names = [name for name in names if name in shown]
    count = ["count>"] if first.support else []
    if len(rows) > 1:
        cells = [
            (
                name,
                *([str(first.support.get(name, 0))] if count else []),
                *(f"{row.per_class[name]:.4f}" if name in row.per_class else dash for row in rows),
            )
            for name in names
        ]
        return table(["class", *count, *(f"{row.variant}>" for row in rows)], cells, title)
    rates = {} if first.confusion is None else _rates(first.confusion)
    headings = ["class", *count, f"{first.metric}>", "95 % from>", "to>"]
    headings += ["precision>", "recall>", "F1>"] if rates else []
    cells = [
        (
            name,
            *([str(first.support.get(name, 0))] if count else []),
            f"{first.per_class[name]:.4f}",
            *_ends(*first.interval.per_class.get(name, (None, None))),
            *([f"{value:.4f}" for value in rates.get(name, (0.0, 0.0, 0.0))] if rates else []),
        )
        for name in names
    ]
    return table(headings, cells, title)


def _rates(confusion: Confusion) -> dict[str, tuple[float, float, float]]:
    """Precision, recall and F1 of each class, 0 where nothing is answered or true."""
    true, answered, right = (np.zeros(len(confusion.labels)) for _ in range(3))
    for row, column, count in confusion.cells:
        true[row] += count
        answered[column] += count
        right[row] += count * (row == column)
    rates = [right / np.maximum(answered, 1), right / np.maximum(true, 1), 2 * right / np.maximum(true + answered, 1)]
    triples = zip(*(rate.tolist() for rate in rates), strict=True)
    return dict(zip(confusion.labels, triples, strict=True))


def _mistakes(first: Evaluation) -> Block | None:
    """What is most often taken for something else; None where nothing is."""
    assert first.confusion is not None
    labels, cells = first.confusion.labels, first.confusion.cells
    totals: dict[int, int] = {}
    for true, _, count in cells:
        totals[true] = totals.get(true, 0) + count
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    if not wrong:
        return None
    rows = [(labels[t], labels[a], str(count), f"{count / totals[t]:.1%}") for t, a, count in wrong[:_MAX_MISTAKES]]
    more = f", the {_MAX_MISTAKES} most frequent of {len(wrong)}" if len(wrong) > _MAX_MISTAKES else ""
    return table(["true", "answered", "count>", "of the class>"], rows, f"Mistakes of {first.variant}{more}")


def _notes(result: Evaluations, rows: Sequence[Evaluation]) -> list[tuple[str, list[tuple[str, str]]]]:
    first = result.evaluations[0]
    warnings = [(f"{row.variant}: {said}", "") for row in rows for said in row.warnings]
    left = [(result.source_note, "")] if result.source_note else []
    left += [(f"{absent.variant} was not evaluated: {absent.reason}", absent.hint) for absent in result.absent]
    left += [(f"{name} was left out: {reason}", "") for name, reason in first.skipped]
    for row in rows:
        left += [(f"{row.variant} could not answer {name}: {reason}", "") for name, reason in row.failed[:_MAX_FAILED]]
        if len(row.failed) > _MAX_FAILED:
            left.append((f"{row.variant} could not answer {len(row.failed)} samples in all", "--strict stops there"))
    return [("Warnings", warnings), ("Left out", left)]
