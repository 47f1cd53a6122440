"""JSON that follows a schema."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

import tunesmith
from tunesmith import Fault, Reward, Rollout

MAX_DEPTH = 64
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose value maps names to schemas."""
DATA = ("const", "enum", "default", "examples")
"""Keywords whose value is no schema."""


class JsonSchema(Reward):
    """1 for an answer that is JSON as strict as it was specified and follows the schema, otherwise 0."""

    name: ClassVar[str] = "json-schema"
    needs: ClassVar[tuple[str, ...]] = ("jsonschema",)
    best: ClassVar[float | None] = 1.0
    definition: dict[str, Any] | None = None
    """The schema itself; draft 2020-12, where its $schema says nothing else."""
    file: Path | None = None
    """File that holds the schema."""
    column: str | None = None
    """Column that holds the schema of each row, as JSON text; tables tend to add empty keys to mappings."""
    expected: str | None = None
    """Column with the value that the answer must equal, as JSON text or as data; the order of keys does not matter."""
    fence: Literal["allow", "require", "refuse"] = "allow"
    """The answer stands in a fenced json block (the last one counts): it may, it must, or it is the bare text."""
    max_chars: int = Field(default=200_000, ge=1)
    """A longer JSON text scores 0."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """Some schema."""
        return {"definition": {"type": "object"}}

    @model_validator(mode="after")
    def _one_schema(self) -> Self:
        given = [n for n in ("definition", "file", "column") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"the schema is given more than once: {' and '.join(given)}")
        if not given and self.expected is None:
            raise ValueError("there is nothing to check: give definition, file, column or expected")
        if self.definition is not None or self.file is not None:
            _validator(self._fixed())
        return self

    def _fixed(self) -> str:
        """The schema of all rows, as JSON text. Raises `ValueError` for a file that cannot be read."""
        if self.file is None:
            return json.dumps(self.definition)
        try:
            return self.file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the schema {str(self.file)!r} cannot be read: {error}") from None

    def columns(self) -> Iterable[str]:
        """The columns of the schema and of the expected value."""
        return [name for name in (self.column, self.expected) if name is not None]

    def warm(self) -> None:
        """Read and check the schema of all rows."""
        if self.definition is not None or self.file is not None:
            _validator(self._fixed())

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """Where only the row says what is wanted: a row with its schema and value."""
        if self.definition is not None or self.file is not None:
            return
        row: dict[str, Any] = {"prompt": "Give the city and its inhabitants as JSON."}
        if self.column is not None:
            row[self.column] = '{"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}'
        if self.expected is not None:
            row[self.expected] = '{"city": "Oslo", "inhabitants": 724290}'
        text = '{"inhabitants": 724290, "city": "Oslo"}'
        yield {**row, "completion": text if self.fence == "refuse" else f"Here it is:\n```json\n{text}\n```"}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """Score every completion."""
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float | Fault:
        try:
            validator = self._schema_of(rollout)
            wanted = None if self.expected is None else _wanted(self.expected, rollout.columns.get(self.expected))
        except ValueError as error:
            return Fault("error", str(error))
        try:
            found = strict(_payload(rollout.text, self.fence), self.max_chars)
        except ValueError:
            return 0.0
        if self.expected is not None and canonical(found) != wanted:
            return 0.0
        return _follows(validator, found)

    def _schema_of(self, rollout: Rollout) -> Any:
        """The validator of a row, or ``None`` without a schema. Raises `ValueError` for a schema that is none."""
        if self.definition is not None or self.file is not None:
            return _validator(self._fixed() if self.file is None else _read_once(self.file))
        if self.column is None:
            return None
        value = rollout.columns.get(self.column)
        if not isinstance(value, (str, Mapping)) or value == "":
            raise ValueError(f"column {self.column!r} holds no schema, but {str(value)[:40]!r}")
        try:
            return _validator(value if isinstance(value, str) else json.dumps(value))
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {self.column!r}: {error}") from None


@lru_cache(maxsize=8)
def _read_once(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _payload(text: str, fence: str) -> str:
    """The JSON text of a completion. Raises `ValueError` where there is none, or not where it must be."""
    from tunesmith.passages import after_thinking

    answer = after_thinking(text)
    if answer is None:
        raise ValueError("the reasoning does not end")
    if fence == "refuse":
        return answer.strip()
    block = _last_block(answer)
    if block is not None:
        return block
    if fence == "require":
        raise ValueError("there is no ```json block")
    return answer.strip()


def _last_block(text: str) -> str | None:
    """The last closed block that is marked as JSON, or not marked at all."""
    last, start, lines = None, None, text.split("\n")
    for number, line in enumerate(lines):
        mark = line.strip()
        if start is None and mark.startswith("```"):
            start, kind = number, mark[3:].strip().lower()
        elif start is not None and mark == "```":
            last = "\n".join(lines[start + 1 : number]) if kind in ("json", "") else last
            start = None
    return last


def strict(text: str, max_chars: int = 1_000_000) -> Any:
    """Parse JSON without Python's indulgence.

    Raises:
        ValueError: no JSON; a key twice; NaN or a number beyond all floats; too long or nested too deeply.
    """
    if len(text) > max_chars:
        raise ValueError(f"more than {max_chars} characters")
    if _depth(text) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)


def _depth(text: str) -> int:
    """How deep brackets are nested, those in strings left out."""
    deepest = depth = 0
    quoted = escaped = False
    for char in text:
        if quoted:
            quoted = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


def canonical(value: Any) -> Any:
    """A hashable form that is equal for equal JSON values alone: 1 equals 1.0, true does not equal 1."""
    if isinstance(value, Mapping):
        return ("object", frozenset((str(key), canonical(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return ("array", tuple(canonical(item) for item in value))
    return (type(value).__name__ if isinstance(value, (bool, str)) or value is None else "number", value)


def _wanted(column: str, value: Any) -> Any:
    """The canonical form of what a row expects. Raises `ValueError` where that is no JSON."""
    if value is None:
        raise ValueError(f"column {column!r} is empty; write null where null is expected")
    if not isinstance(value, str):
        return canonical(value)
    try:
        return canonical(strict(value))
    except ValueError as error:
        raise ValueError(f"column {column!r} holds no JSON ({error}): {value[:40]!r}") from None


@lru_cache(maxsize=256)
def _validator(schema_text: str) -> Any:
    """The validator of a schema. Raises `ValueError` for a schema that is none, or that points outside of itself."""
    from jsonschema import exceptions, validators

    try:
        schema = strict(schema_text)
    except ValueError as error:
        raise ValueError(f"the schema is no JSON: {error}") from None
    if not isinstance(schema, (dict, bool)):
        raise ValueError("a schema is an object, true or false")
    base = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        base.check_schema(schema)
    except exceptions.SchemaError as error:
        raise ValueError(f"the schema is wrong at {error.json_path}: {error.message[:200]}") from None
    _check_references(schema)
    return validators.extend(base, {"uniqueItems": _unique_items})(schema, registry=_closed())


def _closed() -> Any:
    """What references may lead to beside the schema itself: nothing, so that nothing is ever fetched."""
    from referencing import Registry

    return Registry()


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """The library compares every item with every other, which a hostile answer could make take minutes."""
    from jsonschema import ValidationError

    if wanted and validator.is_type(instance, "array") and len({canonical(i) for i in instance}) < len(instance):
        yield ValidationError("an item is there twice")


def _check_references(schema: Any) -> None:
    """Raises `ValueError` for a reference to somewhere else, or to what is not there."""
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = Registry().with_resource("", resource).resolver()
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise ValueError(f"$ref {reference!r} leads out of the schema; copy what it means into $defs")
        try:
            if "$id" not in schema:
                resolver.lookup(reference)
        except Unresolvable:
            raise ValueError(f"$ref {reference!r} leads nowhere") from None


def _references(schema: Any) -> Iterator[str]:
    """Every reference in a schema; what stands under a name or is plain data is not mistaken for one."""
    if isinstance(schema, list):
        for item in schema:
            yield from _references(item)
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        if keyword in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
            yield value
        elif keyword in NAMED and isinstance(value, dict):
            for item in value.values():
                yield from _references(item)
        elif keyword not in DATA:
            yield from _references(value)


def _follows(validator: Any, value: Any) -> float | Fault:
    from referencing.exceptions import Unresolvable

    try:
        return 1.0 if validator is None or validator.is_valid(value) else 0.0
    except RecursionError:
        return Fault("error", "the schema refers to itself without end")
    except Unresolvable as error:
        return Fault("error", f"a reference in the schema leads nowhere: {error}")


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [JsonSchema]
