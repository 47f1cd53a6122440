"""One well-formed block of reasoning, then an answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

import tunesmith
from tunesmith import Reward, Rollout

TAG = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
ECHO_LENGTH = 20
"""A shorter prompt is no evidence: the answer to "2 + 2?" may well be found in it."""


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class Format(Reward):
    """1 for exactly one block of reasoning between tags followed by an answer and nothing else, otherwise 0."""

    name: ClassVar[str] = "format"
    best: ClassVar[float | None] = 1.0
    thinking: Annotated[
        tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=str | tuple[str, ...]), Field(min_length=1)
    ] = ("thinking", "think")
    """Tags that may enclose the reasoning: <thinking>...</thinking>. A completion uses one of them, once."""
    answer: str | None = None
    """Tag that must enclose the whole answer; by default the answer is what follows the reasoning."""
    opened_by: Literal["auto", "prompt", "completion"] = "auto"
    """Who writes the opening tag. auto: the prompt, where its text ends with that tag. A chat template may add the tag
    where this cannot be seen, then say prompt."""
    min_thinking: int = Field(default=10, ge=1)
    """Letters and digits of reasoning at least, apart from what it copies from the prompt."""
    min_answer: int = Field(default=1, ge=1)
    """Letters and digits of the answer at least."""
    partial: bool = False
    """Give 0.2 for each of: the opening tag, the closing tag, an answer after it. Never without reasoning."""

    @model_validator(mode="after")
    def _tags(self) -> Self:
        tags = [*self.thinking, *([self.answer] if self.answer is not None else [])]
        for tag in tags:
            if not TAG.fullmatch(tag):
                raise ValueError(f"{tag!r} is no name of a tag; write it without < and >, such as think")
        if len({tag.lower() for tag in tags}) < len(tags):
            raise ValueError(f"the tags must differ from each other, in more than capital letters: {', '.join(tags)}")
        return self

    def samples(self) -> Iterable[Mapping[str, Any]]:
        """A sum, reasoned about with each of the tags."""
        for tag in self.thinking:
            said = f"<{self.answer}>42</{self.answer}>" if self.answer else "The sum is 42."
            reason = "Seventeen and twenty-five: tens make thirty, units make twelve. " * (1 + self.min_thinking // 40)
            said += " Quod erat demonstrandum." * (self.min_answer // 10) if not self.answer else ""
            before = f"<{tag}>\n" if self.opened_by != "prompt" else ""
            yield {"prompt": "What is 17 + 25?", "completion": f"{before}{reason}</{tag}>\n{said}"}

    def __call__(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Score every completion by its own text and prompt alone."""
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float:
        text, prompt = rollout.text, _text_of(rollout.prompt)
        opened = self._opened(rollout, prompt)
        ends = [match.end() for match in re.finditer(rf"</(?:{'|'.join(self.thinking)})>", text)]
        if self._echo(_bare(self._without_tags(text[: ends[-1]] if ends else text)), prompt):
            return 0.0
        for tag in self.thinking if opened is None else (opened,):
            body = text if opened is None else f"<{tag}>{text}"
            if not rollout.truncated and self._well_formed(body, tag, prompt):
                return 1.0
        return self._parts(text, opened, prompt) if self.partial else 0.0

    def _opened(self, rollout: Rollout, prompt: str) -> str | None:
        """The tag that the prompt has opened already."""
        if self.opened_by == "completion":
            return None
        written = isinstance(rollout.prompt, str) or (rollout.prompt and rollout.prompt[-1].get("role") == "assistant")
        end = prompt.rstrip() if written else ""
        found = next((tag for tag in self.thinking if end.endswith(f"<{tag}>")), None)
        if found is None and self.opened_by == "prompt":
            return next((tag for tag in self.thinking if f"</{tag}>" in rollout.text), self.thinking[0])
        return found

    def _well_formed(self, text: str, tag: str, prompt: str) -> bool:
        body = text.strip()
        opening, closing = f"<{tag}>", f"</{tag}>"
        if not body.startswith(opening) or len(self._marks(self.thinking, body)) != 2 or body.count(closing) != 1:
            return False
        reasoning, _, said = body.removeprefix(opening).partition(closing)
        if self.answer is not None:
            unwrapped = self._unwrapped(body, said.strip())
            if unwrapped is None:
                return False
            said = unwrapped
        enough = len(_bare(said)) >= self.min_answer
        return enough and not self._echo(_bare(reasoning), prompt) and not _repeats(_bare(said), prompt)

    def _unwrapped(self, body: str, said: str) -> str | None:
        """What the answer's tags enclose, or ``None`` where there is not exactly one pair around all of it."""
        opening, closing = f"<{self.answer}>", f"</{self.answer}>"
        if len(self._marks((str(self.answer),), body)) != 2 or not said.startswith(opening):
            return None
        return said[len(opening) : -len(closing)] if said.endswith(closing) else None

    def _marks(self, tags: Sequence[str], text: str) -> list[str]:
        """Everything that looks like one of the tags, however it is spelt; a lookalike breaks the format too."""
        return re.findall(rf"<\s{{0,4}}/?\s{{0,4}}(?:{'|'.join(tags)})\b[^<>]{{0,80}}>", text, flags=re.IGNORECASE)

    def _without_tags(self, text: str) -> str:
        tags = [*self.thinking, *([self.answer] if self.answer else [])]
        return re.sub(rf"</?(?:{'|'.join(tags)})>", " ", text)

    def _echo(self, reasoning: str, prompt: str) -> bool:
        """True for reasoning that says next to nothing, or nothing that the prompt does not say."""
        asked = _bare(prompt)
        own = reasoning.replace(asked, "") if len(asked) >= ECHO_LENGTH else reasoning
        copied = len(reasoning) >= ECHO_LENGTH and reasoning in asked
        return copied or len(own) < self.min_thinking

    def _parts(self, text: str, opened: str | None, prompt: str) -> float:
        """0.2 for each part that is there once and in its place."""
        marks = self._marks(self.thinking, text)
        first = next((tag for tag in self.thinking if text.lstrip().startswith(f"<{tag}>")), None)
        closings = [f"</{tag}>" for tag in self.thinking if (opened or first or tag) == tag]
        closed = [mark for mark in marks if mark.lstrip("< ").startswith("/")]
        starts = first is None if opened else first is not None
        once = starts and len(marks) - len(closed) == (opened is None)
        ends = len(closed) == 1 and closed[0] in closings
        said = _bare(self._without_tags(text.partition(closed[0])[2])) if ends else ""
        answered = ends and len(said) >= self.min_answer and not _repeats(said, prompt)
        return (once + ends + answered) / 5


def _text_of(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """The prompt as text: of messages, all that is said, the last at the end."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(turn["content"] for turn in prompt if isinstance(turn.get("content"), str))


def _bare(text: str) -> str:
    """Letters and digits alone: neither spaces, signs nor invisible characters make a text longer or another."""
    return "".join(filter(str.isalnum, text.casefold()))


def _repeats(said: str, prompt: str) -> bool:
    """True for an answer that is the prompt again."""
    asked = _bare(prompt)
    return len(asked) >= ECHO_LENGTH and (said == asked or (asked in said and not said.replace(asked, "")))


@tunesmith.hookimpl
def tunesmith_register_rewards() -> list[type[Reward]]:
    """Register the reward."""
    return [Format]
