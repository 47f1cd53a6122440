"""The catalogue: every built-in component with its card and its settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import tunesmith
from tunesmith import KINDS, Component, Volume, plugins
from tunesmith.cli.show import describe, setting, written

ABOVE = """\
# Catalogue

<!-- made by docs/generate.py -->

What comes with tunesmith. `tunesmith list` names this and all that is installed beside it, and `tunesmith show NAME`
prints what stands here. Settings are on the page of each kind.
"""
SHARED = (
    ("every method that samples", tunesmith.OnlineMethod),
    ("every method with a reference", tunesmith.ReferencedMethod),
    ("every reward", tunesmith.Reward),
    ("every schedule", tunesmith.Scheduler),
)
"""Settings that stand once on a page."""


def built_in() -> plugins.Registry:
    """The plugins of this package; what else is installed does not count."""
    registry = plugins.load()
    strangers = [plugin.name for plugin in registry.plugins if plugin.distribution != plugins.GROUP]
    return plugins.load(block=strangers) if strangers else registry


def pages(registry: plugins.Registry) -> dict[str, str]:
    """The overview, and a page for every kind."""
    facts = {kind: [describe(registry, cls) for _, cls in registry.entries(kind)] for kind in KINDS}
    found = {"catalogue.md": "\n".join([ABOVE, *(_overview(kind, facts[kind]) for kind in KINDS)])}
    for kind in KINDS:
        classes = [cls for _, cls in registry.entries(kind)]
        found[f"catalogue/{kind}s.md"] = _kind(kind, classes, facts[kind])
    return found


def _overview(kind: str, facts: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"## {kind.capitalize()}s", ""]
    if kind == "method":
        lines += ["| name | what it does | use when | data | memory |", "|---|---|---|---|---|"]
        lines += [_row(_link(kind, f), f["summary"], f["use_when"], f["data"], f["memory"]) for f in facts]
    else:
        lines += ["| name | what it does |", "|---|---|", *(_row(_link(kind, f), f["summary"]) for f in facts)]
    return "\n".join([*lines, ""])


def _link(kind: str, facts: Mapping[str, Any]) -> str:
    return f"[{facts['name']}](catalogue/{kind}s.md#{facts['name']})"


def _kind(kind: str, classes: Sequence[type[Component]], facts: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"# {kind.capitalize()}s", "", "<!-- made by docs/generate.py -->", ""]
    for title, base in SHARED:
        if base.kind == kind:
            shared = [setting(base, name) for name in base.model_fields if name != "objective"]
            anchor = base.__name__.lower()
            lines += [f"## Settings of {title} {{ #{anchor} }}", "", *_settings(shared)]
    for cls, fact in zip(classes, facts, strict=True):
        lines += _component(cls, fact)
    return "\n".join(lines)


def _component(cls: type[Component], facts: Mapping[str, Any]) -> list[str]:
    lines = [f"## {facts['name']}", "", facts["summary"], ""]
    lines += [line for name, text in _card(facts).items() if text for line in (f"- **{name}**: {text}",)] + [""]
    if facts.get("volumes"):
        volumes = [Volume(**volume) for volume in facts["volumes"]]
        lines += ["| typical data for | volume | note | source |", "|---|---|---|---|"]
        lines += [*(_row(v.use_case, str(v), v.note, v.source) for v in volumes), ""]
    if facts.get("presets"):
        lines += ["| preset | what it is | settings |", "|---|---|---|"]
        for name, preset in facts["presets"].items():
            settings = "; ".join(f"`{key}: {written(value)}`" for key, value in preset["settings"].items())
            lines.append(_row(f"`{name}`", preset["summary"], settings))
        lines.append("")
    lines += _own_settings(cls, facts)
    chosen = [fact for fact in facts.get("run_settings", ()) if fact.get("recommended")]
    if chosen:
        lines += ["Recommended settings of the run:", "", "| setting | default | with an adapter |", "|---|---|---|"]
        lines += [
            _row(
                f"`{f['name']}`",
                _default(f),
                f"`{written(f['default_with_adapter'])}`" if "default_with_adapter" in f else "",
            )
            for f in chosen
        ]
        lines.append("")
    return lines


def _own_settings(cls: type[Component], facts: Mapping[str, Any]) -> list[str]:
    base = next(((title, base) for title, base in SHARED if issubclass(cls, base)), None)
    own = facts["settings"]
    lines = []
    if base is not None:
        title, parent = base
        shared = {name: setting(parent, name) for name in parent.model_fields if name != "objective"}
        own = [fact for fact in own if shared.get(fact["name"]) != fact]
        lines = [f"{'Also the' if own else 'The'} [settings of {title}](#{parent.__name__.lower()}).", ""]
    return [*(_settings(own) if own else []), *lines]


def _card(facts: Mapping[str, Any]) -> dict[str, str]:
    def names(key: str) -> str:
        return ", ".join(f"`{one}`" for one in facts.get(key) or ())

    card = {"paper": facts.get("paper", ""), "use when": facts.get("use_when", ""), "data": facts.get("data", "")}
    card |= {"memory": facts.get("memory", ""), "goals": ", ".join(facts.get("goals", ()))}
    card |= {
        "rows": names("formats"),
        "losses that fit": names("objectives"),
        "models": ", ".join(facts.get("roles", ())),
    }
    card |= {"columns": names("columns"), "also reads": names("optional_columns"), "for the methods": names("methods")}
    card["makes"], card["reads"] = facts.get("produces", ""), facts.get("inputs", "")
    if facts.get("best") is not None:
        card["best score"] = f"{facts['best']:g}"
    card["needs"] = names("needs")
    return card


def _settings(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    if not facts:
        return []
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for fact in facts:
        kind = fact["type"] + (" or null" if fact["optional"] else "")
        default = "required" if fact["required"] else _default(fact)
        lines.append(_row(f"`{fact['name']}`", kind, default, fact["help"]))
    return [*lines, ""]


def _default(fact: Mapping[str, Any]) -> str:
    return "" if fact["default"] in (None, [], {}, "") else f"`{written(fact['default'])}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return " ".join(inspect.cleandoc(text).replace("``", "`").split()).replace("|", "\\|").replace("<", "&lt;")
