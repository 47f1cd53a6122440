"""Supervised fine-tuning: what is trained on, presets, and rows that would teach a broken format."""

import json

import pytest
import torch

from tunesmith.config import Layers, resolve
from tunesmith.errors import DataError
from tunesmith_methods.sft import thinking_problem


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def chat(*turns):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]}


def test_only_the_assistants_tokens_count(train, tmp_path, metrics):
    """One row: `Hi` and `Yes.` with its end-of-turn token; the count of trained tokens is theirs alone."""
    from transformers import AutoTokenizer

    data = write(tmp_path / "one.jsonl", [chat("Hi there, how are you?", "Yes.")])
    run = train("sft", "run", data=data, max_steps=1, batch_size=1)
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    answer = tokenizer("Yes.<|im_end|>").input_ids
    assert metrics(run)[0]["num_trained_tokens"] == len(answer)


def test_the_last_turn_alone_can_be_trained_on(train, tmp_path, metrics):
    data = write(tmp_path / "two.jsonl", [chat("Hi", "One thing.", "And?", "Two.")])
    counts = {}
    for train_on in ("all", "last"):
        run = train("sft", train_on, data=data, train_on=train_on, max_steps=1, batch_size=1)
        counts[train_on] = metrics(run)[0]["num_trained_tokens"]
    assert counts["last"] < counts["all"]


def test_the_answers_are_learned_and_the_prompts_are_not(train, tmp_path, metrics, tiny_model):
    rows = [chat(f"Question {i}?", "The answer is always the same.") for i in range(16)]
    run = train("sft", "run", data=write(tmp_path / "same.jsonl", rows), max_steps=60, batch_size=8,
                learning_rate=5e-3, schedule="constant")  # fmt: skip
    losses = [line["loss"] for line in metrics(run)]
    assert losses[-1] < 0.2 < 5 < losses[0]


def test_dft_reports_the_plain_loss_beside_its_own(train, chats, metrics):
    plain, dft = (train("sft", name, data=str(chats), objective=name, max_steps=1) for name in ("nll", "dft"))
    assert metrics(dft)[0]["nll"] == pytest.approx(metrics(plain)[0]["loss"], rel=1e-6)
    assert metrics(dft)[0]["loss"] < metrics(plain)[0]["loss"]


@pytest.mark.parametrize("preset", ["lima", "distill", "cold-start"])
def test_presets_resolve(registry, tiny_model, chats, preset):
    run = resolve(registry, "sft", Layers(preset=preset, flags={"model": str(tiny_model), "data": str(chats)}))
    assert "preset" in run.origins.values()


def test_a_flag_wins_over_a_preset(registry, tiny_model, chats):
    flags = {"model": str(tiny_model), "data": str(chats), "epochs": 3}
    assert resolve(registry, "sft", Layers(preset="lima", flags=flags)).settings.epochs == 3


def test_lora_has_its_own_learning_rate(registry, tiny_model, chats):
    flags = {"model": str(tiny_model), "data": str(chats)}
    full = resolve(registry, "sft", Layers(flags=flags)).settings.learning_rate
    lora = resolve(registry, "sft", Layers(flags={**flags, "adapter": "lora"})).settings.learning_rate
    assert lora == 10 * full


GOOD = "<thinking>2 and 2 is 4</thinking>4"
BROKEN = {
    "4": "0 <thinking> and 0 </thinking>",
    "<thinking>a</thinking><thinking>b</thinking>4": "2 <thinking>",
    "<thinking>never closed 4": "1 <thinking> and 0 </thinking>",
    "</thinking>4<thinking>": "must start with <thinking>",
    "Sure. <thinking>a</thinking>4": "must start with <thinking>",
    "<thinking> </thinking>4": "block is empty",
    "<thinking>a</thinking>": "nothing follows",
}


@pytest.mark.parametrize("answer", BROKEN)
def test_every_broken_thinking_block_is_found(answer):
    assert BROKEN[answer] in thinking_problem(answer, "thinking")


def test_well_formed_blocks_pass_whatever_the_tag():
    assert thinking_problem(GOOD, "thinking") is None
    assert thinking_problem("\n<think>\na < b\n</think>\n4", "think") is None


def test_cold_start_refuses_a_malformed_row_with_its_place(train, tmp_path):
    data = write(tmp_path / "cot.jsonl", [chat("2+2?", GOOD), chat("2+2?", "4")])
    with pytest.raises(DataError) as error:
        train("sft", "run", data=data, thinking_tag="thinking", max_steps=1)
    assert "cot.jsonl" in str(error.value)
    assert "2" in str(error.value)
    assert "exactly one block" in str(error.value)


def test_twice_the_rows_for_half_the_epochs_is_the_same_number_of_tokens(train, tmp_path, metrics):
    rows = [chat(f"Question {i}?", f"Answer {i}.") for i in range(6)]
    once = train("sft", "once", data=write(tmp_path / "once.jsonl", rows), epochs=2, batch_size=4)
    twice = train("sft", "twice", data=write(tmp_path / "twice.jsonl", rows * 2), epochs=1, batch_size=4)
    assert metrics(once)[-1]["num_tokens"] == metrics(twice)[-1]["num_tokens"]


def test_prompt_tokens_have_no_logit_gradient(tiny_model):
    """A prompt token's embedding as a target never appears in the gradient of the head."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunesmith import Completion, Loss
    from tunesmith.data.encoding import Encoder
    from tunesmith.data.trees import Batch
    from tunesmith.scoring.probe import choose
    from tunesmith.scoring.scorer import Scorer

    scorer = Scorer(AutoModelForCausalLM.from_pretrained(tiny_model).train())
    choose(scorer)
    tree = Completion("The fox", " runs").encode(Encoder(AutoTokenizer.from_pretrained(tiny_model)))
    assert tree.num_scored == len(tree.branches[0])
    scorer.backward(Batch([tree]), lambda part: Loss(-scorer.token_logps(part).logps.sum()), 1.0)
    head = scorer.module.lm_head.weight.grad
    targets = set(tree.branches[0].ids.tolist())
    # a target's row gets (p - 1) h and so the only negative share along h; every other row gets p h
    hidden = -head[sorted(targets)].sum(0)
    prompt_only = [i for i in tree.trunk.tolist() if i not in targets]
    assert prompt_only
    assert all(torch.dot(head[i], hidden) > 0 for i in prompt_only)
