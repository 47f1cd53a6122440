"""Flags generated from the fields of settings, and the help page that groups them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli import terminal
from tunesmith.cli.aliases import ALIASES, SAME_AS, alias_options
from tunesmith.cli.common import plugin_flags
from tunesmith.cli.sandbox import unsandboxed_flag
from tunesmith.cli.show import recommended, setting, written
from tunesmith.components import Method
from tunesmith.errors import ConfigError, did_you_mean
from tunesmith.fieldtypes import FieldType, field_type, from_text
from tunesmith.settings import PluginSettings, RunSettings

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # takes a type argument only from click 8.5 on


class SettingType(_ParamType):
    """Turns the text of a flag into the value of a setting; ranges are checked later, for all origins alike."""

    def __init__(self, kind: FieldType) -> None:
        self.kind, self.name = kind, kind.label

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """``INTEGER``, ``[adamw|...]``, ``OBJECTIVE``."""
        if self.kind.choices:
            return f"[{'|'.join(self.kind.choices)}]"
        return self.kind.label.removeprefix("list of ").replace(" ", "-").upper()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises `ConfigError` for a word that is none of the choices."""
        found = from_text(self.kind, value) if isinstance(value, str) else value
        if self.kind.choices and isinstance(found, str) and found not in self.kind.choices:
            raise ConfigError(
                f"{value!r} is not one of {', '.join(self.kind.choices)}{did_you_mean(value, self.kind.choices)}",
                where=param.opts[0] if param else None,
            )
        return found

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """The choices, or files."""
        from click.shell_completion import CompletionItem

        if not self.kind.choices:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(choice) for choice in self.kind.choices if choice.startswith(incomplete)]


class SettingOption(click.Option):
    """A flag of a setting. Its group is where `--help` lists it: own, common or other."""

    def __init__(self, facts: Mapping[str, Any], kind: FieldType, group: str, aliases: Sequence[str]) -> None:
        name = facts["name"]
        self.group, self.is_bool = group, kind.base is bool and not kind.many
        alone: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if self.is_bool else {}
        super().__init__(
            [flag(name), *(f"--{alias.replace('_', '-')}" for alias in aliases), name],
            type=SettingType(kind),
            multiple=kind.many,
            help=_help(facts),
            **alone,
        )

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """One name only: aliases are listed at the end of ``--help-all``."""
        names = f"{self.opts[0]} / --no-{self.opts[0][2:]}" if self.is_bool else self.opts[0]
        metavar = "" if self.is_bool else f" {self.make_metavar(ctx)}"
        return names + metavar, self.help or ""


class NegativeOption(click.Option):
    """``--no-flag`` of a setting that is true or false."""

    def __init__(self, name: str) -> None:
        super().__init__([f"--no-{name.replace('_', '-')}", f"no_{name}"], is_flag=True, hidden=True)
        self.setting = name


def flag(name: str) -> str:
    """``batch_size`` as ``--batch-size``."""
    return f"--{name.replace('_', '-')}"


def _help(facts: Mapping[str, Any]) -> str:
    notes = ["required"] if facts["required"] else []
    if facts["default"] not in (None, [], {}):
        notes.append(f"default: {written(facts['default'])}")
    if "default_with_adapter" in facts:
        notes.append(f"with an adapter: {written(facts['default_with_adapter'])}")
    return terminal.plain_help(facts["help"]) + (f"  [{'; '.join(notes)}]" if notes else "")


# ---------------------------------------------------------------------------------------------- all flags
def setting_options(cls: type[Method]) -> list[click.Option]:
    """A flag for every setting of a method and of its run, but for the plugins: those have flags of their own."""
    options: list[click.Option] = []
    for name in own_settings(cls):
        kind = field_type(cls.model_fields[name].annotation)
        options += _options(setting(cls, name), kind, "own", taken=cls.model_fields)
    for name, info in RunSettings.model_fields.items():
        extra = info.json_schema_extra
        section = extra.get("section") if isinstance(extra, dict) else None
        kind = field_type(info.annotation)
        if kind.base is not PluginSettings:
            group = "common" if section == "common" else "other"
            options += _options(recommended(cls, name), kind, group, taken=cls.model_fields)
    return options


def own_settings(cls: type[Method]) -> list[str]:
    """The settings of a method: required ones first, then its own before those of the classes that it builds on."""
    declared = [vars(base).get("__annotations__", {}) for base in cls.__mro__]
    place = {name: next(i for i, own in enumerate(declared) if name in own) for name in cls.model_fields}
    return sorted(cls.model_fields, key=lambda name: (not cls.model_fields[name].is_required(), place[name]))


