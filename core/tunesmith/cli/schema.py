"""``tunesmith schema``: a JSON schema of run files, so that editors complete settings and mark wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import click

from tunesmith.cli import terminal
from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.components import COMPONENT_MARK, KINDS, Component, DataSpec, Method, Settings, Source
from tunesmith.fieldtypes import field_type, help_texts
from tunesmith.plugins import Registry
from tunesmith.settings import PluginSettings, RunSettings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
JsonSchema = dict[str, Any]


@click.command("schema")
@plugin_options
def schema() -> None:
    """Print a JSON schema of run files, over all methods that are installed.

    \b
    tunesmith schema > runs.schema.json
    # in the first line of a run file, for editors with a YAML language server:
    # yaml-language-server: $schema=runs.schema.json
    """
    terminal.print_json(run_file_schema(load_registry()))


def run_file_schema(registry: Registry) -> JsonSchema:
    """The schema of a run file: the run's settings, and each method's own where it is chosen."""
    return _Schema(registry).build()


class _Schema:
    """Collects the definitions that the parts refer to."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.definitions: JsonSchema = {}

    def build(self) -> JsonSchema:
        methods = self.choices(Method.kind)
        for kind in KINDS:
            if kind != Method.kind:
                self.definitions[kind] = self.component(kind)
        self.definitions["data"] = self.data()
        properties = self.properties(RunSettings)
        for cls in methods.values():  # where a method recommends another default, this one would mislead
            for key in {*cast(type[Method], cls).defaults, *cast(type[Method], cls).adapter_defaults} & set(properties):
                properties[key].pop("default", None)
        return {
            "$schema": DIALECT,
            "title": "tunesmith run file",
            "type": "object",
            "required": ["method"],
            "properties": {
                "method": {"enum": list(methods), "description": "What the run does."},
                "preset": {"type": ["string", "null"], "description": "Settings that belong together."},
                **properties,
            },
            "allOf": [self.method(name, cast(type[Method], cls)) for name, cls in methods.items()],
            "unevaluatedProperties": False,
            "$defs": self.definitions,
        }

    def choices(self, kind: str) -> dict[str, type[Component]]:
        """What a run file may write for a component of a kind."""
        return {self.registry.selector(plugin, cls): cls for plugin, cls in self.registry.entries(kind)}

    def method(self, name: str, cls: type[Method]) -> JsonSchema:
        """The settings of one method, and the values that it recommends for those of the run."""
        own = self.properties(cls)
        for key, value in cls.defaults.items():
            own.setdefault(key, {})["default"] = value
        presets = "; ".join(f"{preset}: {cls.presets[preset].summary}" for preset in cls.presets)
        own["preset"] = {"enum": [*cls.presets, None], "description": presets}
        return _when("method", name, {"properties": own})

    def component(self, kind: str) -> JsonSchema:
        """A component of a kind: its name, or a mapping of its name and settings."""
        choices = self.choices(kind)
        if not choices:
            return {"type": ["string", "object"]}
        # any text may be a path or the name of a data set
        word: JsonSchema = {"type": "string"} if kind == Source.kind else {"enum": list(choices)}
        full = {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"enum": list(choices)}},
            "allOf": [_when("name", name, {"properties": self.properties(cls)}) for name, cls in choices.items()],
            "unevaluatedProperties": False,
        }
        refined = {"type": "object", "not": {"required": ["name"]}}
        return {"anyOf": [word, full, refined]}

    def data(self) -> JsonSchema:
        """A source of rows: a word, or a mapping that names the source or a path; see `DataSpec`."""
        own = self.properties(DataSpec)
        without = {key: value for key, value in own.items() if key != "source"}
        for cls in self.choices(Source.kind).values():  # beside a path stand the settings of whatever source takes it
            without = {**{key: {} for key in cls.model_fields}, **without}
        named = {"type": "object", "required": ["source"], "properties": own, "additionalProperties": False}
        path = {"path": {"type": "string", "description": "A file, folder, glob, - or data set name."}, **without}
        short = {"type": "object", "required": ["path"], "properties": path, "additionalProperties": False}
        return {"anyOf": [{"type": "string"}, named, short]}

    def properties(self, cls: type[Settings]) -> JsonSchema:
        """The settings of a class with their help, and references to what they are made of."""
        owner = f"{cls.__module__}.{cls.__qualname__}"
        found = cls.model_json_schema(ref_template=f"#/$defs/{owner}.{{model}}")
        for name, definition in found.get("$defs", {}).items():
            if name not in (DataSpec.__name__, PluginSettings.__name__):
                self.definitions.setdefault(f"{owner}.{name}", self.linked(definition))
        helps = help_texts(cls)
        properties: JsonSchema = {}
        for name, info in cls.model_fields.items():
            written = self.linked(found["properties"][name])
            if field_type(info.annotation).many and field_type(info.annotation).is_model:
                written = self.one_or_more(written)
            properties[name] = {**written, "description": terminal.plain_help(helps[name])}
        return properties

    def one_or_more(self, written: JsonSchema) -> JsonSchema:
        """Lists of components and of data may be written as one item, or as names with commas."""
        rest = {key: value for key, value in written.items() if key == "default"}
        several = {key: value for key, value in written.items() if key != "default"}
        return {"anyOf": [several, several["items"], {"type": "string", "pattern": ","}], **rest}

    def linked(self, part: Any) -> Any:
        """A part of a schema with our references for components, data and plugin settings."""
        if isinstance(part, list):
            return [self.linked(item) for item in part]
        if not isinstance(part, dict):
            return part
        if COMPONENT_MARK in part:
            return {"$ref": f"#/$defs/{part[COMPONENT_MARK]}"} | _annotations(part)
        if str(part.get("$ref", "")).endswith(f".{DataSpec.__name__}"):
            return {"$ref": "#/$defs/data"} | _annotations(part)
        if str(part.get("$ref", "")).endswith(f".{PluginSettings.__name__}"):
            own = {"type": "object", "properties": self.properties(PluginSettings), "additionalProperties": False}
            return own | _annotations(part)
        return {key: self.linked(value) for key, value in part.items() if key not in ("title", "section")}


def _annotations(part: Mapping[str, Any]) -> JsonSchema:
    return {key: part[key] for key in ("default", "description") if key in part}


def _when(key: str, value: str, then: JsonSchema) -> JsonSchema:
    return {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": then}
