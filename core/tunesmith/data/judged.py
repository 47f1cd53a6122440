"""Prompts with judged answers: the conversations they stand for, and one tree of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from tunesmith.data.chat import checked_messages, checked_text, trained_turns
from tunesmith.data.trees import Branch, Tree

if TYPE_CHECKING:
    from tunesmith.examples import Answer, Judged, Passage

ASSISTANT = "assistant"


class SameAnswers(ValueError):
    """Two answers that are judged differently are the same."""


def written_as_text(example: Judged) -> bool:
    """True where prompt and answers are text, False where they are messages.

    Raises:
        ValueError: some are text and others are messages, or text comes with tools.
    """
    kinds = {"prompt": _is_text(example.prompt, "prompt")}
    kinds |= {answer.name: _is_text(answer.passage, answer.name) for answer in example.answers()}
    if len(set(kinds.values())) > 1:
        words = [f"{name} is {'text' if text else 'messages'}" for name, text in kinds.items()]
        raise ValueError(f"{', '.join(words)}: all must be text, or all messages")
    if kinds["prompt"] and example.tools:
        raise ValueError("there are tools, which only a prompt in messages can have")
    return kinds["prompt"]


def _is_text(passage: Passage, name: str) -> bool:
    if isinstance(passage, str):
        return True
    if not isinstance(passage, Sequence):
        raise ValueError(f"the {name} is {type(passage).__name__}, neither text nor messages")
    return False


def conversation_of(prompt: Passage, answer: Answer) -> list[dict[str, Any]]:
    """The messages of a prompt and an answer, of which only the answer's are trained on.

    Raises:
        ValueError: the prompt has no turn, or the answer does not begin and end with one of the assistant's.
    """
    if not prompt:
        raise ValueError("the prompt has no messages")
    turns = [_turn(turn, answer.name) for turn in answer.passage]
    if not turns:
        raise ValueError(f"{answer.name} has no messages")
    for place, turn in (("begins", turns[0]), ("ends", turns[-1])):
        if turn.get("role") != ASSISTANT:
            raise ValueError(f"{answer.name} {place} with the role {turn.get('role')!r}, not with {ASSISTANT!r}")
    if any(turn.get("weight") == 0 for turn in turns):
        raise ValueError(f"{answer.name} has a turn of weight 0; an answer is judged as a whole")
    asked = [_turn(turn, "the prompt") for turn in prompt]
    return [*({**turn, "weight": 0} if turn.get("role") == ASSISTANT else turn for turn in asked), *turns]


def _turn(turn: Any, where: str) -> dict[str, Any]:
    if not isinstance(turn, Mapping):
        raise ValueError(f"{where} has a turn that is not an object with role and content")
    return dict(turn)


def join(example: Judged, trees: Sequence[Tree]) -> Tree:
    """One tree of the trees of the single answers, whose trunks are the same.

    Raises:
        SameAnswers: two answers of different value are the same.
        ValueError: nothing stands before the answers.
    """
    first = trees[0]
    assert all((tree.trunk == first.trunk).all() for tree in trees if len(tree.trunk) == len(first.trunk))
    assert len({len(tree.trunk) for tree in trees}) == 1, "answers to one prompt have trunks of different length"
    if not len(first.trunk):
        raise ValueError("the prompt is empty, so nothing predicts the first token of an answer")
    answers = example.answers()
    branches = []
    for answer, tree in zip(answers, trees, strict=True):
        [branch] = tree.branches
        branches.append(Branch(branch.ids, branch.mask, answer.value))
    for one, other in indistinct(branches):
        raise SameAnswers(
            f"{answers[one].name} and {answers[other].name} are the same {len(branches[one]):,} tokens, "
            "so neither can be preferred"
        )
    return Tree(first.trunk, tuple(branches), margin=float(example.margin))


def indistinct(branches: Sequence[Branch]) -> list[tuple[int, int]]:
    """Pairs of branches that have different values and the same tokens."""
    return [
        (i, j)
        for (i, one), (j, other) in combinations(enumerate(branches), 2)
        if one.value != other.value and len(one) == len(other) and bool((one.ids == other.ids).all())
    ]


def check_judged(example: Judged) -> None:
    """Raises `ValueError` where no tokenizer could encode the example, `SameAnswers` where none could help."""
    if written_as_text(example):
        checked_text(example.prompt, "prompt", blank=True)
    for answer in example.answers():
        if isinstance(answer.passage, str):
            checked_text(answer.passage, answer.name)
        else:
            trained_turns(checked_messages(conversation_of(example.prompt, answer)), "all")
    for one, other in combinations(example.answers(), 2):
        if one.value != other.value and one.passage == other.passage:
            raise SameAnswers(f"{one.name} and {other.name} say the same, so neither can be preferred")
