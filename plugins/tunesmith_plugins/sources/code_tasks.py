"""Small functions to write, with tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from tunesmith_plugins.sources.code_steps import LETTERS, LIST_STEPS, TEXT_STEPS, Step, list_end, ordinal, text_end
from tunesmith_plugins.sources.generated import GeneratedTasks, Task

Kind = Literal["lists", "text", "sequences"]
FUNCTION = "solve"
TAKES = {"lists": "a list of whole numbers", "text": "a text of lower-case letters", "sequences": "a whole number"}


class CodeTasks(GeneratedTasks):
    """Python functions to write from a description, with visible and hidden tests; the reward `code` runs them.

    The tests of the column hidden_tests are not in the prompt. Which part a task belongs to follows from its steps,
    whatever its tests are.
    """

    name: ClassVar[str] = "code-tasks"

    kinds: tuple[Kind, ...] = ("lists", "text", "sequences")
    """What the functions are about; each task is one of them."""
    steps: int = Field(default=2, ge=1, le=8)
    """Steps before the last one; of a sequence, how many terms before it each term follows from (3 at most)."""
    visible: int = Field(default=2, ge=1, le=10)
    """Tests that the prompt shows (column tests)."""
    hidden: int = Field(default=8, ge=3, le=100)
    """Tests that the prompt does not show (column hidden_tests)."""

    @field_validator("kinds")
    @classmethod
    def _some(cls, value: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("should name one or more of lists, text, sequences, each once")
        return value

    def draw(self, rng: random.Random) -> Task | None:
        """A random function; ``None`` where its tests would not tell it from simpler ones."""
        kind = rng.choice(self.kinds)
        steps = _sequence(rng, min(self.steps, 3)) if kind == "sequences" else _steps(rng, kind, self.steps)
        inputs = _inputs(rng, kind, self.visible + self.hidden)
        results = _results(steps, inputs)
        if results is None or not _telling(kind, steps, inputs[self.visible :], results[self.visible :]):
            return None
        tests = [
            {"call": FUNCTION, "args": [value], "expected": result}
            for value, result in zip(inputs, results, strict=True)
        ]
        shown = "\n".join(f"{FUNCTION}({test['args'][0]!r}) == {test['expected']!r}" for test in tests[: self.visible])
        asked = steps[0].words if kind == "sequences" else "\n".join(f"{i}. {s.words}" for i, s in enumerate(steps, 1))
        how = "returns the following" if kind == "sequences" else "does the following, in this order"
        prompt = (
            f"Write a Python function {FUNCTION}(x) that takes {TAKES[kind]} and {how}:\n{asked}\n"
            f"Examples:\n{shown}\nEnd with the function in one block of Python code (```python).\n"
        )
        code = _source(steps)
        columns = {"tests": tests[: self.visible], "hidden_tests": tests[self.visible :]}
        completion = f"```python\n{code}```"
        return Task([kind, [step.line for step in steps]], prompt, code, completion=completion, columns=columns)


def _steps(rng: random.Random, kind: Kind, number: int) -> list[Step]:
    makers, end = (LIST_STEPS, list_end) if kind == "lists" else (TEXT_STEPS, text_end)
    return [*(rng.choice(makers)(rng) for _ in range(number)), end(rng)]


def _sequence(rng: random.Random, terms: int) -> list[Step]:
    """A recurrence modulo a number: one step, of several lines."""
    first = [rng.randint(0, 9) for _ in range(terms)]
    factors = [rng.choice([-3, -2, -1, 1, 2, 3, 5]) for _ in range(terms)]
    plus, modulus = rng.randint(0, 9), rng.randint(11, 997)
    befores = ["the term before it", *(f"the {ordinal(i)} term before it" for i in range(2, terms + 1))]
    parts = [f"{factor} times {before}" for factor, before in zip(factors, befores, strict=True)]
    names = ", ".join(f"f({i}) = {value}" for i, value in enumerate(first))
    words = (
        f"The term f(x) of the sequence with {names}, in which every later term is the remainder (0 or more) of "
        f"{' plus '.join([*parts, str(plus)])} when divided by {modulus}."
    )
    total = " + ".join([*(f"{factor} * f[-{i}]" for i, factor in enumerate(factors, start=1)), str(plus)])
    lines = [f"f = {first}", "while len(f) <= x:", f"    f.append(({total}) % {modulus})", "return f[x]"]
    return [Step(words, "\n    ".join(lines))]


def _inputs(rng: random.Random, kind: Kind, number: int) -> list[Any]:
    """Different arguments, none of which is empty among the first."""
    found: list[Any] = []
    while len(found) < number:
        if kind == "sequences":
            value: Any = rng.randint(4, 40 + number)
        elif kind == "lists":
            value = [rng.randint(-20, 40) for _ in range(rng.randint(4, 12))]
        else:
            value = "".join(rng.choice(LETTERS[:20] + "aeiou") for _ in range(rng.randint(4, 14)))
        if value not in found:
            found.append(value)
    if kind != "sequences":
        found[-1] = found[-1][:0]
    return found


def _source(steps: Sequence[Step]) -> str:
    body = "".join(f"    {step.line}\n" for step in steps)
    return f"def {FUNCTION}(x):\n{body}"


def _results(steps: Sequence[Step], inputs: Sequence[Any]) -> list[Any] | None:
    """What the function returns, or ``None`` where that grows beyond what a test should hold."""
    space: dict[str, Any] = {}
    exec(_source(steps), space)  # text made of the steps above, and of nothing else
    results = [space[FUNCTION](value) for value in inputs]
    return None if any(len(repr(result)) > 200 for result in results) else results


def _telling(kind: Kind, steps: Sequence[Step], inputs: Sequence[Any], results: Sequence[Any]) -> bool:
    """True where results differ, and where no step could be left out."""
    if len({repr(result) for result in results}) < min(len(results), 3):
        return False
    if kind == "sequences":
        return True
    fewer = ([*steps[:i], *steps[i + 1 :]] for i in range(len(steps) - 1))
    return all(_results(shorter, inputs) != results for shorter in fewer)
