"""Write the pages that are made from the code, or (``--check``) say which of them are out of date.

    python docs/generate.py
    tunesmith check --all --json > checks.json; python docs/generate.py --checks checks.json

The table of checks takes minutes to make; without ``--checks`` it is left as it is, and ``--check`` compares the names
of components and checks in it with those that there are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

from generating import catalogue, conformance, declarations, hooks  # noqa: E402  (beside this file)


def pages() -> dict[str, str]:
    """The text of every page that can be made at once, by its path under ``docs/``."""
    registry = catalogue.built_in()
    return {"hooks.md": hooks.page(), "declarations.md": declarations.page(), **catalogue.pages(registry)}


def outdated(made: Mapping[str, str]) -> list[str]:
    """What differs from the files, a line each."""
    found = []
    for name, text in made.items():
        path = DOCS / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            found.append(f"docs/{name} is out of date: run python docs/generate.py")
    lacking = conformance.drift((DOCS / "conformance.md").read_text(encoding="utf-8"))
    hint = "run tunesmith check --all --json > checks.json; python docs/generate.py --checks checks.json"
    return found + [f"docs/conformance.md: {line}; {hint}" for line in lacking]


def main() -> int:
    """The exit code: 1 where ``--check`` finds a page that is out of date."""
    parser = argparse.ArgumentParser(description="Write the pages that are made from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is out of date")
    parser.add_argument("--checks", metavar="FILE", help="what `tunesmith check --all --json` printed")
    given = parser.parse_args()
    if given.check:
        lines = outdated(pages())
        print("\n".join(lines) or "all pages are up to date")
        return 1 if lines else 0
    if given.checks:
        found = json.loads(Path(given.checks).read_text(encoding="utf-8"))
        (DOCS / "conformance.md").write_text(conformance.page(found), encoding="utf-8")
    for name, text in pages().items():
        path = DOCS / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
