"""Put new pieces into a tokenizer so that every old token keeps its id, and prove it on texts."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tunesmith.errors import DataError
from tunesmith.vocab.merges import Piece

TOKENIZER_FILE = "tokenizer.json"
FUZZ = (
    "", " ", "  two  spaces ", "\n\n\ttabs and\r\nlines\n", "a" * 3000, "0123456789 3.14159 1e-7",
    "\x00\x01\x1b[0m\x7f",
    "\u200b\u200d\ufeff\u202e", "e\u0301 \u00e9 o\u0308\u0323", "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f1eb\U0001f1ee \u2764\ufe0f", "\u0420\u0443\u0441\u0441\u043a\u0438\u0439 \u0442\u0435\u043a\u0441\u0442",
    "\u4e2d\u6587\u6ca1\u6709\u7a7a\u683c\u3002", "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0\u3067\u3059\u3002",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22", "\u1e9e\u017f\ufb03 \u00bd \u2460",
    "\U00010348\U000e0041",
)  # fmt: skip
"""Texts that break tokenizers: blanks, control and joining signs, emoji of several parts, many scripts, long words."""
MOST_RANDOM = 64
"""Random texts beside those."""


def expanded_state(state: Mapping[str, Any], pieces: Sequence[Piece]) -> dict[str, Any]:
    """The contents of a tokenizer.json with new pieces behind all tokens that there are, and new merges behind the old.

    Tokens that were added outside of the vocabulary are written into it with the ids that they have: they would be
    numbered anew behind a larger vocabulary otherwise.
    """
    grown = copy.deepcopy(dict(state))
    model = grown["model"]
    vocabulary: dict[str, int] = model["vocab"]
    for token in grown.get("added_tokens", ()):
        vocabulary.setdefault(token["content"], token["id"])
    first = max(vocabulary.values()) + 1
    for number, piece in enumerate(pieces):
        vocabulary[piece.text] = first + number
        if piece.parts is not None:
            model["merges"].append(list(piece.parts))
    return grown


def state_of(tokenizer: Any) -> dict[str, Any]:
    """The contents of the tokenizer.json of a tokenizer of transformers."""
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    state["truncation"] = state["padding"] = None  # what the last call asked for, and no part of the tokenizer
    return state


def save_expanded(tokenizer: Any, pieces: Sequence[Piece], folder: Path) -> Any:
    """Write a tokenizer with new pieces beside the settings of the old one; return it as it loads from there.

    Raises:
        DataError: a token, the chat template or the merges did not survive.
    """
    from transformers import AutoTokenizer

    state = expanded_state(state_of(tokenizer), pieces)
    tokenizer.save_pretrained(folder)
    text = json.dumps(state, ensure_ascii=False, indent=2)
    (folder / TOKENIZER_FILE).write_text(text, encoding="utf-8")
    _check_files(folder)
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    check_kept(tokenizer, loaded)
    if state_of(loaded)["model"] != state["model"]:
        raise DataError(
            f"{type(loaded).__name__} does not read its tokenizer.json, so the new merges are lost",
            fix="set tokenizer_class to PreTrainedTokenizerFast in the tokenizer_config.json of the base model",
        )
    return loaded


def _check_files(folder: Path) -> None:
    """The files of older kinds, which hold the vocabulary without the new pieces and which some loaders prefer."""
    for name in ("vocab.json", "merges.txt", "tokenizer.model"):
        (folder / name).unlink(missing_ok=True)


def check_kept(old: Any, new: Any) -> None:
    """Raises `DataError` unless every token, special id and the chat template of the old tokenizer are in the new."""
    vocabulary = new.get_vocab()
    moved = [token for token, number in old.get_vocab().items() if vocabulary.get(token) != number]
    if moved:
        raise DataError(
            f"{len(moved):,} tokens would get another id, among them {moved[0]!r}",
            why="nothing was written: a model's rows belong to the ids that it was trained with",
        )
    for name in ("special_tokens_map", "all_special_ids", "chat_template", "padding_side"):
        if getattr(old, name) != getattr(new, name):
            raise DataError(f"the {name} of the tokenizer would change; nothing was written")


# ---------------------------------------------------------------------------------------------- round trips
def random_texts(number: int, seed: int = 0) -> Iterator[str]:
    """Texts of characters from everywhere in Unicode, half of them mixed with plain words."""
    chance = random.Random(seed)
    for i in range(number):
        chars = [_char(chance) for _ in range(chance.randint(1, 40))]
        words = [chance.choice(("the", "x", "\n", " ", "1")) for _ in range(20 * (i % 2))]
        mixed = chars + words
        chance.shuffle(mixed)
        yield "".join(mixed)


def _char(chance: random.Random) -> str:
    top = chance.choice((0x7F, 0x7FF, 0xFFFF, 0x1FFFF))
    code = chance.randint(0, top)
    return chr(code) if not 0xD800 <= code <= 0xDFFF else "\ufffd"


def check_round_trip(old: Any, new: Any, texts: Iterable[str]) -> int:
    """How many texts come back as they were, of those that the old tokenizer gives back.

    Raises:
        DataError: one that the old one gives back and the new one does not.
    """
    kept = 0
    for text in chain(FUZZ, random_texts(MOST_RANDOM), texts):
        if round_trip(old, text) != text:
            continue
        kept += 1
        if round_trip(new, text) != text:
            raise DataError(
                f"the expanded tokenizer does not give back {text[:40]!r}, and the base did",
                why=f"it gives {round_trip(new, text)[:40]!r}; nothing was written",
            )
    return kept


def round_trip(tokenizer: Any, text: str) -> str:
    """The text that comes back."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def encode_all(tokenizer: Any, texts: Sequence[str], chunk: int = 256) -> Iterator[list[int]]:
    """Token ids of every text, nothing put around them."""
    for start in range(0, len(texts), chunk):
        part = list(texts[start : start + chunk])
        yield from tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
