import json
import socket
import time

import pytest

from tunesmith import ConfigError, Fault, Rollout
from tunesmith.config import build
from tunesmith_rewards.json_schema import canonical, strict

CITY = {
    "type": "object",
    "required": ["city"],
    "properties": {"city": {"type": "string"}, "size": {"$ref": "#/$defs/size"}},
    "additionalProperties": False,
    "$defs": {"size": {"type": "integer", "minimum": 1}},
}
GOOD = '{"city": "Oslo", "size": 3}'


@pytest.fixture
def score(registry):
    def judge(completion, columns=None, **settings):
        reward = build(registry, "reward", {"name": "json-schema", **(settings or {"definition": CITY})})
        reward.warm()
        return reward([Rollout("Give JSON.", completion, columns or {})])[0]

    return judge


@pytest.mark.parametrize(
    "completion",
    [
        GOOD,
        f"\n {GOOD} \n",
        f"```json\n{GOOD}\n```",
        f"Here it is:\n```JSON\n{GOOD}\n```\nAnything else?",
        f"```\n{GOOD}\n```",
        f"```json\n[1]\n```\nno, rather:\n```json\n{GOOD}\n```",
        f"```python\nprint()\n```\n```json\n{GOOD}\n```",
        f"<think>```json\n[1]\n```</think>{GOOD}",
    ],
)
def test_an_answer_that_follows_the_schema(score, completion):
    assert score(completion) == 1.0


@pytest.mark.parametrize(
    "completion",
    [
        "",
        "Oslo",
        "null",
        "{}",
        '{"city": 3}',
        '{"city": "Oslo", "size": 0}',
        '{"city": "Oslo", "other": 1}',
        '{"city": "Oslo", "city": "Bergen"}',
        '{"city": "Oslo", "size": 1,}',
        "{'city': 'Oslo'}",
        f"{GOOD} {GOOD}",
        f"The JSON is {GOOD}",
        f"// a comment\n{GOOD}",
        f"\ufeff{GOOD}",
        f"```json\n{GOOD}",
        f"```json\n{GOOD}\n```\n```json\n[1]\n```",
        f"<think>{GOOD}</think>",
        f"<think>{GOOD}",
        '{"city": "Oslo\x00"}',
        '{"city": "Os\nlo"}',
        '{"city": "Oslo", "size": NaN}',
        '{"city": "Oslo", "size": Infinity}',
        '{"city": "Oslo", "size": 1e999}',
        '{"city": "Oslo", "size": ' + "1" * 5000 + "}",
        '{"city": "Oslo", "size": true}',
    ],
)
def test_an_answer_that_does_not(score, completion):
    assert score(completion) == 0.0


def test_fences(score):
    fenced = f"```json\n{GOOD}\n```"
    assert [score(text, definition=CITY, fence="require") for text in (GOOD, fenced)] == [0.0, 1.0]
    assert [score(text, definition=CITY, fence="refuse") for text in (GOOD, fenced)] == [1.0, 0.0]


def test_where_the_schema_comes_from(score, tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(CITY))
    assert [score(text, file=str(path)) for text in (GOOD, "{}")] == [1.0, 0.0]
    for value in (CITY, json.dumps(CITY)):
        assert [score(text, {"wanted": value}, column="wanted") for text in (GOOD, "{}")] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "holds no schema"),
        ("", "holds no schema"),
        ("{", "no JSON"),
        ("[]", "a schema is an object"),
        ({"type": "text"}, "wrong at"),
        ({"type": None}, "wrong at"),
        ({"$ref": "#/$defs/none"}, "leads nowhere"),
        ({"$ref": "#"}, "without end"),
    ],
)
def test_a_row_with_a_wrong_schema_is_an_error(score, value, message):
    fault = score(GOOD, {"wanted": value}, column="wanted")
    assert isinstance(fault, Fault) and fault.state == "error" and message in fault.why


def test_the_expected_value(score):
    settings = {"expected": "gold"}
    for gold in (GOOD, {"size": 3, "city": "Oslo"}, '{"size": 3.0, "city": "Oslo"}'):
        assert score(GOOD, {"gold": gold}, **settings) == 1.0
        assert score('{"city": "Oslo"}', {"gold": gold}, **settings) == 0.0
        assert score('{"city": "Oslo", "size": "3"}', {"gold": gold}, **settings) == 0.0
    assert score("[1, 2]", {"gold": "[2, 1]"}, **settings) == 0.0
    assert score(GOOD, {"gold": GOOD}, definition={"required": ["land"]}, expected="gold") == 0.0
    for value in (None, "Oslo", ""):
        fault = score(GOOD, {"gold": value}, **settings)
        assert isinstance(fault, Fault) and fault.state == "error" and "'gold'" in fault.why


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("1", "1.0", True),
        ("1", "true", False),
        ("0", "false", False),
        ("0", "-0.0", True),
        ("null", "false", False),
        ('"1"', "1", False),
        ("[]", "{}", False),
        ('["a", "b"]', '[["a", "b"]]', False),
        ('{"a": [1, {"b": null}]}', '{"a": [1.0, {"b": null}]}', True),
        ('["object", []]', "{}", False),
        ("123456789012345678901", "123456789012345678902", False),
        ('"\\u00e9"', '"\u00e9"', True),
    ],
)
def test_equality(one, other, equal):
    assert (canonical(strict(one)) == canonical(strict(other))) is equal
    assert (canonical(strict(other)) == canonical(strict(one))) is equal


