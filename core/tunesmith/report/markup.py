"""HTML that is safe to write down: every text is escaped on its way in, whatever a model has put into it."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from tunesmith.data.report import printable

VOID = frozenset({"br", "circle", "col", "hr", "input", "line", "meta", "path", "polyline", "rect"})
"""Elements that are written without an end."""


class Markup(str):
    """HTML that needs no escaping any more. Made by `escape`, `tag` and what is built on them."""

    __slots__ = ()


def visible(text: str) -> str:
    """A text with characters that nobody sees, or that turn others round, written as escapes; lines and tabs stay.

    >>> visible("a" + chr(0x202e) + "b") == "a" + chr(92) + "u202eb"
    True
    """
    if text.isascii() and text.isprintable():
        return text
    lines = text.split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def escape(value: object) -> Markup:
    """What is no `Markup` yet as a text: visible, and without a meaning to a browser."""
    return value if isinstance(value, Markup) else Markup(html.escape(visible(str(value))))


def join(parts: Iterable[object]) -> Markup:
    """One after the other, each escaped where it is no `Markup`."""
    return Markup("".join(map(escape, parts)))


def tag(name: str, /, *children: object, **attributes: Any) -> Markup:
    """An element.

    Args:
        name: of the element; ours, never from data.
        children: `Markup`, or anything else as escaped text.
        attributes: names as in HTML, ``_`` for ``-``, a last ``_`` left out (``class_``); ``None`` and ``False`` leave
            one out, ``True`` writes its name alone.

    >>> tag("b", "1 < 2", class_="x")
    '<b class="x">1 &lt; 2</b>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID and not children:
        return Markup(f"<{name}{written}>" if name in ("br", "hr", "input", "meta", "col") else f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else printable(str(value))
    return f' {name}="{html.escape(text)}"'
