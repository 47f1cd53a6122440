"""Answers that a model has given, as rows to train on: what a run writes to samples.jsonl, or ``tunesmith eval``."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from tunesmith import DataError, Row, Source
from tunesmith_plugins.sources import readers

REVISION = 1
"""Grows when the same file gives other rows."""
log = logging.getLogger(__name__)
_SAID: set[str] = set()
"""What was said already: rows are read several times."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A judged answer: its prompt as a key, and where it stands."""

    key: str
    reward: float
    data: Mapping[str, Any]
    row: Row


class Samples(Source):
    """Answers with rewards, as samples.jsonl of a run and ``eval --output`` have them, as rows to train on.

    Answers that were cut off, that are blank or that no reward could judge are left out, and so are those that say the
    same to the same prompt again. How many answers are left out, and why, is said.
    """

    name: ClassVar[str] = "samples"

    path: str = Field(min_length=1)
    """File of judged answers, one JSON object a line."""
    take: Literal["demonstrations", "pairs", "labels"] = "demonstrations"
    """demonstrations: the right answers (rejection sampling). pairs: of each prompt the best with the worst answer,
    where their rewards differ. labels: every answer, good where it is right and bad where it is not."""
    right: float = 1.0
    """A reward of at least this is right."""
    reward: str | None = None
    """Label of the reward that decides; by default the weighted sum of all."""
    per_prompt: int | None = Field(default=None, ge=1)
    """Demonstrations or labels of one prompt at most, the first ones in the file."""

    @classmethod
    def settings_for_checks(cls, folder: Path) -> Mapping[str, Any]:
        """A right and a wrong answer to a prompt."""
        path = folder / "samples.jsonl"
        lines = [{"prompt": "2 + 2 = ", "completion": said, "reward": said == "4", "stop": "eos"} for said in "45"]
        path.write_text("".join(json.dumps({**line, "reward": float(line["reward"])}) + "\n" for line in lines))
        return {"path": str(path)}

    def rows(self) -> Iterator[Row]:
        """Yield what the answers are taken for. Raises `DataError` where no row comes of them, or none can be read."""
        lost: Counter[str] = Counter()
        read = made = 0
        answers: list[Answer] = []
        for row in readers.read(self._file(), "jsonl", name=self.path):
            read += 1
            if row.problem:
                yield row
                continue
            answer = self._answer(row, lost)
            if isinstance(answer, Row):
                yield answer
            elif answer is not None:
                answers.append(answer)
        for row in self._taken(_each_once(answers, lost), lost):
            made += 1
            yield row
        left = ", ".join(f"{count:,} {why}" for why, count in lost.items())
        if not made:
            raise DataError(
                f"none of the {read:,} answers can be taken for {self.take}", where=self.path, why=left or None,
                fix="sample more answers, from a better model, or lower `right`",
            )  # fmt: skip
        said = f"{self.label()}: {made:,} {self.take} of {read:,} answers{left and f'; {left}'}"
        if said not in _SAID:
            _SAID.add(said)
            log.info(said)

    def _answer(self, row: Row, lost: Counter[str]) -> Answer | Row | None:
        """The answer of a line; a row with a problem for a line that is no answer; nothing for one to leave out."""
        data = row.data
        missing = [name for name in ("prompt", "completion", "reward") if name not in data]
        if missing:
            return Row({}, row.file, row.line, f"it has no {', no '.join(missing)}: it is no line of judged answers")
        said = data["rewards"].get(self.reward) if self.reward and "rewards" in data else data["reward"]
        if self.reward and self.reward not in data.get("rewards", {}):
            known = ", ".join(data.get("rewards", {})) or "none"
            return Row({}, row.file, row.line, f"it has no reward {self.reward!r}; rewards: {known}")
        for why, left_out in {
            "cut off": data.get("stop") == "length",
            "not judged": said is None,
            "blank": not _text(data["completion"]).strip(),
        }.items():
            if left_out:
                lost[why] += 1
                return None
        return Answer(json.dumps(data["prompt"], sort_keys=True), float(said), data, row)

    def _taken(self, answers: Iterable[Answer], lost: Counter[str]) -> Iterator[Row]:
        if self.take == "pairs":
            yield from self._pairs(answers, lost)
            return
        counts: Counter[str] = Counter()
        for answer in answers:
            good = answer.reward >= self.right
            if self.take == "demonstrations" and not good:
                lost["wrong"] += 1
            elif self.per_prompt is not None and counts[answer.key] >= self.per_prompt:
                lost["more than per_prompt"] += 1
            else:
                counts[answer.key] += 1
                label = {"label": good} if self.take == "labels" else {}
                yield _row(answer, completion=answer.data["completion"], **label)

    def _pairs(self, answers: Iterable[Answer], lost: Counter[str]) -> Iterator[Row]:
        prompts: dict[str, list[Answer]] = {}
        for answer in answers:
            prompts.setdefault(answer.key, []).append(answer)
        for group in prompts.values():
            best, worst = max(group, key=lambda one: one.reward), min(group, key=lambda one: one.reward)
            if best.reward == worst.reward:
                lost["of prompts whose answers are equally good"] += len(group)
                continue
            lost["between the best and the worst"] += len(group) - 2
            yield _row(best, chosen=best.data["completion"], rejected=worst.data["completion"])
        lost += Counter()  # drops what was counted as 0

    def fingerprint(self) -> str:
        """A hash of the file's bytes and of the settings."""
        digest = hashlib.sha256(repr((REVISION, self.take, self.right, self.reward, self.per_prompt)).encode())
        digest.update(self._file().read_bytes())
        return digest.hexdigest()

    def label(self) -> str:
        """The names of the file's folder and of the file: rl-samples."""
        path = Path(os.path.abspath(os.path.expanduser(self.path)))
        return "-".join(part for part in (path.parent.name, readers.stem(path.name)) if part)

    def _file(self) -> Path:
        path = Path(os.path.expanduser(self.path))
        if not path.is_file():
            raise DataError("there is no such file of answers", where=self.path)
        return path


def _row(answer: Answer, **columns: Any) -> Row:
    return Row({"prompt": answer.data["prompt"], **columns}, answer.row.file, answer.row.line)


def _each_once(answers: Iterable[Answer], lost: Counter[str]) -> Iterator[Answer]:
    seen: set[tuple[str, str]] = set()
    for answer in answers:
        said = (answer.key, json.dumps(answer.data["completion"], sort_keys=True))
        if said in seen:
            lost["said before"] += 1
        else:
            seen.add(said)
            yield answer


def _text(completion: Any) -> str:
    """What is said, of text or of messages."""
    if isinstance(completion, str):
        return completion
    return "".join(str(turn.get("content", "")) for turn in completion if isinstance(turn, Mapping))
