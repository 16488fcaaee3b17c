"""Documents as one page of HTML that needs nothing else: no network, no script, no font.

The page forbids itself all of that by a Content Security Policy, so even a mistake in here could load and run nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgekit.report.charts import draw_picture
from edgekit.report.document import Block, Document, Fields, Figure, Highlights, Notes, Section, Table, Words
from edgekit.report.markup import Markup, join, tag
from edgekit.report.style import style

__all__ = ["POLICY", "render"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

_LONG = 10
"""Tables of more rows inside a section are folded."""

_SHORT = 32
"""Cells up to this many letters stay on one line."""

_TYPED = re.compile(r"`([^`]+)`")


def render(document: Document) -> str:
    """The page; ends without a newline. The same document gives the same bytes."""
    sections = [block for block in document.blocks if isinstance(block, Section)]
    places = {id(section): f"s{turn}" for turn, section in enumerate(sections, 1)}
    plain = [block for block in document.blocks if not isinstance(block, Section)]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content="edgekit"),
        tag("title", document.title),
        tag("style", Markup(style())),
    )
    header = tag(
        "header", tag("p", "edgekit", class_="eyebrow"), tag("h1", document.title), _contents(sections, places)
    )
    parts = [_section(section, places[id(section)], turn == 0) for turn, section in enumerate(sections)]
    main = tag("main", join(*_blocks(plain, 2)), *parts, id="content")
    body = tag("body", tag("a", "To the content", href="#content", class_="skip"), header, main, _footer())
    return join(Markup("<!DOCTYPE html>\n"), tag("html", head, "\n", body, lang="en"))


def _contents(sections: Iterable[Section], places: dict[int, str]) -> Markup | None:
    links = [tag("li", tag("a", section.title, href=f"#{places[id(section)]}")) for section in sections]
    return tag("nav", tag("ul", *links), aria_label="Sections") if len(links) > 2 else None


def _footer() -> Markup:
    return tag("footer", "This page is one file: it loads nothing and runs no script.")


def _section(section: Section, place: str, is_lead: bool) -> Markup:
    heading = tag("h2", section.title, id=f"{place}h")
    shown = _blocks(section.blocks, 3)
    return tag("section", heading, *shown, id=place, aria_labelledby=f"{place}h", class_="lead" if is_lead else None)


def _blocks(blocks: Iterable[Block], level: int) -> list[Markup]:
    return [join("\n", _block(block, level)) for block in blocks]


def _block(block: Block, level: int) -> Markup:
    if isinstance(block, Section):
        return join(tag(f"h{level}", block.title), *_blocks(block.blocks, min(level + 1, 6)))
    if isinstance(block, Words):
        return tag("p", _prose(block.text), class_=f"answer {block.tone}" if block.tone else None)
    if isinstance(block, Highlights):
        return tag("dl", *(_tile(*item) for item in block.items), class_="tiles")
    if level > 2 and isinstance(block, Table | Fields) and _length(block) > _LONG:
        said = f"{block.title or 'Table'} ({_length(block)} rows)"
        return tag("details", tag("summary", said), _listed(block))
    heading = tag(f"h{level}", block.title) if block.title else None
    if isinstance(block, Table | Fields):
        return join(heading, _listed(block))
    if isinstance(block, Notes):
        return join(heading, tag("ul", *(_note(*item) for item in block.items), class_="notes"))
    return join(heading, _figure(block))


def _length(block: Table | Fields) -> int:
    return len(block.rows if isinstance(block, Table) else block.items)


def _listed(block: Table | Fields) -> Markup:
    if isinstance(block, Table):
        return _table(block, block.title, is_headed=True)
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in block.items), class_="fields")


def _tile(name: str, value: str, beside: str) -> Markup:
    words = (tag("dd", value, class_="value"), tag("dd", beside, class_="beside") if beside else None)
    return tag("div", tag("dt", name), *words, class_="tile")


def _note(message: str, remedy: str) -> Markup:
    what_to_do = tag("span", _prose(remedy), class_="remedy") if remedy else None
    is_warning = bool(remedy) and not remedy.startswith("`")
    return tag("li", _prose(message), what_to_do, class_="act" if is_warning else None)


def _prose(text: str) -> Markup:
    """Text in which what stands in backticks is set as it is typed."""
    parts = _TYPED.split(text)
    return join(*(tag("code", part) if turn % 2 else part for turn, part in enumerate(parts)))


def _figure(figure: Figure) -> Markup:
    caption = tag("figcaption", _prose(figure.caption)) if figure.caption else None
    title = figure.table.title or figure.title
    fold = tag("details", tag("summary", "The numbers as a table"), _table(figure.table, title))
    return tag("figure", draw_picture(figure.picture), caption, fold)


def _table(table: Table, name: str, *, is_headed: bool = False) -> Markup:
    """A table in a frame of its own, which is what scrolls where the screen is too narrow for it."""
    numbers = ["number" if column.is_number else None for column in table.columns]
    titles = (tag("th", c.title, scope="col", class_=css) for c, css in zip(table.columns, numbers, strict=True))
    caption = tag("caption", name, class_="hidden" if is_headed else None) if name else None
    body = tag("tbody", *(_row(row, numbers) for row in table.rows))
    drawn = tag("table", caption, tag("thead", tag("tr", *titles)), "\n", body)
    return tag("div", drawn, class_="scroll", tabindex=0, role="region", aria_label=name or "table")


def _row(row: tuple[str, ...], numbers: list[str | None]) -> Markup:
    first, *rest = row
    cells = (tag("td", _prose(cell), class_=css or _width(cell)) for cell, css in zip(rest, numbers[1:], strict=True))
    return join(tag("tr", tag("th", first, scope="row", class_=numbers[0] or _width(first)), *cells), "\n")


def _width(cell: str) -> str:
    """Names stay on one line, sentences are folded: neither is squeezed on a narrow screen, the table scrolls."""
    return "short" if len(cell) <= _SHORT else "long"