def _options(facts: Mapping[str, Any], kind: FieldType, group: str, taken: Iterable[str]) -> list[click.Option]:
    aliases = [alias for alias, name in SAME_AS.items() if name == facts["name"] and alias not in taken]
    option = SettingOption(facts, kind, group, aliases)
    return [option, NegativeOption(facts["name"])] if option.is_bool else [option]


def given(ctx: click.Context) -> dict[str, Any]:
    """The settings that the command line gives, by name.

    Raises:
        ConfigError: a flag and its opposite.
    """
    flags: dict[str, Any] = {}
    for option in ctx.command.params:
        name = option.name or ""
        value = ctx.params.get(name)
        if isinstance(option, SettingOption) and _is_given(ctx, name):
            flags[name] = _joined(value or ()) if option.multiple else value
        elif isinstance(option, NegativeOption) and value:
            if option.setting in flags:
                raise ConfigError(f"{flag(option.setting)} and {option.opts[0]} are given together")
            flags[option.setting] = False
    return flags


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _joined(values: Iterable[Any]) -> Any:
    """``--x 1,2 --x 3`` as one list."""
    return [item for value in values for item in (value if isinstance(value, (list, tuple)) else (value,))]


# ---------------------------------------------------------------------------------------------- the command
class RunCommand(click.Command):
    """``run METHOD`` or ``run FILE``: flags in groups, and the rarely used ones only on ``--help-all``."""

    def __init__(
        self, name: str, method: type[Method], *, usage: str, summary: str, callback: Callable[..., Any]
    ) -> None:
        self.method, self.usage = method, usage
        super().__init__(
            name,
            help=summary,
            callback=callback,
            params=[*setting_options(method), *_control_options(method), *alias_options(method.model_fields)],
        )

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Only what is needed."""
        formatter.write_usage(ctx.command_path, self.usage)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Own settings, common settings, options; the rest only when it is asked for."""
        everything = ctx.meta.get(_EVERYTHING, False)
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option) and not option.hidden]
        groups: dict[str, list[click.Option]] = {"own": [], "common": [], "other": [], "options": []}
        for option in options:
            groups[option.group if isinstance(option, SettingOption) else "options"].append(option)
        titles = {"own": f"Settings of {self.method.name}", "common": "Common settings of a run"}
        titles |= {"other": "Other settings of a run", "options": "Options"}
        for group, title in titles.items():
            records = [record for option in groups[group] if (record := option.get_help_record(ctx))]
            if records and (group != "other" or everything):
                with formatter.section(title):
                    formatter.write_dl(records, col_max=26)
        if everything:
            with formatter.section("Names of other trainers, accepted as well"):
                formatter.write_dl([(f"--{alias}", meaning) for alias, meaning in _alias_rows(self.method)], col_max=34)
        else:
            formatter.write_paragraph()
            formatter.write_text(f"{len(groups['other'])} more settings: {ctx.command_path} --help-all")


_EVERYTHING = "tunesmith.help_all"


def _help_all(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        ctx.meta[_EVERYTHING] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _control_options(method: type[Method]) -> list[click.Option]:
    presets = FieldType(str, "name", choices=tuple(method.presets))
    listed = f" One of {', '.join(method.presets)}." if method.presets else " This method has none."
    return [
        click.Option(
            ["--preset"],
            type=SettingType(presets),
            metavar="NAME",
            help=f"Settings that belong together.{listed}",
        ),
        click.Option(
            ["--set", "overrides"],
            metavar="KEY=VALUE",
            multiple=True,
            help="Any setting; objective.beta=0.2 for one of a component.",
        ),
        click.Option(["--dry-run"], is_flag=True, help="Print the complete run file with origins; run nothing."),
        click.Option(["--resume", "resume_run"], is_flag=True, help="Continue the run that is in the output folder."),
        click.Option(["--overwrite"], is_flag=True, help="Delete the run that is in the output folder."),
        *plugin_flags(),
        unsandboxed_flag(),
        click.Option(
            ["--help-all"], is_flag=True, is_eager=True, expose_value=False, callback=_help_all, help="All settings."
        ),
    ]


def _alias_rows(method: type[Method]) -> list[tuple[str, str]]:
    same = [(alias, flag(name)) for alias, name in SAME_AS.items() if alias not in method.model_fields]
    return same + [(name, meaning) for name, (_, meaning) in ALIASES.items() if name not in method.model_fields]