@pytest.mark.parametrize(
    "draft", ["https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"]
)
def test_drafts(score, draft):
    schema = {"$schema": draft, "definitions": {"x": {"type": "integer"}}, "items": {"$ref": "#/definitions/x"}}
    assert [score(text, definition=schema) for text in ("[1, 2]", '[1, "a"]')] == [1.0, 0.0]


def test_names_and_data_that_look_like_references_are_none(score):
    schema = {"properties": {"$ref": {"type": "string"}}, "enum": [{"$ref": "http://127.0.0.1/x"}]}
    assert score('{"$ref": "http://127.0.0.1/x"}', definition=schema) == 1.0


def test_nothing_is_ever_fetched(registry, score, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    remote = [
        "http://127.0.0.1:1/s.json",
        "https://json-schema.org/draft/2020-12/schema",
        "file:///etc/hosts",
        "s.json",
    ]
    for reference in remote:
        for schema in ({"$ref": reference}, {"items": [{"not": {"$dynamicRef": reference}}]}):
            if "items" in schema:
                schema["$schema"] = "http://json-schema.org/draft-07/schema#"
            with pytest.raises(ConfigError, match="leads out of the schema"):
                build(registry, "reward", {"name": "json-schema", "definition": schema})
            assert "leads out of the schema" in score("1", {"s": schema}, column="s").why
    # an address of its own does not make its references remote
    own = {"$id": "http://127.0.0.1:1/", "$ref": "#/$defs/x", "$defs": {"x": {"type": "integer"}}}
    assert [score(text, definition=own) for text in ("1", '"a"')] == [1.0, 0.0]
    broken = {"$id": "http://127.0.0.1:1/", "$ref": "#/$defs/y"}
    fault = score("1", {"s": broken}, column="s")
    assert isinstance(fault, Fault) and "leads nowhere" in fault.why


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to check"),
        ({"definition": CITY, "column": "x"}, "more than once: definition and column"),
        ({"definition": {"type": "text"}}, r"wrong at \$.type"),
        ({"definition": {"pattern": "("}}, "wrong at|cannot"),
        ({"file": "/no/such/file.json"}, "cannot be read"),
        ({"definition": {"properties": {"a": {"minimum": "1"}}}}, r"\$.properties.a.minimum"),
    ],
)
def test_settings_are_checked_before_anything_starts(registry, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(registry, "reward", {"name": "json-schema", **settings})


@pytest.mark.parametrize(
    "settings", [{"column": "s"}, {"expected": "e"}, {"column": "s", "expected": "e", "fence": "refuse"}]
)
def test_samples_are_best(registry, settings):
    reward = build(registry, "reward", {"name": "json-schema", **settings})
    rows = list(reward.samples())
    assert rows and set(reward.columns()) <= set(rows[0])
    assert reward([Rollout(r["prompt"], r["completion"], r) for r in rows]) == [1.0] * len(rows)


HUGE = {
    "open": "[" * 1_000_000,
    "deep": "[" * 65 + "]" * 65,
    "objects": '{"a":' * 200_000,
    "quotes": '"' * 1_000_000,
    "backslashes": '"' + "\\" * 1_000_000,
    "fences": "```json\n" * 125_000,
    "digits": "1" * 1_000_000,
    "spaces": " " * 1_000_000,
    "items": json.dumps([x for i in range(60_000) for x in (i, str(i))]),
}


@pytest.mark.parametrize("completion", HUGE.values(), ids=HUGE)
def test_huge_and_deep_answers_are_wrong_at_once(score, completion):
    start = time.perf_counter()
    schema = {"type": "array", "uniqueItems": True, "maxItems": 10}
    assert score(completion, definition=schema, max_chars=2_000_000) == 0.0
    assert score(completion, definition=schema) == 0.0
    assert time.perf_counter() - start < 4


def test_unique_items(score):
    schema = {"uniqueItems": True}
    assert [score(t, definition=schema) for t in ("[1, 2]", "[1, 1.0]", "[1, true]", '[{"a": 1}, {"a": 1}]')] == [
        1,
        0,
        1,
        0,
    ]
    assert score(HUGE["items"], definition=schema, max_chars=2_000_000) == 1.0
