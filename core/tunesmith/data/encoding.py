"""From typed rows to token trees.

A text is cut where a model will go on by itself (after a prompt, after what opens an assistant turn), and the parts
are tokenised one by one: a trunk then depends on the prompt alone, exactly as it does when the model is used, and no
token lies across a border. All parts of many rows go through the tokenizer together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.chat import ChatTemplate, TrainOn, Turn, checked_messages, checked_text
from tunesmith.data.judged import conversation_of, join, written_as_text
from tunesmith.data.tokenization import bos_prefix, load_tokenizer, train_tokenizer
from tunesmith.data.trees import Branch, Ids, Mask, Tree
from tunesmith.errors import ConfigError
from tunesmith.examples import Completion, Conversation, Judged, Prompt, Text

if TYPE_CHECKING:
    from tunesmith.examples import Example, Message

__all__ = ["Encoder", "load_tokenizer", "train_tokenizer"]
Encoded = tuple[list[int], list[tuple[int, int]]]
"""Token ids, and the characters that each stands for (empty where they are not needed)."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text that is tokenised by itself.

    Attributes:
        text: the characters.
        trained: how many of them, from the first, are trained on.
        turn: the assistant turn that they begin with, when it must end with a token that stops generation.
    """

    text: str
    trained: int
    turn: Turn | None = None

    @property
    def cut(self) -> bool:
        """True where offsets are needed to tell trained tokens from others."""
        return 0 < self.trained < len(self.text) or self.turn is not None


@dataclass(frozen=True, slots=True)
class Draft:
    """An example before tokenisation; ``whole``: all of it is one branch, with no trunk; ``close``: add the EOS."""

    parts: tuple[Part, ...]
    whole: bool = False
    close: bool = True


class Encoder:
    """Turns examples into trees with one tokenizer.

    Args:
        tokenizer: of transformers.
        train_on: assistant turns to train on, all or the last one.

    Attributes:
        bos_id: the token that this tokenizer puts in front of a text by itself, or ``None``.
        eos_id: the end-of-text token.

    Raises:
        ConfigError: the tokenizer has no end-of-text token.
    """

    def __init__(self, tokenizer: Any, *, train_on: TrainOn = "all") -> None:
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                "the tokenizer has no end-of-text token, so a model could not learn to stop",
                fix="set eos_token in its tokenizer_config.json",
            )
        if train_on not in ("all", "last"):
            raise ConfigError(f"train_on must be all or last, not {train_on!r}")
        self.tokenizer, self.train_on = tokenizer, train_on
        self.chat = ChatTemplate(tokenizer)
        self.prefix = bos_prefix(tokenizer)
        self.bos_id: int | None = self.prefix[0] if self.prefix else None
        self.eos_id = int(tokenizer.eos_token_id)
        self._control = {self.eos_id, *tokenizer.all_special_ids}
        self._control |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._anchor = self._find_anchor()
        self._stop_ids: frozenset[int] | None = None

    # ------------------------------------------------------------------------------------------ one example
    def document(self, text: str) -> Tree:
        """A document: no trunk, every token trained on but a BOS. Raises `ValueError` for one that is blank."""
        return self._tree(self._document(text))

    def completion(self, prompt: str, completion: str) -> Tree:
        """A prompt as the trunk, its completion and the EOS as the branch. Raises `ValueError` for a blank one."""
        return self._tree(self._completion(prompt, completion))

    def conversation(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None) -> Tree:
        """A chat in the tokenizer's template: the trunk ends where the first trained turn begins.

        Trained on are the assistant's tokens and the one that ends its turn. Tokens after the last trained one are
        left out: no loss depends on them.

        Raises:
            ValueError: naming the turn that is wrong or that the template cannot show.
            ConfigError: the tokenizer has no chat template, or cannot say where its tokens stand in the text.
        """
        return self._tree(self._conversation(messages, tools, self.train_on))

    def judged(self, example: Judged) -> Tree:
        """A prompt as the trunk and its answers as branches, each encoded as the answer of `completion` or the last
        turns of `conversation`.

        Raises:
            ValueError: as these two, and for answers of different value that are the same tokens.
            ConfigError: as `conversation`.
        """
        results = list(self._trees(self._judged(example)))
        return _joined(example, results)

    def prompt(self, example: Prompt) -> Tree:
        """A prompt alone, as the trunk that `completion` or `conversation` would give it; ``about`` says what it is.

        Raises:
            ValueError: the prompt is empty, or its messages end with the assistant's.
            ConfigError: as `conversation`.
        """
        return _joined(example, [self._tree(self._prompt(example))])

    # ------------------------------------------------------------------------------------------ many examples
    def encode_all(self, examples: Sequence[Example]) -> list[Tree | ValueError]:
        """The tree of every example, or the reason why it has none; in one pass through the tokenizer."""
        plans: list[Tree | ValueError | Sequence[Draft]] = []
        for example in examples:
            try:
                plans.append(self._drafts(example) or example.encode(self))
            except ValueError as error:
                plans.append(error)
        drafts = [draft for plan in plans if isinstance(plan, Sequence) for draft in plan]
        trees = self._trees(drafts)
        results: list[Tree | ValueError] = []
        for example, plan in zip(examples, plans, strict=True):
            if not isinstance(plan, Sequence):
                results.append(plan)
                continue
            try:
                results.append(_joined(example, [next(trees) for _ in plan]))
            except ValueError as error:
                results.append(error)
        return results

    def _drafts(self, example: Example) -> Sequence[Draft]:
        """What is tokenised for an example; nothing where it encodes itself in a way of its own, as subclasses may."""
        if type(example) is Text:
            return [self._document(example.text)]
        if type(example) is Completion:
            return [self._completion(example.prompt, example.completion)]
        if type(example) is Conversation:
            return [self._conversation(example.messages, example.tools, self.train_on)]
        if type(example) is Prompt:
            return [self._prompt(example)]
        if isinstance(example, Judged) and type(example).encode is Judged.encode:
            return self._judged(example)
        return []

    def _prompt(self, example: Prompt) -> Draft:
        if isinstance(example.prompt, str):
            if example.tools:
                raise ValueError("there are tools, which only a prompt in messages can have")
            return Draft((Part(checked_text(example.prompt, "prompt", blank=True), 0),), close=False)
        turns = checked_messages(example.prompt, answered=False)
        schemas = _schemas(example.tools)
        self.chat.check_shown(turns, schemas)
        text, _ = self.chat.render(turns, schemas, open_turn=True)
        return Draft((Part(checked_text(text, "prompt"), 0),), close=False)

    def _judged(self, example: Judged) -> Sequence[Draft]:
        answers = example.answers()
        if written_as_text(example):
            prompt = checked_text(example.prompt, "prompt", blank=True)
            parts = [(answer.name, checked_text(answer.passage, answer.name)) for answer in answers]
            return [Draft((Part(prompt, 0), Part(text, len(text)))) for _, text in parts]
        drafts = []
        for answer in answers:
            try:
                drafts.append(self._conversation(conversation_of(example.prompt, answer), example.tools, "all"))
            except ValueError as error:
                raise ValueError(f"prompt and {answer.name}: {error}") from None
        if len({draft.parts[0].text for draft in drafts}) > 1:
            raise ValueError("the chat template writes the prompt differently before each of the answers")
        return drafts

    def _document(self, text: str) -> Draft:
        return Draft((Part(checked_text(text, "text"), len(text)),), whole=True)

    def _completion(self, prompt: str, completion: str) -> Draft:
        checked_text(prompt, "prompt", blank=True)
        return Draft((Part(prompt, 0), Part(checked_text(completion, "completion"), len(completion))))

    def _conversation(self, messages: Any, tools: Any, train_on: TrainOn) -> Draft:
        schemas = _schemas(tools)
        if not self.tokenizer.is_fast:
            raise ConfigError(
                "this tokenizer does not say where its tokens stand in the text, so turns cannot be told apart",
                why=f"{type(self.tokenizer).__name__} has no tokenizer.json",
                fix="convert it to a fast tokenizer",
            )
        text, turns = self.chat.turns(checked_messages(messages), schemas, train_on)
        checked_text(text, "conversation")
        starts = [0, *(turn.start for turn in turns)]
        ends = [*starts[1:], len(text)]
        parts = [Part(text[: ends[0]], 0)]
        for i, turn in enumerate(turns):
            closes = i + 1 == len(turns) or turns[i + 1].number != turn.number
            parts.append(Part(text[turn.start : ends[i + 1]], turn.end - turn.start, turn if closes else None))
        return Draft(tuple(parts), close=False)

    # ------------------------------------------------------------------------------------------ tokens
    def _tree(self, draft: Draft) -> Tree:
        result = next(self._trees([draft]))
        if isinstance(result, ValueError):
            raise result
        return result

    def _trees(self, drafts: Sequence[Draft]) -> Iterator[Tree | ValueError]:
        parts = [
            (part, any(before.text for before in draft.parts[:i]))
            for draft in drafts
            for i, part in enumerate(draft.parts)
        ]
        known: dict[tuple[str, bool, bool], Encoded] = {}
        for cut in (False, True):
            # answers to one prompt share it: a text is tokenised once
            texts = list(dict.fromkeys((part.text, go_on) for part, go_on in parts if part.cut is cut and part.text))
            results = self._tokenise([text for text, _ in texts], [go_on for _, go_on in texts], cut)
            known |= {(*text, cut): result for text, result in zip(texts, results, strict=True)}
        encoded = [known.get((part.text, go_on, part.cut), ([], [])) for part, go_on in parts]
        following = iter(encoded)
        for draft in drafts:
            own = [next(following) for _ in draft.parts]
            try:
                yield self._assemble(draft, own)
            except ValueError as error:
                yield error

    def _tokenise(self, texts: list[str], inner: list[bool], offsets: bool) -> list[Encoded]:
        """``inner``: the text goes on from another, so what a tokenizer puts before a first word does not belong."""
        if not texts:
            return []
        anchor, anchor_ids = self._anchor
        sent = [anchor + text if go_on else text for text, go_on in zip(texts, inner, strict=True)]
        out = self._call(sent, offsets)
        places = out["offset_mapping"] if offsets else [[]] * len(sent)
        results: list[Encoded] = []
        for text, go_on, ids, place in zip(texts, inner, out["input_ids"], places, strict=True):
            if not (go_on and anchor):
                results.append((ids, place))
            elif ids[: len(anchor_ids)] == anchor_ids:
                shifted = [(start - len(anchor), end - len(anchor)) for start, end in place[len(anchor_ids) :]]
                results.append((ids[len(anchor_ids) :], shifted))
            else:  # the anchor has merged with the text
                alone = self._call([text], offsets)
                results.append((alone["input_ids"][0], alone["offset_mapping"][0] if offsets else []))
        return results

    def _call(self, texts: list[str], offsets: bool) -> Any:
        return self.tokenizer(
            texts,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=offsets,
            verbose=False,
        )

    def _find_anchor(self) -> tuple[str, list[int]]:
        """A text that keeps the tokenizer from putting a space before the first word; empty where it puts none."""
        newline, word, both = self._call(["\n", "a", "\na"], False)["input_ids"]
        if newline + word == both or both[: len(newline)] != newline or not newline:
            return "", []
        return "\n", newline

    def _assemble(self, draft: Draft, encoded: Sequence[Encoded]) -> Tree:
        ids: list[int] = []
        mask: list[bool] = []
        for part, (own, offsets) in zip(draft.parts, encoded, strict=True):
            trained = self._num_trained(part, own, offsets, self.stop_ids) if part.cut else len(own)
            ids += own
            mask += [part.trained > 0] * trained + [False] * (len(own) - trained)
        if tuple(ids[: len(self.prefix)]) != self.prefix:
            ids, mask = [*self.prefix, *ids], [False] * len(self.prefix) + mask
        elif draft.whole and self.prefix:
            mask[: len(self.prefix)] = [False] * len(self.prefix)
        if draft.close and (not ids or ids[-1] != self.eos_id):
            ids, mask = [*ids, self.eos_id], [*mask, True]
        all_ids, all_mask = np.array(ids, dtype=np.int32), np.array(mask, dtype=np.bool_)
        return _cut(all_ids, all_mask, 0 if draft.whole else None)

    def _num_trained(self, part: Part, ids: list[int], places: Sequence[tuple[int, int]], stops: frozenset[int]) -> int:
        """How many tokens of a part are trained on: up to the one that ends the turn.

        Raises:
            ValueError: the turn ends without such a token.
        """
        count = bisect_left(places, part.trained, key=lambda place: place[0])
        if part.turn is None:
            return count
        end = count
        while end and ids[end - 1] not in self._control and not part.text[places[end - 1][0] : part.trained].strip():
            end -= 1
        if end and ids[end - 1] in self._control and not part.text[places[end - 1][1] : part.trained].strip():
            return end
        if count < len(ids) and ids[count] in stops:  # the template's mark stops short of it
            return count + 1
        raise ValueError(
            f"{part.turn.name} ends without a token that stops generation: after it the chat template writes "
            f"{part.text[-20:]!r}, none of whose tokens is special"
        )

    # ------------------------------------------------------------------------------------------ where to stop
    @property
    def stop_ids(self) -> frozenset[int]:
        """The EOS and every token that ends an assistant turn in the chat template."""
        if self._stop_ids is None:
            self._stop_ids = frozenset({self.eos_id})
            if self.tokenizer.chat_template and self.tokenizer.is_fast:
                self._stop_ids |= set(self._turn_ends())
        return self._stop_ids

    def _turn_ends(self) -> Iterator[int]:
        """What ends the last turn of a short conversation, with and without the call of a tool."""
        call = {"type": "function", "function": {"name": "f", "arguments": {}}}
        answers: list[dict[str, Any]] = [{"content": "a"}, {"content": "", "tool_calls": [call]}]
        for answer in answers:
            messages = [{"role": "user", "content": "a"}, {"role": "assistant", **answer}]
            try:
                text, turns = self.chat.turns(messages, None, "last")
            except ValueError:
                continue
            part = Part(text[turns[-1].start :], turns[-1].end - turns[-1].start, turns[-1])
            [(ids, places)] = self._tokenise([part.text], [True], True)
            try:
                yield ids[self._num_trained(part, ids, places, frozenset(self._control)) - 1]
            except ValueError:
                continue


def _joined(example: Example, results: Sequence[Tree | ValueError]) -> Tree:
    trees = []
    for result in results:
        if isinstance(result, ValueError):
            raise result
        trees.append(result)
    if isinstance(example, Prompt):
        return _asked(example, trees[0])
    return join(example, trees) if isinstance(example, Judged) else trees[0]


def _asked(example: Prompt, tree: Tree) -> Tree:
    """All tokens as the trunk. Raises `ValueError` where there is none to go on from."""
    ids = np.concatenate([tree.trunk, *(branch.ids for branch in tree.branches)])
    if not len(ids):
        raise ValueError("the prompt is empty, so nothing predicts the first token of an answer")
    return Tree(ids, (), about={"prompt": example.prompt, "columns": dict(example.columns)})


def _schemas(tools: Any) -> list[dict[str, Any]] | None:
    if tools and not (isinstance(tools, (list, tuple)) and all(isinstance(tool, Mapping) for tool in tools)):
        raise ValueError("tools must be a list of JSON schemas")
    return [dict(tool) for tool in tools] if tools else None


def _cut(ids: Ids, mask: Mask, start: int | None) -> Tree:
    """One branch from ``start`` on, or from the first trained token to the last."""
    if start is not None:
        return Tree(ids[:start], (Branch(ids[start:], mask[start:]),))
    trained = np.flatnonzero(mask)
    first, last = (int(trained[0]), int(trained[-1]) + 1) if len(trained) else (0, len(ids))
    return Tree(ids[:first], (Branch(ids[first:last], mask[first:last]),))
