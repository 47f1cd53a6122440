"""Continued pre-training: replay, forgetting as a number, and what zero replay means."""

import pytest
import torch

from tunesmith.config import Layers, resolve
from tunesmith.errors import ConfigError


@pytest.fixture
def domain(tmp_path):
    path = tmp_path / "domain.txt"
    path.write_text("def add(a, b):\n    return a + b\n\n" * 40)
    return str(path)


def settings(**more):
    return {"max_steps": 8, "batch_size": 4, "max_length": 32, "holdout": 0.0, **more}


def test_zero_replay_is_pre_training_to_the_bit(train, texts, weights):
    pt = weights(train("pt", "pt", data=str(texts), **settings(schedule="constant")) / "model")
    alone = train("cpt", "alone", data=str(texts), replay_share=0, **settings(schedule="constant"))
    general = train("cpt", "general", data=str(texts), replay=str(texts), replay_share=0,
                    **settings(schedule="constant"))  # fmt: skip
    for run in (alone, general):
        got = weights(run / "model")
        assert all(torch.equal(pt[name], got[name]) for name in pt)


def test_forgetting_is_the_general_loss_less_the_one_before(train, texts, domain, metrics):
    run = train("cpt", "run", data=[{"path": domain}, {"path": str(texts), "label": "x"}], replay=str(texts),
                eval_every=4, **settings(holdout=0.2))  # fmt: skip
    evaluations = [line for line in metrics(run) if "eval/replay/loss" in line]
    assert [line["step"] for line in evaluations] == [0, 4, 8]
    assert evaluations[0]["forgetting"] == 0.0
    for line in evaluations:
        wanted = line["eval/replay/loss"] - evaluations[0]["eval/replay/loss"]
        assert line["forgetting"] == pytest.approx(wanted, abs=1e-12)
        assert line["domain_gain"] == pytest.approx(evaluations[0]["eval/train/loss"] - line["eval/train/loss"])


def test_forgetting_can_be_measured_on_evaluation_rows_of_ones_own(train, texts, domain, metrics):
    run = train("cpt", "run", data=domain, replay_share=0, general_set="prose", domain_set="code",
                eval_data=[{"path": domain, "label": "code"}, {"path": str(texts), "label": "prose"}],
                **settings())  # fmt: skip
    before, after = (line for line in metrics(run) if "forgetting" in line)
    assert after["forgetting"] == pytest.approx(after["eval/prose/loss"] - before["eval/prose/loss"], abs=1e-12)
    assert after["domain_gain"] == pytest.approx(before["eval/code/loss"] - after["eval/code/loss"], abs=1e-12)
    assert after["domain_gain"] > 0


def test_an_evaluation_set_that_is_not_there_is_refused(train, texts, domain):
    with pytest.raises(ConfigError, match="no evaluation set 'prose'; did you mean 'pros'") as error:
        train("cpt", "run", data=domain, replay_share=0, general_set="prose",
              eval_data=[{"path": str(texts), "label": "pros"}], **settings())  # fmt: skip
    assert "evaluation sets of this run: pros" in str(error.value.why)


def test_the_general_loss_before_the_first_step_is_that_of_the_base(train, texts, metrics, tiny_model):
    """Computed again from the base model, document by document, without any of our code but the rows."""
    import json

    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = train("cpt", "run", data=str(texts), replay_share=0, **settings(max_length=250),
                eval_data=[{"path": str(texts), "label": "general"}])  # fmt: skip
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    total = count = 0.0
    for line in texts.read_text().splitlines():
        ids = torch.tensor([[*tokenizer(json.loads(line)["text"]).input_ids, tokenizer.eos_token_id]])
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        total, count = total - logps.sum().item(), count + len(logps)
    assert metrics(run)[0]["eval/general/loss"] == pytest.approx(total / count, rel=1e-5)


def test_the_realised_share_and_the_loss_of_each_source_are_logged(train, texts, domain, metrics):
    run = train("cpt", "run", data=domain, replay=str(texts), replay_share=0.5, **settings())
    last = metrics(run)[-2]
    mix = {key: value for key, value in last.items() if key.startswith("mix/")}
    assert len(mix) == 2
    assert sum(mix.values()) == pytest.approx(1.0)
    assert all(value == pytest.approx(0.5, abs=0.06) for value in mix.values())
    assert sum(key.startswith("loss/") for key in last) == 2


def test_replay_without_rows_is_refused_with_the_choice(registry, tiny_model, texts):
    with pytest.raises(ConfigError, match="no general text to replay") as error:
        resolve(registry, "cpt", Layers(flags={"model": str(tiny_model), "data": str(texts)}))
    assert "--replay" in str(error.value)


def test_the_default_share_is_15_percent_and_the_rate_is_rewarmed(registry, tiny_model, texts):
    flags = {"model": str(tiny_model), "data": str(texts), "replay": str(texts)}
    run = resolve(registry, "cpt", Layers(flags=flags))
    assert run.method.mixture(0, 10) == {"train": 0.85, "replay": 0.15}
    rates = [run.settings.schedule(step, 1000) for step in (0, 9, 10, 999)]
    assert rates[0] < 0.1 < rates[1] < rates[2] == 1.0
    assert rates[3] == pytest.approx(0.1, abs=1e-3)


def test_the_share_can_follow_a_schedule(registry, tiny_model, texts):
    flags = {"model": str(tiny_model), "data": str(texts), "replay": str(texts), "replay_schedule": "linear"}
    method = resolve(registry, "cpt", Layers(flags=flags)).method
    shares = [method.mixture(step, 11)["replay"] for step in (0, 5, 10)]
    assert shares[0] == pytest.approx(0.15)
    assert shares[1] == pytest.approx(0.075, abs=0.01)
    assert shares[2] == pytest.approx(0.0, abs=0.015)


def test_the_order_of_sources_changes_nothing_to_the_bit(train, texts, domain, weights):
    sources = [{"path": domain, "weight": 3}, {"path": str(texts), "weight": 1, "label": "notes"}]
    runs = [
        train("cpt", name, data=order, replay=str(texts), replay_share=0.3, **settings())
        for name, order in (("forwards", sources), ("backwards", sources[::-1]))
    ]
    one, other = (weights(run / "model") for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_after_every_step_the_share_of_replay_is_within_one_sequence(train, texts, domain, metrics):
    run = train("cpt", "run", data=domain, replay=str(texts), log_every=1, **settings(max_steps=20))
    steps = [line for line in metrics(run) if "num_tokens" in line]
    assert len(steps) == 20
    for line in steps:
        assert abs(line["mix/texts"] - 0.15) * line["num_tokens"] <= 32
