"""The tests of a row, in the shapes that the field's data sets have them."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Printed:
    """A program is given text and must print text."""

    given: str
    output: str


@dataclass(frozen=True, slots=True)
class Called:
    """A function is called and must return a value; any of several in some data sets."""

    function: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    expected: Sequence[Any] = ()


Case = Printed | Called


def read_cases(value: Any, function: str | None = None) -> list[Case]:
    """The tests that a column holds.

    Args:
        value: a list of tests, or an object of lists (``inputs``, ``outputs`` and perhaps ``fn_name``), or either as
            JSON text. A test is an object, or a line ``assert f(1) == 2``.
        function: the function to call where a test does not name it.

    Raises:
        ValueError: none of these, with what is wrong.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"the text is no JSON: {error}") from None
    if isinstance(value, Mapping):
        found = list(_lists(_present(value), function))
    elif isinstance(value, Sequence):
        found = [_case(test, number, function) for number, test in enumerate(value)]
    else:
        raise ValueError(f"tests are a list, an object or JSON text, not {type(value).__name__}")
    if not found:
        raise ValueError("there are no tests")
    return found


def _present(test: Mapping[str, Any]) -> dict[str, Any]:
    """Table formats give every row all fields, and those that it has not as null."""
    return {key: value for key, value in test.items() if value is not None}


def _case(test: Any, number: int, function: str | None) -> Case:
    where = f"test {number}"
    if isinstance(test, str):
        return _assertion(test, where)
    if not isinstance(test, Mapping):
        raise ValueError(f"{where} is a {type(test).__name__}, not an object or a line with assert")
    given = _present(test)
    name = given.get("call", given.get("fn_name", function))
    if given.get("testtype") == "functional":
        return _functional(given, name, where)
    if "args" in given or "kwargs" in given or ("call" in given or "fn_name" in given):
        if "expected" not in test:  # None may be what is expected
            raise ValueError(f"{where} calls a function and has no `expected`")
        return _call(name, given.get("args", []), given.get("kwargs", {}), (test["expected"],), where)
    if "input" in given and "output" in given:
        return Printed(_text(given["input"], where), _text(given["output"], where))
    raise ValueError(f"{where} has neither `input` and `output` nor `call`, `args` and `expected`")


def _call(name: Any, args: Any, kwargs: Any, expected: Sequence[Any], where: str) -> Called:
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{where} does not name the function to call: {name!r}")
    if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
        raise ValueError(f"{where}: `args` is a list and `kwargs` an object")
    if not (_plain(args) and _plain(kwargs) and _plain(expected)):
        raise ValueError(f"{where} holds something else than texts, numbers, lists and objects of them")
    return Called(name, list(args), _present(kwargs), expected)


def _plain(value: Any) -> bool:
    """True for data that means the same on both sides of the sandbox."""
    if isinstance(value, Mapping):
        return all(_plain(key) and _plain(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _functional(given: Mapping[str, Any], name: Any, where: str) -> Called:
    """Arguments are lines of JSON, and so is what is expected."""
    try:
        args = [json.loads(line) for line in str(given["input"]).splitlines() if line.strip()]
        return _call(name, args, {}, (json.loads(str(given["output"])),), where)
    except KeyError as error:
        raise ValueError(f"{where} has no {error}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is functional, and a line of it is no JSON: {error}") from None


def _lists(given: Mapping[str, Any], function: str | None) -> Iterator[Case]:
    if not isinstance(given.get("inputs"), list | tuple) or not isinstance(given.get("outputs"), list | tuple):
        raise ValueError("an object of tests has the lists `inputs` and `outputs`")
    if len(given["inputs"]) != len(given["outputs"]):
        raise ValueError(f"{len(given['inputs'])} inputs and {len(given['outputs'])} outputs")
    name = given.get("fn_name", given.get("call"))
    for number, (one, expected) in enumerate(zip(given["inputs"], given["outputs"], strict=True)):
        where = f"test {number}"
        if name is None:
            yield Printed(_text(one, where), _text(expected, where))
            continue
        # some sets wrap what a function returns in a list, and some do not
        wrapped = isinstance(expected, list | tuple) and len(expected) == 1
        yield _call(name, one, {}, (expected, expected[0]) if wrapped else (expected,), where)


def _text(value: Any, where: str) -> str:
    if isinstance(value, list | tuple) and all(isinstance(line, str) for line in value):
        value = "\n".join(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{where}: {error}") from None
        return value
    raise ValueError(f"{where}: input and output are text or lists of lines, not {type(value).__name__}")


def _assertion(line: str, where: str) -> Called:
    """``assert f(1, [2]) == 3``: read as data, nothing in it is run."""
    why = f"{where} is text, and not of the form `assert f(1, 2) == 3` with plain values"
    try:
        body = ast.parse(line.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(why) from None
    test = body[0].test if len(body) == 1 and isinstance(body[0], ast.Assert) else None
    if isinstance(test, ast.Call):
        call, expected = test, True
    elif isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is):
        if not isinstance(test.left, ast.Call):
            raise ValueError(why)
        call, expected = test.left, _literal(test.comparators[0], why)
    else:
        raise ValueError(why)
    kwargs = {str(word.arg): _literal(word.value, why) for word in call.keywords}
    return _call(ast.unparse(call.func), [_literal(arg, why) for arg in call.args], kwargs, (expected,), where)


def _literal(node: ast.expr, why: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(why) from None
