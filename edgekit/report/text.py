"""Documents as text: drawn by rich on a terminal, in plain aligned columns everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from edgekit.report.document import Document, Fields, Table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["draw", "render"]

_NEVER_FOLDED = 16
"""Cells up to this width stay on one line."""

_FOLDED = 12
"""Columns of longer cells are not made narrower than this."""

_GAP = "  "


def render(document: Document) -> str:
    """Plain text without color or folding, for pipes, files and tests; ends without a newline."""
    parts = [document.title]
    for block in document.blocks:
        if isinstance(block, Table):
            body = _plain_table(block)
        elif isinstance(block, Fields):
            width = max((len(name) for name, _ in block.items), default=0)
            body = "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in block.items)
        else:
            body = "\n".join(_note(item) for item in block.items)
        parts.append(f"{block.title}\n{body}" if block.title else body)
    return "\n\n".join(part for part in parts if part)


def _note(item: tuple[str, str]) -> str:
    message, remedy = item
    return f"- {message}\n  -> {remedy}" if remedy else f"- {message}"


def _plain_table(table: Table) -> str:
    cells = [tuple(column.title for column in table.columns), *table.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, width, column in zip(row, widths, table.columns, strict=True)
        ]
        lines.append(_GAP.join(padded).rstrip())
    return "\n".join(lines)


def draw(document: Document, console: Console) -> None:
    """Prints to a terminal. `console` decides on width and color; rich honors NO_COLOR by itself."""
    from rich.padding import Padding
    from rich.text import Text

    console.print(Text(document.title, style="bold"))
    for block in document.blocks:
        console.print()
        if block.title:
            console.print(Text(block.title, style="bold"))
        if isinstance(block, Table):
            _draw_table(block, console)
        elif isinstance(block, Fields):
            _draw_fields(block, console)
        else:
            for message, remedy in block.items:
                console.print(Text(f"- {message}", style="yellow" if remedy else ""))
                if remedy:
                    console.print(Padding(Text(f"-> {remedy}"), (0, 0, 0, 2)))


def _draw_table(block: Table, console: Console) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    widths = [max((len(row[i]) for row in block.rows), default=0) for i in range(len(block.columns))]
    words = [max(map(len, column.title.split()), default=0) for column in block.columns]
    least = sum(
        len(_GAP) + (max(width, word) if width <= _NEVER_FOLDED else _FOLDED)
        for width, word in zip(widths, words, strict=True)
    )
    if least > console.width:  # the terminal wraps what rich would cut off
        console.print(Text(_plain_table(block)), soft_wrap=True)
        return
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column, width in zip(block.columns, widths, strict=True):
        side: Literal["left", "right"] = "right" if column.is_number else "left"
        # Sentences are folded; names and numbers never, and long headings over them stand in several lines.
        is_short = width <= _NEVER_FOLDED
        title = column.title.replace(" ", "\n") if is_short and len(column.title) > width else column.title
        drawn.add_column(Text(title), justify=side, overflow="fold", no_wrap=is_short)
    for row in block.rows:
        drawn.add_row(*(Text(cell) for cell in row))  # as Text: brackets in a name are no markup
    console.print(drawn)


def _draw_fields(block: Fields, console: Console) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in block.items:
        grid.add_row(Text(name), Text(value))
    console.print(grid)
