"""What a pipeline file says: stages in their order, what they share, and the gates behind each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import ConfigError, did_you_mean
from tunesmith.pipeline.gates import Gate, read_gate
from tunesmith.runfile import dump, key_line, parse_value, read_run_file

KEYS = ("output", "defaults", "launcher", "plugins", "stages")
OWN_KEYS = ("method", "command", "arguments", "writes", "gates")
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
REFERENCE = re.compile(r"stages\.(?P<stage>[A-Za-z0-9_-]+)(?P<rest>(/.*)?)", re.DOTALL)
"""``stages.NAME`` is the model of a stage, and ``stages.NAME/FILE`` a file in its folder."""
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(slots=True)
class Stage:
    """One step of a pipeline: a run of a method, or a command that writes a model or a file.

    Attributes:
        name: what other stages call it.
        method: of a run, else empty; ``settings`` are those of its run file.
        command: words of a command of tunesmith, else empty; ``arguments`` follow them: words, and mappings, which
            are written as they would be typed.
        writes: name of the file that the command writes into the stage's folder; empty where it writes a model there.
        gates: what must hold before the next stage begins.
    """

    name: str
    method: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    command: Sequence[str] = ()
    arguments: Sequence[Any] = ()
    writes: str = ""
    gates: Sequence[Gate] = ()

    @property
    def what(self) -> str:
        """The method, or the words of the command."""
        return self.method or " ".join(self.command)

    def references(self) -> list[str]:
        """The stages whose results this one reads, each once."""
        found = [said for value in texts([self.settings, list(self.arguments)]) if (said := referenced(value))]
        return list(dict.fromkeys(found))


@dataclass(slots=True)
class Pipeline:
    """A whole pipeline.

    Attributes:
        path: its file, for messages.
        output: folder that holds a folder for every stage.
        defaults: settings that all runs share where their method has them.
        launcher: words before ``-m tunesmith run`` where runs are started by a launcher such as torchrun.
        plugins: what the file says of them, for every run.
        stages: in their order.
    """

    path: Path
    output: Path
    stages: Sequence[Stage]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    launcher: Sequence[str] = ()
    plugins: Mapping[str, Any] = field(default_factory=dict)


def read_pipeline(path: Path, overrides: Sequence[str] = (), output: Path | None = None) -> Pipeline:
    """Read and check a pipeline file.

    Args:
        path: the file.
        overrides: ``STAGE.SETTING=VALUE`` (``--set``).
        output: folder in place of that in the file.

    Raises:
        ConfigError: an unknown key, a stage that is neither a run nor a command, a reference to a stage that does not
            come before.
    """
    content = read_run_file(path)
    for key in content:
        if key not in KEYS:
            raise _at(
                path, [key], f"a pipeline has no key {key!r}{did_you_mean(key, KEYS)}", f"keys: {', '.join(KEYS)}"
            )
    stages = content["stages"]
    if not isinstance(stages, Mapping) or not stages:
        raise _at(path, ["stages"], "stages: write NAME: {method: ..., model: ..., data: ...} for every stage")
    _override(stages, overrides)
    where = output or content.get("output")
    if where is None:
        raise ConfigError("a pipeline needs a folder", where=str(path), fix="output: runs/NAME, or --output DIR")
    defaults = content.get("defaults") or {}
    if not isinstance(defaults, Mapping):
        raise _at(path, ["defaults"], "defaults: write settings that all stages share")
    launcher = _words(path, ["launcher"], content.get("launcher") or ())
    found = [_stage(path, str(name), said) for name, said in stages.items()]
    _check_order(path, found)
    return Pipeline(path, Path(where), found, dict(defaults), launcher, dict(content.get("plugins") or {}))


def written(path: Path, pipeline: Pipeline, overrides: Sequence[str]) -> str:
    """The file as YAML, with what the command line changes of it."""
    content = read_run_file(path)
    _override(content["stages"], overrides)
    return dump({**content, "output": str(pipeline.output)})


def _stage(path: Path, name: str, said: Any) -> Stage:
    keys = ["stages", name]
    if not NAME.fullmatch(name):
        raise _at(path, keys, f"the stage {name!r} must be called like 'cold-start': lower case, digits and hyphens")
    if not isinstance(said, Mapping):
        raise _at(path, keys, f"the stage {name} is written as settings, not as {said!r}")
    content = {str(key): value for key, value in said.items()}
    if ("method" in content) == ("command" in content):
        raise _at(path, keys, f"the stage {name} needs a method or a command, and not both")
    gates = content.pop("gates", None) or []
    if not isinstance(gates, Sequence) or isinstance(gates, str):
        raise _at(path, [*keys, "gates"], "gates: write a list")
    read = [read_gate(gate, _place(path, [*keys, "gates", i])) for i, gate in enumerate(gates)]
    made = _command_stage if "command" in content else _run_stage
    return made(path, name, content, read)


def _command_stage(path: Path, name: str, content: dict[str, Any], gates: Sequence[Gate]) -> Stage:
    keys = ["stages", name]
    unknown = sorted(set(content) - set(OWN_KEYS))
    if unknown:
        raise _at(path, [*keys, unknown[0]], f"a command has no {unknown[0]!r}", "what it takes goes to arguments")
    command = _words(path, [*keys, "command"], content["command"])
    arguments = _arguments(path, [*keys, "arguments"], content.get("arguments") or ())
    writes = content.get("writes") or ""
    if writes and not (isinstance(writes, str) and FILE.fullmatch(writes)):
        raise _at(path, [*keys, "writes"], f"writes: {writes!r} is not the name of a file, such as answers.jsonl")
    return Stage(name, command=command, arguments=arguments, writes=writes, gates=gates)


def _run_stage(path: Path, name: str, content: dict[str, Any], gates: Sequence[Gate]) -> Stage:
    keys = ["stages", name]
    method = content.pop("method")
    if not isinstance(method, str):
        raise _at(path, [*keys, "method"], f"method: {method!r} is not a name")
    for key in ("arguments", "writes"):
        if key in content:
            raise _at(path, [*keys, key], f"{key} belongs to a command; a method has settings")
    if "output" in content:
        raise _at(path, [*keys, "output"], "a stage has no output of its own", "its folder is that of the pipeline")
    return Stage(name, method, content, gates=gates)


def _check_order(path: Path, stages: Sequence[Stage]) -> None:
    """What a stage reads must have been made before."""
    names = [stage.name for stage in stages]
    for i, stage in enumerate(stages):
        gates = [name for gate in stage.gates for name in _names(gate.said)]
        for name in [*stage.references(), *gates]:
            allowed = names[: i + 1] if name in gates else names[:i]
            if name not in allowed:
                later = name in names
                raise _at(
                    path,
                    ["stages", stage.name],
                    f"the stage {stage.name} reads stages.{name}, which "
                    + ("does not come before it" if later else f"is no stage{did_you_mean(name, names)}"),
                    f"stages before it: {', '.join(names[:i]) or 'none'}",
                )
    _check_models(path, stages)


def _check_models(path: Path, stages: Sequence[Stage]) -> None:
    """What a stage takes for a model is one."""
    files = {f"stages.{stage.name}": stage.writes for stage in stages if stage.writes}
    for stage in stages:
        for text in texts([stage.settings, list(stage.arguments), [gate.said for gate in stage.gates]]):
            if text in files:
                what = f"the stage {stage.name} reads {text}, which is no model"
                raise _at(path, ["stages", stage.name], what, f"its result is the file {text}/{files[text]}")


# ---------------------------------------------------------------------------------------------- references
def referenced(text: str) -> str | None:
    """The stage that a text refers to."""
    found = REFERENCE.fullmatch(text)
    return found["stage"] if found else None


def filled(value: Any, models: Mapping[str, Path], folders: Mapping[str, Path]) -> Any:
    """The same settings with every reference replaced by the path of what it refers to."""
    if isinstance(value, Mapping):
        return {key: filled(item, models, folders) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(item, models, folders) for item in value]
    found = REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    rest = found["rest"].lstrip("/")
    return str(folders[found["stage"]] / rest) if rest else str(models[found["stage"]])


def _names(value: Any) -> Iterator[str]:
    return (name for text in texts(value) if (name := referenced(text)))


def texts(value: Any) -> Iterator[str]:
    """Every text in settings, at any depth, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)


