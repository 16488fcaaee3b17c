"""Documents as text: drawn by rich on a terminal, in plain aligned columns everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from edgekit.report.document import Block, Document, Fields, Figure, Highlights, Notes, Section, Table, Words

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
    return "\n\n".join(part for part in (document.title, *_parts(document.blocks)) if part)


def _parts(blocks: tuple[Block, ...]) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Section):
            yield f"{block.title}\n{'=' * len(block.title)}"
            yield from _parts(block.blocks)
        elif isinstance(block, Figure):
            yield from _parts(_in_words(block))
        elif isinstance(block, Words):
            yield block.text
        else:
            title = "" if isinstance(block, Highlights) else block.title
            yield f"{title}\n{_body(block)}" if title else _body(block)


def _body(block: Table | Fields | Notes | Highlights) -> str:
    if isinstance(block, Table):
        return _plain_table(block)
    if isinstance(block, Notes):
        return "\n".join(_note(item) for item in block.items)
    items = _in_fields(block).items if isinstance(block, Highlights) else block.items
    width = max((len(name) for name, _ in items), default=0)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in items)


def _in_words(figure: Figure) -> tuple[Block, ...]:
    """What a figure shows, without the picture."""
    table = figure.table if figure.table.title else replace(figure.table, title=figure.title)
    return (table, Words(figure.caption)) if figure.caption else (table,)


def _in_fields(block: Highlights) -> Fields:
    return Fields(tuple((name, f"{value} ({beside})" if beside else value) for name, value, beside in block.items))


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
    from rich.text import Text

    console.print(Text(document.title, style="bold"))
    _draw_blocks(document.blocks, console)


def _draw_blocks(blocks: tuple[Block, ...], console: Console) -> None:
    from rich.text import Text

    for block in blocks:
        if isinstance(block, Figure):
            _draw_blocks(_in_words(block), console)
            continue
        console.print()
        if isinstance(block, Section):
            console.rule(Text(block.title, style="bold"), align="left")
            _draw_blocks(block.blocks, console)
        elif isinstance(block, Words):
            console.print(Text(block.text))
        elif isinstance(block, Highlights):
            _draw_fields(_in_fields(block), console)
        else:
            _draw_titled(block, console)


def _draw_titled(block: Table | Fields | Notes, console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

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
