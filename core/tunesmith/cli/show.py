"""``tunesmith show``: everything about one component."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import click
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.listing import check_kind, kind_named
from tunesmith.components import KINDS, Component, Method, Reward, Settings, Volume
from tunesmith.errors import ConfigError, did_you_mean
from tunesmith.fieldtypes import field_type, help_texts, plain
from tunesmith.plugins import Registry, article
from tunesmith.settings import RunSettings


@click.command("show")
@click.argument("name")
@click.option("--kind", help="What NAME is, where components of several kinds are called alike.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@plugin_options
def show(name: str, kind: str | None, as_json: bool) -> None:
    """Show what a component is for, what it takes, and its settings.

    NAME is a component of any kind; kind/name, plugin/name and, for a reward, file.py:function are accepted as well.
    """
    from tunesmith.reward_files import load_reward, points_to_code

    registry = load_registry()
    in_file = points_to_code(name)
    cls = load_reward(name) if in_file else find(registry, name, check_kind(kind) if kind else None)
    facts = describe(registry, cls, name if in_file else None)
    if as_json:
        terminal.print_json({"schema": 1, **facts})
    else:
        click.echo("\n".join(_page(facts)))


def find(registry: Registry, name: str, kind: str | None) -> type[Component]:
    """The component that a word means; a method before its loss of the same name, and that is said.

    Raises `ConfigError` when it means none.
    """
    prefix, slash, rest = name.partition("/")
    if kind is None and slash and kind_named(prefix):
        kind, name = kind_named(prefix), rest
    if kind is not None:
        return registry.get(kind, name)
    bare = name.rpartition("/")[2].replace("_", "-")
    kinds = [k for k in KINDS if bare in registry.names(k)]
    if kinds:
        for other in kinds[1:]:
            click.echo(f"{name} is {article(other)} too: tunesmith show {other}/{name}", err=True)
        return registry.get(kinds[0], name)
    known = {known for k in KINDS for known in registry.names(k)}
    broken = [f"{plugin.name}: {plugin.cause}" for plugin in registry.plugins if plugin.status == "broken"]
    raise ConfigError(
        f"there is no component {name!r}{did_you_mean(bare, known)}",
        why=f"plugins that failed to load: {'; '.join(broken)}" if broken else None,
        fix="see `tunesmith list`",
    )


# ---------------------------------------------------------------------------------------------- facts
def describe(registry: Registry, cls: type[Component], pointer: str | None = None) -> dict[str, Any]:
    """All that `show` knows about a component, as plain values; ``pointer`` says where one is that no plugin has."""
    facts: dict[str, Any] = {"kind": cls.kind, "name": cls.name, "summary": terminal.first_line(cls)}
    if pointer is None:
        plugin = registry.owner(cls)
        facts |= {"plugin": plugin.name, "package": plugin.distribution, "version": plugin.version}
        facts["selector"] = registry.selector(plugin, cls)
    else:
        facts |= {"plugin": "", "package": pointer.rpartition(":")[0], "version": "", "selector": pointer}
    facts["needs"], facts["replaces"] = list(cls.needs), cls.replaces
    if issubclass(cls, Method):
        facts |= _method_facts(registry, cls)
    else:
        facts |= _reward_facts(cls) if issubclass(cls, Reward) else _other_facts(registry, cls)
    own_first = sorted(cls.model_fields, key=lambda name: issubclass(cls, Reward) and name in Reward.model_fields)
    facts["settings"] = [setting(cls, name) for name in own_first]
    return facts


def _method_facts(registry: Registry, cls: type[Method]) -> dict[str, Any]:
    card = cls.card
    formats = [other for _, other in registry.entries("format") if issubclass(cast(Any, other).produces, cls.consumes)]
    fits = [other for _, other in registry.entries("objective") if cls.fits(cast(Any, other))]
    return {
        "paper": card.paper,
        "use_when": card.use_when,
        "data": card.data,
        "memory": card.memory,
        "goals": list(card.serves()),
        "volumes": [{**asdict(volume), "goals": list(volume.goals or card.goals)} for volume in card.volumes],
        "consumes": cls.consumes.__name__,
        "formats": [other.name for other in formats],
        "supplies": cls.supplies.__name__,
        "objectives": [other.name for other in fits],
        "roles": sorted(cls.roles),
        "presets": {
            name: {"summary": preset.summary, "settings": dict(preset.settings)} for name, preset in cls.presets.items()
        },
        "run_settings": [recommended(cls, name) for name in RunSettings.model_fields],
    }


def _reward_facts(cls: type[Reward]) -> dict[str, Any]:
    """What a reward needs and promises; columns and an example with its default settings, where those are enough."""
    facts: dict[str, Any] = {"verifies": cls.verifies, "best": cls.best, "isolated": cls.isolated}
    try:
        reward = cls()
    except ValidationError:  # it cannot be made without settings
        return {**facts, "columns": None, "example": None}
    example = next(iter(reward.samples()), None)
    return {**facts, "columns": list(reward.columns()), "example": None if example is None else dict(example)}


def _other_facts(registry: Registry, cls: type[Component]) -> dict[str, Any]:
    """What a component takes and gives, and the methods that it goes with."""
    methods = [cast(type[Method], method) for _, method in registry.entries("method")]
    produces, inputs = getattr(cls, "produces", None), getattr(cls, "inputs", None)
    facts: dict[str, Any] = {}
    if produces is not None:
        facts["columns"] = list(cast(Any, cls).columns)
        facts["optional_columns"] = list(cast(Any, cls).optional_columns)
        facts["produces"] = produces.__name__
        facts["methods"] = [method.name for method in methods if issubclass(produces, method.consumes)]
    if inputs is not None:
        facts["inputs"] = inputs.__name__
        unit = cast(Any, cls).unit
        facts["unit"] = unit if isinstance(unit, str) else None
        facts["methods"] = [method.name for method in methods if method.fits(cast(Any, cls))]
    return facts


def setting(cls: type[Settings], name: str) -> dict[str, Any]:
    """A setting: its type, default and help; ``required`` where it has no default."""
    info = cls.model_fields[name]
    kind = field_type(info.annotation)
    default = None if info.default is PydanticUndefined else info.default
    if info.default_factory is not None:
        default = info.get_default(call_default_factory=True, validated_data={})
    return {
        "name": name,
        "type": kind.label,
        "optional": kind.optional,
        "required": info.is_required(),
        "default": plain(default),
        "help": help_texts(cls)[name],
    }


def recommended(cls: type[Method], name: str) -> dict[str, Any]:
    """A setting of the run with the values that the method recommends, in full and with an adapter."""
    facts = setting(RunSettings, name)
    if name in cls.defaults:
        facts |= {"default": plain(cls.defaults[name]), "recommended": True}
    if name in cls.adapter_defaults:
        facts |= {"default_with_adapter": plain(cls.adapter_defaults[name]), "recommended": True}
    return facts


# ---------------------------------------------------------------------------------------------- page
def _page(facts: Mapping[str, Any]) -> list[str]:
    package = f"{facts['package']} {facts['version']}".rstrip()
    lines = [f"{click.style(facts['name'], fg='cyan', bold=True)}  {facts['kind']}, from {package}"]
    lines += [terminal.paragraph(facts["summary"], indent=2), ""]
    lines += _card(facts) + _volumes(facts)
    for name, preset in facts.get("presets", {}).items():
        title = [click.style("Presets", bold=True)] if name == next(iter(facts["presets"])) else []
        lines += [*title, *_entry(f"--preset {name}", preset["summary"], "; ".join(_assignments(preset["settings"])))]
    lines += [""] if facts.get("presets") else []
    if facts["settings"]:
        lines += [click.style(f"Settings of {facts['name']}", bold=True)]
        lines += [line for fact in facts["settings"] for line in _setting_lines(fact)]
    chosen = [fact for fact in facts.get("run_settings", []) if fact.get("recommended")]
    if chosen:
        lines += ["", click.style(f"Settings of the run that {facts['name']} recommends", bold=True)]
        lines += [line for fact in chosen for line in _setting_lines(fact)]
    if facts["kind"] == "method":
        lines += ["", f"All settings: tunesmith run {facts['selector']} --help-all"]
    return lines if lines[-1] else lines[:-1]


def _card(facts: Mapping[str, Any]) -> list[str]:
    def also(items: str, label: str) -> str:
        return f" ({label}: {', '.join(facts[items])})" if facts.get(items) else f" (no {items} that fit are installed)"

    rows = {"paper": facts.get("paper"), "use when": facts.get("use_when"), "data": facts.get("data")}
    rows["memory"] = facts.get("memory")
    if "consumes" in facts:
        rows["consumes"] = facts["consumes"] + also("formats", "formats")
        rows["supplies"] = facts["supplies"] + also("objectives", "objectives that fit")
        rows["models"] = ", ".join(facts["roles"])
    if facts["kind"] == Reward.kind:
        rows |= _reward_rows(facts)
    else:
        rows["columns"] = _columns(facts)
    rows["produces"], rows["reads"] = facts.get("produces"), facts.get("inputs")
    if "unit" in facts:
        rows["sum over"] = f"{facts['unit']}s" if facts["unit"] else "what its settings choose"
    rows["methods"] = ", ".join(facts["methods"]) or "none is installed" if "methods" in facts else None
    rows["needs"], rows["replaces"] = ", ".join(facts["needs"]), facts["replaces"]
    lines = [terminal.paragraph(text, indent=12, first=f"  {label:<10}") for label, text in rows.items() if text]
    return [*lines, ""] if lines else []


def _volumes(facts: Mapping[str, Any]) -> list[str]:
    """How much data each use typically takes."""
    volumes = [Volume(**volume) for volume in facts.get("volumes", [])]
    if not volumes:
        return []
    rows = [(v.use_case, str(v), ". ".join(filter(None, (v.note, v.source)))) for v in volumes]
    return [click.style("Typical data", bold=True), *terminal.table(rows, wrap=2, indent=2), ""]


def _reward_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    from tunesmith.data.report import printable

    columns, example, best = facts["columns"], facts["example"], facts["best"]
    told = "tells right answers from wrong ones" if facts["verifies"] else ""
    top = f"{best:g} is the best score" if best is not None else ""
    return {
        "columns": "decided by its settings" if columns is None else ", ".join(columns) or "none beside the prompt",
        "scores": ", ".join(filter(None, (told, top))),
        "runs": "in worker processes" if facts["isolated"] else "in the process that trains, because it holds a model",
        "example": "" if example is None else printable(json.dumps(example, ensure_ascii=False, default=str), 500),
    }


def _columns(facts: Mapping[str, Any]) -> str:
    optional = facts.get("optional_columns", [])
    return ", ".join(facts.get("columns", [])) + (f" (also, where there: {', '.join(optional)})" if optional else "")


def _setting_lines(fact: Mapping[str, Any]) -> list[str]:
    head = f"{fact['name']}  {fact['type']}{' or null' if fact['optional'] else ''}"
    notes = ["required"] if fact["required"] else []
    if not fact["required"] and fact["default"] not in (None, [], {}):
        notes.append(f"default {written(fact['default'])}")
    if "default_with_adapter" in fact:
        notes.append(f"with an adapter {written(fact['default_with_adapter'])}")
    return _entry(head + (f"  [{', '.join(notes)}]" if notes else ""), fact["help"])


def _entry(head: str, *texts: str) -> list[str]:
    name, _, rest = head.partition("  ")
    title = f"  {click.style(name, fg='cyan')}{f'  {rest}' if rest else ''}"
    return [title, *(terminal.paragraph(terminal.plain_help(text), indent=6) for text in texts if text)]


def _assignments(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key} {written(value)}" for key, value in settings.items()]


def written(value: Any) -> str:
    """A default as people write it: ``1e-5``, ``true``, ``cosine (warmup 0.03)``."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        mantissa, exponent = f"{value:.4e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}" if 0 < abs(value) < 1e-3 else f"{value:g}"
    if isinstance(value, Mapping) and "name" in value:
        rest = ", ".join(_assignments({key: item for key, item in value.items() if key != "name"}))
        return f"{value['name']} ({rest})" if rest else str(value["name"])
    if isinstance(value, Mapping):
        return "{" + ", ".join(_assignments(value)) + "}"
    return ",".join(map(written, value)) if isinstance(value, (list, tuple)) else str(value)
