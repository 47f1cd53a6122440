"""A tiny model, its tokenizer and rows, made on the spot; runs on them."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # what is printed is as wide as in a file; processes that run tests side by side set it
SENTENCES = [
    "The quick brown fox jumps over the lazy dog and runs into the forest.",
    "A model that reads text learns which token comes next.",
    "Numbers such as one, two and three are words as well.",
    "She sells sea shells by the sea shore, he buys none of them.",
]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads what another wrote, nor the user's cache; no hub is asked."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def own_randomness():
    """A test draws the same numbers whatever ran before it, also beside others in another process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def own_loggers():
    """The command line sets up logging for a process that it owns; a test gives back what it found."""
    names = ["tunesmith", *(name for name in logging.root.manager.loggerDict if name.startswith("tunesmith_"))]
    loggers = [logging.getLogger(name) for name in names]
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A folder with a two-layer Llama of random weights, a byte-level BPE tokenizer and a ChatML template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith.data.encoding import train_tokenizer

    folder = tmp_path_factory.mktemp("tiny-model")
    tokenizer = train_tokenizer(SENTENCES * 3, 300)
    tokenizer.chat_template = TEMPLATE
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chats(tmp_path_factory) -> Path:
    """A JSONL file of 24 conversations of different lengths."""
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Say number {i}. " + SENTENCES[i % 4][: 10 + 2 * i]},
                {"role": "assistant", "content": f"Number {i}: " + SENTENCES[(i + 1) % 4][: 5 + 3 * (i % 9)]},
            ]
        }
        for i in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    """A JSONL file of 30 documents."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [{"text": f"Document {i}. " + " ".join(SENTENCES[: 1 + i % 4])} for i in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def registry():
    """All installed plugins."""
    from tunesmith import plugins

    return plugins.load()


@pytest.fixture
def train(registry, tiny_model, tmp_path):
    """``train(method, output, **settings)``: run it and return the folder of the run."""
    from tunesmith.config import Layers, resolve
    from tunesmith.runner.launch import start

    def run(method, name, *, resume=False, overwrite=False, **settings):
        output = tmp_path / name
        flags = {"model": str(tiny_model), "output": str(output), "learning_rate": 1e-3, **settings}
        start(resolve(registry, method, Layers(flags=flags)), registry, resume=resume, overwrite=overwrite)
        return output

    return run


@pytest.fixture
def weights():
    """``weights(folder)``: all tensors of a saved model by name."""
    from safetensors.torch import load_file

    def load(folder):
        return {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}

    return load


@pytest.fixture
def metrics():
    """``metrics(run)``: the lines of metrics.jsonl."""

    def read(run):
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    return read
