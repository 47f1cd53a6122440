"""Training embeddings and head first: what stands still to the bit, when the rest joins, and going on after a stop."""

import json
import logging
import os
import shutil
import signal

import pytest
import torch

from tunesmith.config import Layers, resolve
from tunesmith.errors import ConfigError, StoppedError
from tunesmith.runner.launch import start
from tunesmith.scoring.scorer import Scorer

MATRICES = {"model.embed_tokens.weight", "lm_head.weight"}
NEW = 6


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def tied(request):
    return request.param


@pytest.fixture
def grown(tiny_model, tmp_path, tied):
    """The tiny model with a few rows more, whose config says so; nothing in the rows' texts needs a new piece."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from tunesmith.vocab.rows import Start, grow

    folder = tmp_path / "grown"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_model, tie_word_embeddings=tied))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    first = len(tokenizer)
    grow(model, first, [[i, i + 1] for i in range(NEW)], Start(pad_to=8))
    tokenizer.add_tokens([f"piece{i}" for i in range(NEW)])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def fit(registry, grown, texts, tmp_path):
    """``fit(name, **settings)``: six steps on the texts with the grown model."""

    def run(name, *, resume=False, **settings):
        output = tmp_path / name
        flags = {
            "model": str(grown), "output": str(output), "data": str(texts), "replay_share": 0, "max_steps": 6,
            "batch_size": 4, "max_length": 64, "learning_rate": 1e-2, "weight_decay": 0.5, "holdout": 0.0,
            "schedule": "constant", "keep_checkpoints": 9, **settings,
        }  # fmt: skip
        start(resolve(registry, "cpt", Layers(flags=flags)), registry, resume=resume)
        return output

    return run


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(("share", "warm"), [(3, 3), (0.5, 3), (0.01, 1), (99, 6)])
def test_only_the_embeddings_move_until_their_steps_are_over(fit, grown, weights, metrics, tied, share, warm):
    run = fit("run", warm_embeddings=share, save_every=1)
    before = weights(grown)
    trained = {"model.embed_tokens.weight"} if tied else MATRICES
    for step in range(1, 7):
        after = weights(run / "checkpoints" / f"step-{step:06d}")
        assert (changed(before, after) == trained) if step <= warm else (changed(before, after) == set(before)), step
    said = [line["warming_embeddings"] for line in metrics(run) if "loss" in line]
    assert said == [1.0] * warm + [0.0] * (6 - warm)


def test_only_new_rows_move_where_that_is_asked_for(fit, grown, weights, tied):
    run = fit("run", warm_embeddings=3, new_rows_only=True, save_every=1)
    before = weights(grown)
    first = json.loads((grown / "config.json").read_text())["vocab_expansion"]["first"]
    for step in (1, 3):
        after = weights(run / "checkpoints" / f"step-{step:06d}")
        for name in changed(before, after):
            rows = (before[name] != after[name]).any(1).nonzero().flatten().tolist()
            assert set(rows) <= set(range(first, first + NEW)), "old rows and padding do not even decay"
        head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        assert (before[head][first : first + NEW] != after[head][first : first + NEW]).any(1).all()
    assert changed(before, weights(run / "model")) == set(before)


def test_without_it_the_run_is_the_one_it_always_was(fit, weights):
    assert not changed(weights(fit("one") / "model"), weights(fit("two", warm_embeddings=0) / "model"))


@pytest.fixture
def stop_at(monkeypatch):
    """``stop_at(step)``: ask this process to stop in the middle of a step (0-based)."""

    def arrange(step):
        calls = {"count": 0}
        backward = Scorer.backward

        def spy(self, *args, **kwargs):
            calls["count"] += 1
            if calls["count"] == step + 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return backward(self, *args, **kwargs)

        monkeypatch.setattr(Scorer, "backward", spy)

    return arrange


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_stopped_run_goes_on_to_the_bit(fit, weights, stop_at, step):
    """Stopped while only new rows train, at the step where the rest joins, and after it."""
    settings = {"warm_embeddings": 3, "new_rows_only": True}
    straight = fit("straight", **settings)
    stop_at(step)
    with pytest.raises(StoppedError):
        fit("stopped", **settings)
    resumed = fit("stopped", resume=True, **settings)
    assert not changed(weights(straight / "model"), weights(resumed / "model"))


def test_parts_of_a_batch_change_rounding_only(fit, weights):
    settings = {"warm_embeddings": 3, "new_rows_only": True, "max_steps": 4, "learning_rate": 1e-3}
    whole, parts = fit("whole", **settings), fit("parts", micro_tokens=40, **settings)
    a, b = weights(whole / "model"), weights(parts / "model")
    assert max((a[name] - b[name]).abs().max().item() for name in a) < 2e-5


def test_what_was_trained_is_no_longer_called_new(fit, grown):
    def said(folder):
        return json.loads((folder / "config.json").read_text())["vocab_expansion"]["trained"]

    assert not said(grown) and said(fit("run", warm_embeddings=1) / "model")


def test_an_adapter_waits_for_the_rows_to_be_trained(fit):
    with pytest.raises(ConfigError, match="expanded by 6 pieces whose rows are not trained yet") as error:
        fit("lora", adapter="lora")
    assert "adapter: lora" in str(error.value.where)
    trained = fit("run") / "model"
    assert (fit("after", model=str(trained), adapter="lora") / "model" / "adapter_config.json").is_file()


def test_a_method_that_freezes_the_new_rows_is_told_so(fit, grown, registry, texts, tmp_path, caplog, monkeypatch):
    from tunesmith import EmbeddingsFirstMethod

    prepare = EmbeddingsFirstMethod.prepare

    def frozen(self, policy, ctx):
        policy.get_input_embeddings().requires_grad_(False)
        return prepare(self, policy, ctx)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "tunesmith"):
        logging.getLogger("tunesmith").propagate = True
        patch.setattr(EmbeddingsFirstMethod, "prepare", frozen)
        fit("frozen", max_steps=1)
    assert "6 new pieces of the vocabulary have rows that nothing trains in this run" in caplog.text
    caplog.clear()
    fit("free", max_steps=1)
    assert "new pieces" not in caplog.text


def test_settings_that_cannot_work_are_refused(fit, tiny_model, grown):
    with pytest.raises(ConfigError, match="no effect without warm_embeddings"):
        fit("idle", new_rows_only=True)
    with pytest.raises(ConfigError, match="vocabulary of this model was not expanded"):
        fit("plain", model=str(tiny_model), warm_embeddings=2, new_rows_only=True)
    with pytest.raises(ConfigError, match="the embeddings are frozen in this run"):
        fit("lora", model=str(tiny_model), adapter="lora", warm_embeddings=2)
    shutil.rmtree(grown)
