"""One self-contained page: sections of text, tables and pictures; no network, no other file.

The page forbids itself everything but its own style and its own script (Content-Security-Policy), so that a text that
escaped from its escaping would still not run.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, Self

from tunesmith.masking import mask
from tunesmith.report.markup import Markup, escape, join, tag, visible

Block = Markup | str
"""A part of a section: markup as it is, or a text, which becomes a paragraph."""
LONGEST = 4000
"""Characters of a text that are shown; the rest is counted."""


class Page:
    """A page that grows section by section.

    Args:
        title: of the page and of the browser's tab.
        lead: what stands under the title.
    """

    def __init__(self, title: str, *lead: Block) -> None:
        self.title = title
        self._lead = lead
        self._sections: list[tuple[str, Markup]] = []

    def section(self, heading: str, *blocks: Block) -> Self:
        """Add a section; one without blocks is left out."""
        if blocks:
            self._sections.append((heading, join(map(_block, blocks))))
        return self

    def render(self) -> str:
        """The whole page."""
        body = [tag("header", tag("h1", self.title), *map(_block, self._lead))]
        if len(self._sections) > 2:
            links = (tag("a", heading, href=f"#s{i}") for i, (heading, _) in enumerate(self._sections))
            body.append(tag("nav", *links, aria_label="Sections"))
        body += [
            tag("section", tag("h2", heading), content, id=f"s{i}")
            for i, (heading, content) in enumerate(self._sections)
        ]
        style, script = _own("page.css"), _own("page.js")
        head = join(
            [
                tag("meta", charset="utf-8"),
                tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
                tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                tag("meta", name="color-scheme", content="light dark"),
                tag("title", self.title),
                tag("style", Markup(style)),
            ]
        )
        page = tag("html", tag("head", head), tag("body", tag("main", *body), tag("script", Markup(script))), lang="en")
        return f"<!doctype html>\n{page}\n"

    def write(self, path: Path) -> Path:
        """Write the page, whole or not at all, access tokens masked; return the path. Raises `OSError`."""
        aside = path.with_name(f".writing-{path.name}")
        aside.write_text(mask(self.render()), encoding="utf-8")
        os.replace(aside, path)
        return path


@cache
def _own(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Nothing but our own script, known by its hash, and inline style."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"


# ---------------------------------------------------------------------------------------------- blocks
def _block(block: Block) -> Markup:
    return block if isinstance(block, Markup) else tag("p", block)


def grid(*blocks: Block) -> Markup:
    """Blocks side by side where there is room, such as pictures."""
    return tag("div", *map(_block, blocks), class_="grid")


def facts(values: Mapping[str, object] | Iterable[tuple[str, object]]) -> Markup:
    """Names and values, one a line."""
    pairs = values.items() if isinstance(values, Mapping) else values
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs), class_="facts")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: Iterable[int] = ()) -> Markup:
    """A table that scrolls by itself where it is too wide.

    Args:
        head: names of the columns.
        rows: a value for each column; texts are escaped.
        numbers: columns that are set flush right.
    """
    right = frozenset(numbers)

    def cells(kind: str, values: Sequence[object]) -> Markup:
        return tag("tr", *(tag(kind, value, class_="n" if i in right else None) for i, value in enumerate(values)))

    body = tag("tbody", *(cells("td", row) for row in rows))
    return tag("div", tag("table", tag("thead", cells("th", head)), body), class_="wide")


def notice(message: object, level: Literal["info", "warning", "error", "good"] = "info") -> Markup:
    """A line that stands out."""
    return tag("p", message, class_=f"notice {level}")


def details(summary: object, *blocks: Block, opened: bool = False) -> Markup:
    """Blocks that are folded away under a line."""
    return tag("details", tag("summary", summary), *map(_block, blocks), open=opened)


def verbatim(content: str, limit: int = LONGEST) -> Markup:
    """A text that somebody else has written, as it is: its lines kept, hidden characters shown, the rest counted."""
    shown = tag("bdi", Markup(escape(visible(content[:limit]))))
    left = len(content) - limit
    return tag("pre", shown, *([tag("span", f" ... {left:,} more characters", class_="more")] if left > 0 else ()))
