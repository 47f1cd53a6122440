"""For mkdocs: a link to a file of the repository that is not on the site becomes its path, as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s#]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs with the text of every page. A link to what does not exist stays, and mkdocs complains."""
    folder = Path(page.file.abs_src_path).parent

    def spelt(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if not target.exists() or not target.is_relative_to(ROOT) or target.is_relative_to(ROOT / "docs"):
            return link[0]
        return f"{link[1]} (`{target.relative_to(ROOT)}`)"

    return LINK.sub(spelt, markdown)
