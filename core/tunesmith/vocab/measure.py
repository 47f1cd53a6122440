"""How well a tokenizer fits texts, and how well a model with it predicts them.

Perplexities of different tokenizers cannot be compared; bits per byte can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.data.encoding import Encoder
from tunesmith.data.rows import split
from tunesmith.data.trees import Batch, Tree, best_fit
from tunesmith.scoring.scorer import Scorer
from tunesmith.vocab.kinds import Kind, content, is_fragment
from tunesmith.vocab.tokenizer import encode_all

MICRO_TOKENS = 4096
"""Tokens in one forward pass."""


@dataclass(slots=True)
class Fit:
    """How a tokenizer cuts texts.

    Attributes:
        documents, words, characters, bytes, tokens: totals; a word is what stands between blanks.
        fragments: tokens that are bytes of a character and not whole characters.
        unknown: tokens that stand for what the tokenizer does not know.
    """

    documents: int = 0
    words: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    fragments: int = 0
    unknown: int = 0

    def as_dict(self) -> dict[str, float]:
        """The totals, and what follows from them."""
        tokens = max(1, self.tokens)
        return {
            **asdict(self),
            "tokens_per_word": self.tokens / max(1, self.words),
            "bytes_per_token": self.bytes / tokens,
            "characters_per_token": self.characters / tokens,
            "fragment_share": self.fragments / tokens,
            "unknown_share": self.unknown / tokens,
        }


def fit(tokenizer: Any, texts: Sequence[str], kind: Kind | None) -> Fit:
    """Measure a tokenizer on texts.

    Args:
        kind: how its pieces are written; ``None`` where that is not known, and then no token is a fragment.
    """
    found = Fit(documents=len(texts))
    fragments = fragment_ids(tokenizer, kind)
    unknown = tokenizer.unk_token_id if kind != "bytes" else None
    for text, ids in zip(texts, encode_all(tokenizer, texts), strict=True):
        found.words += len(text.split())
        found.characters += len(text)
        found.bytes += len(text.encode())
        found.tokens += len(ids)
        found.fragments += sum(i in fragments for i in ids)
        found.unknown += sum(i == unknown for i in ids)
    return found


def fragment_ids(tokenizer: Any, kind: Kind | None) -> frozenset[int]:
    """The ids of pieces that are bytes of a character."""
    if kind is None:
        return frozenset()
    special = {token.content for token in tokenizer.added_tokens_decoder.values()}
    vocabulary = tokenizer.get_vocab()
    return frozenset(i for piece, i in vocabulary.items() if piece not in special and is_fragment(piece, kind))


def changed_share(old: Any, new: Any, texts: Sequence[str]) -> float:
    """Share of texts whose ids are not what they were."""
    pairs = zip(encode_all(old, texts), encode_all(new, texts), strict=True)
    return sum(a != b for a, b in pairs) / len(texts)


# ---------------------------------------------------------------------------------------------- models
@dataclass(slots=True)
class Scored:
    """Log-probabilities of documents.

    Attributes:
        logps: for each piece of a document, ``[n]`` natural-log probabilities of its scored tokens.
        bytes: of the text that the scored tokens stand for.
    """

    logps: list[Tensor]
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Bits that the model needs for a byte of text, the end of each document included."""
        return -sum(float(part.double().sum()) for part in self.logps) / math.log(2) / max(1, self.bytes)


def documents(encoder: Encoder, texts: Sequence[str], kind: Kind, max_length: int) -> tuple[list[Tree], int]:
    """Trees of at most ``max_length`` tokens, as training would cut them, and the bytes that their scored tokens hold.

    Nothing predicts the first token of a document where the tokenizer puts no other in front of it: that token and
    its bytes are left out.
    """
    trees: list[Tree] = []
    size = 0
    for text in texts:
        tree = encoder.document(text)
        [branch] = tree.branches
        size += len(text.encode())
        if not len(tree.trunk) and branch.mask[0]:
            [piece] = encoder.tokenizer.convert_ids_to_tokens([int(branch.ids[0])])
            size -= len(content(piece, kind))
        trees += split(tree, max_length) if tree.longest > max_length and not len(tree.trunk) else [tree]
    return [tree for tree in trees if tree.num_scored], size


def score(scorer: Scorer, trees: Sequence[Tree], size: int) -> Scored:
    """Log-probabilities of trees with one branch each, in their order; ``size``: bytes of their scored tokens."""
    logps: list[Tensor] = [torch.empty(0)] * len(trees)
    with torch.no_grad():
        for rows in best_fit([tree.num_tokens for tree in trees], MICRO_TOKENS):
            x = scorer.token_logps(Batch([trees[i] for i in rows]))
            parts = torch.split(x.logps.cpu(), [trees[i].num_scored for i in rows])
            for i, part in zip(rows, parts, strict=True):
                logps[i] = part
    return Scored(logps, size)


@dataclass(frozen=True, slots=True)
class Growth:
    """By how much the log of the sum of exponentials grew on texts cut into old tokens, in nats.

    Attributes:
        mean: what old text loses for each token at step 0.
        largest: of any token.
        bound: no token can lose more; ``None`` where nothing is known.
    """

    mean: float
    largest: float
    bound: float | None


def growth(before: Scored, after: Scored, bound: float | None) -> Growth:
    """Compare a model with its expanded self on the same ids: their logits are the same, so only log Z differs."""
    lost = torch.cat([a.double() - b.double() for a, b in zip(before.logps, after.logps, strict=True)])
    return Growth(float(lost.mean()), float(lost.max()), bound)
