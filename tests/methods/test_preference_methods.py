"""dpo, orpo, simpo, kto and rm as whole methods: references, invariance, resume, identities of the first step."""

import json
import math
import random

import pytest
import torch

from tunesmith.errors import ConfigError, ResourceError, StoppedError
from tunesmith_methods.kto import class_weights, mismatched

STEPS = {"max_steps": 4, "batch_size": 6, "schedule": "constant"}
GOOD, BAD = ("Yes, gladly. ", "Of course. ", "Here it is. "), ("No. ", "Never, go away. ", "I refuse. ")


def turn(role, text):
    return [{"role": role, "content": text}]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pair_rows(count, seed=0):
    chance = random.Random(seed)
    return [
        {
            "prompt": turn("user", f"Question {i}? " + "Please. " * chance.randrange(4)),
            "chosen": turn("assistant", chance.choice(GOOD) * chance.randrange(1, 4) + str(i)),
            "rejected": turn("assistant", chance.choice(BAD) * chance.randrange(1, 3) + str(i)),
        }
        for i in range(count)
    ]


@pytest.fixture
def pairs(tmp_path):
    return write(tmp_path / "pairs.jsonl", pair_rows(24))


@pytest.fixture
def thumbs(tmp_path):
    rows = [
        {"prompt": row["prompt"], "completion": row["chosen" if i % 3 else "rejected"], "label": bool(i % 3)}
        for i, row in enumerate(pair_rows(24))
    ]
    return write(tmp_path / "thumbs.jsonl", rows)


@pytest.fixture
def data(pairs, thumbs):
    return {"dpo": pairs, "orpo": pairs, "simpo": pairs, "rm": pairs, "kto": thumbs}


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


METHODS = ["dpo", "orpo", "simpo", "kto", "rm"]


