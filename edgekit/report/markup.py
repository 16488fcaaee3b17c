"""Elements of HTML and SVG. Whatever is not markup already is escaped, so that nothing a file says becomes markup."""

from __future__ import annotations

import html

__all__ = ["Markup", "join", "tag"]

_VOID = frozenset(("br", "hr", "link", "meta"))


class Markup(str):
    """Text that is markup: it goes into other markup as it is."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: object) -> Markup:
    """An element with `children`, of which those that are None are left out.

    Args:
        name: Of the element.
        children: Markup, or text that is escaped.
        attributes: ``_`` in a name stands for ``-``, at its end for nothing: ``class_``, ``aria_label``. Numbers have
            three decimals at most; True is an attribute without a value, None and False are none.
    """
    shown = "".join(
        f" {_name(key)}" if value is True else f' {_name(key)}="{html.escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(*children)}</{name}>")


def join(*parts: str | None, by: str = "") -> Markup:
    """Markup one after the other; text among it is escaped."""
    return Markup(by.join(p if isinstance(p, Markup) else html.escape(p) for p in parts if p is not None))


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
