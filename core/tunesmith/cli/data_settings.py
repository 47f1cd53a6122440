"""What the commands about data are told: a method, a tokenizer, settings of the run that decide about rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from tunesmith.cli.sources import said_of
from tunesmith.errors import ConfigError

if TYPE_CHECKING:
    from tunesmith.components import DataSpec, Method
    from tunesmith.data.detect import Taker
    from tunesmith.data.encoding import Encoder
    from tunesmith.plugins import Registry
    from tunesmith.settings import RunSettings

ROW_SETTINGS = ("max_length", "overlong")
"""Settings of a run that a method may recommend and that decide what becomes of a row."""
_F = TypeVar("_F", bound=Callable[..., Any])


def data_options(command: _F) -> _F:
    """What both commands take."""
    listed = (
        click.option("--method", metavar="NAME", help="Judge rows as this method would."),
        click.option("--tokenizer", metavar="PATH", help="Tokenizer folder or hub name, when not the model's."),
        click.option("--chat-template", metavar="T", help="A .jinja file, tulu or chatml."),
        click.option("--format", metavar="NAME", help="Row format; found by looking at the rows when not given."),
        click.option("--map", "columns", metavar="NAME=YOURS", multiple=True, help="Rename a column."),
        click.option("--max-length", type=click.IntRange(min=2), metavar="N", help="Tokens of a row at most."),
        click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Any other setting of the run."),
    )
    for option in reversed(listed):
        command = option(command)
    return command


def prepared(registry: Registry, words: Sequence[str], options: Mapping[str, Any]) -> tuple[RunSettings, Method | None]:
    """The settings of a run of which only the rows are looked at."""
    from pydantic import ValidationError

    from tunesmith.components import Method
    from tunesmith.config import build
    from tunesmith.explain import explain
    from tunesmith.settings import RunSettings

    name, context = options["method"], {"build": partial(build, registry)}
    cls = cast(type[Method], registry.get(Method.kind, name)) if name else None
    given = dict(_override(text) for text in options["overrides"])
    own = {key: value for key, value in given.items() if cls is not None and key in cls.model_fields}
    rest = {key: value for key, value in given.items() if key not in own}
    if cls is not None:
        rest = {**{key: cls.defaults[key] for key in ROW_SETTINGS if key in cls.defaults}, **rest}
    for key in ("tokenizer", "chat_template", "max_length"):
        if options[key] is not None:
            rest[key] = options[key]
    sources = [said_of(word, options["columns"], options["format"]) for word in words]
    try:
        settings = RunSettings.model_validate(
            {**rest, "model": options["model"] or "-", "data": sources}, context=context
        )
    except ValidationError as error:
        raise explain(error, RunSettings, "data") from None
    if cls is None:
        return settings, None
    try:
        return settings, cls.model_validate(own, context=context)
    except ValidationError as error:
        if any(item["loc"] and item["type"] != "missing" for item in error.errors()):
            raise explain(error, cls, f"method {name}") from None
    # what is not given, or a rule over several settings: rows do not depend on it
    return settings, cls.model_construct(**own)


def _override(text: str) -> tuple[str, Any]:
    from tunesmith.runfile import parse_value

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: write KEY=VALUE")
    return key.strip().replace("-", "_"), parse_value(value)


def taker_of(method: Method | None) -> Taker:
    """What rows are wanted for."""
    from tunesmith.data.detect import Taker

    return Taker() if method is None else Taker(method.consumes, method.name)


def encoder_of(settings: RunSettings, method: Method | None) -> Encoder:
    """The encoder of a run. Raises `ConfigError` where there is no tokenizer."""
    from tunesmith.data.encoding import Encoder, load_tokenizer

    return Encoder(load_tokenizer(settings), **(method.encoder_options() if method else {}))


def only_method(registry: Registry, word: str, options: Mapping[str, Any]) -> str:
    """The one method that takes what the rows are. Raises `ConfigError` when there are several."""
    from tunesmith.data.audit import first_rows
    from tunesmith.data.detect import SAMPLE, Taker, choose_format, methods_for

    settings, _ = prepared(registry, [word], {**options, "overrides": ()})
    spec: DataSpec = settings.data[0]
    verdict = choose_format(spec, first_rows(spec, 0, SAMPLE), registry, Taker())
    names = methods_for(registry, verdict.format.produces)
    if len(names) == 1:
        return names[0]
    what = f"the rows are in the format {verdict.format.name!r}"
    if not names:
        raise ConfigError(f"{what}, which no installed method takes", fix="see `tunesmith list method`")
    raise ConfigError(f"{what}, which {len(names)} methods take", fix=f"add --method, one of: {', '.join(names)}")
