"""The loss on held-out documents, against transformers' own and as users of `tunesmith eval --text` meet it."""

import json

import numpy as np
import pytest

from tunesmith.runner.held_out import TextLoss, growth

DOCUMENTS = ["The shop is open.", "Is it? Yes, it is open until the lathe has been swept. " * 4, "No."]


@pytest.fixture
def documents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return "docs.jsonl"


def by_transformers(model, length):
    """Summed loss and scored tokens of every document, its end included, in pieces of so many tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, module = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    sums, counts = [], []
    for text in DOCUMENTS:
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        assert len(ids) <= length
        with torch.no_grad():
            loss = module(torch.tensor([ids]), labels=torch.tensor([ids])).loss
        sums.append(float(loss) * (len(ids) - 1))
        counts.append(len(ids) - 1)
    return np.array(sums), np.array(counts)


def test_it_is_the_loss_that_transformers_computes_in_every_document(cli, tiny_model, documents):
    result = cli("eval", tiny_model, "--text", documents, "--device", "cpu", "--json")
    assert result.code == 0, result.err
    (found,) = json.loads(result.out)
    sums, counts = by_transformers(tiny_model, 2048)
    assert found["model"] == str(tiny_model)
    assert found["text"]["tokens"] == counts.sum()
    assert found["text"]["documents"] == len(DOCUMENTS)
    assert found["text"]["loss"]["value"] == pytest.approx(sums.sum() / counts.sum(), rel=1e-5)
    assert found["text"]["loss"]["low"] < found["text"]["loss"]["value"] < found["text"]["loss"]["high"]
    assert found["text"]["change"] is None


def test_long_documents_are_split_and_every_token_but_the_first_is_scored(cli, tiny_model, documents):
    whole, pieces = (
        json.loads(cli("eval", tiny_model, "--text", documents, "--max-length", length, "--json").out)[0]["text"]
        for length in ("2048", "16")
    )
    assert pieces["documents"] == whole["documents"]
    assert pieces["tokens"] == whole["tokens"]
    assert pieces["loss"]["value"] != pytest.approx(whole["loss"]["value"], rel=1e-6)


def test_a_model_is_held_against_the_first_one_on_the_same_documents(cli, tiny_model, documents):
    result = cli("eval", tiny_model, tiny_model, "--text", documents)
    assert result.code == 0, result.err
    assert "3 documents; 95% intervals over documents" in result.out
    assert "+0.000 (+0.000 to +0.000)" in result.out


def test_text_and_prompts_are_measured_together(cli, tiny_model, documents, tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Is it open?", "answer": 3}\n')
    words = ("--data", "prompts.jsonl", "--reward", "numeric", "--samples", "1", "--max-new-tokens", "4")
    (found,) = json.loads(cli("eval", tiny_model, *words, "--text", documents, "--json").out)
    assert found["prompts"] == 1
    assert found["text"]["documents"] == 3


def test_growth_is_a_ratio_of_sums_and_needs_the_same_tokens():
    before = TextLoss("a", np.array([10.0, 30.0]), np.array([10.0, 20.0]))
    after = TextLoss("b", np.array([16.0, 30.0]), np.array([10.0, 20.0]))
    assert growth(before, after).value == pytest.approx(6 / 30)
    assert growth(before, TextLoss("c", np.array([1.0, 1.0]), np.array([9.0, 20.0]))) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to evaluate on"),
        (("--data", "docs.jsonl"), "--data needs --reward"),
        (("--reward", "numeric", "--text", "docs.jsonl"), "--reward needs --data"),
        (("--text", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_what_is_missing_is_said(cli, tiny_model, documents, words, message):
    result = cli("eval", tiny_model, *words)
    assert result.code == 2
    assert message in result.err
    assert "bug of tunesmith" not in result.err
