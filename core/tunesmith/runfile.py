"""Reading run files: YAML whose numbers are those of YAML 1.2, with the line of every key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tunesmith.errors import ConfigError


class Loader(yaml.SafeLoader):
    """The safe loader, except that ``1e-5`` is a number and ``12:30`` or ``2024-01-01`` is text."""


_NOT_AS_IN_YAML_1_1 = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp")}
Loader.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag not in _NOT_AS_IN_YAML_1_1]
    for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*)\Z"), list("-+0123456789"))
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?((\.[0-9]+|[0-9][0-9_]*\.[0-9]*)([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(inf|Inf|INF))\Z|\.nan\Z"
    ),
    list("-+.0123456789"),
)


class Dumper(yaml.SafeDumper):
    """Quotes text that any YAML would take for something else, and keeps short lists on one line."""


Dumper.yaml_implicit_resolvers = {
    start: [*resolvers, *Loader.yaml_implicit_resolvers.get(start, [])]
    for start, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
}


def _short_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.SequenceNode:
    short = all(not isinstance(item, (list, dict)) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=short)


Dumper.add_representer(list, _short_list)


def dump(value: Any) -> str:
    """Plain values as YAML that `read_run_file`, and any other reader of YAML, reads back as they were."""
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


def parse_value(text: str) -> Any:
    """The value of a setting written on the command line or in the environment; text where it is not valid YAML."""
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError:
        return text


def read_run_file(path: Path) -> dict[str, Any]:
    """Read a YAML run file into a mapping. Raises `ConfigError` with the line of a syntax error or a doubled key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the run file {path}", why=str(error)) from None
    try:
        node = yaml.compose(text, Loader)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError("a run file is a mapping of settings", where=str(path), fix="start with `method: NAME`")
        _refuse_doubled_keys(path, node)
        return {str(key): value for key, value in yaml.load(text, Loader).items()}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(f"not valid YAML: {error.problem}", where=where) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where=str(path)) from None


def _refuse_doubled_keys(path: Path, node: yaml.Node) -> None:
    """The last of two equal keys would win in silence."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_doubled_keys(path, item)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            raise ConfigError(f"{key.value} is written twice", where=f"{path}, lines {seen[key.value]} and {line}")
        seen[key.value] = line
        _refuse_doubled_keys(path, value)


def key_line(path: Path, keys: Sequence[str | int]) -> int | None:
    """The 1-based line of a setting, given as the keys and list positions that lead to it.

    Where the last of them are not in the file (a default, or a short form), the line of the deepest that is.
    """
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader)
    line = None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(k.start_mark.line, value) for k, value in node.value if k.value == key]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            found = [(node.value[key].start_mark.line, node.value[key])]
        else:
            continue
        if found:
            line, node = found[0][0] + 1, found[0][1]
    return line