# ---------------------------------------------------------------------------------------------- parts
def _override(stages: Any, overrides: Sequence[str]) -> None:
    for text in overrides:
        path, equals, raw = text.partition("=")
        stage, dot, key = path.strip().partition(".")
        if not equals or not dot or not key:
            raise ConfigError(f"--set {text!r}: write STAGE.SETTING=VALUE")
        if not isinstance(stages.get(stage), dict):
            raise ConfigError(f"--set {text!r}: there is no stage {stage!r}{did_you_mean(stage, stages)}")
        *outer, last = key.replace("-", "_").split(".")
        place = stages[stage]
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {text!r}: {part} is no mapping in {stage}")
        place[last] = parse_value(raw)


def _words(path: Path, keys: Sequence[str | int], said: Any) -> tuple[str, ...]:
    words = said.split() if isinstance(said, str) else said
    if not isinstance(words, Sequence) or any(isinstance(word, (list, dict)) for word in words):
        raise _at(path, keys, f"{keys[-1]}: write words, or a list of them")
    return tuple(str(word) for word in words)


def _arguments(path: Path, keys: Sequence[str | int], said: Any) -> tuple[Any, ...]:
    """Words; a mapping, such as a source with its settings, stays one until its references are filled in."""
    if not isinstance(said, (list, tuple)):
        return _words(path, keys, said)
    found: list[Any] = []
    for i, word in enumerate(said):
        if isinstance(word, list) or word is None:
            raise _at(path, [*keys, i], f"arguments: {word!r} is neither a word nor a mapping")
        found.append(word if isinstance(word, Mapping) else str(word))
    return tuple(found)


def typed(arguments: Sequence[Any]) -> list[str]:
    """Arguments as one would type them: mappings in braces."""
    return [word if isinstance(word, str) else json.dumps(word, ensure_ascii=False, default=str) for word in arguments]


def _place(path: Path, keys: Sequence[str | int]) -> str:
    line = key_line(path, keys) if path.is_file() else None
    return f"{path}, line {line}" if line else str(path)


def _at(path: Path, keys: Sequence[str | int], what: str, why: str | None = None) -> ConfigError:
    return ConfigError(what, where=_place(path, keys), why=why)
