"""Sums and differences with a worked answer."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field, model_validator

from tunesmith import Row, Source
from tunesmith_plugins.sources.generated import as_messages

REVISION = 1
"""Grows when the same settings give other rows."""
TEST_SHARE = 0.2


class Arithmetic(Source):
    """Generated additions and subtractions: prompt, completion (worked digit by digit) and answer.

    No problem comes twice. Train and test never share a pair of numbers, in either order or operation, whatever
    their seeds and digits are.
    """

    name: ClassVar[str] = "arithmetic"

    num_rows: int = Field(default=1000, ge=1, validation_alias=AliasChoices("num_rows", "rows"))
    """How many problems; also written ``rows``. Fewer rows are a prefix of more."""
    digits: int = Field(default=2, ge=1, le=12)
    """Digits of the numbers, at most."""
    split: Literal["train", "test"] = "train"
    """Which part of all pairs of numbers to draw from: four fifths are for train, the rest for test."""
    seed: int = Field(default=0, ge=0)
    """Seed of the drawing."""
    chat: bool = False
    """Write prompt and completion as messages, so that the model's chat template is applied."""
    thinking_tag: str | None = Field(default=None, pattern="^[a-z]+$")
    """Write the working between <TAG> and </TAG>, as a cold start for rewards that want it there."""

    @model_validator(mode="after")
    def _enough_problems(self) -> Arithmetic:
        # at most half of the problems that exist: drawing without repetition then ends soon
        numbers = 10**self.digits
        problems = numbers**2 + numbers * (numbers + 1) // 2
        share = TEST_SHARE if self.split == "test" else 1 - TEST_SHARE
        most = int(problems * share / 2)
        if self.num_rows > most:
            raise ValueError(f"num_rows is at most {most:,} for {self.digits} digits in {self.split}; raise digits")
        return self

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """A few problems."""
        return {"num_rows": 20}

    def rows(self) -> Iterator[Row]:
        """Yield the problems, drawn evenly over all pairs of numbers."""
        rng = random.Random(f"{self.seed}/{self.digits}/{self.split}")
        seen: set[tuple[int, str, int]] = set()
        while len(seen) < self.num_rows:
            a, b, sign = rng.randrange(10**self.digits), rng.randrange(10**self.digits), rng.choice("+-")
            if sign == "-" and a < b:
                a, b = b, a
            problem = (a, sign, b)
            if problem in seen or (_in_test(a, b) != (self.split == "test")):
                continue
            seen.add(problem)
            answer = str(a + b if sign == "+" else a - b)
            data = {
                "prompt": f"What is {a} {sign} {b}?\n",
                "completion": f"{self._working(a, sign, b)}\nAnswer: {answer}",
                "answer": answer,
            }
            yield Row(as_messages(data) if self.chat else data, self.label(), len(seen))

    def fingerprint(self) -> str:
        """A hash of the settings, from which the rows follow."""
        settings = (REVISION, self.num_rows, self.digits, self.split, self.seed, self.chat)
        tag = self.thinking_tag or ""
        return hashlib.sha256(f"{settings!r}{tag}".encode()).hexdigest()

    def label(self) -> str:
        """The name, and the split where it is not train."""
        return self.name if self.split == "train" else f"{self.name}-{self.split}"

    def _working(self, a: int, sign: str, b: int) -> str:
        working = worked(a, sign, b)
        return f"<{self.thinking_tag}>{working}</{self.thinking_tag}>" if self.thinking_tag else working


def _in_test(a: int, b: int) -> bool:
    """The same for both orders of a pair."""
    digest = hashlib.sha256(f"{min(a, b)} {max(a, b)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < TEST_SHARE * 2**32


def worked(a: int, sign: str, b: int) -> str:
    """Column addition, or subtraction where ``a >= b``: one line per digit, from the right."""
    lines, carry = [], 0
    for x, y in zip_longest(reversed(str(a)), reversed(str(b)), fillvalue="0"):
        rest = f" {sign} 1" if carry else ""
        if sign == "+":
            top, total = int(x), int(x) + int(y) + carry
            carry, word = total // 10, "carry"
        else:
            borrow = int(x) - int(y) - carry < 0
            top = int(x) + 10 * borrow
            total = top - int(y) - carry
            carry, word = int(borrow), "borrow"
        lines.append(f"{top} {sign} {y}{rest} = {total}, write {total % 10}{f', {word} 1' if carry else ''}")
    if carry:
        lines.append("write 1")
    return "\n".join(lines)
