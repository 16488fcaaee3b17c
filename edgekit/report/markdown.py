"""Documents as GitHub-flavored markdown."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.report.document import Block, Document, Fields, Figure, Highlights, Notes, Section, Table, Words

__all__ = ["render"]


def render(document: Document) -> str:
    """One heading a block; ends without a newline."""
    return "\n\n".join(part for part in (f"# {_escape(document.title)}", *_parts(document.blocks, 2)) if part)


def _parts(blocks: tuple[Block, ...], level: int) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Words):
            yield _escape(block.text)
            continue
        if isinstance(block, Highlights):
            yield "\n".join(f"- **{_escape(name)}**: {_escape(f'{v} ({b})' if b else v)}" for name, v, b in block.items)
            continue
        title = block.title or (block.table.title if isinstance(block, Figure) else "")
        if title:
            yield f"{'#' * level} {_escape(title)}"
        if isinstance(block, Section):
            yield from _parts(block.blocks, level + 1)
        elif isinstance(block, Figure):
            yield _table(block.table)
            yield _escape(block.caption)
        elif isinstance(block, Table):
            yield _table(block)
        elif isinstance(block, Fields):
            yield "\n".join(f"- **{_escape(name)}**: {_escape(value)}" for name, value in block.items)
        else:
            yield "\n".join(_note(block))


def _note(block: Notes) -> list[str]:
    return [
        f"- {_escape(message)}" + (f" **Remedy:** {_escape(remedy)}" if remedy else "")
        for message, remedy in block.items
    ]


def _table(table: Table) -> str:
    rows = [
        [_escape(column.title) for column in table.columns],
        ["---:" if column.is_number else "---" for column in table.columns],
        *([_escape(cell) for cell in row] for row in table.rows),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _escape(text: str) -> str:
    """Text that markdown shows as it is, on one line."""
    for sign in ("\\", "|", "*", "_", "`", "<", "["):
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split())
