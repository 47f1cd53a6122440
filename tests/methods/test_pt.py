"""Pre-training from a config."""

import json
import math

import pytest

from tunesmith.errors import DataError

CONFIG = {
    "model_type": "llama",
    "vocab_size": 5000,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return str(path)


def test_the_first_loss_is_that_of_a_uniform_guess(train, texts, metrics, config):
    run = train("pt", "run", model=config, data=str(texts), vocab_size=320, max_steps=2, batch_size=8)
    vocabulary = json.loads((run / "model" / "config.json").read_text())["vocab_size"]
    assert vocabulary <= 320
    assert metrics(run)[0]["loss"] == pytest.approx(math.log(vocabulary), rel=0.02)


def test_one_batch_is_learned_by_heart(train, texts, metrics, config):
    data = [{"path": str(texts), "limit": 2}]
    run = train(
        "pt", "run", model=config, data=data, vocab_size=300, batch_size=2, max_steps=150, schedule="constant",
        learning_rate=1e-2, weight_decay=0.0,
    )  # fmt: skip
    assert metrics(run)[-1]["loss"] < 0.05


def test_the_trained_tokenizer_is_saved_with_the_model(train, texts, config):
    from transformers import AutoTokenizer

    run = train("pt", "run", model=config, data=str(texts), vocab_size=300, max_steps=1, batch_size=4)
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    text = "Document 7. The quick brown fox"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_the_seed_decides_the_weights(train, texts, weights, config):
    import torch

    settings = {"model": config, "data": str(texts), "vocab_size": 300, "max_steps": 1, "batch_size": 4}
    runs = [weights(train("pt", f"run{i}", seed=seed, **settings) / "model") for i, seed in enumerate((1, 1, 2))]
    name = "model.embed_tokens.weight"
    assert torch.equal(runs[0][name], runs[1][name])
    assert not torch.equal(runs[0][name], runs[2][name])


def test_chats_are_refused_with_the_methods_that_take_them(train, chats):
    with pytest.raises(DataError) as error:
        train("pt", "run", data=str(chats))
    assert "sft" in str(error.value)
