"""Do the tokenizer, the config and the chat template of a folder agree? A server believes what it reads there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.data.encoding import Encoder
from tunesmith.models.loading import MOST_PADDING_ROWS


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Attributes:
        name: what was looked at.
        status: ``ok``; ``note``: worth knowing; ``fixed``: the export differs from its source here; ``broken``.
        detail: in words.
    """

    name: str
    status: Literal["ok", "note", "fixed", "broken"]
    detail: str


def mend(model: Any, encoder: Encoder) -> Iterator[Finding]:
    """Write into the configs of a model what its tokenizer says: which tokens end an answer, and which one pads."""
    tokenizer, config = encoder.tokenizer, model.config.get_text_config()
    wanted = sorted(encoder.stop_ids)
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        before = _listed(generation.eos_token_id)
        if set(wanted) - set(before):
            generation.eos_token_id = sorted({*wanted, *before})
            names = ", ".join(map(repr, tokenizer.convert_ids_to_tokens(wanted)))
            yield Finding(
                "end",
                "fixed",
                f"generation_config.json now ends answers at {names}; it had {_names(tokenizer, before) or 'none'}",
            )
        else:
            yield Finding("end", "ok", f"answers end at {_names(tokenizer, before)}")
    for name in ("eos", "pad", "bos"):
        here = getattr(tokenizer, f"{name}_token_id")
        said = getattr(config, f"{name}_token_id", None)
        if here is None or here == said or here in _listed(said):
            continue
        setattr(config, f"{name}_token_id", here)
        if generation is not None and name != "eos":
            setattr(generation, f"{name}_token_id", here)
        token = _names(tokenizer, [here])
        yield Finding(name, "fixed", f"config.json now says {token}, as the tokenizer; it had {said}")


def check(model: Any, encoder: Encoder, source: Any, folder: Path, prompts: list[str]) -> Iterator[Finding]:
    """What a folder holds against the tokenizer that its model was trained with.

    Args:
        model: as loaded from the folder.
        encoder: with the tokenizer of the folder.
        source: the tokenizer before.
        folder: the export.
        prompts: texts that both tokenizers must cut alike.
    """
    tokenizer = encoder.tokenizer
    rows, highest = int(model.get_input_embeddings().weight.shape[0]), max(tokenizer.get_vocab().values())
    said = int(model.config.get_text_config().vocab_size)
    if rows != said or highest >= rows:
        yield Finding("vocabulary", "broken", f"{rows:,} rows, config says {said:,}, highest token id {highest:,}")
    else:
        spare = rows - highest - 1
        much = f": {spare:,} rows that no token has" if spare >= MOST_PADDING_ROWS else ""
        yield Finding("vocabulary", "note" if much else "ok", f"{highest + 1:,} tokens, {rows:,} rows{much}")
    same = tokenizer.get_vocab() == source.get_vocab() and all(
        tokenizer(text)["input_ids"] == source(text)["input_ids"] for text in prompts
    )
    yield Finding("tokenizer", "ok" if same else "broken", "cuts texts as before" if same else "cuts texts otherwise")
    yield _template(tokenizer, source)
    if tokenizer.pad_token_id is None:
        yield Finding("pad", "note", "the tokenizer has no padding token; servers do without")
    elif tokenizer.pad_token_id in encoder.stop_ids:
        yield Finding("pad", "note", "the padding token also ends answers: who trains on this must not mask it")
    if not any(folder.glob("*.safetensors")):
        yield Finding("weights", "broken", "no *.safetensors")


def _template(tokenizer: Any, source: Any) -> Finding:
    if tokenizer.chat_template != source.chat_template:
        return Finding("chat template", "broken", "is not that of the source")
    if not tokenizer.chat_template:
        return Finding("chat template", "note", "none: a server takes completions and refuses chats")
    return Finding("chat template", "ok", "as in the source")


def _listed(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(i) for i in value] if isinstance(value, (list, tuple)) else [int(value)]


def _names(tokenizer: Any, ids: list[int]) -> str:
    return ", ".join(repr(token) for token in tokenizer.convert_ids_to_tokens(ids))
