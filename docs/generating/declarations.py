"""The page on base classes: what a component declares, which settings it has, and which methods it may override."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise

import tunesmith
from tunesmith.fieldtypes import help_texts

CLASSES = (
    "Component", "Method", "OfflineMethod", "ReferencedMethod", "ReplayMethod", "EmbeddingsFirstMethod", "OnlineMethod",
    "HasCritic", "Objective", "Reward", "DataFormat", "Converter", "Source", "Scheduler", "Generator",
    "GeneratorSession", "Tracker", "TrackerSession",
)  # fmt: skip
"""Base classes and protocols, in the order of the page."""
ABOVE = """\
# Declarations

<!-- made by docs/generate.py -->

What the base classes in `tunesmith` declare: class variables, settings (which are in run files, and which a subclass
may give another default) and methods. A method without a default has to be written; the others may be overridden.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([ABOVE, *(_class(name) for name in CLASSES)])


def _class(name: str) -> str:
    cls = getattr(tunesmith, name)
    body = _body(cls)
    bases = [base.__name__ for base in cls.__bases__ if base.__name__ in tunesmith.__all__]
    lines = [f"## {name}", "", _text(inspect.getdoc(cls) or ""), ""]
    lines += [f"Has also what [{base}](#{base.lower()}) has." for base in bases if base in CLASSES]
    lines += [""] if bases else []
    settings = set(help_texts(cls)) if issubclass(cls, tunesmith.Settings) else set()
    declared = [row for row in _variables(body) if row[0].strip("`") not in settings]
    if declared:
        lines += _table("declared | type | default | meaning", declared)
    own = [row for row in _variables(body) if row[0].strip("`") in settings]
    if own:
        lines += _table("setting | type | default | meaning", own)
    methods = list(_methods(body))
    if methods:
        lines += _table("method | default | what it does", methods)
    return "\n".join(lines)


def _body(cls: type) -> list[ast.stmt]:
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(found, ast.ClassDef)
    return found.body


def _variables(body: list[ast.stmt]) -> Iterator[tuple[str, ...]]:
    """Name, type, default and docstring of every annotated assignment."""
    for statement, below in pairwise([*body, ast.Pass()]):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if statement.target.id.startswith("_"):
            continue
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
        kind = _annotation(statement.annotation)
        default = "" if statement.value is None else _value(statement.value)
        yield f"`{statement.target.id}`", f"`{kind}`", f"`{default}`" if default else "", _text(str(text))


def _annotation(node: ast.expr) -> str:
    text = ast.unparse(node).replace("'", "") if isinstance(node, ast.Constant) else ast.unparse(node)
    return text.removeprefix("ClassVar[").removesuffix("]") if text.startswith("ClassVar[") else text.replace('"', "")


def _value(node: ast.expr) -> str:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Field":
        return next((ast.unparse(word.value) for word in node.keywords if word.arg == "default"), "")
    return ast.unparse(node)


def _methods(body: list[ast.stmt]) -> Iterator[tuple[str, ...]]:
    for statement in body:
        if not isinstance(statement, ast.FunctionDef):
            continue
        if statement.name.startswith("_") and statement.name != "__call__":
            continue
        marks = [ast.unparse(mark) for mark in statement.decorator_list]
        arguments = ast.unparse(statement.args).replace("'", "")
        arguments = ", ".join(part for part in arguments.split(", ") if part not in ("self", "cls", "/"))
        result = ast.unparse(statement.returns).strip("'\"") if statement.returns else ""
        call = statement.name if "property" in marks else f"{statement.name}({arguments})"
        kind = "no default" if "abstractmethod" in marks else "property" if "property" in marks else "yes"
        first = (ast.get_docstring(statement) or "").split("\n\n")[0]
        yield f"`{call}{f' -> {result}' if result != 'None' else ''}`", kind, _text(first)


def _text(text: str) -> str:
    """A docstring as one paragraph of Markdown."""
    return " ".join(text.split("\n\nAttributes:")[0].split("\n\nArgs:")[0].split()).replace("``", "`")


def _table(head: str, rows: list[tuple[str, ...]]) -> list[str]:
    columns = head.count("|") + 1
    lines = [f"| {head} |", f"|{'---|' * columns}"]
    for row in rows:
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    return [*lines, ""]
