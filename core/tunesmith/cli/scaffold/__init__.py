"""The files of a new plugin package, made from the templates beside this module."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from tunesmith.components import KINDS
from tunesmith.plugin_rules import REGISTER

HERE = Path(__file__).parent
FUNCTIONS = ("reward",)
"""Kinds whose component is written as a function."""
FILES = {
    "pyproject.toml": "package/pyproject.toml.jinja",
    "README.md": "package/README.md.jinja",
    ".gitignore": "package/gitignore.jinja",
    ".github/workflows/ci.yml": "package/ci.yml.jinja",
    "tests/test_conformance.py": "package/test_conformance.py.jinja",
}
"""What every package holds beside its module, and the template of each."""


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A plugin package that is to be written.

    Attributes:
        kind: of its component.
        name: of its component, in kebab-case.
        package: name of the distribution.
        plugin: name of the entry point.
        trial: a command that shows the component at work.
    """

    kind: str
    name: str
    package: str
    plugin: str
    trial: str

    @property
    def module(self) -> str:
        """The import name of the package."""
        return re.sub(r"[-.]+", "_", self.package).lower()

    @property
    def component(self) -> str:
        """Path of the file that holds the component."""
        return f"{self.module}/__init__.py"

    @property
    def symbol(self) -> str:
        """What the component is called in Python: ``sql_result``, or ``SqlResult`` and its kind."""
        words = self.name.split("-")
        if self.kind not in FUNCTIONS:
            spoken = "".join(word.capitalize() for word in words if word != self.kind) + self.kind.capitalize()
            return spoken if spoken.isidentifier() else f"A{spoken}"
        plain = "_".join(words)
        taken = keyword.iskeyword(plain) or hasattr(builtins, plain) or plain in ("tunesmith", "value")
        return plain if plain.isidentifier() and not taken else f"{self.kind}_{plain}"

    def render(self) -> dict[str, str]:
        """The text of every file, by its path in the package."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(HERE), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
        )
        templates = {**FILES, self.component: f"kinds/{self.kind}.py.jinja"}
        values = self._values()
        found = {path: environment.get_template(name).render(values) for path, name in templates.items()}
        return {**found, f"{self.module}/py.typed": ""}

    def _values(self) -> Mapping[str, Any]:
        facts = metadata("tunesmith")
        python = facts["Requires-Python"]
        return {
            **{
                name: getattr(self, name) for name in ("kind", "name", "package", "plugin", "trial", "module", "symbol")
            },
            "base": KINDS[self.kind].__name__,
            "hook": next(hook for hook, kind in REGISTER.items() if kind == self.kind),
            "minor": ".".join(facts["Version"].split(".")[:2]),
            "python": python,
            "oldest_python": re.sub(r"[^\d.]", "", python),
        }


def write(files: Mapping[str, str], folder: Path) -> None:
    """Write the files of a package into a folder, which is made."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
