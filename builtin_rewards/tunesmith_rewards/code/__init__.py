"""Programs that pass their tests, run in the sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

import tunesmith
from tunesmith import Fault, ResourceError, Reward, Rollout

if TYPE_CHECKING:
    from tunesmith.sandbox import Sandbox
    from tunesmith_rewards.code.cases import Case
    from tunesmith_rewards.code.grading import Rules

FUNCTION_COLUMNS = ("fn_name", "func_name", "entry_point")
SPARE = 0.8
"""Share of the time limit that the tests may take, so that the verdict comes before the worker is ended."""


class Code(Reward):
    """1 where the program in the answer passes all tests of its row, run in a sandbox, else 0.

    The program is the last block of code after the thinking. Tests are objects: ``input`` and ``output`` of a program,
    or ``call``, ``args``, perhaps ``kwargs``, and ``expected`` of a Python function. Also read: objects of lists
    (``inputs``, ``outputs``, ``fn_name``), lines ``assert f(1) == 2``, and all of these as JSON text.
    """

    name: ClassVar[str] = "code"
    verifies: ClassVar[bool] = True
    best: ClassVar[float | None] = 1.0

    timeout: float = Field(default=60.0, gt=0)
    """Seconds that judging one completion may take; tests that have not run by then have failed."""
    language: Literal["python", "c", "c++", "rust", "go", "java", "javascript"] = "python"
    """Language of the programs, compiled with what is installed here."""
    tests: str = "tests"
    """Column of the tests."""
    hidden_tests: str = "hidden_tests"
    """Column of further tests, where a row has it. Both must pass; only you know which the prompt shows."""
    score: Literal["all", "fraction"] = "all"
    """1 where all tests pass and else 0, or the share of tests that pass."""
    seconds: float = Field(default=4.0, gt=0)
    """Processor time of one test; twice that by the clock."""
    compile_seconds: float = Field(default=20.0, gt=0)
    """Processor time of compiling a program; twice that by the clock."""
    memory: int = Field(default=512, ge=32)
    """MiB that a program may hold, all its processes and files together."""
    output: int = Field(default=1024, ge=1)
    """KiB that a program may print."""
    tolerance: float = Field(default=1e-6, ge=0)
    """Allowed difference of numbers that are expected with a point or exponent, absolute up to 1 and relative above."""
    thinking: tuple[str, ...] = ("think", "thinking")
    """Tags of the thinking block, whose content is no answer."""
    concurrency: int = Field(default=1, ge=1)
    """Tests of one completion that run at a time; completions are judged in several workers already."""
    sandbox: Literal["auto", "bubblewrap", "landlock"] = "auto"
    """How programs are shut in; auto: the strongest way that works here, see `tunesmith doctor sandbox`."""

    def columns(self) -> Iterable[str]:
        """The column of the tests."""
        return (self.tests,)

    def warm(self) -> None:
        """Compile and run a small program in the sandbox. Raises `ResourceError` where that does not work."""
        from tunesmith_rewards.code.cases import Printed
        from tunesmith_rewards.code.grading import BrokenSandboxError
        from tunesmith_rewards.code.languages import LANGUAGES

        try:
            found = self.verdicts(LANGUAGES[self.language].sample, [Printed("20011 7\n", "20018")])
        except BrokenSandboxError as error:
            found = [str(error)]
        if found != ["pass"]:
            tier = _sandbox(self.sandbox, self.concurrency).tier
            raise ResourceError(
                f"programs in {self.language} do not work in the sandbox {tier}",
                why=f"of a small program came: {found[0]}",
                fix="see `tunesmith doctor sandbox`, and give it more seconds and memory",
            )

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """A program to write, with tests; in Python also a function."""
        from tunesmith_rewards.code.languages import LANGUAGES

        language = LANGUAGES[self.language]
        block = f"<think>Easy.</think>Here it is:\n```{language.marks[0]}\n{language.sample}```"
        tests: list[Mapping[str, Any]] = [
            {"input": "20011 7\n", "output": "20018\n"}, {"input": "-5 3\n", "output": "-2"},
        ]  # fmt: skip
        prompt = "Read two whole numbers and print their sum."
        yield {"prompt": prompt, self.tests: tests, "completion": block}
        if self.language == "python":
            calls = [{"call": "twice", "args": [text], "expected": text * 2} for text in ("ab", "")]
            code = "```python\ndef twice(text):\n    return text + text\n```"
            yield {"prompt": "Write twice(text): the text, two times.", self.tests: calls, "completion": code}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float | Fault | None]:
        """1.0 for a program that passes (or the share of tests); tests that cannot be read are an error."""
        return [self._judge(rollout) for rollout in rollouts]

    def _judge(self, rollout: Rollout) -> float | Fault:
        from tunesmith_rewards.code.grading import BrokenSandboxError

        try:
            cases = self._cases(rollout.columns)
        except ValueError as error:
            return Fault("error", str(error))
        source = self.source(rollout.text)
        if source is None:
            return 0.0
        try:
            passed = [verdict == "pass" for verdict in self.verdicts(source, cases)]
        except BrokenSandboxError as error:
            return Fault("infrastructure", str(error))
        if self.score == "fraction":
            return sum(passed) / len(cases)
        return float(len(passed) == len(cases) and all(passed))

    def source(self, text: str) -> str | None:
        """The program in an answer, or ``None`` where there is none."""
        from tunesmith.passages import after_thinking, last_code_block
        from tunesmith_rewards.code.languages import LANGUAGES

        rest = after_thinking(text, self.thinking)
        found = None if rest is None else last_code_block(rest, LANGUAGES[self.language].marks)
        try:
            (found or "").encode()
        except UnicodeEncodeError:  # half of a surrogate pair: no compiler reads it
            return None
        return found

    def verdicts(self, source: str, cases: Sequence[Case]) -> list[str]:
        """What became of each test; with ``score: all`` up to the first that failed."""
        from tunesmith_rewards.code.grading import grade
        from tunesmith_rewards.code.languages import find

        sandbox = _sandbox(self.sandbox, self.concurrency)
        return list(grade(source, cases, find(self.language), sandbox, self._rules()))

    def _cases(self, columns: Mapping[str, Any]) -> list[Case]:
        from tunesmith_rewards.code.cases import Called, read_cases

        function = next((columns[name] for name in FUNCTION_COLUMNS if columns.get(name) is not None), None)
        found: list[Case] = []
        for column in (self.tests, self.hidden_tests):
            if column == self.tests or columns.get(column) is not None:
                try:
                    found += read_cases(columns.get(column), function)
                except ValueError as error:
                    raise ValueError(f"column {column!r}: {error}") from None
        if self.language != "python" and any(isinstance(case, Called) for case in found):
            raise ValueError(f"column {self.tests!r}: functions are called in python only, not in {self.language}")
        return found

    def _rules(self) -> Rules:
        from tunesmith.sandbox import Limits
        from tunesmith_rewards.code.grading import Rules

        wall, memory, output = 2 * self.seconds, self.memory * 2**20, self.output * 2**10
        return Rules(
            limits=Limits(wall=wall, cpu=self.seconds, memory=memory, output=output),
            total=SPARE * self.timeout,
            compile_seconds=min(self.compile_seconds, SPARE * self.timeout / 2),
            tolerance=self.tolerance,
            every=self.score == "fraction",
        )


@cache
def _sandbox(tier: Literal["auto", "bubblewrap", "landlock"], concurrency: int) -> Sandbox:
    from tunesmith.sandbox import Sandbox

    return Sandbox(tier, concurrency=concurrency)


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Code]
