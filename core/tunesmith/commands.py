"""What a command of a plugin may use: what is installed, data as the command line names it, and output as ours looks.

A command gets the options about plugins from `plugin_options` and what is installed from `load_registry`:

    @click.command()
    @commands.plugin_options
    def rank() -> None:
        registry = commands.load_registry()
        commands.echo(commands.table([(cls.name,) for _, cls in registry.current("method")], wrap=0))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.common import load_registry, plugin_options
from tunesmith.cli.sources import data_spec
from tunesmith.cli.terminal import paragraph, print_json, table
from tunesmith.plugins import Registry

if TYPE_CHECKING:
    from tunesmith.config import Run
    from tunesmith.data.encoding import Encoder

__all__ = [
    "Registry",
    "data_spec",
    "dumped",
    "echo",
    "encoder",
    "load_registry",
    "paragraph",
    "parse_value",
    "plugin_options",
    "print_json",
    "resolve",
    "reward_named",
    "table",
    "write_run_file",
]


def echo(lines: Sequence[str]) -> None:
    """Print lines as a result."""
    click.echo("\n".join(lines))


def encoder(model: str, tokenizer: str | None = None, chat_template: str | None = None) -> Encoder:
    """What cuts examples into tokens, as a run with this model would.

    Raises:
        ConfigError: there is no tokenizer, or no such chat template.
        ResourceError: the hub does not answer.
    """
    from tunesmith.data.encoding import Encoder, load_tokenizer
    from tunesmith.settings import RunSettings

    said = RunSettings.model_construct(model=model, data=(), tokenizer=tokenizer, chat_template=chat_template)
    return Encoder(load_tokenizer(said))


def reward_named(registry: Registry, word: str) -> Any:
    """The reward that a word of the command line means. Raises `ConfigError` where there is none."""
    from tunesmith.cli.score import reward_of

    return reward_of(registry, word)


def resolve(registry: Registry, settings: Mapping[str, Any]) -> Run:
    """The complete run that a run file of these settings means; ``settings`` holds ``method`` as well.

    Raises:
        ConfigError: what `tunesmith run FILE --dry-run` would say.
    """
    from tunesmith import config

    return config.resolve(registry, str(settings["method"]), config.Layers(file=settings))


def dumped(settings: Mapping[str, Any]) -> str:
    """Settings as the text of a run file."""
    from tunesmith.runfile import dump

    return dump(dict(settings))


def parse_value(text: str) -> Any:
    """What a value written on the command line means, such as ``{name: SOURCE, setting: 3}``."""
    from tunesmith import runfile

    return runfile.parse_value(text)


def write_run_file(path: Path, settings: Mapping[str, Any], heading: str = "") -> None:
    """Write settings as a run file. ``heading``: comment lines before them, without the ``#``."""
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    path.write_text(comment + dumped(settings), encoding="utf-8")
