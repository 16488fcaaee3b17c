"""Documents as GitHub-flavored markdown."""

from __future__ import annotations

from edgekit.report.document import Document, Fields, Notes, Table

__all__ = ["render"]


def render(document: Document) -> str:
    """One heading a block; ends without a newline."""
    parts = [f"# {_escape(document.title)}"]
    for block in document.blocks:
        if block.title:
            parts.append(f"## {_escape(block.title)}")
        if isinstance(block, Table):
            parts.append(_table(block))
        elif isinstance(block, Fields):
            parts.append("\n".join(f"- **{_escape(name)}**: {_escape(value)}" for name, value in block.items))
        else:
            parts.append("\n".join(_note(block)))
    return "\n\n".join(part for part in parts if part)


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
