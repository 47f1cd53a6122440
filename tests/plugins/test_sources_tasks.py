"""Tasks that are made up: rows follow from settings, parts are disjoint, golds are right, difficulty has an effect."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise, permutations, product
from typing import Any

import pytest

from tunesmith import ConfigError, ResourceError, Reward, Rollout, Source, plugins
from tunesmith.config import build
from tunesmith.data.detect import Taker, choose_format
from tunesmith.examples import Completion, Conversation, Prompt
from tunesmith_plugins.sources import Arithmetic, CodeTasks, Countdown, LogicPuzzles, Sorting, generated
from tunesmith_plugins.sources.generated import GeneratedTasks, Task, in_test
from tunesmith_plugins.sources.puzzles import clauses, seats

GENERATED: list[type[GeneratedTasks]] = [CodeTasks, Countdown, LogicPuzzles, Sorting]
HARDER: dict[str, list[dict[str, Any]]] = {
    "code-tasks": [{"steps": 1}, {"steps": 4}, {"kinds": ("sequences",)}],
    "countdown": [{"numbers": 3}, {"numbers": 6, "max_target": 999}, {"operations": ("+", "-")}],
    "logic-puzzles": [{"people": 3, "variables": 4, "seats": 3}, {"people": 6, "things": 2}, {"kinds": ("formula",)}],
    "sorting": [{"items": 3, "digits": 2}, {"of": "words", "items": 12}, {"order": "ascending"}],
}
"""Settings that make other tasks, by source."""
SETTINGS = [(cls, settings) for cls in GENERATED for settings in ({}, *HARDER[cls.name])]


@pytest.fixture(scope="module")
def registry() -> plugins.Registry:
    return plugins.load()


def content(source: Source) -> list[dict[str, Any]]:
    return [dict(row.data) for row in source.rows()]


# ---------------------------------------------------------------------------------------------- all of them
@pytest.mark.parametrize(("cls", "settings"), SETTINGS)
def test_rows_follow_from_the_settings_alone(cls: type[GeneratedTasks], settings: dict[str, Any]) -> None:
    rows = content(cls(num_rows=20, **settings))
    assert rows == content(cls(num_rows=20, **settings)) == content(cls(num_rows=40, **settings))[:20]
    assert len({row["prompt"] for row in rows}) == 20
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    variants = [cls(num_rows=n, seed=s, split=p) for n, s, p in product((20, 21), (0, 1), ("train", "test"))]
    variants += [cls(num_rows=20, chat=True), *(cls(num_rows=20, **more) for more in HARDER[cls.name])]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)
    assert len({str(content(variant)) for variant in variants}) == len(variants)
    assert [variants[0].label(), variants[1].label()] == [cls.name, f"{cls.name}-test"]


def keys(source: GeneratedTasks, seed: int, number: int) -> set[str]:
    """Keys of tasks as they are drawn, of both parts."""
    rng = random.Random(seed)
    drawn = (source.draw(rng) for _ in range(number))
    return {json.dumps(task.key) for task in drawn if task is not None}


@pytest.mark.parametrize("cls", GENERATED)
@pytest.mark.parametrize("seed", range(3))
def test_train_and_test_never_share_a_task(cls: type[GeneratedTasks], seed: int) -> None:
    """Settings in which the same tasks are drawn again and again, so that sharing would show."""
    small: dict[str, dict[str, Any]] = {
        "code-tasks": {"steps": 1, "kinds": ("text",)},
        "countdown": {"numbers": 2, "max_number": 9},
        "logic-puzzles": {"kinds": ("seats",), "seats": 3, "things": 0},
        "sorting": {"of": "numbers", "items": 2, "digits": 1},
    }

    def prompts(split: Any, seed: int, number: int, **settings: Any) -> set[str]:
        rows = content(cls(num_rows=number, split=split, seed=seed, **settings))
        return {re.sub(r"Examples:.*", "", row["prompt"], flags=re.DOTALL) for row in rows}

    few = small[cls.name]
    train = prompts("train", seed, 20, **few) | prompts("train", seed + 9, 20, **few) | prompts("train", seed, 20)
    test = prompts("test", seed, 4, **few) | prompts("test", seed + 5, 4, **few) | prompts("test", seed, 20)
    assert len(test) > 20 and not train & test
    again = keys(cls(**few), seed, 200) & keys(cls(**few), seed + 1, 200)
    assert again, "other seeds draw the same tasks, which the part then keeps apart"


class Drawn(GeneratedTasks):
    """One of a few tasks."""

    name = "drawn"
    few: int = 60

    def draw(self, rng: random.Random) -> Task | None:
        number = rng.randrange(self.few)
        return Task(number, f"task {number}", str(number)) if number else None


def test_the_two_parts_are_all_there_is() -> None:
    parts = []
    for split in ("train", "test"):
        found = []
        with pytest.raises(ConfigError, match=f"{split} has about"):
            for row in Drawn(num_rows=60, split=split).rows():  # type: ignore[arg-type]
                found.append(row.data["answer"])
        parts.append(found)
    train, test = parts
    assert sorted(map(int, train + test)) == list(range(1, 60))
    assert 4 < len(test) < 25
    assert sum(in_test(random.Random(i).randbytes(16)) for i in range(2000)) == pytest.approx(400, abs=80)


@pytest.mark.parametrize("cls", GENERATED)
def test_more_tasks_than_there_are_is_refused(cls: type[GeneratedTasks], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "IN_VAIN", 300)
    few: dict[str, dict[str, Any]] = {
        "code-tasks": {"kinds": ("text",), "steps": 1},
        "countdown": {"numbers": 2, "max_number": 3},
        "logic-puzzles": {"kinds": ("seats",), "seats": 3, "things": 0},
        "sorting": {"of": "numbers", "items": 2, "digits": 1},
    }
    with pytest.raises(ConfigError, match=r"test has about \d+ different tasks, not 5,000"):
        content(cls(num_rows=5000, split="test", **few[cls.name]))


@pytest.mark.parametrize("cls", [Arithmetic, *GENERATED])
def test_rows_are_demonstrations_and_prompts_alike(registry: plugins.Registry, cls: type[Any]) -> None:
    from tunesmith import DataSpec

    for chat, demonstration in ((False, Completion), (True, Conversation)):
        source = cls(num_rows=3, chat=chat)
        sample = list(source.rows())
        spec = DataSpec(source=source)
        as_demonstration = choose_format(spec, sample, registry, Taker()).format(sample[0].data)
        assert isinstance(as_demonstration, demonstration)
        as_prompt = choose_format(spec, sample, registry, Taker(Prompt, "toy")).format(sample[0].data)
        assert isinstance(as_prompt, Prompt) and isinstance(as_prompt.prompt, str) != chat
        assert as_prompt.columns["answer"] == sample[0].data["answer"]
        plain = cls(num_rows=1)
        [row] = content(plain)
        words = as_prompt.prompt if isinstance(as_prompt.prompt, str) else as_prompt.prompt[0]["content"]
        assert words.strip() == row["prompt"].strip()


VERIFIERS: list[tuple[Source, dict[str, Any]]] = [
    (Arithmetic(num_rows=30), {"name": "numeric"}),
    (Arithmetic(num_rows=30, chat=True), {"name": "numeric"}),
    (Countdown(num_rows=60, chat=True), {"name": "countdown", "use_all": True}),
    *((Countdown(num_rows=40, **settings), {"name": "countdown"}) for settings in HARDER["countdown"]),
    (Sorting(num_rows=60), {"name": "exact-match", "extract": "final"}),
    (Sorting(num_rows=40, items=30, chat=True), {"name": "exact-match", "extract": "final"}),
    (LogicPuzzles(num_rows=60, chat=True), {"name": "logic"}),
    (LogicPuzzles(num_rows=40, kinds=("knights", "seats")), {"name": "logic", "unique": True}),
    *((LogicPuzzles(num_rows=30, **settings), {"name": "logic"}) for settings in HARDER["logic-puzzles"]),
]


@pytest.mark.parametrize(("source", "spec"), VERIFIERS)
def test_the_matching_reward_takes_the_gold_and_nothing_else(
    registry: plugins.Registry, source: Source, spec: dict[str, Any]
) -> None:
    reward = build(registry, "reward", spec)
    assert isinstance(reward, Reward)
    rows = content(source)

    def mean(answers: Callable[[int], Any]) -> float:
        scores = reward([Rollout(row["prompt"], answers(i), row) for i, row in enumerate(rows)])
        assert all(isinstance(score, float) for score in scores), scores
        return sum(score for score in scores if isinstance(score, float)) / len(scores)

    assert mean(lambda i: rows[i]["completion"]) == 1.0
    for empty in (lambda i: "", lambda i: "Answer:", lambda i: rows[i]["prompt"], lambda i: f"Answer: {i % 101}"):
        assert mean(empty) < 0.05
    assert mean(lambda i: rows[i - 1]["completion"]) < 0.1


# ---------------------------------------------------------------------------------------------- countdown, sorting
def test_a_countdown_is_solved_step_by_step_in_whole_numbers() -> None:
    for row in content(Countdown(num_rows=200, numbers=5, max_number=30, max_target=200)):
        *steps, last = row["completion"].split("\n")
        left = sorted(row["numbers"])
        for step in steps:
            a, sign, b, equals, c = step.split()
            x, y, z = int(a), int(b), int(c)
            assert equals == "=" and {"+": x + y, "-": x - y, "*": x * y, "/": x / y}[sign] == z > 0
            left.remove(x)
            left.remove(y)
            left.append(z)
        assert left == [row["target"]] and len(steps) == 4
        assert last == f"Answer: {row['answer']}"
        assert 2 <= row["target"] <= 200 and row["target"] not in row["numbers"]
        assert all(1 <= number <= 30 for number in row["numbers"])


def test_operations_that_are_not_allowed_do_not_come() -> None:
    rows = content(Countdown(num_rows=100, operations=("+", "-")))
    assert not any(sign in row["answer"] for row in rows for sign in "*/")
    assert any("-" in row["answer"] for row in rows) and all("operations + -." in row["prompt"] for row in rows)
    with pytest.raises(ValueError, match="should name one or more"):
        Countdown(operations=())


def test_sorted_lists_are_sorted() -> None:
    for row in content(Sorting(num_rows=200, items=9, digits=4)):
        kind, order, given = re.match(r"Sort these (\w+) (.*?): (.*)", row["prompt"]).groups()  # type: ignore[union-attr]
        read: Callable[[str], Any] = int if kind == "numbers" else str
        answer = [read(item) for item in row["answer"].split(", ")]
        assert sorted(answer) == sorted(read(item) for item in given.split(", ")) and len(answer) == 9
        steps = list(pairwise(answer))
        up = order in ("from the smallest to the largest", "in alphabetical order")
        assert all(a <= b if up else a >= b for a, b in steps)


# ---------------------------------------------------------------------------------------------- puzzles
def test_names_do_not_make_a_puzzle_another_one() -> None:
    rng = random.Random(0)
    for _ in range(30):
        places = [seat for _ in range(2) for seat in rng.sample(range(4), 4)]
        known = seats._needed(rng, seats._true_clues(places, 4), 4, 2)
        order = [*rng.sample(range(4), 4), *rng.sample(range(4, 8), 4)]  # the same people and things, numbered anew
        moved = [
            clue._replace(a=order[clue.a], b=clue.b if clue.kind in ("at", "not") else order[clue.b]) for clue in known
        ]
        anew = [0] * 8
        for old, new in enumerate(order):
            anew[new] = places[old]
        assert seats._nameless(known, places, 4) == seats._nameless(moved, anew, 4)
        chosen = [tuple((i, rng.random() < 0.5) for i in sorted(rng.sample(range(6), 3))) for _ in range(20)]
        other = rng.sample(range(6), 6)
        again = [tuple(sorted((other[i], sign) for i, sign in clause)) for clause in chosen]
        rng.shuffle(again)
        assert clauses._nameless(chosen, 6) == clauses._nameless(again, 6)
        flipped = [(*chosen[0][:2], (chosen[0][2][0], not chosen[0][2][1])), *chosen[1:]]
        assert clauses._nameless(chosen, 6) != clauses._nameless(flipped, 6)


def test_seats_are_counted_right() -> None:
    """Against all arrangements."""
    rng = random.Random(1)
    for _ in range(20):
        places = [seat for _ in range(2) for seat in rng.sample(range(3), 3)]
        some = rng.sample(seats._true_clues(places, 3), rng.randint(1, 5))

        def holds(clue: seats.Clue, arranged: Sequence[int]) -> bool:
            p = arranged[clue.a]
            if clue.kind in ("at", "not"):
                return (p == clue.b) == (clue.kind == "at")
            q = arranged[clue.b]
            kinds = {"same": p == q, "apart": p != q, "left": q == p + 1, "beside": abs(p - q) == 1, "before": p < q}
            return kinds[clue.kind]

        everything = [(*a, *b) for a in permutations(range(3)) for b in permutations(range(3))]
        fitting = sum(all(holds(clue, arranged) for clue in some) for arranged in everything)
        assert min(fitting, 2) == seats._solutions(some, 3, 2) and fitting


def test_no_clue_can_be_left_out(registry: plugins.Registry) -> None:
    reward = build(registry, "reward", {"name": "logic", "unique": True})
    for row in content(LogicPuzzles(num_rows=5, kinds=("seats",), seats=4)):
        constraints = row["puzzle"]["constraints"]
        for i, text in enumerate(constraints):
            rest = {**row["puzzle"], "constraints": [*constraints[:i], *constraints[i + 1 :]]}
            [found] = reward([Rollout(row["prompt"], row["completion"], {"puzzle": rest})])  # type: ignore[operator]
            assert text.startswith("distinct") or "several solutions" in str(found)


# ---------------------------------------------------------------------------------------------- code
@pytest.mark.parametrize("settings", [{}, *HARDER["code-tasks"]])
def test_reference_solutions_pass_their_tests_and_no_others_do(settings: dict[str, Any]) -> None:
    rows = content(CodeTasks(num_rows=60, **settings))
    functions = []
    for row in rows:
        space: dict[str, Any] = {}
        code = re.fullmatch(r"```python\n(.*)```", row["completion"], flags=re.DOTALL)
        assert code is not None and code[1] == row["answer"]
        exec(code[1], space)
        functions.append(space["solve"])

    def passes(row: dict[str, Any], function: Callable[..., Any], column: str) -> bool:
        return all(function(*test["args"]) == test["expected"] for test in row[column])

    for row, function in zip(rows, functions, strict=True):
        assert len(row["hidden_tests"]) == 8 and len(row["tests"]) == 2
        assert all(passes(row, function, column) for column in ("tests", "hidden_tests"))
        hidden = [f"solve({test['args'][0]!r}) == " for test in row["hidden_tests"]]
        assert not any(line in row["prompt"] for line in hidden)
        for test in row["tests"]:
            assert f"solve({test['args'][0]!r}) == {test['expected']!r}" in row["prompt"]
        constant = row["hidden_tests"][0]["expected"]
        assert not passes(row, lambda x, constant=constant: constant, "hidden_tests")
        assert "sequence" in row["prompt"] or not passes(row, lambda x: x, "hidden_tests")


def test_the_reward_code_takes_the_reference_and_no_table_of_the_visible_tests(registry: plugins.Registry) -> None:
    reward = build(registry, "reward", "code")
    assert isinstance(reward, Reward)
    try:
        reward.warm()
    except ResourceError as error:
        pytest.skip(f"no sandbox here: {error}")
    rows = content(CodeTasks(num_rows=6))
    assert reward([Rollout(row["prompt"], row["completion"], row) for row in rows]) == [1.0] * 6
    tables = []
    for row in rows:
        known = "\n".join(f"    if x == {t['args'][0]!r}:\n        return {t['expected']!r}" for t in row["tests"])
        tables.append(Rollout(row["prompt"], f"```python\ndef solve(x):\n{known}\n```", row))
    assert reward(tables) == [0.0] * 6
    assert reward([Rollout(row["prompt"], row["prompt"], row) for row in rows]) == [0.0] * 6


# ---------------------------------------------------------------------------------------------- difficulty
def size(source: Source, count: Callable[[dict[str, Any]], int]) -> float:
    rows = content(source)
    return sum(map(count, rows)) / len(rows)


LADDERS: list[tuple[Callable[[int], Source], list[int], Callable[[dict[str, Any]], int]]] = [
    (lambda n: Countdown(num_rows=30, numbers=n), [3, 4, 6], lambda row: len(row["numbers"])),
    (lambda n: Countdown(num_rows=30, max_number=n), [5, 20, 90], lambda row: max(row["numbers"])),
    (lambda n: Sorting(num_rows=30, items=n), [3, 10, 40], lambda row: len(row["answer"].split(", "))),
    (lambda n: Sorting(num_rows=30, of="words", syllables=n), [1, 3, 6], lambda row: len(row["answer"])),
    (lambda n: CodeTasks(num_rows=30, kinds=("lists",), steps=n), [1, 3, 6], lambda row: row["answer"].count("\n")),
    (
        lambda n: CodeTasks(num_rows=30, kinds=("sequences",), steps=n),
        [1, 2, 3],
        lambda row: row["answer"].count("f[-"),
    ),
    (
        lambda n: LogicPuzzles(num_rows=15, kinds=("knights",), people=n),
        [3, 5, 8],
        lambda row: len(row["puzzle"]["variables"]),
    ),
    (
        lambda n: LogicPuzzles(num_rows=15, kinds=("formula",), variables=n),
        [4, 8, 20],
        lambda row: len(row["puzzle"]["constraints"]),
    ),
    (
        lambda n: LogicPuzzles(num_rows=8, kinds=("seats",), seats=n),
        [3, 4, 6],
        lambda row: row["prompt"].count("\n- "),
    ),
]


@pytest.mark.parametrize(("make", "levels", "count"), LADDERS)
def test_difficulty_has_an_effect(
    make: Callable[[int], Source], levels: list[int], count: Callable[[dict[str, Any]], int]
) -> None:
    found = [size(make(level), count) for level in levels]
    assert found == sorted(found) and len(set(found)) == len(found)
