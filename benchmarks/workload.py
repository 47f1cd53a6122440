"""What every side trains: a model with random weights, its tokenizer, and rows, made from a seed on the spot.

Both sides read the same two things from disk, a Hugging Face model folder and a JSONL file, so nothing that one of
them prepares can differ from what the other gets.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- ('\n' if not loop.first else '') + '<|im_start|>' + message.role + '\n' -}}"
    "{%- if message.role == 'assistant' -%}"
    "{% generation %}{{- message.content + '<|im_end|>' -}}{% endgeneration %}"
    "{%- else -%}{{- message.content + '<|im_end|>' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '\n<|im_start|>assistant\n' -}}{%- endif -%}"
)
"""ChatML that ends with the last turn's end token: after it some tools compute one newline more and others do not."""
SPECIAL_TOKENS = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
PROMPT_WORDS = (80, 0.6, 32, 256)
ANSWER_WORDS = (64, 0.8, 16, 256)
"""Median and sigma of the lognormal number of words, and the limits it is cut to."""
LEXICON_SIZE = 8000
ONSETS = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "ch")
CODAS = ("", "", "n", "r", "s")
Kind = Literal["conversations", "pairs", "labelled", "comparisons", "prompts"]
"""Rows to write; comparisons are pairs for a model with a score head instead of an LM head."""
END_RATE = 1 / 40
"""Probability of the end token wherever a model is that answers prompts: the lengths of answers are geometric."""
COMMON = 3.0
"""Part of every embedding that all tokens share, by which such a model tells the end, against the rest of it."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Where the files are: ``model`` (weights, config and tokenizer) and ``rows`` (JSONL)."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def rows(self) -> Path:
        return self.folder / "rows.jsonl"


def build(folder: Path, vocabulary: int, num_rows: int, seed: int, kind: Kind = "conversations") -> Workload:
    """Write the model, the tokenizer and the rows; the arguments alone decide what they hold."""
    workload = Workload(folder)
    words = Words(random.Random(seed))
    write_rows(workload.rows, words, num_rows, kind)
    write_model(workload.model, vocabulary, words, seed, scores=kind == "comparisons", ends=kind == "prompts")
    return workload


class Words:
    """Text of made-up words whose frequencies follow Zipf's law, about one token a word."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        lexicon: dict[str, None] = {}
        while len(lexicon) < LEXICON_SIZE:
            lexicon["".join(self._syllable() for _ in range(source.choice((1, 2, 2, 2, 3))))] = None
        self.lexicon = list(lexicon)
        self.cumulative = list(accumulate(1 / (rank + 2.7) for rank in range(LEXICON_SIZE)))

    def _syllable(self) -> str:
        choice = self.source.choice
        return choice(ONSETS) + choice("aeiou") + choice(CODAS)

    def text(self, count: int) -> str:
        """``count`` words."""
        return " ".join(self.source.choices(self.lexicon, cum_weights=self.cumulative, k=count))

    def passage(self, median: int, sigma: float, least: int, most: int) -> str:
        """A text of lognormal length."""
        length = self.source.lognormvariate(math.log(median), sigma)
        return self.text(int(min(most, max(least, length))))


def write_rows(path: Path, words: Words, count: int, kind: Kind = "conversations") -> None:
    """One row a line: a question with an answer, with two of them, or with one and a label; labels alternate."""
    with path.open("w", encoding="utf-8") as file:
        for index in range(count):
            file.write(json.dumps(_row(words, kind, index)) + "\n")


def _row(words: Words, kind: Kind, index: int) -> dict[str, Any]:
    prompt = [{"role": "user", "content": words.passage(*PROMPT_WORDS)}]

    def answer() -> list[dict[str, str]]:
        return [{"role": "assistant", "content": words.passage(*ANSWER_WORDS)}]

    if kind == "prompts":
        return {"prompt": prompt}
    if kind == "conversations":
        return {"messages": prompt + answer()}
    if kind == "labelled":
        return {"prompt": prompt, "completion": answer(), "label": index % 2 == 0}
    return {"prompt": prompt, "chosen": answer(), "rejected": answer()}


def write_model(
    folder: Path, vocabulary: int, words: Words, seed: int, *, scores: bool = False, ends: bool = False
) -> None:
    """Qwen2 with hidden size 256, 4 layers and an untied head, in fp32, with a tokenizer of ``vocabulary`` at most.

    Args:
        scores: give it a score head with random weights instead of the LM head.
        ends: let it end its answers, at `END_RATE`; a model of random weights never would.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

    tokenizer = trained_tokenizer(vocabulary, words)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    if scores:
        config.num_labels = 1
    model = (Qwen2ForSequenceClassification if scores else Qwen2ForCausalLM)(config)
    if ends:
        _let_end(model, tokenizer.eos_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _let_end(model: Any, end: int) -> None:
    """Give the end token a logit that is about the same everywhere, and as high as `END_RATE` wants it."""
    import torch

    with torch.no_grad():
        embeddings, rows = model.get_input_embeddings().weight, model.lm_head.weight
        common = torch.nn.functional.normalize(torch.randn(embeddings.shape[1]), dim=0)
        embeddings += COMMON * embeddings.norm(dim=1).mean() * common
        rows -= (rows @ common)[:, None] * common
        hidden = model.model(torch.randint(len(embeddings), (4, 64))).last_hidden_state
        others = (hidden @ rows.T).logsumexp(-1).mean()
        rows[end] = (others + math.log(END_RATE / (1 - END_RATE))) / (hidden @ common).mean() * common


def trained_tokenizer(vocabulary: int, words: Words):
    """Byte-level BPE, trained on text of the same words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator((words.text(200) for _ in range(1500)), trainer)
    pad, _, end, _ = SPECIAL_TOKENS
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=pad, eos_token=end, model_max_length=4096)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
