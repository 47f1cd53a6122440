"""A tree in words: the text of its tokens, with those that are trained on set apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tunesmith.data.report import printable
from tunesmith.data.trees import Tree

if TYPE_CHECKING:
    from tunesmith.data.encoding import Encoder

Token = tuple[int, int, bool]
"""Its place in what the model sees, its id, and whether it is trained on."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive tokens that are all trained on or all not, all within or all beyond the limit (``lost``)."""

    text: str
    trained: bool
    lost: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """Counts of a tree.

    Attributes:
        tokens: all of them.
        length: tokens of the trunk and the longest branch, which is what the limit is about.
        trained: tokens that are trained on.
        num_bos: beginning-of-text tokens.
        num_ends: tokens that stop generation, and ``ends_trained`` how many of them are trained on.
        limit: the most tokens that ``length`` may be, where it is more.
        truncated: True when what is beyond the limit is cut off; the other counts are then of the rest.
        prompt: True where nothing is to be trained on, because the answer is still to be sampled.
    """

    tokens: int
    length: int
    trained: int
    num_bos: int
    num_ends: int
    ends_trained: int
    limit: int | None
    truncated: bool
    prompt: bool = False

    def warnings(self) -> Iterator[str]:
        """What is likely to be wrong."""
        if self.prompt:
            pass
        elif not self.trained:
            yield "nothing is trained on"
        elif not self.ends_trained:
            why = " (the end is cut off)" if self.truncated else ""
            yield f"no token that stops generation is trained on{why}: the model would not learn to stop"
        if self.num_bos > 1:
            yield f"{self.num_bos} beginning-of-text tokens: the text or the chat template writes one more"


def facts(tree: Tree, encoder: Encoder, limit: int | None, *, truncates: bool) -> Facts:
    """Count what matters in a tree; ``truncates``: what is beyond the limit does not count."""
    flat = [item for part in parts(tree) for item in part]
    over = limit if limit is not None and tree.longest > limit else None
    kept = [(token, scored) for place, token, scored in flat if over is None or not truncates or place < over]
    bos = encoder.bos_id if encoder.bos_id is not None else encoder.tokenizer.bos_token_id
    ends = [scored for token, scored in kept if token in encoder.stop_ids]
    return Facts(
        tokens=len(flat),
        length=tree.longest,
        trained=sum(scored for _, scored in kept),
        num_bos=sum(token == bos for token, _ in kept) if bos != encoder.eos_id else 0,
        num_ends=len(ends),
        ends_trained=sum(ends),
        limit=over,
        truncated=truncates and over is not None,
        prompt=not tree.branches,
    )


def runs(tokens: Sequence[Token], encoder: Encoder, limit: int | None) -> list[Run]:
    """The text of some tokens of a tree, in runs; safe to print, with line breaks kept."""
    found = []
    for (scored, lost), group in groupby(tokens, key=lambda t: (t[2], limit is not None and t[0] >= limit)):
        text = encoder.tokenizer.decode(
            [token for _, token, _ in group], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        found.append(Run("\n".join(printable(line) for line in text.split("\n")), scored, lost))
    return found


def parts(tree: Tree) -> list[list[Token]]:
    """The trunk, and then each branch."""
    start = len(tree.trunk)
    found = [[(place, token, False) for place, token in enumerate(tree.trunk.tolist())]]
    for branch in tree.branches:
        pairs = zip(branch.ids.tolist(), tree.scored(branch).tolist(), strict=True)
        found.append([(place, token, scored) for place, (token, scored) in enumerate(pairs, start=start)])
    return found
