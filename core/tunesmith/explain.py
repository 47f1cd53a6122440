"""Turn pydantic's validation errors into one sentence about the first wrong setting, and where it was written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from tunesmith.errors import ConfigError, TunesmithError, did_you_mean, nearest
from tunesmith.fieldtypes import field_type

Location = Sequence[str | int]
Locate = Callable[[Location], str | None]
MANY = 16
"""More names than this are not listed in a message."""


class UnknownSetting(ConfigError):
    """A setting that does not exist.

    Attributes:
        setting: the key as it was written.
        known: the settings that do exist there.
    """

    def __init__(self, setting: str, known: Iterable[str], *, where: str | None, fix: str | None = None) -> None:
        self.setting, self.known = setting, sorted(set(known))
        short = nearest(setting, self.known) is None and len(self.known) <= MANY
        super().__init__(
            f"unknown setting {setting!r}{did_you_mean(setting, self.known)}",
            where=where,
            why=f"known: {', '.join(self.known) or 'none, it has no settings'}" if short else None,
            fix=fix,
        )


class Nested(ValueError):
    """Carries the error of a component through the validation of the settings that it stands in."""

    def __init__(self, error: TunesmithError) -> None:
        super().__init__(str(error))
        self.error = error


def explain(
    error: ValidationError,
    cls: type[BaseModel],
    where: str,
    *,
    known: Iterable[str] | None = None,
    locate: Locate | None = None,
) -> TunesmithError:
    """Say what is wrong with the first setting, where it was written, and how many more are wrong.

    Args:
        error: what pydantic found.
        cls: the class whose settings were validated.
        where: what the settings belong to, such as ``objective dpo``.
        known: the names of all settings at the top, where there are others beside those of ``cls``.
        locate: tells in which file and line, or by which flag, a setting was given.
    """
    problems = error.errors()
    missing = [problem for problem in problems if problem["type"] == "missing"]
    first = _most_telling(problems)
    location = _location(first["loc"])
    nested = first.get("ctx", {}).get("error")
    if isinstance(nested, Nested):
        return _unwrap(nested.error, cls, location, locate or (lambda _: where))
    written = (locate(location) if locate and location else None) or where
    if first["type"] == "extra_forbidden":
        names = _fields_at(cls, location[:-1]) if len(location) > 1 or known is None else known
        return UnknownSetting(str(location[-1]), names, where=written)
    if missing:
        names = [".".join(map(str, _location(problem["loc"]))) for problem in missing]
        flags = " ".join(f"--{name.replace('_', '-')} ..." for name in names)
        fix = f"give {flags}, or set {'it' if len(names) == 1 else 'them'} in the run file" if locate else None
        return ConfigError(f"{_and(names)} {'is' if len(names) == 1 else 'are'} missing", where=where, fix=fix)
    groups = {problem["loc"][:1] for problem in problems}
    also = f" (and {len(groups) - 1} more wrong)" if len(groups) > 1 else ""
    return ConfigError(_sentence(first, location) + also, where=written, why=_given(first, location))


def _most_telling(problems: Sequence[Any]) -> Any:
    """The first problem; of a union's several, the component's own when a name or a mapping was given."""
    top = problems[0]["loc"][:1]
    for problem in problems:
        named = isinstance(problem.get("ctx", {}).get("error"), Nested) and isinstance(problem["input"], (str, Mapping))
        if named and problem["loc"][:1] == top:
            return problem
    return problems[0]


def _location(loc: Location) -> Location:
    """The path of a setting without the marks that pydantic adds for validators and members of unions."""
    marks = re.compile(r"function-\w+\[|(float|int|str|bool|none)\Z")
    return [part for index, part in enumerate(loc) if not (index and isinstance(part, str) and marks.match(part))]


def _fields_at(cls: type[BaseModel], location: Location) -> list[str]:
    """The settings of the group that a path leads to."""
    for part in location:
        info = cls.model_fields.get(str(part))
        base = field_type(info.annotation).base if info else None
        if base is not None and issubclass(base, BaseModel):
            cls = base
    return list(cls.model_fields)


def _unwrap(error: TunesmithError, cls: type[BaseModel], location: Location, locate: Locate) -> TunesmithError:
    """The component's error, and where the component was written."""
    written = locate(location)
    if isinstance(error, UnknownSetting):
        written = locate([*location, error.setting])
        # {path: ..., wieght: 2}: what is no setting of the source may be a misspelt one of the group around it
        around = _fields_at(cls, location[:-1]) if len(location) > 1 else []
        error = UnknownSetting(error.setting, [*error.known, *around], where=error.where, fix=error.fix)
    error.where = ", ".join(dict.fromkeys(part for part in (error.where, written) if part))
    return error


def _sentence(problem: Mapping[str, Any], location: Location) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not location:
        return message
    name = ".".join(map(str, location))
    guess = ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        guess = did_you_mean(problem["input"], re.findall(r"'([^']*)'", str(problem["ctx"]["expected"])))
    if message.startswith("Input should "):
        return f"{name} {message.removeprefix('Input ')}{guess}"
    return f"{name}: {message}"


def _given(problem: Mapping[str, Any], location: Location) -> str | None:
    if not location:
        return None
    text = repr(problem["input"])
    return f"given: {text if len(text) <= 80 else text[:77] + '...'}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