# ------------------------------------------------------------------------------------------------ first step
def test_the_first_dpo_loss_is_ln_2_and_nothing_is_preferred(train, pairs, metrics):
    first = metrics(train("dpo", "run", data=pairs, **STEPS))[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert first["rewards/accuracies"] == pytest.approx(0.5, abs=0.51)


def test_the_first_kto_loss_is_half_the_mean_weight(train, thumbs, metrics):
    run = train("kto", "run", data=thumbs, desirable_weight=1.0, undesirable_weight=1.0, **STEPS)
    first = metrics(run)[0]
    assert first["loss"] == pytest.approx(0.5, abs=1e-6)
    assert first["kl"] == pytest.approx(0.0, abs=1e-5)


def test_the_first_reward_model_loss_is_near_ln_2(train, pairs, metrics):
    assert metrics(train("rm", "run", data=pairs, **STEPS))[0]["loss"] == pytest.approx(math.log(2), abs=0.4)


@pytest.mark.parametrize("method", METHODS)
def test_margins_rise_on_held_out_pairs(train, data, metrics, method):
    held_out = write_held_out(data[method])
    run = train(method, "run", data=data[method], eval_data=held_out, max_steps=40, batch_size=8, learning_rate=3e-3,
                schedule="constant")  # fmt: skip
    evaluations = [line for line in metrics(run) if "eval/held/loss" in line]
    name = "eval/held/margin" if method == "rm" else "eval/held/rewards/margins"
    if method == "kto":
        gaps = [e["eval/held/rewards/chosen"] - e["eval/held/rewards/rejected"] for e in evaluations]
    else:
        gaps = [e[name] for e in evaluations]
    assert gaps[-1] > gaps[0] + 0.05
    assert evaluations[-1]["eval/held/loss"] < evaluations[0]["eval/held/loss"]


def write_held_out(training):
    from pathlib import Path

    rows = pair_rows(20, seed=99)
    if "thumbs" in training:
        rows = [{"prompt": r["prompt"], "completion": r[k], "label": k == "chosen"} for r in rows
                for k in ("chosen", "rejected")]  # fmt: skip
    path = Path(training).with_name("held.jsonl")
    return [{"path": write(path, rows), "label": "held"}]


# ------------------------------------------------------------------------------------------------ same numbers
@pytest.mark.parametrize("method", METHODS)
def test_how_a_batch_is_cut_changes_rounding_only(train, data, weights, method):
    whole = weights(train(method, "whole", data=data[method], micro_tokens=10_000, **STEPS) / "model")
    parts = weights(train(method, "parts", data=data[method], micro_tokens=50, **STEPS) / "model")
    assert largest_difference(whole, parts) < 5e-6


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_three_references_give_the_same_weights(train, data, weights, metrics, method):
    runs = {
        kind: train(method, kind, data=data[method], adapter="lora", reference=kind, eval_data=data[method], **STEPS)
        for kind in ("adapter-off", "copy", "cached")
    }
    models = {kind: weights(run / "model") for kind, run in runs.items()}
    assert largest_difference(models["adapter-off"], models["copy"]) < 1e-6
    assert largest_difference(models["adapter-off"], models["cached"]) < 1e-6


def test_a_cached_reference_equals_a_copy_without_adapters(train, pairs, weights):
    copy = weights(train("dpo", "copy", data=pairs, **STEPS) / "model")
    cached = weights(train("dpo", "cached", data=pairs, reference="cached", **STEPS) / "model")
    assert largest_difference(copy, cached) < 1e-6


def test_the_cache_of_a_reference_is_used_again_and_keyed_by_the_model(train, pairs, tiny_model, caplog, tmp_path):
    import shutil

    caplog.set_level("INFO")
    said = []
    for name in ("first", "second"):
        caplog.clear()
        train("dpo", name, data=pairs, reference="cached", **STEPS)
        said.append(next(r.getMessage() for r in caplog.records if "log-probabilities of" in r.getMessage()))
    assert said[0].endswith("24 of them new")
    assert said[1].endswith("0 of them new")
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    (other / "generation_config.json").write_text("{}")
    caplog.clear()
    train("dpo", "third", data=pairs, reference="cached", model=str(other), **STEPS)
    assert any("24 of them new" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_resumes_to_the_bit(train, data, weights, monkeypatch, method):
    import os
    import signal

    from tunesmith.runner.step import Stepper

    settings = {"data": data[method], "micro_tokens": 90, **STEPS}
    straight = weights(train(method, "straight", **settings) / "model")
    parts, calls = Stepper._parts, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return parts(self, *args)

    monkeypatch.setattr(Stepper, "_parts", interrupted)
    with pytest.raises(StoppedError):
        train(method, "stopped", **settings)
    resumed = weights(train(method, "stopped", resume=True, **settings) / "model")
    assert largest_difference(straight, resumed) == 0


def test_a_moving_reference_resumes_to_the_bit(train, pairs, weights, metrics, monkeypatch):
    import os
    import signal

    from tunesmith.runner.step import Stepper

    settings = {"data": pairs, "sync_every": 1, "micro_tokens": 10_000, **STEPS}
    fixed = metrics(train("dpo", "fixed", **{**settings, "sync_every": None}))
    run = train("dpo", "straight", **settings)
    assert abs(metrics(run)[2]["rewards/margins"]) < abs(fixed[2]["rewards/margins"])
    parts, calls = Stepper._parts, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return parts(self, *args)

    monkeypatch.setattr(Stepper, "_parts", interrupted)
    with pytest.raises(StoppedError):
        train("dpo", "stopped", **settings)
    resumed = weights(train("dpo", "stopped", resume=True, **settings) / "model")
    assert all(torch.equal(value, resumed[name]) for name, value in weights(run / "model").items())


def test_a_full_sync_makes_the_reference_the_policy(train, pairs, metrics):
    """With weight 1 after every step each step starts from a margin of zero."""
    lines = metrics(train("dpo", "run", data=pairs, sync_every=1, sync_weight=1.0, **STEPS))
    assert all(line["loss"] == pytest.approx(math.log(2), abs=1e-6) for line in lines)


def test_orpo_without_its_penalty_is_fine_tuning_on_the_chosen_answers(train, pairs, weights, tmp_path):
    chats = [{"messages": row["prompt"] + row["chosen"]} for row in pair_rows(24)]
    orpo = train("orpo", "orpo", data=pairs, objective={"name": "orpo", "beta": 0.0}, shuffle=False, **STEPS)
    sft = train("sft", "sft", data=write(tmp_path / "chats.jsonl", chats), shuffle=False, **STEPS)
    assert largest_difference(weights(orpo / "model"), weights(sft / "model")) < 5e-6


def test_orpo_can_train_on_the_prompt_as_well(train, pairs, metrics, tiny_model):
    """The first likelihood term is the mean over prompt and chosen tokens, computed with transformers alone."""
    from pathlib import Path

    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = {**STEPS, "batch_size": 24, "max_steps": 1}
    run = train("orpo", "full", data=pairs, nll_scope="full", micro_tokens=200, **settings)
    answers = train("orpo", "completion", data=pairs, **settings)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    total = count = 0.0
    for line in Path(pairs).read_text().splitlines():
        row = json.loads(line)
        text = tokenizer.apply_chat_template(row["prompt"] + row["chosen"], tokenize=False).rstrip("\n")
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        total, count = total - logps.sum().item(), count + len(logps)
    assert metrics(run)[0]["nll_loss"] == pytest.approx(total / count, rel=1e-5)
    assert metrics(run)[0]["log_odds_ratio"] == pytest.approx(metrics(answers)[0]["log_odds_ratio"], rel=1e-5)


# ------------------------------------------------------------------------------------------------ objectives
OBJECTIVES = [
    "sigmoid",
    "sigmoid-norm",
    "hinge",
    "ipo",
    "cdpo",
    "robust",
    "apo-zero",
    "apo-down",
    "rpo",
    "simpo",
    "orpo",
]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_dpo_takes_every_loss_of_pairs(train, pairs, metrics, objective):
    lines = metrics(train("dpo", "run", data=pairs, objective=objective, **{**STEPS, "max_steps": 2}))
    assert all(math.isfinite(line["loss"]) for line in lines)


def test_a_loss_that_needs_a_reference_does_not_fit_a_method_without_one(train, pairs):
    with pytest.raises(ConfigError, match="'sigmoid' does not fit the method 'simpo'") as error:
        train("simpo", "run", data=pairs, objective="sigmoid", **STEPS)
    assert "objectives that fit: orpo, simpo" in str(error.value)


# ------------------------------------------------------------------------------------------------ kto
def test_class_weights_balance_the_classes():
    assert class_weights(700, 300, None, None) == (1.0, pytest.approx(7 / 3))
    assert class_weights(30, 90, None, None) == (3.0, 1.0)
    assert class_weights(5, 0, None, None) == (1.0, 1.0)
    assert class_weights(30, 90, 1.5, None) == (1.5, 1.0)


def test_class_weights_are_counted_in_the_data_and_said(train, thumbs, caplog):
    caplog.set_level("INFO")
    train("kto", "run", data=thumbs, **STEPS)
    assert "labels   16 good, 8 bad; class weights 1 and 2" in caplog.text


def test_labels_that_cancel_out_or_are_all_alike_are_said(train, tmp_path, caplog):
    row = {"prompt": pair_rows(1)[0]["prompt"], "completion": pair_rows(1)[0]["chosen"]}
    both = [{**row, "label": True}, {**row, "label": False}]
    train("kto", "both", data=write(tmp_path / "both.jsonl", both), max_steps=1, batch_size=2)
    assert "1 answers have both labels" in caplog.text
    train("kto", "one", data=write(tmp_path / "one.jsonl", both[:1]), max_steps=1, batch_size=2)
    assert "all labels are good" in caplog.text


@pytest.mark.parametrize("label", [True, False])
def test_batches_of_one_class_stay_finite(train, tmp_path, metrics, label):
    rows = [{"prompt": r["prompt"], "completion": r["chosen"], "label": label} for r in pair_rows(8)]
    lines = metrics(train("kto", "run", data=write(tmp_path / "one.jsonl", rows), **STEPS))
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert ("rewards/chosen" in lines[0]) == label


def tree(answer):
    import numpy as np

    from tunesmith.data.trees import Branch, Tree

    ids = np.array(answer, np.int32)
    return Tree(np.array([1], np.int32), (Branch(ids, np.ones(len(ids), bool)),))


def test_mismatched_answers_are_never_the_own_one_where_there_is_another():
    trees = mismatched([tree([5]), tree([5]), tree([6, 7]), tree([5])])
    assert [t.branches[1].ids.tolist() for t in trees] == [[6, 7], [6, 7], [5], [6, 7]]
    alone = mismatched([tree([5]), tree([5])])
    assert [t.branches[1].ids.tolist() for t in alone] == [[5], [5]]


# ------------------------------------------------------------------------------------------------ reward models
def test_a_reward_model_learns_a_planted_rule(train, tmp_path, metrics):
    """The better answer says yes: on rows that were not trained on, over 90% are judged right."""
    run = train("rm", "run", data=write(tmp_path / "train.jsonl", pair_rows(64)), max_steps=60, batch_size=16,
                eval_data=[{"path": write(tmp_path / "held.jsonl", pair_rows(40, seed=7)), "label": "held"}],
                learning_rate=3e-3, schedule="constant")  # fmt: skip
    assert metrics(run)[-1]["eval/held/accuracy"] > 0.9


def test_a_reward_model_folder_gives_the_same_scores_in_transformers(train, pairs, tiny_model, registry):
    """The saved folder in a fresh transformers model, padded on the right, against our packed scores."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tunesmith.data.encoding import Encoder
    from tunesmith.data.trees import Batch
    from tunesmith.examples import Preference
    from tunesmith.scoring.probe import choose
    from tunesmith.scoring.scores import ScoreScorer

    run = train("rm", "run", data=pairs, **STEPS)
    model = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    row = pair_rows(3)[2]
    texts = [tokenizer.apply_chat_template(row["prompt"] + row[k], tokenize=False) for k in ("chosen", "rejected")]
    inputs = tokenizer([text.rstrip("\n") for text in texts], return_tensors="pt", padding=True, padding_side="right")
    with torch.no_grad():
        wanted = model(**inputs).logits.squeeze(1)
    scorer = ScoreScorer(model, pad_id=tokenizer.pad_token_id)
    choose(scorer)
    assert scorer.path == "packed", scorer.why
    with torch.no_grad():
        found = scorer.scores(Batch([Preference(**row).encode(Encoder(tokenizer))]))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_several_ranked_answers_train_a_reward_model(train, tmp_path, metrics):
    rows = [
        {
            "prompt": row["prompt"],
            "completions": [row["chosen"], row["rejected"], turn("assistant", f"Maybe {i}")],
            "scores": [2.0, 0.0, 1.0],
        }
        for i, row in enumerate(pair_rows(12))
    ]
    lines = metrics(train("rm", "run", data=write(tmp_path / "ranked.jsonl", rows), max_steps=20, batch_size=6,
                          learning_rate=3e-3, schedule="constant"))  # fmt: skip
    assert lines[-1]["loss"] < lines[0]["loss"]


# ------------------------------------------------------------------------------------------------ wrong references
def test_adapters_off_needs_an_adapter(train, pairs):
    with pytest.raises(ConfigError, match="needs an adapter"):
        train("dpo", "run", data=pairs, reference="adapter-off", **STEPS)


def test_only_a_copy_can_move(train, pairs):
    with pytest.raises(ConfigError, match="cannot move"):
        train("dpo", "run", data=pairs, reference="cached", sync_every=2, **STEPS)


def test_another_reference_model_can_be_named(train, pairs, tiny_model, metrics):
    run = train("dpo", "base", data=pairs, **STEPS)
    again = train("dpo", "again", data=pairs, model=str(run / "model"), reference_model=str(tiny_model), **STEPS)
    assert abs(metrics(again)[0]["rewards/margins"]) > 1e-4


def test_a_reference_that_does_not_exist_is_named(train, pairs, tiny_model):
    with pytest.raises(ResourceError):
        train("dpo", "run", data=pairs, reference_model=str(tiny_model) + "-nope", **STEPS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reference": "adapter-off"}, "adapter-off needs an adapter"),
        ({"reference": "cached", "sync_every": 1}, "cached cannot move"),
        ({"reference_model": "./nowhere"}, "there is no reference model"),
    ],
)
def test_impossible_references_are_refused_before_anything_is_loaded(train, pairs, monkeypatch, settings, said):
    monkeypatch.setattr("tunesmith.runner.launch.load_tokenizer", lambda _: pytest.fail("loaded"))
    with pytest.raises((ConfigError, ResourceError), match=said):
        train("dpo", "run", data=pairs, **settings, **STEPS)


def test_falling_chosen_log_probabilities_are_said_once(caplog):
    from tunesmith.offline import FALLING_STEPS, _watch
    from tunesmith.runner.context import Context

    context = Context(None, None, 100)
    for step in range(FALLING_STEPS + 1):
        _watch(context, -10.0 - step)
    assert caplog.text.count("has fallen for 50 steps") == 1
    assert context.state["chosen_logps"] == "falling"
