"""What the parameters of a function say of the reward that it is, and what is wrong with them."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from typing import Any

from pydantic import Field, PydanticUserError, TypeAdapter, ValidationError

from tunesmith.components import Reward
from tunesmith.errors import ConfigError
from tunesmith.function_rewards import MANY, AsyncFunctionReward, BatchFunctionReward, FunctionReward


def from_function(
    function: Callable[..., Any],
    name: str | None = None,
    *,
    batched: bool | None = None,
    columns: Mapping[str, str] | None = None,
    verifies: bool = False,
    best: float | None = None,
    needs: Sequence[str] = (),
    samples: Sequence[Mapping[str, Any]] | Callable[[], Iterable[Mapping[str, Any]]] = (),
    isolated: bool = True,
) -> type[FunctionReward]:
    """The class of a function; see `reward`."""
    called = str(getattr(function, "__name__", None) or type(function).__name__)
    parameters = _parameters(function)
    takes_all = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    if batched is None:
        batched = takes_all or not parameters.keys().isdisjoint(("prompts", "completions"))
    settings = [p for p in parameters.values() if _is_setting(p, batched)]
    hints = _hints(function)
    space = {
        "__module__": getattr(function, "__module__", None) or type(function).__module__,
        "__qualname__": getattr(function, "__qualname__", called),
        "__doc__": inspect.getdoc(function) or f"The function {called}.",
        "__annotations__": {p.name: _annotation(function, p, hints) for p in settings},
        **{p.name: _setting(function, p, hints) for p in settings},
        "name": name or called.strip("_").replace("_", "-").lower(),
        "function": staticmethod(function),
        "takes": {n: p for n, p in parameters.items() if p not in settings and p.kind is not Parameter.VAR_KEYWORD},
        "settings": tuple(p.name for p in settings),
        "hints": hints,
        "renamed": dict(columns or {}),
        "takes_all": takes_all,
        "rows_to_check": staticmethod(samples) if callable(samples) else samples,
        "verifies": verifies,
        "best": best,
        "needs": tuple(needs),
        "isolated": isolated,
    }
    _check_fields(function, space["takes"], space["renamed"], batched)
    waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    base = BatchFunctionReward if batched else AsyncFunctionReward if waits else FunctionReward
    return types.new_class(called, (base,), exec_body=lambda body: body.update(space))


def _parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    if not callable(function) or isinstance(function, type):
        raise ConfigError(f"{function!r:.80} is not a function, so it cannot be a reward", where=_where(function))
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "cannot read the parameters of the function", where=_where(function), why=str(error)
        ) from None


def _is_setting(parameter: Parameter, batched: bool) -> bool:
    return parameter.kind is Parameter.KEYWORD_ONLY and not (
        batched and (parameter.default is Parameter.empty or parameter.name in MANY)
    )


def _check_fields(
    function: Callable[..., Any], takes: Mapping[str, Parameter], renamed: Mapping[str, str], batched: bool
) -> None:
    if any(p.kind is Parameter.VAR_POSITIONAL for p in takes.values()):
        raise _wrong(function, "takes *args", "name the fields that it reads, such as `completion`")
    if not takes and not batched:
        raise _wrong(function, "names no field", "give it a parameter such as `completion`; after `*` come settings")
    unknown = sorted(set(renamed) - set(takes))
    if unknown:
        raise _wrong(function, f"has no parameter {unknown[0]!r}, which `columns` renames", "correct `columns`")
    lists = [name for name in ("prompts", "completions") if name in takes]
    if lists and not batched:
        raise _wrong(function, f"takes {lists[0]!r}, which is a list", f"write {lists[0][:-1]!r}, or batched=True")
    single = [name for name in ("prompt", "completion") if name in takes]
    if single and batched:
        raise _wrong(function, f"takes {single[0]!r} and lists", f"write '{single[0]}s'")


def _setting(function: Callable[..., Any], parameter: Parameter, hints: Mapping[str, Any]) -> Any:
    """The field of a keyword-only parameter. Raises `ConfigError` where it cannot be one."""
    name = parameter.name
    if name in Reward.model_fields or name in dir(FunctionReward) or name == "name":
        raise _wrong(function, f"has a setting {name!r}, which every reward has", "call it otherwise")
    annotation = _annotation(function, parameter, hints)
    default = ... if parameter.default is Parameter.empty else parameter.default
    try:
        kind: TypeAdapter[Any] = TypeAdapter(annotation)
        if default is not ...:
            kind.validate_python(default)
    except PydanticUserError as error:
        text = str(error).splitlines()[0]
        raise _wrong(function, f"annotates {name!r} with what no setting can be", text) from None
    except ValidationError as error:
        text = error.errors()[0]["msg"]
        raise _wrong(function, f"gives {name!r} a default that does not fit its annotation", text) from None
    return Field(default, description=_described(function, name))


def _annotation(function: Callable[..., Any], parameter: Parameter, hints: Mapping[str, Any]) -> Any:
    if parameter.annotation is Parameter.empty:
        raise _wrong(
            function, f"has a setting {parameter.name!r} without a type", f"write `{parameter.name}: int = ...`"
        )
    return hints[parameter.name]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else getattr(function, "func", type(function).__call__)
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise _wrong(function, "has an annotation that cannot be read", str(error)) from None


def _described(function: Callable[..., Any], name: str) -> str | None:
    """What the docstring says about a parameter under ``Args:``."""
    section = (inspect.getdoc(function) or "").partition("Args:\n")[2]
    found = re.search(rf"^[ ]{{2,}}{name}\b[^:\n]*: *(.*(?:\n[ ]{{5,}}\S.*)*)", section, flags=re.MULTILINE)
    return " ".join(found[1].split()) if found else None


def _wrong(function: Callable[..., Any], what: str, fix: str) -> ConfigError:
    called = getattr(function, "__name__", type(function).__name__)
    return ConfigError(f"the function {called!r} cannot be a reward: it {what}", where=_where(function), fix=fix)


def _where(function: Any) -> str | None:
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else None
